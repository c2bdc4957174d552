"""Scopes of tokens, such as ``repository:shop/api:pull,push``, and what a request needs to be allowed.

Owns the grammar of scopes, and the table from routes and methods to actions. Must not know who may do what.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from mock_registry.access import Action
from mock_registry.exchange import Exchange
from mock_registry.journal import Route
from mock_registry.spec import is_name

REPOSITORY = "repository"
ANY_ACTION = "*"


@dataclass(frozen=True, slots=True)
class Scope:
    """What a token is requested for, or grants.

    Attributes:
        kind: ``repository`` or ``registry``; a plugin's class in brackets is kept.
        name: The repository's, or ``catalog``.
        actions: In the order they were written.
    """

    kind: str
    name: str
    actions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}:{','.join(self.actions)}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read one scope; ``None`` if the text is not a scope."""
        kind, first, rest = text.partition(":")
        name, last, actions = rest.rpartition(":")  # the name of a repository may begin with host:port
        if not (first and last and kind and name and actions):
            return None
        return cls(kind, name, tuple(dict.fromkeys(actions.split(","))))


CATALOG = Scope("registry", "catalog", (ANY_ACTION,))


def repository_scope(name: str, *actions: Action) -> Scope:
    """Return the scope of actions on a repository."""
    return Scope(REPOSITORY, name, tuple(map(str, actions)))


def parse_scopes(values: Iterable[str]) -> list[Scope]:
    """Read scope parameters, each of several scopes with spaces between; other texts are left out."""
    texts = [text for value in values for text in value.split()]
    return [scope for text in texts if (scope := Scope.parse(text)) is not None]


@dataclass(frozen=True, slots=True)
class Demand:
    """What a request needs.

    Attributes:
        action: What must be allowed; ``None`` where only the route tells.
        repository: The name in the path.
        source: The other repository that a mount names.
    """

    route: Route
    action: Action | None = None
    repository: str = ""
    source: str | None = None

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """The scopes that a client should ask for, the repository's own first.

        A client that pushes also asks whether the content is there, so both actions are in one scope. Some
        registries read only the first scope.
        """
        if self.route is Route.CATALOG:
            return (CATALOG,)
        if self.action is None:
            return ()
        actions = (Action.PULL, Action.PUSH) if self.action is Action.PUSH else (self.action,)
        scopes = (repository_scope(self.repository, *actions),)
        return (*scopes, repository_scope(self.source, Action.PULL)) if self.source else scopes


def demand_of(exchange: Exchange, *, cancel_needs_delete: bool) -> Demand:
    """Return what a request needs."""
    route = exchange.address.route
    if exchange.repository is None:
        return Demand(route)
    action = _action(route, exchange.method, cancel_needs_delete=cancel_needs_delete)
    return Demand(route, action, exchange.repository, _source(exchange))


def _action(route: Route, method: str, *, cancel_needs_delete: bool) -> Action:
    if method == "DELETE" and (route is not Route.UPLOAD or cancel_needs_delete):
        return Action.DELETE
    if route in (Route.UPLOAD, Route.UPLOADS) or method not in ("GET", "HEAD"):
        return Action.PUSH
    return Action.PULL


def _source(exchange: Exchange) -> str | None:
    if exchange.address.route is not Route.UPLOADS or exchange.parameter("mount") is None:
        return None
    source = exchange.parameter("from")
    return source if source and source != exchange.repository and is_name(source) else None
