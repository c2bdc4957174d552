"""The program killed with SIGKILL at random moments: the next run completes, and moves nothing that was kept.

A moment is a number of octets and requests that have passed the registry, so that a run can be repeated.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from mock_registry import MockRegistry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mock_registry.asgi import Message, Receive, Scope, Send
    from tests.cli.conftest import Layout, Regsim, Running, Serve

    Blobs = Callable[[Path], int]
    Lawful = Callable[[dict[str, Any]], None]
    Start = Callable[..., Running]

pytestmark = pytest.mark.long

FEW, MANY = 3, 50
LAYERS = (os.urandom(4_000_000), os.urandom(1_500_000), os.urandom(300_000), b"small")
TOTAL = sum(map(len, LAYERS))
# What a request weighs beside its octets, so that moments between bodies are met as well.
REQUEST = 150_000


class Trap:
    """An app in front of a registry that kills a process when so much has passed."""

    def __init__(self, registry: MockRegistry, left: int) -> None:
        self._registry = registry
        self._left = left
        self.process: int | None = None

    def _pass(self, octets: int) -> None:
        self._left -= octets
        if self._left <= 0 and self.process is not None:
            os.kill(self.process, signal.SIGKILL)
            self.process = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def watched_receive() -> Message:
            message = await receive()
            self._pass(len(message.get("body", b"")))
            return message

        async def watched_send(message: Message) -> None:
            self._pass(len(message.get("body", b"")))
            await send(message)

        if scope["type"] == "http":
            self._pass(REQUEST)
            scope = {**scope, "extensions": {}}
        await self._registry(scope, watched_receive, watched_send)


@pytest.fixture
def layout(empty_layout: Layout) -> Layout:
    empty_layout.add_image("v1", *LAYERS)
    return empty_layout


@dataclass(frozen=True, slots=True)
class Scene:
    """What a program is killed with, and what judges the next one."""

    start: Start
    regsim: Regsim
    layout: Layout
    serve: Serve
    check: Lawful

    def die(self, trap: Trap, *arguments: object) -> None:
        """Run the program into the trap, which it may get through all the same."""
        program = self.start(*arguments, "--quiet", "--jobs", "2")
        trap.process = program.process.pid
        done = program.finish()
        trap.process = None
        assert done.code in (0, -signal.SIGKILL), done.err

    def finish(self, *arguments: object) -> dict[str, Any]:
        """Run it again, and return its transfer."""
        done = self.regsim(*arguments, "--format", "json")
        assert done.code == 0, done.err
        self.check(done.json)
        transfer: dict[str, Any] = done.json["transfers"][0]
        return transfer

    def kill_a_push(self, seed: int) -> int:
        """Return the octets that the second push did not move."""
        behind = MockRegistry()
        trap = Trap(behind, Random(seed).randrange(TOTAL + 15 * REQUEST))
        registry = self.serve(behind, trap)
        self.die(trap, "push", f"{self.layout}:v1", f"{registry.host}/app:1")
        held = registry.committed
        transfer = self.finish("push", f"{self.layout}:v1", f"{self.serve(behind).host}/app:1")
        spared = sum(int(entry["size"]) for entry in transfer["entries"] if entry["digest"] in held)
        summary = transfer["summary"]
        assert summary["saved"]["bytes"] == spared
        assert summary["wire"]["sent"] == summary["referenced"]["bytes"] - spared
        return spared

    def kill_a_pull(self, seed: int, into: Path) -> int:
        """Return the octets that the second pull did not move."""
        behind = MockRegistry()
        calm = self.serve(behind).host
        assert self.regsim("push", f"{self.layout}:v1", f"{calm}/app:1").code == 0
        trap = Trap(behind, Random(seed).randrange(TOTAL + 12 * REQUEST))
        self.die(trap, "pull", f"{self.serve(behind, trap).host}/app:1", f"oci:{into}")
        parts = sum(path.stat().st_size for path in into.glob(".regsim-partial-*"))
        whole = sum(path.stat().st_size for path in into.glob("blobs/sha256/*"))
        summary = self.finish("pull", f"{calm}/app:1", f"oci:{into}")["summary"]
        assert (summary["saved"]["bytes"], summary["resumed_bytes"]) == (whole, parts)
        assert summary["wire"]["received"] == summary["referenced"]["bytes"] - whole - parts
        assert not list(into.glob(".regsim-*"))
        return whole + parts


@pytest.fixture
def scene(start: Start, regsim: Regsim, layout: Layout, serve: Serve, assert_lawful: Lawful) -> Scene:
    return Scene(start, regsim, layout, serve, assert_lawful)


@pytest.mark.parametrize("seed", range(FEW))
def test_a_push_that_was_killed_is_gone_on_with(seed: int, scene: Scene) -> None:
    scene.kill_a_push(seed)


@pytest.mark.parametrize("seed", range(FEW))
def test_a_pull_that_was_killed_is_gone_on_with(
    seed: int, scene: Scene, whole_blobs: Blobs, tmp_path: Path
) -> None:
    scene.kill_a_pull(seed, tmp_path / "copy")
    assert whole_blobs(tmp_path / "copy") == len(LAYERS) + 2


@pytest.mark.soak
def test_whatever_moment_it_is_killed_at(scene: Scene, tmp_path: Path) -> None:
    spared: list[int] = []
    for seed in range(FEW, FEW + MANY):
        spared += [scene.kill_a_push(seed), scene.kill_a_pull(seed, tmp_path / f"copy-{seed}")]
    mean = sum(spared) // len(spared)
    print(f"{len(spared)} kills; of {TOTAL:,} bytes {mean:,} did not have to move again, on average")  # noqa: T201
    assert any(spared)
