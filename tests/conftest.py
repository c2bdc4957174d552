"""What every test stands on: one event loop, a home of its own, and properties that repeat."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

# A wall-clock limit per example fails on a busy machine; in CI every run draws the same examples.
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
# Few examples, always the same, and no time spent on making a failure small: for mutation testing.
hypothesis.settings.register_profile(
    "mutants",
    deadline=None,
    derandomize=True,
    max_examples=25,
    phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "here")
)


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
