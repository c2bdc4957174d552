"""House rules that no linter holds."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
OURS = frozenset({"regsim", "mock_registry"})
MODULES = sorted(file for root in OURS for file in (CHECKOUT / root).rglob("*.py"))
PROSE_AND_CODE = frozenset({".md", ".py", ".sh", ".toml", ".yaml", ""})
WRITTEN = sorted(
    file
    for places in (
        CHECKOUT.glob("*"),
        (CHECKOUT / "scenarios").glob("*"),
        *((CHECKOUT / folder).rglob("*") for folder in (*OURS, "tests", ".ci")),
    )
    for file in places
    if file.is_file() and file.suffix in PROSE_AND_CODE and file.name != ".git"  # a worktree has a file there
)

# Spelt so that this file does not find itself.
UNFINISHED = re.compile(rf"\b(?:{'TO'}DO|{'FIX'}ME|{'X'}XX)\b")
MACHINE = re.compile(
    rf"/{'home'}/(?!me\b)|(?:/{'Users'}|/{'work'}|/{'root'})/|python{'hosted'}|{'deb'}\.debian"
)


def imported_packages(module: Path) -> set[str]:
    """Return the top-level names of everything that a module imports, wherever it does so."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


def declared_packages(*extras: str) -> set[str]:
    """Return the packages of what pyproject.toml asks for, with these extras."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    requirements = list(project["dependencies"])
    for extra in extras:
        requirements += project["optional-dependencies"][extra]
    # A distribution's first dotted part is its package: `ruamel.yaml` is imported as `ruamel`. A dash is no
    # letter of a package: `e2b-dockerfile-utils` is imported as `e2b_dockerfile_utils`.
    names = (re.split(r"[^A-Za-z0-9_-]", requirement)[0] for requirement in requirements)
    return {name.replace("-", "_") for name in names} - OURS


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    imported = set().union(
        # pytest loads the plugin: it is there whenever the plugin is.
        *(imported_packages(module) for module in MODULES if module.name != "pytest_plugin.py")
    )
    assert imported - OURS - sys.stdlib_module_names == declared_packages("registry")


def test_what_tests_import_is_declared() -> None:
    # What is installed beside us to be compared with, never into our own environment.
    rivals = {"dxf", "oras"}
    modules = [module for module in (CHECKOUT / "tests").rglob("*.py") if "contracts" not in module.name]
    imported = set().union(*map(imported_packages, modules)) - OURS - sys.stdlib_module_names - {"tests"}
    assert imported - rivals - declared_packages("registry", "test") == set()


@pytest.mark.parametrize("name", ["core", "errors.py"])
def test_vocabulary_imports_the_standard_library_and_itself(name: str) -> None:
    path = CHECKOUT / "regsim" / name
    modules = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    assert modules
    assert set().union(*map(imported_packages, modules)) <= sys.stdlib_module_names | {"regsim"}


def test_no_module_is_named_for_what_it_is_not() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
    assert [str(module) for module in MODULES if module.stem in vague or module.parent.name in vague] == []


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    """Return every line of every file that somebody wrote where `pattern` is found, with its place."""
    return [
        f"{file.relative_to(CHECKOUT)}:{number}: {line.strip()}"
        for file in WRITTEN
        for number, line in enumerate(file.read_text().splitlines(), start=1)
        if pattern.search(line)
    ]


def test_nothing_is_left_unfinished() -> None:
    assert lines_with(UNFINISHED) == []


def test_no_file_names_a_path_or_a_package_host_of_one_machine() -> None:
    assert lines_with(MACHINE) == []


def test_the_container_image_gets_the_packages_that_the_project_declares_for_the_registry() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    serving = [each for each in project["dependencies"] if each.startswith("httptools")]
    recipe = (CHECKOUT / "Containerfile").read_text()
    [install] = re.findall(r'^RUN \["python3", "-m", "pip", "install"(?:.|\\\n)*?\]$', recipe, re.MULTILINE)
    wanted = [word for word in re.findall(r'"([^"]+)"', install) if ">=" in word]
    assert sorted(wanted) == sorted(serving + project["optional-dependencies"]["registry"])
