"""The tar format, read as it streams by: ustar, PAX, GNU long names and base-256 numbers.

Owns headers, and where content begins and ends. Must not know what a name means in a layer or an archive, or
how bytes were compressed. Bytes are pushed in; the caller says where content goes, or skips it.

A tar is hostile input: every number and length is checked before it is used, headers before a member are
bounded, and each step advances. Not `tarfile`: it reads a PAX header of any size into memory, loops on one
with a negative length (before 3.11.14), returns names as text, and takes twice as long (20 µs to 10).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from regsim.errors import ContentError
from regsim.store.entry import PERMISSIONS, Kind, shown
from regsim.store.tar_write import BLOCK, XATTR

# What Go's archive/tar, and so every engine, takes of a PAX header or a GNU long name.
MAX_SPECIAL = 1024 * 1024
MAX_SIZE = 2**63 - 1

_SECOND = 10**9
_ZEROS = bytes(BLOCK)
_CHECKSUM = slice(148, 156)
_BASE_256 = 0x80
_NEGATIVE = 0xFF
_TIME = re.compile(rb"(-?)(\d{1,19})(?:\.(\d*))?")
_SPARSE = b"GNU.sparse."
_KINDS = {
    ord("0"): Kind.FILE,
    0: Kind.FILE,
    ord("7"): Kind.FILE,  # "contiguous", which POSIX has treated as a regular file
    ord("1"): Kind.HARDLINK,
    ord("2"): Kind.SYMLINK,
    ord("3"): Kind.CHAR,
    ord("4"): Kind.BLOCK,
    ord("5"): Kind.DIRECTORY,
    ord("6"): Kind.FIFO,
}
_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK, _GNU_SPARSE = b"xgLKS"
_SPECIAL = frozenset({_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK})


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member of a tar, as its headers say.

    Args:
        name: as written, unchecked.
        kind: never a whiteout: those are files to a tar.
        size: bytes of content that follow.
        offset: where the content begins, in bytes from the start of the tar.
    """

    name: bytes
    kind: Kind
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    link: bytes
    device: tuple[int, int]
    offset: int
    xattrs: dict[str, bytes] = field(default_factory=dict)


Take = Callable[[bytes], object]


class TarReader:
    """Reads a tar that is pushed in.

    Args:
        name: what errors call the tar.
        begin: is called with each member, and returns what takes its content, or None to pass over it.

    Attributes:
        ended: two blocks of zeros were read; what follows them is ignored.
    """

    def __init__(self, name: str, begin: Callable[[Member], Take | None]) -> None:
        self.ended = False
        self._name = name
        self._begin = begin
        self._position = 0  # of the first byte that is not read yet, or of `_rest`
        self._rest = b""
        self._left = 0  # bytes of content still to come, without padding
        self._padding = 0
        self._take: Take | None = None
        self._special: tuple[int, int] | None = None  # type and size; its body comes next
        self._specials = 0  # bytes of all special headers since the last member
        self._pax: dict[bytes, bytes] = {}
        self._zero_block = False
        self._last = b""

    @property
    def wanted(self) -> int:
        """Bytes that the next header, or the body of a special one, still needs."""
        whole = BLOCK if self._special is None else _padded(self._special[1])
        return whole - len(self._rest)

    def feed(self, data: bytes) -> None:
        """Take in more of the tar, in pieces of any size.

        Raises:
            ContentError: it is not a tar, or holds what is not read; the member is named.
        """
        data = self._rest + data if self._rest else data
        self._rest = b""
        position = 0
        while position < len(data) and not self.ended:
            there = len(data) - position
            if self._left:
                count = min(self._left, there)
                if self._take is not None:
                    self._take(data[position : position + count])
                self._left -= count
            elif self._padding:
                count = min(self._padding, there)
                self._padding -= count
            elif there < (count := self.wanted):
                self._rest = data[position:]
                break
            elif self._special is None:
                self._header(data[position : position + BLOCK], self._position + position)
            else:
                self._read_special(*self._special, data[position : position + self._special[1]])
            position += count
        self._position += position

    def skip(self) -> int:
        """Pass over the rest of a content that nothing takes, and return its bytes, padding included.

        For a caller that can seek: the bytes are not to be fed. 0 if there is nothing to skip.
        """
        if self._take is not None:
            return 0
        count, self._left, self._padding = self._left + self._padding, 0, 0
        self._position += count
        return count

    def finish(self) -> None:
        """Say that there is no more. A tar need not have the two blocks of zeros at its end.

        Raises:
            ContentError: it ends within a member.
        """
        if not self.ended and (self._rest or self._left or self._padding or self._specials):
            raise self._wrong("is cut short")

    def _header(self, block: bytes, position: int) -> None:
        if block == _ZEROS:
            self.ended, self._zero_block = self._zero_block, True
            return
        if self._zero_block:
            raise self._wrong("goes on after a block of zeros")
        self._check_sum(block, position)
        size = self._number(block, 124, 136, "size")
        if block[156] not in _SPECIAL:
            self._member(block, size, position + BLOCK)
            return
        self._specials += BLOCK + size
        if self._specials > MAX_SPECIAL:
            raise self._wrong(f"precedes headers of more than {MAX_SPECIAL} bytes, which are not read")
        if size:
            self._special = block[156], size

    def _check_sum(self, block: bytes, position: int) -> None:
        digits = block[_CHECKSUM].strip(b" \0")
        stored = int(digits, 8) if digits and not digits.strip(b"01234567") else -1
        computed = sum(block) - sum(block[_CHECKSUM]) + 8 * ord(" ")
        if stored == computed:
            return
        # Some old writers took bytes as signed.
        signed = sum(byte - 256 if byte >= _BASE_256 else byte for byte in block)
        signed -= sum(byte - 256 if byte >= _BASE_256 else byte for byte in block[_CHECKSUM])
        if stored != signed + 8 * ord(" "):
            raise ContentError(f"{self._name} has a header whose checksum is wrong, at byte {position:,}")

    def _read_special(self, kind: int, _size: int, body: bytes) -> None:
        self._special = None
        if kind == _PAX:
            self._pax.update(self._records(body))
        elif kind != _PAX_GLOBAL:  # which engines ignore; git writes one to name its commit
            self._pax[b"path" if kind == _LONG_NAME else b"linkpath"] = body.partition(b"\0")[0]

    def _records(self, body: bytes) -> dict[bytes, bytes]:
        records: dict[bytes, bytes] = {}
        position = 0
        while position < len(body):
            blank = body.find(b" ", position, position + 8)
            digits = body[position : max(blank, position)]
            end = position + (int(digits) if digits.isdigit() else 0)
            key, equals, value = body[blank + 1 : end].partition(b"=")
            # Each record ends behind its own length, so that the next one begins further on.
            if not position < blank < end <= len(body) or not equals or not value.endswith(b"\n"):
                raise self._wrong("has a damaged PAX header")
            records[key] = value[:-1]
            position = end
        return records

    def _member(self, block: bytes, size: int, offset: int) -> None:
        pax, self._pax, self._specials = self._pax, {}, 0
        name = pax.get(b"path") or _name(block)
        self._last = name
        kind = _KINDS.get(block[156])
        if block[156] == _GNU_SPARSE or any(key.startswith(_SPARSE) for key in pax):
            raise self._wrong("is a sparse file, which is not read")
        if kind is None:
            raise self._wrong(f"is of the unknown type {chr(block[156])!r}")
        size = self._pax_number(pax, b"size", size)
        if kind is Kind.FILE and name.endswith(b"/"):
            if size:
                raise self._wrong("is a directory to some readers, and to others a file with content")
            kind = Kind.DIRECTORY  # how tars before ustar wrote one
        # Only files have content, whatever size a header gives; all readers agree.
        size = size if kind is Kind.FILE else 0
        member = Member(
            name=name,
            kind=kind,
            mode=self._number(block, 100, 108, "mode") & PERMISSIONS,
            uid=self._pax_number(pax, b"uid", self._number(block, 108, 116, "uid")),
            gid=self._pax_number(pax, b"gid", self._number(block, 116, 124, "gid")),
            mtime_ns=self._time(pax, block),
            size=size,
            offset=offset,
            link=pax.get(b"linkpath") or _text(block, 157, 257),
            device=(self._number(block, 329, 337, "device"), self._number(block, 337, 345, "device"))
            if kind in {Kind.CHAR, Kind.BLOCK}
            else (0, 0),
            xattrs=_xattrs(pax) if pax else {},
        )
        self._take = self._begin(member)
        self._left, self._padding = size, _padded(size) - size

    def _number(self, block: bytes, start: int, stop: int, what: str) -> int:
        raw = block[start:stop]
        if raw[0] >= _BASE_256:  # GNU's base-256, for what octal has no room for; all ones mean negative
            value = int.from_bytes(raw, "big", signed=raw[0] == _NEGATIVE)
            value &= -1 if value < 0 else 2 ** (8 * len(raw) - 1) - 1
        else:
            digits = raw.strip(b" \0")
            if digits.strip(b"01234567"):  # what else Python takes (_, 0o, +), others do not
                raise self._wrong(f"has a {what} that is not a number")
            value = int(digits, 8) if digits else 0
        if not (0 <= value <= MAX_SIZE or (what == "time" and -MAX_SIZE <= value < 0)):
            raise self._wrong(f"has the {what} {value}")
        return value

    def _pax_number(self, pax: dict[bytes, bytes], key: bytes, otherwise: int) -> int:
        if key not in pax:
            return otherwise
        digits = pax[key]
        if not digits.isdigit() or len(digits) > 19 or int(digits) > MAX_SIZE:  # noqa: PLR2004  (those of MAX_SIZE)
            raise self._wrong(f"has a PAX {key.decode()} that is not a number")
        return int(digits)

    def _time(self, pax: dict[bytes, bytes], block: bytes) -> int:
        if b"mtime" not in pax:
            return self._number(block, 136, 148, "time") * _SECOND
        match = _TIME.fullmatch(pax[b"mtime"])
        if match is None:
            raise self._wrong("has a PAX mtime that is not a time")
        rest = int((match[3] or b"0")[:9].ljust(9, b"0"))
        value = int(match[2]) * _SECOND + rest
        return -value if match[1] else value

    def _wrong(self, what: str) -> ContentError:
        member = f": {shown(self._last)!r}" if self._last else ""
        return ContentError(f"{self._name}{member} {what}")


def _padded(size: int) -> int:
    return size + -size % BLOCK


def _text(block: bytes, start: int, stop: int) -> bytes:
    return block[start:stop].partition(b"\0")[0]


def _name(block: bytes) -> bytes:
    name = _text(block, 0, 100)
    # GNU's magic is "ustar  ", and what follows it is something else.
    prefix = _text(block, 345, 500) if block[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _xattrs(pax: dict[bytes, bytes]) -> dict[str, bytes]:
    return {
        key[len(XATTR) :].decode("utf-8", "surrogateescape"): value
        for key, value in pax.items()
        if key.startswith(XATTR)
    }
