"""The tar format, read as it streams by: ustar, PAX, GNU long names and base-256 numbers.

Owns headers and where content begins and ends. Must not know what a name means to a tree
(`image.layer_read`) or how bytes were compressed. Bytes are pushed in; who pushes says where content goes.

What is read is hostile: every number and length is checked before it is used, and what precedes an entry's
content is bounded. Not `tarfile`: it takes a PAX header of any size into memory, for ever reads one whose
length is negative (before 3.11.14), hands names out as text, and takes twice as long (20 µs to 10).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

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
        name: as it is written, whatever that is.
        kind: never a whiteout: those are files to a tar.
        size: bytes of content that follow.
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
    xattrs: dict[str, bytes] = field(default_factory=dict)


Take = Callable[[bytes], object]


class _State(Enum):
    HEADER = auto()
    SPECIAL = auto()
    CONTENT = auto()
    END = auto()


class TarReader:
    """Reads a tar that is pushed in.

    Args:
        name: what errors call the tar.
        begin: is told each member, and returns what takes its content, None to pass over it.
    """

    def __init__(self, name: str, begin: Callable[[Member], Take | None]) -> None:
        self._name = name
        self._begin = begin
        self._state = _State.HEADER
        self._rest = b""
        self._left = 0  # bytes of content still to come, without padding
        self._padding = 0
        self._take: Take | None = None
        self._special = self._special_kind = 0
        self._specials = 0  # bytes of all special headers since the last member
        self._pax: dict[bytes, bytes] = {}
        self._zero_block = False
        self._last = b""

    def feed(self, data: bytes) -> None:
        """Take in more of the tar, in pieces of any size. What follows its end is passed over.

        Raises:
            ContentError: it is no tar, or holds what is not read; the member is named.
        """
        data = self._rest + data if self._rest else data
        position = 0
        while (after := self._step(data, position)) is not None:
            position = after
        self._rest = data[position:]

    def finish(self) -> None:
        """Say that there is no more. A tar need not have the two blocks of zeros at its end.

        Raises:
            ContentError: it ends within a member.
        """
        if self._state is _State.END:
            return
        if self._state is not _State.HEADER or self._rest or self._pax or self._padding:
            raise self._wrong("is cut short")

    def _step(self, data: bytes, position: int) -> int | None:
        """Do what can be done at `position`; None if that needs more data."""
        match self._state:
            case _State.HEADER:
                if len(data) - position < BLOCK:
                    return None
                self._header(data[position : position + BLOCK])
                return position + BLOCK
            case _State.CONTENT:
                return self._content(data, position)
            case _State.SPECIAL:
                padded = self._special + -self._special % BLOCK
                if len(data) - position < padded:
                    return None
                self._read_special(data[position : position + self._special])
                return position + padded
            case _State.END:
                return len(data) if position < len(data) else None

    def _content(self, data: bytes, position: int) -> int | None:
        there = len(data) - position
        if not there:
            return None
        if self._left:
            count = min(self._left, there)
            if self._take is not None:
                self._take(data[position : position + count])
            self._left -= count
        else:
            count = min(self._padding, there)
            self._padding -= count
        if not self._left and not self._padding:
            self._state = _State.HEADER
        return position + count

    def _header(self, block: bytes) -> None:
        if block == _ZEROS:
            if self._zero_block:
                self._state = _State.END
            self._zero_block = True
            return
        if self._zero_block:
            raise self._wrong("goes on after a block of zeros")
        self._check_sum(block)
        kind = block[156]
        size = self._number(block, 124, 136, "size")
        if kind in _SPECIAL:
            self._specials += size
            if self._specials > MAX_SPECIAL:
                raise self._wrong(f"precedes headers of more than {MAX_SPECIAL} bytes, which are not read")
            self._special, self._special_kind = size, kind
            self._state = _State.SPECIAL
            return
        self._member(block, kind, size)

    def _check_sum(self, block: bytes) -> None:
        stored = self._number(block, 148, 156, "checksum")
        computed = sum(block) - sum(block[_CHECKSUM]) + 8 * ord(" ")
        if stored == computed:
            return
        # Some old writers took bytes as signed.
        signed = sum(byte - 256 if byte >= _BASE_256 else byte for byte in block)
        signed -= sum(byte - 256 if byte >= _BASE_256 else byte for byte in block[_CHECKSUM])
        if stored != signed + 8 * ord(" "):
            raise self._wrong("has a header whose checksum is wrong")

    def _read_special(self, body: bytes) -> None:
        self._state = _State.HEADER
        match self._special_kind:
            case kind if kind == _PAX:
                self._pax.update(self._records(body))
            case kind if kind == _LONG_NAME:
                self._pax[b"path"] = body.partition(b"\0")[0]
            case kind if kind == _LONG_LINK:
                self._pax[b"linkpath"] = body.partition(b"\0")[0]
            case _:
                pass  # a global header: engines ignore it, and git writes one to say its commit

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

    def _member(self, block: bytes, type_: int, size: int) -> None:
        pax, self._pax, self._specials = self._pax, {}, 0
        name = pax.get(b"path") or _name(block)
        self._last = name
        kind = _KINDS.get(type_)
        if type_ == _GNU_SPARSE or any(key.startswith(_SPARSE) for key in pax):
            raise self._wrong("is a sparse file, which layers should not have (layer.md) and is not read")
        if kind is None:
            raise self._wrong(f"is of type {chr(type_)!r}, which no layer has")
        size = self._pax_number(pax, b"size", size)
        if kind is Kind.FILE and name.endswith(b"/"):
            if size:
                raise self._wrong("is a directory to some readers, and to others a file with content")
            kind = Kind.DIRECTORY  # how tars before ustar wrote one
        # Whatever a header says, only files have content: so do all readers understand it.
        size = size if kind is Kind.FILE else 0
        member = Member(
            name=name,
            kind=kind,
            mode=self._number(block, 100, 108, "mode") & PERMISSIONS,
            uid=self._pax_number(pax, b"uid", self._number(block, 108, 116, "uid")),
            gid=self._pax_number(pax, b"gid", self._number(block, 116, 124, "gid")),
            mtime_ns=self._time(pax, block),
            size=size,
            link=pax.get(b"linkpath") or _text(block, 157, 257),
            device=(self._number(block, 329, 337, "device"), self._number(block, 337, 345, "device"))
            if kind in {Kind.CHAR, Kind.BLOCK}
            else (0, 0),
            xattrs=_xattrs(pax) if pax else {},
        )
        self._take = self._begin(member)
        self._left, self._padding = size, -size % BLOCK
        if size:
            self._state = _State.CONTENT

    def _number(self, block: bytes, start: int, stop: int, what: str) -> int:
        raw = block[start:stop]
        if raw[0] >= _BASE_256:  # GNU's base-256, for what octal has no room for; all ones mean negative
            value = int.from_bytes(raw, "big", signed=raw[0] == _NEGATIVE)
            value &= -1 if value < 0 else 2 ** (8 * len(raw) - 1) - 1
        else:
            digits = raw.strip(b" \0")
            if digits.strip(b"01234567"):  # what else Python takes (_, 0o, +), others do not
                raise self._wrong(f"has a {what} that is no number")
            value = int(digits, 8) if digits else 0
        if not (0 <= value <= MAX_SIZE or (what == "time" and -MAX_SIZE <= value < 0)):
            raise self._wrong(f"has the {what} {value}")
        return value

    def _pax_number(self, pax: dict[bytes, bytes], key: bytes, otherwise: int) -> int:
        if key not in pax:
            return otherwise
        digits = pax[key]
        if not digits.isdigit() or len(digits) > 19 or int(digits) > MAX_SIZE:  # noqa: PLR2004  (those of MAX_SIZE)
            raise self._wrong(f"has a PAX {key.decode()} that is no number")
        return int(digits)

    def _time(self, pax: dict[bytes, bytes], block: bytes) -> int:
        if b"mtime" not in pax:
            return self._number(block, 136, 148, "time") * _SECOND
        match = _TIME.fullmatch(pax[b"mtime"])
        if match is None:
            raise self._wrong("has a PAX mtime that is no time")
        rest = int((match[3] or b"0")[:9].ljust(9, b"0"))
        value = int(match[2]) * _SECOND + rest
        return -value if match[1] else value

    def _wrong(self, what: str) -> ContentError:
        member = f": {shown(self._last)!r}" if self._last else ""
        return ContentError(f"{self._name}{member} {what}")


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
