"""Storage for the life of a process: small content in memory, large content in a spool directory.

Owns the spool directory and its files. Must not know why an upload grows or who may read a blob.
"""

import errno
import hashlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from mock_registry.spec import Algorithm, Digest

from .protocol import Blob, BlobRemoved, Storage, Upload, write_all

SPOOL_THRESHOLD = 1 << 18
"""Bytes up to which content stays in memory: configs and small layers, which are most of all requests."""

_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC


class MemoryBlob:
    """Small content, which is its own reader."""

    __slots__ = ("content", "size")
    file = None

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.size = len(content)

    async def is_intact(self) -> bool:
        """Return true: nothing outside this process can change it."""
        return True

    def open(self) -> Self:
        """Return the blob itself."""
        return self

    def read(self, offset: int, count: int) -> bytes:
        """Return a slice; the content itself when all of it is requested."""
        return self.content[offset : offset + count]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return


@dataclass(frozen=True, slots=True)
class FileBlob:
    """Large content, in a file that is no longer written to."""

    path: Path
    size: int

    async def is_intact(self) -> bool:
        """Return true: the spool directory is this process's own."""
        return True

    def open(self) -> "FileReader":
        """Open the file."""
        try:
            return FileReader(self.path.open("rb", buffering=0))
        except FileNotFoundError:
            raise BlobRemoved(self.path) from None


@dataclass(frozen=True, slots=True)
class FileReader:
    """An open file. Reads run on the loop: what was spooled moments ago is in the page cache."""

    file: BinaryIO

    def read(self, offset: int, count: int) -> bytes:
        """Read without moving the file's position."""
        return os.pread(self.file.fileno(), count, offset)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()


class MemoryUpload(Upload):
    """Content that grows in memory up to the threshold, and from there in a spool file."""

    def __init__(self, storage: "MemoryStorage", session: str, algorithm: Algorithm) -> None:
        super().__init__(algorithm)
        self._storage = storage
        self._session = session
        self._chunks: list[bytes] = []
        self._path: Path | None = None
        self._descriptor: int | None = None
        self._charged = 0

    def _writer(self, count: int) -> Callable[[Sequence[bytes]], None]:
        self._storage.charge(count)
        self._charged += count
        if self._path is None:
            if self.size + count <= self._storage.threshold:
                return self._chunks.extend
            self._path = self._storage.spool_path(self._session)
            self._descriptor = os.open(self._path, _APPEND | os.O_CREAT | os.O_EXCL, 0o600)
            write_all(self._descriptor, self._chunks)
            self._chunks = []
        descriptor = self._descriptor
        if descriptor is None:
            descriptor = self._descriptor = os.open(self._path, _APPEND)
        return lambda chunks: write_all(descriptor, chunks)

    def _hash_again(self, algorithm: Algorithm) -> str:
        if self._path is None:
            return hashlib.new(algorithm, b"".join(self._chunks)).hexdigest()
        with self._path.open("rb", buffering=0) as file:
            return hashlib.file_digest(file, algorithm).hexdigest()

    def settle(self) -> None:
        """Close the descriptor: a session may wait long for its next chunk."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    async def commit(self, digest: Digest) -> Blob:
        """Keep the content: the spool file stays where it is, so nothing is copied."""
        self.settle()
        kept = b"".join(self._chunks)
        blob = MemoryBlob(kept) if self._path is None else FileBlob(self._path, self.size)
        self._storage.keep(digest, blob)
        self._path, self._chunks, self._charged = None, [], 0
        return blob

    async def discard(self) -> None:
        """Free the space."""
        self.settle()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self._storage.charge(-self._charged)
        self._path, self._chunks, self._charged = None, [], 0


class MemoryStorage(Storage):
    """Storage that ends with the process.

    Args:
        directory: Where the spool directory is made; ``None`` is the system's place for temporary files.
        threshold: Bytes up to which content stays in memory.
        capacity: Bytes that fit, content and open uploads together; ``None`` asks only the file system.

    Attributes:
        spool: The spool directory, made when first needed and removed at the latest with this storage.
    """

    def __init__(
        self,
        *,
        directory: str | os.PathLike[str] | None = None,
        threshold: int = SPOOL_THRESHOLD,
        capacity: int | None = None,
    ) -> None:
        self.spool: Path | None = None
        self._parent = directory
        self._remove_spool: weakref.finalize[[str, bool], MemoryStorage] | None = None
        self.threshold = threshold
        self._capacity = capacity
        self._used = 0
        self._blobs: dict[Digest, Blob] = {}

    @property
    def used(self) -> int:
        """Bytes taken by content and open uploads."""
        return self._used

    def charge(self, count: int) -> None:
        """Take room, or give it back with a negative count.

        Raises:
            OSError: With ``ENOSPC``, beyond the capacity.
        """
        if count > 0 and self._capacity is not None and self._used + count > self._capacity:
            raise OSError(errno.ENOSPC, "the capacity of the storage is used up")
        self._used += count

    def spool_path(self, name: str) -> Path:
        """Return where to keep a file, and make the spool directory if this is the first."""
        if self.spool is None:
            path = tempfile.mkdtemp(prefix="mock-registry-", dir=self._parent)
            # Not TemporaryDirectory, which warns when a registry is dropped without having been closed.
            self._remove_spool = weakref.finalize(self, shutil.rmtree, path, True)  # noqa: FBT003 (ignore_errors)
            self.spool = Path(path)
        return self.spool / name

    async def open_upload(self, session: str, algorithm: Algorithm) -> MemoryUpload:
        """Begin an upload. Nothing touches the disk below the threshold."""
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
            blob.path.unlink(missing_ok=True)

    async def aclose(self) -> None:
        """Remove the spool directory, and forget what it held."""
        for digest in [digest for digest, blob in self._blobs.items() if isinstance(blob, FileBlob)]:
            self.remove(digest)
        if self._remove_spool is not None:
            self._remove_spool()
        self._remove_spool = self.spool = None
