"""The WWW-Authenticate header, as registries word it.

Owns its syntax and the ways in which real ones differ. Must not know why somebody is asked.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from mock_registry.asgi import Headers
from mock_registry.journal import Route

from .scope import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenges:
    """How clients are asked to log in; each default is what most registries do.

    Attributes:
        first: Challenges of schemes that are not spoken here, such as ``Negotiate``, before ours.
        joined: All challenges in one header line, with commas, rather than a line for each.
        only_at_base: A 401 has the header at ``/v2/`` alone; clients must keep it.
        scope: Say which scopes are needed; else clients must know by themselves.
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
