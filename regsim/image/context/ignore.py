"""`.dockerignore`: what of a context is left out (docs.docker.com, "Build context").

Owns the seam to the pattern matcher of `e2b_dockerfile_utils`, a port of moby's: `**`, `!`, and the last
pattern that matches wins. Must not know how a context is walked.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from e2b_dockerfile_utils import PatternMatcher

from regsim.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Ignore:
    """Tells what patterns leave out.

    Args:
        patterns: lines as a `.dockerignore` has them; comments and empty lines are skipped.
        name: where they stand, for the error message.

    Raises:
        UsageError: one of them is none.
    """

    def __init__(self, patterns: Sequence[str], name: str = ".dockerignore") -> None:
        try:
            self._matcher = PatternMatcher([each.removeprefix("\ufeff") for each in patterns])
        except ValueError as error:
            raise UsageError(f"{name}: {error}", hint="an opening [ needs its ]") from error
        self._any = bool(self._matcher.patterns)

    def __bool__(self) -> bool:
        """Tell whether there are any patterns."""
        return self._any

    def excludes(self, path: bytes) -> bool:
        """Tell whether a path, relative to the context, is left out."""
        return self._any and self._matcher.matches(os.fsdecode(path))

    def excludes_all_below(self, path: bytes) -> bool:
        """Tell whether nothing in an excluded directory can be taken in again by a `!` pattern."""
        return not self._matcher.may_match_under(os.fsdecode(path))


NOTHING = Ignore(())
