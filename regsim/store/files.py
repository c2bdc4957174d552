"""Local files, as stores need them: bounded reads, files written aside, locks, and errors with a path.

Owns the rule "complete or absent": a file is written under a name of its own in the same file system,
locked while its writer lives, and renamed when it is whole. Must not know what the files mean. All of it
blocks, so callers run it in a worker thread.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import secrets
import shutil
import stat
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from regsim.errors import ContentError, LocalFileError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Names of files being written begin with this. One that is not locked may be deleted.
ASIDE = ".regsim-aside-"

_PIECE = 256 * 1024
_LOCK_SECONDS = 30.0
_LOCK_POLL_SECONDS = 0.005

_HINTS = {
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "a part of the path is a file",
    errno.EISDIR: "a directory is in the way",
    errno.EACCES: "check the permissions of the file and its directory",
    errno.EPERM: "check the permissions of the file and its directory",
    errno.EROFS: "the file system is mounted read-only",
    errno.ENOSPC: "free some space on that disk, or choose another place",
    errno.EDQUOT: "your quota on that disk is used up; choose another place",
    errno.EFBIG: "the file would be larger than this process or file system allows",
    errno.ELOOP: "replace the symbolic link by the file itself",
    errno.ENAMETOOLONG: "choose a shorter path",
}


def file_error(error: OSError, path: Path, doing: str) -> LocalFileError:
    """Return what an operating system's error means to a user.

    Args:
        error: what the system said.
        path: the file that the user knows, which may differ from the one that the system names.
        doing: what was attempted, as in `cannot {doing} PATH`.
    """
    reason = os.strerror(error.errno) if error.errno else str(error)
    return LocalFileError(f"cannot {doing} {path}: {reason}", hint=_HINTS.get(error.errno or 0, ""))


@contextmanager
def file_errors(path: Path, doing: str) -> Iterator[None]:
    """Translate every `OSError` of the block into a `LocalFileError` about `path`."""
    try:
        yield
    except OSError as error:
        raise file_error(error, path, doing) from error


def open_regular(path: Path, *, follow: bool = False) -> io.FileIO:
    """Open a regular file for reading.

    Args:
        path: the file.
        follow: whether a symbolic link may stand there instead.

    Raises:
        FileNotFoundError: there is nothing; left to the caller, for whom it may be no error.
        LocalFileError: it is a link, a directory, a pipe or a device, or it cannot be read.
    """
    # Without O_NONBLOCK, opening a pipe at that place would block for ever.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        file = io.FileIO(os.open(path, flags), "rb")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise file_error(error, path, "read") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise LocalFileError(f"cannot read {path}: it is not a regular file")
    return file


def regular_size(path: Path) -> int | None:
    """Return the size in bytes of a regular file, None where there is nothing.

    Raises:
        LocalFileError: something else stands there, or that cannot be determined.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise file_error(error, path, "read") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "not a regular file"
        raise LocalFileError(f"cannot use {path}: it is {kind}", hint="put the file itself there")
    return status.st_size


def read_bounded(path: Path, limit: int) -> bytes:
    """Return the whole of a small file.

    Raises:
        FileNotFoundError: there is none.
        LocalFileError: it cannot be read.
        ContentError: it has more than `limit` bytes.
    """
    with open_regular(path, follow=True) as file:
        pieces, room = [], limit + 1
        with file_errors(path, "read"):
            # Python makes room for all that is requested, however small the file.
            while room > 0 and (piece := file.read(min(room, _PIECE))):
                pieces.append(piece)
                room -= len(piece)
    if room <= 0:
        raise ContentError(f"{path} has more than {limit} bytes and is not read")
    return b"".join(pieces)


class AsideFile(io.FileIO):
    """A file being written aside, which becomes `target` when it is whole, or never existed.

    It is locked while it is open, so that `sweep` tells a living writer from a dead one. Each `write`
    takes all bytes.

    Args:
        directory: where to write; in the same file system as the target.
        kept: name of a file that outlives its writer, and that the next writer continues.

    Attributes:
        outlives: it is such a file.

    Raises:
        OSError: another writer has the `kept` one, or something other than a file is there.
    """

    def __init__(self, directory: Path, *, kept: str | None = None) -> None:
        self.outlives = kept is not None
        while True:
            self._aside = directory / kept if kept is not None else aside_path(directory)
            if kept is None:
                super().__init__(self._aside, "xb")
            else:
                flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                super().__init__(os.open(self._aside, flags, 0o666), "rb+")
                if not stat.S_ISREG(os.fstat(self.fileno()).st_mode):
                    self.close()
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            try:
                # The sweeper may have been there between creating and locking: then take another name.
                fcntl.flock(self.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(self.fileno()).st_nlink:
                    return
            except BlockingIOError:
                if kept is not None:
                    self.close()
                    raise
            self.close()

    def restart(self, position: int) -> None:
        """Drop everything behind a position, and go on writing there."""
        self.truncate(position)
        self.seek(position)

    def write(self, data: bytes | memoryview, /) -> int:  # type: ignore[override]
        """Write all of `data`; unlike its base, never a part."""
        rest = memoryview(data)
        while rest:
            rest = rest[super().write(rest) :]
        return len(data)

    def commit(self, target: Path, *, durable: bool) -> None:
        """Let the file appear as `target`, in place of whatever file is there.

        Args:
            target: its place.
            durable: whether the bytes must outlive a power cut, and not only this process.
        """
        if durable:
            os.fsync(self.fileno())
        self._aside.replace(target)
        self.close()

    def link(self, target: Path) -> None:
        """Let the file appear as `target` too, for which nothing may stand there.

        Raises:
            FileExistsError: something does.
        """
        os.link(self._aside, target)

    def discard(self, *, keep: bool = False) -> None:
        """Delete the file unless it was committed. Any number of calls are harmless.

        Args:
            keep: leave one that is to outlive its writer where it is.
        """
        if self.closed:
            return
        if not (keep and self.outlives):
            with suppress(OSError):
                self._aside.unlink()
        self.close()


def write_whole(path: Path, raw: bytes, *, durable: bool) -> None:
    """Replace a small file by other bytes, in one step."""
    file = AsideFile(path.parent)
    try:
        file.write(raw)
        file.commit(path, durable=durable)
    finally:
        file.discard()


def aside_path(directory: Path) -> Path:
    """Return a fresh name for what is written aside in `directory`."""
    return directory / f"{ASIDE}{secrets.token_hex(8)}"


def sweep(directory: Path) -> None:
    """Delete what dead writers left aside in `directory`. What cannot be deleted stays."""
    for path in directory.glob(f"{ASIDE}*"):
        remove_unlocked(path)


def remove_unlocked(path: Path) -> None:
    """Delete a file or directory that no process is writing to, if it can be deleted."""
    with suppress(OSError):
        lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if try_lock(lock) and path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif try_lock(lock):
                path.unlink()
        finally:
            os.close(lock)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of an existing file, against other processes and other threads.

    Raises:
        LocalFileError: it was locked elsewhere for 30 s.
    """
    with path.open("r+b") as file:
        if not _wait_for_lock(file.fileno(), fcntl.LOCK_EX, _LOCK_SECONDS):
            raise LocalFileError(
                f"cannot lock {path}: another process has held it for {_LOCK_SECONDS:.0f} s",
                hint="wait for that process, or end it",
            )
        yield


@contextmanager
def in_use(directory: Path, *, alone: bool, seconds: float = _LOCK_SECONDS) -> Iterator[None]:
    """Say that a directory's content is being used: by several at once, or by one that is alone with it.

    The directory itself is locked, so that nothing is added to it.

    Args:
        directory: an existing one.
        alone: an exclusive lock; else a shared one.
        seconds: how long to wait for others.

    Raises:
        LocalFileError: others used it all that time, or it cannot be opened.
    """
    with file_errors(directory, "lock"):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not _wait_for_lock(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH, seconds):
            raise LocalFileError(
                f"{directory} is in use: another process is writing or removing images there",
                hint="try again when that is done",
            )
        yield
    finally:
        os.close(descriptor)


def _wait_for_lock(descriptor: int, lock: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (got := try_lock(descriptor, lock)) and time.monotonic() < deadline:
        time.sleep(_LOCK_POLL_SECONDS)
    return got


def try_lock(descriptor: int, lock: int = fcntl.LOCK_EX) -> bool:
    """Lock an open file or directory (flock(2)), and return whether no other process had it locked."""
    try:
        fcntl.flock(descriptor, lock | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
