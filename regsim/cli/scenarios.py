"""What `regsim run` does: load every scenario, then run one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from regsim.core.result import Mode, RunResult
from regsim.errors import RegsimError, ScenarioError, UsageError
from regsim.net.address import host_of
from regsim.registry.transport import Transport
from regsim.scenario.find import find_scenario
from regsim.scenario.images import open_images
from regsim.scenario.load import load_scenario
from regsim.scenario.model_world import ModelWorld, check_model
from regsim.scenario.run import blank, run
from regsim.scenario.schema import Scenario
from regsim.scenario.schema_registry import RegistrySpec
from regsim.scenario.world import World, check_registry, wire_world

Connect = Callable[[str], Transport]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How scenarios are to be run; `tell` is told each step."""

    mode: Mode
    registry: str | None = None
    overrides: tuple[str, ...] = ()
    prefix: str | None = None
    keep: bool = False
    tell: Callable[[str], None]


def load_all(names: Sequence[str], choice: Choice) -> list[Scenario]:
    """Load and judge scenarios, before the first one runs.

    Raises:
        ScenarioError, UsageError, LocalFileError: one of them cannot be run, or several.
    """
    scenarios: list[Scenario] = []
    errors: list[RegsimError] = []
    for name in names:
        try:
            scenarios.append(_load(name, choice))
        except RegsimError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ScenarioError([line for each in errors for line in _problems(each)])
    return scenarios


def hosts(scenarios: Iterable[Scenario]) -> tuple[str, ...]:
    """Return the hosts of the registries of scenarios that are not ours, each once."""
    urls = (scenario.registry.url for scenario in scenarios)
    return tuple(dict.fromkeys(host_of(url) for url in urls if url is not None))


async def run_all(scenarios: Sequence[Scenario], choice: Choice, connect: Connect) -> list[RunResult]:
    """Run scenarios in order, up to one that is interrupted, and return what each one came to.

    Args:
        scenarios: what to run.
        choice: how.
        connect: opens a way to a registry by its URL.
    """
    results: list[RunResult] = []
    for scenario in scenarios:
        results.append(await _run(scenario, choice, connect))
        if results[-1].interrupted:
            break
    return results


def _load(name: str, choice: Choice) -> Scenario:
    scenario = load_scenario(find_scenario(name), choice.overrides)
    if choice.mode not in scenario.modes:
        allowed = ", ".join(scenario.modes)
        raise UsageError(f"{scenario.name} does not run as {choice.mode}", hint=f"its modes are: {allowed}")
    if choice.registry is not None:
        scenario = scenario.model_copy(update={"registry": RegistrySpec.parse(choice.registry)})
    if choice.mode is Mode.MODEL:
        check_model(scenario)
    else:
        check_registry(scenario, choice.prefix)
    return scenario


def _problems(error: RegsimError) -> list[str]:
    if isinstance(error, ScenarioError):
        return error.problems
    return [f"{error.message} — {error.hint}" if error.hint else error.message]


async def _run(scenario: Scenario, choice: Choice, connect: Connect) -> RunResult:
    """Run a scenario; whatever stops it, and when, what there is of it is returned."""
    result = blank(scenario, choice.mode)
    try:
        async with AsyncExitStack() as stack:
            world = await _open(scenario, choice, connect, stack)
            result = await run(scenario, world, choice.mode, choice.tell)
    except RegsimError as error:
        return replace(result, error=result.error or error)
    except asyncio.CancelledError:
        return replace(result, interrupted=True)
    return result


async def _open(scenario: Scenario, choice: Choice, connect: Connect, stack: AsyncExitStack) -> World:
    scratch = Path(stack.enter_context(TemporaryDirectory(prefix="regsim-")))
    images = await open_images(
        scenario, generate=choice.mode is not Mode.MODEL, tell=choice.tell, scratch=scratch
    )
    if choice.mode is Mode.MODEL:
        return ModelWorld(images)
    return await stack.enter_async_context(
        wire_world(
            scenario.registry,
            images,
            mode=choice.mode,
            seed=scenario.seed,
            prefix=choice.prefix,
            keep=choice.keep,
            warn=choice.tell,
            connect=connect,
        )
    )
