"""Gzip written by hand: stored blocks for noise, runs for zeros, and no compressor.

Owns the framing (RFC 1952) and the two kinds of deflate blocks used (RFC 1951): stored blocks, and blocks
with the fixed Huffman codes, in which the only match repeats the byte before. So the size of the output is
known before it is written (`gzip_size`), and the bytes are the same on every machine. Must not know layers
or recipes.
"""

from __future__ import annotations

import re
import zlib
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Protocol

from regsim.store.tar_write import BLOCK, CHECKSUM_FIELD, END, MAX_NAME, SIZE_FIELD

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_STORED = 65535
MAX_COMMENT = 512  # Go's reader refuses a longer one, its NUL included
EMPTY_STORED = b"\0\0\0\xff\xff"

# Longer stretches of zeros are written in slices of this many bytes, each with a first zero of its own.
ZEROS_SLICE = 1024 * 1024
_ZEROS = memoryview(bytes(ZEROS_SLICE))
_LONGEST = 258
_SHORTEST = 3
_HEADER = 10
_TRAILER = 8
_BLOCK_START_BITS = 3
_BLOCK_END_BITS = 7
_RUN = re.compile(rb"(.)\1{3,}", re.DOTALL)
_FLAG_COMMENT = 0x10
_OS_UNKNOWN = 255
_FIXED = 0b01 << 1
# Eight of the longest matches are 104 bits: thirteen bytes that repeat wherever in a byte they start.
_UNIT_MATCHES = 8
_UNIT_BITS = 13 * 8
# Bits are gathered in one integer up to here; a longer one makes each addition slower.
_MAX_GATHERED = 2048

# First length, first code and extra bits of the length codes (RFC 1951 section 3.2.5).
_LENGTHS = ((3, 257, 0), (11, 265, 1), (19, 269, 2), (35, 273, 3), (67, 277, 4), (131, 281, 5), (258, 285, 0))


class Hashing(Protocol):
    """A hash of the uncompressed bytes."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Take in more bytes."""


@cache
def _symbol(value: int) -> tuple[int, int]:
    """Return a symbol's fixed code, its first bit lowest, and its length (RFC 1951 section 3.2.6)."""
    if value < 144:  # noqa: PLR2004  (the table of the RFC)
        code, length = 0x30 + value, 8
    elif value < 256:  # noqa: PLR2004
        code, length = 0x190 + value - 144, 9
    elif value < 280:  # noqa: PLR2004
        code, length = value - 256, 7
    else:
        code, length = 0xC0 + value - 280, 8
    return int(f"{code:0{length}b}"[::-1], 2), length


@cache
def _match(length: int) -> tuple[int, int]:
    """Return the code for repeating the byte before `length` times, 3 to 258, and its length in bits."""
    first, code, extra = max(each for each in _LENGTHS if each[0] <= length)
    above = length - first
    bits, count = _symbol(code + (above >> extra))
    bits |= (above & ((1 << extra) - 1)) << count
    return bits, count + extra + 5  # distance 1 is five zero bits


@cache
def _reversed_codes() -> bytes:
    return bytes(_symbol(value)[0] & 0xFF for value in range(256))


def _joined(codes: Iterable[tuple[int, int]]) -> tuple[int, int]:
    bits, count = 0, 0
    for more, length in codes:
        bits |= more << count
        count += length
    return bits, count


def _literals(data: bytes) -> tuple[int, int]:
    if data.isascii():  # each code has eight bits, so a table suffices
        return int.from_bytes(data.translate(_reversed_codes()), "little"), 8 * len(data)
    return _joined(map(_symbol, data))


def _again(value: int, times: int) -> tuple[int, int]:
    """Return the code that repeats the byte before, `value`, at most 258 times."""
    return _match(times) if times >= _SHORTEST else _literals(bytes([value]) * times)


@lru_cache(maxsize=1024)  # the same for nearly all headers of a layer
def _with_runs(data: bytes) -> tuple[int, int]:
    """Return the code for at most 259 bytes in which runs of four and more are repetitions."""
    codes, position = [], 0
    for run in _RUN.finditer(data):
        value, times = run[1][0], run.end() - run.start()
        codes += [_literals(data[position : run.start()]), _symbol(value), _again(value, times - 1)]
        position = run.end()
    return _joined([*codes, _literals(data[position:])])


def header_code(header: bytes) -> tuple[int, int]:
    """Return the code for a tar header and its length in bits.

    The length depends on the header's path alone: the fields that depend on the file's size have no runs.
    """
    return _joined(
        (
            _with_runs(header[:MAX_NAME]),
            _with_runs(header[MAX_NAME : SIZE_FIELD.start]),
            _literals(header[SIZE_FIELD]),
            _with_runs(header[SIZE_FIELD.stop : CHECKSUM_FIELD.start]),
            _literals(header[CHECKSUM_FIELD]),
            _with_runs(header[CHECKSUM_FIELD.stop :]),
        )
    )


@lru_cache(maxsize=65536)
def _zeros_bits(count: int) -> int:
    """Return the length in bits of the code for `count` zeros, written in slices of `ZEROS_SLICE`."""
    if count > ZEROS_SLICE:
        slices, rest = divmod(count, ZEROS_SLICE)
        return slices * _zeros_bits(ZEROS_SLICE) + (_zeros_bits(rest) if rest else 0)
    whole, rest = divmod(count - 1, _LONGEST)
    return _symbol(0)[1] + whole * _match(_LONGEST)[1] + _again(0, rest)[1]


def gzip_size(files: Iterable[tuple[int, int, int]], tail: int) -> int:
    """Return the bytes that `GzipWriter` makes of a tar, without a comment and empty blocks.

    Args:
        files: of each file, the bits of its header (`header_code`), bytes of noise, and its size in bytes.
        tail: zeros after the end of the tar, in bytes.
    """
    bits, entering = 8 * _HEADER, _BLOCK_START_BITS
    for header_bits, noise, size in files:
        bits += header_bits + entering
        entering = 0
        if noise:
            blocks = -(-noise // MAX_STORED)
            # The first block's start and lengths are an empty block's five bytes; its start is counted here.
            bits += _BLOCK_END_BITS + _BLOCK_START_BITS
            bits = 8 * (-(-bits // 8) - 1 + noise + blocks * len(EMPTY_STORED))
            entering = _BLOCK_START_BITS
        if zeros := size - noise + -size % BLOCK:
            bits += entering + _zeros_bits(zeros)
            entering = 0
    bits += entering + _zeros_bits(len(END) + tail) + _BLOCK_END_BITS
    return -(-bits // 8) + _TRAILER


@cache
def _crc_of_slice() -> tuple[int, tuple[int, ...]]:
    start = zlib.crc32(_ZEROS)
    return start, tuple(zlib.crc32(_ZEROS, 1 << bit) ^ start for bit in range(32))


def _crc_over_slice(crc: int) -> int:
    """Return `zlib.crc32` of a slice of zeros without reading it: as a function of `crc` it is affine."""
    result, columns = _crc_of_slice()
    for bit, column in enumerate(columns):
        if crc >> bit & 1:
            result ^= column
    return result


class TarWriter:
    """Writes a plain tar piece by piece; `take` what is ready from time to time.

    Args:
        hasher: sees the bytes of the tar.

    Attributes:
        ready: bytes that `take` returns.
    """

    def __init__(self, *, hasher: Hashing | None) -> None:
        self.ready = 0
        self._out: list[bytes | memoryview] = []
        self._hasher = hasher

    def header(self, header: bytes) -> None:
        """Write the header of a file."""
        self._emit(header)
        self._hash(header)

    def noise(self, data: memoryview) -> None:
        """Write bytes that do not compress, 65,535 at most."""
        self._emit(data)
        self._hash(data)

    def zeros(self, count: int) -> None:
        """Write zeros, 1 to `ZEROS_SLICE` of them."""
        self._emit(_ZEROS[:count])
        self._hash(_ZEROS[:count])

    def finish(self) -> None:
        """Write the end of the stream: nothing for a plain tar."""

    def take(self) -> bytes:
        """Return the bytes that are ready, once."""
        chunk = b"".join(self._out)
        self._out, self.ready = [], 0
        return chunk

    def _emit(self, data: bytes | memoryview) -> None:
        self._out.append(data)
        self.ready += len(data)

    def _hash(self, data: bytes | memoryview) -> None:
        if self._hasher is not None:
            self._hasher.update(data)


class GzipWriter(TarWriter):
    """Writes the same pieces as one gzip member.

    Args:
        stamp: four bytes of the header that mean nothing to readers of layers (RFC 1952, MTIME).
        comment: text of the header, without NUL and at most 511 bytes; None for no comment.
        empty_blocks: blocks of five bytes that hold nothing.
        noise: bytes that `noise` is given in all; needed to mark the last block.
        hasher: sees the uncompressed bytes.
    """

    def __init__(
        self, *, stamp: bytes, comment: bytes | None, empty_blocks: int, noise: int, hasher: Hashing | None
    ) -> None:
        super().__init__(hasher=hasher)
        flags = 0 if comment is None else _FLAG_COMMENT
        self._emit(bytes([0x1F, 0x8B, 8, flags, *stamp, 0, _OS_UNKNOWN]))
        self._emit(b"" if comment is None else comment + b"\0")
        self._emit(EMPTY_STORED * empty_blocks)
        self._bits = self._count = 0
        self._in_block = False
        self._noise_left = noise
        self._crc = self._length = 0

    def header(self, header: bytes) -> None:
        """Write the header of a file."""
        self._enter()
        self._add(*header_code(header))
        self._account(header)

    def noise(self, data: memoryview) -> None:
        """Write bytes that do not compress, 65,535 at most."""
        if self._in_block:
            self._add(*_symbol(256))
            self._in_block = False
        self._noise_left -= len(data)
        self._add(0, _BLOCK_START_BITS)
        self._align()
        length = len(data).to_bytes(2, "little")
        self._emit(length + bytes(byte ^ 0xFF for byte in length))
        self._emit(data)
        self._account(data)

    def zeros(self, count: int) -> None:
        """Write zeros, 1 to `ZEROS_SLICE` of them."""
        self._count_zeros(count)
        self._enter()
        self._add(*_symbol(0))
        whole, rest = divmod(count - 1, _LONGEST)
        self._longest(whole)
        self._add(*_again(0, rest))

    def finish(self) -> None:
        """Write the end of the last block and the trailer."""
        self._enter()
        self._add(*_symbol(256))
        self._align()
        self._emit(self._crc.to_bytes(4, "little") + (self._length & 0xFFFFFFFF).to_bytes(4, "little"))

    def _enter(self) -> None:
        if not self._in_block:
            self._add(_FIXED | (self._noise_left == 0), _BLOCK_START_BITS)
            self._in_block = True

    def _account(self, data: bytes | memoryview) -> None:
        self._crc = zlib.crc32(data, self._crc)
        self._length += len(data)
        self._hash(data)

    def _count_zeros(self, count: int) -> None:
        if count < ZEROS_SLICE:
            self._account(_ZEROS[:count])
            return
        self._crc = _crc_over_slice(self._crc)
        self._length += count
        self._hash(_ZEROS)

    def _add(self, bits: int, count: int) -> None:
        self._bits |= bits << self._count
        self._count += count
        if self._count > _MAX_GATHERED:
            self._flush()

    def _flush(self) -> None:
        whole, self._count = divmod(self._count, 8)
        self._emit((self._bits & ((1 << 8 * whole) - 1)).to_bytes(whole, "little"))
        self._bits >>= 8 * whole

    def _align(self) -> None:
        self._count += -self._count % 8
        self._flush()

    def _longest(self, times: int) -> None:
        bits, count = _match(_LONGEST)
        units, rest = divmod(times, _UNIT_MATCHES)
        for _ in range(rest):
            self._add(bits, count)
        if units:
            unit = sum(bits << count * position for position in range(_UNIT_MATCHES))
            self._add_units(unit, units)

    def _add_units(self, unit: int, times: int) -> None:
        # From its second byte on the stream repeats every thirteen bytes, so they are written all at once.
        self._flush()
        two = (unit | unit << _UNIT_BITS) << self._count | self._bits
        raw = two.to_bytes(2 * _UNIT_BITS // 8 + 1, "little")
        self._emit(raw[:1] + raw[1:14] * (times - 1))
        self._bits = two >> _UNIT_BITS + 8
        self._count += _UNIT_BITS - 8
