"""The registry and the nodes of one run as sets of digests: the model's world, without HTTP and bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regsim.core.holdings import HeldSets
from regsim.core.ledger import Evidence
from regsim.core.result import Mode, Reconciliation
from regsim.errors import NotFoundError, UsageError
from regsim.scenario.known import Known
from regsim.scenario.world import Member, node_tag, wanted
from regsim.store.memory import SkipRule
from regsim.transfer.copy import MANIFEST_UNKNOWN
from regsim.transfer.untimed import ModelEnd, ModelRegistry, ModelTransfer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regsim.core.ledger import Ledger
    from regsim.scenario.images import Images
    from regsim.scenario.schema import Scenario
    from regsim.scenario.schema_step import Place


class ModelWork:
    """A modelled transfer in the shape of a real one: it is over as soon as it is run."""

    def __init__(self, transfer: ModelTransfer) -> None:
        self._transfer = transfer
        self._ledger = transfer.blank()

    async def run(self) -> Ledger:
        """Do it."""
        self._ledger = self._transfer.run()
        return self._ledger

    def ledger(self) -> Ledger:
        """Return the account, which is empty before the run."""
        return self._ledger


def check_model(scenario: Scenario) -> None:
    """Check that a scenario's registry is one that the model can stand for.

    Raises:
        UsageError: it is not.
    """
    mock = scenario.registry.mock
    if mock is not None and (mock.profile is not None or mock.faults):
        raise UsageError(
            f"{scenario.name} does not run as {Mode.MODEL}: the model knows no profiles and no faults",
            hint="run it on the wire, without --model; modes: [wire] says so in the file",
        )


@dataclass(slots=True)
class ModelWorld:
    """One modelled registry and its nodes (`world.World`)."""

    images: Images
    registry: ModelRegistry = field(default_factory=ModelRegistry)
    _known: Known = field(default_factory=Known)
    _nodes: dict[str, ModelEnd] = field(default_factory=dict)

    def push(self, member: Member, image: str, to: Place) -> ModelWork:  # noqa: ARG002, D102  (World says it)
        source = ModelEnd(self.images.holdings(image))
        return self._to_registry(source, self.images.reference(image), to)

    def pull(self, member: Member, reference: Place) -> ModelWork:  # noqa: D102  (likewise)
        return ModelWork(
            ModelTransfer(
                source=self.registry.repository(reference.repository),
                reference=wanted(reference),
                destination=self._node(member),
                tag=node_tag(reference),
                name=str(reference),
                labels=self.images.labels,
            )
        )

    def copy(self, member: Member, source: Place, to: Place) -> ModelWork:  # noqa: ARG002, D102  (likewise)
        reader = self.registry.repository(source.repository)
        return self._to_registry(reader, wanted(source), to, source.repository)

    async def delete(self, reference: Place) -> None:  # noqa: D102  (likewise)
        holdings = self.registry.repository(reference.repository).holdings
        if holdings.resolve(wanted(reference)) is None:
            raise NotFoundError(f"{reference} does not exist", codes=(MANIFEST_UNKNOWN,))
        holdings.delete_manifest(wanted(reference))

    def learn(self, ledger: Ledger, to: Place) -> None:  # noqa: D102  (likewise)
        self._known.learn(ledger, to.repository)

    async def reconcile(self, ledgers: Sequence[Ledger]) -> Reconciliation:  # noqa: D102  (likewise)
        return Reconciliation.alone(ledgers)

    def _to_registry(
        self, source: ModelEnd, reference: str, to: Place, copied_from: str | None = None
    ) -> ModelWork:
        return ModelWork(
            ModelTransfer(
                source=source,
                reference=reference,
                destination=self.registry.repository(to.repository),
                tag=to.tag,
                name=str(to),
                candidates=self._known.candidates(to.repository, copied_from),
                labels=self.images.labels,
            )
        )

    def _node(self, member: Member) -> ModelEnd:
        if member.name not in self._nodes:
            chain = member.spec.skip is SkipRule.CHAIN
            holdings = HeldSets(present=Evidence.LOCAL, runs=set() if chain else None)
            self._nodes[member.name] = ModelEnd(holdings)
        return self._nodes[member.name]
