"""Scopes: what a token is good for (distribution's token authentication, "Resource Provider Use").

Owns their spelling and their sums. Must not know tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PULL, PUSH, DELETE = "pull", "push", "delete"


@dataclass(frozen=True, slots=True)
class Scope:
    """Actions on one resource.

    Attributes:
        resource: such as `repository:shop/api`; a scope of a registry's own making (`aws`) is all resource.
        actions: such as `pull`.
    """

    resource: str
    actions: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Read `TYPE:NAME:ACTION,ACTION`; what is not of that form stays whole, for the token service."""
        resource, colon, actions = text.rpartition(":")
        if not colon or ":" not in resource:
            return cls(text)
        return cls(resource, frozenset(filter(None, actions.split(","))))

    @classmethod
    def repository(cls, name: str, *actions: str) -> Scope:
        """Return the scope of actions on a repository."""
        return cls(f"repository:{name}", frozenset(actions))

    def __str__(self) -> str:
        return f"{self.resource}:{','.join(sorted(self.actions))}" if self.actions else self.resource


Scopes = tuple[Scope, ...]
CATALOG = Scope("registry:catalog", frozenset({"*"}))


def parse_scopes(text: str) -> Scopes:
    """Read scopes that spaces part, as a challenge names them."""
    return merged(map(Scope.parse, text.split()))


def merged(*several: Iterable[Scope]) -> Scopes:
    """Return the sum, one scope a resource, in the order in which they first came."""
    actions: dict[str, frozenset[str]] = {}
    for scopes in several:
        for scope in scopes:
            actions[scope.resource] = actions.get(scope.resource, frozenset()) | scope.actions
    return tuple(Scope(resource, each) for resource, each in actions.items())


def covers(held: Scopes, wanted: Scopes) -> bool:
    """Tell whether a token asked for with `held` needs no more for `wanted`."""
    return merged(held) == merged(held, wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a request needs to be allowed.

    Attributes:
        repository: whose credentials it goes with; None: the registry's.
        scopes: of its token. What a challenge names beside them is added.
    """

    repository: str | None = None
    scopes: Scopes = ()
