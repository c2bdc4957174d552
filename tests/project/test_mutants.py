"""The mutation tester finds what no test notices: it can fail, and says where."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

pytestmark = pytest.mark.long

SCRIPT = Path(__file__).with_name("mutants.py")

CODE = """
'''Nothing here is changed.'''
import enum

def is_small(size: int, *, limit: int = 10) -> bool:
    return size < limit and not size == 3

def outcomes(found):
    names = [each for each in found if each]
    names.sort(reverse=True)
    match names:
        case []:
            raise ValueError("nothing")
        case _:
            return {*names, "more"}
"""

CHANGES = {
    "is_small: size: int, *, limit: int=10 → size: int, *, limit: int=11",
    "is_small: size < limit and (not size == 3) → size < limit or not size == 3",
    "is_small: size < limit → size <= limit",
    "is_small: size < limit and (not size == 3) → size < limit and size == 3",
    "is_small: size == 3 → size != 3",
    "is_small: size == 3 → size == 4",
    "is_small: return size < limit and (not size == 3) → return None",
    "outcomes: each → not each",
    "outcomes: names.sort(reverse=True) → nothing",
    "outcomes: names.sort(…) without reverse",
    "outcomes: reverse=True → reverse=False",
    "outcomes: without case []",
    "outcomes: without case _",
    "outcomes: raise ValueError('nothing') → nothing",
    "outcomes: return {*names, 'more'} → return None",
    "outcomes: {*names, 'more'} without *names",
    "outcomes: {*names, 'more'} without 'more'",
    "outcomes: {*names, 'more'} → {*names, 'more!'}",
}


@pytest.fixture(scope="module")
def mutants() -> ModuleType:
    """The script, as a module."""
    spec = importlib.util.spec_from_file_location("mutants", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutants"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


def test_every_kind_of_change_is_made_and_nothing_else_is_touched(mutants: ModuleType) -> None:
    found = mutants.mutants_of("module.py", CODE, mutants.Optional([]))
    assert {mutant.name for mutant in found} == CHANGES
    assert len({mutant.source for mutant in found}) == len(CHANGES)
    for mutant in found:
        compile(mutant.source, mutant.path, "exec")


def test_arguments_that_a_call_needs_are_not_left_out(mutants: ModuleType) -> None:
    tree = mutants.ast.parse("def f(*, needed, spare=1): ...\nclass C:\n    needed: int\n    spare: int = 1")
    calls = "f(needed=1, spare=2)\nC(needed=1, spare=2)"
    names = {mutant.name for mutant in mutants.mutants_of("m.py", calls, mutants.Optional([tree]))}
    assert {name for name in names if "without" in name} == {"f(…) without spare", "C(…) without spare"}


@pytest.fixture
def checkout(mutants: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one function and one test, in the place of this one."""
    for folder in ("regsim", "mock_registry", "scenarios", "tests"):
        (tmp_path / folder).mkdir()
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "regsim" / "__init__.py").write_text("def larger(a, b):\n    return a if a > b else b\n")
    (tmp_path / "regsim" / "pytest_plugin.py").touch()  # which pytest loads wherever regsim is installed
    (tmp_path / "tests" / "test_larger.py").write_text(
        "from regsim import larger\ndef test_larger():\n    assert larger(1, 2) == larger(2, 1) == 2\n"
    )
    monkeypatch.setattr(mutants, "CHECKOUT", tmp_path)
    return tmp_path


def test_survivors_are_told_with_their_place_and_their_share(
    mutants: ModuleType, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run: Any = mutants.main
    assert run(["regsim", "--tests", "tests", "--limit", "0.3"]) == 1
    said = capsys.readouterr().out
    assert "alive: regsim/__init__.py:2: larger: a > b → a >= b\n" in said
    assert "2 mutants: 1 noticed, 0 equivalent, 1 alive: 50.0%" in said
    assert (checkout / "regsim" / "__init__.py").read_text().endswith("return a if a > b else b\n")


def test_mutants_that_are_known_to_be_equivalent_do_not_count(
    mutants: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reasons = checkout / "equivalent.toml"
    reasons.write_text(
        '["regsim/__init__.py"]\n"larger: a > b → a >= b" = "of two equals either is the larger"\n'
    )
    monkeypatch.setattr(mutants, "EQUIVALENT", reasons)
    run: Any = mutants.main
    assert run(["regsim", "--tests", "tests", "--limit", "0"]) == 0
    assert "2 mutants: 1 noticed, 1 equivalent, 0 alive: 0.0%" in capsys.readouterr().out


def test_tests_that_fail_on_the_original_prove_nothing(mutants: ModuleType, checkout: Path) -> None:
    (checkout / "tests" / "test_wrong.py").write_text("def test_wrong():\n    assert False\n")
    run: Any = mutants.main
    assert run(["regsim", "--tests", "tests"]) == 2


def test_every_equivalent_mutant_is_one_that_can_be_made(mutants: ModuleType) -> None:
    reasons = mutants.tomllib.loads(mutants.EQUIVALENT.read_text(encoding="utf-8"))
    assert mutants.unknown_reasons(reasons, mutants.all_mutants(mutants.TARGETS)) == []
