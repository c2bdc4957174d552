"""Tar headers: ustar, with a PAX header where ustar has no room (POSIX pax, "ustar Interchange Format").

Owns the bytes before and after a file's content. Must not know the order of a layer, compression or digests.
The bytes are the same on every machine: no user names, no access times, nothing but the entry. Not `tarfile`:
it takes three times as long for a header (20 µs to 7), and accepts names as text only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regsim.errors import ContentError
from regsim.store.entry import OPAQUE_NAME, PERMISSIONS, WHITEOUT_PREFIX, Entry, Kind, joined

if TYPE_CHECKING:
    from collections.abc import Iterable

BLOCK = 512
# A tar ends with two blocks of zeros.
END = bytes(2 * BLOCK)
XATTR = b"SCHILY.xattr."

# A ustar header has room for a name, and for a prefix that a "/" parts from it.
MAX_NAME = 100
MAX_PREFIX = 155
SIZE_FIELD = slice(124, 136)
CHECKSUM_FIELD = slice(148, 156)

_MAX_ID = 0o7777777
_MAX_NUMBER = 0o77777777777  # of a size and of a time
_SECOND = 10**9
_TYPES = {
    Kind.FILE: b"0",
    Kind.HARDLINK: b"1",
    Kind.SYMLINK: b"2",
    Kind.CHAR: b"3",
    Kind.BLOCK: b"4",
    Kind.DIRECTORY: b"5",
    Kind.FIFO: b"6",
    Kind.WHITEOUT: b"0",
    Kind.OPAQUE: b"0",
}
_DEVICES = frozenset({Kind.CHAR, Kind.BLOCK})
_PAX_NAME = b"././@PaxHeader"
_BINARY = (b"hdrcharset", b"BINARY")
_NO_NAMES = bytes(64)  # user and group names; the numeric IDs suffice
_NO_DEVICES = bytes(16)
_REST = bytes(12)


def tar_path(entry: Entry) -> bytes:
    """Return an entry's name in a tar: a directory ends with `/`, a whiteout begins with `.wh.`."""
    match entry.kind:
        case Kind.DIRECTORY:
            return (entry.path or b".") + b"/"
        case Kind.WHITEOUT:
            return joined(entry.parent, WHITEOUT_PREFIX + entry.name)
        case Kind.OPAQUE:
            return joined(entry.path, OPAQUE_NAME)
        case _:
            return entry.path


def tar_header(entry: Entry) -> bytes:
    """Return all that precedes an entry's content: 512 bytes, and a PAX header before them where needed.

    Raises:
        ContentError: the entry says what no tar can: a device number beyond 2,097,151, an extended
            attribute whose name has `=` or NUL, a negative number.
    """
    records: list[tuple[bytes, bytes]] = []
    path, link = tar_path(entry), entry.link
    prefix, name = split_path(path) if path.isascii() else (b"", b"")
    if not name:
        records.append((b"path", path))
        name = path.decode("ascii", "replace").encode("ascii", "replace")[:MAX_NAME]
    if len(link) > MAX_NAME or not link.isascii():
        records.append((b"linkpath", link))
        link = link.decode("ascii", "replace").encode("ascii", "replace")[:MAX_NAME]
    if records and not all(_is_text(value) for _, value in records):
        records.insert(0, _BINARY)
    size = _number(records, b"size", entry.size if entry.kind is Kind.FILE else 0, _MAX_NUMBER)
    uid = _number(records, b"uid", entry.uid, _MAX_ID)
    gid = _number(records, b"gid", entry.gid, _MAX_ID)
    seconds, rest = divmod(entry.mtime_ns, _SECOND)
    if rest or not 0 <= seconds <= _MAX_NUMBER:
        records.append((b"mtime", _time(entry.mtime_ns)))
        seconds = min(max(seconds, 0), _MAX_NUMBER)
    records += [
        (XATTR + _xattr_name(entry, key), value) for key, value in sorted(entry.xattrs.items())
    ]  # fmt: skip
    _check(entry, size, uid, gid)
    header = ustar(
        _TYPES[entry.kind],
        name=name,
        prefix=prefix,
        link=link,
        mode=entry.mode & PERMISSIONS,
        numbers=(uid, gid, size, seconds),
        devices=b"%07o\0%07o\0" % entry.device if entry.kind in _DEVICES else _NO_DEVICES,
    )
    return _pax(records) + header if records else header


def padding(size: int) -> bytes:
    """Return the zeros that follow a file of `size` bytes."""
    return bytes(-size % BLOCK)


def ustar(
    kind: bytes,
    *,
    name: bytes,
    prefix: bytes = b"",
    link: bytes = b"",
    mode: int = 0o644,
    numbers: tuple[int, int, int, int],
    devices: bytes = _NO_DEVICES,
) -> bytes:
    """Return a header of 512 bytes.

    Args:
        kind: the type flag.
        name: 100 bytes at most.
        prefix: 155 bytes at most.
        link: 100 bytes at most.
        mode: permission bits.
        numbers: of user and group, size in bytes, and seconds since 1970; none too large for its field.
        devices: the two fields of device numbers.
    """
    before = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(MAX_NAME, b"\0"), mode, *numbers)
    after = b"%s%sustar\x0000%s%s%s%s" % (
        kind,
        link.ljust(MAX_NAME, b"\0"),
        _NO_NAMES,
        devices,
        prefix.ljust(MAX_PREFIX, b"\0"),
        _REST,
    )
    checksum = sum(before) + 8 * ord(" ") + sum(after)
    return b"%s%06o\0 %s" % (before, checksum, after)


def _pax(records: Iterable[tuple[bytes, bytes]]) -> bytes:
    body = b"".join(_record(key, value) for key, value in records)
    return ustar(b"x", name=_PAX_NAME, numbers=(0, 0, len(body), 0)) + body + padding(len(body))


def _record(key: bytes, value: bytes) -> bytes:
    # The length counts itself: " ", "=" and "\n" are the other three bytes.
    bare = len(key) + len(value) + 3
    length = bare + len(str(bare))
    if len(str(length)) > len(str(bare)):
        length = bare + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def split_path(path: bytes) -> tuple[bytes, bytes]:
    """Return the prefix and the name of a path in a ustar header; two empty ones if it has no room for it."""
    if len(path) <= MAX_NAME:
        return b"", path
    # The cut is at a "/" that is not the last byte, as far left as leaves a name that fits.
    cut = path.find(b"/", max(1, len(path) - MAX_NAME - 1), len(path) - 1)
    return (path[:cut], path[cut + 1 :]) if 0 < cut <= MAX_PREFIX else (b"", b"")


def _number(records: list[tuple[bytes, bytes]], key: bytes, value: int, limit: int) -> int:
    if value <= limit:
        return value
    records.append((key, b"%d" % value))
    return 0


def _time(nanoseconds: int) -> bytes:
    sign = b"-" if nanoseconds < 0 else b""
    seconds, rest = divmod(abs(nanoseconds), _SECOND)
    fraction = (b".%09d" % rest).rstrip(b"0") if rest else b""
    return b"%s%d%s" % (sign, seconds, fraction)


def _xattr_name(entry: Entry, name: str) -> bytes:
    raw = name.encode("utf-8", "surrogateescape")
    if not raw or b"=" in raw or b"\0" in raw:
        raise ContentError(f"{entry.shown!r} has an extended attribute that no layer can hold: {name!r:.80}")
    return raw


def _check(entry: Entry, *numbers: int) -> None:
    if min(numbers) < 0 or not all(0 <= number <= _MAX_ID for number in entry.device):
        raise ContentError(f"{entry.shown!r} has a number that no layer can hold")


def _is_text(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
