"""Where layers come from while an image is built: the build cache, or a writer.

Owns how the key of a step is looked up, how a layer is written and remembered, and what is reported of each
step. Must not know instructions. Nothing in the cache is trusted that is not whole: a step is kept after its
layer, and counts only while that layer is there with its size.

    DIR/layers/      an image layout without tags: the layers
    DIR/steps/       one small file for each step, by its key
    DIR/listings/    what layers hold, by digest
    DIR/contexts/    checksums of the files of contexts, by the context's path
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

from regsim.core import Descriptor, Digest
from regsim.errors import ContentError, RegsimError
from regsim.image import listing as listings
from regsim.image.builder.copying import Placement
from regsim.image.compression import Compressor, identity
from regsim.image.listing import Listing, write_listed
from regsim.image.opened import OpenLayer
from regsim.store.files import file_errors, read_bounded, write_whole
from regsim.store.layout import LayoutStore

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from regsim.image.builder.effects import Effect
    from regsim.store.protocols import Content
    from regsim.synth.synthetic import LayerInfo

_VERSION = 1
_MAX_STEP = 64 * 1024
_MAX_LISTING = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What an instruction made.

    Args:
        layer: descriptor of its layer's blob.
        diff_id: digest of its tar.
        size: bytes of the files in it.
    """

    layer: Descriptor
    diff_id: Digest
    size: int


class Cache:
    """Steps and layers in a directory, which several builds may use at once.

    Args:
        directory: where it is; made when something is written.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.layers = LayoutStore(directory / "layers", create=True)

    async def find(self, key: str) -> Step | None:
        """Return what was made under a key, if its layer is still there."""
        raw = await asyncio.to_thread(self._read, self._step(key), _MAX_STEP)
        step = _from_json(raw) if raw is not None else None
        try:
            return step if step is not None and await self.layers.has(step.layer) else None
        except RegsimError:
            return None  # something else stands in its place

    async def keep(self, key: str, step: Step) -> None:
        """Remember what was made under a key; its layer is in `layers` already.

        Raises:
            LocalFileError: it cannot be written.
        """
        document = {
            "version": _VERSION,
            "layer": step.layer.to_json(),
            "diff_id": step.diff_id,
            "size": step.size,
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


def _from_json(raw: bytes) -> Step | None:
    try:
        document: dict[str, Any] = json.loads(raw)
        if document["version"] != _VERSION:
            return None
        return Step(
            layer=Descriptor.from_json(document["layer"], where="a step of the cache"),
            diff_id=Digest(document["diff_id"]),
            size=int(document["size"]),
        )
    except (ValueError, LookupError, TypeError, AttributeError, ContentError, RegsimError):
        return None


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
    """What is told of an instruction when it is done.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What all stages of a build share.

    Args:
        store: takes layers that are written where there is no cache.
        cache: knows layers that were written before; None to write all.
        compressor: what layers go through.
        timestamp: of all that is made, in seconds since 1970.
        effects: what RUNs leave behind, by their commands.
        tell: is told each instruction when it is done.
        clock: returns seconds, from any beginning.
    """

    store: LayoutStore
    cache: Cache | None
    compressor: Compressor
    timestamp: int
    effects: Mapping[str, Effect]
    tell: Callable[[StepReport], None]
    clock: Callable[[], float]

    def note(self, stage: str, created_by: str) -> None:
        """Tell of an instruction that made no layer."""
        self.tell(StepReport(stage=stage, created_by=created_by, outcome=Outcome.METADATA))

    async def layer(self, stage: str, created_by: str, inputs: object, make: Maker) -> OpenLayer:
        """Return the layer that an instruction makes of its inputs, made now unless it is known.

        Args:
            stage: the name of its stage.
            created_by: its line in the history.
            inputs: all that decides the layer, as JSON has it.
            make: puts its entries together.

        Raises:
            RegsimError: it cannot be made.
        """
        start = self.clock()
        key = self._key(inputs)
        step = await self.cache.find(key) if self.cache is not None else None
        outcome = Outcome.CACHED if step is not None else Outcome.BUILT
        listing: Listing | None = None
        if step is None:
            info, listing = await self._write(make)
            step = Step(layer=info.descriptor, diff_id=info.diff_id, size=listing.size)
            if self.cache is not None:
                await self.cache.keep_listing(step.layer.digest, listing)
                await self.cache.keep(key, step)
        self.tell(
            StepReport(
                stage=stage,
                created_by=created_by,
                outcome=outcome,
                seconds=self.clock() - start,
                size=step.size,
                layer=step.layer,
            )
        )
        return self.known_layer(step.layer, step.diff_id, self._content(step.layer), listing)

    def known_layer(
        self,
        descriptor: Descriptor,
        diff_id: Digest,
        content: Callable[[], Content],
        listing: Listing | None = None,
    ) -> OpenLayer:
        """Return a layer whose listing is read, from the cache or the blob, when it is first asked for."""
        return OpenLayer(
            descriptor=descriptor, diff_id=diff_id, content=content, known=listing, listings=self.cache
        )

    @property
    def layers(self) -> LayoutStore:
        """Where layers are written."""
        return self.cache.layers if self.cache is not None else self.store

    def _content(self, layer: Descriptor) -> Callable[[], Content]:
        return lambda: self.layers.content(layer)

    def _key(self, inputs: object) -> str:
        parts = [BUILDER, identity(self.compressor), self.timestamp, inputs]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    async def _write(self, make: Maker) -> tuple[LayerInfo, Listing]:
        with ExitStack() as stack:
            placement = await make(stack)
            return await write_listed(
                self.layers, placement.entries.values(), self.compressor, placement.checksums
            )
