"""A transfer that asks everything and moves nothing: what `--dry-run` runs.

Wraps the two ends of a transfer. Questions go to the real ends; writes only go into `HeldSets`, where
later steps of the same plan find them. The driver and the decisions are those of a real transfer, so a plan
cannot decide otherwise than the transfer would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regsim.core.actions import MountAnswer

if TYPE_CHECKING:
    from regsim.core import Descriptor, Digest, Document
    from regsim.core.account import Account
    from regsim.core.actions import CheckBlob
    from regsim.core.holdings import HeldSets
    from regsim.core.ledger import Evidence
    from regsim.store.protocols import Content
    from regsim.transfer.ends import Destination, Source


class PlannedSource:
    """A source that also holds what earlier steps of the plan would have written to it."""

    def __init__(self, real: Source, planned: HeldSets) -> None:
        self.remote = real.remote
        self._real, self._planned = real, planned

    async def resolve(self, reference: str, account: Account) -> Descriptor | None:  # noqa: D102
        return self._planned.resolve(reference) or await self._real.resolve(reference, account)

    async def manifest(self, descriptor: Descriptor, account: Account) -> bytes:  # noqa: D102
        planned = self._planned.manifests.get(descriptor.digest)
        if planned is None:
            return await self._real.manifest(descriptor, account)
        account.received += descriptor.size if self.remote else 0
        return planned[1]

    def content(self, descriptor: Descriptor, account: Account) -> Content:  # noqa: D102
        return self._real.content(descriptor, account)


class PlannedDestination:
    """A destination that takes nothing, and remembers what it would have been given.

    Args:
        real: who answers what is there.
        planned: what earlier steps of the plan would have written here.
        receives: whether reading the content would have cost wire bytes.
    """

    def __init__(self, real: Destination, planned: HeldSets, *, receives: bool) -> None:
        self.remote = real.remote
        self._real, self._planned, self._receives = real, planned, receives

    async def find(self, reference: str, account: Account) -> Digest | None:  # noqa: D102
        planned = self._planned.resolve(reference)
        return planned.digest if planned is not None else await self._real.find(reference, account)

    async def manifest(self, descriptor: Descriptor, account: Account) -> bytes:  # noqa: D102
        planned = self._planned.manifests.get(descriptor.digest)
        return planned[1] if planned is not None else await self._real.manifest(descriptor, account)

    async def has(self, check: CheckBlob) -> Evidence | None:  # noqa: D102
        return self._planned.has(check.descriptor.digest, check.run) or await self._real.has(check)

    async def is_held_by(self, repository: str, digest: Digest, account: Account) -> bool:  # noqa: ARG002, D102
        return True  # a mount is not tried: it is assumed

    async def mount(  # noqa: D102
        self,
        digest: Digest,
        repository: str,  # noqa: ARG002
        session: object | None,  # noqa: ARG002
        account: Account,  # noqa: ARG002
    ) -> MountAnswer:
        self._planned.blobs.add(digest)
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

    async def put_manifest(  # noqa: D102
        self,
        document: Document,
        tag: str | None,
        account: Account,
        *,
        patiently: bool = False,  # noqa: ARG002
    ) -> None:
        sent = document.descriptor.size if self.remote else 0
        account.sent += sent
        account.useful_sent += sent
        self._planned.put_manifest(document, tag)

    async def abandon(self, session: object, account: Account) -> None:
        """Do nothing: a plan opens no session."""
