"""The token service: credentials in, a token out, by GET as registries have it and by POST as OAuth2 has it.

Owns the endpoint `/token`. Must not know what tokens are used for.
"""

from dataclasses import dataclass
from urllib.parse import parse_qs

from mock_registry.exchange import Exchange, Refusal, Response
from mock_registry.spec import ErrorCode, Fault

from .authorization import Basic, MalformedError, parse_authorization
from .base import Standing
from .challenges import Challenges, basic_challenge
from .rights import Rights
from .scope import parse_scopes
from .token_answer import TokenAnswer, oauth2_error
from .tokens import RefreshTokens, Tokens, grant
from .users import Users

_FORM = "application/x-www-form-urlencoded"
_FORM_LIMIT = 64 << 10
_SCOPES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenService:
    """Answers those who want a token.

    Attributes:
        service: The registry's name; a client that asks for another one has mixed something up (400).
        users: Who can log in.
        rights: What they may do.
        tokens: The tokens that are out.
        refresh_tokens: Likewise.
        answer: How a token is handed over.
        challenges: How a 401 asks to log in.
        catalog: Hand out tokens for the catalog.
        offline: Hand out refresh tokens to who asks for them.
        rotate: A refresh token is good for one use, which hands over the next one.
        post_status: Refuse every POST with this status (404 and 405 are in the wild); ``None`` answers it.
        whole_or_nothing: Refuse (403) who may not have all that was asked for, rather than grant a part.
    """

    service: str
    users: Users
    rights: Rights
    tokens: Tokens
    refresh_tokens: RefreshTokens
    answer: TokenAnswer
    challenges: Challenges
    catalog: bool
    offline: bool
    rotate: bool
    post_status: int | None
    whole_or_nothing: bool

    async def respond(self, exchange: Exchange) -> Response:
        """Answer a request for a token, and note who it is that asked.

        Raises:
            Refusal: No token for this one.
        """
        if exchange.method == "GET":
            return await self._get(exchange)
        if self.post_status is not None:
            fault = Fault(ErrorCode.UNSUPPORTED, "tokens are to be had by GET alone")
            raise Refusal(self.post_status, fault, headers=[(b"allow", b"GET")])
        return await self._post(exchange)

    async def _get(self, exchange: Exchange) -> Response:
        try:
            credentials = parse_authorization(exchange.header(b"authorization"))
        except MalformedError:
            raise self._ask(exchange, "no readable Basic credentials") from None
        user = None
        if isinstance(credentials, Basic):
            if not await self.users.verify(credentials.user, credentials.password):
                raise self._ask(exchange, "wrong name or password")
            user = credentials.user
        elif credentials is not None or not self.rights.anonymous:
            raise self._ask(exchange, "log in first")
        self._check_service(exchange.parameter("service"))
        offline = self.offline and exchange.parameter("offline_token") == "true"
        refresh_token = self.refresh_tokens.issue(user) if offline and user is not None else None
        return self._hand_over(
            exchange, user, exchange.query.get("scope", []), refresh_token=refresh_token, tell=False
        )

    async def _post(self, exchange: Exchange) -> Response:
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
        if not await self.users.verify(user, password):
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
        exchange.access = Standing(user, self.rights)
        wanted = parse_scopes(texts)
        if len(wanted) > _SCOPES:
            raise Refusal(
                400, Fault(ErrorCode.UNSUPPORTED, f"a token is good for {_SCOPES} scopes, not {len(wanted)}")
            )
        scopes, whole = grant(self.rights, user, wanted, catalog=self.catalog)
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

    def _ask(self, exchange: Exchange, message: str) -> Refusal:
        headers = self.challenges.headers(exchange.address.route, [basic_challenge(self.service)])
        return Refusal(401, Fault(ErrorCode.UNAUTHORIZED, message), headers=headers)


async def _read_form(exchange: Exchange) -> dict[str, list[str]] | Response:
    """Return the form's fields, or the answer to a body that is no form."""
    media_type = (exchange.header(b"content-type") or "").partition(";")[0].strip().lower()
    if media_type != _FORM:
        return oauth2_error("invalid_request", f"the body is to be {_FORM}")
    body = b""
    while batch := await exchange.read():
        body += b"".join(batch)
        if len(body) > _FORM_LIMIT:
            return oauth2_error("invalid_request", f"a form may have {_FORM_LIMIT} bytes", 413)
    return parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
