"""The import contracts in pyproject.toml are kept, and each of them can be broken."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.long

pytest.importorskip(
    "importlinter", reason="import-linter belongs to the [lint] extra; .ci/run runs this file with it"
)

CHECKOUT = Path(__file__).parents[2]
CONTRACTS = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

LAYERS = "regsim: each room imports only the rows below it"
INDEPENDENT = "mock_registry is an independent account: it never imports regsim"
MEETING = "regsim meets mock_registry only in three modules of scenario, and in cli.serve"
CLIENT = "httpx: only regsim.net, regsim.registry and mock_registry.transport"
PARSER = "httptools: only regsim.net and mock_registry.server"
EXTRAS = "bcrypt and trustme: only mock_registry.auth.users and mock_registry.tls"
ZSTD = "zstandard: only regsim.image.compression"
DOCKERFILES = "e2b_dockerfile_utils: only the syntax of Dockerfiles and .dockerignore"
VOCABULARY = "the vocabulary needs nothing but the standard library"


class Violation(NamedTuple):
    """A module to add, what it imports, and the contract that this breaks."""

    contract: str
    module: str
    imports: str


VIOLATIONS = [
    Violation(LAYERS, "regsim/core/x.py", "import regsim.store.protocols"),
    Violation(LAYERS, "regsim/transfer/x.py", "from regsim import image"),
    Violation(LAYERS, "regsim/core/x.py", "import regsim.image"),
    Violation(LAYERS, "regsim/report/x.py", "import regsim.scenario"),
    Violation(LAYERS, "regsim/scenario/x.py", "import regsim.report"),
    Violation(LAYERS, "regsim/unlisted.py", ""),
    Violation(INDEPENDENT, "mock_registry/x.py", "from regsim.core import Digest"),
    Violation(MEETING, "regsim/transfer/x.py", "import mock_registry"),
    Violation(MEETING, "regsim/scenario/x.py", "import mock_registry"),
    Violation(MEETING, "regsim/cli/x.py", "import mock_registry"),
    Violation(CLIENT, "regsim/transfer/x.py", "import httpx"),
    Violation(CLIENT, "mock_registry/x.py", "import httpx"),
    Violation("aiofiles: only regsim.store", "regsim/registry/x.py", "import aiofiles.os"),
    Violation(PARSER, "mock_registry/x.py", "import httptools"),
    Violation(PARSER, "regsim/registry/x.py", "import httptools"),
    Violation(EXTRAS, "mock_registry/x.py", "import bcrypt"),
    Violation(EXTRAS, "regsim/registry/x.py", "import trustme"),
    Violation("ruamel.yaml: only regsim.scenario", "regsim/cli/x.py", "import ruamel.yaml"),
    Violation("pydantic: only regsim.scenario", "regsim/cli/x.py", "import pydantic"),
    Violation("pydantic: only regsim.scenario", "regsim/core/x.py", "import pydantic_core"),
    Violation("rich: only regsim.report and regsim.cli", "regsim/transfer/x.py", "import rich.table"),
    Violation(ZSTD, "regsim/image/x.py", "import zstandard"),
    Violation("isal: only regsim.image.compression", "regsim/image/x.py", "import isal"),
    Violation(DOCKERFILES, "regsim/image/x.py", "import e2b_dockerfile_utils"),
    Violation("cyclopts: only regsim.cli", "regsim/report/x.py", "import cyclopts"),
    Violation(VOCABULARY, "regsim/core/x.py", "import rich"),
]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the code and its contracts, to be spoilt."""
    for package in ("regsim", "mock_registry"):
        shutil.copytree(CHECKOUT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(checkout: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter over `checkout`."""
    return subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"],
        cwd=checkout,
        env={"PYTHONPATH": str(checkout), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def broken_contracts(checkout: Path) -> list[str]:
    """Return the names of the contracts that import-linter finds broken in `checkout`."""
    run = lint(checkout)
    broken = re.findall(r"^(.+) BROKEN(?: \(.*\))?$", run.stdout, re.MULTILINE)
    assert run.returncode == bool(broken), run.stdout + run.stderr
    return broken


def test_every_contract_is_kept_by_the_code(copy: Path) -> None:
    assert broken_contracts(copy) == []


def test_every_contract_has_a_negative_control() -> None:
    assert {violation.contract for violation in VIOLATIONS} == {contract["name"] for contract in CONTRACTS}


@pytest.mark.parametrize(
    "violation", VIOLATIONS, ids=lambda violation: f"{violation.module}: {violation.imports}"
)
def test_contract_breaks_when_a_module_breaks_it_on_purpose(copy: Path, violation: Violation) -> None:
    (copy / violation.module).write_text(f"{violation.imports}\n")
    assert violation.contract in broken_contracts(copy)


def test_exception_that_nothing_needs_is_an_error(copy: Path) -> None:
    settings = (copy / "pyproject.toml").read_text()
    needed = '"mock_registry.transport -> httpx"'
    assert needed in settings
    unneeded = f'{needed}, "regsim.transfer.copy -> httpx"'
    (copy / "pyproject.toml").write_text(settings.replace(needed, unneeded))
    run = lint(copy)
    assert run.returncode != 0
    assert "regsim.transfer.copy -> httpx" in run.stdout


def test_room_that_is_listed_and_not_there_is_an_error(copy: Path) -> None:
    shutil.rmtree(copy / "regsim" / "synth")
    run = lint(copy)
    assert run.returncode != 0
    assert "regsim.synth" in run.stdout
