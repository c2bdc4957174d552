"""What a transfer does, in closed form: its entries from a graph and from who holds what (DESIGN 1).

Owns the outcome and the cost of each reference where nothing goes wrong, without running anything: no action
waits for an answer. `core.decide` decides the same one answer at a time; a property test holds the two
together. Must not know bytes, HTTP, files or time.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from regsim.core.account import Loss, Waste
from regsim.core.holdings import runs_of
from regsim.core.ledger import Entry, Evidence, Outcome, Tally
from regsim.core.work import entry_of, mounts_worth_trying

if TYPE_CHECKING:
    from collections.abc import Callable

    from regsim.core import Digest
    from regsim.core.graph import Graph, Place
    from regsim.core.holdings import HeldSets
    from regsim.core.work import Labels, Rules

# The result of a place: its outcome, the evidence, the repository it was mounted from, HTTP requests, and
# bytes that were received.
_Fate = tuple[Outcome, "Evidence | None", "str | None", int, int]

_MOVED = frozenset({Outcome.TRANSFERRED, Outcome.MOUNTED})
_STAYS: _Fate = (Outcome.FOREIGN, None, None, 0, 0)
_CANCELLED: _Fate = (Outcome.FAILED, Evidence.CANCELLED, None, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a transfer comes to.

    Attributes:
        entries: one for each reference, in the order of the ledger.
        missing: the manifest that the source lacks, at which the transfer fails; None if it succeeds.
        referenced: counted on the graph, not on the entries.
    """

    entries: tuple[Entry, ...]
    missing: Digest | None
    referenced: Tally


@dataclass(slots=True, kw_only=True)
class Predictor:
    """Predicts the transfers of one image in one direction, for any number of destinations.

    Equal destinations get the same entries, which are made once and shared.

    Args:
        graph: of the image.
        rules: which ends are registries.
        labels: what is known of layers apart from their descriptors.
        resolving: HTTP requests that resolving the reference takes.
        lacking: manifests of the graph that the source does not hold.
    """

    graph: Graph
    rules: Rules
    labels: Labels
    resolving: int = 0
    lacking: frozenset[Digest] = frozenset()
    _runs: dict[Digest, tuple[tuple[Digest, ...], ...]] = field(init=False)
    _entries: dict[tuple[int, _Fate], Entry] = field(default_factory=dict)
    _predictions: dict[tuple[_Fate, ...], Prediction] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._runs = {digest: runs_of(document) for digest, document in self.graph.documents.items()}

    def predict(
        self,
        held: HeldSets,
        *,
        tag: str | None = None,
        candidates: Callable[[Digest], tuple[str, ...]] = lambda _: (),
        holds: Callable[[str, Digest], bool] = lambda _repository, _digest: False,
    ) -> Prediction:
        """Return what a transfer to a destination does. The destination stays as it is; see `settle`.

        Args:
            held: what the destination holds.
            tag: what the root is to be called there; None leaves it untagged.
            candidates: repositories of the destination's registry to try a mount from, best first.
            holds: whether one of those repositories holds a blob.
        """
        fates: list[_Fate] = []
        known: dict[Digest, bool] = {}
        missing: Digest | None = None
        for place in self.graph.places:
            if place.stays:
                fates.append(_STAYS)
            elif missing is not None:
                fates.append(_CANCELLED)
            elif not place.leads:
                outcome, evidence, *_ = fates[place.first]
                again = (Outcome.JOINED, None) if outcome in _MOVED else (outcome, evidence)
                fates.append((*again, None, 0, 0))
            elif place.is_manifest:
                fate = self._manifest(place, held, tag, known)
                if fate[0] is Outcome.FAILED:
                    missing = place.descriptor.digest
                fates.append(fate)
            else:
                fates.append(self._blob(place, held, known, candidates, holds))
        if missing is not None:
            fates = self._blocked(fates)
        return self._prediction(tuple(fates), missing)

    def settle(self, prediction: Prediction, held: HeldSets, *, tag: str | None = None) -> None:
        """Let a destination hold what a predicted transfer brings to it."""
        for place, entry in zip(self.graph.places, prediction.entries, strict=True):
            if entry.outcome not in _MOVED and entry.outcome is not Outcome.INLINED:
                continue
            if place.is_manifest:
                document = self.graph.documents[entry.digest]
                name = tag if place is self.graph.root else None
                held.put_manifest(document, name, runs=self._runs[entry.digest])
            else:
                held.blobs.add(entry.digest)

    def _manifest(self, place: Place, held: HeldSets, tag: str | None, known: dict[Digest, bool]) -> _Fate:
        digest = place.descriptor.digest
        requests = 0 if place.parent else self.resolving
        vouched = self._vouched(place, known)
        if self.rules.to_registry and vouched:
            exists = known[digest] = True
        else:
            requests += self.rules.to_registry
            asked = tag if tag is not None and place is self.graph.root else digest
            found = held.resolve(asked)
            exists = known[digest] = found is not None and found.digest == digest
            if not exists and asked != digest:
                # The tag names something else or nothing; its manifest may still be there.
                requests += self.rules.to_registry
                known[digest] = held.resolve(digest) is not None
        # A pull reads a manifest that exists in its own store; a push or copy reads the source's.
        reads = self.rules.to_registry or not exists
        if reads and digest in self.lacking:
            return Outcome.FAILED, Evidence.ERROR, None, requests + self.rules.from_registry, 0
        received = place.descriptor.size if reads and self.rules.from_registry else 0
        requests += reads and self.rules.from_registry
        if exists:
            evidence = Evidence.MANIFEST if vouched else self.rules.present_by
            return Outcome.EXISTS, evidence, None, requests, received
        return Outcome.TRANSFERRED, self.rules.moved_by, None, requests + self.rules.to_registry, received

    def _blob(
        self,
        place: Place,
        held: HeldSets,
        known: dict[Digest, bool],
        candidates: Callable[[Digest], tuple[str, ...]],
        holds: Callable[[str, Digest], bool],
    ) -> _Fate:
        descriptor = place.descriptor
        vouched = self._vouched(place, known)
        if vouched and self.rules.to_registry:
            return Outcome.EXISTS, Evidence.MANIFEST, None, 0, 0
        requests = int(self.rules.to_registry)
        run: tuple[Digest, ...] = ()
        if place.layer is not None and place.parent is not None:
            run = self._runs[place.parent.descriptor.digest][place.layer]
        evidence = held.has(descriptor.digest, run)
        if evidence is not None:
            return Outcome.EXISTS, Evidence.MANIFEST if vouched else evidence, None, requests, 0
        if not self.rules.to_registry:
            if descriptor.data is not None and self.rules.from_registry:
                return Outcome.INLINED, None, None, 0, 0
            received = descriptor.size if self.rules.from_registry else 0
            return Outcome.TRANSFERRED, self.rules.moved_by, None, int(self.rules.from_registry), received
        for repository in candidates(descriptor.digest)[: mounts_worth_trying(descriptor.size)]:
            # A candidate is checked before it is tried.
            requests += 1
            if holds(repository, descriptor.digest):
                return Outcome.MOUNTED, Evidence.CREATED, repository, requests + 1, 0
        # A session is opened, and the content sent in one PUT; a copy reads it from its source first.
        requests += 2 + self.rules.from_registry
        received = descriptor.size if self.rules.from_registry else 0
        return Outcome.TRANSFERRED, self.rules.moved_by, None, requests, received

    def _vouched(self, place: Place, known: dict[Digest, bool]) -> bool:
        """Tell whether the destination holds the manifest that names this, and so answers for it."""
        return place.parent is not None and known[place.parent.descriptor.digest]

    def _blocked(self, fates: list[_Fate]) -> list[_Fate]:
        """Fail the manifests that could not be put because something below them is missing."""
        places = self.graph.places
        for place in reversed(places):
            parent = place.parent
            failed = fates[place.number][0] is Outcome.FAILED
            if failed and parent is not None and fates[parent.number][0] is Outcome.TRANSFERRED:
                *_, requests, received = fates[parent.number]
                requests -= self.rules.to_registry  # it was not put
                fates[parent.number] = (Outcome.FAILED, Evidence.BLOCKED, None, requests, received)
        return fates

    def _prediction(self, fates: tuple[_Fate, ...], missing: Digest | None) -> Prediction:
        prediction = self._predictions.get(fates)
        if prediction is None:
            places = self.graph.places
            prediction = self._predictions[fates] = Prediction(
                entries=tuple(self._entry(*each) for each in zip(places, fates, strict=True)),
                missing=missing,
                referenced=sum((Tally(1, place.descriptor.size) for place in places), Tally()),
            )
        return prediction

    def _entry(self, place: Place, fate: _Fate) -> Entry:
        entry = self._entries.get((place.number, fate))
        if entry is None:
            entry = self._entries[place.number, fate] = self._made(place, fate)
        return entry

    def _made(self, place: Place, fate: _Fate) -> Entry:
        outcome, evidence, mounted_from, requests, received = fate
        moved = outcome is Outcome.TRANSFERRED
        sent = place.descriptor.size if moved and self.rules.to_registry else 0
        loss = Loss.FAILED if outcome is Outcome.FAILED else Loss.NOT_NEEDED
        return replace(
            entry_of(place, outcome, evidence, self.rules, self.labels),
            mounted_from=mounted_from,
            wire_sent=sent,
            wire_received=received,
            useful_sent=sent,
            useful_received=received if moved else 0,
            wasted_received=0 if moved else received,
            losses=(Waste(loss, received),) if received and not moved else (),
            attempts=int(not place.is_manifest and outcome in (Outcome.TRANSFERRED, Outcome.INLINED)),
            requests=requests,
        )
