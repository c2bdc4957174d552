"""What every way of logging in has in common: who asks, what they may do, and how they are told no.

Owns the refusals. Must not know how credentials are proved.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from mock_registry.access import Access, Action
from mock_registry.exchange import Exchange, Refusal, Response
from mock_registry.journal import Route
from mock_registry.spec import ErrorCode, Fault

from .challenges import Challenges
from .demand import Demand, demand_of
from .rights import Right, Rights
from .scope import Scope
from .users import Pairs, Users


@dataclass(frozen=True, slots=True)
class Standing:
    """What a user's rights allow; an `Access`."""

    user: str | None
    rights: Rights

    def may(self, action: Action, repository: str) -> bool:
        """Tell whether the user may do that."""
        return self.rights.allow(self.user, action, repository)

    def sees(self, repository: str) -> bool:
        """Tell whether the user may read the repository."""
        return self.may(Action.PULL, repository)

    def spend(self, octets: int) -> None:
        """Nothing is used up."""


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
    """

    second_origin = False
    """Whether tokens are to be had at an origin of their own."""

    def __init__(
        self,
        users: Mapping[str, str] | Users,
        *,
        rights: Iterable[Right] | None,
        anonymous_pull: bool,
        denial: int,
        challenges: Challenges | None,
        open_base: bool,
        cancel_needs_delete: bool,
    ) -> None:
        if denial not in (401, 403, 404):
            raise ValueError(f"a denial is 401, 403 or 404, not {denial}")
        self.users: Users = Pairs(users) if isinstance(users, Mapping) else users
        self.rights = Rights(rights, anonymous_pull=anonymous_pull)
        self.challenges = challenges or Challenges()
        self._denial = denial
        self._open_base = open_base
        self._cancel_needs_delete = cancel_needs_delete

    @abstractmethod
    async def identify(self, exchange: Exchange) -> Access:
        """Return who a request comes from.

        Raises:
            Refusal: 401; the credentials are wrong, or missing where nobody is served without.
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

    async def answer_token(self, exchange: Exchange) -> Response:  # noqa: ARG002 (there is none)
        """Answer a request for a token.

        Raises:
            Refusal: 404; there are none to be had.
        """
        raise Refusal(404, Fault(ErrorCode.UNSUPPORTED, "this registry has no token service"))

    def at(self, url: str, port: int) -> AbstractContextManager[None]:
        """Hand out tokens at an origin of their own meanwhile, where `second_origin` asks for that.

        Args:
            url: The origin.
            port: The one that its requests arrive at.
        """
        raise NotImplementedError(url, port)

    def demand(self, exchange: Exchange) -> Demand:
        """Return what a request needs."""
        return demand_of(exchange, cancel_needs_delete=self._cancel_needs_delete)

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
        if self._denial == 401:  # noqa: PLR2004 (statuses are numbers)
            return self._ask(exchange, "not allowed", "insufficient_scope")
        if self._denial == 404 and not exchange.access.sees(repository):  # noqa: PLR2004 (likewise)
            return Refusal(404, Fault(ErrorCode.NAME_UNKNOWN, "there is no such repository", repository))
        return Refusal(403, Fault(ErrorCode.DENIED, "not allowed"))

    def _is_open(self, exchange: Exchange) -> bool:
        route = exchange.address.route
        if route is Route.PAGE:  # like the catalog, it shows everyone what they may pull
            return self.rights.anonymous
        return self._open_base and route is Route.BASE
