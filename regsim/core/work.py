"""What decisions depend on, and the state of one transfer: its rules, and the work on each content."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regsim.core.account import Account, Loss
from regsim.core.ledger import Direction, Evidence, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from regsim.core.descriptor import Descriptor
    from regsim.core.digest import Digest
    from regsim.core.manifest import Document


def keep_all(document: Document) -> Document:
    """Leave nothing out of a manifest or index."""
    return document


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
    """What one transfer knows of one blob or manifest: what became of it, and what it cost.

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
        """Return how many useful octets were sent and received, which they are no longer."""
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
            account = Account()
            account.add(each)
            if id(each) in self.running:
                account.lose(Loss.FAILED)
            total.add(account)
        return total
