"""The world of a run at a registry that was there before: what a plan makes of it, and what is left."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mock_registry import Journal, MockRegistry, Route
from regsim.core.result import Mode, RunResult
from regsim.errors import ExitCode, UsageError
from regsim.scenario.images import open_images
from regsim.scenario.load import parse_scenario
from regsim.scenario.run import run
from regsim.scenario.schema import RegistrySpec
from regsim.scenario.wire_world import check_registry, wire_world

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import FakeEngine

pytestmark = pytest.mark.anyio

IMAGES = "images: {base: {layers: [9kB, 2kB]}, api: {from: base, layers: [3kB]}}\n"
FIRST = "steps:\n  - push: {image: base, to: 'app:1'}\n  - tag: {reference: 'app:1', tag: '2'}\n"


async def run_at(
    url: str,
    path: Path,
    text: str,
    *,
    mode: Mode = Mode.WIRE,
    keep: bool = True,
    warnings: list[str] | None = None,
) -> RunResult:
    """Run a scenario below the repository `try` of a registry."""
    scenario = parse_scenario(IMAGES + text, path)
    images = await open_images(scenario, generate=True, tell=lambda _: None)
    warn = (warnings if warnings is not None else []).append
    registry = RegistrySpec(url=url)
    async with wire_world(registry, images, mode=mode, prefix="try", keep=keep, warn=warn) as world:
        return await run(scenario, world, mode, lambda _: None)


def entries(result: RunResult) -> list[list[tuple[object, ...]]]:
    told = ("digest", "role", "outcome", "evidence", "mounted_from", "wire_sent", "wire_received", "wasted")
    return [
        [tuple(getattr(entry, name) for name in told) for entry in transfer.ledger.entries]
        for transfer in result.transfers
    ]


def state(registry: MockRegistry) -> str:
    """Return what all repositories hold."""
    held = {
        name: (sorted(each.blobs), sorted(each.manifests), sorted(each.tags.items()))
        for name, each in registry.state.repositories.items()
    }
    return json.dumps(held, default=str)


@pytest.mark.parametrize("deleted", ["app:1", "app@DIGEST"])
async def test_a_plan_goes_on_as_if_what_it_deletes_were_gone(tmp_path: Path, deleted: str) -> None:
    registry, path = MockRegistry(), tmp_path / "scenario.yaml"
    async with registry.serve() as server:
        first = await run_at(server.url, path, FIRST)
        place = deleted.replace("DIGEST", str(first.transfers[0].ledger.digest))
        steps = (
            "steps:\n"
            f"  - delete: {{reference: '{place}'}}\n"
            f"  - delete: {{reference: '{place}'}}\n"
            "    expect: {error: MANIFEST_UNKNOWN}\n"
            "  - pull: {reference: 'app:1'}\n"
            "    expect: {error: MANIFEST_UNKNOWN}\n"
            "  - push: {image: base, to: 'app:1'}\n"
            "  - push: {image: api, to: 'app:2'}\n"
            "  - delete: {reference: 'app:2'}\n"
            "  - push: {image: base, to: 'app:2'}\n"
            "  - pull: {reference: 'app:2'}\n"
        )
        before = state(registry)
        plan = await run_at(server.url, path, steps, mode=Mode.PLAN)
        assert state(registry) == before
        wire = await run_at(server.url, path, steps)
    for result in (plan, wire):
        assert [check for check in result.checks if not check.passed] == []
        assert result.exit_code is ExitCode.OK
    assert entries(plan) == entries(wire)


async def test_manifests_are_deleted_before_blobs_and_nothing_twice(tmp_path: Path) -> None:
    registry, path, warnings = MockRegistry(), tmp_path / "scenario.yaml", list[str]()
    steps = f"{FIRST}  - push: {{image: api, to: 'app:3'}}\n  - copy: {{from: 'app:3', to: 'web:3'}}\n"
    async with registry.serve() as server:
        empty = state(registry)
        await run_at(server.url, path, steps, keep=False, warnings=warnings)
        deletions = [record for record in registry.journal if record.method == "DELETE"]
        assert warnings == []
        assert all(record.status == 202 for record in deletions)
        for name in ("try/app", "try/web"):
            routes = [record.route for record in deletions if record.repository == name]
            assert routes == sorted(routes, key=[Route.MANIFEST, Route.BLOB].index)
        assert empty == "{}"
        assert all(not each.blobs and not each.manifests for each in registry.state.repositories.values())


async def test_what_a_step_has_deleted_already_is_no_trouble(tmp_path: Path) -> None:
    registry, path, warnings = MockRegistry(), tmp_path / "scenario.yaml", list[str]()
    async with registry.serve() as server:
        scenario = parse_scenario(IMAGES + FIRST, path)
        images = await open_images(scenario, generate=True, tell=lambda _: None)
        digest = (await images.made.image("base")).manifest.digest
        steps = f"{FIRST}  - delete: {{reference: 'app@{digest}'}}\n"
        result = await run_at(server.url, path, steps, keep=False, warnings=warnings)
    assert result.exit_code is ExitCode.OK
    assert warnings == []


async def test_what_is_left_behind_is_told_once_for_each_repository(tmp_path: Path) -> None:
    registry, warnings = MockRegistry(delete=False), list[str]()
    steps = f"{FIRST}  - push: {{image: api, to: 'web:1'}}\n"
    async with registry.serve() as server:
        await run_at(server.url, tmp_path / "scenario.yaml", steps, keep=False, warnings=warnings)
    assert [warning.partition(": ")[0] for warning in warnings] == [
        "left behind in try/app",
        "left behind in try/web",
    ]


async def test_a_registry_of_the_users_is_no_second_account(tmp_path: Path) -> None:
    class Unread(Journal):
        def __iter__(self) -> None:  # type: ignore[override]
            pytest.fail("the journal of a registry that is not ours was read")

    registry = MockRegistry(journal=Unread())
    async with registry.serve() as server:
        result = await run_at(server.url, tmp_path / "scenario.yaml", FIRST)
    assert result.reconciliation.matched is None


@pytest.mark.parametrize("prefix", [None, "below/this"])
async def test_a_registry_in_a_container_is_ours_and_gone_afterwards(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str | None
) -> None:
    monkeypatch.setenv("REGSIM_ENGINE", engine.command)
    text = f"registry: {{container: 'registry:2'}}\n{IMAGES}{FIRST}"
    scenario = parse_scenario(text, tmp_path / "scenario.yaml")
    images = await open_images(scenario, generate=True, tell=lambda _: None)
    told: list[str] = []
    registry = scenario.registry
    async with wire_world(registry, images, mode=Mode.WIRE, prefix=prefix, warn=told.append) as world:
        result = await run(scenario, world, Mode.WIRE, lambda _: None)
        (container,) = engine.containers()
        log = (engine.folder / f"{container}.log").read_text()
    assert result.exit_code == 0
    assert result.reconciliation.matched is None
    name = f"{prefix}/" if prefix else ""
    assert f"201 PUT /v2/{name}" in log
    # Nothing is deleted one by one from what goes as a whole.
    assert "DELETE" not in log
    assert (engine.containers(), told) == ([], [])


async def test_without_an_engine_a_container_is_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGSIM_ENGINE", "/nowhere/engine")
    monkeypatch.setenv("PATH", str(tmp_path))
    text = f"registry: container\n{IMAGES}{FIRST}"
    scenario = parse_scenario(text, tmp_path / "scenario.yaml")
    images = await open_images(scenario, generate=True, tell=lambda _: None)
    with pytest.raises(UsageError, match="no container engine answers: REGSIM_ENGINE: /nowhere/engine"):
        async with wire_world(scenario.registry, images, mode=Mode.WIRE, warn=lambda _: None):
            pass


@pytest.mark.parametrize("prefix", ["A", "a/", "a" * 253])
def test_a_prefix_must_make_repository_names(tmp_path: Path, prefix: str) -> None:
    scenario = parse_scenario(IMAGES + FIRST, tmp_path / "scenario.yaml")
    check_registry(scenario, "a/b")
    with pytest.raises(UsageError, match="not a repository name"):
        check_registry(scenario, prefix)
