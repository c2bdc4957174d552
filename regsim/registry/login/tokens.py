"""Tokens, and how a token service is asked for one: by GET, or by POST as OAuth2 has it.

Owns the two requests and the reading of their answers (distribution's "Token Authentication Specification"
and "OAuth2 Token Authentication"). Must not know when a token is needed.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, quote_plus, urlencode

from regsim.errors import AuthenticationError
from regsim.net import address
from regsim.net.answer import Body, refusal
from regsim.registry.login.credentials import whence
from regsim.registry.retry import Unready

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from regsim.core.account import Account
    from regsim.net.address import Origin
    from regsim.net.answer import Answer
    from regsim.registry.login.credentials import Credentials
    from regsim.registry.login.scopes import Scopes
    from regsim.registry.retry import Patience

MAX_TOKEN_ANSWER = 64 * 1024
# "A token should never be returned with less than 60 seconds to live", and that is what is meant where an
# answer does not say; some say less and do not mean it.
MIN_SECONDS, MAX_SECONDS = 60.0, 86_400.0
CLIENT_ID = "regsim"
# It goes into a header line.
_TOKEN = re.compile(r"[\x21-\x7e]+")
_NO_POST = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED})
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True, slots=True)
class Authorization:
    """What an `Authorization` header says, and to whom alone it is said."""

    origin: Origin
    value: str = field(repr=False)

    @classmethod
    def basic(cls, origin: Origin, credentials: Credentials) -> Authorization:
        """Return a name and a password as a header has them (RFC 7617)."""
        pair = f"{credentials.user}:{credentials.password}".encode()
        return cls(origin, f"Basic {base64.b64encode(pair).decode('ascii')}")

    @property
    def secrets(self) -> tuple[str, ...]:
        """The words that nobody else shall read: as they are sent, and a password as it is."""
        scheme, _, word = self.value.partition(" ")
        if scheme != "Basic":
            return (word,)
        return word, base64.b64decode(word).decode().partition(":")[2]


class Ask(Protocol):
    """Sends a request with the credentials that it is handed, and no others."""

    async def __call__(
        self,
        method: str,
        url: str,
        account: Account,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        authorization: Authorization | None = None,
        limit: int = MAX_TOKEN_ANSWER,
    ) -> Answer:
        """Return the answer; arguments as for `Transport.request`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A bearer token.

    Attributes:
        value: itself.
        scopes: that were asked for; the service may have granted less, and does not say so.
        ends: when it is no longer worth a try, in seconds of the clock that `fetch` was handed.
        refresh: a token for the next one; empty where none was given.
    """

    value: str = field(repr=False)
    scopes: Scopes
    ends: float
    refresh: str = field(default="", repr=False)


@dataclass(slots=True, kw_only=True)
class TokenService:
    """A token service, as one registry names it.

    Attributes:
        url: of its endpoint, checked.
        service: the registry's name there; empty where the registry does not say.
        ask: sends requests.
        patience: for its refusals in passing.
        now: seconds of any clock that only goes forward.
        posts: it takes POST, as far as is known.
    """

    url: str
    service: str
    ask: Ask
    patience: Patience
    now: Callable[[], float]
    posts: bool = True

    async def fetch(
        self, scopes: Scopes, credentials: Credentials | None, refresh: str, account: Account
    ) -> Token:
        """Return a token for scopes, the first of which some services take for the only one.

        Args:
            scopes: what it shall be good for.
            credentials: who asks; None asks as nobody.
            refresh: a token to ask with in place of a password; empty where there is none.
            account: is charged.

        Raises:
            AuthenticationError: the service gives none.
            NetworkError: it did not answer.
        """
        asked = self.now()
        answer = None
        if refresh and self.posts:
            answer = await self._post(scopes, refresh, account)
            # Not every service has OAuth2's way; the older one is everywhere.
            self.posts = answer.status not in _NO_POST
        if answer is None or not self.posts:
            answer = await self._get(scopes, credentials, account)
        if answer.status != HTTPStatus.OK:
            refused = refusal(answer)
            raise AuthenticationError(
                f"no token: {refused.message}",
                hint=whence(credentials),
                status=answer.status,
                codes=refused.codes,
            )
        return _token(answer, scopes, asked)

    async def _get(self, scopes: Scopes, credentials: Credentials | None, account: Account) -> Answer:
        fields = [("service", self.service)] if self.service else []
        fields += [("scope", str(each)) for each in scopes]
        authorization = None
        if credentials is not None and credentials.password:
            fields.append(("account", credentials.user))
            authorization = Authorization.basic(address.origin(self.url), credentials)
        url = (
            address.with_query(self.url, urlencode(fields, quote_via=quote, safe=":/,"))
            if fields
            else self.url
        )

        async def send() -> Answer:
            return await self.ask("GET", url, account, authorization=authorization)

        return await self._settled(send, account, (credentials.password,) if credentials else ())

    async def _post(self, scopes: Scopes, refresh: str, account: Account) -> Answer:
        fields = {
            "grant_type": "refresh_token",
            "service": self.service,
            "client_id": CLIENT_ID,
            "scope": " ".join(map(str, scopes)),
            "refresh_token": refresh,
        }
        body = Body.of(urlencode({name: value for name, value in fields.items() if value}).encode())

        async def send() -> Answer:
            return await self.ask("POST", self.url, account, headers=_FORM, body=body)

        return await self._settled(send, account, (refresh, quote_plus(refresh)))

    async def _settled(
        self, send: Callable[[], Awaitable[Answer]], account: Account, secrets: Sequence[str]
    ) -> Answer:
        """Ask until the answer is one to stay with."""
        failures = 0
        while True:
            answer = await send()
            if not self.patience.wants(answer.status):
                break
            if not await self.patience.again(failures, Unready(answer), account):
                break
            failures += 1
        return replace(answer, secrets=(*answer.secrets, *secrets))


def _token(answer: Answer, scopes: Scopes, asked: float) -> Token:
    where = address.without_query(answer.url).partition("://")[2]
    document = _document(answer)
    value = _text(document, "token") or _text(document, "access_token")
    if not answer.whole or not value or not _TOKEN.fullmatch(value):
        raise AuthenticationError(f"{where} was asked for a token, and answered something else")
    return Token(
        value=value,
        scopes=scopes,
        ends=asked + _seconds(document.get("expires_in")),
        refresh=_text(document, "refresh_token"),
    )


def _document(answer: Answer) -> dict[str, Any]:
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    return value if isinstance(value, str) else ""


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or not value >= MIN_SECONDS:  # nor is NaN
        return MIN_SECONDS
    return float(min(value, MAX_SECONDS))
