"""Compressors: what turns a layer's tar into the blob that travels.

Owns the protocol that a compressor follows, and three of them. Must not know tar or layers. A compressor's
output depends on its library's version, so who caches a layer's digest puts `Compressor.identity` into the
key.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Protocol

import isal
import zstandard
from isal import isal_zlib

from regsim.core import media_types
from regsim.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

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
