"""What the registry holds: repositories with their tags, manifests and blob links, and upload sessions.

Owns who may see which content: a repository is the scope of everything, while the storage keeps each digest
once. Every change passes through one of the coroutines here: the storage writes it down, it is made, both
without a pause in between, and before it is acknowledged the storage is asked to make it last. Must not know
of HTTP.
"""

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from .manifest import Kind, Manifest, Successor
from .spec import Algorithm, Digest, is_digest
from .storage.protocol import (
    Blob,
    BlobLinked,
    BlobUnlinked,
    ManifestDeleted,
    ManifestStored,
    SessionEnded,
    SessionOpened,
    Storage,
    TagDeleted,
    Upload,
)


class SessionClosed(Exception):  # noqa: N818 (a state: it was committed, cancelled or lost)
    """The upload session is over."""


class SessionBusy(Exception):  # noqa: N818 (a state too)
    """Another request holds the upload session, and did not end in time."""


@dataclass(eq=False)
class UploadSession:
    """An open upload of one repository.

    Attributes:
        identifier: Unguessable, and fit for a path segment.
        repository: The only repository that the session may be used under.
        algorithm: What its bytes are hashed with while they arrive.
        short_chunk: The last chunk was below the minimum, so that none may follow (end-5).
        used: When a request last had it, in seconds of the clock.
    """

    identifier: str
    repository: str
    upload: Upload
    algorithm: Algorithm
    clock: Callable[[], float]
    closed: bool = False
    short_chunk: bool = False
    used: float = field(init=False)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.used = self.clock()

    @property
    def size(self) -> int:
        """Bytes received."""
        return self.upload.size

    @property
    def busy(self) -> bool:
        """A request has the session."""
        return self._lock.locked()

    @asynccontextmanager
    async def hold(self, patience: float) -> AsyncIterator[None]:
        """Use the session alone.

        A client that lost its connection comes back before the loss is noticed here; waiting a little for the
        broken request to end makes the offset that it is told final.

        Args:
            patience: Seconds to wait for another request.

        Raises:
            SessionBusy: The other request did not end in time.
            SessionClosed: It ended by closing the session.
        """
        try:
            async with asyncio.timeout(patience if self._lock.locked() else None):
                await self._lock.acquire()
        except TimeoutError:
            raise SessionBusy(self.identifier) from None
        try:
            if self.closed:
                raise SessionClosed(self.identifier)
            yield
        finally:
            self.used = self.clock()
            self._lock.release()


@dataclass(eq=False)
class Repository:
    """One repository's content. Read it freely; change it through `State`.

    Attributes:
        blobs: The blobs that it holds, each with the time at which it was last pushed, mounted, or told to
            be there, in seconds of the clock.
        lost: Manifests that could not be read at the start, with their media types: absent until they are
            pushed again, but not forgotten.
    """

    name: str
    blobs: dict[Digest, float] = field(default_factory=dict)
    lost: dict[Digest, str] = field(default_factory=dict)
    manifests: dict[Digest, Manifest] = field(default_factory=dict)
    tags: dict[str, Digest] = field(default_factory=dict)

    def resolve(self, reference: str) -> Manifest | None:
        """Return the manifest that a tag or digest names."""
        return self.manifests.get(reference if is_digest(reference) else self.tags.get(reference, ""))

    def missing(self, successors: Iterable[Successor]) -> list[Successor]:
        """Return the successors that this repository lacks."""
        return [successor for successor in successors if not self._has(successor)]

    def _has(self, successor: Successor) -> bool:
        if successor.kind is not Kind.MANIFEST and successor.digest in self.blobs:
            return True
        return successor.kind is not Kind.BLOB and successor.digest in self.manifests

    def referrers(self, subject: Digest) -> list[dict[str, Any]]:
        """Return the descriptors of the manifests that name ``subject``, in order of arrival."""
        return [manifest.descriptor() for manifest in self.manifests.values() if manifest.subject == subject]


class State:
    """All repositories and upload sessions.

    Args:
        storage: Where bytes live.
        clock: Seconds, from any origin, that never go back.
        session_lifetime: Seconds without a request after which a session ends; ``None`` keeps it.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        clock: Callable[[], float] = time.monotonic,
        session_lifetime: float | None = None,
    ) -> None:
        self.storage = storage
        self.clock = clock
        self.session_lifetime = session_lifetime
        self.repositories: dict[str, Repository] = {}
        self.sessions: dict[str, UploadSession] = {}
        self.make_identifier: Callable[[], str] = lambda: os.urandom(16).hex()
        self._holders: Counter[Digest] = Counter()

    @property
    def digests(self) -> frozenset[Digest]:
        """What some repository holds, as a blob or as a manifest."""
        return frozenset(self._holders)

    def repository(self, name: str | None) -> Repository | None:
        """Return the repository, which exists once content was stored in it."""
        return self.repositories.get(name or "")

    def blob(self, name: str | None, digest: Digest) -> Blob | None:
        """Return a blob of this repository."""
        repository = self.repository(name)
        return self.storage.find(digest) if repository and digest in repository.blobs else None

    async def intact_blob(self, name: str | None, digest: Digest) -> Blob | None:
        """Return a blob of this repository, to be served or reported as present.

        One that is damaged counts as absent, so that the next push heals it.
        """
        blob = self.blob(name, digest)
        if blob is None or not await blob.is_intact():
            return None
        repository = self.repository(name)
        if repository is None or digest not in repository.blobs:
            return None  # deleted while it was inspected
        repository.blobs[digest] = self.clock()
        return blob

    def holders(self, digest: Digest) -> list[str]:
        """Return the names of the repositories that link a blob."""
        return [repository.name for repository in self.repositories.values() if digest in repository.blobs]

    # Sessions

    async def session(self, name: str | None, identifier: str | None) -> UploadSession | None:
        """Return an open session of this repository; one that has expired is closed instead."""
        session = self.sessions.get(identifier or "")
        if session is None or session.repository != name:
            return None
        if self.has_expired(session):
            await self.close_session(session)
            return None
        return session

    def has_expired(self, session: UploadSession) -> bool:
        """Tell whether a session was not used for too long."""
        if self.session_lifetime is None or session.busy:
            return False
        return self.clock() - session.used >= self.session_lifetime

    async def open_session(self, name: str, algorithm: Algorithm) -> UploadSession:
        """Open an upload session."""
        identifier = self.make_identifier()
        upload = await self.storage.open_upload(identifier, algorithm)
        self.storage.record(SessionOpened(identifier, name, algorithm))
        session = self.adopt_session(identifier, name, algorithm, upload)
        await self.storage.sync()
        return session

    def adopt_session(
        self, identifier: str, name: str, algorithm: Algorithm, upload: Upload
    ) -> UploadSession:
        """Take in a session that is written down already."""
        session = UploadSession(identifier, name, upload, algorithm, self.clock)
        self.sessions[identifier] = session
        return session

    async def close_session(self, session: UploadSession) -> None:
        """End a session and free what it holds, unless it was committed."""
        if not session.closed:
            self.storage.record(SessionEnded(session.identifier))
            self._forget(session)
        await session.upload.discard()
        await self.storage.sync()

    def _forget(self, session: UploadSession) -> None:
        session.closed = True
        self.sessions.pop(session.identifier, None)

    async def commit_session(self, session: UploadSession, digest: Digest) -> None:
        """Turn a session, whose digest was verified, into a blob of its repository.

        Raises:
            StorageFull: The session is over, and what it held is free.
        """
        try:
            await session.upload.commit(digest)
        except OSError:
            # It may be written down already: what then cannot be done must not be found done at a start.
            repository = self.repository(session.repository)
            if repository is None or digest not in repository.blobs:
                with contextlib.suppress(OSError):  # else the next start finds a link to nothing: 404
                    self.storage.record(BlobUnlinked(session.repository, digest))
            await self.close_session(session)
            raise
        self._link(session.repository, digest)
        self._forget(session)
        await self.storage.sync()

    # Content

    async def link_blob(self, name: str, digest: Digest) -> None:
        """Show stored content in a repository."""
        repository = self.repository(name)
        if repository is None or digest not in repository.blobs:
            self.storage.record(BlobLinked(name, digest))
        self._link(name, digest)
        await self.storage.sync()

    def _link(self, name: str, digest: Digest) -> None:
        repository = self._make(name)
        if digest not in repository.blobs:
            self._holders[digest] += 1
        repository.blobs[digest] = self.clock()

    async def unlink_blob(self, name: str, digest: Digest) -> None:
        """Hide content from a repository; the last one to do so frees the space."""
        self.let_go(name, digest)
        await self.storage.sync()

    def let_go(self, name: str, digest: Digest) -> None:
        """Hide content from a repository, at once; the space is free after the storage's next `sync`."""
        repository = self.repositories[name]
        self.storage.record(BlobUnlinked(name, digest))
        del repository.blobs[digest]
        self._release(digest)

    def _release(self, digest: Digest) -> None:
        self._holders[digest] -= 1
        if not self._holders[digest]:
            del self._holders[digest]
            self.storage.remove(digest)

    async def put_manifest(self, name: str, manifest: Manifest, tags: Iterable[str]) -> None:
        """Store a manifest, then move the tags to it."""
        tags = tuple(tags)
        self.storage.keep_manifest(manifest.digest, manifest.content)
        try:
            self.storage.record(ManifestStored(name, manifest.digest, manifest.media_type, tags))
        except OSError:
            if manifest.digest not in self._holders:
                self.storage.remove(manifest.digest)
            raise
        repository = self._make(name)
        if repository.lost.pop(manifest.digest, None) is None and manifest.digest not in repository.manifests:
            self._holders[manifest.digest] += 1
        repository.manifests[manifest.digest] = manifest
        for tag in tags:
            repository.tags[tag] = manifest.digest
        await self.storage.sync()

    async def delete_manifest(self, name: str, digest: Digest) -> None:
        """Delete a manifest, and every tag on it with it (end-9)."""
        repository = self.repositories[name]
        self.storage.record(ManifestDeleted(name, digest))
        del repository.manifests[digest]
        for tag in [tag for tag, tagged in repository.tags.items() if tagged == digest]:
            del repository.tags[tag]
        self._release(digest)
        await self.storage.sync()

    async def delete_tag(self, name: str, tag: str) -> None:
        """Delete a tag; the manifest stays (end-9)."""
        self.storage.record(TagDeleted(name, tag))
        del self.repositories[name].tags[tag]
        await self.storage.sync()

    def _make(self, name: str) -> Repository:
        return self.repositories.setdefault(name, Repository(name))

    def adopt(self, repository: Repository) -> None:
        """Take in a repository that is written down already."""
        self.repositories[repository.name] = repository
        self._holders.update([*repository.blobs, *repository.manifests, *repository.lost])
        repository.blobs = dict.fromkeys(repository.blobs, self.clock())

    def clear(self) -> None:
        """Forget everything, as before what is written down is read."""
        self.repositories.clear()
        self.sessions.clear()
        self._holders.clear()
