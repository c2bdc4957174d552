"""Variables in a Dockerfile's words: `$x`, `${x}`, `${x:-default}`, quotes and escapes.

Owns the seam to the shell lexer of `e2b_dockerfile_utils`, a port of BuildKit's. Must not know where values
come from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2b_dockerfile_utils import ShellLex

from regsim.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

# What a word may grow to: `${a}${a}…` of values that are themselves such words doubles with each line.
MAX_WORD = 1024 * 1024


def expand(word: str, values: Mapping[str, str], escape: str) -> str:
    """Return a word with its quotes removed and its variables replaced, by nothing where they are not set.

    Raises:
        UsageError: its syntax is wrong, it asks for a variable that is not set (`${x:?}`), or it gets too
            long.
    """
    try:
        return _bounded(ShellLex(escape, env=values, skip_unset_env=False).process_word(word))
    except ValueError as error:
        raise _refused(error) from error


def expand_words(text: str, values: Mapping[str, str], escape: str) -> list[str]:
    """Return the words of a text after its variables are replaced: a value with spaces makes several.

    Raises:
        UsageError: as for `expand`.
    """
    try:
        words = ShellLex(escape, env=values, skip_unset_env=False).process_words(text)
    except ValueError as error:
        raise _refused(error) from error
    return [_bounded(word) for word in words]


def expand_content(content: str, values: Mapping[str, str], escape: str) -> str:
    """Return a heredoc's content with its variables replaced; quotes stay.

    Raises:
        UsageError: as for `expand`.
    """
    lexer = ShellLex(escape, skip_process_quotes=True, env=values, skip_unset_env=False)
    try:
        return _bounded(lexer.process_word(content))
    except ValueError as error:
        raise _refused(error) from error


def _bounded(word: str) -> str:
    if len(word) > MAX_WORD:
        raise UsageError(f"a word has more than {MAX_WORD} letters once its variables are replaced")
    return word


def _refused(error: ValueError) -> UsageError:
    return UsageError(
        str(error)[:300], hint="quotes and ${…} must be closed; ${x:-y}, ${x:+y}, ${x:?y} are known"
    )
