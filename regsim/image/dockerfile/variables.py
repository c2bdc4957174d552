"""Variables in a Dockerfile's words: `$x`, `${x}`, `${x:-default}`, quotes and escapes.

Owns the seam to the shell lexer of `e2b_dockerfile_utils`, a port of BuildKit's. Must not know where values
come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from e2b_dockerfile_utils import ShellLex

from regsim.errors import UsageError

# What a word may grow to: `${a}${a}…` of values that are themselves such words doubles with each line.
MAX_WORD = 1024 * 1024


def expand(word: str, values: Mapping[str, str], escape: str) -> str:
    """Return a word with its quotes removed and its variables replaced, by nothing where they are not set.

    Raises:
        UsageError: its syntax is wrong, it asks for a variable that is not set (`${x:?}`), or it gets too
            long.
    """
    with _refusing():
        return ShellLex(escape, env=_Metered(values), skip_unset_env=False).process_word(word)


def expand_words(text: str, values: Mapping[str, str], escape: str) -> list[str]:
    """Return the words of a text after its variables are replaced: a value with spaces makes several.

    Raises:
        UsageError: as for `expand`.
    """
    with _refusing():
        return ShellLex(escape, env=_Metered(values), skip_unset_env=False).process_words(text)


def expand_content(content: str, values: Mapping[str, str], escape: str) -> str:
    """Return a heredoc's content with its variables replaced; quotes stay.

    Raises:
        UsageError: as for `expand`.
    """
    with _refusing():
        return ShellLex(
            escape, skip_process_quotes=True, env=_Metered(values), skip_unset_env=False
        ).process_word(content)


class _Metered(Mapping[str, str]):
    """Values of which only so many letters are handed out: later would be too late to count them."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self._room = MAX_WORD

    def __getitem__(self, name: str) -> str:
        value = self._values[name]
        self._room -= len(value)
        if self._room < 0:
            raise UsageError(f"a word has more than {MAX_WORD} letters once its variables are replaced")
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise UsageError(
            str(error)[:300], hint="quotes and ${…} must be closed; ${x:-y}, ${x:+y}, ${x:?y} are known"
        ) from error
