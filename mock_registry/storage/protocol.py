"""What a storage offers, and the changes of the registry's state that it may write down.

A storage that is to survive a restart writes every change down in `record`, takes part in a commit by itself,
and makes both durable in `settle` and `sync`: nothing is acknowledged to a client before one of them
returned. Methods that are not coroutines never suspend, so that the state and its record change together.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from mock_registry.spec import Algorithm, Digest

from .content import Blob, Upload


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
    """

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
        """Make what was recorded as durable as this storage promises, and wait for space being freed."""

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
