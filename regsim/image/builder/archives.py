"""Local tar archives that ADD unpacks: plain, gzip, zstd, bzip2 or xz.

Owns telling an archive from other files, and reading one. What an archive may hold is what a layer may
(`image.layer_read`), but for deletions. Must not know where the files go.
"""

from __future__ import annotations

import bz2
import lzma
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

from regsim.errors import ContentError, UsageError
from regsim.image.compression import Decompressor
from regsim.image.layer_read import LayerReader
from regsim.store.entry import MARKERS, Entry, Kind
from regsim.store.protocols import CHUNK
from regsim.store.tar_read import Member, TarReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from regsim.image.spool import DiskSpool

_Stream: TypeAlias = bz2.BZ2Decompressor | lzma.LZMADecompressor

_FIRST = 64 * 1024
# An archive says itself how much its unpacking takes; that of xz -9 takes half of this.
_MAX_MEMORY = 2**27


def is_archive(entry: Entry) -> bool:
    """Return whether a file is a tar archive, compressed or not, by its first bytes.

    Raises:
        UsageError: decompressing it takes too much memory.
    """
    if entry.kind is not Kind.FILE or entry.content is None:
        return False
    seen: list[Member] = []

    def begin(member: Member) -> None:
        seen.append(member)

    reader, decompressor = TarReader("archive", begin), Decompressor("archive")
    taken = 0
    try:
        for chunk in _plain(entry):
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
        UsageError: it takes too much memory.
    """
    reader = LayerReader(f"archive {entry.shown!r}", entry.size, spool)
    for chunk in _plain(entry):
        reader.feed(chunk)
    entries = reader.finish()
    for each in entries:
        if each.kind in MARKERS:
            raise ContentError(
                f"archive {entry.shown!r}: the name of {each.shown!r} would mean deletion in a layer"
            )
    return list(entries)


def _plain(entry: Entry) -> Iterator[bytes]:
    """Hand a file's bytes on, decompressed if they are bzip2 or xz, in pieces of about 1 MiB."""
    chunks = iter(entry.content() if entry.content is not None else ())
    first = next(chunks, b"")
    make = _BZIP2_AND_XZ.get(first[:3])
    if make is None:
        yield first
        yield from chunks
        return
    try:
        yield from _decompressed(chain((first,), chunks), make)
    except EOFError as error:
        what = f"archive {entry.shown!r}: it is cut short: its compression does not end"
        raise ContentError(what) from error
    except OSError as error:
        raise ContentError(f"archive {entry.shown!r}: its compression is damaged") from error
    except lzma.LZMAError as error:
        if "memory" in str(error).lower():
            raise UsageError(
                f"archive {entry.shown!r} needs more than {_MAX_MEMORY} bytes of memory to be unpacked",
                hint="pack it with a smaller dictionary; that of xz -9 is small enough",
            ) from error
        raise ContentError(f"archive {entry.shown!r}: its compression is damaged") from error


def _decompressed(chunks: Iterable[bytes], make: Callable[[], _Stream]) -> Iterator[bytes]:
    """Decompress streams that stand one behind the other, as pbzip2 and pixz write them."""
    stream = make()
    for chunk in chunks:
        for start in range(0, len(chunk), _FIRST):
            data = chunk[start : start + _FIRST]
            while data or not (stream.eof or stream.needs_input):
                if stream.eof:
                    data = data.lstrip(b"\0")  # xz's own rule: zeros may stand between streams
                    if not data:
                        break
                    stream = make()
                piece = stream.decompress(data, CHUNK)
                data = stream.unused_data
                if piece:
                    yield piece
    if not stream.eof:
        raise EOFError


def _xz() -> _Stream:
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_MAX_MEMORY)


_BZIP2_AND_XZ: dict[bytes, Callable[[], _Stream]] = {b"BZh": bz2.BZ2Decompressor, b"\xfd7z": _xz}
