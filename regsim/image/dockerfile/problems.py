"""What is wrong with a Dockerfile, gathered so that all of it is told at once.

Owns the wording `Dockerfile:LINE: …`. Must not know what an instruction means.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from regsim.errors import DockerfileError

# Beyond this many, one cause has most likely had many effects.
_MAX_REPORTED = 100


@dataclass(slots=True)
class Problems:
    """Collects mistakes.

    Args:
        name: what the Dockerfile is called in messages.
    """

    name: str
    _found: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, message: str, hint: str = "") -> None:
        """Note a mistake in a line, counted from 1."""
        text = f"{message} — {hint}" if hint else message
        entry = (line, f"{self.name}:{line}: {' '.join(text.split())}")
        if entry not in self._found and len(self._found) < _MAX_REPORTED:
            self._found.append(entry)

    def check(self) -> None:
        """Go on if nothing was noted.

        Raises:
            DockerfileError: something was; in the order of lines.
        """
        if self._found:
            raise DockerfileError([text for _, text in sorted(self._found, key=lambda found: found[0])])
