"""Columns, and the JSON report."""

from __future__ import annotations

import json

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


def test_one_result_is_an_object_and_several_are_an_array() -> None:
    one, other = RunResult(scenario="one"), RunResult(scenario="other")
    text = document.render([one])
    assert text.endswith("}\n")
    assert json.loads(text)["scenario"] == "one"
    assert [each["scenario"] for each in json.loads(document.render([one, other]))] == ["one", "other"]
    assert json.loads(document.render([])) == []


def test_caller_says_whether_there_were_to_be_several() -> None:
    assert isinstance(json.loads(document.render([RunResult()], several=True)), list)
