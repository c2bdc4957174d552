"""One change that a layer makes to a file tree (image-spec, layer.md#file-types).

Owns the value and what a path in a layer may be. Must not know tar, compression or trees.

A path is bytes, as the file system has them: relative, parts parted by `/`, none empty, `.` or `..`, no `/`
at either end. The tree's root is `b""`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from regsim.errors import ContentError

WHITEOUT_PREFIX = b".wh."
OPAQUE_NAME = b".wh..wh..opq"

MAX_NAME = 255
MAX_PATH = 4096
# The bits of a mode without the kind: permissions, set-user-ID, set-group-ID and the sticky bit.
PERMISSIONS = 0o7777

Opener = Callable[[], Iterator[bytes]]


class Kind(StrEnum):
    """What an entry leaves at its path."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    HARDLINK = "hardlink"
    CHAR = "char"
    BLOCK = "block"
    FIFO = "fifo"
    WHITEOUT = "whiteout"  # removes what lower layers have at this path
    OPAQUE = "opaque"  # removes what lower layers have below this path


# Kinds that remove what lower layers have, and leave nothing themselves.
MARKERS = frozenset({Kind.WHITEOUT, Kind.OPAQUE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of a layer.

    Args:
        path: of what is changed; of a whiteout, what it removes (without `.wh.`); of an opaque entry, the
            directory.
        kind: what it is.
        mode: permission bits, `0o7777` at most.
        uid: number of the owner.
        gid: number of the group.
        mtime_ns: time of modification, in nanoseconds since 1970.
        size: bytes of a file.
        content: returns a fresh iterator over a file's bytes, `size` in all, in chunks of any size; it is
            closed if it has a `close`. None only if `size` is 0, or in a listing that has no content.
        link: target of a symbolic link, as it is written; of a hard link, the path that it equals.
        xattrs: extended attributes by name.
        device: major and minor number of a device.
    """

    path: bytes
    kind: Kind
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    size: int = 0
    content: Opener | None = field(default=None, repr=False, compare=False)
    link: bytes = b""
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    device: tuple[int, int] = (0, 0)

    @property
    def parent(self) -> bytes:
        """Path of the directory that it is in."""
        return self.path.rpartition(b"/")[0]

    @property
    def name(self) -> bytes:
        """Its path's last part."""
        return self.path.rpartition(b"/")[2]

    @property
    def shown(self) -> str:
        """Its path as it can be printed on any terminal: bytes that are not text are escaped."""
        return shown(self.path)


def shown(path: bytes) -> str:
    """Return a path as it can be printed and put into JSON: bytes that are not printable text are escaped.

    Two paths never look the same: a backslash is doubled.
    """
    text = path.decode("utf-8", "surrogateescape")
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(_shown(letter) for letter in text)


def _shown(letter: str) -> str:
    if letter == "\\":
        return "\\\\"
    if letter.isprintable():
        return letter
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", "surrogateescape"))


def of_bytes(path: bytes, data: bytes, *, mode: int = 0o644, mtime_ns: int = 0) -> Entry:
    """Return the entry of a file with this content."""
    return Entry(
        path=path, kind=Kind.FILE, mode=mode, mtime_ns=mtime_ns, size=len(data), content=lambda: iter((data,))
    )


def joined(directory: bytes, name: bytes) -> bytes:
    """Return the path of a name in a directory, `b""` being the root."""
    return directory + b"/" + name if directory else name


def normal(path: bytes) -> bytes | None:
    """Return a path without empty parts, `.` and `..`; None if it leads above its root."""
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            if not parts:
                return None
            parts.pop()
        elif part not in {b"", b"."}:
            parts.append(part)
    return b"/".join(parts)


def check_path(path: bytes) -> bytes:
    """Return a path that a layer may have.

    Raises:
        ContentError: it is absolute, climbs with `..`, has an empty part, a NUL, a part of more than 255
            bytes, or more than 4,096 bytes in all; or a part is a whiteout's name.
    """
    if len(path) > MAX_PATH:
        raise _refused(path, f"it has more than {MAX_PATH} bytes")
    if b"\0" in path:
        raise _refused(path, "it has a NUL")
    for part in path.split(b"/") if path else ():
        if part in {b"", b".", b".."}:
            raise _refused(path, "no part may be empty, '.' or '..'")
        if len(part) > MAX_NAME:
            raise _refused(path, f"a name has at most {MAX_NAME} bytes")
        if part.startswith(WHITEOUT_PREFIX):
            raise _refused(path, "names that begin with '.wh.' mean deletion in a layer")
    return path


def _refused(path: bytes, why: str) -> ContentError:
    return ContentError(f"{shown(path[:MAX_PATH])!r} cannot be in a layer: {why}")
