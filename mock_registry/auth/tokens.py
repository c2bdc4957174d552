"""The tokens that are out, and how long they are good.

Owns their making, their expiry and their use. Must not know how they are asked for.
"""

import hashlib
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mock_registry.access import Action

from .rights import Rights
from .scope import ANY_ACTION, CATALOG, REPOSITORY, Scope

_HELD = 10_000
"""Tokens remembered; beyond it the oldest one is forgotten, so that asking for tokens fills no memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetime:
    """When a token ends; whichever comes first.

    Attributes:
        seconds: From its making.
        requests: That it was used for.
        octets: Of bodies, both ways, that requests with it moved. The request under way is served to its end.
    """

    seconds: float = 300.0
    requests: int | None = None
    octets: int | None = None


@dataclass(slots=True)
class Token:
    """One token that is out."""

    user: str | None
    scopes: tuple[Scope, ...]
    ends: float
    requests_left: float
    octets_left: float
    granted: dict[str, frozenset[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.granted = {scope.name: frozenset(scope.actions) for scope in self.scopes if scope != CATALOG}

    def allows(self, action: Action, repository: str) -> bool:
        """Tell whether the token is good for that."""
        return action in self.granted.get(repository, ())


@dataclass(frozen=True, slots=True)
class TokenStanding:
    """What a token allows, on behalf of whoever got it; an `Access`."""

    token: Token
    rights: Rights

    @property
    def user(self) -> str | None:
        """Whoever got the token."""
        return self.token.user

    def may(self, action: Action, repository: str) -> bool:
        """Tell whether the token is good for that."""
        return self.token.allows(action, repository)

    def sees(self, repository: str) -> bool:
        """Tell whether its owner could have a token to read the repository."""
        return self.rights.allow(self.user, Action.PULL, repository)

    def spend(self, octets: int) -> None:
        """Use the token's octets up."""
        self.token.octets_left -= octets


class Tokens:
    """All access tokens of a registry. Only digests of them are kept.

    Args:
        lifetime: How long they are good.
        clock: Seconds, monotonic.
    """

    def __init__(self, lifetime: Lifetime, clock: Callable[[], float]) -> None:
        self.lifetime = lifetime
        self._clock = clock
        self._out: dict[bytes, Token] = {}

    def issue(self, user: str | None, scopes: Iterable[Scope]) -> str:
        """Make a token."""
        text = secrets.token_urlsafe(32)
        requests, octets = self.lifetime.requests, self.lifetime.octets
        self._out[_key(text)] = Token(
            user,
            tuple(scopes),
            ends=self._clock() + self.lifetime.seconds,
            requests_left=float("inf") if requests is None else requests,
            octets_left=float("inf") if octets is None else octets,
        )
        _bound(self._out)
        return text

    def use(self, text: str) -> Token | None:
        """Return what a token is good for, and count the use; ``None`` if it is unknown or has ended."""
        key = _key(text)
        token = self._out.get(key)
        if token is None:
            return None
        if self._clock() >= token.ends or token.requests_left < 1 or token.octets_left <= 0:
            del self._out[key]
            return None
        token.requests_left -= 1
        return token

    def expire(self) -> None:
        """End every token that is out."""
        self._out.clear()


class RefreshTokens:
    """Refresh tokens, which stand for a user's password and do not end by themselves."""

    def __init__(self) -> None:
        self._out: dict[bytes, str] = {}

    def issue(self, user: str) -> str:
        """Make a token."""
        text = secrets.token_urlsafe(48)
        self._out[_key(text)] = user
        _bound(self._out)
        return text

    def user(self, text: str) -> str | None:
        """Return whose it is; ``None`` if it is unknown or was revoked."""
        return self._out.get(_key(text))

    def revoke(self, text: str) -> None:
        """End one token."""
        self._out.pop(_key(text), None)

    def revoke_all(self) -> None:
        """End every token that is out."""
        self._out.clear()


def grant(
    rights: Rights, user: str | None, wanted: Iterable[Scope], *, catalog: bool
) -> tuple[list[Scope], bool]:
    """Return what of the scopes a user gets, one scope a repository, and whether that is all of it.

    Args:
        rights: Who may do what.
        user: Who asks.
        wanted: What is asked for.
        catalog: Tokens for the catalog are to be had at all.
    """
    actions: dict[str, set[str]] = {}
    listing = False
    whole = True
    for scope in wanted:
        if scope.kind == REPOSITORY:
            asked = set(Action) if ANY_ACTION in scope.actions else set(scope.actions)
            allowed = {action for action in Action if rights.allow(user, action, scope.name)}
            actions.setdefault(scope.name, set()).update(asked & allowed)
            whole = whole and asked <= allowed
        elif scope == CATALOG and catalog and (user is not None or rights.anonymous):
            listing = True
        else:
            whole = False
    granted = [
        Scope(REPOSITORY, name, tuple(action for action in Action if action in got))
        for name, got in actions.items()
        if got
    ]
    return [*granted, CATALOG] if listing else granted, whole


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _bound(tokens: "dict[bytes, Token] | dict[bytes, str]") -> None:
    if len(tokens) > _HELD:
        del tokens[next(iter(tokens))]
