"""Compressors and decompressors of layers: gzip, zstd and none.

Owns the formats and the bound on what one step of decompression returns. Must not know tar or layers. A
compressor's output depends on its library's version, so a cache puts `identity(compressor)` into the key of a
layer. On reading, the format is told by the first bytes, as every engine does: media types in the field are
sometimes wrong.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Protocol

import isal
import zstandard
from isal import isal_zlib

from regsim.core import media_types
from regsim.errors import ContentError, UsageError
from regsim.store.protocols import CHUNK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_GZIP_FRAME = 16 + zlib.MAX_WBITS  # tells zlib to write a gzip header: no name, no time, always the same


class Compression(Protocol):
    """One stream being compressed."""

    def compress(self, data: bytes, /) -> bytes:
        """Take in data, and return what is ready, perhaps nothing."""

    def flush(self) -> bytes:
        """Return all that remains. Nothing may be called after it."""


class Compressor(Protocol):
    """A way to compress, fixed to a library and a level."""

    @property
    def name(self) -> str:
        """The format: `none`, `gzip`, `zstd`."""

    @property
    def version(self) -> str:
        """The library and its version; equal input, version and level give equal output."""

    @property
    def level(self) -> int:
        """How hard it tries, on its own scale."""

    @property
    def media_type(self) -> str:
        """Media type of a layer that it made."""

    def start(self) -> Compression:
        """Return a fresh stream."""


def identity(compressor: Compressor) -> str:
    """Return what decides a compressor's output beside the input, as part of a cache's key."""
    return f"{compressor.name} {compressor.version} {compressor.level}"


class NoCompressor:
    """The tar as it is."""

    name = "none"
    version = "1"
    level = 0
    media_type = media_types.OCI_LAYER

    def start(self) -> Compression:
        """Return a stream that hands everything through."""
        return _Through()


class FastGzipCompressor:
    """Gzip, by Intel's ISA-L: as small as zlib's level 2, at about ten times the speed of its level 6.

    Its level 3 is slower by a tenth and hardly smaller. Its output may depend on the instructions that the
    processor has, which zlib's does not.
    """

    name = "gzip"
    version = f"isal {isal.__version__}"
    level = 2
    media_type = media_types.OCI_LAYER_GZIP

    def start(self) -> Compression:
        """Return a fresh stream."""
        return isal_zlib.compressobj(self.level, isal_zlib.DEFLATED, _GZIP_FRAME)


class GzipCompressor:
    """Gzip, by the standard library's zlib.

    Args:
        level: from 1, fast, to 9, small.
    """

    name = "gzip"
    version = f"zlib {zlib.ZLIB_RUNTIME_VERSION}"
    media_type = media_types.OCI_LAYER_GZIP

    def __init__(self, level: int = 6) -> None:
        self.level = _checked(level, 1, 9, self.name)

    def start(self) -> Compression:
        """Return a fresh stream."""
        return zlib.compressobj(self.level, zlib.DEFLATED, _GZIP_FRAME)


class ZstdCompressor:
    """Zstandard, by its reference library.

    Args:
        level: from 1, fast, to 22, small.
    """

    name = "zstd"
    version = "libzstd {}.{}.{}".format(*zstandard.ZSTD_VERSION)
    media_type = media_types.OCI_LAYER_ZSTD

    def __init__(self, level: int = 3) -> None:
        self.level = _checked(level, 1, 22, self.name)

    def start(self) -> Compression:
        """Return a fresh stream."""
        return zstandard.ZstdCompressor(level=self.level, write_checksum=True).compressobj()


def compressor(name: str, level: int | None = None) -> Compressor:
    """Return a compressor by its format's name.

    Args:
        name: `none`, `gzip` or `zstd`.
        level: how hard it tries, on its format's own scale; None for what is fast and small enough: ISA-L for
            gzip, whose scale is another.

    Raises:
        UsageError: there is no such format, or it has no such level.
    """
    if name == "none":
        return NoCompressor()
    if name == "gzip" and level is None:
        return FastGzipCompressor()
    makers: dict[str, Callable[..., Compressor]] = {"gzip": GzipCompressor, "zstd": ZstdCompressor}
    if name not in makers:
        raise UsageError(f"no compression {name!r:.40}", hint="there are gzip, zstd and none")
    return makers[name]() if level is None else makers[name](level)


class _Through:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def _checked(level: int, lowest: int, highest: int, name: str) -> int:
    if not lowest <= level <= highest:
        raise UsageError(f"{name} has no level {level}", hint=f"its levels are {lowest} to {highest}")
    return level


_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
# Frames that carry no data: what writers of zstd:chunked put between or after the others.
_SKIPPABLE = b"\x2a\x4d\x18"
_ENOUGH = 4

_GZIP_FRAME = 16 + zlib.MAX_WBITS
# What follows a member is copied once for each member, and a hostile slice has thousands.
_GZIP_SLICE = 64 * 1024
# The window that the zstd command accepts unasked; a larger one would be memory for whoever asks.
_MAX_WINDOW = 2**27
# Four bytes of zstd may stand for 128 KiB, so what comes of one such slice stays below 16 MiB.
_ZSTD_SLICE = 512


class Decompressor(Protocol):
    """One stream being decompressed."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take in data and yield what comes of it, in pieces of bounded size.

        Raises (while iterating):
            ContentError: the data is damaged.
        """

    def finish(self) -> None:
        """Say that there is no more.

        Raises:
            ContentError: something is missing.
        """


class AnyDecompressor:
    """Gzip (several members too), zstd (several frames too), or a plain tar.

    Args:
        name: what errors call the content.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._start = b""
        self._chosen: Decompressor | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take in data and yield what comes of it, in pieces of bounded size.

        Raises (while iterating):
            ContentError: the data is damaged.
        """
        if self._chosen is None:
            data = self._start + data
            if len(data) < _ENOUGH:
                self._start = data
                return
            self._chosen = _choose(data, self._name)
        yield from self._chosen.feed(data)

    def finish(self) -> None:
        """Say that there is no more.

        Raises:
            ContentError: something is missing.
        """
        if self._chosen is None:
            raise ContentError(f"{self._name} is no tar: it has {len(self._start)} bytes")
        self._chosen.finish()


def _choose(start: bytes, name: str) -> Decompressor:
    if start.startswith(_GZIP):
        return _Gzip(name)
    if start.startswith(_ZSTD) or start[1:4] == _SKIPPABLE:
        return _Zstd(name)
    return _Plain()


class _Plain:
    def feed(self, data: bytes) -> Iterator[bytes]:
        yield data

    def finish(self) -> None:
        """Whether a tar is whole is for its reader to say."""


class _Gzip:
    def __init__(self, name: str) -> None:
        self._name = name
        self._member = zlib.decompressobj(_GZIP_FRAME)

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _GZIP_SLICE):
            yield from self._feed(data[start : start + _GZIP_SLICE])

    def _feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._member.eof:
                data = data.lstrip(b"\0")  # gzip's own rule: zeros may pad the last member
                if not data:
                    return
                self._member = zlib.decompressobj(_GZIP_FRAME)
            try:
                piece = self._member.decompress(data, CHUNK)
            except zlib.error as error:
                raise ContentError(f"{self._name} is damaged: {error}") from error
            data = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if piece:
                yield piece

    def finish(self) -> None:
        if not self._member.eof:
            raise ContentError(f"{self._name} is cut short: its gzip stream does not end")


class _Zstd:
    def __init__(self, name: str) -> None:
        self._name = name
        self._stream = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).decompressobj(
            read_across_frames=True
        )

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _ZSTD_SLICE):
            try:
                piece = self._stream.decompress(data[start : start + _ZSTD_SLICE])
            except zstandard.ZstdError as error:
                raise ContentError(f"{self._name} is damaged: {error}") from error
            if piece:
                yield piece

    def finish(self) -> None:
        """A frame that is cut short shows as a tar that is."""
