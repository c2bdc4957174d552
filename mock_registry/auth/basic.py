"""A name and a password with every request (RFC 7617).

Owns the decision for registries that know no tokens.
"""

from collections.abc import Iterable, Mapping

from mock_registry.access import Access
from mock_registry.exchange import Exchange
from mock_registry.journal import Route

from .authorization import Basic, MalformedError, parse_authorization
from .base import Auth, Standing
from .challenges import Challenges, basic_challenge
from .rights import Right
from .scope import Scope
from .users import Users


class BasicAuth(Auth):
    """Asks for a name and a password.

    Args:
        users: Who can log in: password by name, or an `Htpasswd` file.
        rights: Who may do what; ``None`` lets all who log in do everything.
        anonymous_pull: Let everyone pull everything, besides.
        denial: Status for what a user may not do: 401, 403 or 404; see `Auth`.
        realm: What a person is shown.
        challenges: How a 401 asks to log in.
        open_base: Answer ``/v2/`` to everyone.
        cancel_needs_delete: Cancelling an upload takes the right to delete.
    """

    def __init__(
        self,
        users: Mapping[str, str] | Users,
        *,
        rights: Iterable[Right] | None = None,
        anonymous_pull: bool = False,
        denial: int = 403,
        realm: str = "mock registry",
        challenges: Challenges | None = None,
        open_base: bool = False,
        cancel_needs_delete: bool = False,
    ) -> None:
        super().__init__(
            users,
            rights=rights,
            anonymous_pull=anonymous_pull,
            denial=denial,
            challenges=challenges,
            open_base=open_base,
            cancel_needs_delete=cancel_needs_delete,
        )
        self._realm = realm

    async def identify(self, exchange: Exchange) -> Access:
        """Return the user; somebody without credentials has no name, but may have rights."""
        try:
            credentials = parse_authorization(exchange.header(b"authorization"))
        except MalformedError:
            raise self._ask(exchange, "no readable Basic credentials") from None
        if credentials is None:
            return Standing(None, self.rights)
        # Wrong credentials are wrong even where none would do: whoever sends them means to be someone.
        if isinstance(credentials, Basic) and await self.users.verify(credentials.user, credentials.password):
            return Standing(credentials.user, self.rights)
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
            return self.rights.anonymous
        return self._is_open(exchange)

    def _challenges(self, exchange: Exchange, scopes: Iterable[Scope], error: str | None) -> list[str]:  # noqa: ARG002 (Basic has no place for them)
        return [basic_challenge(self._realm)]
