"""A registry that goes away or says no: one clear error, the right exit code, no half file left behind."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.peers.conftest import Command, DockerRegistry, Layout

pytestmark = pytest.mark.peers

MOVING = 4 * 2**20  # so many bytes of a large layer have arrived: it is on its way, and far from there


class Failure(NamedTuple):
    """How a run of regsim ended that went wrong."""

    exit_code: int
    result: dict[str, Any]
    errors: list[str]

    @property
    def outcomes(self) -> dict[str, tuple[str, str]]:
        """The outcome and evidence of each entry, by role."""
        (transfer,) = self.result["transfers"]
        return {entry["role"]: (entry["outcome"], entry["evidence"]) for entry in transfer["entries"]}


def fail(*arguments: str, cwd: Path, meanwhile: Callable[[], None] = lambda: None) -> Failure:
    """Run regsim, do something while it works, and return how it ended: with one error and its hint."""
    with subprocess.Popen(
        [sys.executable, "-m", "regsim", *arguments, "--format", "json"],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        meanwhile()
        output, said = process.communicate(timeout=60)
    assert "Traceback" not in said
    errors = [line for line in said.splitlines() if line.startswith(("Error:", "hint:"))]
    assert [line.partition(":")[0] for line in errors] in (["Error"], ["Error", "hint"]), said
    return Failure(process.returncode, json.loads(output), errors)


def kill_once(registry: DockerRegistry, moving: Callable[[], int]) -> Callable[[], None]:
    """Return what kills the registry as soon as `moving` tells of enough bytes."""

    def wait_and_kill() -> None:
        end = time.monotonic() + 20
        while moving() < MOVING:
            assert time.monotonic() < end, "nothing has moved"
            time.sleep(0.002)
        registry.kill()

    return wait_and_kill


def bytes_of(folder: Path, pattern: str) -> int:
    """Return the size of the largest file of that name."""
    largest = 0
    for file in folder.glob(pattern):
        # What is complete is renamed between the look at the folder and the look at the file.
        with suppress(FileNotFoundError):
            largest = max(largest, file.stat().st_size)
    return largest


def test_registry_that_dies_during_a_push_is_one_clear_error_and_a_partial_ledger(
    docker_registry: DockerRegistry, large: Layout, tmp_path: Path
) -> None:
    failure = fail(
        *("push", str(large), f"{docker_registry.host}/app:1"),
        cwd=tmp_path,
        meanwhile=kill_once(
            docker_registry, lambda: bytes_of(docker_registry.data, "docker/**/_uploads/*/data")
        ),
    )
    assert failure.exit_code == 4
    assert docker_registry.host in failure.errors[0]
    assert failure.outcomes["layer"] == ("failed", "error")
    assert failure.outcomes["manifest"] == ("failed", "blocked")
    assert failure.result["summary"]["wasted_bytes"] >= MOVING
    assert failure.result["reconciliation"] == {"matched": None, "differences": []}


def test_registry_that_dies_during_a_pull_leaves_no_half_file(
    regsim: Command, docker_registry: DockerRegistry, large: Layout, tmp_path: Path
) -> None:
    regsim("push", str(large), f"{docker_registry.host}/app:1")
    copy = tmp_path / "copy"
    failure = fail(
        *("pull", f"{docker_registry.host}/app:1", f"oci:{copy}"),
        cwd=tmp_path,
        meanwhile=kill_once(docker_registry, lambda: bytes_of(copy, "*")),
    )
    assert failure.exit_code == 4
    assert docker_registry.host in failure.errors[0]
    assert failure.outcomes["layer"] == ("failed", "error")
    assert failure.outcomes["manifest"] == ("failed", "blocked")
    files = {file.relative_to(copy).as_posix() for file in copy.rglob("*") if file.is_file()}
    blobs = {name for name in files if name.startswith("blobs/sha256/")}
    kept = {name for name in files if name.startswith(".regsim-partial-sha256-")}
    assert files - blobs - kept == {"oci-layout", "index.json"}
    for name in kept:  # for the next pull, which goes on there
        whole = large.path / "blobs" / "sha256" / name.rpartition("-")[2]
        assert whole.read_bytes().startswith((copy / name).read_bytes())
    for name in blobs:
        assert hashlib.sha256((copy / name).read_bytes()).hexdigest() == name.rpartition("/")[2]
    assert json.loads((copy / "index.json").read_bytes())["manifests"] == []


def test_registry_that_is_not_there_is_one_clear_error(
    docker_registry: DockerRegistry, layout: Layout, tmp_path: Path
) -> None:
    docker_registry.kill()
    failure = fail("push", str(layout), f"{docker_registry.host}/app:1", cwd=tmp_path)
    assert failure.exit_code == 4
    assert docker_registry.host in failure.errors[0]


def test_tag_that_is_not_there_is_one_clear_error(docker_registry: DockerRegistry, tmp_path: Path) -> None:
    failure = fail("pull", f"{docker_registry.host}/app:1", f"oci:{tmp_path / 'copy'}", cwd=tmp_path)
    assert failure.exit_code == 3
    assert "app:1" in failure.errors[0]
    assert not (tmp_path / "copy").exists()
