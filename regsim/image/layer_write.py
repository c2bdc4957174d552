"""From entries to a layer: a reproducible tar, compressed, with its digests and sizes (image-spec, layer.md).

Owns a layer's order and what makes it valid. Must not know where entries come from or the blob goes to.
Everything streams: memory holds the entries, about 400 bytes each, and a few chunks, never a file.

All of it blocks, so callers run it in a worker thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from regsim.core import Descriptor, Digest
from regsim.errors import ContentError
from regsim.store.entry import MARKERS, Entry, Kind, check_path, shown
from regsim.store.protocols import CHUNK
from regsim.store.tar_write import END, padding, tar_header
from regsim.synth.recipe import LayerInfo

if TYPE_CHECKING:
    from regsim.image.compression import Compressor

Sink = Callable[[bytes], object]


def write_layer(entries: Iterable[Entry], compressor: Compressor, sink: Sink) -> LayerInfo:
    """Write a layer.

    Equal entries give equal bytes, in any order.

    Args:
        entries: at most one for each path, and one opaque entry for the same path. Parents may be left out:
            applying the layer makes them, with mode 0755 and root as owner.
        compressor: what the tar goes through.
        sink: takes the blob, in chunks of about 1 MiB.

    Returns:
        Digest, size and media type of the blob, digest (diff ID) and size of the tar.

    Raises:
        ContentError: an entry cannot be in a layer, a path is there twice, a hard link's target is not in
            this layer, or a file has not the size that its entry says; the file is named.
    """
    stream = compressor.start()
    blob = _Batches(sink)
    tar = _Batches(lambda data: blob.add(stream.compress(data)))
    for entry in arrange(entries):
        tar.add(tar_header(entry))
        if entry.kind is Kind.FILE and (entry.size or entry.content is not None):
            _copy(entry, tar)
            tar.add(padding(entry.size))
    tar.add(END)
    tar.flush()
    blob.add(stream.flush())
    blob.flush()
    descriptor = Descriptor(media_type=compressor.media_type, digest=blob.digest, size=blob.size)
    return LayerInfo(descriptor=descriptor, diff_id=tar.digest, uncompressed_size=tar.size)


def arrange(entries: Iterable[Entry]) -> list[Entry]:
    """Return entries in the one order in which a layer has them.

    Parents come before what is in them, whiteouts before their siblings (as layer.md asks), and a file
    before the hard links to it: of several paths to one file, the first has the content.

    Raises:
        ContentError: as for `write_layer`.
    """
    ordered = sorted(entries, key=_place)
    kinds: dict[bytes, Kind] = {}
    for entry in ordered:
        _check(entry, kinds)
    return _linked(ordered) if Kind.HARDLINK in kinds.values() else ordered


def _check(entry: Entry, kinds: dict[bytes, Kind]) -> None:
    """Refuse what would make a layer of entries that readers understand differently.

    Args:
        entry: the next one in order.
        kinds: of the paths before it; `path + b"/"` stands for an opaque entry.
    """
    path = check_path(entry.path)
    key = path + b"/" if entry.kind is Kind.OPAQUE else path
    if key in kinds:
        raise ContentError(f"{entry.shown!r} is in the layer twice")
    kinds[key] = entry.kind
    above = path if entry.kind is Kind.OPAQUE else entry.parent
    while above and above not in kinds:
        above = above.rpartition(b"/")[0]
    if above and kinds[above] is not Kind.DIRECTORY:
        raise ContentError(
            f"{entry.shown!r} cannot be in a layer in which {shown(above)!r} is not a directory"
        )


def _place(entry: Entry) -> bytes:
    # No name has a NUL, so it sorts before all that a name may hold, and after the end of a path.
    path = entry.path.replace(b"/", b"\0")
    match entry.kind:
        case Kind.OPAQUE:
            return path + b"\0\0"
        case Kind.WHITEOUT:
            parent, _, name = path.rpartition(b"\0")
            return (parent + b"\0" if parent else b"") + b"\0" + name
        case _:
            return path


def _linked(ordered: list[Entry]) -> list[Entry]:
    files = {each.path: each for each in ordered if each.kind not in MARKERS}
    names: dict[bytes, list[bytes]] = {}  # all names of a file that has several, in order
    for entry in ordered:
        if entry.kind is Kind.HARDLINK:
            target = _target(entry, files)
            names.setdefault(target, [target]).append(entry.path)
    first = {
        target: min(paths, key=lambda path: path.replace(b"/", b"\0")) for target, paths in names.items()
    }
    return [_renamed(entry, files, first) for entry in ordered]


def _target(entry: Entry, files: dict[bytes, Entry]) -> bytes:
    target = files.get(entry.link)
    if target is None or target.kind in {Kind.HARDLINK, Kind.DIRECTORY}:
        raise ContentError(
            f"{entry.shown!r} is a hard link to something other than a file of this layer: "
            f"{shown(entry.link)!r}"
        )
    return entry.link


def _renamed(entry: Entry, files: dict[bytes, Entry], first: dict[bytes, bytes]) -> Entry:
    if entry.kind in MARKERS:
        return entry
    target = entry.link if entry.kind is Kind.HARDLINK else entry.path
    if target not in first:
        return entry
    file = files[target]
    if entry.path == first[target]:
        return replace(file, path=entry.path)
    return replace(file, path=entry.path, kind=Kind.HARDLINK, link=first[target], size=0, content=None)


class _Batches:
    """Joins pieces to batches of about `CHUNK` bytes, and hashes, counts and hands on each of them."""

    def __init__(self, take: Sink) -> None:
        self.size = 0
        self._take = take
        self._hash = hashlib.sha256()
        self._pieces: list[bytes] = []
        self._waiting = 0

    @property
    def digest(self) -> Digest:
        return Digest(f"sha256:{self._hash.hexdigest()}")

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._waiting += len(piece)
        if self._waiting >= CHUNK:
            self.flush()

    def flush(self) -> None:
        data = b"".join(self._pieces)
        self._pieces, self._waiting = [], 0
        if data:
            self._hash.update(data)
            self.size += len(data)
            self._take(data)


def _copy(entry: Entry, tar: _Batches) -> None:
    seen = 0
    with closing(_chunks(entry)) as chunks:
        for chunk in chunks:
            seen += len(chunk)
            if seen > entry.size:
                break
            tar.add(chunk)
    if seen != entry.size:
        found = f"more than {entry.size}" if seen > entry.size else f"{seen}"
        raise ContentError(
            f"{entry.shown!r} has {found} bytes, not {entry.size}", hint="it changed while it was read"
        )


def _chunks(entry: Entry) -> Generator[bytes, None, None]:
    if entry.content is None:
        raise ContentError(f"{entry.shown!r} has no content to write", hint="it comes from a listing")
    chunks = entry.content()
    try:
        yield from chunks
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
