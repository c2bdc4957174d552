"""Local tar archives that ADD unpacks: plain, gzip, zstd, bzip2 or xz.

Owns telling an archive from other files, and reading one. What an archive may hold is what a layer may
(`image.layer_read`), but for deletions. Must not know where its files are put.
"""

from __future__ import annotations

import bz2
import lzma
from typing import TYPE_CHECKING, TypeAlias

from regsim.content.protocols import CHUNK
from regsim.errors import ContentError
from regsim.image.decompress import AnyDecompressor
from regsim.image.entry import Entry, Kind
from regsim.image.layer_read import LayerReader, Limits
from regsim.image.tar_read import Member, TarReader
from regsim.oci import Descriptor, media_types

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from regsim.image.build.spool import DiskSpool

_Stream: TypeAlias = bz2.BZ2Decompressor | lzma.LZMADecompressor

_BZIP2 = b"BZh"
_XZ = b"\xfd7zXZ\0"
_FIRST = 64 * 1024
_DELETIONS = frozenset({Kind.WHITEOUT, Kind.OPAQUE})


def is_archive(entry: Entry) -> bool:
    """Tell whether a file is a tar archive, compressed or not, by how it begins."""
    if entry.kind is not Kind.FILE or entry.content is None:
        return False
    seen: list[Member] = []

    def begin(member: Member) -> None:
        seen.append(member)

    reader, decompressor = TarReader("archive", begin), AnyDecompressor("archive")
    taken = 0
    try:
        for chunk in _plain(entry.content()):
            for piece in decompressor.feed(chunk[:_FIRST]):
                reader.feed(piece)
                if seen:
                    return True
            taken += len(chunk)
            if taken >= _FIRST:
                return False
    except ContentError:
        return bool(seen)
    return bool(seen)


def unpack(entry: Entry, spool: DiskSpool) -> list[Entry]:
    """Return what is in an archive, in its order.

    Args:
        entry: the archive.
        spool: keeps the contents.

    Raises:
        ContentError: it is damaged, or holds what may not be unpacked; the file is named.
    """
    descriptor = Descriptor(media_type=media_types.OCI_LAYER, digest=_NO_DIGEST, size=max(entry.size, 1))
    reader = LayerReader(descriptor, Limits(), spool)
    try:
        for chunk in _plain(entry.content() if entry.content is not None else ()):
            reader.feed(chunk)
        entries = reader.finish().entries
    except ContentError as error:
        # The reader speaks of a layer; the user knows the archive.
        what = error.message.removeprefix(f"layer {_NO_DIGEST.short}").removeprefix(": ")
        raise ContentError(f"archive {entry.shown!r}: {what}", hint=error.hint) from error
    for each in entries:
        if each.kind in _DELETIONS:
            raise ContentError(
                f"archive {entry.shown!r}: the name of {each.shown!r} would mean deletion in a layer"
            )
    return list(entries)


def _plain(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Hand chunks on, decompressed if they are bzip2 or xz, in pieces of about 1 MiB."""
    stream: _Stream | None = None
    first = True
    for chunk in chunks:
        if first:
            stream = bz2.BZ2Decompressor() if chunk.startswith(_BZIP2) else None
            stream = lzma.LZMADecompressor() if chunk.startswith(_XZ) else stream
            first = False
        if stream is None:
            yield chunk
            continue
        try:
            yield from _decompressed(stream, chunk)
        except (OSError, lzma.LZMAError, EOFError) as error:
            raise ContentError("its compression is damaged") from error


def _decompressed(stream: _Stream, chunk: bytes) -> Iterator[bytes]:
    while not _ended(stream) and (piece := stream.decompress(chunk, CHUNK)):
        yield piece
        chunk = b""


def _ended(stream: _Stream) -> bool:
    return stream.eof


_NO_DIGEST = Descriptor.of(b"", media_types.OCI_LAYER).digest
