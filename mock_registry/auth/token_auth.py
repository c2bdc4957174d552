"""Bearer tokens (RFC 6750): the registry's side, and the token service at ``/token``.

Owns the decision for registries with tokens, and how a token is requested: by GET as registries have it, and
by POST as OAuth2 has it.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from mock_registry.access import Access, Action
from mock_registry.exchange import Exchange, Refusal, Response
from mock_registry.journal import Route
from mock_registry.spec import ErrorCode, Fault

from .base import Auth, Right, Standing
from .headers import (
    Basic,
    Bearer,
    Credentials,
    MalformedError,
    basic_challenge,
    bearer_challenge,
    parse_authorization,
)
from .scopes import CATALOG, Demand, Scope, parse_scopes
from .tokens import Lifetime, RefreshTokens, TokenAnswer, Tokens, TokenStanding, grant, oauth2_error
from .users import Users

_FORM = "application/x-www-form-urlencoded"
_FORM_LIMIT = 64 << 10
_SCOPES = 100
_AUTHORITY = re.compile(r"[A-Za-z0-9._~:\[\]-]+")


@dataclass(kw_only=True, eq=False, repr=False)
class TokenAuth(Auth):
    """Asks for a token, and hands tokens out.

    Args:
        denial: Status for what a user may not do with any token, by default 401 as distribution has it.
        scope_status: Status for what another token would open: 401 as distribution, or 403 as RFC 6750 has
            it. Both come with the challenge.
        service: The registry's name at the token service; a client that asks for another one gets a 400.
        lifetime: How long tokens are valid.
        answer: How a token is handed over.
        realm: URL of the token service that clients are sent to; by default ``/token`` at the host that the
            client used.
        second_origin: Serve tokens on a port of their own, and there alone.
        offline: Hand out refresh tokens to clients that ask for them.
        rotate: A refresh token is good for one use, which hands over the next one.
        post_status: Refuse OAuth2's POST with this status (404 and 405 are in the wild); ``None`` answers it.
        whole_or_nothing: Refuse (403) clients that may not have all scopes, rather than grant a part of them.
        catalog: Hand out tokens for the catalog.
        basic: Take a name and a password in place of a token too, and say so.
        challenge_mounts: Ask for a token with both scopes (401) before a mount whose source the token does
            not cover, as distribution does; else a session is opened (202).
        clock: Seconds, monotonic; by which tokens expire.

    The others are as of `Auth`; ``rights`` tells who may get which scopes.

    Raises:
        ValueError: A status is not one of those above.
    """

    denial: int = 401
    scope_status: int = 401
    service: str = "mock-registry"
    lifetime: Lifetime = field(default_factory=Lifetime)
    answer: TokenAnswer = field(default_factory=TokenAnswer)
    realm: str | None = None
    second_origin: bool = False
    offline: bool = True
    rotate: bool = False
    post_status: int | None = None
    whole_or_nothing: bool = False
    catalog: bool = True
    basic: bool = False
    challenge_mounts: bool = False
    clock: Callable[[], float] = time.monotonic

    def __post_init__(
        self, users: Mapping[str, str] | Users, rights: Iterable[Right] | None, anonymous_pull: bool
    ) -> None:
        super().__post_init__(users, rights, anonymous_pull)
        if self.scope_status not in (401, 403):
            raise ValueError(f"a token without the scope gets 401 or 403, not {self.scope_status}")
        self.tokens = Tokens(self.lifetime, self.clock)
        self.refresh_tokens = RefreshTokens()
        self._origins: list[tuple[str, int]] = []

    def issue_token(self, user: str | None, *scopes: str) -> str:
        """Make a token, as the token service would, for as much of the scopes as the user may have."""
        granted, _ = grant(self.granted, user, parse_scopes(scopes), catalog=self.catalog)
        return self.tokens.issue(user, granted)

    def issue_refresh_token(self, user: str) -> str:
        """Make a refresh token, such as a credential helper keeps under the name ``<token>``."""
        return self.refresh_tokens.issue(user)

    @contextmanager
    def at(self, url: str, port: int) -> Iterator[None]:
        """Issue tokens at their own origin while the context is open.

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
            return TokenStanding(token.user, self.granted, token)
        if credentials is not None and await self.known.verify(credentials.user, credentials.password):
            return Standing(credentials.user, self.granted)
        if credentials is None and self._is_open(exchange):
            return Standing(None, self.granted)
        raise self._ask(exchange, "a token is needed")

    def _credentials(self, exchange: Exchange) -> Credentials | None:
        try:
            credentials = parse_authorization(exchange.header(b"authorization"))
        except MalformedError:
            raise self._ask(exchange, "no readable token", "invalid_token") from None
        return None if isinstance(credentials, Basic) and not self._takes_basic(exchange) else credentials

    def _takes_basic(self, exchange: Exchange) -> bool:
        # A browser asks for a name and a password, but never fetches a token.
        return self.basic or exchange.address.route is Route.PAGE

    def check(self, exchange: Exchange) -> None:
        """Let pass what the token is good for."""
        demand = self.demand(exchange)
        if not self._covers(exchange.access, demand):
            if demand.action is None or self.granted.allow(
                exchange.access.user, demand.action, demand.repository
            ):
                status = self.scope_status
                raise self._ask(
                    exchange, "the token is not good for this", "insufficient_scope", status=status
                )
            raise self._deny(exchange)

    def _covers(self, access: Access, demand: Demand) -> bool:
        if demand.route is Route.CATALOG and isinstance(access, TokenStanding):
            return CATALOG in access.token.scopes
        if demand.action is None:
            return True
        if self.challenge_mounts and demand.source and not access.may(Action.PULL, demand.source):
            return False
        return access.may(demand.action, demand.repository)

    def _is_at_second_origin(self, exchange: Exchange) -> bool:
        return any(port == exchange.listener[1] for _, port in self._origins)

    def _challenges(self, exchange: Exchange, scopes: Iterable[Scope], error: str | None) -> list[str]:
        texts = [bearer_challenge(self._realm_for(exchange), self.service, scopes, error)]
        return [*texts, basic_challenge(self.service)] if self._takes_basic(exchange) else texts

    def _realm_for(self, exchange: Exchange) -> str:
        """Return the URL of the token service, as the client can reach it."""
        if self.realm is not None:
            return self.realm
        if self._origins:
            return f"{self._origins[-1][0]}/token"
        host = exchange.header(b"host") or ""
        if not _AUTHORITY.fullmatch(host):
            name, port = exchange.listener
            host = f"[{name}]" if ":" in name else name
            host = host if port is None else f"{host}:{port}"
        return f"{exchange.scheme}://{host}/token"

    # The token service

    async def answer_token(self, exchange: Exchange) -> Response:
        """Issue a token, and note its user.

        Raises:
            Refusal: The client gets no token, or tokens are served elsewhere (404).
        """
        if self._origins and not self._is_at_second_origin(exchange):
            raise Refusal(404, Fault(ErrorCode.UNSUPPORTED, "tokens are to be had at another origin"))
        if exchange.method == "GET":
            return await self._answer_get(exchange)
        if self.post_status is not None:
            fault = Fault(ErrorCode.UNSUPPORTED, "tokens are to be had by GET alone")
            raise Refusal(self.post_status, fault, headers=[(b"allow", b"GET")])
        return await self._answer_post(exchange)

    async def _answer_get(self, exchange: Exchange) -> Response:
        try:
            credentials = parse_authorization(exchange.header(b"authorization"))
        except MalformedError:
            raise self._ask_basic(exchange, "no readable Basic credentials") from None
        user = None
        if isinstance(credentials, Basic):
            if not await self.known.verify(credentials.user, credentials.password):
                raise self._ask_basic(exchange, "wrong name or password")
            user = credentials.user
        elif credentials is not None or not self.granted.anonymous:
            raise self._ask_basic(exchange, "log in first")
        self._check_service(exchange.parameter("service"))
        offline = self.offline and exchange.parameter("offline_token") == "true"
        refresh_token = self.refresh_tokens.issue(user) if offline and user is not None else None
        return self._hand_over(
            exchange, user, exchange.query.get("scope", []), refresh_token=refresh_token, tell=False
        )

    async def _answer_post(self, exchange: Exchange) -> Response:
        form = await _read_form(exchange)
        if isinstance(form, Response):
            return form
        self._check_service(next(iter(form.get("service", ())), None))
        match form.get("grant_type"):
            case ["password"]:
                return await self._by_password(exchange, form)
            case ["refresh_token"]:
                return self._by_refresh_token(exchange, form)
            case [_]:
                return oauth2_error("unsupported_grant_type", "grant_type is password or refresh_token")
        return oauth2_error("invalid_request", "the form has no grant_type, or several")

    async def _by_password(self, exchange: Exchange, form: dict[str, list[str]]) -> Response:
        match form.get("username"), form.get("password"):
            case [user], [password]:
                pass
            case _:
                return oauth2_error("invalid_request", "the form has no username and password, or several")
        if not await self.known.verify(user, password):
            return oauth2_error("invalid_grant", "wrong name or password")
        offline = self.offline and form.get("access_type") == ["offline"]
        refresh_token = self.refresh_tokens.issue(user) if offline else None
        return self._hand_over(exchange, user, form.get("scope", []), refresh_token=refresh_token, tell=True)

    def _by_refresh_token(self, exchange: Exchange, form: dict[str, list[str]]) -> Response:
        match form.get("refresh_token"):
            case [old]:
                user = self.refresh_tokens.user(old)
            case _:
                return oauth2_error("invalid_request", "the form has no refresh_token, or several")
        if user is None:
            return oauth2_error("invalid_grant", "the refresh token is not good")
        following = None
        if self.rotate:
            self.refresh_tokens.revoke(old)
            following = self.refresh_tokens.issue(user)
        return self._hand_over(exchange, user, form.get("scope", []), refresh_token=following, tell=True)

    def _hand_over(
        self, exchange: Exchange, user: str | None, texts: list[str], *, refresh_token: str | None, tell: bool
    ) -> Response:
        exchange.access = Standing(user, self.granted)
        wanted = parse_scopes(texts)
        if len(wanted) > _SCOPES:
            raise Refusal(
                400, Fault(ErrorCode.UNSUPPORTED, f"a token is good for {_SCOPES} scopes, not {len(wanted)}")
            )
        scopes, whole = grant(self.granted, user, wanted, catalog=self.catalog)
        if self.whole_or_nothing and not whole:
            raise Refusal(403, Fault(ErrorCode.DENIED, "not all of the scopes are allowed"))
        return self.answer.response(
            self.tokens.issue(user, scopes),
            seconds=self.tokens.lifetime.seconds,
            scopes=scopes if tell else None,
            refresh_token=refresh_token,
        )

    def _check_service(self, service: str | None) -> None:
        if service not in (None, self.service):
            raise Refusal(400, Fault(ErrorCode.UNSUPPORTED, f"this is the token service of {self.service}"))

    def _ask_basic(self, exchange: Exchange, message: str) -> Refusal:
        headers = self.challenges.headers(exchange.address.route, [basic_challenge(self.service)])
        return Refusal(401, Fault(ErrorCode.UNAUTHORIZED, message), headers=headers)


async def _read_form(exchange: Exchange) -> dict[str, list[str]] | Response:
    """Return the form's fields, or the answer to a body that is not a form."""
    media_type = (exchange.header(b"content-type") or "").partition(";")[0].strip().lower()
    if media_type != _FORM:
        return oauth2_error("invalid_request", f"the body is to be {_FORM}")
    body = b""
    while batch := await exchange.read():
        body += b"".join(batch)
        if len(body) > _FORM_LIMIT:
            return oauth2_error("invalid_request", f"a form may have {_FORM_LIMIT} bytes", 413)
    return parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
