"""The file of changes: a line for each, appended before the change is acknowledged, read back at a start.

Owns the file, its torn end, its rewriting, and a reserve of room for changes that free some. Must not know
what a change does.
"""

import contextlib
import os
import stat
from collections.abc import Iterable

from .changes import FREEING, Change, DamagedLineError, decode, encode
from .protocol import NO_ROOM, StorageFull

NAME = "changes.log"
ASIDE = "changes.log.new"
RESERVE = "reserve"

_HEADER = b"mock_registry changes 1\n"
_RESERVE = 1 << 16
"""Octets: some hundred deletes, after which there should be room again."""


class DamagedLogError(Exception):
    """The file of changes cannot be read, so that what the registry held is not known."""


class ChangeLog:
    """The changes of one registry, in order.

    A line is one ``write``: when the process is killed, it is in the file or it is not, or its beginning is,
    which is cut off at the next start. Nobody was told of such a change.

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
        data = _read_all(self._descriptor)
        if not data.startswith(_HEADER):
            if data != _HEADER[: len(data)]:
                raise DamagedLogError(f"{NAME} is no list of changes that this version can read")
            self._cut(0)
            self._write(_HEADER)
            return []
        whole = data.rfind(b"\n") + 1
        changes = []
        for number, line in enumerate(data[len(_HEADER) : whole].splitlines(), start=2):
            try:
                changes.append(decode(line))
            except DamagedLineError as error:
                raise DamagedLogError(f"line {number} of {NAME} is damaged: {error}") from error
        self.lines = len(changes)
        self._cut(whole)
        return changes

    def append(self, change: Change) -> None:
        """Write a change down.

        Raises:
            StorageFull: There is no room, and the change is none that frees some.
        """
        try:
            self._write(encode(change))
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            if not isinstance(change, FREEING):
                raise StorageFull(error.errno, "no room left to write a change down") from error
            self._give_up_reserve()
            self._write(encode(change))
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
            OSError: The file could not be replaced and stays as it was, or that is not sure to last.
        """
        lines = [_HEADER, *map(encode, changes)]
        descriptor = _open(ASIDE, self._directory, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        try:
            with os.fdopen(descriptor, "wb", closefd=False) as file:
                file.writelines(lines)
            os.fsync(descriptor)  # once in a long while, and all of the state hangs on it
            os.rename(ASIDE, NAME, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        except OSError:
            os.close(descriptor)
            _unlink(ASIDE, self._directory)
            raise
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self.lines = len(lines) - 1
        os.fsync(self._directory)

    def flush(self) -> None:
        """Bring what was appended to the disk itself, blocking.

        Raises:
            OSError: It may be lost.
        """
        os.fsync(self._descriptor)

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

    def _give_up_reserve(self) -> None:
        _unlink(RESERVE, self._directory)
        self._has_reserve = False

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)


def size_in(directory: int) -> int:
    """Return the octets of a directory's file of changes, 0 if there is none or not even its first line."""
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


def _unlink(name: str, directory: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)


def _read_all(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    parts = []
    offset = 0
    while offset < size and (part := os.pread(descriptor, size - offset, offset)):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)
