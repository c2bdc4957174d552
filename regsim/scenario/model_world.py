"""The registry and the nodes of one run as sets of digests: the model's world, without HTTP and bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import coroutine
from typing import TYPE_CHECKING

from regsim.core.holdings import HeldSets, SkipRule
from regsim.core.ledger import Evidence
from regsim.core.manifest import MANIFEST_UNKNOWN
from regsim.core.result import Mode
from regsim.errors import NotFoundError, UsageError
from regsim.scenario.world import Ends, Job, Member, wanted_at
from regsim.transfer.model import ModelEnd, ModelRegistry, ModelTransfer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Sequence

    from regsim.core.ledger import Ledger
    from regsim.scenario.schema import Scenario
    from regsim.scenario.schema_step import Place


class ModelWork:
    """A modelled transfer in the shape of a real one: it is over as soon as it is run."""

    def __init__(self, transfer: ModelTransfer) -> None:
        self._transfer = transfer
        self._ledger = transfer.blank()

    async def run(self) -> Ledger:
        """Do it, after a turn in which the run can be cancelled."""
        await _turn()
        self._ledger = self._transfer.run()
        return self._ledger

    def ledger(self) -> Ledger:
        """Return the account, which is empty before the run."""
        return self._ledger


@coroutine
def _turn() -> Generator[None, None, None]:
    """Let whatever drives this coroutine do something else: an event loop, or a loop without one."""
    yield


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


@dataclass(kw_only=True)
class ModelWorld(Ends[ModelEnd, ModelEnd]):
    """One modelled registry and its nodes."""

    registry: ModelRegistry = field(default_factory=ModelRegistry)
    _nodes: dict[str, ModelEnd] = field(default_factory=dict)

    @staticmethod
    async def at_once(moves: Sequence[Callable[[], Awaitable[None]]], places: int) -> None:  # noqa: ARG004, D102  (as above)
        for move in moves:
            await move()

    async def delete(self, reference: Place) -> None:  # noqa: D102  (World says it)
        holdings = self.registry.repository(reference.repository).holdings
        if holdings.resolve(wanted_at(reference)) is None:
            raise NotFoundError(f"{reference} does not exist", codes=(MANIFEST_UNKNOWN,))
        holdings.delete_manifest(wanted_at(reference))

    def image(self, image: str) -> ModelEnd:  # noqa: D102  (Ends says it)
        return ModelEnd(self.images.manifests[image])

    def reader(self, _member: Member, name: str) -> ModelEnd:  # noqa: D102  (as above)
        return self.registry.repository(name)

    def writer(self, _member: Member, name: str, _source: ModelEnd) -> ModelEnd:  # noqa: D102  (as above)
        return self.registry.repository(name)

    def node(self, member: Member) -> ModelEnd:  # noqa: D102  (as above)
        if member.name not in self._nodes:
            chain = member.spec.skip is SkipRule.CHAIN
            holdings = HeldSets(present=Evidence.LOCAL, runs=set() if chain else None)
            self._nodes[member.name] = ModelEnd(holdings)
        return self._nodes[member.name]

    def work(self, job: Job[ModelEnd, ModelEnd]) -> ModelWork:  # noqa: D102  (as above)
        return ModelWork(
            ModelTransfer(
                source=job.source,
                reference=job.reference,
                destination=job.destination,
                tag=job.tag,
                name=job.name,
                candidates=job.candidates,
                labels=self.images.labels,
            )
        )
