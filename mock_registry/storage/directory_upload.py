"""An upload that grows in a file of its own, where the next process finds it.

Owns the file until it is committed or discarded. Must not know what else is in the directory.
"""

import asyncio
import errno
import hashlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mock_registry.spec import Algorithm, Digest

from .directory_blob import DirectoryBlob
from .directory_place import open_file, unlink
from .protocol import NO_ROOM, StorageFull
from .spool import write_all

if TYPE_CHECKING:
    from .directory import DirectoryStorage

_INLINE = 1 << 18
"""Below 256 KiB, hashing and writing on the loop is cheaper than a hop to a thread and back."""

LARGE = 1 << 22
"""Octets from which freeing a file takes long enough to be done in a thread."""

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class DirectoryUpload:
    """Content that grows in a file, which is what tells the next process how far it came.

    Args:
        storage: Whose directory it is.
        session: Its name.
        algorithm: What to hash with while receiving.
        size: Octets that an earlier process received.
    """

    def __init__(
        self, storage: "DirectoryStorage", session: str, algorithm: Algorithm, *, size: int = 0
    ) -> None:
        self._storage = storage
        self._session = session
        self._algorithm = algorithm
        self._hash = None if size else hashlib.new(algorithm)
        self._descriptor: int | None = None
        self._over = False
        self.size = size

    def follow(self, algorithm: Algorithm) -> None:
        """Hash with this algorithm while receiving. Without effect once octets are there."""
        if self.size == 0 and algorithm is not self._algorithm:
            self._algorithm = algorithm
            self._hash = hashlib.new(algorithm)

    async def append(self, chunks: Sequence[bytes]) -> None:
        """Hash and write the chunks; large batches in two threads at once."""
        count = sum(map(len, chunks))
        try:
            descriptor = self._open()
            if count < _INLINE:
                write_all(descriptor, chunks)
                self._follow(chunks)
            else:
                await self._storage.hops.together(
                    lambda: self._follow(chunks), lambda: write_all(descriptor, chunks)
                )
        except OSError as error:
            # The caller discards: only once it is written down that the session is over.
            if error.errno in NO_ROOM:
                raise StorageFull(error.errno, "no room left for the upload") from error
            raise
        except asyncio.CancelledError:
            self.size += count  # `together` has seen the threads through: the octets are there
            raise
        self.size += count

    def _open(self) -> int:
        if self._descriptor is None:
            # A file of this name before the first octet would be left from nobody knows what.
            new = 0 if self.size else os.O_CREAT | os.O_TRUNC
            self._descriptor = os.open(self._session, _FLAGS | new, 0o600, dir_fd=self._storage.place.uploads)
        return self._descriptor

    def _follow(self, chunks: Sequence[bytes]) -> None:
        if self._hash is not None:
            for chunk in chunks:
                self._hash.update(chunk)

    async def digest(self, algorithm: Algorithm) -> Digest:
        """Return the digest; what began in an earlier process or unannounced is read again."""
        if self._hash is not None and algorithm is self._algorithm:
            return f"{algorithm}:{self._hash.copy().hexdigest()}"
        if not self.size:
            return f"{algorithm}:{hashlib.new(algorithm).hexdigest()}"
        [encoded] = await self._storage.hops.together(lambda: self._read_again(algorithm))
        return f"{algorithm}:{encoded}"

    def _read_again(self, algorithm: Algorithm) -> str:
        descriptor = open_file(self._session, self._storage.place.uploads)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            return hashlib.file_digest(file, algorithm).hexdigest()

    async def settle(self) -> None:
        """Let go of the descriptor, having brought the octets to the disk if that is promised."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            try:
                await self._storage.barrier.flush(descriptor)
            finally:
                os.close(descriptor)

    async def commit(self, digest: Digest) -> DirectoryBlob:
        """Move the file to its digest's place.

        Raises:
            StorageFull: There is no room to write this down. The upload goes on to be there.
            OSError: The file is not what was written to it, or cannot be moved.
        """
        if not self.size:
            self._open()  # there is no file yet
        await self.settle()
        uploads, times = self._storage.place.uploads, self._storage.seals.times(digest, self.size)
        os.utime(self._session, ns=times, dir_fd=uploads, follow_symlinks=False)
        found = os.stat(self._session, dir_fd=uploads, follow_symlinks=False)
        if found.st_size != self.size:
            raise OSError(errno.EIO, f"the upload's file has {found.st_size} octets, not {self.size}")
        blob = self._storage.take(self._session, digest, found)
        self._over = True
        return blob

    async def discard(self) -> None:
        """Free the space."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self._over:
            return
        self._over = True
        uploads = self._storage.place.uploads
        if self.size < LARGE:
            unlink(self._session, uploads)
        else:
            await self._storage.hops.together(lambda: unlink(self._session, uploads))
