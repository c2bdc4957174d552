"""Sizes are exact: whole bytes, and units that mean what they say."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regsim.core.quantities import (
    MAX_SIZE,
    SIZE_PATTERN,
    UNITS,
    age,
    exact,
    format_size,
    number,
    parse_size,
    percent,
)
from regsim.core.quantities import (
    size as short,
)
from regsim.errors import UsageError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("28MB", 28_000_000),
        ("28 MB", 28_000_000),
        ("1.4MB", 1_400_000),
        ("0.001kB", 1),
        ("1kB", 1000),
        ("1KiB", 1024),
        ("1.5MiB", 1_572_864),
        ("1GB", 10**9),
        ("2GiB", 2 * 2**30),
    ],
)
def test_a_size_is_a_number_of_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size
    assert re.match(SIZE_PATTERN, text)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("28mb", 'unknown unit of size: "mb"', 'did you mean "MB"?'),
        ("28M", 'unknown unit of size: "M"', 'did you mean "MB"?'),
        ("28KB", 'unknown unit of size: "KB"', 'did you mean "kB"?'),
        ("28Mi", 'unknown unit of size: "Mi"', 'did you mean "MiB"?'),
        ("28XB", 'unknown unit of size: "XB"', "known: B, kB, MB, GB, TB, KiB, MiB, GiB, TiB"),
        ("1.5B", '"1.5B" is not a whole number of bytes', "it is 1.500 bytes"),
        ("0.0001kB", '"0.0001kB" is not a whole number of bytes', "it is 0.100 bytes"),
        ("-1MB", 'not an amount: "-1MB"', "write a number such as 28 or 1.5, then a unit"),
        ("MB", 'not an amount: "MB"', "write a number such as 28 or 1.5, then a unit"),
        ("1e6", 'unknown unit of size: "e6"', None),
        ("10000000000GB", '"10000000000GB" is more than 9,223,372,036,854,775,807 bytes', ""),
    ],
)
def test_what_is_no_size_is_refused_with_a_hint(text: str, message: str, hint: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        parse_size(text)
    assert caught.value.message == message
    assert hint is None or caught.value.hint == hint


@settings(deadline=None)
@given(
    st.integers(0, MAX_SIZE)
    | st.builds(lambda n, unit: n * UNITS[unit], st.integers(0, 8000), st.sampled_from([*UNITS]))
)
def test_sizes_round_trip(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (28_000_000, "28MB"),
        (1_400_000, "1.4MB"),
        (2**20, "1MiB"),
        (166_359_863, "166359863B"),
    ],
)
def test_the_shortest_exact_form_is_written(size: int, text: str) -> None:
    assert format_size(size) == text


@settings(deadline=None)
@given(st.text(max_size=12))
def test_any_text_is_a_size_or_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert 0 <= parse_size(text) <= MAX_SIZE


# As reports write them.


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
    assert short(count) == text


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
    assert "e" not in short(count)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (1, "1 byte"), (2, "2 bytes"), (166_359_863, "166,359,863 bytes")]
)
def test_exact_sizes_are_written_in_full(count: int, text: str) -> None:
    assert exact(count) == text


@pytest.mark.parametrize(("ratio", "text"), [(0, "0.0 %"), (0.4512, "45.1 %"), (1, "100.0 %")])
def test_ratios_are_percentages_with_one_decimal(ratio: float, text: str) -> None:
    assert percent(ratio) == text


def test_one_thing_is_in_the_singular_and_any_other_number_in_the_plural() -> None:
    assert [number(count, "layer") for count in (0, 1, 1200)] == ["0 layers", "1 layer", "1,200 layers"]
