"""Scenarios whose registry misbehaves, or has the ways of another: the accounts still agree."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from mock_registry.faults.profiles import NAMES
from regsim.core.ledger import Outcome, violations
from regsim.core.result import Mode, RunResult
from regsim.errors import ExitCode, ScenarioError, UsageError
from regsim.scenario.images import open_images
from regsim.scenario.load import parse_scenario
from regsim.scenario.model_world import check_model
from regsim.scenario.run import run
from regsim.scenario.schema import PROFILES, MockSpec, RegistrySpec
from regsim.scenario.wire_world import WireWorld, wire_world

if TYPE_CHECKING:
    from regsim.scenario.schema import Scenario

pytestmark = pytest.mark.anyio

SCENARIO = """
seed: {seed}
registry: {{mock: {{{registry}}}}}
images: {{base: {{layers: [300kB, 90kB]}}, api: {{from: base, layers: [20kB]}}}}
nodes: {{ci: {{}}, edge: {{count: 2}}}}
steps:
  - push: {{image: base, to: 'shop/base:1', node: ci}}
  - push: {{image: api, to: 'shop/api:1', node: ci}}
  - pull: {{reference: 'shop/api:1', node: edge}}
  - copy: {{from: 'shop/api:1', to: 'prod/api:1', node: ci}}
"""


def read(path: Path, registry: str, seed: int = 3) -> Scenario:
    return parse_scenario(SCENARIO.format(registry=registry, seed=seed), path / "s.yaml")


async def run_it(
    path: Path, registry: str, mode: Mode = Mode.WIRE, seed: int = 3
) -> tuple[RunResult, list[str]]:
    """Run the scenario, and return what came of it with the faults that the journal tells of."""
    scenario = read(path, registry, seed)
    images = await open_images(scenario, generate=True, tell=lambda _: None)
    async with AsyncExitStack() as stack:
        world: WireWorld = await stack.enter_async_context(
            wire_world(scenario.registry, images, mode=mode, seed=scenario.seed, warn=lambda _: None)
        )
        result = await run(scenario, world, mode, lambda _: None)
        assert world.registry is not None
        return result, [record.fault for record in world.registry.journal if record.fault is not None]


def moved(result: RunResult) -> list[list[tuple[str, Outcome]]]:
    return [[(each.digest, each.outcome) for each in one.ledger.entries] for one in result.transfers]


def assert_reconciled(result: RunResult) -> None:
    assert result.reconciliation.differences == ()
    assert result.reconciliation.matched is True
    assert [line for transfer in result.transfers for line in violations(transfer.ledger)] == []


@pytest.mark.parametrize(
    "fault",
    [
        # On their way
        "GET blob per=digest nth=1 cut after=100kB",
        "GET blob per=digest first=2 reset after=50kB",
        "PUT upload times=1 reset after=50kB",
        "GET manifest nth=1 cut after=10",
        "POST uploads nth=1 status 429 headers.retry-after=0",
        "PUT upload nth=1 status 503",
        "PUT manifest nth=1 status 500 form=html",
        "GET blob redirect",
        "POST uploads location absolute",
        # What was asked for was done, and the answer says otherwise or is lost
        "PUT upload nth=1 when=after status 503",
        "PUT upload per=digest nth=1 when=after status 502 form=html",
        "PUT upload nth=1 when=after cut",
        "PUT upload nth=1 slow_commit then=unknown",
        "PUT manifest nth=1 when=after status 500",
        "PUT manifest nth=1 when=after reset",
        "POST uploads query=mount nth=1 when=after status 500",
        "POST uploads query=mount nth=1 when=after cut",
    ],
)
async def test_a_fault_that_the_client_overcomes_leaves_two_accounts_that_agree(
    tmp_path: Path, fault: str
) -> None:
    result, faults = await run_it(tmp_path, f"faults: ['{fault}']")
    assert result.exit_code is ExitCode.OK
    assert faults
    assert_reconciled(result)
    healthy, none = await run_it(tmp_path, "")
    assert none == []
    assert moved(result) == moved(healthy)


async def test_the_example_of_the_gallery_does_what_it_says(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "scenarios" / "README.md").read_text()
    [example] = re.findall(r"```yaml\n(name: flaky-registry\n.*?)```", text, re.DOTALL)
    scenario = parse_scenario(example, tmp_path / "s.yaml")
    images = await open_images(scenario, generate=True, tell=lambda _: None)
    async with wire_world(scenario.registry, images, mode=Mode.WIRE, warn=lambda _: None) as world:
        result = await run(scenario, world, Mode.WIRE, lambda _: None)
        assert world.registry is not None
        assert [record.fault for record in world.registry.journal if record.fault] == ["status", "cut"]
    assert result.exit_code is ExitCode.OK
    assert [check.passed for check in result.checks] == [True] * 4
    assert_reconciled(result)


async def test_a_mount_that_is_refused_moves_what_would_have_been_shared(tmp_path: Path) -> None:
    result, faults = await run_it(tmp_path, "faults: ['POST uploads query=mount status 403']")
    assert result.exit_code is ExitCode.OK
    assert set(faults) == {"status"}
    assert_reconciled(result)
    assert Outcome.MOUNTED not in {each.outcome for one in result.transfers for each in one.ledger.entries}


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("GET blob status 404", ExitCode.REGISTRY),
        ("GET blob limit_data bytes=10kB", ExitCode.NETWORK),
        ("GET blob nth=1 corrupt offset=100", ExitCode.CONTENT),
        ("POST uploads location drop", ExitCode.REGISTRY),
    ],
)
async def test_a_fault_that_the_client_cannot_overcome_is_told_and_accounts_agree_all_the_same(
    tmp_path: Path, fault: str, code: ExitCode
) -> None:
    result, faults = await run_it(tmp_path, f"faults: ['{fault}']")
    assert result.exit_code is code
    assert faults
    assert_reconciled(result)


async def test_chance_in_faults_follows_from_the_seed_of_the_scenario(tmp_path: Path) -> None:
    lines = [f"  - push: {{image: a, to: 'app:{number}'}}\n" for number in range(8)]
    told = []
    for seed in (1, 1, 2):
        text = (
            f"seed: {seed}\nregistry: {{mock: {{faults: ['manifest toxicity=0.5 latency 0']}}}}\n"
            f"images: {{a: {{layers: [1kB]}}}}\nnodes: {{ci: {{parallel: 1}}}}\nsteps:\n{''.join(lines)}"
        )
        scenario = parse_scenario(text, tmp_path / "s.yaml")
        images = await open_images(scenario, generate=True, tell=lambda _: None)
        async with wire_world(
            scenario.registry, images, mode=Mode.WIRE, seed=scenario.seed, warn=lambda _: None
        ) as world:
            await run(scenario, world, Mode.WIRE, lambda _: None)
            assert world.registry is not None
            told.append([record.fault for record in world.registry.journal if record.route == "manifest"])
    assert told[0] == told[1] != told[2]


@pytest.mark.parametrize("profile", PROFILES)
async def test_a_registry_with_the_ways_of_another_is_used_and_reconciled(
    tmp_path: Path, profile: str
) -> None:
    result, _ = await run_it(tmp_path, f"profile: {profile}")
    assert result.exit_code is ExitCode.OK
    assert_reconciled(result)


@pytest.mark.parametrize("auth", ["basic", "token"])
async def test_nodes_log_in_and_the_accounts_agree_on_what_that_took(tmp_path: Path, auth: str) -> None:
    scenario = read(tmp_path, f"auth: {auth}")
    images = await open_images(scenario, generate=True, tell=lambda _: None)
    async with wire_world(scenario.registry, images, mode=Mode.WIRE, warn=lambda _: None) as world:
        result = await run(scenario, world, Mode.WIRE, lambda _: None)
        assert world.registry is not None
        records = world.registry.journal.records()
        assert {record.user for record in records if record.status != 401} == {"regsim"}
        assert any(record.status == 401 for record in records)
        assert bool(world.registry.journal.records(route="token")) == (auth == "token")
        async with httpx.AsyncClient(base_url=world.url, trust_env=False) as stranger:
            assert (await stranger.get("/v2/")).status_code == 401
    assert result.exit_code is ExitCode.OK
    assert_reconciled(result)
    assert moved(result) == moved((await run_it(tmp_path, ""))[0])


@pytest.mark.parametrize("fault", ["PUT upload nth=2 expire_tokens", "token nth=1 status 503"])
async def test_a_token_that_ends_or_does_not_come_costs_requests_and_no_layer(
    tmp_path: Path, fault: str
) -> None:
    result, faults = await run_it(tmp_path, f"auth: token, faults: ['{fault}']")
    assert (result.exit_code, len(faults)) == (ExitCode.OK, 1)
    assert_reconciled(result)
    assert moved(result) == moved((await run_it(tmp_path, ""))[0])


async def test_a_plan_logs_in_and_the_model_need_not(tmp_path: Path) -> None:
    check_model(read(tmp_path, "auth: token"))
    result, _ = await run_it(tmp_path, "auth: token", Mode.PLAN)
    assert result.exit_code is ExitCode.OK
    assert moved(result) == moved((await run_it(tmp_path, ""))[0])


async def test_a_plan_asks_the_registry_as_it_is(tmp_path: Path) -> None:
    result, faults = await run_it(tmp_path, "faults: ['HEAD blob nth=1 status 503']", Mode.PLAN)
    assert (result.exit_code, faults) == (ExitCode.OK, ["status"])
    assert moved(result) == moved((await run_it(tmp_path, ""))[0])


@pytest.mark.parametrize("registry", ["profile: ecr", "faults: ['base cut']"])
def test_the_model_refuses_what_it_does_not_know(tmp_path: Path, registry: str) -> None:
    check_model(read(tmp_path, ""))
    check_model(read(tmp_path, "faults: []"))
    with pytest.raises(UsageError, match="does not run as model: the model knows no profiles and no faults"):
        check_model(read(tmp_path, registry))


def test_every_profile_can_be_named(tmp_path: Path) -> None:
    assert PROFILES == NAMES
    for name in NAMES:
        assert read(tmp_path, f"profile: {name}").registry == RegistrySpec(mock=MockSpec(profile=name))


@pytest.mark.parametrize(
    ("registry", "complaint"),
    [
        (
            "profile: olaregg",
            '3:28: no profile of the mock registry: "olaregg" — did you mean "olareg"?',
        ),
        ("auth: tokens", '3:25: expected one of none, basic, token, found "tokens" — did you mean "token"?'),
        ("profile: 3", "3:28: a profile must be text, found the number 3"),
        ("faults: base cut", '3:27: expected a list of faults, found "base cut"'),
        ("faults: [3]", "3:28: a fault must be text, found the number 3"),
        (
            "faults: [GET blbo cut]",
            "3:28: not a fault: 'blbo' is not a method, route or effect, did you mean 'blob'?",
        ),
        ("faults: ['GET blob']", "3:28: not a fault: 'GET blob' names no effect"),
        ("faults: ['GET blob cut after=x nth=0']", "3:28: not a fault: "),
        ("fault: []", '3:19: unknown key "fault" — did you mean "faults"?'),
    ],
)
def test_what_cannot_be_meant_is_told_with_its_place(tmp_path: Path, registry: str, complaint: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        read(tmp_path, registry)
    [problem] = caught.value.problems
    assert problem.startswith(f"{tmp_path / 's.yaml'}:{complaint}")


def test_all_mistakes_in_several_faults_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError) as caught:
        read(tmp_path, "profile: nosuch, faults: [GET blbo cut, base cut, GET blob nth=x cut]")
    assert [problem.partition("s.yaml:")[2].partition(": ")[0] for problem in caught.value.problems] == [
        "3:28",
        "3:45",
        "3:69",
    ]
