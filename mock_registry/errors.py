"""How errors about settings are worded: unknown words with a suggestion, and packages that are missing.

Must not know what the words stand for, nor import any such package.
"""

from difflib import get_close_matches


class MissingPackageError(RuntimeError):
    """A feature needs a package that is not installed.

    Args:
        package: Its name, as pip takes it.
        purpose: What it is needed for.
    """

    def __init__(self, package: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package}: pip install {package}")


def close_to(word: str, words: "list[str] | tuple[str, ...]") -> str:
    """Return the end of an error about a word that is not one of these: a suggestion, or the list."""
    near = nearest(word, words)
    return f", did you mean '{near}'?" if near else f"; it is one of {', '.join(words)}"


def nearest(word: str, words: "list[str] | tuple[str, ...]") -> str | None:
    """Return the word that may have been meant."""
    folded = word.casefold()
    for near in words:
        if near.casefold() == folded or (folded and near.casefold().startswith(folded)):
            return near
    return next(iter(get_close_matches(word, words, n=1)), None)
