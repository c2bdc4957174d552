"""Columns, and the JSON report."""

from __future__ import annotations

import json

import pytest

from regsim.core.result import RunResult
from regsim.report import document
from regsim.report.table import columns


def test_columns_are_as_wide_as_what_stands_in_them_and_lines_end_without_blanks() -> None:
    rows = [("name", "size", ""), ("a", "1", "x"), ("long name", "1234567", "")]
    assert list(columns(rows, right=frozenset({1}))) == [
        "  name          size",
        "  a                1  x",
        "  long name  1234567",
    ]


WIDE = [("digest", "size", "created by"), ("9594766ab0a2", "1kB", "RUN apt-get install everything there is")]


@pytest.mark.parametrize("width", [20, 40])
def test_a_table_that_is_wider_than_a_terminal_is_fitted_to_it(width: int) -> None:
    lines = list(columns(WIDE, right=frozenset({1}), width=width))
    assert max(map(len, lines)) <= width
    assert len(lines) > 2
    letters = sorted("".join(lines).replace(" ", ""))
    assert letters == sorted("".join(cell for row in WIDE for cell in row).replace(" ", ""))


def test_a_table_that_fits_a_terminal_is_what_a_pipe_gets() -> None:
    plain = list(columns(WIDE, right=frozenset({1})))
    assert list(columns(WIDE, right=frozenset({1}), width=80)) == plain
    assert plain[1] == "  9594766ab0a2   1kB  RUN apt-get install everything there is"


def test_one_result_is_an_object_and_several_are_an_array() -> None:
    one, other = RunResult(scenario="one"), RunResult(scenario="other")
    text = document.render([one])
    assert text.endswith("}\n")
    assert json.loads(text)["scenario"] == "one"
    assert [each["scenario"] for each in json.loads(document.render([one, other]))] == ["one", "other"]
    assert json.loads(document.render([])) == []


def test_caller_says_whether_there_were_to_be_several() -> None:
    assert isinstance(json.loads(document.render([RunResult()], several=True)), list)
