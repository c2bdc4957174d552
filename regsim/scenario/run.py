"""Running a scenario: its steps in order, each held against what it expects.

Owns the order of steps and nodes, and the verdicts. Must not know HTTP, the model or reports: it acts on a
`World`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from regsim.core.result import CheckResult, ContainerResult, Reconciliation, RunResult, TransferResult
from regsim.errors import ExitCode, RegistryError, RegsimError, cancellation
from regsim.scenario.checks import evaluate, figure
from regsim.scenario.schema_container import InContainer
from regsim.scenario.schema_step import Copy, Delete, Place, Pull, Push, Tag
from regsim.scenario.world import Member

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regsim.core.ledger import Ledger
    from regsim.core.result import Mode
    from regsim.scenario.run_containers import Containers
    from regsim.scenario.schema import Scenario
    from regsim.scenario.schema_step import Step
    from regsim.scenario.world import Work, World

# Layers that all nodes of a pull step together move at the same time: each takes some 4 MB in this process,
# with what the registry holds of it, and more of them only wait for each other.
MAX_MOVES_AT_ONCE = 24


async def run(scenario: Scenario, world: World, mode: Mode, tell: Callable[[str], None]) -> RunResult:
    """Run a scenario and return its result, also if it fails or is interrupted.

    Args:
        scenario: what to do.
        world: what to do it on.
        mode: how `world` does it, for the result.
        tell: receives each step as it begins.
    """
    return await _Run(scenario, world, mode, tell).finish()


def blank(scenario: Scenario, mode: Mode) -> RunResult:
    """Return the result of a scenario of which nothing has run yet."""
    return RunResult(
        scenario=scenario.name, description=scenario.description or None, seed=scenario.seed, mode=mode
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
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
    contained: list[ContainerResult] = field(default_factory=list)
    checks: list[CheckResult] = field(default_factory=list)
    error: RegsimError | None = None
    interrupted: bool = False

    async def finish(self) -> RunResult:
        real = self.world.images.real
        if real is None:
            return await self._finish(None)
        from regsim.scenario.run_containers import Containers  # noqa: PLC0415  (it needs an event loop)

        async with Containers(real) as containers:
            return await self._finish(containers)

    async def _finish(self, containers: Containers | None) -> RunResult:
        try:
            for step in self.scenario.steps:
                self.tell(f"step {step.number} of {len(self.scenario.steps)}: {_describe(step)}")
                if isinstance(step.action, InContainer) and containers is not None:
                    if not await self._container(step, step.action, containers):
                        break
                elif not await self._step(step):
                    break
        except RegsimError as error:
            self.error = error
        except cancellation():
            self.interrupted = True
        reconciliation = await self._reconcile()
        failed = any(map(_failed, self.transfers)) or any(map(_unwanted, self.contained))
        if not (self.interrupted or self.error is not None or failed):
            done = (self.transfers, self.contained)
            self.checks += [evaluate(check, *done) for check in self.scenario.checks]
        return replace(
            blank(self.scenario, self.mode),
            transfers=tuple(self.transfers),
            containers=tuple(self.contained),
            checks=tuple(self.checks),
            reconciliation=reconciliation,
            error=self.error,
            interrupted=self.interrupted,
        )

    async def _reconcile(self) -> Reconciliation:
        ledgers = [transfer.ledger for transfer in self.transfers]
        try:
            return await self.world.reconcile(ledgers)
        except cancellation():
            self.interrupted = True
            return Reconciliation.alone(ledgers)

    async def _step(self, step: Step) -> bool:
        """Do one step; tell whether the scenario goes on."""
        if isinstance(step.action, Delete):
            return await self._delete(step, step.action)
        jobs = list(self._jobs(step))
        begun: list[_Job] = []
        try:
            if isinstance(step.action, Pull):
                await self._at_once(jobs, begun)
            else:
                await self._in_turn(jobs, begun)
        finally:
            self.transfers += [_result(job) for job in jobs if job in begun]
        if any(map(_failed, self.transfers)):
            return False
        self.checks += _verdicts(step, [job.work.ledger() for job in jobs])
        return True

    async def _at_once(self, jobs: list[_Job], begun: list[_Job]) -> None:
        """Run jobs that read side by side; each one's failure stands in its own ledger."""

        async def move(job: _Job) -> None:
            begun.append(job)
            await job.work.run()

        widest = max(job.member.spec.parallel for job in jobs)
        places = max(1, MAX_MOVES_AT_ONCE // widest)
        await self.world.at_once([partial(move, job) for job in jobs], places)

    async def _in_turn(self, jobs: list[_Job], begun: list[_Job]) -> None:
        """Run jobs that write one after the other, up to one that fails and should not."""
        for job in jobs:
            begun.append(job)
            try:
                await job.work.run()
            finally:
                # Also of what was cut short: what it left in the registry is deleted in the end.
                if job.to is not None:
                    self.world.learn(job.work.ledger(), job.to)
            if _failed(_result(job)):
                break

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

    async def _container(self, step: Step, action: InContainer, containers: Containers) -> bool:
        error: RegsimError | None = None
        try:
            result, verdicts = await containers.do(step, action.doing)
            self.checks += verdicts
        except RegsimError as found:
            error = found
            expected = step.expect.error in _codes(found)
            result = containers.failed(step, action.doing, found, expected=expected)
        self.contained.append(result)
        if step.expect.error is not None:
            self.checks.append(_error_verdict(step, [error]))
        return not _unwanted(result)

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


def _unwanted(result: ContainerResult) -> bool:
    return result.error is not None and not result.expected_error


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
        case InContainer(doing=doing):
            return f"{doing.act} container {doing.name}"
