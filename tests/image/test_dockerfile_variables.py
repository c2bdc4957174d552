"""Variables in words are replaced as BuildKit replaces them."""

from __future__ import annotations

import pytest

from regsim.errors import UsageError
from regsim.image.builder.syntax import MAX_WORD, expand, expand_content, expand_words

VALUES = {"a": "1", "empty": "", "path": "x/y/z.tar.gz", "two": "one two"}


@pytest.mark.parametrize(
    ("word", "result"),
    [
        ("$a${a}", "11"),
        ("${nothing}", ""),
        ("${nothing:-other}", "other"),
        ("${empty:-other}", "other"),
        ("${empty-other}", ""),
        ("${a:+set}${nothing:+set}", "set"),
        ("${nothing:-${a}}", "1"),
        ("'$a'", "$a"),
        ('"$a b"', "1 b"),
        ("\\$a", "$a"),
        ("${path%.gz}", "x/y/z.tar"),
        ("${path##*/}", "z.tar.gz"),
        ("${path//\\//-}", "x-y-z.tar.gz"),
    ],
)
def test_a_word_is_expanded(word: str, result: str) -> None:
    assert expand(word, VALUES, "\\") == result


def test_the_escape_character_is_the_dockerfile_s() -> None:
    assert expand("`$a\\", VALUES, "`") == "$a\\"


def test_a_value_with_spaces_makes_several_words() -> None:
    assert expand_words("$two x", VALUES, "\\") == ["one", "two", "x"]


def test_quotes_in_content_stay() -> None:
    assert expand_content("say \"$a\" '$a'\n", VALUES, "\\") == "say \"1\" '1'\n"


@pytest.mark.parametrize("word", ["${a", "'a", '"a', "${nothing:?must be set}", "${a@Q}", "${" * 5000])
def test_what_is_no_word_is_refused(word: str) -> None:
    with pytest.raises(UsageError):
        expand(word, VALUES, "\\")


def test_values_that_double_do_not_fill_the_memory() -> None:
    value = "x" * 300_000
    with pytest.raises(UsageError, match="more than"):
        expand("$v$v$v$v", {"v": value}, "\\")


def test_no_more_is_put_together_than_a_word_may_have() -> None:
    asked: list[str] = []

    class Values(dict[str, str]):
        def __getitem__(self, name: str) -> str:
            asked.append(name)
            return super().__getitem__(name)

    with pytest.raises(UsageError, match="a word has more than"):
        expand("$a" * 10_000, Values(a="x" * MAX_WORD), "\\")
    assert len(asked) == 2
