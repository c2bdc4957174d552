"""Sizes are exact: whole bytes, and units that mean what they say."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regsim.errors import UsageError
from regsim.scenario.sizes import MAX_SIZE, SIZE_PATTERN, UNITS, format_size, parse_size


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
        ("0.5TB", 500 * 10**9),
        ("1TiB", 2**40),
    ],
)
def test_a_size_is_a_number_of_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size
    assert re.match(SIZE_PATTERN, text)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("28mb", 'no unit of size: "mb"', 'did you mean "MB"?'),
        ("28M", 'no unit of size: "M"', 'did you mean "MB"?'),
        ("28KB", 'no unit of size: "KB"', 'did you mean "kB"?'),
        ("28Mi", 'no unit of size: "Mi"', 'did you mean "MiB"?'),
        ("28PB", 'no unit of size: "PB"', "known: B, kB, MB, GB, TB, KiB, MiB, GiB, TiB"),
        ("28T", 'no unit of size: "T"', 'did you mean "TB"?'),
        ("1.5B", '"1.5B" is no whole number of bytes', "it comes to 1.500 bytes"),
        ("0.0001kB", '"0.0001kB" is no whole number of bytes', "it comes to 0.100 bytes"),
        ("-1MB", 'not an amount: "-1MB"', "write a number such as 28 or 1.5, then a unit"),
        ("MB", 'not an amount: "MB"', "write a number such as 28 or 1.5, then a unit"),
        ("1e6", 'no unit of size: "e6"', None),
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
