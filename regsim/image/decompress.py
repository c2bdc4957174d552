"""Decompressors for layers: push compressed bytes in, take bounded pieces of the tar out.

Owns telling formats apart and the bound on what one step returns. Must not know tar. A format is told by its
first bytes, as every engine does: media types in the field are sometimes wrong.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Protocol

import zstandard

from regsim.errors import ContentError
from regsim.store.protocols import CHUNK

if TYPE_CHECKING:
    from collections.abc import Iterator

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
