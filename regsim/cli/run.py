"""`regsim run`: loads every scenario first, then runs one after the other and prints their results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from regsim.cli.connecting import Connecting
from regsim.cli.output import Printing, check_outputs, ignore, status, write
from regsim.cli.running import Wanted, conclude, drive, failing
from regsim.cli.running import run as run_to_end
from regsim.core.result import Mode, RunResult
from regsim.errors import ExitCode, RegsimError, ScenarioError, UsageError, cancellation
from regsim.net.address import host_of
from regsim.scenario.images import has_real_content, open_images
from regsim.scenario.load import find_scenario, load_scenario, shipped
from regsim.scenario.model_world import ModelWorld, check_model
from regsim.scenario.run import blank
from regsim.scenario.run import run as run_steps
from regsim.scenario.schema import RegistrySpec, Scenario
from regsim.scenario.world import World

if TYPE_CHECKING:
    from regsim.registry.transport import Transport


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RunFlags(Printing):
    """How scenarios are run.

    Attributes:
        registry: mock, the URL of a running one, or container[:IMAGE], which is started and removed again.
        model: compute what would move, without HTTP and without bytes.
        dry_run: ask the registry, write nothing, and report what would move.
        set: KEY=VALUE, changes a value of the scenario; repeatable.
        json: also write the result as JSON to this file.
        prefix: put all repositories below this one.
        keep: do not delete what was pushed to a running registry.
        quiet: print nothing but the report and errors.
    """

    registry: str | None = None
    model: Annotated[bool, Parameter(negative=())] = False
    dry_run: Annotated[bool, Parameter(negative=())] = False
    set: Annotated[list[str] | None, Parameter(negative=())] = None
    json: Path | None = None
    prefix: str | None = None
    keep: Annotated[bool, Parameter(negative=())] = False
    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"), negative=())] = False

    @property
    def mode(self) -> Mode:
        """What the flags ask for."""
        return Mode.MODEL if self.model else Mode.PLAN if self.dry_run else Mode.WIRE


_FLAGS = RunFlags()


def run(*scenarios: str, flags: RunFlags = _FLAGS, connecting: Connecting | None = None) -> ExitCode:
    """Run scenarios: print what moved, what was saved, and whether the registry's journal agrees.

    Args:
        scenarios: scenario files, or names of shipped ones.
        flags: see below.
        connecting: see below, for a running registry.
    """
    wanted = Wanted(printing=flags, json=flags.json, several=len(scenarios) > 1)
    if flags.output is not None and flags.output == flags.json:
        raise UsageError(f"--output and --json name the same file: {flags.json}", hint="name two files")
    with failing(wanted, flags.mode):
        if not scenarios:
            for each in shipped():
                status(f"{each.name:<16}  {each.description}")
            raise UsageError("no scenario given", hint="name one of these, or a file: regsim run shared-base")
        if flags.model and (
            flags.dry_run or flags.registry is not None or flags.prefix is not None or flags.keep
        ):
            raise UsageError(
                "--model has no registry", hint="leave out --dry-run, --registry, --prefix and --keep"
            )
        check_outputs(flags.output, flags.json)
        loaded = _load_all(scenarios, partial(_load, flags=flags))
        connect: partial[Transport] | None = None
        if not flags.model:
            from regsim.registry.transport import Transport  # noqa: PLC0415  (the model needs no HTTP client)

            hosts = [host_of(each.registry.url) for each in loaded if each.registry.url is not None]
            connection = (connecting or Connecting()).connection(*dict.fromkeys(hosts))
            connect = partial(Transport, connection=connection)
    waits = not flags.model or any(map(has_real_content, loaded))
    return conclude((run_to_end if waits else drive)(_run_all(loaded, flags, connect)), wanted)


def check(
    *scenarios: str, overrides: Annotated[list[str] | None, Parameter("--set", negative=())] = None
) -> None:
    """Check scenario files without running them: print every mistake, with its line and column.

    Args:
        scenarios: scenario files, or names of shipped ones.
        overrides: KEY=VALUE, changes a value of the scenarios; repeatable.
    """
    if not scenarios:
        raise UsageError("no scenario given", hint="name a file: regsim check mine.yaml")
    _load_all(scenarios, lambda name: load_scenario(find_scenario(name), overrides or ()))
    write("".join(f"{name}: valid\n" for name in scenarios), None)


def _load_all(names: Sequence[str], load: Callable[[str], Scenario]) -> list[Scenario]:
    """Load and check scenarios before the first one runs.

    Raises:
        ScenarioError, UsageError, LocalFileError: some of them cannot be run.
    """
    scenarios: list[Scenario] = []
    errors: list[RegsimError] = []
    for name in names:
        try:
            scenarios.append(load(name))
        except RegsimError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ScenarioError([line for each in errors for line in _problems(each)])
    return scenarios


def _load(name: str, flags: RunFlags) -> Scenario:
    scenario = load_scenario(find_scenario(name), tuple(flags.set or ()))
    if flags.mode not in scenario.modes:
        allowed = ", ".join(scenario.modes)
        raise UsageError(f"{scenario.name} does not run as {flags.mode}", hint=f"its modes are: {allowed}")
    if flags.registry is not None:
        scenario = scenario.model_copy(update={"registry": RegistrySpec.parse(flags.registry)})
    if flags.mode is Mode.MODEL:
        check_model(scenario)
    else:
        from regsim.scenario.wire_world import check_registry  # noqa: PLC0415  (the model loads no network)

        check_registry(scenario, flags.prefix)
    return scenario


def _problems(error: RegsimError) -> list[str]:
    if isinstance(error, ScenarioError):
        return error.problems
    return [f"{error.message} — {error.hint}" if error.hint else error.message]


async def _run_all(
    scenarios: Sequence[Scenario], flags: RunFlags, connect: partial[Transport] | None
) -> list[RunResult]:
    """Run scenarios in order, up to one that is interrupted."""
    results: list[RunResult] = []
    for scenario in scenarios:
        results.append(await _run(scenario, flags, connect))
        if results[-1].interrupted:
            break
    return results


async def _run(scenario: Scenario, flags: RunFlags, connect: partial[Transport] | None) -> RunResult:
    """Run a scenario; an error or an interrupt leaves the result of what had been done."""
    result = blank(scenario, flags.mode)
    tell = ignore if flags.quiet else status
    try:
        async with AsyncExitStack() as stack:
            scratch = Path(stack.enter_context(TemporaryDirectory(prefix="regsim-")))
            images = await open_images(scenario, generate=not flags.model, tell=tell, scratch=scratch)
            world: World = ModelWorld(images=images)
            if connect is not None:
                from regsim.scenario.wire_world import wire_world  # noqa: PLC0415  (the model loads no network)

                wire = wire_world(
                    scenario.registry,
                    images,
                    mode=flags.mode,
                    seed=scenario.seed,
                    prefix=flags.prefix,
                    keep=flags.keep,
                    warn=tell,
                    connect=connect,
                )
                world = await stack.enter_async_context(wire)
            result = await run_steps(scenario, world, flags.mode, tell)
    except RegsimError as error:
        return replace(result, error=result.error or error)
    except cancellation():
        return replace(result, interrupted=True)
    return result
