"""What is printed where, and readers that have had enough."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from regsim._version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Layout, Outcome, Regsim, Served

COMMAND = [sys.executable, "-W", "error", "-m", "regsim"]
HEAVY = (
    "aiofiles",
    "anyio",
    "asyncio",
    "httpcore",
    "httptools",
    "httpx",
    "jinja2",
    "mock_registry",
    "pydantic",
    "regsim.store",
    "regsim.registry",
    "regsim.scenario",
    "regsim.transfer.copy",
    "ruamel",
    "ssl",
)


def modules_after(*commands: str) -> set[str]:
    """Return what of the heavy modules is loaded when commands are done, one after the other."""
    code = (
        "import sys\nfrom regsim.cli.app import main\n"
        "for words in sys.argv[1:]:\n    main(words.split())\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *commands], capture_output=True, text=True, timeout=60, check=True
    )
    return {name for name in HEAVY if name in done.stderr.split()}


def test_help_loads_nothing_that_only_work_needs() -> None:
    assert modules_after("--help", "--version") == set()


def test_the_help_of_a_command_loads_that_command_alone() -> None:
    assert modules_after("push --help").isdisjoint({"mock_registry", "pydantic", "regsim.scenario", "ruamel"})


def test_the_list_of_what_is_heavy_is_not_out_of_date() -> None:
    loaded = modules_after("run shared-base --dry-run --quiet")
    assert loaded >= {"asyncio", "mock_registry", "regsim.store", "regsim.transfer.copy", "ruamel", "ssl"}


@pytest.mark.parametrize("scenario", ["shared-base", "golang-upgrade"])
def test_the_model_needs_no_http_no_server_and_no_event_loop(scenario: str) -> None:
    loaded = modules_after(f"run {scenario} --model --quiet")
    assert loaded.isdisjoint(
        {
            "aiofiles",
            "anyio",
            "asyncio",
            "httpcore",
            "httptools",
            "httpx",
            "mock_registry",
            "regsim.registry",
            "ssl",
        }
    )


def test_schema_needs_no_network_and_no_server() -> None:
    assert modules_after("schema").isdisjoint({"httpx", "mock_registry", "regsim.registry.transport"})


def test_help_lists_every_command_and_the_exit_codes(regsim: Regsim) -> None:
    done = regsim("--help")
    assert (done.code, done.err) == (0, "")
    words = done.out.split()
    assert {"run", "push", "pull", "copy", "layers", "serve", "schema"} <= set(words)
    assert "130 interrupted (the partial ledger is kept)" in " ".join(words)
    assert regsim().out == done.out


def test_arguments_are_told_by_their_place(regsim: Regsim) -> None:
    assert "regsim push [OPTIONS] SRC REF" in regsim("push", "--help").out
    assert "regsim pull [OPTIONS] REF" in regsim("pull", "--help").out
    assert "--src" not in regsim("push", "--help").out


def test_version(regsim: Regsim) -> None:
    assert regsim("--version").out == f"{__version__}\n"


def into_closed_pipe(*words: str, stream: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line with a stream that nobody reads any more, as behind `| head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: writing}
    try:
        return subprocess.run(
            [*COMMAND, *words],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=streams["stdout"],
            stderr=streams["stderr"],
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writing)


@pytest.mark.parametrize(
    "words",
    ["--help", "run --help", "schema", "run shared-base --model", "run shared-base --model --format json"],
)
def test_a_reader_that_has_had_enough_is_no_error(tmp_path: Path, words: str) -> None:
    done = into_closed_pipe(*words.split(), stream="stdout", cwd=tmp_path)
    assert done.returncode == 0
    assert "Error" not in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_reader_that_has_had_enough_does_not_hide_what_went_wrong(tmp_path: Path) -> None:
    words = (
        "run",
        "shared-base",
        "--model",
        "--set",
        "steps.1.expect.transferred=9",
        "--json",
        "result.json",
    )
    done = into_closed_pipe(*words, stream="stdout", cwd=tmp_path)
    assert done.returncode == 1
    assert (tmp_path / "result.json").stat().st_size > 1000


def test_work_goes_on_when_nobody_reads_its_progress(
    tmp_path: Path, layout: Layout, registry: Served
) -> None:
    words = ("push", f"{layout}:v1", f"{registry.host}/app:1")
    done = into_closed_pipe(*words, stream="stderr", cwd=tmp_path)
    assert done.returncode == 0
    assert "transferred" in done.stdout
    failed = into_closed_pipe("push", f"{layout}:v9", f"{registry.host}/app:1", stream="stderr", cwd=tmp_path)
    assert failed.returncode == 6


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_program_without_standard_streams_still_works(
    program: Callable[..., Outcome], layout: Layout, registry: Served, closed: str
) -> None:
    words = ("push", f"{layout}:v1", f"{registry.host}/app:1")
    done = program(*words, under=("sh", "-c", f'exec "$@" {closed}', "sh"))
    assert done.code == 0
    assert registry.committed
    failed = program("push", "oci:x", "oci:y", under=("sh", "-c", f'exec "$@" {closed}', "sh"))
    assert failed.code == 2
    assert "Error" not in failed.out


def test_output_may_be_a_pipe(program: Callable[..., Outcome]) -> None:
    # A shell writes `--output >(…)` so; and nothing can be put in a pipe's place.
    done = program("run", "shared-base", "--model", "--quiet", "--json", "/dev/stderr")
    assert done.code == 0
    assert done.err.startswith('{\n  "schema_version"')


def test_text_that_the_terminal_cannot_show_is_escaped(
    program: Callable[..., Outcome], layout: Layout, registry: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    target = layout.path.with_name("läyout")
    layout.path.rename(target)
    done = program("push", f"oci:{target}:v1", f"{registry.host}/app:1")
    assert done.code == 0
    assert "l\\xe4yout" in done.out


def test_garbage_is_not_looked_for_while_starting_but_is_while_working() -> None:
    program = (
        "import gc\n"
        "from regsim.cli import app, running\n"
        "from regsim.__main__ import main\n"
        "async def work(): return gc.isenabled()\n"
        "app.main = lambda: print(gc.isenabled(), running.run(work())) or 0\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
