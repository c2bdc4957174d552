"""The state of one transfer: its rules, the work on each content, and the entries that this comes to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from regsim.core.account import Account, Loss
from regsim.core.graph import needs
from regsim.core.ledger import Direction, Entry, Evidence, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from regsim.core.descriptor import Descriptor, Digest
    from regsim.core.graph import Content, Graph, Place
    from regsim.core.manifest import Document


def keep_all(document: Document) -> Document:
    """Leave nothing out of a manifest or index."""
    return document


def mounts_worth_trying(size: int) -> int:
    """Return how many candidates are tried for a blob of `size` bytes: as many as docker tries.

    Each costs requests, which a small blob is not worth.
    """
    if size < 100 * 1024:
        return 1
    return 3 if size < 10 * 1024 * 1024 else 4


def no_candidates(_digest: Digest) -> tuple[str, ...]:
    """Know of no repository to mount from."""
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a transfer's two ends can do, as far as decisions depend on it.

    Attributes:
        direction: what the entries are labelled with.
        to_registry: the destination is a registry: it can mount, and answers for what its manifests name.
        from_registry: the source is a registry: reading a manifest costs wire bytes.
        tag: what the root is to be called at the destination; None leaves it untagged.
        candidates: repositories of the destination's registry that may hold a digest, best first.
        keeps: returns a manifest or index without those of its successors that are left out.
    """

    direction: Direction
    to_registry: bool
    from_registry: bool
    tag: str | None = None
    candidates: Callable[[Digest], tuple[str, ...]] = no_candidates
    keeps: Callable[[Document], Document] = keep_all

    @classmethod
    def between(cls, *, from_registry: bool, to_registry: bool) -> Rules:
        """Return the rules between two ends, without a tag, candidates or a choice."""
        direction = Direction.between(from_registry=from_registry, to_registry=to_registry)
        return cls(direction=direction, from_registry=from_registry, to_registry=to_registry)

    @property
    def present_by(self) -> Evidence:
        """How a manifest that is there is known."""
        return Evidence.HEAD if self.to_registry else Evidence.LOCAL

    @property
    def moved_by(self) -> Evidence:
        """How content that is moved is known."""
        if self.to_registry:
            return Evidence.UPLOAD
        return Evidence.DOWNLOAD if self.from_registry else Evidence.STORED


@dataclass(slots=True, eq=False)
class Work:
    """What one transfer knows of one blob or manifest: its outcome and its cost.

    Attributes:
        descriptor: as the first reference names it.
        vouched: named by a manifest that the destination holds.
        accounts: what each action on it cost, in the order of their beginnings.
        running: the identities of the accounts whose action is not answered yet.
        outcome: set when the work is over, with its `evidence`.
        mounted_from: the repository that it was linked from.
        candidates: repositories to mount from that are still to be tried, best first.
        known: a manifest that the destination holds under its digest.
        document: a manifest's bytes and successors, once read.
    """

    descriptor: Descriptor
    vouched: bool = False
    accounts: list[Account] = field(default_factory=list)
    running: set[int] = field(default_factory=set)
    outcome: Outcome | None = None
    evidence: Evidence | None = None
    mounted_from: str | None = None
    candidates: tuple[str, ...] = ()
    known: bool = False
    document: Document | None = None

    def end(self, outcome: Outcome, evidence: Evidence | None) -> None:
        """Set the outcome. Of a manifest that exists, what it names may still be on its way."""
        self.outcome, self.evidence = outcome, evidence

    def begin(self) -> Account:
        """Return the account of an action on it that begins."""
        account = Account()
        self.accounts.append(account)
        self.running.add(id(account))
        return account

    def accept_read(self) -> None:
        """Count the manifest that was read as useful: it is stored."""
        for account in self.accounts:
            account.useful_received += account.held
            account.held = 0

    def revoke(self) -> tuple[int, int]:
        """Return how many bytes that were sent and received are no longer useful."""
        sent = sum(account.useful_sent for account in self.accounts)
        received = sum(account.useful_received for account in self.accounts)
        for account in self.accounts:
            account.useful_sent = account.useful_received = 0
        return sent, received

    @property
    def account(self) -> Account:
        """What all requests for it cost. What an unanswered action has moved counts as wasted until then."""
        total = Account()
        for each in self.accounts:
            account = each
            if id(each) in self.running:
                account = Account()
                account.add(each)
                account.lose(Loss.FAILED)
            total.add(account)
        return total


@dataclass(slots=True)
class Labels:
    """What is known of layers apart from their descriptors, by digest.

    Attributes:
        created_by: the instruction that made a layer.
        recorded: the digest of the real layer that a synthetic one stands for.
    """

    created_by: dict[Digest, str] = field(default_factory=dict)
    recorded: Mapping[Digest, Digest] = field(default_factory=dict)


def entries(graph: Graph, works: Mapping[Content, Work], rules: Rules, labels: Labels) -> tuple[Entry, ...]:
    """Return one entry for each reference known so far, depth first in manifest order."""
    return tuple(_entry(graph, works, place, rules, labels) for place in graph.places)


def beside(works: Mapping[Content, Work]) -> tuple[tuple[Digest | None, Account], ...]:
    """Return what the work has led to about content that is not part of the transfer."""
    return tuple(each for work in works.values() for each in work.account.beside)


def entry_of(
    place: Place, outcome: Outcome, evidence: Evidence | None, rules: Rules, labels: Labels
) -> Entry:
    """Return the entry of a reference that costs nothing."""
    descriptor = place.descriptor
    return Entry(
        digest=descriptor.digest,
        size=descriptor.size,
        media_type=descriptor.media_type,
        role=place.role,
        direction=rules.direction,
        outcome=outcome,
        evidence=evidence,
        created_by=labels.created_by.get(descriptor.digest),
        recorded_digest=labels.recorded.get(descriptor.digest),
    )


def _entry(graph: Graph, works: Mapping[Content, Work], place: Place, rules: Rules, labels: Labels) -> Entry:
    work = works.get(place.content)
    if place.stays:
        return entry_of(place, Outcome.FOREIGN, None, rules, labels)
    if work is None:
        return entry_of(place, Outcome.FAILED, Evidence.CANCELLED, rules, labels)
    if not place.leads and work.outcome in (Outcome.TRANSFERRED, Outcome.MOUNTED):
        return entry_of(place, Outcome.JOINED, None, rules, labels)
    outcome, evidence = work.outcome, work.evidence
    if outcome is None:  # work that is not over has failed, if the ledger is read now
        outcome = Outcome.FAILED
        evidence = Evidence.BLOCKED if _is_blocked(graph, works, place) else Evidence.CANCELLED
    entry = entry_of(place, outcome, evidence, rules, labels)
    if not place.leads:
        return entry
    account = work.account
    if outcome is Outcome.FAILED:
        account.lose(Loss.FAILED)
    elif account.held:
        account.waste(received=account.held, loss=Loss.NOT_NEEDED)
    pulled = rules.from_registry and not rules.to_registry
    return replace(
        entry,
        mounted_from=work.mounted_from,
        wire_sent=account.sent,
        wire_received=account.received,
        useful_sent=account.useful_sent,
        useful_received=account.useful_received,
        wasted_sent=account.wasted_sent,
        wasted_received=account.wasted_received,
        overhead=account.overhead,
        resumed=account.resumed if outcome is Outcome.TRANSFERRED and pulled else 0,
        retries=tuple(account.retries),
        losses=tuple(account.losses),
        attempts=account.attempts,
        requests=account.requests,
    )


def _is_blocked(graph: Graph, works: Mapping[Content, Work], place: Place) -> bool:
    """Tell whether a manifest could not be put because something that it names is not in place."""
    document = graph.documents.get(place.descriptor.digest) if place.is_manifest else None
    found = (works.get(content) for content in needs(document))
    return any(work is None or work.outcome in (None, Outcome.FAILED) for work in found)
