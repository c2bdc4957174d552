"""Who may do what with which repositories, and ways of logging in: what they share, and passwords (RFC 7617).

Owns rights and refusals. Must not know of tokens.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, InitVar, dataclass, field

from mock_registry.access import Access, Action
from mock_registry.exchange import Exchange, Refusal
from mock_registry.journal import Route
from mock_registry.spec import ErrorCode, Fault

from .headers import Basic, Challenges, MalformedError, basic_challenge, parse_authorization
from .scopes import Demand, Scope, demand_of
from .users import Pairs, Users

ANYBODY = "*"
"""Stands for every user who logged in."""

ALL_ACTIONS = ",".join(Action)


@dataclass(frozen=True, slots=True)
class Right:
    """A permission. Everything else is forbidden.

    Attributes:
        who: A user's name; ``"*"`` for all who log in; ``None`` for everyone, anonymous clients included.
        repositories: A repository's name, or a pattern of names: ``*`` stands for any part of one path
            component, ``**`` for anything.
        actions: Of ``pull``, ``push`` and ``delete``, with commas.
    """

    who: str | None
    repositories: str = "**"
    actions: str = ALL_ACTIONS


class Rights:
    """All permissions of a registry.

    Args:
        rights: The permissions; ``None`` lets all who log in do everything.
        anonymous_pull: Let everyone pull everything, besides.

    Raises:
        ValueError: A right names an unknown action.
    """

    def __init__(self, rights: Iterable[Right] | None, *, anonymous_pull: bool = False) -> None:
        granted = [Right(ANYBODY)] if rights is None else list(rights)
        if anonymous_pull:
            granted.append(Right(None, actions=Action.PULL))
        self._compiled = [
            (right.who, _compile(right.repositories), _actions(right.actions)) for right in granted
        ]

    @property
    def anonymous(self) -> bool:
        """Anonymous clients may do something."""
        return any(who is None for who, _, _ in self._compiled)

    def allow(self, user: str | None, action: Action, repository: str) -> bool:
        """Tell whether a user (``None``: an anonymous client) may do that with the repository."""
        meant = (None,) if user is None else (None, ANYBODY, user)
        return any(
            who in meant and action in actions and pattern.fullmatch(repository)
            for who, pattern, actions in self._compiled
        )


def _compile(pattern: str) -> re.Pattern[str]:
    texts = {"**": ".*", "*": "[^/]*"}
    pieces = re.split(r"(\*\*|\*)", pattern)
    return re.compile("".join(texts.get(piece) or re.escape(piece) for piece in pieces))


def _actions(text: str) -> frozenset[Action]:
    try:
        return frozenset(Action(word.strip()) for word in text.split(","))
    except ValueError:
        raise ValueError(f"actions are {ALL_ACTIONS}, not {text!r}") from None


@dataclass(frozen=True, slots=True)
class Standing(Access):
    """What a user's rights allow."""

    rights: Rights

    def may(self, action: Action, repository: str) -> bool:
        """Tell whether the user may do that."""
        return self.rights.allow(self.user, action, repository)

    def sees(self, repository: str) -> bool:
        """Tell whether the user may read the repository, perhaps with another token."""
        return self.rights.allow(self.user, Action.PULL, repository)


@dataclass(eq=False, repr=False)
class Auth(ABC):
    """Decides who a request comes from and whether it is served.

    Args:
        users: Who can log in: password by name, or anything that knows passwords.
        rights: Who may do what; ``None`` lets all who log in do everything.
        anonymous_pull: Let everyone pull everything, besides.
        denial: Status for what a user may not do: 401, 403, or 404 where the repository may not even be
            read (one that may be read is denied with 403). It is the same whether or not there is one.
        challenges: How a 401 asks to log in.
        open_base: Answer ``/v2/`` to everyone. Clients that learn the scheme there then never log in.
        cancel_needs_delete: Cancelling an upload (end-14) takes the right to delete, as in distribution,
            rather than the one to push.

    Attributes:
        known: Who can log in, as given or made of the names and passwords.
        granted: The permissions that ``rights`` and ``anonymous_pull`` amount to.
    """

    users: InitVar[Mapping[str, str] | Users]
    _: KW_ONLY
    rights: InitVar[Iterable[Right] | None] = None
    anonymous_pull: InitVar[bool] = False
    denial: int = 403
    challenges: Challenges = field(default_factory=Challenges)
    open_base: bool = False
    cancel_needs_delete: bool = False
    known: Users = field(init=False)
    granted: Rights = field(init=False)

    def __post_init__(
        self, users: Mapping[str, str] | Users, rights: Iterable[Right] | None, anonymous_pull: bool
    ) -> None:
        if self.denial not in (401, 403, 404):
            raise ValueError(f"a denial is 401, 403 or 404, not {self.denial}")
        self.known = Pairs(users) if isinstance(users, Mapping) else users
        self.granted = Rights(rights, anonymous_pull=anonymous_pull)

    @abstractmethod
    async def identify(self, exchange: Exchange) -> Access:
        """Return who a request comes from.

        Raises:
            Refusal: 401; the credentials are wrong, or missing where they are needed.
        """

    @abstractmethod
    def check(self, exchange: Exchange) -> None:
        """Let a request pass whose ``access`` allows it.

        Raises:
            Refusal: 401, 403 or 404; it does not.
        """

    @abstractmethod
    def _challenges(self, exchange: Exchange, scopes: Iterable[Scope], error: str | None) -> list[str]:
        """Return the challenges of this way to log in."""

    def demand(self, exchange: Exchange) -> Demand:
        """Return what a request needs."""
        return demand_of(exchange, cancel_needs_delete=self.cancel_needs_delete)

    def _ask(
        self, exchange: Exchange, message: str, error: str | None = None, *, status: int = 401
    ) -> Refusal:
        """Return the refusal, a 401 as a rule, that asks to log in."""
        scopes = self.demand(exchange).scopes
        shown = scopes if self.challenges.scope else ()
        texts = self._challenges(exchange, shown, error)
        detail = [{"type": each.kind, "name": each.name, "actions": each.actions} for each in scopes]
        code = ErrorCode.UNAUTHORIZED if status == 401 else ErrorCode.DENIED  # noqa: PLR2004 (a status)
        fault = Fault(code, message, detail or None)
        return Refusal(status, fault, headers=self.challenges.headers(exchange.address.route, texts))

    def _deny(self, exchange: Exchange) -> Refusal:
        """Return the refusal of what a user's rights forbid."""
        repository = exchange.repository or ""
        if self.denial == 401:  # noqa: PLR2004 (statuses are numbers)
            return self._ask(exchange, "not allowed", "insufficient_scope")
        if self.denial == 404 and not exchange.access.sees(repository):  # noqa: PLR2004 (statuses are numbers)
            return Refusal(404, Fault(ErrorCode.NAME_UNKNOWN, "there is no such repository", repository))
        return Refusal(403, Fault(ErrorCode.DENIED, "not allowed"))

    def _is_open(self, exchange: Exchange) -> bool:
        route = exchange.address.route
        if route is Route.PAGE:  # like the catalog, it shows everyone what they may pull
            return self.granted.anonymous
        return self.open_base and route is Route.BASE


@dataclass(kw_only=True, eq=False, repr=False)
class BasicAuth(Auth):
    """Asks for a name and a password.

    Args:
        realm: What a person is shown. The others are as of `Auth`.
    """

    realm: str = "mock registry"

    async def identify(self, exchange: Exchange) -> Access:
        """Return the user; an anonymous client may have rights too."""
        try:
            credentials = parse_authorization(exchange.header(b"authorization"))
        except MalformedError:
            raise self._ask(exchange, "no readable Basic credentials") from None
        if credentials is None:
            return Standing(None, self.granted)
        # Wrong credentials are refused even where none are needed: the client meant to log in.
        if isinstance(credentials, Basic) and await self.known.verify(credentials.user, credentials.password):
            return Standing(credentials.user, self.granted)
        raise self._ask(exchange, "wrong name or password")

    def check(self, exchange: Exchange) -> None:
        """Let pass what the user's rights allow."""
        demand = self.demand(exchange)
        named = exchange.access.user is not None
        if demand.action is not None:
            if not exchange.access.may(demand.action, demand.repository):
                raise self._deny(exchange) if named else self._ask(exchange, "log in first")
        elif not named and not self._is_anonymous(exchange):
            raise self._ask(exchange, "log in first")

    def _is_anonymous(self, exchange: Exchange) -> bool:
        # Clients read the scheme from the answer at /v2/, and without it never send what they have: it asks
        # even where pulls do not. The catalog shows everyone what they may pull.
        if exchange.address.route is Route.CATALOG:
            return self.granted.anonymous
        return self._is_open(exchange)

    def _challenges(self, exchange: Exchange, scopes: Iterable[Scope], error: str | None) -> list[str]:  # noqa: ARG002 (Basic has no parameters for them)
        return [basic_challenge(self.realm)]
