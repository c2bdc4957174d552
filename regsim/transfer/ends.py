"""The two ends of a transfer, as the asyncio driver sees them: a store, a registry, or a plan over one.

Stores and repositories become the same few calls, each of which is handed the account that its cost goes to.
A plan asks the real ends, and writes into `HeldSets` only, where later steps of it find what they would have
written. Decides nothing: driver and decisions are the same, so a plan decides as the transfer would.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from regsim.core.actions import FetchConfig, MountAnswer
from regsim.core.config import MAX_CONFIG_SIZE
from regsim.core.ledger import Evidence
from regsim.core.manifest import MAX_MANIFEST_SIZE
from regsim.core.selection import choosing
from regsim.errors import RegistryError
from regsim.registry.session import UploadSession
from regsim.store.memory import BytesContent
from regsim.store.protocols import ChainKeeper
from regsim.store.verify import read_all

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from regsim.core import Descriptor, Digest
    from regsim.core.account import Account
    from regsim.core.actions import CheckBlob, CheckHolder, Mount, PutManifest
    from regsim.core.holdings import HeldSets
    from regsim.core.selection import Choice, Selection
    from regsim.registry.repository import Repository
    from regsim.store.protocols import Content, Fetcher, Store


class Source(Protocol):
    """Where content is read from. `remote` tells whether reading it costs wire bytes."""

    @property
    def remote(self) -> bool:
        """Whether this is a registry."""

    async def resolve(self, reference: str, account: Account) -> Descriptor | None:
        """Return what a tag or digest names, None where it is absent."""

    async def manifest(self, descriptor: Descriptor, account: Account) -> bytes:
        """Return the verified bytes of a manifest."""

    def content(self, descriptor: Descriptor, account: Account) -> Content:
        """Return the content that a descriptor names."""


class Destination(Protocol):
    """Where content is written to. `remote` tells whether writing it costs wire bytes."""

    @property
    def remote(self) -> bool:
        """Whether this is a registry."""

    async def find(self, reference: str, account: Account) -> Digest | None:
        """Return the digest of the manifest that a tag or digest names here."""

    async def manifest(self, descriptor: Descriptor, account: Account) -> bytes:
        """Return the verified bytes of a manifest that is here."""

    async def has(self, check: CheckBlob) -> Evidence | None:
        """Return how it is known that a blob is here, None if it is not."""

    async def is_held_by(self, check: CheckHolder) -> bool:
        """Tell whether another repository of this registry is seen to hold a blob."""

    async def mount(self, action: Mount) -> MountAnswer:
        """Try to link a blob from another repository."""

    async def put(self, content: Content, session: object | None, account: Account) -> Evidence | None:
        """Store a blob. Return the evidence if another client stored it first, else None."""

    async def put_manifest(self, action: PutManifest) -> None:
        """Store a manifest, and then let the tag name it."""

    async def abandon(self, session: object, account: Account) -> None:
        """Give up a session that nothing is going to be sent to."""


async def select(source: Source, selection: Selection, choice: Choice, name: str) -> None:
    """Read of a source what a choice depends on; see `choosing` for the arguments and the errors."""
    life = choosing(selection, choice, name)
    raw: bytes | None = None
    with suppress(StopIteration):
        while True:
            action = life.send(raw) if raw is not None else next(life)
            descriptor, account = action.descriptor, action.account
            if isinstance(action, FetchConfig):
                raw = await read_all(source.content(descriptor, account), limit=MAX_CONFIG_SIZE)
            else:
                raw = await source.manifest(descriptor, account)
                account.held += len(raw) if source.remote else 0


class LocalSource:
    """A store that is read from: a push's source."""

    remote = False

    def __init__(self, store: Fetcher) -> None:
        self._store = store

    async def resolve(self, reference: str, account: Account) -> Descriptor | None:  # noqa: ARG002, D102
        return await self._store.resolve(reference)

    async def manifest(self, descriptor: Descriptor, account: Account) -> bytes:  # noqa: ARG002, D102
        return await read_all(self._store.content(descriptor), limit=MAX_MANIFEST_SIZE)

    def content(self, descriptor: Descriptor, account: Account) -> Content:  # noqa: ARG002, D102
        return self._store.content(descriptor)


class RegistrySource:
    """A repository that is read from: a pull's source."""

    remote = True

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    async def resolve(self, reference: str, account: Account) -> Descriptor | None:  # noqa: D102
        return await self._repository.resolve(reference, account=account)

    async def manifest(self, descriptor: Descriptor, account: Account) -> bytes:  # noqa: D102
        _, raw = await self._repository.fetch_manifest(descriptor, account=account)
        return raw

    def content(self, descriptor: Descriptor, account: Account) -> Content:  # noqa: D102
        return self._repository.blob(descriptor, account=account)


class LocalDestination(LocalSource):
    """A store that is written to: a pull's destination."""

    _store: Store

    def __init__(self, store: Store) -> None:
        super().__init__(store)

    async def find(self, reference: str, account: Account) -> Digest | None:  # noqa: ARG002, D102
        found = await self._store.resolve(reference)
        return found.digest if found is not None and await self._store.has(found) else None

    async def has(self, check: CheckBlob) -> Evidence | None:  # noqa: D102
        if check.layer is not None and isinstance(self._store, ChainKeeper):
            return Evidence.CHAIN if self._store.has_chain(check.run) else None
        return Evidence.LOCAL if await self._store.has(check.descriptor) else None

    async def is_held_by(self, check: CheckHolder) -> bool:  # noqa: ARG002, D102
        return False

    async def mount(self, action: Mount) -> MountAnswer:  # noqa: D102
        return MountAnswer(mounted=False, session=action.session)

    async def put(self, content: Content, session: object | None, account: Account) -> None:  # noqa: ARG002, D102
        account.resumed = await self._store.put(content) or 0

    async def put_manifest(self, action: PutManifest) -> None:  # noqa: D102
        document = action.document
        await self._store.put(BytesContent(document.descriptor, document.raw))
        if isinstance(self._store, ChainKeeper) and document.config is not None:
            self._store.add_chain(tuple(layer.digest for layer in document.layers))
        if action.tag is not None:
            await self._store.tag(document.descriptor, action.tag)

    async def abandon(self, session: object, account: Account) -> None:
        """Do nothing: no session was opened here."""


class RegistryDestination(RegistrySource):
    """A repository that is written to: a push's destination."""

    async def find(self, reference: str, account: Account) -> Digest | None:  # noqa: D102
        # Some registries answer 403 for a manifest that does not exist.
        found = await self._repository.resolve(reference, account=account, forbidden_means_absent=True)
        return found.digest if found is not None else None

    async def has(self, check: CheckBlob) -> Evidence | None:  # noqa: D102
        held = await self._repository.has_blob(check.descriptor, check.account, closely=check.closely)
        return Evidence.HEAD if held else None

    async def is_held_by(self, check: CheckHolder) -> bool:  # noqa: D102
        return await self._repository.is_held_by(check.repository, check.descriptor.digest, check.account)

    async def mount(self, action: Mount) -> MountAnswer:  # noqa: D102
        session, account = action.session, action.account
        try:
            answer = await self._repository.mount(action.descriptor.digest, action.repository, account)
        except RegistryError:
            return MountAnswer(mounted=False, session=session)
        except BaseException:
            if session is not None:
                await self.abandon(session, account)
            raise
        if answer is not None and session is not None:
            await self.abandon(session, account)
        mounted = answer is True
        return MountAnswer(mounted=mounted, session=None if mounted else answer or session)

    async def put(self, content: Content, session: object | None, account: Account) -> Evidence | None:  # noqa: D102
        opened = session if isinstance(session, UploadSession) else None
        sent = await self._repository.upload(content, account, opened)
        return None if sent else Evidence.HEAD

    async def put_manifest(self, action: PutManifest) -> None:  # noqa: D102
        descriptor = action.document.descriptor
        await self._repository.put_manifest(
            action.document.raw,
            descriptor.media_type,
            action.tag or descriptor.digest,
            action.account,
            digest=descriptor.digest,
            patiently=action.patiently,
        )

    async def abandon(self, session: object, account: Account) -> None:  # noqa: D102
        if isinstance(session, UploadSession):
            await self._repository.cancel(session, account)


class PlannedSource:
    """A source that also holds what earlier steps of the plan would have written to it.

    Args:
        real: the source.
        planned: what they would have written.
        gone: tags and digests that they would have deleted.
    """

    def __init__(self, real: Source, planned: HeldSets, gone: AbstractSet[str] = frozenset()) -> None:
        self.remote = real.remote
        self._real, self._planned, self._gone = real, planned, gone

    async def resolve(self, reference: str, account: Account) -> Descriptor | None:  # noqa: D102
        planned = self._planned.resolve(reference)
        if planned is not None:
            return planned
        found = await self._real.resolve(reference, account)
        return None if found is None or {reference, found.digest} & self._gone else found

    async def manifest(self, descriptor: Descriptor, account: Account) -> bytes:  # noqa: D102
        planned = self._planned.manifests.get(descriptor.digest)
        if planned is None:
            return await self._real.manifest(descriptor, account)
        account.received += descriptor.size if self.remote else 0
        return planned.raw

    def content(self, descriptor: Descriptor, account: Account) -> Content:  # noqa: D102
        return self._real.content(descriptor, account)


class PlannedDestination:
    """A destination that takes nothing, and remembers what it would have been given.

    Args:
        real: who answers what is there.
        planned: what earlier steps of the plan would have written here.
        receives: whether reading the content would have cost wire bytes.
        gone: tags and digests that they would have deleted.
    """

    def __init__(
        self, real: Destination, planned: HeldSets, *, receives: bool, gone: AbstractSet[str] = frozenset()
    ) -> None:
        self.remote = real.remote
        self._real, self._planned, self._receives, self._gone = real, planned, receives, gone

    async def find(self, reference: str, account: Account) -> Digest | None:  # noqa: D102
        planned = self._planned.resolve(reference)
        if planned is not None:
            return planned.digest
        found = await self._real.find(reference, account)
        return None if found is None or {reference, found} & self._gone else found

    async def manifest(self, descriptor: Descriptor, account: Account) -> bytes:  # noqa: D102
        planned = self._planned.manifests.get(descriptor.digest)
        return planned.raw if planned is not None else await self._real.manifest(descriptor, account)

    async def has(self, check: CheckBlob) -> Evidence | None:  # noqa: D102
        return self._planned.has(check.descriptor.digest, check.run) or await self._real.has(check)

    async def is_held_by(self, check: CheckHolder) -> bool:  # noqa: ARG002, D102
        return True  # a mount is not tried: it is assumed

    async def mount(self, action: Mount) -> MountAnswer:  # noqa: D102
        self._planned.blobs.add(action.descriptor.digest)
        return MountAnswer(mounted=True, assumed=True)

    async def put(self, content: Content, session: object | None, account: Account) -> None:  # noqa: ARG002, D102
        descriptor = content.descriptor
        inlined = descriptor.data is not None and not self.remote
        account.attempts += 1
        sent = descriptor.size if self.remote else 0
        account.sent += sent
        account.useful_sent += sent
        account.received += descriptor.size if self._receives and not inlined else 0
        self._planned.blobs.add(descriptor.digest)

    async def put_manifest(self, action: PutManifest) -> None:  # noqa: D102
        sent = action.document.descriptor.size if self.remote else 0
        action.account.sent += sent
        action.account.useful_sent += sent
        self._planned.put_manifest(action.document, action.tag)

    async def abandon(self, session: object, account: Account) -> None:
        """Do nothing: a plan opens no session."""
