"""Where layers come from while an image is built: the build cache, or a writer.

Owns how the key of a step is looked up, how a layer is written and remembered, and what is reported of each
step. Must not know instructions. An incomplete entry of the cache is never used: a step is kept
after its layer, and counts only while that layer is there with its size.

    DIR/layers/      an image layout without tags: the layers
    DIR/steps/       one small file for each step, by its key
    DIR/listings/    what layers hold, by digest
    DIR/contexts/    checksums of the files of contexts, by the context's path
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeAlias

from regsim.core import Descriptor, Digest
from regsim.errors import RegsimError
from regsim.image import listing as listings
from regsim.image.builder.copying import Placement
from regsim.image.opened import OpenLayer, write_open
from regsim.store.files import file_errors, read_bounded, write_whole
from regsim.store.layout import LayoutStore

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from regsim.core import Platform
    from regsim.image.builder.context import Context
    from regsim.image.builder.effects import Effect
    from regsim.image.compression import Compressor
    from regsim.image.listing import Listing
    from regsim.image.opened import OpenImage

_VERSION = 1
_MAX_STEP = 64 * 1024
_MAX_LISTING = 512 * 1024 * 1024


class Cache:
    """Steps and layers in a directory, which several builds may use at once.

    Args:
        directory: its place; made when something is written.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.layers = LayoutStore(directory / "layers", create=True)

    async def find(self, key: str) -> tuple[OpenLayer, int] | None:
        """Return the layer that was kept under a key and its files' bytes, if it is still there."""
        raw = await asyncio.to_thread(self._read, self._step(key), _MAX_STEP)
        try:
            document = json.loads(raw or b"")
            if document["version"] != _VERSION:
                return None
            descriptor = Descriptor.from_json(document["layer"], where="a step of the cache")
            diff_id, size = Digest(document["diff_id"]), int(document["size"])
            if not await self.layers.has(descriptor):
                return None
        except (ValueError, LookupError, TypeError, AttributeError, RegsimError):
            return None  # it is malformed, or something else is in the layer's place
        content = partial(self.layers.content, descriptor)
        return OpenLayer(descriptor=descriptor, diff_id=diff_id, content=content), size

    async def keep(self, key: str, layer: OpenLayer, size: int) -> None:
        """Keep the result of a step under a key; its layer is in `layers` already.

        Args:
            key: of the step.
            layer: what it made.
            size: bytes of the files in the layer.

        Raises:
            LocalFileError: it cannot be written.
        """
        document = {
            "version": _VERSION,
            "layer": layer.descriptor.to_json(),
            "diff_id": layer.diff_id,
            "size": size,
        }
        await asyncio.to_thread(self._write, self._step(key), json.dumps(document).encode())

    async def listing(self, digest: Digest) -> Listing | None:
        """Return what a layer holds, if it is known."""
        raw = await asyncio.to_thread(self._read, self._listing(digest), _MAX_LISTING)
        return listings.from_json(raw) if raw is not None else None

    async def keep_listing(self, digest: Digest, listing: Listing) -> None:
        """Remember what a layer holds.

        Raises:
            LocalFileError: it cannot be written.
        """
        await asyncio.to_thread(self._write, self._listing(digest), listings.to_json(listing))

    def checksums_file(self, context: Path) -> Path:
        """Return where the checksums of a context's files are kept."""
        name = hashlib.sha256(str(context.resolve()).encode("utf-8", "surrogateescape")).hexdigest()
        return self._directory / "contexts" / f"{name}.json"

    def _step(self, key: str) -> Path:
        return self._directory / "steps" / f"{key}.json"

    def _listing(self, digest: Digest) -> Path:
        return self._directory / "listings" / f"{digest.encoded}.json"

    def _read(self, path: Path, limit: int) -> bytes | None:
        try:
            return read_bounded(path, limit)
        except (FileNotFoundError, RegsimError):
            return None

    def _write(self, path: Path, raw: bytes) -> None:
        with file_errors(path, "write"):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, raw, durable=False)


# Part of every key: it changes whenever the same input would give another layer.
BUILDER = "regsim-build/2"

Maker: TypeAlias = Callable[[ExitStack], Awaitable[Placement]]


class Outcome(StrEnum):
    """What became of an instruction."""

    CACHED = "CACHED"
    BUILT = "built"
    METADATA = "metadata"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """The report of an instruction that is done.

    Args:
        stage: the name of its stage.
        created_by: its line in the history.
        outcome: whether it made a layer.
        seconds: how long that took.
        size: bytes of the files in its layer.
        layer: its layer, if it has one.
    """

    stage: str
    created_by: str
    outcome: Outcome
    seconds: float = 0.0
    size: int = 0
    layer: Descriptor | None = None


class Bases(Protocol):
    """Finds images by the names that a Dockerfile gives them."""

    async def open(self, name: str, platform: Platform) -> OpenImage:
        """Return the image of a name.

        Args:
            name: what stands after FROM, or in `--from=`.
            platform: which image of an index.

        Raises:
            RegsimError: there is no such image, or it cannot be read.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be built.

    Args:
        text: the Dockerfile.
        name: what messages call it.
        context: where COPY takes files from.
        bases: where images come from.
        compressor: what layers are compressed with.
        host: the platform of this machine.
        effects: what RUNs leave behind, by their commands.
        platform: what is built for; None for that of this machine.
        arguments: `--build-arg`s.
        target: name or number of the stage to end with; None for the last one.
        timestamp: of all that is made, in seconds since 1970.
    """

    text: str
    name: str
    context: Context
    bases: Bases
    compressor: Compressor
    host: Platform
    effects: Mapping[str, Effect] = field(default_factory=dict)
    platform: Platform | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None
    timestamp: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What all stages of a build share.

    Args:
        request: what is built.
        store: takes layers that are written, unless there is a cache, whose own layout takes them.
        cache: layers that were written before; None to write all.
        tell: receives the report of each instruction when it is done.
    """

    request: Request
    store: LayoutStore
    cache: Cache | None
    tell: Callable[[StepReport], object]

    def note(self, stage: str, created_by: str) -> None:
        """Report an instruction that made no layer."""
        self.tell(StepReport(stage=stage, created_by=created_by, outcome=Outcome.METADATA))

    async def layer(self, stage: str, created_by: str, inputs: object, make: Maker) -> OpenLayer:
        """Return the layer that an instruction makes of its inputs, from the cache or made now.

        Args:
            stage: the name of its stage.
            created_by: its line in the history.
            inputs: all that decides the layer, as JSON has it.
            make: puts its entries together.

        Raises:
            RegsimError: it cannot be made.
        """
        start = time.monotonic()
        parts = [BUILDER, self.request.compressor.identity, self.request.timestamp, inputs]
        key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        found = await self.cache.find(key) if self.cache is not None else None
        layer, size = found or await self._made(key, make)
        self.tell(
            StepReport(
                stage=stage,
                created_by=created_by,
                outcome=Outcome.BUILT if found is None else Outcome.CACHED,
                seconds=time.monotonic() - start,
                size=size,
                layer=layer.descriptor,
            )
        )
        return replace(layer, listings=self.cache)

    @property
    def layers(self) -> LayoutStore:
        """Where layers are written."""
        return self.cache.layers if self.cache is not None else self.store

    async def _made(self, key: str, make: Maker) -> tuple[OpenLayer, int]:
        with ExitStack() as stack:
            placement = await make(stack)
            entries = placement.entries.values()
            layer = await write_open(self.layers, entries, self.request.compressor, placement.checksums)
        listing = await layer.listing()
        if self.cache is not None:
            await self.cache.keep_listing(layer.descriptor.digest, listing)
            await self.cache.keep(key, layer, listing.size)
        return layer, listing.size
