"""How much memory each process takes at most, whatever the size of a layer."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.conftest import Layout

    Scenario = Callable[..., Path]

STATUS = Path("/proc/self/status")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not STATUS.exists(), reason="the system does not tell a process's peak memory"),
]

MOST = 150 * 1024  # kB
MIB = 1024 * 1024

# What a process was before it became this program does not count, as it would in what wait4() tells.
PROGRAM = f"""
import sys
from regsim.__main__ import main
code = main()
sys.stdout.flush()
print(next(line for line in open({str(STATUS)!r}) if line.startswith("VmHWM")), file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture(autouse=True)
def own_cache() -> None:
    """Share what is known of generated layers with all other tests: nothing here depends on mounts."""


def peak(err: str) -> int:
    """Return the peak memory that a program told at its end, in kB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", err)
    assert found is not None, err
    return int(found[1])


def regsim(*words: object) -> tuple[dict[str, Any], int]:
    """Run the command line, and return its JSON result and its peak memory in kB."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, words), "--format", "json", "--quiet"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), peak(done.stderr)


@contextmanager
def serving() -> Iterator[tuple[str, list[int]]]:
    """Run `regsim serve`; give its host, and when it has ended its peak memory in kB."""
    ended: list[int] = []
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "serve", "--port", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip().removeprefix("http://"), ended
        finally:
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate()
        ended.append(peak(err))


def check_run(path: Path, size: int) -> None:
    result, memory = regsim("run", path)
    moved = [transfer["summary"]["layers"]["transferred"]["bytes"] for transfer in result["transfers"]]
    assert moved == [size, size]
    assert result["reconciliation"]["matched"] is True
    assert memory < MOST


def check_commands(layout: Layout, tmp_path: Path, size: int) -> None:
    """Push, copy and pull a layer between three processes and two layouts."""
    chunk = bytes(range(256)) * 4096
    aside = tmp_path / "layer"
    hasher = hashlib.sha256()
    with aside.open("wb") as file:
        for _ in range(size // len(chunk)):
            file.write(chunk)
            hasher.update(chunk)
    aside.rename(layout.blob(f"sha256:{hasher.hexdigest()}"))
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": layout.add(b"{}", "application/vnd.oci.image.config.v1+json"),
        "layers": [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": f"sha256:{hasher.hexdigest()}",
                "size": size,
            }
        ],
    }
    layout.tag("big", layout.add(json.dumps(manifest).encode(), str(manifest["mediaType"])))
    with serving() as (here, memory_here), serving() as (there, memory_there):
        for words in (
            ("push", f"{layout}:big", f"{here}/app:1"),
            ("copy", f"{here}/app:1", f"{there}/app:1"),
            ("pull", f"{there}/app:1", f"oci:{tmp_path / 'copy'}"),
        ):
            result, memory = regsim(*words)
            assert result["summary"]["layers"]["transferred"]["bytes"] == size
            assert memory < MOST, words
    assert max(*memory_here, *memory_there) < MOST


def scenario_of(scenario: Scenario, size: int) -> Path:
    return scenario(
        f"images: {{big: {{layers: [{size}]}}}}\n"
        "steps:\n  - push: {image: big, to: app}\n  - pull: {reference: app}\n"
    )


def test_a_run_with_a_layer_of_256_mib_takes_less_than_150_mb(scenario: Scenario) -> None:
    check_run(scenario_of(scenario, 256 * MIB), 256 * MIB)


def test_a_layer_of_160_mib_passes_through_every_command_in_less_than_150_mb(
    empty_layout: Layout, tmp_path: Path
) -> None:
    check_commands(empty_layout, tmp_path, 160 * MIB)


def test_golang_upgrade_takes_less_than_150_mb() -> None:
    result, memory = regsim("run", "golang-upgrade")
    assert result["reconciliation"]["matched"] is True
    assert memory < MOST


@pytest.mark.parametrize("name", ["cold-vs-warm", "rebuilt-base", "base-alignment"])
@pytest.mark.soak
def test_the_other_large_scenarios_take_less_than_150_mb(name: str) -> None:
    assert regsim("run", name)[1] < MOST


@pytest.mark.soak
def test_64_nodes_that_pull_at_once_take_less_than_150_mb(scenario: Scenario) -> None:
    path = scenario(
        "images: {a: {layers: [20MB, 20MB, 20MB, 20MB]}}\n"
        "nodes: {ci: {}, edge: {count: 64}}\n"
        "steps:\n"
        "  - push: {image: a, to: app, node: ci}\n"
        "  - pull: {reference: app, node: edge}\n"
    )
    assert regsim("run", path)[1] < MOST


@pytest.mark.soak
def test_a_run_with_a_layer_of_4_gib_takes_less_than_150_mb(scenario: Scenario) -> None:
    check_run(scenario_of(scenario, 4096 * MIB), 4096 * MIB)


@pytest.mark.soak
def test_a_layer_of_4_gib_passes_through_every_command_in_less_than_150_mb(
    empty_layout: Layout, tmp_path: Path
) -> None:
    check_commands(empty_layout, tmp_path, 4096 * MIB)
