"""Compressors and decompressors of layers: gzip, zstd and none.

Owns the formats and the bound on what one step of decompression returns. Must not know tar or layers.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

import isal
import zstandard
from isal import isal_zlib

from regsim.core import media_types
from regsim.errors import ContentError, UsageError
from regsim.store.protocols import CHUNK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# zlib then reads and writes a gzip header: without name and time, always the same.
_GZIP_FRAME = 16 + zlib.MAX_WBITS
_ISAL_LEVEL = 2
_LEVELS = {"gzip": (1, 9), "zstd": (1, 22)}

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
# Frames that carry no data: writers of zstd:chunked put them between or after the others.
_SKIPPABLE = b"\x2a\x4d\x18"
_ENOUGH = 4
# What follows a member is copied once for each member, and a hostile slice has thousands.
_GZIP_SLICE = 64 * 1024
# The window that the zstd command accepts by default; a larger one would take too much memory.
_MAX_WINDOW = 2**27
# Four bytes of zstd may stand for 128 KiB, so one such slice yields less than 16 MiB.
_ZSTD_SLICE = 512


class Compression(Protocol):
    """One stream being compressed."""

    def compress(self, data: bytes, /) -> bytes:
        """Take in data, and return what is ready, perhaps nothing."""

    def flush(self) -> bytes:
        """Return all that remains. Nothing may be called after it."""


@dataclass(frozen=True, slots=True)
class Compressor:
    """A way to compress, fixed to a library and a level.

    Attributes:
        identity: format, library, version and level: equal input and identity give equal output.
        media_type: of a layer that it compressed.
        start: returns a fresh stream.
    """

    identity: str
    media_type: str
    start: Callable[[], Compression] = field(repr=False, compare=False)


def compressor(name: str, level: int | None = None) -> Compressor:
    """Return a compressor by its format's name.

    Args:
        name: `none`, `gzip` or `zstd`.
        level: on the format's own scale, 1 to 9 of zlib and 1 to 22 of zstd. None for fast and small enough:
            3 of zstd, and for gzip Intel's ISA-L, as small as zlib's level 2 at ten times the speed of its
            level 6. The output of ISA-L may depend on the processor's instructions, zlib's does not.

    Raises:
        UsageError: there is no such format, or it has no such level.
    """
    if level is not None and name in _LEVELS:
        lowest, highest = _LEVELS[name]
        if not lowest <= level <= highest:
            raise UsageError(f"{name} has no level {level}", hint=f"its levels are {lowest} to {highest}")
    match name:
        case "none":
            return Compressor("none 1 0", media_types.OCI_LAYER, _Through)
        case "gzip" if level is None:
            start = partial(isal_zlib.compressobj, _ISAL_LEVEL, isal_zlib.DEFLATED, _GZIP_FRAME)
            identity = f"gzip isal {isal.__version__} {_ISAL_LEVEL}"
            return Compressor(identity, media_types.OCI_LAYER_GZIP, start)
        case "gzip" if level is not None:
            zlib_start = partial(zlib.compressobj, level, zlib.DEFLATED, _GZIP_FRAME)
            identity = f"gzip zlib {zlib.ZLIB_RUNTIME_VERSION} {level}"
            return Compressor(identity, media_types.OCI_LAYER_GZIP, zlib_start)
        case "zstd":
            level = level or 3
            identity = "zstd libzstd {}.{}.{} {}".format(*zstandard.ZSTD_VERSION, level)
            return Compressor(identity, media_types.OCI_LAYER_ZSTD, partial(_zstd, level))
        case _:
            raise UsageError(f"no compression {name!r:.40}", hint="there are gzip, zstd and none")


class _Through:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def _zstd(level: int) -> Compression:
    return zstandard.ZstdCompressor(level=level, write_checksum=True).compressobj()


class Decompressor:
    """Gzip (also of several members), zstd (also of several frames), or a plain tar.

    The first bytes decide the format, as in every engine: media types in the field are sometimes wrong.

    Args:
        name: what errors call the content.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._start = b""
        self._feed: Callable[[bytes], Iterator[bytes]] | None = None
        self._member = zlib.decompressobj(_GZIP_FRAME)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take in data and yield what it decompresses to, in pieces of bounded size.

        Raises (while iterating):
            ContentError: the data is damaged.
        """
        if self._feed is None:
            data = self._start + data
            if len(data) < _ENOUGH:
                self._start = data
                return
            self._feed = self._choose(data)
        yield from self._feed(data)

    def finish(self) -> None:
        """Say that there is no more. A plain tar or a zstd frame that is cut short shows as such a tar.

        Raises:
            ContentError: something is missing.
        """
        if self._feed is None:
            raise ContentError(f"{self._name} is not a tar: it has {len(self._start)} bytes")
        if self._feed == self._gzip and not self._member.eof:
            raise ContentError(f"{self._name} is cut short: its gzip stream does not end")

    def _choose(self, start: bytes) -> Callable[[bytes], Iterator[bytes]]:
        if start.startswith(_GZIP):
            return self._gzip
        if start.startswith(_ZSTD) or start[1:4] == _SKIPPABLE:
            frames = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
            return partial(self._frames, frames.decompressobj(read_across_frames=True))
        return lambda data: iter((data,))

    def _gzip(self, whole: bytes) -> Iterator[bytes]:
        for start in range(0, len(whole), _GZIP_SLICE):
            data = whole[start : start + _GZIP_SLICE]
            while data:
                if self._member.eof:
                    data = data.lstrip(b"\0")  # gzip's own rule: zeros may pad the last member
                    if not data:
                        break
                    self._member = zlib.decompressobj(_GZIP_FRAME)
                try:
                    piece = self._member.decompress(data, CHUNK)
                except zlib.error as error:
                    raise ContentError(f"{self._name} is damaged: {error}") from error
                data = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
                if piece:
                    yield piece

    def _frames(self, frames: zstandard.ZstdDecompressionObj, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _ZSTD_SLICE):
            try:
                piece = frames.decompress(data[start : start + _ZSTD_SLICE])
            except zstandard.ZstdError as error:
                raise ContentError(f"{self._name} is damaged: {error}") from error
            if piece:
                yield piece
