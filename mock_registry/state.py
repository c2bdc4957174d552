"""What the registry holds: repositories with their tags, manifests and blob links, and upload sessions.

Owns who may see which content: a repository is the scope of everything, while the storage keeps each digest
once. Every change passes through one of the coroutines here, so that a storage which survives a restart can
write it down before it is acknowledged. Must not know of HTTP.
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from .manifest import Kind, Manifest, Successor
from .spec import Algorithm, Digest, is_digest
from .storage import Blob, Storage, Upload


class SessionClosed(Exception):  # noqa: N818 (a state: it was committed, cancelled or lost)
    """The upload session is over."""


class SessionBusy(Exception):  # noqa: N818 (likewise)
    """Another request holds the upload session, and did not end in time."""


class UploadSession:
    """An open upload of one repository.

    Attributes:
        identifier: Unguessable, and fit for a path segment.
        repository: The only repository that the session may be used under.
        short_chunk: The last chunk was below the minimum, so that none may follow (end-5).
    """

    def __init__(self, identifier: str, repository: str, upload: Upload) -> None:
        self.identifier = identifier
        self.repository = repository
        self.upload = upload
        self.closed = False
        self.short_chunk = False
        self._lock = asyncio.Lock()

    @property
    def size(self) -> int:
        """Octets received."""
        return self.upload.size

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
            self._lock.release()


class Repository:
    """One repository's content. Read it freely; change it through `State`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.blobs: set[Digest] = set()
        self.manifests: dict[Digest, Manifest] = {}
        self.tags: dict[str, Digest] = {}

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
        storage: Where octets live.
        identifier: Makes session identifiers.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        identifier: Callable[[], str] = lambda: os.urandom(16).hex(),
    ) -> None:
        self.storage = storage
        self.repositories: dict[str, Repository] = {}
        self.sessions: dict[str, UploadSession] = {}
        self._identifier = identifier
        self._links: Counter[Digest] = Counter()

    def repository(self, name: str | None) -> Repository | None:
        """Return the repository, which exists once content was stored in it."""
        return self.repositories.get(name or "")

    def blob(self, name: str | None, digest: Digest) -> Blob | None:
        """Return a blob of this very repository."""
        repository = self.repository(name)
        return self.storage.find(digest) if repository and digest in repository.blobs else None

    def holders(self, digest: Digest) -> list[str]:
        """Return the names of the repositories that link a blob."""
        return [repository.name for repository in self.repositories.values() if digest in repository.blobs]

    def session(self, name: str | None, identifier: str | None) -> UploadSession | None:
        """Return an open session of this very repository."""
        session = self.sessions.get(identifier or "")
        return session if session and session.repository == name else None

    async def open_session(self, name: str, algorithm: Algorithm) -> UploadSession:
        """Open an upload session."""
        identifier = self._identifier()
        session = UploadSession(identifier, name, await self.storage.open_upload(identifier, algorithm))
        self.sessions[identifier] = session
        return session

    async def close_session(self, session: UploadSession) -> None:
        """End a session and free what it holds, unless it was committed."""
        session.closed = True
        self.sessions.pop(session.identifier, None)
        await session.upload.discard()

    async def commit_session(self, session: UploadSession, digest: Digest) -> None:
        """Turn a session, whose digest was verified, into a blob of its repository."""
        await session.upload.commit(digest)
        await self.link_blob(session.repository, digest)
        await self.close_session(session)

    async def link_blob(self, name: str, digest: Digest) -> None:
        """Show stored content in a repository."""
        repository = self._make(name)
        if digest not in repository.blobs:
            repository.blobs.add(digest)
            self._links[digest] += 1

    async def unlink_blob(self, name: str, digest: Digest) -> None:
        """Hide content from a repository; the last one to let go frees the space."""
        self.repositories[name].blobs.remove(digest)
        self._links[digest] -= 1
        if not self._links[digest]:
            del self._links[digest]
            await self.storage.remove(digest)

    async def put_manifest(self, name: str, manifest: Manifest, tags: Iterable[str]) -> None:
        """Store a manifest, then move the tags to it."""
        repository = self._make(name)
        repository.manifests[manifest.digest] = manifest
        for tag in tags:
            repository.tags[tag] = manifest.digest

    async def delete_manifest(self, name: str, digest: Digest) -> None:
        """Delete a manifest, and every tag on it with it (end-9)."""
        repository = self.repositories[name]
        del repository.manifests[digest]
        for tag in [tag for tag, tagged in repository.tags.items() if tagged == digest]:
            del repository.tags[tag]

    async def delete_tag(self, name: str, tag: str) -> None:
        """Delete a tag; the manifest stays (end-9)."""
        del self.repositories[name].tags[tag]

    def _make(self, name: str) -> Repository:
        return self.repositories.setdefault(name, Repository(name))
