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
    told = ("digest", "size", "outcome", "wire_sent", "wire_received")
    return [
        [transfer["step"], transfer["node"], transfer["direction"]]
        + [{key: entry[key] for key in told} for entry in transfer["entries"] if entry["role"] == "layer"]
        for transfer in result["transfers"]
    ]


def test_golang_upgrade_has_the_same_layer_outcomes_at_docker_registry_twice_in_a_row(
    regsim: Command, docker_registry: DockerRegistry, tmp_path: Path
) -> None:
    def run(name: str, *options: str) -> dict[str, Any]:
        regsim("run", "golang-upgrade", *options, "--json", name)
        result: dict[str, Any] = json.loads((tmp_path / name).read_text())
        return result

    mock = run("mock.json")
    assert mock["reconciliation"] == {"matched": True, "differences": []}
    for name in ("first.json", "second.json"):
        real = run(name, "--registry", docker_registry.url)
        assert layers(real) == layers(mock)
        assert all(check["passed"] for check in real["checks"])
        # docker-registry keeps no journal that regsim could read: there is no second account.
        assert real["reconciliation"]["matched"] is None
