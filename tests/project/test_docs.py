"""What the documents say is there, and what is there is said."""

from __future__ import annotations

import re
import subprocess
import sys
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from regsim.cli.app import build
from regsim.core.ledger import Evidence, Outcome
from regsim.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cyclopts import App

CHECKOUT = Path(__file__).parents[2]
README = (CHECKOUT / "README.md").read_text()
CLI_README = (CHECKOUT / "regsim" / "cli" / "README.md").read_text()
PACKAGE_FOLDERS = sorted(
    file.parent for root in ("regsim", "mock_registry") for file in (CHECKOUT / root).rglob("__init__.py")
)
DOCUMENTS = sorted(
    file for folder in (CHECKOUT, CHECKOUT / "scenarios", *PACKAGE_FOLDERS) for file in folder.glob("*.md")
)

_FENCE = re.compile(r"^```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?P<target>[^)#:\s]+)(?:#[^)]*)?\)")


def name(path: Path) -> str:
    """Return how a failure should name `path`."""
    return str(path.relative_to(CHECKOUT))


def section(title: str) -> str:
    """Return the text of one section of the README, fenced blocks included."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found is not None, f"README.md has no section {title!r}"
    return found[1]


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of one language, in order."""
    return [found["code"] for found in _FENCE.finditer(text) if found["language"] == language]


RUN_EXAMPLE = """
import ast, asyncio, pathlib, types
text = pathlib.Path("example.py").read_text(encoding="utf-8")
code = compile(text, "example.py", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
awaited = types.FunctionType(code, {"__name__": "__main__"})()
if awaited is not None:
    asyncio.run(awaited)
"""

PYTHON_BLOCKS = [
    pytest.param(code, id=f"{name(document)}-{number}")
    for document in DOCUMENTS
    for number, code in enumerate(blocks(document.read_text(), "python"), start=1)
]


def test_quick_start_is_two_commands_each_with_an_environment_of_its_own() -> None:
    found = [(found["language"], found["code"]) for found in _FENCE.finditer(section("Quick start"))]
    assert [language for language, _ in found] == ["sh", "sh"]
    (_, main_job), (_, tests) = found
    for block in (main_job, tests):
        assert "-m venv" in block
        assert "pip install" in block
    assert "regsim run golang-upgrade" in main_job
    assert ".[test]" in tests
    assert tests.rstrip().endswith("/pytest")


@pytest.mark.parametrize("folder", PACKAGE_FOLDERS, ids=name)
def test_package_folder_has_a_readme(folder: Path) -> None:
    assert (folder / "README.md").is_file()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_inside_the_checkout_lead_somewhere(document: Path) -> None:
    targets = [found["target"] for found in _LINK.finditer(_FENCE.sub("", document.read_text()))]
    assert [target for target in targets if not (document.parent / target).exists()] == []


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    """Run the mock registry for the examples, and return its host and port."""
    with subprocess.Popen(
        [sys.executable, "-m", "mock_registry", "--port", "0", "--log", "none"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        yield url.removeprefix("http://")
        process.terminate()


@pytest.mark.parametrize("code", PYTHON_BLOCKS)
def test_python_example_runs_as_it_stands(code: str, registry: str, tmp_path: Path) -> None:
    """What an example calls 127.0.0.1:5000 is there; like in `python -m asyncio`, it may await anywhere."""
    (tmp_path / "example.py").write_text(code.replace("127.0.0.1:5000", registry))
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN_EXAMPLE],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr


def flags_of(command: App) -> set[str]:
    """Return the flags that a command takes and that mean something: of a switch, what turns its default."""
    names: set[str] = set()
    for argument in command.assemble_argument_collection():
        if argument.name == "*" or argument.field_info.kind is not Parameter.KEYWORD_ONLY:
            continue  # a group of flags, which follow one by one; or what is given by its place
        names |= set(argument.negatives if argument.field_info.default is True else argument.names)
        if argument.field_info.default is False:
            names -= set(argument.negatives)
    return names


def flags_told() -> dict[str, set[str]]:
    """Return the flags of each command as the table in regsim/cli/README.md tells them."""
    told: dict[str, set[str]] = {}
    for first, second in re.findall(r"^\| (`-[^|]*)\| ([^|]*)\|", CLI_README, re.MULTILINE):
        for command in second.split(","):
            told.setdefault(command.strip(), set()).update(re.findall(r"`(--?[a-z-]+)", first))
    return told


def test_every_command_is_documented_in_both_tables() -> None:
    commands = {each for each in build() if not each.startswith("-")}
    assert set(re.findall(r"^\| `regsim (\w+)`", CLI_README, re.MULTILINE)) == commands
    assert set(re.findall(r"`regsim ([a-z]+)", section("What you can do"))) == commands


def test_every_flag_is_documented_and_every_documented_flag_is_there() -> None:
    app = build()
    there = {each: flags_of(app[each]) for each in app if not each.startswith("-")}
    assert flags_told() == {command: flags for command, flags in there.items() if flags}


def test_example_output_is_what_the_model_prints_too() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "regsim", "run", "golang-upgrade", "--model", "--quiet"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    (example,) = blocks(section("What it prints"), "text")
    shown = [line for line in example.splitlines() if line not in ("", "[…]")]
    # Without bytes there are no digests for documents made of them, and nothing was moved or reconciled.
    differing = {
        line for line in shown if line.endswith((" (manifest)", " (config)")) or "reconciled" in line
    }
    assert len(differing) == 3
    assert [line for line in shown if line not in run.stdout.splitlines()] == sorted(
        differing, key=shown.index
    )


def test_counting_section_explains_every_outcome_and_every_evidence() -> None:
    text = section("How regsim counts")
    assert [str(word) for word in [*Outcome, *Evidence] if f"`{word}`" not in text] == []


def test_exit_code_table_is_the_list_of_exit_codes() -> None:
    told = [int(code) for code in re.findall(r"^\| (\d+) \|", section("Exit codes"), re.MULTILINE)]
    assert told == sorted(ExitCode)


def test_every_shipped_scenario_stands_in_the_gallery() -> None:
    gallery = (CHECKOUT / "scenarios" / "README.md").read_text()
    shipped = sorted(file.stem for file in (CHECKOUT / "scenarios").glob("*.yaml"))
    assert shipped
    assert [scenario for scenario in shipped if f"`{scenario}`" not in gallery] == []


def test_changelog_keeps_a_place_for_what_is_not_released() -> None:
    assert "## [Unreleased]" in (CHECKOUT / "CHANGELOG.md").read_text()
