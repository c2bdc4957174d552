"""What a tar holds and where, found by reading its headers once.

Owns the reading of an archive that somebody else wrote: hostile input. Nothing is ever unpacked, and no link
is ever followed in the file system, so a name can only name a place in the archive. `tarfile` reads single
headers here and no more: left alone it reads an extended header of any size into memory, expands sparse
files, and takes two members of one name for one. Must not know images. All of it blocks.
"""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regsim.errors import ContentError, LocalFileError
from regsim.store.files import GuardedFile, file_errors, open_regular
from regsim.store.tar_header import BLOCK

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# An image has at most 100,000 references (`transfer.graph`), and a tar at most as many files of use.
MAX_MEMBERS = 100_000
# A long name, or the times and owners that some writers add; a path has at most 4,096 bytes anywhere.
MAX_EXTENDED = 64 * 1024
# A global header, a long name, a long link and attributes may all stand before one member.
_MAX_EXTENDED_IN_A_ROW = 8

_COMPRESSED = {
    b"\x1f\x8b": ("gzip", "gunzip"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ\0": ("xz", "unxz"),
}
_SPARSE = "GNU.sparse."
_EXTENDED = frozenset({tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE})
_LONG = {tarfile.GNUTYPE_LONGNAME: "path", tarfile.GNUTYPE_LONGLINK: "linkpath"}
_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in an archive: where its bytes begin, and how many there are; or a link to one.

    `target` is the name of the member that a symbolic link leads to; None for a file.
    """

    name: str
    offset: int
    size: int
    target: str | None = None


@dataclass(frozen=True, slots=True)
class TarIndex:
    """The files of an archive by name. Names have no `./` before them, and no `..` in them."""

    path: Path
    members: Mapping[str, Member]

    @classmethod
    def read(cls, path: Path) -> TarIndex:
        """Read every header of an archive.

        Raises:
            LocalFileError: it is missing, or cannot be read, or is no regular file.
            ContentError: it is no tar, compressed, cut short, or has a member that has no place in an image.
        """
        try:
            file = open_regular(path, follow=True)
        except FileNotFoundError as error:
            raise LocalFileError(f"there is no archive {path}", hint="check the path") from error
        with file, file_errors(path, "read"):
            return cls(path, _Headers(path, file).members())

    def find(self, name: str) -> Member | None:
        """Return the file of this name, through one link if need be; None where there is none.

        Raises:
            ContentError: the link leads to no file of the archive.
        """
        member = self.members.get(name)
        if member is None or member.target is None:
            return member
        found = self.members.get(member.target)
        # One step, as containers/image has it: so there are no circles.
        if found is None or found.target is not None:
            raise _bad(self.path, name, f"is a link to {member.target!r}, which is no file of the archive")
        return found

    def open(self) -> GuardedFile:
        """Open the archive to read members from.

        Raises:
            LocalFileError: it is no longer there.
        """
        try:
            return open_regular(self.path, follow=True)
        except FileNotFoundError as error:
            raise LocalFileError(f"there is no archive {self.path} any more") from error

    def document(self, name: str, limit: int) -> bytes | None:
        """Return the whole of a small file; None where there is none of this name.

        Raises:
            ContentError: it has more than `limit` bytes, or the archive was cut since it was indexed.
            LocalFileError: it cannot be read.
        """
        member = self.find(name)
        if member is None:
            return None
        if member.size > limit:
            raise _bad(self.path, name, f"has {member.size:,} bytes, of which at most {limit:,} are read")
        with self.open() as file, file_errors(self.path, "read"):
            raw = os.pread(file.fileno(), member.size, member.offset)
        if len(raw) != member.size:
            raise ContentError(f"{self.path} was cut while it was read")
        return raw


class _Headers:
    """Goes from header to header, and over what stands between them."""

    def __init__(self, path: Path, file: GuardedFile) -> None:
        self._path, self._descriptor = path, file.fileno()
        self._length = os.fstat(self._descriptor).st_size
        self._offset = 0

    def members(self) -> dict[str, Member]:
        found: dict[str, Member] = {}
        self._refuse_compressed()
        count = 0
        while (header := self._header()) is not None:
            count += 1
            if count > MAX_MEMBERS:
                raise ContentError(f"{self._path} has more than {MAX_MEMBERS:,} members")
            member = self._member(*header)
            if member is None:
                continue
            if member.name in found:
                raise _bad(
                    self._path, member.name, "is there twice: which of the two is meant is anybody's guess"
                )
            found[member.name] = member
        return found

    def _header(self) -> tuple[tarfile.TarInfo, dict[str, str]] | None:
        """Return the next member's header and what extended headers say of it; None at the end."""
        extended: dict[str, str] = {}
        for before in range(_MAX_EXTENDED_IN_A_ROW + 1):
            info = self._block()
            if info is None:
                if before:
                    raise ContentError(f"{self._path} ends behind the extended header of a member")
                return None
            if info.type == tarfile.XGLTYPE:
                self._extended(info)  # engines ignore what is said of all members; git says its commit so
            elif info.type in _EXTENDED:
                extended |= self._records(info)
            elif info.type in _LONG:
                extended[_LONG[info.type]] = _text(self._extended(info).rstrip(b"\0"))
            else:
                return info, extended
        raise ContentError(f"{self._path} has more than {_MAX_EXTENDED_IN_A_ROW} headers before one member")

    def _block(self) -> tarfile.TarInfo | None:
        block = os.pread(self._descriptor, BLOCK, self._offset)
        if not self._offset and len(block) < BLOCK:
            raise self._no_tar("is too short for one")
        # Two blocks of zeros end an archive; some writers forget one or both.
        if not block or block == bytes(BLOCK):
            return None
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as error:
            if not self._offset:
                raise self._no_tar(str(error)) from error
            raise ContentError(f"{self._path} is damaged at byte {self._offset:,}: {error}") from error
        if info.size < 0:
            raise _bad(self._path, info.name, "has a negative size")
        self._offset += BLOCK
        return info

    def _member(self, info: tarfile.TarInfo, extended: Mapping[str, str]) -> Member | None:
        name = _place(self._path, extended.get("path", info.name))
        if any(key.startswith(_SPARSE) for key in extended):
            raise _bad(self._path, name, "is a sparse file")
        if info.type in _KINDS or not (info.isreg() or info.isdir() or info.issym()):
            kind = _KINDS.get(info.type, f"of the unknown type {info.type!r}")
            raise _bad(self._path, name, f"is {kind}, which has no place in an image")
        if info.isdir():
            return None  # whatever size it says: nothing follows, as engines read it
        if info.issym():
            target = extended.get("linkpath", info.linkname)
            return Member(name, self._offset, 0, _target(self._path, name, target))
        offset, size = self._offset, self._size(name, info, extended)
        self._skip(name, size)
        return Member(name, offset, size)

    def _size(self, name: str, info: tarfile.TarInfo, extended: Mapping[str, str]) -> int:
        text = extended.get("size")
        if text is None:
            return info.size
        if not (text.isascii() and text.isdecimal() and len(text) <= len(str(2**63))):
            raise _bad(self._path, name, f"has no valid size: {text!r:.80}")
        return int(text)

    def _records(self, info: tarfile.TarInfo) -> dict[str, str]:
        """Read records of a length, a key and a value (POSIX pax, "pax Extended Header")."""
        raw, records = self._extended(info), {}
        while raw.strip(b"\0"):
            digits, space, _ = raw.partition(b" ")
            length = (
                int(digits) if space and digits.isdigit() and len(digits) < len(str(MAX_EXTENDED)) + 1 else 0
            )
            record = raw[len(digits) + 1 : length]
            key, equals, value = record.partition(b"=")
            if not equals or not record.endswith(b"\n"):
                raise _bad(self._path, info.name, "is an extended header that cannot be read")
            records[_text(key)] = _text(value[:-1])
            raw = raw[length:]
        return records

    def _extended(self, info: tarfile.TarInfo) -> bytes:
        if info.size > MAX_EXTENDED:
            raise _bad(self._path, info.name, f"is a header of {info.size:,} bytes")
        raw = os.pread(self._descriptor, info.size, self._offset)
        self._skip(info.name, info.size)
        return raw

    def _skip(self, name: str, size: int) -> None:
        if self._offset + size > self._length:
            raise _bad(self._path, name, f"has {size:,} bytes, and the archive ends before them")
        self._offset += size + -size % BLOCK

    def _refuse_compressed(self) -> None:
        start = os.pread(self._descriptor, max(map(len, _COMPRESSED)), 0)
        for magic, (name, program) in _COMPRESSED.items():
            if start.startswith(magic):
                raise ContentError(
                    f"{self._path} is compressed with {name}, and an archive is read in any order",
                    hint=f"decompress it first: {program} {self._path}",
                )

    def _no_tar(self, why: str) -> ContentError:
        return ContentError(f"{self._path} is not a tar: {why}", hint="archives are plain tar files")


def _place(path: Path, name: str) -> str:
    """Return a member's name without `./`; what leads out of the archive, or cannot be a name, is refused."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise _bad(path, name, "has a name that leads out of the archive")
    return "/".join(parts)


def _target(path: Path, name: str, target: str) -> str:
    """Return the name that a link in the archive leads to; it may climb, but not out."""
    parts = [] if target.startswith("/") else name.split("/")[:-1]
    for part in target.split("/"):
        if part == ".." and parts:
            parts.pop()
        elif part == ".." or (target.startswith("/")):
            raise _bad(path, name, f"is a link that leads out of the archive: {target!r:.100}")
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _bad(path: Path, name: str, what: str) -> ContentError:
    shown = ascii(name) if len(name) <= 200 else f"{name[:200]!a}…"  # noqa: PLR2004  (a line of text)
    return ContentError(f"{path}: the member {shown} {what}", hint="nothing of the archive was used")
