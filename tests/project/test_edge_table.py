"""The tables of `regsim/registry/README.md`: each known mistake has a row, each row its tests."""

from __future__ import annotations

import fnmatch
import re
from collections import defaultdict
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
README = CHECKOUT / "regsim" / "registry" / "README.md"
FAULTS = CHECKOUT / "mock_registry" / "faults" / "README.md"
# What the mock registry's own tests call a fault is that it happens; here, that a client gets through it.
ELSEWHERE = {"mock_registry", "project"}
EDGES = range(1, 55)
# HTTP/2, which is not spoken.
UNMET = {8}

Files = dict[int, set[Path]]


def names_in(file: Path) -> list[str]:
    """Return the names of a file's tests, without `test_`."""
    return re.findall(r"^(?:async )?def test_(\w+)", file.read_text(), re.MULTILINE)


def files_of(kind: str) -> Files:
    """Return the files with tests that are named after the number of an edge case, or of a fault."""
    found: Files = defaultdict(set)
    for file in (CHECKOUT / "tests").rglob("test_*.py"):
        if file.parent.name in ELSEWHERE:
            continue
        for name in names_in(file):
            last = ""
            for word, number in re.findall(r"(edge|fault|and)_(\d\d)(?=_)", name):
                last = last if word == "and" else word
                if last == kind:
                    found[int(number)].add(file)
    return dict(found)


def section(start: str, end: str) -> str:
    """Return what stands in the document between two texts."""
    return README.read_text().partition(start)[2].partition(end)[0]


def rows(text: str) -> list[tuple[str, str]]:
    """Return the first and the last cell of each row below a table's head."""
    found = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    return [(cells[0].strip(), cells[-1].strip()) for cells in found if cells[0].strip() not in ("#", "case")]


def linked(text: str) -> Files:
    """Return the files to which each numbered row links."""
    return {
        int(number): {(README.parent / link).resolve() for link in re.findall(r"\]\(([^)]+)\)", tests)}
        for number, tests in rows(text)
    }


EDGE_ROWS = linked(section("## The edge cases", "The faults that registries"))
FAULT_ROWS = linked(section("The faults that registries", "Random storms"))
FURTHER = section("Further cases", "Not yet")


def test_each_edge_case_has_a_row_and_each_row_its_tests() -> None:
    assert list(EDGE_ROWS) == list(EDGES)
    assert files_of("edge") == EDGE_ROWS


def test_each_fault_of_registries_has_a_row_and_each_row_its_tests() -> None:
    known = [int(number) for number in re.findall(r"^\| (\d+) \|", FAULTS.read_text(), re.MULTILINE)]
    assert list(FAULT_ROWS) == known
    assert files_of("fault") == {number: files for number, files in FAULT_ROWS.items() if number not in UNMET}
    assert all(FAULT_ROWS[number] == set() for number in UNMET)


@pytest.mark.parametrize("tests", [tests for _, tests in rows(FURTHER)])
def test_each_test_that_a_further_case_names_is_there(tests: str) -> None:
    file: Path | None = None
    words = re.findall(r"`([^`]+)`", tests)
    assert words
    for word in words:
        if word.endswith(".py"):
            assert (CHECKOUT / word).is_file()
            continue
        # `file: beginning_of_a_name…`; what follows is in the same file; or a file's name, for all of it.
        called, colon, begin = word.rpartition(": ")
        if colon or module(word).is_file():
            file = module(called if colon else word)
        if colon or not module(word).is_file():
            assert file is not None, word
            assert fnmatch.filter(names_in(file), begin.replace("…", "*")), word


def module(word: str) -> Path:
    """Return the test file that a table calls by a word."""
    return CHECKOUT / "tests" / "registry" / f"test_remote_{word}.py"
