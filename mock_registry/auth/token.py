"""Bearer tokens: the registry's side, and the token service beside it (RFC 6750).

Owns the decision for registries that know tokens. Must not know how a token is asked for.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from mock_registry.access import Access, Action
from mock_registry.exchange import Exchange, Refusal, Response
from mock_registry.journal import Route
from mock_registry.spec import ErrorCode, Fault

from .authorization import Basic, Bearer, Credentials, MalformedError, parse_authorization
from .base import Auth, Standing
from .challenges import Challenges, basic_challenge, bearer_challenge
from .demand import Demand
from .rights import Right
from .scope import CATALOG, Scope, parse_scopes
from .token_answer import TokenAnswer
from .token_service import TokenService
from .tokens import Lifetime, RefreshTokens, Tokens, TokenStanding, grant
from .users import Users

_AUTHORITY = re.compile(r"[A-Za-z0-9._~:\[\]-]+")


class TokenAuth(Auth):
    """Asks for a token, and hands tokens out.

    Args:
        users: Who can log in at the token service: password by name, or an `Htpasswd` file.
        rights: Who may get which scopes; ``None`` lets all who log in do everything.
        anonymous_pull: Hand out tokens to pull with to everyone, besides.
        denial: Status for what a user may not do, whatever token they get: 401 as distribution, 403, or 404;
            see `Auth`.
        scope_status: Status for what another token would open: 401 as distribution, or 403 as RFC 6750 has
            it. Both come with the challenge.
        service: The registry's name at the token service.
        lifetime: How long tokens are good.
        answer: How a token is handed over.
        challenges: How a 401 asks for a token.
        realm: URL of the token service that clients are sent to; by default ``/token`` where they are now.
        second_origin: Serve tokens on a port of their own, and there alone.
        offline: Hand out refresh tokens to who asks for them.
        rotate: A refresh token is good for one use, which hands over the next one.
        post_status: Refuse OAuth2's POST with this status; ``None`` answers it.
        whole_or_nothing: Refuse (403) who may not have all scopes, rather than grant a part of them.
        catalog: Hand out tokens for the catalog.
        basic: Take a name and a password in place of a token too, and say so.
        challenge_mounts: Ask for a token with both scopes (401) before a mount whose source the token does
            not cover, as distribution does; else a session is opened (202).
        open_base: Answer ``/v2/`` to everyone.
        cancel_needs_delete: Cancelling an upload takes the right to delete.
        clock: Seconds, monotonic; by which tokens end.
    """

    def __init__(
        self,
        users: Mapping[str, str] | Users,
        *,
        rights: Iterable[Right] | None = None,
        anonymous_pull: bool = False,
        denial: int = 401,
        scope_status: int = 401,
        service: str = "mock-registry",
        lifetime: Lifetime | None = None,
        answer: TokenAnswer | None = None,
        challenges: Challenges | None = None,
        realm: str | None = None,
        second_origin: bool = False,
        offline: bool = True,
        rotate: bool = False,
        post_status: int | None = None,
        whole_or_nothing: bool = False,
        catalog: bool = True,
        basic: bool = False,
        challenge_mounts: bool = False,
        open_base: bool = False,
        cancel_needs_delete: bool = False,
        clock: Callable[[], float] = time.monotonic,
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
        self.second_origin = second_origin
        self.tokens = Tokens(lifetime or Lifetime(), clock)
        self.refresh_tokens = RefreshTokens()
        self._service = TokenService(
            service=service,
            users=self.users,
            rights=self.rights,
            tokens=self.tokens,
            refresh_tokens=self.refresh_tokens,
            answer=answer or TokenAnswer(),
            challenges=self.challenges,
            catalog=catalog,
            offline=offline,
            rotate=rotate,
            post_status=post_status,
            whole_or_nothing=whole_or_nothing,
        )
        if scope_status not in (401, 403):
            raise ValueError(f"a token without the scope gets 401 or 403, not {scope_status}")
        self._scope_status = scope_status
        self._realm = realm
        self._origins: list[tuple[str, int]] = []
        self._basic = basic
        self._challenge_mounts = challenge_mounts

    def issue_token(self, user: str | None, *scopes: str) -> str:
        """Make a token, as the token service would, for as much of the scopes as the user may have."""
        granted, _ = grant(self.rights, user, parse_scopes(scopes), catalog=self._service.catalog)
        return self.tokens.issue(user, granted)

    def issue_refresh_token(self, user: str) -> str:
        """Make a refresh token, such as a credential helper keeps under the name ``<token>``."""
        return self.refresh_tokens.issue(user)

    @contextmanager
    def at(self, url: str, port: int) -> Iterator[None]:
        """Hand out tokens at an origin of their own meanwhile.

        Args:
            url: The origin.
            port: The one that its requests arrive at.
        """
        self._origins.append((url, port))
        try:
            yield
        finally:
            self._origins.remove((url, port))

    async def identify(self, exchange: Exchange) -> Access:
        """Return whom the token was made for; a token is needed for everything."""
        if self._is_at_second_origin(exchange):
            raise Refusal(404, Fault(ErrorCode.UNSUPPORTED, "only tokens are to be had here"))
        credentials = self._credentials(exchange)
        if isinstance(credentials, Bearer):
            token = self.tokens.use(credentials.token)
            if token is None:
                raise self._ask(exchange, "the token is unknown or has ended", "invalid_token")
            return TokenStanding(token, self.rights)
        if credentials is not None and await self.users.verify(credentials.user, credentials.password):
            return Standing(credentials.user, self.rights)
        if credentials is None and self._is_open(exchange):
            return Standing(None, self.rights)
        raise self._ask(exchange, "a token is needed")

    def _credentials(self, exchange: Exchange) -> Credentials | None:
        try:
            credentials = parse_authorization(exchange.header(b"authorization"))
        except MalformedError:
            raise self._ask(exchange, "no readable token", "invalid_token") from None
        return None if isinstance(credentials, Basic) and not self._takes_basic(exchange) else credentials

    def _takes_basic(self, exchange: Exchange) -> bool:
        # A browser asks for a name and a password, but never fetches a token.
        return self._basic or exchange.address.route is Route.PAGE

    def check(self, exchange: Exchange) -> None:
        """Let pass what the token is good for."""
        demand = self.demand(exchange)
        if not self._covers(exchange.access, demand):
            if demand.action is None or self.rights.allow(
                exchange.access.user, demand.action, demand.repository
            ):
                status = self._scope_status
                raise self._ask(
                    exchange, "the token is not good for this", "insufficient_scope", status=status
                )
            raise self._deny(exchange)

    def _covers(self, access: Access, demand: Demand) -> bool:
        if demand.route is Route.CATALOG and isinstance(access, TokenStanding):
            return CATALOG in access.token.scopes
        if demand.action is None:
            return True
        if self._challenge_mounts and demand.source and not access.may(Action.PULL, demand.source):
            return False
        return access.may(demand.action, demand.repository)

    async def answer_token(self, exchange: Exchange) -> Response:
        """Hand out a token.

        Raises:
            Refusal: 404 where tokens are to be had elsewhere, and whatever the token service refuses.
        """
        if self._origins and not self._is_at_second_origin(exchange):
            raise Refusal(404, Fault(ErrorCode.UNSUPPORTED, "tokens are to be had at another origin"))
        return await self._service.respond(exchange)

    def _is_at_second_origin(self, exchange: Exchange) -> bool:
        return any(port == exchange.listener[1] for _, port in self._origins)

    def _challenges(self, exchange: Exchange, scopes: Iterable[Scope], error: str | None) -> list[str]:
        service = self._service.service
        texts = [bearer_challenge(self._realm_for(exchange), service, scopes, error)]
        return [*texts, basic_challenge(service)] if self._takes_basic(exchange) else texts

    def _realm_for(self, exchange: Exchange) -> str:
        """Return the URL of the token service, as whoever asks can reach it."""
        if self._realm is not None:
            return self._realm
        if self._origins:
            return f"{self._origins[-1][0]}/token"
        host = exchange.header(b"host") or ""
        if not _AUTHORITY.fullmatch(host):
            name, port = exchange.listener
            host = f"[{name}]" if ":" in name else name
            host = host if port is None else f"{host}:{port}"
        return f"{exchange.scheme}://{host}/token"
