"""The build cache: which layer an instruction made of which input.

Owns the directory, and that nothing in it is trusted which is not whole: a step is kept after its layer, and
counts only while that layer is there with its size. Must not know how keys come about.

    DIR/layers/      an image layout without tags: the layers
    DIR/steps/       one small file a step, by its key
    DIR/listings/    what layers hold, by digest
    DIR/contexts/    checksums of contexts' files, by the context's path
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regsim.core import Descriptor, Digest
from regsim.errors import ContentError, RegsimError
from regsim.image.builder import listing as listings
from regsim.store.files import file_errors, read_bounded, write_whole
from regsim.store.layout import LayoutStore

if TYPE_CHECKING:
    from pathlib import Path

    from regsim.image.builder.listing import Listing

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
