"""Token services: which ones a registry may name, and how tokens are requested.

Owns the rules for realms; the requests by GET, or by POST as OAuth2 has it, and the reading of their answers
(distribution's "Token Authentication Specification" and "OAuth2 Token Authentication"); and the tokens that
are held. Must not know when a token is needed.

A realm is what a registry, or a machine in front of it, says. It may be meant to steal a password, or to
make this machine send a request to one that only it can reach (clients.md, edge 19; go-containerregistry's
`validateRealmURL`).
"""

from __future__ import annotations

import base64
import ipaddress
import re
import socket
import time
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, quote_plus, urlencode

from regsim.core.manifest import parse_object
from regsim.core.reference import is_loopback
from regsim.errors import AuthenticationError, ContentError, RegistryError
from regsim.net import address
from regsim.registry.answer import Body, refusal
from regsim.registry.login.challenge import covers
from regsim.registry.login.credentials import refusal_hint
from regsim.registry.login.single_flight import SingleFlight
from regsim.registry.retry import Unready

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from regsim.core.account import Account
    from regsim.net.address import Origin
    from regsim.registry.answer import Answer
    from regsim.registry.login.challenge import Scopes
    from regsim.registry.login.credentials import Credentials
    from regsim.registry.retry import Patience

MAX_TOKEN_ANSWER = 64 * 1024
# "A token should never be returned with less than 60 seconds to live", which is also the default. Some
# services say less, and their tokens last longer.
MIN_SECONDS, MAX_SECONDS = 60.0, 86_400.0
# A token that expires while its request is under way would be refused.
MARGIN_SECONDS = 5.0
CLIENT_ID = "regsim"
# A token goes into a header line.
_TOKEN = re.compile(r"[\x21-\x7e]+")
_NO_POST = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED})
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_TLS = "https"


def realm_url(registry: Origin, realm: str, *, secret: bool) -> str:
    """Return the URL of a token service, byte for byte, if a client may be sent there.

    Args:
        registry: the one that names it.
        realm: as it is in the challenge.
        secret: credentials are sent there.

    Raises:
        AuthenticationError: nothing may be sent there.
    """
    try:
        url = address.resolve(f"{registry.scheme}://{registry.host}/", realm) if "://" in realm else ""
        to = address.origin(url)
    except RegistryError as error:
        raise AuthenticationError(
            f"{registry.host} sends clients for tokens to no URL: {address.without_query(realm)!r:.300}"
        ) from error
    trouble = _trouble(registry, to, secret=secret)
    if trouble:
        raise AuthenticationError(
            f"{registry.host} sends clients for tokens to {to.scheme}://{to.host}: {trouble}",
            hint="nothing was sent there; is this the registry that you mean?",
        )
    return url


def _trouble(registry: Origin, to: Origin, *, secret: bool) -> str:
    if to == registry:
        return ""
    if _is_internal(to.host) and not _is_internal(registry.host):
        return "an address inside a network, from a host that is not in it"
    if to.scheme == _TLS:
        return ""
    if registry.scheme == _TLS:
        return "plain HTTP, though the registry speaks TLS"
    near = to.host == registry.host or (_is_loopback(to.host) and _is_loopback(registry.host))
    return "" if near or not secret else "plain HTTP, to another host"


def _is_loopback(host: str) -> bool:
    return is_loopback(f"[{host}]" if ":" in host else host)


def _is_internal(host: str) -> bool:
    """Tell whether a host is an address that is another machine's in each network."""
    host = host.rstrip(".")
    if _is_loopback(host) or host.endswith(".localhost"):  # which many resolvers take for this machine
        return True
    try:
        found: ipaddress.IPv4Address | ipaddress.IPv6Address | None
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        found = _resolved(host)
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return found is not None and not found.is_global


def _resolved(host: str) -> ipaddress.IPv4Address | None:
    """Return the address of a name that resolvers read as one too: 127.1, 2130706433, 0x7f000001."""
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


@dataclass(frozen=True, slots=True)
class Authorization:
    """The value of an `Authorization` header, and the only origin that it is sent to."""

    origin: Origin
    value: str = field(repr=False)

    @classmethod
    def basic(cls, origin: Origin, credentials: Credentials) -> Authorization:
        """Return a user name and a password for a header (RFC 7617)."""
        pair = f"{credentials.user}:{credentials.password}".encode()
        return cls(origin, f"Basic {base64.b64encode(pair).decode('ascii')}")

    @property
    def secrets(self) -> tuple[str, ...]:
        """The words to hide: as they are sent, and a password also as it is."""
        scheme, _, word = self.value.partition(" ")
        if scheme != "Basic":
            return (word,)
        return word, base64.b64decode(word).decode().partition(":")[2]


class Ask(Protocol):
    """Sends a request with the credentials that it is given, and no others."""

    async def __call__(
        self,
        method: str,
        url: str,
        account: Account,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        authorization: Authorization | None = None,
    ) -> Answer:
        """Return the answer; arguments as for `Transport.send`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A bearer token.

    Attributes:
        value: the token itself.
        scopes: that were requested; the service may have granted less, and does not say so.
        ends: when it is no longer used, in seconds of the service's clock.
        refresh: a refresh token for the next one; empty if none was given.
    """

    value: str = field(repr=False)
    scopes: Scopes
    ends: float
    refresh: str = field(default="", repr=False)


class TokenService:
    """A token service, as one registry names it, and the tokens that one user holds from it.

    Args:
        url: of its endpoint, checked by `realm_url`.
        service: the registry's name there; empty if the registry does not say.
        credentials: the user's; None asks anonymously.
        ask: sends requests.
        patience: retries of requests that fail for a moment.
        now: seconds of a monotonic clock.
    """

    def __init__(
        self,
        url: str,
        service: str,
        credentials: Credentials | None,
        *,
        ask: Ask,
        patience: Patience,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url, self._service, self._credentials = url, service, credentials
        self._ask, self._patience, self._now = ask, patience, now
        self._refresh = self._identity_token = credentials.identity_token if credentials else ""
        self._takes_post = True
        self._tokens: list[Token] = []
        self._fetching: SingleFlight[Token] = SingleFlight()

    async def token(self, wanted: Scopes, account: Account) -> Token:
        """Return a token for scopes: one that is held, or being fetched already, or a new one.

        Args:
            wanted: what it must be good for; some services look at the first scope alone.
            account: is charged.

        Raises:
            AuthenticationError: the service gives none.
            NetworkError: it did not answer.
        """
        soon = self._now() + MARGIN_SECONDS
        self._tokens = [each for each in self._tokens if each.ends > soon]
        for token in self._tokens:
            if covers(token.scopes, wanted):
                return token
        return await self._fetching.join(frozenset(wanted), lambda: self._fetch(wanted, account))

    def drop(self, token: Token) -> None:
        """Forget a token that was refused; another task may have done so before."""
        self._tokens = [each for each in self._tokens if each is not token]

    async def _fetch(self, wanted: Scopes, account: Account) -> Token:
        refresh = self._refresh
        try:
            token = await self._request(wanted, refresh, account)
        except AuthenticationError:
            if refresh == self._identity_token:
                raise
            # The service once gave this refresh token, and no longer takes it.
            self._refresh = self._identity_token
            token = await self._request(wanted, self._identity_token, account)
        if token.refresh:
            self._refresh = token.refresh
        self._tokens = [token, *(each for each in self._tokens if not covers(wanted, each.scopes))]
        return token

    async def _request(self, scopes: Scopes, refresh: str, account: Account) -> Token:
        asked = self._now()
        answer = None
        if refresh and self._takes_post:
            answer = await self._post(scopes, refresh, account)
            # Not every service supports OAuth2; all support GET.
            self._takes_post = answer.status not in _NO_POST
        if answer is None or not self._takes_post:
            answer = await self._get(scopes, account)
        if answer.status != HTTPStatus.OK:
            refused = refusal(answer)
            raise AuthenticationError(
                f"no token: {refused.message}",
                hint=refusal_hint(self._credentials),
                status=answer.status,
                codes=refused.codes,
            )
        return _token(answer, scopes, asked)

    async def _get(self, scopes: Scopes, account: Account) -> Answer:
        fields = [("service", self._service)] if self._service else []
        fields += [("scope", str(each)) for each in scopes]
        authorization: Authorization | None = None
        secrets: tuple[str, ...] = ()
        if self._credentials is not None and self._credentials.password:
            fields.append(("account", self._credentials.user))
            authorization = Authorization.basic(address.origin(self._url), self._credentials)
            secrets = (self._credentials.password,)
        query = urlencode(fields, quote_via=quote, safe=":/,")
        url = address.with_query(self._url, query) if fields else self._url
        return await self._settled(
            lambda: self._ask("GET", url, account, authorization=authorization), account, secrets
        )

    async def _post(self, scopes: Scopes, refresh: str, account: Account) -> Answer:
        fields = {
            "grant_type": "refresh_token",
            "service": self._service,
            "client_id": CLIENT_ID,
            "scope": " ".join(map(str, scopes)),
            "refresh_token": refresh,
        }
        body = Body.of(urlencode({name: value for name, value in fields.items() if value}).encode())
        return await self._settled(
            lambda: self._ask("POST", self._url, account, headers=_FORM, body=body),
            account,
            (refresh, quote_plus(refresh)),
        )

    async def _settled(
        self, send: Callable[[], Awaitable[Answer]], account: Account, secrets: Sequence[str]
    ) -> Answer:
        """Send a request until its answer is final, and mark what must be hidden in it."""
        for failures in count():
            answer = await send()
            if not self._patience.wants(answer.status):
                break
            if not await self._patience.again(failures, Unready(answer), account):
                break
        return replace(answer, secrets=(*answer.secrets, *secrets))


def _token(answer: Answer, scopes: Scopes, asked: float) -> Token:
    where = address.without_query(answer.url).partition("://")[2]
    try:
        document = parse_object(answer.body, where)
    except ContentError:
        document = {}
    value = _text(document, "token") or _text(document, "access_token")
    if not answer.whole or not value or not _TOKEN.fullmatch(value):
        raise AuthenticationError(f"{where} did not answer a token request with a token")
    said = document.get("expires_in", 0)
    lasts = isinstance(said, int | float) and said >= MIN_SECONDS  # which is also false of NaN
    seconds = min(said, MAX_SECONDS) if lasts else MIN_SECONDS
    return Token(
        value=value,
        scopes=scopes,
        ends=asked + seconds,
        refresh=_text(document, "refresh_token"),
    )


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    return value if isinstance(value, str) else ""
