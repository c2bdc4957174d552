"""How reports write sizes and ratios, and the JSON report."""

from __future__ import annotations

import json

import pytest

from regsim.report import document
from regsim.report.quantities import exact, percent, size
from regsim.report.table import columns
from regsim.result import RunResult


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0B"),
        (322, "322B"),
        (999, "999B"),
        (1000, "1kB"),
        (1400, "1.4kB"),
        (999_499, "999kB"),
        (999_500, "1MB"),
        (28_000_000, "28MB"),
        (47_800_000, "47.8MB"),
        (1_234_000_000, "1.23GB"),
        (5 * 10**12, "5TB"),
        (7 * 10**15, "7PB"),
        (1_234 * 10**15, "1234PB"),
    ],
)
def test_sizes_have_three_or_four_digits(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize("count", [999_500, 999_999, 999_500_000, 999_999_999, 999_700 * 10**12])
def test_no_size_is_written_with_an_exponent(count: int) -> None:
    assert "e" not in size(count)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (1, "1 byte"), (2, "2 bytes"), (166_359_863, "166,359,863 bytes")]
)
def test_exact_sizes_are_written_in_full(count: int, text: str) -> None:
    assert exact(count) == text


@pytest.mark.parametrize(("ratio", "text"), [(0, "0.0 %"), (0.4512, "45.1 %"), (1, "100.0 %")])
def test_ratios_are_percentages_with_one_decimal(ratio: float, text: str) -> None:
    assert percent(ratio) == text


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
