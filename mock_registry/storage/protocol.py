"""What a storage offers: content that is whole, uploads that grow, and a record of the state's changes.

Owns hashing while receiving, and the choice of what runs on the event loop and what in threads. Must not know
where bytes are kept, why an upload grows, or who may read a blob.

A storage that is to survive a restart writes every change down in `record`, and takes part in a commit
itself: nothing is acknowledged to a client before that. Methods that are not coroutines never suspend, so
that the state and its record change together.
"""

import asyncio
import contextlib
import errno
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol, Self, TypeAlias, TypeVar

from mock_registry.spec import Algorithm, Digest

T = TypeVar("T")

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors of the system that mean a full disk, or a quota or limit that is used up."""

_INLINE = 1 << 18
"""Below 256 KiB, hashing and writing on the loop (0.15 ms) is cheaper than a hop to a thread and back."""


class StorageFull(OSError):  # noqa: N818 (a state of the storage, answered with 507)
    """No room is left. The upload that met it is discarded, and its space is free before this is answered."""


class BlobRemoved(FileNotFoundError):  # noqa: N818 (what another request did)
    """Content was removed between finding and opening it."""


class Reader(Protocol):
    """Content held open: it can be read to its end even if it is deleted or replaced meanwhile."""

    @property
    def file(self) -> BinaryIO | None:
        """The open file that holds exactly this content; ``None`` if it is in memory."""

    def read(self, offset: int, count: int) -> bytes:
        """Return ``count`` bytes from ``offset``, fewer at the end."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...


class Blob(Protocol):
    """Content that is whole and will not change."""

    @property
    def size(self) -> int:
        """Bytes."""

    async def is_intact(self) -> bool:
        """Tell whether this is still the content of its digest, as far as the storage can know."""

    def open(self) -> Reader:
        """Hold the content open for reading; the caller closes it by leaving the context.

        Raises:
            BlobRemoved: It has been removed since it was found.
            OSError: It cannot be read, or has been changed.
        """


def in_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Begin work in one of the event loop's threads, and return a future for its result."""
    return asyncio.get_running_loop().run_in_executor(None, work)


async def together(*works: Callable[[], T]) -> list[T]:
    """Run blocking work in threads, at once, and wait for all of it, even when cancelled meanwhile.

    Hashing and writing each release the interpreter's lock; side by side they take as long as the slower.
    """
    futures = [in_thread(work) for work in works]
    try:
        await asyncio.wait(futures)
    except asyncio.CancelledError:
        await asyncio.wait(futures)  # threads cannot be stopped, so their effect must be known
        for future in futures:
            future.result()
        raise
    return [future.result() for future in futures]


class Upload(ABC):
    """Content that still grows. One caller at a time: the session's lock ensures it.

    Args:
        algorithm: What to hash with while receiving.
        size: Bytes that an earlier process received.

    Attributes:
        size: Bytes appended so far, which is where a client resumes.
    """

    def __init__(self, algorithm: Algorithm, *, size: int = 0) -> None:
        self._algorithm = algorithm
        self._hash = None if size else hashlib.new(algorithm)
        self.size = size

    def follow(self, algorithm: Algorithm) -> None:
        """Hash with this algorithm while receiving. Without effect after the first bytes."""
        if self.size == 0 and algorithm is not self._algorithm:
            self._algorithm = algorithm
            self._hash = hashlib.new(algorithm)

    async def append(self, chunks: Sequence[bytes]) -> None:
        """Hash and store the chunks, in order; large batches in two threads at once.

        Raises:
            StorageFull: There is no room. The caller discards the upload: part of the chunks may be in it.
        """
        count = sum(map(len, chunks))
        try:
            write = self._writer(count)
            if count < _INLINE:
                write(chunks)
                self._update(chunks)
            else:
                await together(lambda: self._update(chunks), lambda: write(chunks))
        except OSError as error:
            if error.errno in NO_ROOM:
                raise StorageFull(error.errno, "no room left for the upload") from error
            raise
        except asyncio.CancelledError:
            self.size += count  # `together` has waited for the threads: the bytes are there
            raise
        self.size += count

    def _update(self, chunks: Sequence[bytes]) -> None:
        if self._hash is not None:
            for chunk in chunks:
                self._hash.update(chunk)

    async def digest(self, algorithm: Algorithm) -> Digest:
        """Return the digest of all bytes; they are read again if another algorithm was followed."""
        if self._hash is not None and algorithm is self._algorithm:
            return f"{algorithm}:{self._hash.copy().hexdigest()}"
        [encoded] = await together(lambda: self._hash_again(algorithm))
        return f"{algorithm}:{encoded}"

    @abstractmethod
    def _writer(self, count: int) -> Callable[[Sequence[bytes]], None]:
        """Make ready for ``count`` more bytes, and return what writes them, in any thread.

        Raises:
            OSError: There is no room for them, or the file cannot be opened.
        """

    @abstractmethod
    def _hash_again(self, algorithm: Algorithm) -> str:
        """Return the hexadecimal digest of all bytes, in a thread."""

    @abstractmethod
    def settle(self) -> None:
        """Close the descriptor: a session may wait long for its next chunk."""

    @abstractmethod
    async def commit(self, digest: Digest) -> Blob:
        """Keep the upload, whose digest the caller has verified, as content. It ends the upload.

        Content of that digest is replaced by the verified bytes, which repairs it if it was damaged. After
        the content is in place, this does not suspend: the caller links it before anyone can remove it.
        """

    @abstractmethod
    async def discard(self) -> None:
        """Free the space. Harmless when done twice, or after a commit."""


def write_all(descriptor: int, chunks: Sequence[bytes]) -> None:
    """Write all the chunks, at most 1,024 of them.

    Raises:
        OSError: As the system says; part of the chunks may be written.
    """
    rest = sum(map(len, chunks))
    while rest:
        written = os.writev(descriptor, chunks)
        rest -= written
        if rest:
            chunks = [b"".join(chunks)[written:]]


def unlink(name: str, folder: int) -> None:
    """Remove a name, unless it is missing or a folder; what a link points to stays."""
    with contextlib.suppress(FileNotFoundError, IsADirectoryError):
        os.unlink(name, dir_fd=folder)


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """A repository got an upload session."""

    session: str
    repository: str
    algorithm: Algorithm


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """An upload session ended without a blob: cancelled, expired or failed."""

    session: str


@dataclass(frozen=True, slots=True)
class SessionCommitted:
    """What a session received has this digest, and its repository holds it. The session is over."""

    session: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class RepositoryMade:
    """The repository exists, even if it holds nothing any more."""

    repository: str


@dataclass(frozen=True, slots=True)
class BlobLinked:
    """A repository holds a blob that was stored before."""

    repository: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class BlobUnlinked:
    """A repository no longer holds a blob."""

    repository: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class ManifestStored:
    """A repository holds a manifest, and these tags point to it, perhaps besides others."""

    repository: str
    digest: Digest
    media_type: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ManifestDeleted:
    """A repository no longer holds a manifest, nor any tag that pointed to it."""

    repository: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class TagDeleted:
    """A repository no longer has a tag."""

    repository: str
    tag: str


Change: TypeAlias = (
    SessionOpened
    | SessionEnded
    | SessionCommitted
    | RepositoryMade
    | BlobLinked
    | BlobUnlinked
    | ManifestStored
    | ManifestDeleted
    | TagDeleted
)


class Storage:
    """Content by digest, each kept once however many repositories link it.

    What concerns changes of the state does nothing here: it is for storages that survive the process.

    Attributes:
        publishes: Whether `publish` shows anything.
    """

    publishes = False

    @property
    def used(self) -> int:
        """Bytes taken by content and by open uploads."""
        raise NotImplementedError

    async def open_upload(self, session: str, algorithm: Algorithm) -> Upload:
        """Begin an upload, which can be found again by its session's identifier."""
        raise NotImplementedError

    def find(self, digest: Digest) -> Blob | None:
        """Return the content with this digest."""
        raise NotImplementedError

    def remove(self, digest: Digest) -> None:
        """Forget content that no repository holds any more. `sync` waits until its space is free."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Release the files and directories that belong to this storage alone."""
        raise NotImplementedError

    def keep_manifest(self, digest: Digest, content: bytes) -> None:
        """Keep a manifest's bytes for the next start.

        Raises:
            StorageFull: Nothing is kept.
        """

    def read_manifest(self, digest: Digest) -> bytes:
        """Return the bytes that were kept for a manifest, unverified.

        Raises:
            OSError: They cannot be read.
        """
        raise FileNotFoundError(digest)

    def record(self, change: Change) -> None:
        """Write a change of the state down, before it is made.

        Raises:
            StorageFull: It is not written down, and must not be made.
        """

    async def sync(self) -> None:
        """Wait until the space of what was removed is free."""

    def recall(self) -> Sequence[Change]:
        """Return the changes written down by earlier processes, in order."""
        return ()

    def resume_upload(self, session: str, algorithm: Algorithm) -> Upload:  # noqa: ARG002 (for storages that do)
        """Go on with an upload that an earlier process began.

        Raises:
            LookupError: This storage keeps none.
        """
        raise LookupError(session)

    def sweep(self, digests: Collection[Digest], sessions: Collection[str]) -> None:
        """Free what belongs to neither the content nor the sessions that the state has after a start."""

    def shorten(self, changes: Iterable[Change], count: int) -> None:
        """Keep these ``count`` changes, which make the same state, if far more are kept now."""

    def publish(self, index: bytes) -> None:
        """Show other programs what the registry holds, as the ``index.json`` of an OCI layout."""

    def reopen(self) -> bool:
        """Take up again what `aclose` released.

        Returns:
            Whether the state must be read again.
        """
        return False
