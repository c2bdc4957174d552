"""The plugin for pytest, used as its users do: in projects of their own, which pytester makes and runs."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import FakeEngine

    Try = Callable[..., pytest.RunResult]

pytestmark = pytest.mark.long

pytest_plugins = ["pytester"]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, engine: FakeEngine) -> Try:
    """Return a function that runs a module of tests beside an engine, where warnings are errors."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.setenv("REGSIM_ENGINE", engine.command)

    def run(code: str, conftest: str = "", *, apart: bool = False) -> pytest.RunResult:
        pytester.makepyfile("import httpx, pytest\n" + code)
        pytester.makeconftest(conftest)
        words = ("-W", "error", "--strict-markers", "-p", "no:cacheprovider", "-p", "no:asyncio")
        return pytester.runpytest_subprocess(*words) if apart else pytester.runpytest_inprocess(*words)

    return run


def test_pytest_finds_the_plugin_by_itself_and_it_costs_nothing_to_import() -> None:
    [found] = entry_points(group="pytest11", name="regsim")
    assert found.value == "regsim.pytest_plugin"
    code = (
        "import sys, pytest; before = {*sys.modules}; import regsim.pytest_plugin;"
        "print(*sorted({*sys.modules} - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["regsim", "regsim.pytest_plugin"]


def test_all_tests_of_a_session_share_one_registry_that_is_removed_at_its_end(
    run: Try, engine: FakeEngine
) -> None:
    run(
        """
urls = set()

@pytest.mark.parametrize("number", [1, 2])
def test_one(registry_container, number):
    urls.add(registry_container.url)
    assert registry_container.url == f"http://{registry_container.host}"
    assert httpx.get(f"{registry_container.url}/v2/", trust_env=False).status_code == 200
    assert "200 GET /v2/" in registry_container.logs()

@pytest.mark.anyio
async def test_in_a_loop(registry_container):
    urls.add(registry_container.url)
    assert len(urls) == 1
    assert registry_container.logs()
""",
        "import pytest\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n",
    ).assert_outcomes(passed=3)
    assert len(engine.calls("run")) == 1
    assert engine.containers() == []


def test_the_image_is_a_fixture_and_the_factory_takes_what_the_registry_needs(
    run: Try, engine: FakeEngine
) -> None:
    run(
        """
def test_two(registry_container, registry_container_factory, tmp_path):
    other = registry_container_factory(
        "registry:2", environment={"REGISTRY_LOG_LEVEL": "debug"}, volumes={tmp_path: "/auth"}
    )
    assert other.url != registry_container.url
""",
        "import pytest\n\n@pytest.fixture(scope='session')\ndef registry_container_image():\n"
        "    return 'ghcr.io/project-zot/zot:latest'\n",
    ).assert_outcomes(passed=1)
    first, second = engine.calls("run")
    assert first[-1] == "ghcr.io/project-zot/zot:latest"
    assert second[-1] == "registry:2"
    assert "--env=REGISTRY_LOG_LEVEL=debug" in second
    assert engine.containers() == []


def test_where_there_is_no_engine_the_test_fails_and_says_so(
    run: Try, monkeypatch: pytest.MonkeyPatch, engine: FakeEngine
) -> None:
    engine.is_("no-info")
    monkeypatch.setenv("PATH", str(engine.folder))
    result = run("def test_one(registry_container):\n    pass\n")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*no container engine answers: REGSIM_ENGINE: Error: cannot connect*"])


def test_a_registry_that_does_not_start_leaves_nothing_behind(run: Try, engine: FakeEngine) -> None:
    engine.is_("ends-at-once")
    result = run("def test_one(registry_container):\n    pass\n")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*has stopped: configuration error: no storage*"])
    assert engine.containers() == []


def test_what_is_being_started_when_the_user_interrupts_is_removed(run: Try, engine: FakeEngine) -> None:
    result = run(
        """
import os, signal

def test_one(registry_container, registry_container_factory):
    from regsim.scenario import registry_container as container
    reached = container._ready
    async def interrupted(started):
        os.kill(os.getpid(), signal.SIGINT)
        await container.asyncio.Event().wait()
    container._ready = interrupted
    try:
        registry_container_factory()
    finally:
        container._ready = reached
""",
        apart=True,  # an interrupt would end this session too
    )
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert len(engine.calls("run")) == 2
    assert engine.containers() == []
