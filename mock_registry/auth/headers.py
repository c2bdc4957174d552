"""The headers Authorization and WWW-Authenticate (RFC 7617, RFC 6750), as clients and registries word them.

Owns their syntax. Must not check credentials, nor know why they are required.
"""

import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from mock_registry.asgi import Headers
from mock_registry.journal import Route

from .scopes import Scope

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


class MalformedError(ValueError):
    """An Authorization header that cannot be read, or of an unsupported scheme."""


@dataclass(frozen=True, slots=True)
class Basic:
    """A name and a password."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token."""

    token: str = field(repr=False)


Credentials: TypeAlias = Basic | Bearer


def parse_authorization(header: str | None) -> Credentials | None:
    """Read the header.

    Returns:
        What it holds; ``None`` for no credentials. skopeo and podman send an empty name with an empty
        password where they have none.

    Raises:
        MalformedError: It is of another scheme, or not written as its scheme asks.
    """
    if header is None:
        return None
    scheme, _, text = header.strip().partition(" ")
    text = text.strip()
    match scheme.lower():
        case "basic":
            return _basic(text)
        case "bearer" if _TOKEN.fullmatch(text):
            return Bearer(text)
    raise MalformedError


def _basic(text: str) -> Basic | None:
    try:
        pair = binascii.a2b_base64(text.encode("ascii"), strict_mode=True).decode("utf-8")
    except ValueError:
        raise MalformedError from None
    user, colon, password = pair.partition(":")
    if not colon or _CONTROL.search(pair):
        raise MalformedError
    return Basic(user, password) if user or password else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenges:
    """How clients are asked to log in; each default is what most registries do.

    Attributes:
        first: Challenges of unsupported schemes, such as ``Negotiate``, before ours.
        joined: All challenges in one header line, with commas, rather than a line for each.
        only_at_base: A 401 has the header at ``/v2/`` alone; clients must keep it.
        scope: Say which scopes are needed.
    """

    first: tuple[str, ...] = ()
    joined: bool = False
    only_at_base: bool = False
    scope: bool = True

    def headers(self, route: Route, challenges: Iterable[str]) -> Headers:
        """Return the header lines of a 401."""
        if self.only_at_base and route not in (Route.BASE, Route.TOKEN):
            return []
        texts = [*self.first, *challenges]
        lines = [", ".join(texts)] if self.joined else texts
        return [(b"www-authenticate", line.encode("latin-1", "replace")) for line in lines]


def basic_challenge(realm: str) -> str:
    """Return the challenge of the Basic scheme, read as UTF-8."""
    return f'Basic realm={_quoted(realm)},charset="UTF-8"'


def bearer_challenge(realm: str, service: str, scopes: Iterable[Scope], error: str | None) -> str:
    """Return the challenge that leads to a token service.

    Args:
        realm: The service's URL.
        service: The registry's name there.
        scopes: What the token must be good for.
        error: What was wrong with the token that came, if one did.
    """
    parameters = {"realm": realm, "service": service}
    if text := " ".join(map(str, scopes)):
        parameters["scope"] = text
    if error:
        parameters["error"] = error
    return "Bearer " + ",".join(f"{name}={_quoted(value)}" for name, value in parameters.items())


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
