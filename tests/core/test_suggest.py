"""Suggestions for mistyped words."""

from __future__ import annotations

import pytest

from regsim.core.suggest import did_you_mean

KNOWN = ("push", "pull", "copy", "golang-arm64-0", "golang-arm64-1")


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("pusj", 'did you mean "push"?'),
        ("COPY", 'did you mean "copy"?'),
        ("golang-arm64", 'did you mean "golang-arm64-0" or "golang-arm64-1"?'),
        ("pu", 'did you mean "push"?'),
        ("zzz", "known: push, pull, copy, golang-arm64-0, golang-arm64-1"),
    ],
)
def test_hints_name_what_a_word_begins_or_resembles(word: str, hint: str) -> None:
    assert did_you_mean(word, KNOWN) == hint


def test_where_nothing_is_known_there_is_no_hint() -> None:
    assert did_you_mean("push", ()) == ""


def test_only_so_many_known_words_are_listed() -> None:
    assert did_you_mean("zzz", map(str, range(30))).endswith("22, 23, …")
