"""Challenges and scopes: how a registry asks for credentials, and what a token is good for.

Owns the grammar of `WWW-Authenticate` (RFC 9110, 11.6.1), and the spelling and sums of scopes (distribution's
token authentication, "Resource Provider Use"). Must not know what is done about a challenge.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PULL, PUSH, DELETE = "pull", "push", "delete"

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  (a token of the grammar, RFC 9110, 5.6.2)
_QUOTED = r'"(?:[^"\\]|\\.)*+(?:"|$)'
# A value without quotes should be a token, but some registries send URLs without quotes.
_PARAMETER = re.compile(rf"({_TOKEN})[ \t]*=[ \t]*({_QUOTED}|[^\s,\"]*)", re.DOTALL)
_SCHEME = re.compile(rf"({_TOKEN})(?:[ \t]+([0-9A-Za-z._~+/-]+=*)(?=[ \t]*(?:,|$)))?")
_GAP = re.compile(r"[\s,]+")
_JUNK = re.compile(rf"(?:{_QUOTED}|[^,\"])+", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to log in, as a registry offers it.

    Attributes:
        scheme: in lower case: `basic`, `bearer`, or any other.
        parameters: by name in lower case; if a name is repeated, its first value.
    """

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(text: str) -> tuple[Challenge, ...]:
    """Return all challenges of a header, in its order; several lines are joined by commas.

    Text that is malformed is skipped: a challenge that cannot be read cannot be met.
    """
    challenges: list[Challenge] = []
    scheme, parameters = "", dict[str, str]()
    at = 0
    while at < len(text):
        parameter, start = _PARAMETER.match(text, at), _SCHEME.match(text, at)
        found = parameter or start or _GAP.match(text, at) or _JUNK.match(text, at)
        if parameter:
            parameters.setdefault(parameter[1].lower(), _unquoted(parameter[2]))
        elif start:
            if scheme:
                challenges.append(Challenge(scheme, parameters))
            scheme, parameters = start[1].lower(), {}
        at = found.end() if found else at + 1
    if scheme:
        challenges.append(Challenge(scheme, parameters))
    return tuple(challenges)


def _unquoted(text: str) -> str:
    if not text.startswith('"'):
        return text
    inner = text[1:-1] if len(text) > 1 and text.endswith('"') else text[1:]
    return re.sub(r"\\(.)", r"\1", inner, flags=re.DOTALL)


@dataclass(frozen=True, slots=True)
class Scope:
    """Actions on one resource.

    Attributes:
        resource: such as `repository:shop/api`; a scope that only one registry knows (`aws`) is all resource.
        actions: such as `pull`.
    """

    resource: str
    actions: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Read `TYPE:NAME:ACTION,ACTION`. Text of another form is kept whole, for the token service."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a request must be allowed to do.

    Attributes:
        repository: whose credentials are used; None: the registry's.
        scopes: of its token. Those that a challenge names are added.
    """

    repository: str | None = None
    scopes: Scopes = ()


def parse_scopes(text: str) -> Scopes:
    """Return the scopes of a challenge, which are separated by spaces."""
    return merged(map(Scope.parse, text.split()))


def merged(*several: Iterable[Scope]) -> Scopes:
    """Return the sum of scopes, one for each resource, in the order in which they first occur."""
    actions: dict[str, frozenset[str]] = {}
    for scopes in several:
        for scope in scopes:
            actions[scope.resource] = actions.get(scope.resource, frozenset()) | scope.actions
    return tuple(Scope(resource, each) for resource, each in actions.items())


def covers(held: Scopes, wanted: Scopes) -> bool:
    """Tell whether a token for `held` also serves for `wanted`."""
    return merged(held) == merged(held, wanted)
