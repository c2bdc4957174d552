"""Answers to the actions of a transfer, from sets of digests: what drives the decisions by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regsim.core import actions as act
from regsim.errors import NotFoundError

if TYPE_CHECKING:
    from regsim.core.account import Account
    from regsim.transfer.model import ModelEnd


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers the actions of a transfer between two modelled ends."""

    source: ModelEnd
    destination: ModelEnd

    def answer(self, action: act.Action) -> object:
        """Return the answer to an action, charge its account, and change the holdings."""
        account, digest = action.account, action.descriptor.digest
        match action:
            case act.CheckManifest():
                account.requests += self.destination.remote
                found = self.destination.holdings.resolve(action.reference)
                return found.digest if found is not None else None
            case act.FetchManifest():
                return self._manifest(action)
            case act.CheckBlob():
                account.requests += self.destination.remote
                return self.destination.holdings.has(digest, action.run)
            case act.CheckHolder():
                account.requests += 1
                registry = self.destination.registry
                return registry is not None and registry.holds(action.repository, digest)
            case act.Mount():
                account.requests += 1
                self.destination.holdings.blobs.add(digest)
                return act.MountAnswer(mounted=True)
            case act.PutManifest():
                self._pay(account, sent=action.descriptor.size, requests=1)
                self.destination.holdings.put_manifest(action.document, action.tag)
            case _:
                self._move(action)
        return None

    def _manifest(self, action: act.FetchManifest) -> bytes:
        end = self.destination if action.from_destination else self.source
        held = end.holdings.manifests.get(action.descriptor.digest)
        if held is None:
            raise NotFoundError(f"manifest {action.descriptor.digest} does not exist")
        if end.remote:
            action.account.requests += 1
            action.account.received += action.descriptor.size
            action.account.held += action.descriptor.size
        return held.raw

    def _move(self, action: act.Action) -> None:
        descriptor, account = action.descriptor, action.account
        account.attempts += 1
        # The body, and the session for it where a mount has not opened one.
        opened = isinstance(action, act.Upload) and action.session is not None
        self._pay(account, sent=descriptor.size, requests=1 if opened else 2)
        if self.source.remote and not (descriptor.data is not None and not self.destination.remote):
            account.requests += 1
            account.received += descriptor.size
            account.useful_received += descriptor.size
        self.destination.holdings.blobs.add(descriptor.digest)

    def _pay(self, account: Account, *, sent: int, requests: int) -> None:
        if self.destination.remote:
            account.sent += sent
            account.useful_sent += sent
            account.requests += requests
