"""Storage that outlives the process: one copy of each digest, and the changes of the state, in a directory.

Owns the order of steps by which the directory is right after a kill at any moment. Must not know what the
changes mean, nor who may see which content.
"""

import asyncio
import contextlib
import errno
import hashlib
import itertools
import logging
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from mock_registry.spec import Algorithm, Digest, is_digest

from .changelog import ChangeLog, DamagedLogError, is_session
from .files import DirectoryBlob, Library
from .place import CREATE, DirectoryError, Place, look, names, open_file
from .protocol import (
    NO_ROOM,
    Change,
    SessionCommitted,
    SessionEnded,
    SessionOpened,
    Storage,
    StorageFull,
    Upload,
    in_thread,
    together,
    unlink,
    write_all,
)

_log = logging.getLogger(__name__)

_LARGE = 1 << 22
"""Bytes from which freeing a file takes long enough to be done in a thread."""

_ASIDE = (".manifest-", ".freed-")
"""Prefixes of files in the folder of uploads that are not uploads: removed at a start."""

_APPEND = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_WASTE = 1000
"""Outdated lines of changes, above the number of needed ones, that are kept before the file is rewritten."""


class DirectoryStorage(Storage):
    """Storage in a directory that survives ``kill -9`` at any moment.

    Opens and locks the directory at once. The registry that is given this storage closes it; entered again,
    it opens the directory again.

    Args:
        path: The directory, made if it is missing.

    Raises:
        DirectoryError: The directory holds what no registry makes, or its changes are damaged.
        DirectoryInUseError: Another registry has it open.
        OSError: It cannot be made or opened.
    """

    publishes = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._place: Place | None = None
        self._number = itertools.count()
        self._freeing: set[asyncio.Future[None]] = set()
        self.reopen()

    @property
    def place(self) -> Place:
        """The open directory.

        Raises:
            RuntimeError: It is closed.
        """
        if self._place is None:
            raise RuntimeError(f"the storage in {self.path} is closed")
        return self._place

    @property
    def used(self) -> int:
        """Bytes taken by content, manifests included, and by open uploads."""
        place = self.place
        return sum(
            found.st_size
            for folder in (*place.blobs.values(), place.uploads)
            for name in names(folder)
            if (found := look(name, folder)) is not None
        )

    # Opening

    def reopen(self) -> bool:
        """Open and lock the directory, if it is not open."""
        if self._place is not None:
            return False
        with contextlib.ExitStack() as stack:
            place = Place(self.path)
            stack.callback(place.close)
            try:
                changes = ChangeLog(place.top)
                stack.callback(changes.close)
                self._recalled = changes.read()
            except DamagedLogError as error:
                raise DirectoryError(f"{self.path}: {error}") from error
            changes.replenish()
            self._library = Library(place)
            self._changes, self._place = changes, place
            stack.pop_all()
        return True

    def recall(self) -> list[Change]:
        """Return the changes that the directory holds, after finishing commits that a kill interrupted."""
        changes, self._recalled = self._recalled, []
        committed: dict[str, Digest] = {}
        for change in changes:
            if isinstance(change, SessionCommitted):
                committed[change.session] = change.digest
            elif isinstance(change, SessionOpened | SessionEnded):
                committed.pop(change.session, None)
        uploads = self.place.uploads
        for name in names(uploads):
            if name in committed and look(name, uploads) is not None:
                self._move(name, committed[name])
        return changes

    def resume_upload(self, session: str, algorithm: Algorithm) -> "DirectoryUpload":
        """Go on where an earlier process stopped: at the end of what is in the file."""
        found = look(session, self.place.uploads)
        return DirectoryUpload(self, session, algorithm, size=0 if found is None else found.st_size)

    def sweep(self, digests: Collection[Digest], sessions: Collection[str]) -> None:
        """Remove what a killed process had begun, or had not yet removed. Names that it cannot make stay."""
        place = self.place
        for algorithm, folder in place.blobs.items():
            for name in names(folder):
                digest = f"{algorithm}:{name}"
                if is_digest(digest) and digest not in digests:
                    unlink(name, folder)
        for name in names(place.uploads):
            if name not in sessions and (is_session(name) or name.startswith(_ASIDE)):
                unlink(name, place.uploads)

    # Content

    async def open_upload(self, session: str, algorithm: Algorithm) -> "DirectoryUpload":
        """Begin an upload. Its file is made with its first bytes.

        Raises:
            ValueError: The session cannot name a file.
        """
        if not is_session(session):
            raise ValueError(f"not fit to name a file: {session!r}")
        return DirectoryUpload(self, session, algorithm)

    def find(self, digest: Digest) -> DirectoryBlob | None:
        """Return the content with this digest, if there is a file of its name."""
        found = look(*self.place.blob(digest))
        return None if found is None else DirectoryBlob(self._library, digest, found)

    def take(self, session: str, digest: Digest, size: int) -> DirectoryBlob:
        """Make an upload the content of its digest, from the moment the change is written.

        Args:
            session: Names the upload's file.
            digest: Of the file.
            size: Of the upload.

        Raises:
            StorageFull: The change could not be written down.
            OSError: The file does not have this size, or could not be moved.
        """
        uploads, library = self.place.uploads, self._library
        os.utime(session, ns=library.times(digest, size), dir_fd=uploads, follow_symlinks=False)
        stat = os.stat(session, dir_fd=uploads, follow_symlinks=False)
        if stat.st_size != size:
            raise OSError(errno.EIO, f"the upload's file has {stat.st_size} bytes, not {size}")
        self.record(SessionCommitted(session, digest))
        self._move(session, digest)
        if not library.judge(digest, stat):  # a file system that cannot keep such times
            name, folder = self.place.blob(digest)
            stat = os.stat(name, dir_fd=folder, follow_symlinks=False)
            library.learn(digest, stat, intact=True)
        return DirectoryBlob(library, digest, stat)

    def _move(self, name: str, digest: Digest) -> None:
        place = self.place
        blob, folder = place.blob(digest)
        os.rename(name, blob, src_dir_fd=place.uploads, dst_dir_fd=folder)
        self._library.forget(digest)

    def keep_manifest(self, digest: Digest, content: bytes) -> None:
        """Write a manifest aside and move it to its place, over a copy that may be damaged."""
        uploads = self.place.uploads
        name = f".manifest-{next(self._number)}"
        try:
            descriptor = os.open(name, CREATE, 0o600, dir_fd=uploads)
            try:
                write_all(descriptor, [content])
                os.utime(descriptor, ns=self._library.times(digest, len(content)))
            finally:
                os.close(descriptor)
            self._move(name, digest)
        except OSError as error:
            unlink(name, uploads)
            if error.errno in NO_ROOM:
                raise StorageFull(error.errno, "no room left for the manifest") from error
            raise

    def read_manifest(self, digest: Digest) -> bytes:
        """Return what is in a digest's file."""
        with open_file(*self.place.blob(digest)) as file:
            return file.readall()

    def remove(self, digest: Digest) -> None:
        """Take content out of its place, at once, and free it, in a thread if it is large."""
        uploads = self.place.uploads
        name, folder = self.place.blob(digest)
        found = look(name, folder)
        self._library.forget(digest)
        if found is None or found.st_size < _LARGE:
            unlink(name, folder)
            return
        freed = f".freed-{next(self._number)}"
        os.rename(name, freed, src_dir_fd=folder, dst_dir_fd=uploads)
        freeing = in_thread(lambda: unlink(freed, uploads))
        self._freeing.add(freeing)
        freeing.add_done_callback(self._freeing.discard)

    # Changes

    def record(self, change: Change) -> None:
        """Write a change down. From here on it has happened, even if the process is killed."""
        self._changes.append(change)

    async def sync(self) -> None:
        """Wait until what was removed is free."""
        if self._freeing:
            await asyncio.wait(set(self._freeing))
        self._changes.replenish()

    def shorten(self, changes: Iterable[Change], count: int) -> None:
        """Rewrite the changes when most of them are outdated."""
        if self._changes.lines <= 2 * count + _WASTE:
            return
        try:
            self._changes.rewrite(changes)
        except OSError as error:
            _log.warning("%s: the changes could not be rewritten: %s", self.path, error)

    def publish(self, index: bytes) -> None:
        """Show other programs an OCI layout. Nothing of ours depends on it."""
        try:
            if self._place is not None:
                self._place.publish(index)
        except OSError as error:
            _log.warning("%s: the index could not be written: %s", self.path, error)

    async def aclose(self) -> None:
        """Close the directory, all of it as it is."""
        if self._place is None:
            return
        try:
            await self._library.finished()
            await self.sync()
        except OSError as error:
            _log.warning("%s: not all is free: %s", self.path, error)
        self.abandon()

    def abandon(self) -> None:
        """Close the directory as the end of the process does."""
        place, self._place = self.place, None
        self._changes.close()
        place.close()


class DirectoryUpload(Upload):
    """Content that grows in a file, whose size tells the next process where to resume.

    Args:
        storage: Whose directory it is in.
        session: Names the file.
        algorithm: What to hash with while receiving.
        size: Bytes that an earlier process received.
    """

    def __init__(
        self, storage: DirectoryStorage, session: str, algorithm: Algorithm, *, size: int = 0
    ) -> None:
        super().__init__(algorithm, size=size)
        self._storage = storage
        self._session = session
        self._descriptor: int | None = None

    def _writer(self, count: int) -> Callable[[Sequence[bytes]], None]:  # noqa: ARG002 (the file system counts)
        descriptor = self._open()
        return lambda chunks: write_all(descriptor, chunks)

    def _open(self) -> int:
        if self._descriptor is None:
            # A file of this name before the first byte would be left from something unknown.
            new = 0 if self.size else os.O_CREAT | os.O_TRUNC
            folder = self._storage.place.uploads
            self._descriptor = os.open(self._session, _APPEND | new, 0o600, dir_fd=folder)
        return self._descriptor

    def _hash_again(self, algorithm: Algorithm) -> str:
        if not self.size:
            return hashlib.new(algorithm).hexdigest()
        with open_file(self._session, self._storage.place.uploads) as file:
            return hashlib.file_digest(file, algorithm).hexdigest()

    def settle(self) -> None:
        """Close the descriptor: a session may wait long for its next chunk."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    async def commit(self, digest: Digest) -> DirectoryBlob:
        """Move the file to its digest's place.

        Raises:
            StorageFull: There is no room to write this down. The upload stays open.
            OSError: The file is not what was written to it, or cannot be moved.
        """
        if not self.size:
            self._open()  # there is no file yet
        self.settle()
        return self._storage.take(self._session, digest, self.size)

    async def discard(self) -> None:
        """Free the space."""
        self.settle()
        uploads = self._storage.place.uploads
        if self.size < _LARGE:
            unlink(self._session, uploads)
        else:
            await together(lambda: unlink(self._session, uploads))
