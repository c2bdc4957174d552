"""Checks are parsed, never evaluated as code, and say what was found."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regsim.core.result import CheckResult
from regsim.errors import UsageError
from regsim.scenario.checks import (
    CONDITION_PATTERN,
    METRICS,
    Number,
    Selector,
    parse_comparison,
    parse_condition,
)


@pytest.mark.parametrize(
    ("text", "metric", "selector", "operator", "value"),
    [
        ("saved_ratio(step 2) >= 0.9", "saved_ratio", Selector(step=2), ">=", 0.9),
        ("saved_ratio ( step  2 )>=90%", "saved_ratio", Selector(step=2), ">=", 0.9),
        ("transferred(step first push) == 3", "transferred", Selector(step="first push"), "==", 3),
        ("exists(api:v1) != 0", "exists", Selector(image="api:v1"), "!=", 0),
        ("exists(step) < 1", "exists", Selector(image="step"), "<", 1),
        ("transferred_bytes<=1.4 MB", "transferred_bytes", Selector(), "<=", 1_400_000),
        ("wire_sent > 2MiB", "wire_sent", Selector(), ">", 2 * 2**20),
        ("requests == 7", "requests", Selector(), "==", 7),
    ],
)
def test_the_grammar(text: str, metric: str, selector: Selector, operator: str, value: Number) -> None:
    condition = parse_condition(text)
    assert (condition.metric, condition.selector, condition.operator, condition.value) == (
        metric,
        selector,
        operator,
        value,
    )
    assert re.match(CONDITION_PATTERN, text)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("saved_ration >= 1", 'no such metric: "saved_ration"', 'did you mean "saved_ratio"?'),
        (
            "duration <= 5s",
            'no such metric: "duration"',
            (
                "known: referenced, transferred, exists, mounted, joined, inlined, foreign, failed, "
                "referenced_bytes, transferred_bytes, saved_bytes, saved_ratio, wire_sent, wire_received, "
                "wasted_bytes, overhead, requests, writable_bytes, copied_up_bytes"
            ),
        ),
        ("saved", 'not a check: "saved"', 'such as "saved_ratio(step 2) >= 0.9"'),
        ("exists(step 1)", 'not a check: "exists(step 1)"', 'such as "saved_ratio(step 2) >= 0.9"'),
        ("exists() == 1", "nothing between the parentheses", 'write "step 2", a step\'s name, or an image'),
        ("exists => 1", 'no such comparison: "=>"', 'did you mean ">="?'),
        ("exists = 1", 'no such comparison: "="', 'did you mean "=="?'),
        ("exists === 1", 'no such comparison: "==="', 'did you mean "=="?'),
        ("exists >< 1", 'no such comparison: "><"', "known: == != >= <= > <"),
        ("exists == 1MB", 'exists is a count and has no unit, found "MB"', "write a plain number"),
        (
            "transferred == 1MB",
            'transferred is a count and has no unit, found "MB"',
            'did you mean "transferred_bytes"?',
        ),
        ("exists == 1.5", "exists is a count of whole things", "write a whole number"),
        ("exists == -1", 'not an amount: "-1"', "write a number such as 28 or 1.5, then a unit"),
        ("saved_ratio == 1MB", "saved_ratio is a ratio, not an amount of MB", "write 0.9 or 90%"),
        ("saved_ratio >= 90", "saved_ratio is never above 1", "write 0.9 or 90%"),
        ("saved_bytes >= 90%", 'unknown unit of size: "%"', None),
        ("exists == __import__('os')", "not an amount: \"__import__('os')\"", None),
    ],
)
def test_what_is_no_check_is_refused_with_a_hint(text: str, message: str, hint: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        parse_condition(text)
    assert caught.value.message == message
    assert hint is None or caught.value.hint == hint


@pytest.mark.parametrize(
    ("operator", "less", "equal", "more"),
    [
        ("==", False, True, False),
        ("!=", True, False, True),
        (">=", False, True, True),
        ("<=", True, True, False),
        (">", False, False, True),
        ("<", True, False, False),
    ],
)
def test_the_operators(operator: str, less: bool, equal: bool, more: bool) -> None:
    holds = parse_condition(f"exists {operator} 2").holds
    assert (holds(1), holds(2), holds(3)) == (less, equal, more)


def test_a_verdict_has_the_check_as_written_and_the_figure() -> None:
    check = parse_condition("saved_ratio(step 2) >= 0.9").check(2, [0.95])
    assert check == CheckResult(expression="saved_ratio(step 2) >= 0.9", step=2, passed=True, actual=0.95)
    check = parse_condition("exists  == 2").check(None, [1])
    assert check == CheckResult(expression="exists == 2", step=None, passed=False, actual=1)


def test_what_was_not_measured_does_not_pass() -> None:
    check = parse_condition("exists(step 9) != 3").check(9, [None])
    assert (check.passed, check.actual) == (False, None)


def test_an_expectation_holds_for_every_node_and_shows_the_first_that_fails() -> None:
    comparison = parse_comparison("transferred", "3")
    assert comparison.check(2, [3, 3]) == CheckResult(
        expression="transferred == 3", step=2, passed=True, actual=3
    )
    assert comparison.check(2, [3, 1, 2]) == CheckResult(
        expression="transferred == 3", step=2, passed=False, actual=1
    )
    assert not comparison.check(2, []).passed


def test_every_metric_says_what_it_means() -> None:
    assert all(meaning for _, meaning in METRICS.values())


@settings(deadline=None)
@given(
    st.text(max_size=40)
    | st.builds(
        "{}({}) {} {}".format,
        st.sampled_from([*METRICS]),
        st.text(max_size=5),
        st.text("<>=!", max_size=3),
        st.text(max_size=5),
    )
)
def test_any_text_is_a_check_or_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        condition = parse_condition(text)
        assert parse_condition(condition.text) == condition
