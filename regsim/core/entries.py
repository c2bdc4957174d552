"""Entries from a machine: what each reference's task came to, in ledger order, at any moment."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from regsim.core.account import Loss
from regsim.core.ledger import Entry, Evidence, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regsim.core import Digest
    from regsim.core.account import Account
    from regsim.core.machine import Machine
    from regsim.core.tasks import Reference, Task


@dataclass(slots=True)
class Labels:
    """What is known of layers beside their descriptors, by digest.

    Attributes:
        created_by: the instruction that made a layer.
        recorded: the digest of the real layer that a synthetic one stands for.
    """

    created_by: dict[Digest, str] = field(default_factory=dict)
    recorded: Mapping[Digest, Digest] = field(default_factory=dict)


def entries(machine: Machine, labels: Labels, *, sends: bool, receives: bool) -> tuple[Entry, ...]:
    """Return one entry for each reference known so far, depth first in manifest order.

    `sends` and `receives` tell which sides of the transfer are registries.
    """
    references = tuple(machine.root.walk())
    leaders = {_content(reference): reference for reference in references if reference.leads}
    build = _Builder(machine, labels, sends, receives)
    return tuple(build.entry(reference, leaders.get(_content(reference))) for reference in references)


def _content(reference: Reference) -> tuple[bool, Digest]:
    return reference.is_manifest, reference.descriptor.digest


def beside(machine: Machine) -> tuple[tuple[Digest | None, Account], ...]:
    """Return what the work has led to about content that is not part of the transfer."""
    tasks = (reference.task for reference in machine.root.walk() if reference.leads)
    return tuple(each for task in tasks if task is not None for each in task.account.beside)


@dataclass(frozen=True, slots=True)
class _Builder:
    machine: Machine
    labels: Labels
    sends: bool
    receives: bool

    def entry(self, reference: Reference, leader: Reference | None) -> Entry:
        if reference.stays:
            return self._entry(reference, Outcome.FOREIGN, None)
        task = leader.task if leader is not None else None
        if leader is None or task is None:
            return self._entry(reference, Outcome.FAILED, Evidence.CANCELLED)
        if leader is reference:
            return self._leading(reference, task)
        if task.outcome in (Outcome.TRANSFERRED, Outcome.MOUNTED):
            return self._entry(reference, Outcome.JOINED, None)
        return self._entry(reference, *_state(leader, task))

    def _leading(self, reference: Reference, task: Task) -> Entry:
        outcome, evidence = _state(reference, task)
        account = task.account
        if outcome is Outcome.FAILED:
            account.lose(Loss.FAILED)
        elif account.held:
            account.waste(received=account.held, loss=Loss.NOT_NEEDED)
        moved = outcome is Outcome.TRANSFERRED
        return replace(
            self._entry(reference, outcome, evidence),
            mounted_from=task.mounted_from,
            wire_sent=account.sent,
            wire_received=account.received,
            useful_sent=account.useful_sent,
            useful_received=account.useful_received,
            wasted_sent=account.wasted_sent,
            wasted_received=account.wasted_received,
            overhead=account.overhead,
            resumed=account.resumed if moved and self.receives and not self.sends else 0,
            retries=tuple(account.retries),
            losses=tuple(account.losses),
            attempts=account.attempts,
            requests=account.requests,
        )

    def _entry(self, reference: Reference, outcome: Outcome, evidence: Evidence | None) -> Entry:
        descriptor = reference.descriptor
        return Entry(
            digest=descriptor.digest,
            size=descriptor.size,
            media_type=descriptor.media_type,
            role=reference.role,
            direction=self.machine.rules.direction,
            outcome=outcome,
            evidence=evidence,
            created_by=self.labels.created_by.get(descriptor.digest),
            recorded_digest=self.labels.recorded.get(descriptor.digest),
        )


def _state(reference: Reference, task: Task) -> tuple[Outcome, Evidence | None]:
    """Return the outcome as it stands; work that is not over has failed, if the ledger is read now."""
    if task.outcome is not None:
        return task.outcome, task.evidence
    return Outcome.FAILED, Evidence.BLOCKED if _is_blocked(reference) else Evidence.CANCELLED


def _is_blocked(reference: Reference) -> bool:
    """Tell whether a manifest could not be put because something that it names is not in place."""
    tasks = [child.task for child in reference.children if not child.stays]
    return any(task is None or task.outcome in (None, Outcome.FAILED) for task in tasks)
