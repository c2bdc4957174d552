"""Images in an archive, read in place: `oci-archive` (image-spec, image-layout.md, in a tar).

Owns what a tar holds and where, and reading content out of it. An archive is hostile input: its headers are
read once, nothing is unpacked, and no link is followed in the file system, so a name can only name a place in
the archive. The bytes of a member are handed on as they are, and verified by the store that takes them. Must
not know docker's own files (`store.docker_archive`).
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from regsim.core.manifest import MAX_MANIFEST_SIZE
from regsim.errors import ContentError, LocalFileError
from regsim.store.entry import Kind, joined, normal
from regsim.store.files import file_errors, open_regular
from regsim.store.layout import FileContent
from regsim.store.layout_index import (
    BLOBS,
    INDEX,
    MARKER,
    MAX_INDEX_SIZE,
    MAX_MARKER_SIZE,
    Listed,
    Listing,
    check_version,
)
from regsim.store.memory import AbsentContent
from regsim.store.tar_read import Member, TarReader
from regsim.store.tar_write import BLOCK

if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import FileIO

    from regsim.core import Descriptor, Digest
    from regsim.store.protocols import Content

# An image has at most 100,000 references (`core.graph`), so no archive of images needs more files.
MAX_MEMBERS = 100_000

_COMPRESSED = {
    b"\x1f\x8b": ("gzip", "gunzip"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ\0": ("xz", "unxz"),
}
_KINDS = {Kind.HARDLINK: "hard link", Kind.CHAR: "device", Kind.BLOCK: "device", Kind.FIFO: "pipe"}


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """A regular file in an archive: where its bytes begin, and how many there are; or a link to one.

    `target` is the name of the member that a symbolic link leads to; None for a file.
    """

    name: str
    offset: int
    size: int
    target: str | None = None


def open_archive(path: Path) -> FileIO:
    """Open an archive.

    Raises:
        LocalFileError: it is missing, or cannot be read, or is not a regular file.
    """
    try:
        return open_regular(path, follow=True)
    except FileNotFoundError as error:
        raise LocalFileError(f"there is no archive {path}", hint="check the path") from error


@dataclass(frozen=True, slots=True)
class TarIndex:
    """The files of an archive by name. Names have no `./` before them, and no `..` in them."""

    path: Path
    members: Mapping[str, ArchiveFile]

    @classmethod
    def read(cls, path: Path) -> TarIndex:
        """Read every header of an archive.

        Raises:
            LocalFileError: it is missing, or cannot be read, or is not a regular file.
            ContentError: it is not a tar, compressed, cut short, or has a member that images do not have.
        """
        with open_archive(path) as file, file_errors(path, "read"):
            return cls(path, _members(path, file.fileno()))

    def find(self, name: str) -> ArchiveFile | None:
        """Return the file of this name, through one link if need be; None if there is none.

        Raises:
            ContentError: the link leads to no file of the archive.
        """
        member = self.members.get(name)
        if member is None or member.target is None:
            return member
        found = self.members.get(member.target)
        # One step, as containers/image has it: so there are no circles.
        if found is None or found.target is not None:
            raise _bad(self.path, name, f"is a link to {member.target!r}, which is not a file of the archive")
        return found

    def document(self, name: str, limit: int) -> bytes | None:
        """Return the whole of a small file; None if there is no such file.

        Raises:
            ContentError: it has more than `limit` bytes, or the archive was cut since it was indexed.
            LocalFileError: it cannot be read.
        """
        member = self.find(name)
        if member is None:
            return None
        if member.size > limit:
            raise _bad(self.path, name, f"has {member.size:,} bytes, of which at most {limit:,} are read")
        with open_archive(self.path) as file, file_errors(self.path, "read"):
            raw = os.pread(file.fileno(), member.size, member.offset)
        if len(raw) != member.size:
            raise ContentError(f"{self.path} was cut while it was read")
        return raw


@dataclass(frozen=True, slots=True)
class MemberContent(FileContent):
    """Content in a file of the archive at `path`."""

    file: ArchiveFile

    def _open(self) -> FileIO:
        # If the archive was cut meanwhile, verification finds the missing bytes.
        if self.file.size != self.descriptor.size:
            raise ContentError(
                f"{self.path}: the member {self.file.name!r} has {self.file.size} bytes, "
                f"its descriptor says {self.descriptor.size}",
                hint="the archive is damaged; write it again",
            )
        file = open_archive(self.path)
        file.seek(self.file.offset)
        return file


class OciArchive(Listed):
    """A `Fetcher` over an OCI image layout in a tar. The tar is indexed when it is first asked.

    Args:
        path: the archive.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._opening = threading.Lock()
        self._index: TarIndex | None = None

    def content(self, descriptor: Descriptor) -> Content:
        """Return what `descriptor` names; absence shows when it is opened (`NotFoundError`)."""
        member = self._index.find(place(descriptor.digest)) if self._index else None
        if self._index is None or member is None:
            return AbsentContent(descriptor, str(self.path), "it is not whole; write it again")
        return MemberContent(descriptor, self.path, member)

    def _opened(self) -> TarIndex:
        with self._opening:
            if self._index is None:
                self._index = TarIndex.read(self.path)
            return self._index

    def _listing(self) -> Listing:
        return listing(self._opened())

    def _manifest(self, digest: Digest) -> bytes | None:
        return self._opened().document(place(digest), MAX_MANIFEST_SIZE)


def is_layout(index: TarIndex) -> bool:
    """Return whether an archive holds an OCI image layout."""
    return index.find(MARKER) is not None


def listing(index: TarIndex) -> Listing:
    """Return what the `index.json` of an archive lists.

    Raises:
        ContentError: it is not an archive of an OCI image layout, or malformed.
    """
    marker, raw = index.document(MARKER, MAX_MARKER_SIZE), index.document(INDEX, MAX_INDEX_SIZE)
    if marker is None or raw is None:
        lacks = MARKER if marker is None else INDEX
        other = index.find("manifest.json") is not None
        raise ContentError(
            f"{index.path} is not an archive of an OCI image layout: it has no {lacks}",
            hint=f"it looks like docker-archive:{index.path}" if other else "",
        )
    check_version(marker, f"{index.path}, {MARKER}")
    return Listing.parse(raw, f"{index.path}, {INDEX}")


def place(digest: Digest) -> str:
    """Return the name of a blob in an archive."""
    return f"{BLOBS}/{digest.algorithm}/{digest.encoded}"


def _members(path: Path, descriptor: int) -> dict[str, ArchiveFile]:
    """Go from header to header, past the content between them, which is not read."""
    length = os.fstat(descriptor).st_size
    found: dict[str, ArchiveFile] = {}
    count = offset = 0

    def begin(member: Member) -> None:
        nonlocal count
        count += 1
        if count > MAX_MEMBERS:
            raise ContentError(f"{path} has more than {MAX_MEMBERS:,} members")
        file = _file(path, member)
        if file is None:
            return
        if file.offset + file.size > length:
            raise _bad(path, file.name, f"has {file.size:,} bytes, and the archive ends before them")
        if file.name in found:
            raise _bad(path, file.name, "is there twice, and readers differ in which of the two they take")
        found[file.name] = file

    _refuse_compressed(path, os.pread(descriptor, max(map(len, _COMPRESSED)), 0))
    reader = TarReader(str(path), begin)
    try:
        while not reader.ended and (data := os.pread(descriptor, reader.wanted, offset)):
            reader.feed(data)
            offset += len(data) + reader.skip()
        reader.finish()
    except ContentError as error:
        if offset or count:
            raise
        raise _no_tar(path, error.message) from error
    if length < BLOCK:
        raise _no_tar(path, "it is empty")
    return found


def _no_tar(path: Path, why: str) -> ContentError:
    return ContentError(f"{path} is not a tar: {why}", hint="archives are plain tar files")


def _file(path: Path, member: Member) -> ArchiveFile | None:
    """Return what a member of the tar is in an archive; None for a directory."""
    normalised = normal(member.name)
    if normalised is None or member.name.startswith(b"/") or b"\0" in normalised:
        raise _bad(path, _text(member.name), "has a name that leads out of the archive")
    name = _text(normalised)
    match member.kind:
        case Kind.FILE:
            return ArchiveFile(name, member.offset, member.size)
        case Kind.SYMLINK:
            target = normal(joined(normalised.rpartition(b"/")[0], member.link))
            if target is None or member.link.startswith(b"/"):
                link = f"{_text(member.link)!r:.100}"
                raise _bad(path, name, f"is a link that leads out of the archive: {link}")
            return ArchiveFile(name, member.offset, 0, _text(target))
        case Kind.DIRECTORY:
            return None
        case _:
            raise _bad(path, name, f"is a {_KINDS[member.kind]}, which has no place in an image")


def _refuse_compressed(path: Path, start: bytes) -> None:
    for magic, (name, program) in _COMPRESSED.items():
        if start.startswith(magic):
            raise ContentError(
                f"{path} is compressed with {name}, and an archive is read in any order",
                hint=f"decompress it first: {program} {path}",
            )


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _bad(path: Path, name: str, what: str) -> ContentError:
    shown = ascii(name) if len(name) <= 200 else f"{name[:200]!a}…"  # noqa: PLR2004  (a line of text)
    return ContentError(f"{path}: the member {shown} {what}", hint="nothing of the archive was used")
