"""What a mistyped word was probably meant to be.

Owns the wording "did you mean". Must not know what the words stand for.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# How many known words are listed when none of them is close to the one given.
_LISTED = 12
# How alike a misspelling is at least: "duration" and "saved_ratio" come to 0.63.
_ALIKE = 0.66


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that looks most like `word`, None where none does."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(word.lower()[:200], by_lower, n=1, cutoff=_ALIKE)
    return by_lower[matches[0]] if matches else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the hint for `word`: the closest known word, else the known words, else nothing."""
    known = list(known)
    match = closest(word, known)
    if match is not None:
        return f'did you mean "{match}"?'
    if not known:
        return ""
    more = ", …" if len(known) > _LISTED else ""
    return "known: " + ", ".join(known[:_LISTED]) + more
