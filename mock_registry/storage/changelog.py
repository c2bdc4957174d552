"""The file of changes: a line for each, appended before the change is acknowledged, read back at a start.

Owns the text of changes, which outlives the process that wrote it, the torn end of the file, its rewriting,
and a reserve of room for changes that free some. Must not know what a change does.
"""

import contextlib
import json
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any, get_args

from mock_registry.spec import Algorithm, is_digest, is_name, is_tag

from .protocol import (
    NO_ROOM,
    BlobUnlinked,
    Change,
    ManifestDeleted,
    SessionEnded,
    StorageFull,
    TagDeleted,
    unlink,
    write_all,
)

NAME = "changes.log"
ASIDE = "changes.log.new"
RESERVE = "reserve"

_HEADER = b"mock_registry changes 1\n"
_RESERVE = 1 << 16
"""Bytes: some hundred deletes, after which there should be room again."""

_FREEING = (SessionEnded, BlobUnlinked, ManifestDeleted, TagDeleted)
"""Changes that free room, or allow it to be freed: they must be possible on a full disk."""

_SESSION = re.compile(r"[A-Za-z0-9_-]{1,128}")


class DamagedLogError(Exception):
    """The file of changes cannot be read, so that what the registry held is not known."""


def is_session(text: str) -> bool:
    """Tell whether ``text`` may identify a session and name its file."""
    return _SESSION.fullmatch(text) is not None


_GOOD: dict[str, Callable[[Any], bool]] = {
    "algorithm": lambda name: name in set(Algorithm),
    "digest": is_digest,
    "media_type": str.isprintable,
    "repository": is_name,
    "session": is_session,
    "tag": is_tag,
    "tags": lambda tags: all(is_tag(tag) for tag in tags),
}


def _word(kind: type) -> str:
    """Return what a kind of change is called in the file, such as ``session-opened``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind.__name__).lower()


_KINDS: dict[str, Callable[..., Change]] = {_word(kind): kind for kind in get_args(Change)}
_FIELDS = {kind: (_word(kind), tuple(each.name for each in fields(kind))) for kind in get_args(Change)}


def _encode(change: Change) -> bytes:
    """Return a change as a line: a checksum of eight hexadecimal digits, a space, a JSON object."""
    word, names = _FIELDS[type(change)]
    text = json.dumps({"change": word} | {name: getattr(change, name) for name in names}).encode()
    return b"%08x %b\n" % (zlib.crc32(text), text)


def _decode(line: bytes) -> Change:
    """Read a line.

    Raises:
        ValueError: The checksum is wrong, or the change is not one that a registry makes.
    """
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        raise ValueError("the checksum does not hold")
    try:
        document = json.loads(text)
        change = _KINDS[document.pop("change")](**_typed(document))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a known change: {error}") from error
    return change


def _typed(document: dict[str, Any]) -> dict[str, Any]:
    """Check what will name files or be shown to clients: a line may be well-formed and still be hostile."""
    for name, value in document.items():
        if not _GOOD[name](value):
            raise ValueError(f"{name} is not valid")
    if "tags" in document:
        document["tags"] = tuple(document["tags"])
    if "algorithm" in document:
        document["algorithm"] = Algorithm(document["algorithm"])
    return document


class ChangeLog:
    """The changes of one registry, in order.

    A line is one ``write``: when the process is killed, the file has all of the line, none of it, or its
    beginning, which is cut off at the next start. No client got an answer for such a change.

    Args:
        directory: Descriptor of the directory to keep the file in, which stays the caller's.
    """

    def __init__(self, directory: int) -> None:
        self._directory = directory
        self._descriptor = _open(NAME, directory, os.O_RDWR | os.O_CREAT)
        self._size = 0
        self._broken: OSError | None = None
        self.lines = 0
        self._has_reserve = False

    def read(self) -> list[Change]:
        """Return the changes, from the first one on, and make the file ready to be appended to.

        Raises:
            DamagedLogError: A line other than the last is damaged.
        """
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            data = file.read()
        if not data.startswith(_HEADER):
            if data != _HEADER[: len(data)]:
                raise DamagedLogError(f"{NAME} is not a list of changes that this version can read")
            self._cut(0)
            self._write(_HEADER)
            return []
        whole = data.rfind(b"\n") + 1
        changes = []
        for number, line in enumerate(data[len(_HEADER) : whole].splitlines(), start=2):
            try:
                changes.append(_decode(line))
            except ValueError as error:
                raise DamagedLogError(f"line {number} of {NAME} is damaged: {error}") from error
        self.lines = len(changes)
        self._cut(whole)
        return changes

    def append(self, change: Change) -> None:
        """Write a change down.

        Raises:
            StorageFull: There is no room, and the change does not free any.
        """
        try:
            self._write(_encode(change))
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            if not isinstance(change, _FREEING):
                raise StorageFull(error.errno, "no room left to write a change down") from error
            unlink(RESERVE, self._directory)
            self._has_reserve = False
            self._write(_encode(change))
        self.lines += 1

    def _write(self, line: bytes) -> None:
        if self._broken is not None:
            raise self._broken
        try:
            done = os.pwrite(self._descriptor, line, self._size)
            while done < len(line):  # at the edge of a full disk, a part may fit
                done += os.pwrite(self._descriptor, line[done:], self._size + done)
        except OSError:
            self._cut(self._size)
            raise
        self._size += len(line)

    def _cut(self, size: int) -> None:
        try:
            os.ftruncate(self._descriptor, size)
        except OSError as error:
            self._broken = error
            raise
        self._size = size

    def rewrite(self, changes: Iterable[Change]) -> None:
        """Replace the file by one that holds only these changes, in one step.

        Raises:
            OSError: The file could not be replaced and stays as it was, or the new one may not last.
        """
        lines = [_HEADER, *map(_encode, changes)]
        content = b"".join(lines)
        descriptor = _open(ASIDE, self._directory, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        try:
            write_all(descriptor, [content])
            os.fsync(descriptor)  # once in a long while, and all of the state depends on it
            os.rename(ASIDE, NAME, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        except OSError:
            os.close(descriptor)
            unlink(ASIDE, self._directory)
            raise
        os.close(self._descriptor)
        self._descriptor, self._size, self.lines = descriptor, len(content), len(lines) - 1
        os.fsync(self._directory)

    def replenish(self) -> None:
        """Set room aside for changes that free some, if that is not so already and there is any."""
        if self._has_reserve:
            return
        with contextlib.suppress(OSError):
            descriptor = _open(RESERVE, self._directory, os.O_WRONLY | os.O_CREAT)
            try:
                if os.fstat(descriptor).st_size < _RESERVE:
                    os.pwrite(descriptor, bytes(_RESERVE), 0)
                self._has_reserve = os.fstat(descriptor).st_size >= _RESERVE
            finally:
                os.close(descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def size_in(directory: int) -> int:
    """Return the bytes of a directory's file of changes; 0 if it is missing or lacks its whole first line."""
    try:
        size = os.stat(NAME, dir_fd=directory, follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0
    return 0 if size < len(_HEADER) else size


def _open(name: str, directory: int, flags: int) -> int:
    descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DamagedLogError(f"{name} is not a file")
    return descriptor
