"""The graph of references that a transfer walks, and the work that each digest in it needs.

A *reference* is one place that names content; a *task* is the work for one digest, shared by all of its
references. Owns no decisions: those are the machine's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regsim.core import Descriptor, Digest, Role
from regsim.core.account import Account, Loss
from regsim.core.graph import MANIFEST_ROLES, MAX_DEPTH
from regsim.errors import ContentError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regsim.core import Document
    from regsim.core.ledger import Evidence, Outcome


@dataclass(slots=True, eq=False)
class Task:
    """The work for one digest: what is known of it, what became of it, what it cost.

    Attributes:
        descriptor: as the first reference names it.
        accounts: what each action on it cost, in the order of their beginnings.
        running: the identities of the accounts whose action is not answered yet.
        outcome: set when the work is over.
        known: a manifest that the destination holds under its digest.
        vouched: named by a manifest that the destination holds.
        complete: done, and so is all that it names.
        candidates: repositories to mount from that are still to be tried, best first.
        before: what had become of it when a manifest that names it was refused for its sake.
        put_as: the reference that a manifest is put for.
        mended: it has been refused so, and all that it names been looked at again.
        waiting: references whose manifest can only be put once this is complete.
        document: a manifest's bytes and successors, once fetched.
    """

    descriptor: Descriptor
    accounts: list[Account] = field(default_factory=list)
    running: set[int] = field(default_factory=set)
    outcome: Outcome | None = None
    evidence: Evidence | None = None
    mounted_from: str | None = None
    mount_refused: bool = False
    known: bool = False
    vouched: bool = False
    checked: bool = False
    complete: bool = False
    candidates: tuple[str, ...] = ()
    before: tuple[Outcome, Evidence | None] | None = None
    put_as: Reference | None = None
    mended: bool = False
    waiting: list[Reference] = field(default_factory=list)
    document: Document | None = None

    @property
    def done(self) -> bool:
        """Tell whether the outcome stands."""
        return self.outcome is not None

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

    def begin(self) -> Account:
        """Return the account of an action on it that begins."""
        account = Account()
        self.accounts.append(account)
        self.running.add(id(account))
        return account

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


@dataclass(slots=True, eq=False)
class Reference:
    """One reference: the root, or one descriptor in a manifest or index.

    `leads` tells whether this is the first reference to its digest, which does the work and, for a
    manifest, lists the `children` and, base first, the digests of its `layers`; `unfinished` counts the
    children whose task is not complete. `stays`: it may not be distributed, and is left where it is.
    """

    role: Role
    descriptor: Descriptor
    depth: int = 0
    parent: Reference | None = None
    position: int = 0
    task: Task | None = None
    leads: bool = False
    children: tuple[Reference, ...] = ()
    layers: tuple[Digest, ...] = ()
    unfinished: int = 0
    stays: bool = False

    @property
    def is_manifest(self) -> bool:
        """Tell whether this names a manifest or an index."""
        return self.role in MANIFEST_ROLES

    def expand(self, document: Document) -> None:
        """List what the manifest names.

        Raises:
            ContentError: indexes are nested deeper than `MAX_DEPTH`.
        """
        if self.role is Role.INDEX and self.depth >= MAX_DEPTH:
            raise ContentError(
                f"index {self.descriptor.digest.short} is nested {self.depth} deep",
                hint=f"{MAX_DEPTH} is the limit",
            )
        self.children = tuple(
            Reference(
                role=successor.role,
                descriptor=successor.descriptor,
                depth=self.depth + 1,
                parent=self,
                position=position,
                stays=successor.is_foreign,
            )
            for position, successor in enumerate(document.successors)
        )
        # An index may name content that is no manifest: a blob, but not a layer on top of others.
        if self.role is Role.MANIFEST:
            self.layers = tuple(layer.digest for layer in document.layers)
        self.unfinished = sum(not child.stays for child in self.children)

    def walk(self) -> Iterator[Reference]:
        """Yield this reference and all below it, depth first in manifest order."""
        pending = [self]
        while pending:
            reference = pending.pop()
            yield reference
            pending.extend(reversed(reference.children))
