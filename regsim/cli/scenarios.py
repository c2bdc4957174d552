"""What `regsim run` does: load every scenario, then run one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from regsim.errors import UsageError
from regsim.result import Mode, RunResult
from regsim.scenario.find import find_scenario
from regsim.scenario.images import open_images
from regsim.scenario.load import load_scenario
from regsim.scenario.model_world import ModelWorld
from regsim.scenario.run import run
from regsim.scenario.schema import Scenario, parse_registry
from regsim.scenario.world import World, wire_world


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How scenarios are to be run; `tell` is told each step."""

    registry: str | None = None
    model: bool = False
    dry_run: bool = False
    overrides: tuple[str, ...] = ()
    prefix: str | None = None
    keep: bool = False
    tell: Callable[[str], None]

    @property
    def mode(self) -> Mode:
        """The fidelity."""
        if self.model:
            return Mode.MODEL
        return Mode.PLAN if self.dry_run else Mode.WIRE


async def run_all(names: Sequence[str], choice: Choice) -> list[RunResult]:
    """Run scenarios in order; all are loaded and judged before the first one runs.

    Raises:
        ScenarioError, UsageError, LocalFileError: one of them cannot be run; none was.
    """
    scenarios = [_load(name, choice) for name in names]
    results: list[RunResult] = []
    for scenario in scenarios:
        results.append(await _run(scenario, choice))
        if results[-1].interrupted:
            break
    return results


def _load(name: str, choice: Choice) -> Scenario:
    scenario = load_scenario(find_scenario(name), choice.overrides)
    if choice.mode not in scenario.modes:
        allowed = ", ".join(scenario.modes)
        raise UsageError(f"{scenario.name} does not run as {choice.mode}", hint=f"its modes are: {allowed}")
    if choice.registry is not None:
        scenario = replace(scenario, registry=parse_registry(choice.registry))
    return scenario


async def _run(scenario: Scenario, choice: Choice) -> RunResult:
    async with AsyncExitStack() as stack:
        images = await open_images(scenario, generate=not choice.model, tell=choice.tell)
        world: World
        if choice.model:
            world = ModelWorld(images)
        else:
            world = await stack.enter_async_context(
                wire_world(
                    scenario.registry,
                    images,
                    mode=choice.mode,
                    prefix=choice.prefix,
                    keep=choice.keep,
                    warn=choice.tell,
                )
            )
        return await run(scenario, world, choice.mode, choice.tell)
