"""A scenario against a real registry has the layer outcomes that it has against the mock."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.peers.conftest import Command, DockerRegistry

pytestmark = pytest.mark.peers


def layers(result: dict[str, Any]) -> list[Any]:
    """Return each transfer's layers: which, what became of them, and what that cost."""
    told = ("digest", "size", "outcome", "evidence", "wire_sent", "wire_received")
    return [
        [transfer["step"], transfer["node"], transfer["direction"]]
        + [{key: entry[key] for key in told} for entry in transfer["entries"] if entry["role"] == "layer"]
        for transfer in result["transfers"]
    ]


def planned(transfers: list[Any]) -> list[Any]:
    """Return what a plan says where the wire says `201`: a mount is not tried."""
    text = json.dumps(transfers).replace('"evidence": "201"', '"evidence": "assumed"')
    planned: list[Any] = json.loads(text)
    return planned


class Runs:
    """Runs scenarios and reads their results."""

    def __init__(self, regsim: Command, folder: Path) -> None:
        self._regsim, self._folder = regsim, folder

    def __call__(self, scenario: str, *options: str) -> dict[str, Any]:
        """Run one and return its result; its checks hold."""
        self._regsim("run", scenario, *options, "--json", "result.json")
        result: dict[str, Any] = json.loads((self._folder / "result.json").read_text())
        assert all(check["passed"] for check in result["checks"])
        return result


@pytest.fixture
def run(regsim: Command, tmp_path: Path) -> Runs:
    """Run scenarios in this test's folder."""
    return Runs(regsim, tmp_path)


def test_golang_upgrade_has_the_same_layer_outcomes_at_docker_registry_twice_in_a_row(
    run: Runs, docker_registry: DockerRegistry
) -> None:
    mock = run("golang-upgrade")
    assert mock["reconciliation"] == {"matched": True, "differences": []}
    for _ in range(2):
        real = run("golang-upgrade", "--registry", docker_registry.url)
        assert layers(real) == layers(mock)
        # docker-registry keeps no journal that regsim could read: there is no second account.
        assert real["reconciliation"] == {"matched": None, "differences": []}


@pytest.mark.parametrize("scenario", ["shared-base", "cross-repo-mount", "cold-vs-warm"])
def test_scenario_and_its_plan_do_at_docker_registry_what_they_do_at_the_mock(
    run: Runs, docker_registry: DockerRegistry, scenario: str
) -> None:
    mock = run(scenario)
    with docker_registry.watch() as accesses:
        plan = run(scenario, "--registry", docker_registry.url, "--dry-run")
    assert {access.method for access in accesses} <= {"GET", "HEAD"}
    assert plan["summary"]["requests"] == len(accesses)
    assert layers(plan) == planned(layers(mock))
    real = run(scenario, "--registry", docker_registry.url)
    assert layers(real) == layers(mock)
    assert real["summary"]["wire"] == mock["summary"]["wire"]


def test_scenario_leaves_docker_registry_as_it_found_it_unless_told_to_keep(
    run: Runs, docker_registry: DockerRegistry
) -> None:
    manifests = "/v2/{}/shop/api/manifests/v2"
    for options, status in (((), 404), (("--keep",), 200)):
        run("shared-base", "--registry", docker_registry.url, "--prefix", "trial", *options)
        assert docker_registry.ask("GET", manifests.format("trial"))[0] == status
