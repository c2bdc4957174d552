"""Entries from decisions: what became of each reference, in ledger order, at any moment."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from regsim.core.account import Loss
from regsim.core.graph import MANIFEST_ROLES, Content
from regsim.core.ledger import Entry, Evidence, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regsim.core.account import Account
    from regsim.core.decide import Decisions
    from regsim.core.digest import Digest
    from regsim.core.graph import Graph, Place
    from regsim.core.work import Work


@dataclass(slots=True)
class Labels:
    """What is known of layers beside their descriptors, by digest.

    Attributes:
        created_by: the instruction that made a layer.
        recorded: the digest of the real layer that a synthetic one stands for.
    """

    created_by: dict[Digest, str] = field(default_factory=dict)
    recorded: Mapping[Digest, Digest] = field(default_factory=dict)


def entries(decisions: Decisions, labels: Labels) -> tuple[Entry, ...]:
    """Return one entry for each reference known so far, depth first in manifest order."""
    build = _Builder(decisions, decisions.graph(), labels)
    return tuple(build.entry(place) for place in build.graph.places)


def beside(decisions: Decisions) -> tuple[tuple[Digest | None, Account], ...]:
    """Return what the work has led to about content that is not part of the transfer."""
    return tuple(each for work in decisions.work.values() for each in work.account.beside)


@dataclass(frozen=True, slots=True)
class _Builder:
    decisions: Decisions
    graph: Graph
    labels: Labels

    def entry(self, place: Place) -> Entry:
        if place.stays:
            return self._entry(place, Outcome.FOREIGN, None)
        work = self.decisions.work.get(place.content)
        if work is None:
            return self._entry(place, Outcome.FAILED, Evidence.CANCELLED)
        if place.leads:
            return self._leading(place, work)
        if work.outcome in (Outcome.TRANSFERRED, Outcome.MOUNTED):
            return self._entry(place, Outcome.JOINED, None)
        return self._entry(place, *self._state(place, work))

    def _leading(self, place: Place, work: Work) -> Entry:
        outcome, evidence = self._state(place, work)
        account, rules = work.account, self.decisions.rules
        if outcome is Outcome.FAILED:
            account.lose(Loss.FAILED)
        elif account.held:
            account.waste(received=account.held, loss=Loss.NOT_NEEDED)
        pulled = rules.from_registry and not rules.to_registry
        return replace(
            self._entry(place, outcome, evidence),
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

    def _entry(self, place: Place, outcome: Outcome, evidence: Evidence | None) -> Entry:
        descriptor = place.descriptor
        return Entry(
            digest=descriptor.digest,
            size=descriptor.size,
            media_type=descriptor.media_type,
            role=place.role,
            direction=self.decisions.rules.direction,
            outcome=outcome,
            evidence=evidence,
            created_by=self.labels.created_by.get(descriptor.digest),
            recorded_digest=self.labels.recorded.get(descriptor.digest),
        )

    def _state(self, place: Place, work: Work) -> tuple[Outcome, Evidence | None]:
        """Return the outcome as it stands; work that is not over has failed, if the ledger is read now."""
        if work.outcome is not None:
            return work.outcome, work.evidence
        return Outcome.FAILED, Evidence.BLOCKED if self._is_blocked(place) else Evidence.CANCELLED

    def _is_blocked(self, place: Place) -> bool:
        """Tell whether a manifest could not be put because something that it names is not in place."""
        document = self.graph.documents.get(place.descriptor.digest) if place.is_manifest else None
        for each in document.successors if document is not None else ():
            if each.is_foreign:
                continue
            content = Content(each.role in MANIFEST_ROLES, each.descriptor.digest)
            work = self.decisions.work.get(content)
            if work is None or work.outcome in (None, Outcome.FAILED):
                return True
        return False
