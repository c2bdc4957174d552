"""Tokens: which scopes are granted, how long they are valid, and how a token service hands them over.

Owns their making, their expiry, their use and the documents. Must not know how they are requested.
"""

import hashlib
import json
import math
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from mock_registry.access import Action
from mock_registry.asgi import Headers
from mock_registry.exchange import Response
from mock_registry.spec import ErrorCode, Fault

from .base import Rights, Standing
from .scopes import ANY_ACTION, CATALOG, REPOSITORY, Scope

_HEADERS: Headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]

_HELD = 10_000
"""Tokens remembered; beyond it the oldest one is forgotten, so that clients cannot fill the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetime:
    """When a token expires; whichever comes first.

    Attributes:
        seconds: From its making.
        requests: That it was used for.
        octets: Of bodies, both ways, that requests with it moved. The request under way is served to its end.
    """

    seconds: float = 300.0
    requests: float = math.inf
    octets: float = math.inf


@dataclass(slots=True)
class Token:
    """One valid token."""

    user: str | None
    scopes: tuple[Scope, ...]
    ends: float
    requests_left: float
    octets_left: float


@dataclass(frozen=True, slots=True)
class TokenStanding(Standing):
    """What a token allows, on behalf of the user it was made for."""

    token: Token

    def may(self, action: Action, repository: str) -> bool:
        """Tell whether the token is good for that."""
        scopes = self.token.scopes
        return any(scope.name == repository and action in scope.actions for scope in scopes)

    def spend(self, octets: int) -> None:
        """Use the token's bytes up."""
        self.token.octets_left -= octets


@dataclass(eq=False)
class Tokens:
    """All access tokens of a registry. Only digests of them are kept.

    Args:
        lifetime: How long they are valid.
        clock: Seconds, monotonic.
    """

    lifetime: Lifetime
    clock: Callable[[], float]
    _out: dict[bytes, Token] = field(default_factory=dict, repr=False)

    def issue(self, user: str | None, scopes: Iterable[Scope]) -> str:
        """Make a token."""
        text = secrets.token_urlsafe(32)
        self._out[_key(text)] = Token(
            user,
            tuple(scopes),
            ends=self.clock() + self.lifetime.seconds,
            requests_left=self.lifetime.requests,
            octets_left=self.lifetime.octets,
        )
        _bound(self._out)
        return text

    def use(self, text: str) -> Token | None:
        """Return what a token is good for, and count the use; ``None`` if it is unknown or expired."""
        key = _key(text)
        token = self._out.get(key)
        if token is None:
            return None
        if self.clock() >= token.ends or token.requests_left < 1 or token.octets_left <= 0:
            del self._out[key]
            return None
        token.requests_left -= 1
        return token

    def expire(self) -> None:
        """Revoke all tokens."""
        self._out.clear()


class RefreshTokens:
    """Refresh tokens, which stand for a user's password and do not expire."""

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
        """Revoke one token."""
        self._out.pop(_key(text), None)

    def revoke_all(self) -> None:
        """Revoke all tokens."""
        self._out.clear()


def grant(
    rights: Rights, user: str | None, wanted: Iterable[Scope], *, catalog: bool
) -> tuple[list[Scope], bool]:
    """Return the part of the scopes that a user gets, one for each repository, and whether it is all of them.

    Args:
        rights: Who may do what.
        user: Who asks.
        wanted: What is requested.
        catalog: Whether tokens for the catalog are handed out at all.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAnswer:
    """How a token is handed over; each default is what most clients can read.

    Attributes:
        names: Names that the token stands under: ``token``, ``access_token`` or both.
        expires_in: Say how long it is valid; else clients assume 60 seconds.
        claimed_seconds: Say this instead of the truth.
        issued_at: Say when it was made.
        clock_skew: Seconds that this moment is ahead of the truth, or behind if negative.
    """

    names: tuple[str, ...] = ("token", "access_token")
    expires_in: bool = True
    claimed_seconds: int | None = None
    issued_at: bool = True
    clock_skew: float = 0.0

    def response(
        self,
        token: str,
        *,
        seconds: float,
        scopes: Iterable[Scope] | None = None,
        refresh_token: str | None = None,
    ) -> Response:
        """Return the answer that hands over a token.

        Args:
            token: The token.
            seconds: How long it is valid.
            scopes: What it is good for, where the protocol says so.
            refresh_token: Handed over with it.
        """
        document: dict[str, object] = dict.fromkeys(self.names, token)
        if self.expires_in:
            document["expires_in"] = int(seconds) if self.claimed_seconds is None else self.claimed_seconds
        if self.issued_at:
            moment = datetime.now(UTC) + timedelta(seconds=self.clock_skew)
            document["issued_at"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        if scopes is not None:
            document["scope"] = " ".join(map(str, scopes))
        if refresh_token is not None:
            document["refresh_token"] = refresh_token
        return Response(200, list(_HEADERS), json.dumps(document).encode())


def oauth2_error(code: str, message: str, status: int = 400) -> Response:
    """Return the answer to a form that gets no token (RFC 6749, 5.2), readable as a registry's error too."""
    document = {
        "error": code,
        "error_description": message,
        "errors": [Fault(ErrorCode.UNAUTHORIZED, message).document()],
    }
    return Response(status, list(_HEADERS), json.dumps(document).encode())
