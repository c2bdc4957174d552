"""Storage for the life of a process: small content in memory, large content in a spool directory.

Owns hashing while receiving, and the decision what runs on the loop and what in threads. Must not know why an
upload grows or who may read a blob.
"""

import asyncio
import errno
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from mock_registry.spec import Algorithm, Digest

from .hops import Hops
from .protocol import NO_ROOM, Blob, BlobRemoved, Forgetful, StorageFull
from .spool import Spool, SpoolFile

SPOOL_THRESHOLD = 1 << 18
"""Octets up to which content stays in memory: configs and small layers, which are most of all requests."""

_INLINE = 1 << 18
"""Below 256 KiB, hashing on the loop (0.15 ms) is cheaper than a hop to a thread and back."""

_REREAD = 1 << 20


class MemoryBlob:
    """Small content, which is its own reader."""

    __slots__ = ("content", "size")
    file = None

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.size = len(content)

    async def is_intact(self) -> bool:
        """Nobody else can reach it."""
        return True

    def open(self) -> Self:
        """Return the blob itself."""
        return self

    def read(self, offset: int, count: int) -> bytes:
        """Return a slice; the content itself when all of it is asked for."""
        return self.content[offset : offset + count]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return


class FileBlob:
    """Large content, in a file that nobody writes to any more."""

    __slots__ = ("path", "removed", "size")

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        self.removed = False

    async def is_intact(self) -> bool:
        """The spool directory is nobody else's."""
        return True

    def open(self) -> "FileReader":
        """Open the file."""
        if self.removed:
            raise BlobRemoved(self.path)
        return FileReader(self.path.open("rb", buffering=0))


class FileReader:
    """An open file. Reads run on the loop: what was spooled moments ago is in the page cache."""

    __slots__ = ("file",)

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def read(self, offset: int, count: int) -> bytes:
        """Read without moving the file's position."""
        return os.pread(self.file.fileno(), count, offset)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.file.close()


class MemoryUpload:
    """Content that grows in memory up to the threshold, and from there in a spool file."""

    def __init__(self, storage: "MemoryStorage", session: str, algorithm: Algorithm) -> None:
        self._storage = storage
        self._session = session
        self._algorithm = algorithm
        self._hash = hashlib.new(algorithm)
        self._chunks: list[bytes] = []
        self._file: SpoolFile | None = None
        self._charged = 0
        self.size = 0

    def follow(self, algorithm: Algorithm) -> None:
        """Hash with this algorithm while receiving. Without effect once octets are there."""
        if self.size == 0 and algorithm is not self._algorithm:
            self._algorithm = algorithm
            self._hash = hashlib.new(algorithm)

    async def append(self, chunks: Sequence[bytes]) -> None:
        """Hash and store the chunks; large batches are hashed and written in two threads at once."""
        count = sum(map(len, chunks))
        try:
            self._storage.charge(count)
            self._charged += count
            await self._store(chunks, count)
        except OSError as error:
            await self.discard()
            if error.errno in NO_ROOM:
                raise StorageFull(error.errno, "no room left for the upload") from error
            raise
        except asyncio.CancelledError:
            self.size += count  # `together` has seen the threads through: the octets are there
            raise
        self.size += count

    async def _store(self, chunks: Sequence[bytes], count: int) -> None:
        if self._file is None and self.size + count <= self._storage.threshold:
            self._follow(chunks)
            self._chunks.extend(chunks)
            return
        file = self._file or self._spill()
        if count < _INLINE:
            file.append(chunks)
            self._follow(chunks)
        else:
            await self._storage.hops.together(lambda: self._follow(chunks), lambda: file.append(chunks))

    def _spill(self) -> SpoolFile:
        self._file = self._storage.spool.create(self._session)
        self._file.append(self._chunks)
        self._chunks.clear()
        return self._file

    def _follow(self, chunks: Sequence[bytes]) -> None:
        for chunk in chunks:
            self._hash.update(chunk)

    async def digest(self, algorithm: Algorithm) -> Digest:
        """Return the digest; only an unannounced algorithm costs a second reading."""
        if algorithm is self._algorithm:
            return f"{algorithm}:{self._hash.copy().hexdigest()}"
        if self._file is None:
            return f"{algorithm}:{hashlib.new(algorithm, b''.join(self._chunks)).hexdigest()}"
        path = self._file.path
        [encoded] = await self._storage.hops.together(lambda: _hash_file(path, algorithm))
        return f"{algorithm}:{encoded}"

    async def settle(self) -> None:
        """Let go of the descriptor: a session may wait long for its next chunk."""
        if self._file is not None:
            self._file.pause()

    async def commit(self, digest: Digest) -> Blob:
        """Keep the content: the spool file stays where it is, so nothing is copied."""
        blob: Blob
        if self._file is None:
            blob = MemoryBlob(b"".join(self._chunks))
        else:
            self._file.pause()
            blob = FileBlob(self._file.path, self.size)
        self._storage.keep(digest, blob)
        self._file, self._chunks, self._charged = None, [], 0
        return blob

    async def discard(self) -> None:
        """Free the space."""
        if self._file is not None:
            self._file.remove()
        self._storage.charge(-self._charged)
        self._file, self._chunks, self._charged = None, [], 0


class MemoryStorage(Forgetful):
    """Storage that ends with the process.

    Args:
        directory: Where the spool directory is made; ``None`` is the system's place for temporary files.
        threshold: Octets up to which content stays in memory.
        capacity: Octets that fit, content and open uploads together; ``None`` asks only the file system.
    """

    def __init__(
        self,
        *,
        directory: str | os.PathLike[str] | None = None,
        threshold: int = SPOOL_THRESHOLD,
        capacity: int | None = None,
    ) -> None:
        self.spool = Spool(directory)
        self.hops = Hops()
        self.threshold = threshold
        self._capacity = capacity
        self._used = 0
        self._blobs: dict[Digest, Blob] = {}

    @property
    def used(self) -> int:
        """Octets taken by content and open uploads."""
        return self._used

    def charge(self, count: int) -> None:
        """Take room, or give it back with a negative count.

        Raises:
            OSError: With ``ENOSPC``, beyond the capacity.
        """
        if count > 0 and self._capacity is not None and self._used + count > self._capacity:
            raise OSError(errno.ENOSPC, "the capacity of the storage is used up")
        self._used += count

    async def open_upload(self, session: str, algorithm: Algorithm) -> MemoryUpload:
        """Begin an upload. Nothing touches the disk before the threshold."""
        return MemoryUpload(self, session, algorithm)

    def find(self, digest: Digest) -> Blob | None:
        """Return the content with this digest."""
        return self._blobs.get(digest)

    def keep(self, digest: Digest, blob: Blob) -> None:
        """Put content under its digest, in place of an earlier copy."""
        self.remove(digest)
        self._blobs[digest] = blob

    def remove(self, digest: Digest) -> None:
        """Forget content and free its space. Open readers read on."""
        blob = self._blobs.pop(digest, None)
        if blob is not None:
            self.charge(-blob.size)
        if isinstance(blob, FileBlob):
            blob.removed = True
            blob.path.unlink(missing_ok=True)

    async def aclose(self) -> None:
        """Remove the spool directory, and forget what it held."""
        for digest in [digest for digest, blob in self._blobs.items() if isinstance(blob, FileBlob)]:
            self.remove(digest)
        self.spool.close()
        self.hops.close()


def _hash_file(path: Path, algorithm: Algorithm) -> str:
    hashed = hashlib.new(algorithm)
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_REREAD):
            hashed.update(chunk)
    return hashed.hexdigest()
