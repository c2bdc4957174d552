"""Whom a request comes from and what it may do, as handlers and the journal need to know it.

Owns the words for that. Must not know how anybody proves who they are.
"""

from enum import StrEnum
from typing import Protocol


class Action(StrEnum):
    """What may be done with a repository, in the words of token scopes."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"


class Access(Protocol):
    """The standing of one request."""

    @property
    def user(self) -> str | None:
        """Who it is; ``None`` for someone who did not say."""

    def may(self, action: Action, repository: str) -> bool:
        """Tell whether this request may do that with the repository."""

    def sees(self, repository: str) -> bool:
        """Tell whether the client may read the repository, with this request or another one."""

    def spend(self, octets: int) -> None:
        """Take note of the bytes of both bodies, now that the request is over."""


class _Open:
    """Everybody may do everything: a registry without authentication."""

    user = None

    def may(self, action: Action, repository: str) -> bool:  # noqa: ARG002 (everything is allowed)
        return True

    def sees(self, repository: str) -> bool:  # noqa: ARG002 (as above)
        return True

    def spend(self, octets: int) -> None:
        pass


OPEN: Access = _Open()
