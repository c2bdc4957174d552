"""Running a scenario: its steps in order, each held against what it expects.

Owns the order of steps and nodes, and the verdicts. Must not know HTTP, the model or reports: it acts on a
`World`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regsim.errors import ExitCode, RegistryError, RegsimError
from regsim.result import CheckResult, Reconciliation, RunResult, TransferResult
from regsim.scenario.checks import evaluate
from regsim.scenario.figures import RunFigures, figure
from regsim.scenario.schema import Copy, Delete, Place, Pull, Push, Tag
from regsim.scenario.world import Member

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regsim.result import Mode
    from regsim.scenario.schema import Scenario, Step
    from regsim.scenario.world import Work, World
    from regsim.transfer.ledger import Ledger

# Nodes that pull at the same time: more than this many clients in one process only wait for each other.
MAX_NODES_AT_ONCE = 32


async def run(scenario: Scenario, world: World, mode: Mode, tell: Callable[[str], None]) -> RunResult:
    """Run a scenario and return what it came to, also if it fails or is interrupted.

    Args:
        scenario: what to do.
        world: what to do it on.
        mode: how `world` does it, for the result.
        tell: is told each step as it begins.
    """
    return await _Run(scenario, world, mode, tell).finish()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """One node's part of a step."""

    step: Step
    member: Member
    work: Work
    image: str | None = None
    to: Place | None = None


@dataclass(slots=True)
class _Run:
    scenario: Scenario
    world: World
    mode: Mode
    tell: Callable[[str], None]
    transfers: list[TransferResult] = field(default_factory=list)
    checks: list[CheckResult] = field(default_factory=list)
    error: RegsimError | None = None

    async def finish(self) -> RunResult:
        interrupted = False
        try:
            for step in self.scenario.steps:
                self.tell(f"step {step.number} of {len(self.scenario.steps)}: {_describe(step)}")
                if not await self._step(step):
                    break
        except asyncio.CancelledError:
            interrupted = True
        stopped = interrupted or self.error is not None or any(map(_failed, self.transfers))
        if not stopped:
            figures = RunFigures(self.transfers)
            self.checks += [evaluate(check, figures) for check in self.scenario.checks]
        return RunResult(
            scenario=self.scenario.name,
            seed=self.scenario.seed,
            mode=self.mode,
            transfers=tuple(self.transfers),
            checks=tuple(self.checks),
            reconciliation=self._reconcile(interrupted=interrupted),
            error=self.error,
            interrupted=interrupted,
        )

    def _reconcile(self, *, interrupted: bool) -> Reconciliation:
        ledgers = [transfer.ledger for transfer in self.transfers]
        # The registry may still be noting what an interrupted client had begun.
        return Reconciliation.alone(ledgers) if interrupted else self.world.reconcile(ledgers)

    async def _step(self, step: Step) -> bool:
        """Do one step; tell whether the scenario goes on."""
        if isinstance(step.action, Delete):
            return await self._delete(step, step.action)
        jobs = list(self._jobs(step))
        try:
            if isinstance(step.action, Pull):
                await _at_once([job.work for job in jobs])
            else:
                for job in jobs:
                    self._learn(job, await job.work.run())
        finally:
            self.transfers += [_result(job) for job in jobs]
        self.checks += _verdicts(step, [job.work.ledger() for job in jobs])
        return not any(map(_failed, self.transfers))

    def _jobs(self, step: Step) -> Iterator[_Job]:
        match step.action:
            case Push(image=image, to=to):
                for member in self._members(step.action.node):
                    work = self.world.push(member, image, to)
                    yield _Job(step=step, member=member, work=work, image=image, to=to)
            case Pull(reference=reference):
                for member in self._members(step.action.node):
                    yield _Job(step=step, member=member, work=self.world.pull(member, reference))
            case Copy(source=source, to=to):
                for member in self._members(step.action.node):
                    yield _Job(step=step, member=member, work=self.world.copy(member, source, to), to=to)
            case Tag(reference=reference, tag=tag):
                member = next(iter(self._members(next(iter(self.scenario.nodes)))))
                to = Place(repository=reference.repository, tag=tag)
                yield _Job(step=step, member=member, work=self.world.copy(member, reference, to), to=to)

    def _members(self, node: str) -> Iterator[Member]:
        spec = self.scenario.nodes[node]
        return (Member(name=name, spec=spec) for name in spec.members())

    def _learn(self, job: _Job, ledger: Ledger) -> None:
        if job.to is not None:
            self.world.learn(ledger, job.to)

    async def _delete(self, step: Step, action: Delete) -> bool:
        error: RegsimError | None = None
        try:
            await self.world.delete(action.reference)
        except RegsimError as found:
            error = found
        if step.expect.error is not None:
            self.checks.append(_error_verdict(step, [error]))
            return True
        self.error = error
        return error is None


async def _at_once(works: list[Work]) -> None:
    """Run all, a bounded number at the same time; each one's failure stands in its own ledger."""
    places = asyncio.Semaphore(MAX_NODES_AT_ONCE)

    async def placed(work: Work) -> None:
        async with places:
            await work.run()

    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(placed(work))


def _result(job: _Job) -> TransferResult:
    ledger = job.work.ledger()
    return TransferResult(
        ledger=ledger,
        step=job.step.number,
        step_name=job.step.name,
        node=job.member.name,
        image=job.image,
        expected_error=job.step.expect.error in _codes(ledger.error),
    )


def _failed(transfer: TransferResult) -> bool:
    return transfer.ledger.error is not None and not transfer.expected_error


def _codes(error: RegsimError | None) -> tuple[str, ...]:
    """Return what an error can be expected as: the registry's own codes, or what kind of error it is."""
    if error is None:
        return ()
    if isinstance(error, RegistryError) and error.codes:
        return error.codes
    return (ExitCode(error.exit_code).name,)


def _verdicts(step: Step, ledgers: list[Ledger]) -> Iterator[CheckResult]:
    if step.expect.error is not None:
        yield _error_verdict(step, [ledger.error for ledger in ledgers])
    for comparison in step.expect.comparisons:
        yield comparison.check(step.number, [figure(each.summary, comparison.metric) for each in ledgers])


def _error_verdict(step: Step, errors: list[RegsimError | None]) -> CheckResult:
    wrong = [error for error in errors if step.expect.error not in _codes(error)]
    found = ", ".join(_codes(wrong[0])) or "no error" if wrong else step.expect.error
    return CheckResult(
        expression=f"error == {step.expect.error}", step=step.number, passed=not wrong, actual=found
    )


def _describe(step: Step) -> str:
    match step.action:
        case Push(image=image, to=to):
            return f"push {image} to {to}"
        case Pull(reference=reference, node=node):
            return f"pull {reference} on {node}"
        case Copy(source=source, to=to):
            return f"copy {source} to {to}"
        case Tag(reference=reference, tag=tag):
            return f"tag {reference} as {tag}"
        case Delete(reference=reference):
            return f"delete {reference}"
