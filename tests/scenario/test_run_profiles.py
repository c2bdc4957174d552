"""The scenario library under every profile: laws and accounts hold, outcomes are what the profile says."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from mock_registry import MockRegistry
from mock_registry.faults.profiles import NAMES as PROFILES
from regsim.core.ledger import Outcome, violations
from regsim.core.result import Mode, RunResult
from regsim.scenario import wire_world as world_module
from regsim.scenario.images import open_images
from regsim.scenario.load import find_scenario, load_scenario, shipped
from regsim.scenario.model_world import ModelWorld
from regsim.scenario.run import run
from regsim.scenario.wire_world import wire_world

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Fresh = Callable[[], Path]

pytestmark = [pytest.mark.anyio, pytest.mark.long]

# What a profile's table says of sharing; where nothing is said, outcomes are those without a profile.
NO_ISOLATION = {"ggcr"}  # "blobs belong to no repository": what would be mounted is there


def ignore(_: str) -> None:
    """Tell nobody."""


@pytest.fixture
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    """Return a function that makes a directory for what scenarios build."""
    return lambda: tmp_path_factory.mktemp("scratch")


async def wired(
    name: str, registry: Callable[..., MockRegistry], patch: pytest.MonkeyPatch, scratch: Path
) -> RunResult:
    """Run a shipped scenario against a registry of our choice, and hold it to the laws."""
    patch.setattr(world_module, "MockRegistry", registry)
    scenario = load_scenario(find_scenario(name))
    images = await open_images(scenario, generate=True, tell=ignore, scratch=scratch)
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(
            wire_world(scenario.registry, images, mode=Mode.WIRE, warn=ignore)
        )
        result = await run(scenario, world, Mode.WIRE, ignore)
    assert (result.error, result.reconciliation.differences) == (None, ())
    assert [violations(each.ledger) for each in result.transfers] == [[]] * len(result.transfers)
    return result


async def modelled(name: str, scratch: Path) -> RunResult:
    """Run it against the specification's registry, as the model has it."""
    scenario = load_scenario(find_scenario(name))
    images = await open_images(scenario, generate=False, tell=ignore, scratch=scratch)
    return await run(scenario, ModelWorld(images=images), Mode.MODEL, ignore)


def outcomes(result: RunResult, *, mounted: Outcome = Outcome.MOUNTED) -> list[str]:
    told = [entry.outcome for each in result.transfers for entry in each.ledger.entries]
    return [str(mounted if each is Outcome.MOUNTED else each) for each in told]


# The others move 200 MB and more, nine times.
QUICK = {"cold-vs-warm", "cross-repo-mount", "shared-base"}
LIBRARY = [
    pytest.param(each.name, marks=() if each.name in QUICK else pytest.mark.soak) for each in shipped()
]


@pytest.mark.parametrize("scenario", LIBRARY)
@pytest.mark.parametrize("profile", sorted(PROFILES))
async def test_the_library_under_every_profile(
    profile: str, scenario: str, monkeypatch: pytest.MonkeyPatch, fresh: Fresh
) -> None:
    result = await wired(scenario, lambda **_: MockRegistry(profile=profile), monkeypatch, fresh())
    mounted = Outcome.EXISTS if profile in NO_ISOLATION else Outcome.MOUNTED
    assert outcomes(result) == outcomes(await modelled(scenario, fresh()), mounted=mounted)


async def test_where_mounts_are_refused_what_would_be_mounted_is_transferred(
    monkeypatch: pytest.MonkeyPatch, fresh: Fresh
) -> None:
    result = await wired("cross-repo-mount", lambda **_: MockRegistry(mount=False), monkeypatch, fresh())
    plain = await modelled("cross-repo-mount", fresh())
    assert "mounted" in outcomes(plain)
    assert outcomes(result) == outcomes(plain, mounted=Outcome.TRANSFERRED)
