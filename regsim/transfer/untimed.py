"""The untimed model: the same decisions as on the wire, without HTTP, bytes or time (DESIGN 1).

Registries and nodes are sets of digests. Every action is answered at once; costs are what
the bodies of the requests would have been.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from regsim.core import actions as act
from regsim.core.account import Account
from regsim.core.decide import Decisions
from regsim.core.holdings import HeldSets
from regsim.core.ledger import Direction, Evidence, Ledger
from regsim.core.work import Labels, Rules, entries, no_candidates
from regsim.errors import NotFoundError, RegsimError
from regsim.transfer.copy import MANIFEST_UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable

    from regsim.core import Digest


@dataclass(slots=True)
class ModelRegistry:
    """A registry as repositories of digests; a repository is there as soon as somebody asks for it."""

    repositories: dict[str, HeldSets] = field(default_factory=dict)

    def repository(self, name: str) -> ModelEnd:
        """Return one end of a transfer."""
        holdings = self.repositories.setdefault(name, HeldSets(present=Evidence.HEAD))
        return ModelEnd(holdings, self)


@dataclass(frozen=True, slots=True)
class ModelEnd:
    """One end of a modelled transfer: a repository of `registry`, or a node where that is None."""

    holdings: HeldSets
    registry: ModelRegistry | None = None

    @property
    def remote(self) -> bool:
        """Whether this is a registry."""
        return self.registry is not None

    def is_held_by(self, repository: str, digest: Digest) -> bool:
        """Tell whether another repository of the same registry holds a blob."""
        other = self.registry.repositories.get(repository) if self.registry else None
        return other is not None and digest in other.blobs


@dataclass(slots=True, kw_only=True)
class ModelTransfer:
    """One modelled transfer of what `reference` names at `source`; see `regsim.transfer.copy.Transfer`."""

    source: ModelEnd
    reference: str
    destination: ModelEnd
    tag: str | None = None
    name: str = ""
    candidates: Callable[[Digest], tuple[str, ...]] = no_candidates
    labels: Labels = field(default_factory=Labels)

    def blank(self) -> Ledger:
        """Return the ledger of the transfer before it is run."""
        sends, receives = self.destination.remote, self.source.remote
        return Ledger(
            direction=Direction.between(from_registry=receives, to_registry=sends),
            reference=self.name or self.reference,
            sends=sends,
            receives=receives,
        )

    def run(self) -> Ledger:
        """Return the ledger; what went wrong stands in its `error`."""
        ledger = self.blank()
        sends, receives = ledger.sends, ledger.receives
        account = Account(requests=int(receives))
        root = self.source.holdings.resolve(self.reference)
        if root is None:
            error: RegsimError = NotFoundError(
                f"{ledger.reference} does not exist", codes=(MANIFEST_UNKNOWN,)
            )
            return replace(ledger, resolving=account, error=error)
        rules = Rules(
            direction=ledger.direction,
            to_registry=sends,
            from_registry=receives,
            tag=self.tag,
            candidates=self.candidates,
        )
        decisions = Decisions(root, rules, account)
        self._drive(decisions)
        return replace(
            ledger,
            digest=root.digest,
            entries=entries(decisions.graph(), decisions.work, decisions.rules, self.labels),
            referenced=decisions.referenced,
            error=decisions.error,
        )

    def _drive(self, decisions: Decisions) -> None:
        pending = deque(decisions.start())
        while pending and not decisions.done:
            action = pending.popleft()
            try:
                answer = self._answer(action)
            except RegsimError as error:
                pending.extend(decisions.fail(action, error))
            else:
                pending.extend(decisions.succeed(action, answer))

    def _answer(self, action: act.Action) -> object:
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
                return self.destination.is_held_by(action.repository, digest)
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
        return held[1]

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
