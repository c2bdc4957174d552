"""What every test stands on: one event loop, a home of its own, and properties that repeat."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

# A wall-clock limit per example fails on a busy machine. Every run draws the same examples; the search for
# others is a matter of the soak.
hypothesis.settings.register_profile("repeat", deadline=None, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None, max_examples=1000)
# Few examples, always the same, and no time spent on making a failure small: for mutation testing.
hypothesis.settings.register_profile(
    "mutants",
    deadline=None,
    derandomize=True,
    max_examples=25,
    phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or "repeat")


# Who runs in the background is given no ear for interrupts, and neither are the programs that it starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """regsim runs on asyncio, and so do its tests."""
    return "asyncio"


@pytest.fixture(autouse=True, scope="session")
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's cache and settings out of the tests, and the tests out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        for name in ("FORCE_COLOR", "NO_COLOR", "CLICOLOR_FORCE", "GITHUB_STEP_SUMMARY"):
            patch.delenv(name, raising=False)
        yield


@dataclass(frozen=True, slots=True)
class FakeEngine:
    """A container engine whose containers are processes; see `engine_program`."""

    folder: Path

    @property
    def command(self) -> str:
        """What `REGSIM_ENGINE` says of it."""
        return shlex.join(
            [sys.executable, str(Path(__file__).with_name("engine_program.py")), str(self.folder)]
        )

    def is_(self, *ways: str) -> None:
        """Let it be so from now on: `no-publish`, `ends-at-once`, …"""
        for way in ways:
            (self.folder / way).touch()

    def calls(self, command: str = "") -> list[list[str]]:
        """Return what it was asked so far, or how often this command."""
        file = self.folder / "calls"
        words = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return [each for each in words if not command or each[0] == command]

    def containers(self) -> list[str]:
        """Return the names of the containers that there are."""
        return sorted(file.stem for file in self.folder.glob("*.container"))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    """Return a container engine that has `registry:2`, and kill what it leaves behind."""
    engine = FakeEngine(tmp_path / "engine")
    engine.folder.mkdir()
    (engine.folder / "images").write_text("registry:2\n")
    yield engine
    for file in engine.folder.glob("*.container"):
        with suppress(ProcessLookupError, TypeError):
            os.kill(json.loads(file.read_text())["pid"], signal.SIGKILL)
