"""The directory of one registry: its lock, its folders, and names that are never followed elsewhere.

Owns the layout of the directory and the descriptors of its folders. Must not know what is in its files.
"""

import contextlib
import fcntl
import io
import os
import stat
import weakref
from pathlib import Path

from mock_registry.spec import Algorithm, Digest

from . import changelog

_LOCK = "lock"
_LAYOUT = "oci-layout"
_INDEX = "index.json"
_NEW_INDEX = "index.json.new"
_OURS = {_INDEX, _LAYOUT, _LOCK, _NEW_INDEX, "blobs", "lost+found", "uploads"} | {
    changelog.ASIDE,
    changelog.NAME,
    changelog.RESERVE,
}
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
CREATE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class DirectoryError(Exception):
    """A directory that a registry cannot work in. The message says which and why."""


class DirectoryInUseError(DirectoryError):
    """Another registry works in the directory, in this process or another one."""


class Place:
    """An open and locked directory.

    Everything inside is reached from a folder's descriptor by one name that is not followed if it is a link:
    nothing outside is read, written or removed through links in the directory.

    Args:
        path: Made if it is missing, with its parents.

    Attributes:
        top: Descriptor of the directory.
        uploads: Descriptor of the folder for open uploads.
        blobs: Descriptors of the folders for content, by algorithm.
        close: Closes the directory and releases its lock; called at the latest when this is dropped.

    Raises:
        DirectoryError: It holds what no registry makes.
        DirectoryInUseError: Another registry has it open.
        OSError: It cannot be made or opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptors: list[int] = []
        self.close = weakref.finalize(self, _close_all, self._descriptors)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self.top = self._keep(os.open(path, _FOLDER))
            self._require_ours()
            self._lock()
            self.uploads = self._folder("uploads", self.top)
            blobs = self._folder("blobs", self.top)
            self.blobs = {algorithm: self._folder(algorithm, blobs) for algorithm in Algorithm}
            self._require_changes()
        except BaseException:
            self.close()
            raise

    def _keep(self, descriptor: int) -> int:
        self._descriptors.append(descriptor)
        return descriptor

    def _require_ours(self) -> None:
        """Refuse a directory with other content, before anything in it is touched."""
        found = set(names(self.top))
        foreign = found - _OURS
        if foreign and changelog.NAME not in found:
            raise DirectoryError(f"{self.path} is not a registry's directory: it holds {min(foreign)}")

    def _require_changes(self) -> None:
        """Refuse content without the changes that tell whose it is: it would all be removed."""
        if not changelog.size_in(self.top) and any(names(folder) for folder in self.blobs.values()):
            raise DirectoryError(f"{self.path} holds content, but nothing in a {changelog.NAME}")

    def _lock(self) -> None:
        # The system releases the lock when the process ends, however it ends.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        lock = self._keep(os.open(_LOCK, flags, 0o600, dir_fd=self.top))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise DirectoryInUseError(
                f"{self.path} is in use by another registry (process {holder})"
            ) from None
        with contextlib.suppress(OSError):  # the number is a courtesy
            os.ftruncate(lock, 0)
            os.pwrite(lock, b"%d\n" % os.getpid(), 0)

    def _folder(self, name: str, parent: int) -> int:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent)
        try:
            return self._keep(os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=parent))
        except NotADirectoryError:
            raise DirectoryError(f"{name} in {self.path} is not a folder") from None

    def blob(self, digest: Digest) -> tuple[str, int]:
        """Return the name of a digest's content and the descriptor of its folder."""
        algorithm, _, encoded = digest.partition(":")
        return encoded, self.blobs[Algorithm(algorithm)]

    def publish(self, index: bytes) -> None:
        """Make the directory an OCI layout for other programs, with this index.

        Raises:
            OSError: The index stays what it was.
        """
        for name, content in ((_LAYOUT, b'{"imageLayoutVersion": "1.0.0"}'), (_INDEX, index)):
            descriptor = os.open(_NEW_INDEX, CREATE, 0o600, dir_fd=self.top)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            os.rename(_NEW_INDEX, name, src_dir_fd=self.top, dst_dir_fd=self.top)


def names(folder: int) -> list[str]:
    """Return the names in a folder."""
    return os.listdir(folder)


def look(name: str, folder: int) -> os.stat_result | None:
    """Return what ``stat`` says of a regular file; ``None`` if the name is missing or something else."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def open_file(name: str, folder: int) -> io.FileIO:
    """Open a file for reading.

    Raises:
        FileNotFoundError: It is missing.
        OSError: It cannot be read, or is not a file.
    """
    return os.fdopen(os.open(name, _READ, dir_fd=folder), "rb", buffering=0)


def _close_all(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())
