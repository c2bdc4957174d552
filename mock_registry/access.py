"""Whom a request comes from and what it may do, as handlers and the journal need to know it.

Owns the words for that. Must not know how anybody proves who they are.
"""

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What may be done with a repository, in the words of token scopes."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Access:
    """What one request may do. This class itself is for a registry without authentication: everything.

    Attributes:
        user: The name that the request proved; ``None`` for an anonymous client.
    """

    user: str | None

    def may(self, action: Action, repository: str) -> bool:  # noqa: ARG002 (everything is allowed)
        """Tell whether this request may do that with the repository."""
        return True

    def sees(self, repository: str) -> bool:  # noqa: ARG002 (as above)
        """Tell whether the client may read the repository, with this request or another one."""
        return True

    def spend(self, octets: int) -> None:
        """Count the bytes of both bodies, now that the request is over."""


OPEN = Access(None)
