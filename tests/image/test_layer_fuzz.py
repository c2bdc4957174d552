"""Damaged layers: every mutation of a valid tar ends with a result or a ContentError, in bounded work."""

from __future__ import annotations

import gzip
import random
import sys
import tarfile
from typing import TYPE_CHECKING

import pytest
import zstandard

from regsim.errors import ContentError
from regsim.image.compression import compressor
from regsim.image.layer_read import LayerReader
from regsim.image.layer_write import write_layer
from regsim.store.entry import Entry, Kind, of_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

    Read = Callable[..., object]
    Tar = Callable[..., bytes]
    RawType = Callable[..., tuple[object, ...]]

LONG = b"d" * 100 + b"/" + b"e" * 120
# Lines of Python that a layer may take: some for each block of 512 bytes, and for each byte of a PAX header.
LINES_A_BYTE = 20


def valid(tar: Tar, raw: RawType) -> tuple[bytes, ...]:
    """Return tars that together have every kind of header."""
    entries = [
        Entry(path=b"dir", kind=Kind.DIRECTORY, mode=0o755, mtime_ns=1_700_000_000_123_456_789),
        of_bytes(b"dir/file", b"x" * 700),
        Entry(path=b"dir/link", kind=Kind.SYMLINK, link=b"\xff" * 120),
        Entry(path=b"dir/hard", kind=Kind.HARDLINK, link=b"dir/file"),
        Entry(path=LONG, kind=Kind.FIFO, uid=2**40, xattrs={"user.a": b"1", "security.b": b"\0\n"}),
        Entry(path=b"null", kind=Kind.CHAR, device=(1, 3)),
        Entry(path=b"gone", kind=Kind.WHITEOUT),
        Entry(path=b"dir", kind=Kind.OPAQUE),
    ]
    chunks: list[bytes] = []
    write_layer(entries, compressor("none"), chunks.append)
    gnu = tar(
        [raw("n" * 150, link="l" * 150, type=tarfile.SYMTYPE), raw("b", data=b"y" * 600)], tarfile.GNU_FORMAT
    )
    pax = tar([raw("a", pax={"mtime": "1.5", "size": "0", "comment": "x" * 90}), raw("z", data=b"1")])
    return b"".join(chunks), gnu, pax


def damage(data: bytearray, at: int, rng: random.Random) -> None:
    """Damage a tar at a place."""
    match rng.randrange(6):
        case 0:
            data[at] = rng.choice((rng.randrange(256), *b" \n=\x000123456789-\x80\xff/."))
        case 1:
            del data[at : at + rng.choice((1, 5, 512))]
        case 2:
            data[at:at] = rng.choice((b"0", b" ", b"0 =\n", b"5 =a\n", bytes(512), bytes(data[:512])))
        case 3:
            del data[at:]
        case 4:  # the length, the key or the separator of a PAX record
            equals = data.find(b"=", at)
            if equals > 0:
                data[rng.randrange(max(0, equals - 12), equals + 1)] = rng.choice(b" =0123456789\n\0")
        case _:
            block = at // 512 * 512
            data[block + 156 : block + 157] = bytes([rng.choice(b"0123456789xgLKS\0")])


def mutated(blob: bytes, rng: random.Random) -> bytes:
    """Return a tar with some damage; in half of the cases its headers' checksums are right again."""
    data = bytearray(blob)
    for _ in range(rng.randint(1, 4)):
        if data:
            damage(data, rng.randrange(len(data)), rng)
    for start in range(0, len(data) - 511, 512) if rng.random() < 0.5 else ():
        block = data[start : start + 512]
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            data[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    return bytes(data)


def read_within(blob: bytes, lines: int) -> None:
    """Read a layer, in at most so many lines of Python."""
    left = lines

    def trace(frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.endswith(("tar.py", "tar_read.py", "layer_read.py", "decompress.py")):
            return None
        left -= event == "line"
        if left < 0:
            raise AssertionError("the reader does not come to an end")
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        reader = LayerReader("layer", len(blob))
        for start in range(0, len(blob), 1000):
            reader.feed(blob[start : start + 1000])
        reader.finish()
    except ContentError:
        pass
    finally:
        sys.settrace(before)


def fuzz(tars: tuple[bytes, ...], seed: int, count: int) -> None:
    rng = random.Random(seed)
    for _ in range(count):
        blob = mutated(rng.choice(tars), rng)
        allowed = 5000 + LINES_A_BYTE * len(blob)
        match rng.randrange(8):
            case 0:
                blob = mutated(gzip.compress(blob, 1), rng) if rng.random() < 0.5 else gzip.compress(blob, 1)
            case 1:
                blob = zstandard.compress(blob)
            case _:
                pass
        read_within(blob, allowed)


def test_a_damaged_layer_ends_with_a_result_or_a_content_error(tar: Tar, raw: RawType) -> None:
    fuzz(valid(tar, raw), seed=1, count=1500)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 110))
def test_a_hundred_thousand_damaged_layers_end(tar: Tar, raw: RawType, seed: int) -> None:
    fuzz(valid(tar, raw), seed=seed, count=10_000)


@pytest.mark.parametrize(
    "second", [b"0 b=c\n", b"00 b=c\n", b"b=c\n", b"9", b" b=c\n", b"1 b=c\n", b"99 b=c\n", b"12345678 b=c\n"]
)
def test_a_pax_record_that_does_not_advance_is_refused(second: bytes, read: Read) -> None:
    body = b"8 a=bcd\n" + second
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, len(body)
    blob = info.tobuf() + body.ljust(512, b"\0") + tarfile.TarInfo("a").tobuf()
    with pytest.raises(ContentError, match="has a damaged PAX header"):
        read(blob)
