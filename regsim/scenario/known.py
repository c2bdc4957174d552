"""Which repositories of a run's registry hold a digest: where mounts are sought.

A scenario learns from its own transfers and from nothing else, so that it never depends on an earlier run.
What is known may have been deleted since; a stale candidate costs one refused mount.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regsim.core import Digest, Role
from regsim.core.ledger import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from regsim.core.ledger import Ledger

_HELD = frozenset({Outcome.TRANSFERRED, Outcome.EXISTS, Outcome.MOUNTED, Outcome.JOINED})


@dataclass(slots=True)
class Known:
    """Repositories by the digest of a blob, oldest first."""

    repositories: dict[Digest, list[str]] = field(default_factory=dict)

    def learn(self, ledger: Ledger, repository: str) -> None:
        """Take note of what a transfer left in `repository`."""
        for entry in ledger.entries:
            if entry.role not in (Role.LAYER, Role.CONFIG) or entry.outcome not in _HELD:
                continue
            known = self.repositories.setdefault(entry.digest, [])
            if repository not in known:
                known.append(repository)

    def candidates(self, destination: str, source: str | None = None) -> Callable[[Digest], tuple[str, ...]]:
        """Return where a transfer to `destination` mounts from: first the repository that it copies from."""

        def candidates(digest: Digest) -> tuple[str, ...]:
            ranked = dict.fromkeys((*filter(None, [source]), *self.repositories.get(digest, ())))
            return tuple(repository for repository in ranked if repository != destination)

        return candidates
