"""The untimed model: what transfers do to registries and nodes that are sets of digests (DESIGN 1).

Owns the two ends of a modelled transfer, and its ledger. What a transfer does is predicted by `core.predict`;
must not know HTTP, bytes, time, or an event loop.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from regsim.core.account import Account
from regsim.core.graph import Graph
from regsim.core.holdings import HeldSets
from regsim.core.ledger import Direction, Evidence, Ledger
from regsim.core.manifest import MANIFEST_UNKNOWN
from regsim.core.predict import Predictor
from regsim.core.work import Labels, Rules, no_candidates
from regsim.errors import NotFoundError, RegsimError

if TYPE_CHECKING:
    from collections.abc import Callable

    from regsim.core import Descriptor, Digest


@dataclass(slots=True)
class ModelRegistry:
    """A registry as repositories of digests; a repository is there as soon as it is requested."""

    repositories: dict[str, HeldSets] = field(default_factory=dict)
    _predictors: dict[tuple[Digest, bool, bool], Predictor] = field(default_factory=dict)

    def repository(self, name: str) -> ModelEnd:
        """Return one end of a transfer."""
        holdings = self.repositories.setdefault(name, HeldSets(present=Evidence.HEAD))
        return ModelEnd(holdings, self)

    def holds(self, repository: str, digest: Digest) -> bool:
        """Tell whether a repository holds a blob, so that it can be mounted from there."""
        held = self.repositories.get(repository)
        return held is not None and digest in held.blobs

    def predictor(
        self, root: Descriptor, source: ModelEnd, destination: ModelEnd, labels: Labels
    ) -> Predictor:
        """Return what predicts transfers of an image between two ends; for one that is whole, once.

        Raises:
            ContentError: the image has documents that cannot be transferred.
        """
        key = (root.digest, source.remote, destination.remote)
        known = self._predictors.get(key)
        held = source.holdings.manifests
        if known is not None and known.labels is labels and known.graph.documents.keys() <= held.keys():
            return known
        # A pull reads a manifest that its own store holds from there.
        documents = held if destination.remote else {**destination.holdings.manifests, **held}
        graph = Graph.of(root, documents)
        manifests = {place.descriptor.digest for place in graph.places if place.is_manifest}
        made = Predictor(
            graph=graph,
            rules=Rules.between(from_registry=source.remote, to_registry=destination.remote),
            labels=labels,
            resolving=int(source.remote),
            lacking=frozenset(manifests - held.keys()),
        )
        if not made.lacking:
            self._predictors[key] = made
        return made


@dataclass(frozen=True, slots=True)
class ModelEnd:
    """One end of a modelled transfer: a repository of `registry`, or a node where that is None."""

    holdings: HeldSets
    registry: ModelRegistry | None = None

    @property
    def remote(self) -> bool:
        """Whether this is a registry."""
        return self.registry is not None


@dataclass(slots=True, kw_only=True)
class ModelTransfer:
    """One modelled transfer of what `reference` names at `source`; see `regsim.transfer.copy.Transfer`.

    Args:
        source: where the reference is resolved.
        reference: a tag or a digest.
        destination: what is to hold it afterwards.
        tag: its name there; None leaves it untagged.
        name: the reference as the report prints it.
        candidates: repositories of the destination's registry to try a mount from, best first.
        labels: what is known of layers.
    """

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
        held = self.destination.holdings
        registry = self.destination.registry or self.source.registry or ModelRegistry()
        root = self.source.holdings.resolve(self.reference)
        spent = Account(requests=int(ledger.receives))
        if root is None:
            lost = NotFoundError(f"{ledger.reference} does not exist", codes=(MANIFEST_UNKNOWN,))
            return replace(ledger, resolving=spent, error=lost)
        try:
            predictor = registry.predictor(root, self.source, self.destination, self.labels)
        except RegsimError as error:
            return replace(ledger, resolving=spent, error=error)
        prediction = predictor.predict(held, tag=self.tag, candidates=self.candidates, holds=registry.holds)
        predictor.settle(prediction, held, tag=self.tag)
        missing = prediction.missing
        return replace(
            ledger,
            digest=root.digest,
            entries=prediction.entries,
            referenced=prediction.referenced,
            error=NotFoundError(f"manifest {missing} does not exist") if missing is not None else None,
        )
