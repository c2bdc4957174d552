"""What a word that is not known may have been meant to be.

Owns the end of such complaints. Must not know what the words stand for.
"""

from difflib import get_close_matches


def close_to(word: str, words: "list[str] | tuple[str, ...]") -> str:
    """Return the end of a complaint about a word that is not one of these."""
    near = nearest(word, words)
    return f", did you mean '{near}'?" if near else f"; it is one of {', '.join(words)}"


def nearest(word: str, words: "list[str] | tuple[str, ...]") -> str | None:
    """Return the word that may have been meant."""
    folded = word.casefold()
    for near in words:
        if near.casefold() == folded or (folded and near.casefold().startswith(folded)):
            return near
    return next(iter(get_close_matches(word, words, n=1)), None)
