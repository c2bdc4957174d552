"""What a storage offers, whatever keeps the octets.

Owns the protocols and the one error. A storage that is to survive a restart writes every change of the state
down in `record`, takes part in a commit by itself, and makes both durable in `settle` and `sync`: nothing is
acknowledged to a client that has not passed through one of them.

What is no coroutine here never suspends, so that the state and what is written down of it change together.
"""

import errno
from collections.abc import Collection, Iterable, Sequence
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from mock_registry.spec import Algorithm, Digest

from .changes import Change

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors of the system that mean a full disk, or a quota or limit that is used up."""


class StorageFull(OSError):  # noqa: N818 (a state of the storage, answered with 507)
    """No room is left. The upload that met it is discarded, and its space is free before this is answered."""


class BlobRemoved(FileNotFoundError):  # noqa: N818 (what another request did)
    """Content was removed between finding and opening it."""


class Reader(Protocol):
    """Content held open: it can be read to its end even if it is deleted or replaced meanwhile."""

    @property
    def file(self) -> BinaryIO | None:
        """The open file that holds exactly this content, if a file does."""

    def read(self, offset: int, count: int) -> bytes:
        """Return ``count`` octets from ``offset``, fewer at the end."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class Blob(Protocol):
    """Content that is whole and will not change."""

    @property
    def size(self) -> int:
        """Octets."""

    async def is_intact(self) -> bool:
        """Tell whether this is still the content of its digest, as far as the storage can know."""

    def open(self) -> Reader:
        """Hold the content open for reading; the caller closes it by leaving the context.

        Raises:
            BlobRemoved: It has been removed since it was found.
            OSError: It cannot be read, or is no longer what it was.
        """


class Upload(Protocol):
    """Content that still grows. One caller at a time; the session's lock sees to it."""

    @property
    def size(self) -> int:
        """Octets appended so far: the whole truth about where to resume."""

    def follow(self, algorithm: Algorithm) -> None:
        """Hash with this algorithm while receiving. Without effect once octets are there."""

    async def append(self, chunks: Sequence[bytes]) -> None:
        """Hash and store the chunks, in order.

        Raises:
            StorageFull: There is no room. The caller discards the upload: part of the chunks may be in it.
        """

    async def digest(self, algorithm: Algorithm) -> Digest:
        """Return the digest of everything appended, reading it again if another algorithm was followed."""

    async def settle(self) -> None:
        """Make what was appended as durable as this storage promises, before it is acknowledged."""

    async def commit(self, digest: Digest) -> Blob:
        """Keep the upload, whose digest the caller has verified, as content. It ends the upload.

        Content that is there already is replaced by the verified octets, which heals it if it was damaged.
        Once the content is in place, this does not suspend: the caller links it before anyone can remove it.
        """

    async def discard(self) -> None:
        """Free the space. Harmless when done twice, or after a commit."""


class Storage(Protocol):
    """Content by digest, each kept once however many repositories link it, and changes of the state."""

    @property
    def used(self) -> int:
        """Octets taken by content and by open uploads."""

    async def open_upload(self, session: str, algorithm: Algorithm) -> Upload:
        """Begin an upload, to be found again under its session's identifier."""

    def find(self, digest: Digest) -> Blob | None:
        """Return the content with this digest."""

    def keep_manifest(self, digest: Digest, content: bytes) -> None:
        """Keep a manifest's octets for the next start.

        Raises:
            StorageFull: Nothing is kept.
        """

    def read_manifest(self, digest: Digest) -> bytes:
        """Return the octets that were kept for a manifest, unverified.

        Raises:
            OSError: They cannot be read.
        """

    def remove(self, digest: Digest) -> None:
        """Forget content that no repository holds any more. `sync` waits until its space is free."""

    def record(self, change: Change) -> None:
        """Write a change of the state down, before it is made.

        Raises:
            StorageFull: It is not written down, and must not be made.
        """

    async def sync(self) -> None:
        """Make what was recorded as durable as this storage promises, and wait for space being freed."""

    def recall(self) -> Sequence[Change]:
        """Return the changes written down by earlier processes, in order."""

    def resume_upload(self, session: str, algorithm: Algorithm) -> Upload:
        """Go on with an upload that an earlier process began."""

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

    async def aclose(self) -> None:
        """Release the files and directories that belong to this storage alone."""


class Forgetful:
    """What a storage that ends with the process does about the state: nothing."""

    def keep_manifest(self, digest: Digest, content: bytes) -> None:
        """The state has it."""

    def read_manifest(self, digest: Digest) -> bytes:
        """There is no earlier process."""
        raise FileNotFoundError(digest)

    def record(self, change: Change) -> None:
        """Nobody will ask."""

    async def sync(self) -> None:
        """Nothing is promised."""

    def recall(self) -> Sequence[Change]:
        """There is no earlier process."""
        return ()

    def resume_upload(self, session: str, algorithm: Algorithm) -> Upload:  # noqa: ARG002 (a protocol's)
        """There is no earlier process."""
        raise LookupError(session)

    def sweep(self, digests: Collection[Digest], sessions: Collection[str]) -> None:
        """Nothing can be left over."""

    def shorten(self, changes: Iterable[Change], count: int) -> None:
        """Nothing is kept."""

    def publish(self, index: bytes) -> None:
        """Nobody else can look."""

    def reopen(self) -> bool:
        """What is needed is made when it is needed."""
        return False
