"""Suggestions for mistyped words.

Owns the wording "did you mean". Must not know what the words stand for.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# How many known words are listed if none of them is close to the one given.
_LISTED = 24
# How alike a misspelling is at least: "duration" and "saved_ratio" come to 0.63.
_ALIKE = 0.66
# A word of this length or more may be the beginning of several known ones, of which so many are suggested.
_BEGINNING, _SUGGESTED = 3, 3


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is most like `word`, or None if no word is close."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(word.lower()[:200], by_lower, n=1, cutoff=_ALIKE)
    return by_lower[matches[0]] if matches else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a hint for `word`: the known words that begin with it, the closest one, or a list of all."""
    known = list(known)
    found = [each for each in known if len(word) >= _BEGINNING and each.startswith(word)][:_SUGGESTED]
    if not found and (match := closest(word, known)) is not None:
        found = [match]
    if found:
        quoted = (f'"{each}"' for each in found)
        return f"did you mean {' or '.join(quoted)}?"
    if not known:
        return ""
    more = ", …" if len(known) > _LISTED else ""
    return "known: " + ", ".join(known[:_LISTED]) + more
