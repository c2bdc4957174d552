"""What the runner makes of steps: verdicts, failures that are wanted and others, and the order of things.

The worlds here are made up: each transfer ends as it is told to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from anyio.lowlevel import checkpoint

from regsim.core import Digest, Role
from regsim.core.ledger import Direction, Entry, Evidence, Ledger, Outcome, Tally
from regsim.core.result import Mode, Reconciliation, RunResult
from regsim.core.work import Labels
from regsim.errors import (
    ContentError,
    ExitCode,
    InvalidReferenceError,
    LocalFileError,
    NetworkError,
    NotFoundError,
    RegistryError,
    RegsimError,
)
from regsim.scenario.images import Images
from regsim.scenario.load import parse_scenario
from regsim.scenario.run import MAX_MOVES_AT_ONCE, run
from regsim.scenario.wire_world import WireWorld
from regsim.synth.images import ImageSource
from regsim.synth.stand_in import StandIns

if TYPE_CHECKING:
    from regsim.scenario.schema_step import Place
    from regsim.scenario.world import Member

pytestmark = pytest.mark.anyio

UNKNOWN = NotFoundError("it is not there", codes=("MANIFEST_UNKNOWN",))
DENIED = RegistryError("no", status=403, codes=("DENIED",))


def ledger(
    direction: Direction, reference: str, outcomes: Sequence[Outcome], error: RegsimError | None
) -> Ledger:
    """Return a ledger with a layer of 10 bytes for each outcome."""
    evidence = {
        Outcome.TRANSFERRED: Evidence.UPLOAD,
        Outcome.EXISTS: Evidence.HEAD,
        Outcome.FAILED: Evidence.ERROR,
    }
    entries = tuple(
        Entry(
            digest=Digest.of(f"{reference} {number}".encode()),
            size=10,
            media_type="layer",
            role=Role.LAYER,
            direction=direction,
            outcome=outcome,
            evidence=evidence[outcome],
            wire_sent=10 if outcome is Outcome.TRANSFERRED else 0,
        )
        for number, outcome in enumerate(outcomes)
    )
    return Ledger(
        direction=direction,
        reference=reference,
        sends=True,
        receives=False,
        entries=entries,
        referenced=Tally(len(entries), 10 * len(entries)),
        error=error,
    )


Ending = tuple[Outcome, ...] | RegsimError | Callable[[], object]
MOVED = (Outcome.TRANSFERRED, Outcome.TRANSFERRED)
HAD = (Outcome.EXISTS, Outcome.TRANSFERRED)


@dataclass
class FakeWork:
    world: FakeWorld
    name: str
    direction: Direction
    reference: str

    def __post_init__(self) -> None:
        self._ledger = ledger(self.direction, self.reference, (), None)

    async def run(self) -> Ledger:
        self.world.begun.append(self.name)
        self.world.running += 1
        self.world.most = max(self.world.most, self.world.running)
        try:
            await checkpoint()
            await self._end(self.world.endings.get(self.name, MOVED))
        finally:
            self.world.running -= 1
        return self._ledger

    async def _end(self, ending: Ending) -> None:
        match ending:
            case RegsimError():
                self._ledger = replace(
                    ledger(self.direction, self.reference, (Outcome.FAILED,), ending), error=ending
                )
            case tuple():
                self._ledger = ledger(self.direction, self.reference, ending, None)
            case _:
                ending()
                await asyncio.Event().wait()

    def ledger(self) -> Ledger:
        return self._ledger


@dataclass
class FakeWorld:
    """Transfers that end as `endings` says, by `DIRECTION REFERENCE NODE`."""

    endings: dict[str, Ending] = field(default_factory=dict)
    deletions: dict[str, RegsimError] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)
    learned: list[str] = field(default_factory=list)
    running: int = 0
    most: int = 0
    differences: tuple[str, ...] = ()
    images: Images = field(default_factory=lambda: Images(made=ImageSource([], StandIns()), labels=Labels()))

    at_once = staticmethod(WireWorld.at_once)

    def _work(self, direction: Direction, member: Member, reference: Place) -> FakeWork:
        return FakeWork(self, f"{direction} {reference} {member.name}", direction, str(reference))

    def push(self, member: Member, image: str, to: Place) -> FakeWork:
        assert image == "a"
        return self._work(Direction.PUSH, member, to)

    def pull(self, member: Member, reference: Place) -> FakeWork:
        if reference.repository == "refused":
            raise InvalidReferenceError("not a repository name")
        return self._work(Direction.PULL, member, reference)

    def copy(self, member: Member, source: Place, to: Place) -> FakeWork:
        assert source.repository == "app"
        return self._work(Direction.COPY, member, to)

    async def delete(self, reference: Place) -> None:
        self.begun.append(f"delete {reference}")
        if str(reference) in self.deletions:
            raise self.deletions[str(reference)]

    def learn(self, ledger: Ledger, to: Place) -> None:
        self.learned.append(f"{len(ledger.entries)} at {to}")

    async def reconcile(self, ledgers: Sequence[Ledger]) -> Reconciliation:
        assert self.running == 0
        assert all(each.entries or each.error or not each.seconds for each in ledgers)
        return Reconciliation(not self.differences, self.differences)


async def run_in(world: FakeWorld, steps: str, *, checks: str = "[]") -> RunResult:
    text = (
        "images: {a: {layers: [1kB]}}\n"
        "nodes: {ci: {}, edge: {count: 3}, many: {count: 100, parallel: 4}, wide: {parallel: 40}}\n"
        f"checks: {checks}\n"
        f"steps:\n{steps}"
    )
    scenario = parse_scenario(text, Path("scenario.yaml"))
    return await run(scenario, world, Mode.WIRE, lambda _: None)


def found(result: RunResult) -> list[tuple[str, int | None, bool, object]]:
    return [(check.expression, check.step, check.passed, check.actual) for check in result.checks]


PUSH = "  - push: {image: a, to: app, node: ci}\n"


async def test_an_expectation_that_fails_is_exit_code_1_and_tells_the_figure_that_was_found() -> None:
    steps = f"{PUSH}    expect: {{transferred: 3, exists: 0, saved_ratio: '>= 0.5'}}\n{PUSH}"
    world = FakeWorld()
    result = await run_in(world, steps, checks="[transferred >= 4, 'transferred(step 2) == 1']")
    assert result.exit_code is ExitCode.CHECK_FAILED
    assert found(result) == [
        ("transferred == 3", 1, False, 2),
        ("exists == 0", 1, True, 0),
        ("saved_ratio >= 0.5", 1, False, 0.0),
        ("transferred >= 4", None, True, 4),
        ("transferred(step 2) == 1", 2, False, 2),
    ]
    # It goes on: an expectation is a verdict, not a failure.
    assert len(world.begun) == 2


async def test_an_expectation_holds_for_each_node_and_shows_the_first_that_fails() -> None:
    world = FakeWorld({"pull app:latest edge-2": HAD})
    result = await run_in(world, "  - pull: {reference: app, node: edge}\n    expect: {transferred: 2}\n")
    assert found(result) == [("transferred == 2", 1, False, 1)]
    assert [each.node for each in result.transfers] == ["edge-1", "edge-2", "edge-3"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UNKNOWN, "MANIFEST_UNKNOWN"),
        (DENIED, "DENIED"),
        (RegistryError("odd", codes=("NAME_INVALID", "NAME_UNKNOWN")), "NAME_UNKNOWN"),
        (RegistryError("no words", status=500), "REGISTRY"),
        (NetworkError("silence"), "NETWORK"),
        (ContentError("another digest"), "CONTENT"),
        (LocalFileError("full"), "LOCAL_FILES"),
    ],
)
async def test_a_failure_that_is_wanted_is_none(error: RegsimError, code: str) -> None:
    world = FakeWorld({"push app:latest ci": error})
    result = await run_in(world, f"{PUSH}    expect: {{error: {code}}}\n{PUSH.replace('app', 'web')}")
    assert result.exit_code is ExitCode.OK
    assert found(result) == [(f"error == {code}", 1, True, code)]
    assert [each.expected_error for each in result.transfers] == [True, False]
    assert result.errors == ()


async def test_a_failure_that_does_not_come_fails_the_check_and_the_scenario_goes_on() -> None:
    result = await run_in(FakeWorld(), f"{PUSH}    expect: {{error: DENIED}}\n{PUSH}")
    assert result.exit_code is ExitCode.CHECK_FAILED
    assert found(result) == [("error == DENIED", 1, False, "no error")]
    assert len(result.transfers) == 2


@pytest.mark.parametrize("expect", ["", "    expect: {error: DENIED}\n", "    expect: {transferred: 2}\n"])
async def test_any_other_failure_stops_the_scenario(expect: str) -> None:
    world = FakeWorld({"push app:latest ci": UNKNOWN})
    result = await run_in(world, f"{PUSH}{expect}{PUSH.replace('app', 'web')}", checks="[transferred >= 1]")
    assert result.exit_code is ExitCode.REGISTRY
    assert world.begun == ["push app:latest ci"]
    assert result.errors == (UNKNOWN,)
    # Nothing is held against what stopped half-way; the accounts still are.
    assert result.checks == ()
    assert result.reconciliation.matched is True


async def test_nodes_push_one_after_the_other_up_to_one_that_fails() -> None:
    world = FakeWorld({"push app:latest edge-2": NetworkError("silence")})
    result = await run_in(world, "  - push: {image: a, to: app, node: edge}\n")
    assert (world.most, world.begun) == (1, ["push app:latest edge-1", "push app:latest edge-2"])
    assert [each.node for each in result.transfers] == ["edge-1", "edge-2"]
    assert world.learned == ["2 at app:latest", "1 at app:latest"]
    assert result.exit_code is ExitCode.NETWORK


async def test_nodes_go_on_pushing_where_each_is_to_fail() -> None:
    world = FakeWorld({f"push app:latest edge-{number}": DENIED for number in (1, 2, 3)})
    result = await run_in(world, "  - push: {image: a, to: app, node: edge}\n    expect: {error: DENIED}\n")
    assert len(world.begun) == 3
    assert result.exit_code is ExitCode.OK


async def test_nodes_pull_at_once_and_end_what_they_have_begun_when_one_fails() -> None:
    world = FakeWorld({"pull app:latest edge-1": UNKNOWN})
    steps = "  - pull: {reference: app, node: edge}\n  - pull: {reference: app, node: ci}\n"
    result = await run_in(world, steps)
    assert world.most == 3
    assert [each.node for each in result.transfers] == ["edge-1", "edge-2", "edge-3"]
    assert [len(each.ledger.entries) for each in result.transfers] == [1, 2, 2]
    assert result.exit_code is ExitCode.REGISTRY


async def test_only_so_many_nodes_pull_at_the_same_time_as_move_so_many_layers() -> None:
    world = FakeWorld()
    result = await run_in(world, "  - pull: {reference: app, node: many}\n")
    assert world.most == MAX_MOVES_AT_ONCE // 4
    assert [each.node for each in result.transfers] == [f"many-{number}" for number in range(1, 101)]


async def test_a_node_that_moves_more_layers_than_that_still_pulls() -> None:
    result = await run_in(FakeWorld(), "  - pull: {reference: app, node: wide}\n")
    assert result.exit_code is ExitCode.OK


async def test_an_interrupt_keeps_what_was_done_and_begun_and_nothing_else() -> None:
    task = asyncio.current_task()
    assert task is not None
    world = FakeWorld({f"pull app:latest many-{number}": task.cancel for number in range(1, 101)})
    result = await run_in(
        world, f"{PUSH}  - pull: {{reference: app, node: many}}\n{PUSH}", checks="[failed == 0]"
    )
    assert result.interrupted
    assert result.exit_code is ExitCode.INTERRUPTED
    assert [each.node for each in result.transfers][:2] == ["ci", "many-1"]
    assert len(result.transfers) == 1 + MAX_MOVES_AT_ONCE // 4
    assert result.checks == ()
    task.uncancel()


async def test_an_interrupt_of_a_push_lets_the_world_learn_what_it_left() -> None:
    task = asyncio.current_task()
    assert task is not None
    world = FakeWorld({"push app:latest edge-2": task.cancel})
    result = await run_in(world, "  - push: {image: a, to: app, node: edge}\n")
    assert [each.node for each in result.transfers] == ["edge-1", "edge-2"]
    assert world.learned == ["2 at app:latest", "0 at app:latest"]
    task.uncancel()


async def test_a_tag_is_a_copy_by_the_first_node_and_a_copy_is_learned() -> None:
    world = FakeWorld()
    steps = "  - tag: {reference: 'app:v1', tag: v2}\n  - copy: {from: 'app:v1', to: 'web:v1', node: ci}\n"
    result = await run_in(world, f"{PUSH.replace('app', 'app:v1')}{steps}")
    assert world.begun == ["push app:v1 ci", "copy app:v2 ci", "copy web:v1 ci"]
    assert world.learned == ["2 at app:v1", "2 at app:v2", "2 at web:v1"]
    assert result.exit_code is ExitCode.OK


async def test_a_delete_makes_no_transfer_and_may_be_wanted_to_fail() -> None:
    world = FakeWorld(deletions={"app:gone": UNKNOWN})
    steps = f"{PUSH}  - delete: {{reference: app}}\n  - delete: {{reference: 'app:gone'}}\n"
    result = await run_in(world, f"{steps}    expect: {{error: MANIFEST_UNKNOWN}}\n")
    assert (result.exit_code, len(result.transfers)) == (ExitCode.OK, 1)
    assert found(result) == [("error == MANIFEST_UNKNOWN", 3, True, "MANIFEST_UNKNOWN")]
    stopped = await run_in(world, f"{steps}{PUSH}")
    assert stopped.exit_code is ExitCode.REGISTRY
    assert stopped.error is UNKNOWN
    assert len(stopped.transfers) == 1


async def test_what_a_world_refuses_before_a_transfer_keeps_what_was_done() -> None:
    pull = "  - pull: {reference: refused, node: ci}\n    expect: {transferred: 1}\n"
    result = await run_in(FakeWorld(), f"{PUSH}{pull}")
    assert result.exit_code is ExitCode.USAGE
    assert result.error is not None
    assert len(result.transfers) == 1


async def test_accounts_that_differ_are_worse_than_checks_and_failures() -> None:
    world = FakeWorld({"push app:latest ci": UNKNOWN}, differences=("one byte",))
    result = await run_in(world, PUSH)
    assert result.exit_code is ExitCode.CONTENT
