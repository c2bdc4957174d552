"""How reports write sizes and ratios, and the JSON report."""

from __future__ import annotations

import json

import pytest

from regsim.core.result import RunResult
from regsim.report import document
from regsim.report.quantities import age, exact, percent, size
from regsim.report.table import columns


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


HOUR, DAY = 3600, 86_400


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "Less than a second"),
        (0.9, "Less than a second"),
        (1, "1 second"),
        (59.9, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (59 * 60, "59 minutes"),
        (HOUR, "About an hour"),
        (1.4 * HOUR, "About an hour"),
        (1.5 * HOUR, "2 hours"),
        (47 * HOUR, "47 hours"),
        (47.5 * HOUR, "2 days"),
        (2.9 * DAY, "2 days"),
        (13.9 * DAY, "13 days"),
        (14 * DAY, "2 weeks"),
        (59 * DAY, "8 weeks"),
        (60 * DAY, "2 months"),
        (576 * DAY, "19 months"),
        (729 * DAY, "24 months"),
        (730 * DAY, "2 years"),
    ],
)
def test_ages_are_dockers(seconds: float, text: str) -> None:
    assert age(seconds) == text


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
