"""HTTP to one registry host: bytes out, bytes in, every one of them counted.

Owns redirects, timeouts, headers and which host gets which credentials. Must not know repositories, retries
of failed requests, or what a request is for, beyond whether its bodies are content (an Account's `sent` and
`received`) or not (`overhead`).

Decisions, and why:

- Sockets of our own, since httpx's pool takes more time than the registry and the hash together; through a
  proxy httpx's own pool, which knows proxies.
- A GET or HEAD whose connection died of age, before a byte of an answer, is sent once more on a fresh one,
  and counted once more: the registry may have seen the first one.
- Targets go out byte for byte (the `target` extension), never through a URL library's re-encoding.
- Bodies are requested as `identity` and read raw: a decoded layer no longer has its digest.
- Redirects are followed by hand, for GET and HEAD, without credentials to another origin.
- The environment is trusted for certificates (`SSL_CERT_FILE`, `SSL_CERT_DIR`, the system's store), not
  for proxies or netrc: what a run moves shall not depend on who started it.
- Credentials are handed over with the origin that they are for, and leave with no request to another one.
- No cookies: Harbor, for one, takes a client that returns them for a browser.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Self
from weakref import WeakValueDictionary

import httpx

from regsim.core.account import Reason
from regsim.core.reference import is_loopback
from regsim.errors import RegistryError
from regsim.net import Timeouts, address
from regsim.net.errors import translated, where
from regsim.net.transport import SocketTransport, network
from regsim.net.trust import Trust
from regsim.registry import Connection
from regsim.registry.answer import MAX_ERROR_BODY, Answer, counted, unanswered
from regsim.registry.login.authorizer import Authorizer, Login
from regsim.registry.login.challenge import Need
from regsim.registry.login.token_service import MAX_TOKEN_ANSWER, realm_url

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping
    from types import TracebackType

    from regsim.core.account import Account
    from regsim.registry.answer import Body
    from regsim.registry.login.token_service import Authorization
    from regsim.registry.retry import Patience

Network = httpx.AsyncBaseTransport
"""What carries requests: sockets, or what replaces them."""

_LOG = logging.getLogger(__name__)
MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_IDEMPOTENT = frozenset({"GET", "HEAD"})
_ANYBODY = Need()
# Never shown to an origin that they were not given for (CVE-2020-15157; S3 answers 400 to them).
_CREDENTIALS = frozenset({"authorization", "cookie", "proxy-authorization"})


class Transport:
    """HTTP to one registry host.

    Args:
        host: `host[:port]`, or an http or https URL of one. Without a scheme, a loopback host is reached
            by plain HTTP, any other by TLS.
        connection: how to connect to it, and as whom; None: sockets, no credentials, the defaults.
        patience: with its token service; None: three retries.

    Raises:
        InvalidReferenceError: `host` is no address of a registry.
    """

    def __init__(
        self, host: str, connection: Connection | None = None, *, patience: Patience | None = None
    ) -> None:
        how = connection or Connection()
        self.base = address.base_url(host, plain_http=how.plain_http)
        self.host = address.host_of(self.base)
        self.timeouts = how.timeouts or Timeouts()
        self._origin = address.origin(self.base)
        self._network = how.transport or network(how.connections, how.trust or Trust(), proxy=how.proxy)
        self._proxy = how.proxy if how.transport is None else None
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        # Parsing a URL takes httpx as long as all else about a small request takes us. Our own sockets read
        # the target from its extension, and only need the origin.
        self._home = httpx.URL(self.base) if isinstance(self._network, SocketTransport) else None
        self._authorizer = Authorizer(
            host,
            self.base,
            partial(self.send, limit=MAX_TOKEN_ANSWER, need=None),
            keychain=how.keychain,
            patience=patience,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def turn(self, name: str) -> asyncio.Lock:
        """Return a lock for what several tasks read, change and write back at this registry, by its name."""
        return self._turns.setdefault(name, asyncio.Lock())

    async def aclose(self) -> None:
        """Close every connection."""
        await self._network.aclose()

    async def send(
        self,
        method: str,
        target: str,
        account: Account,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        content: bool = False,
        limit: int | None = MAX_ERROR_BODY,
        deadline: float | None = None,
        need: Need | None = _ANYBODY,
        authorization: Authorization | None = None,
    ) -> Answer:
        """Send a request, follow its redirects, and return the answer.

        If the registry requests credentials, or for a better token, it is sent again with them: a body from
        its beginning, as another attempt.

        Args:
            method: GET, HEAD, POST, PUT, PATCH or DELETE.
            target: `/path[?query]` at this registry, or an absolute URL, used byte for byte.
            account: is charged.
            headers: in addition to those of every request.
            body: None sends none.
            content: the bodies are a blob's or a manifest's.
            limit: bytes of the answer's body that are read; None leaves it to the caller, who closes it.
            deadline: seconds for all of it; None: `timeouts.metadata` if the answer is read, else no limit.
            need: the rights that it takes; None: it goes to a token service, without a login.
            authorization: for a request without a login.

        Raises:
            NetworkError: no whole answer came in time.
            AuthenticationError: 401, for the credentials that there are.
            RegistryError: a redirect that leads nowhere, or that must not be followed.
        """
        if deadline is None and limit is not None:
            deadline = self.timeouts.metadata
        url, redirects = self._absolute(target), 0
        login = None if need is None else Login(self._authorizer, need, account)
        try:
            async with asyncio.timeout(deadline):
                if login is not None:
                    await login.begin()
                while True:
                    before, authorization = account.sent, login.authorization if login else authorization
                    answer = await self._send(
                        method, url, account, headers, body, content=content, credentials=authorization
                    )
                    near = self._origin_of(url) == self._origin
                    if answer.status in _REDIRECTS and "Location" in answer.headers:
                        url, redirects = await self._redirected(answer, redirects), redirects + 1
                        if login is None:
                            realm_url(self._origin, url, secret=False)
                    elif login is not None and near and login.is_challenge(answer.status, answer.headers):
                        await login.renew(await answer.read(seconds=self.timeouts.metadata))
                        url, redirects = self._absolute(target), 0
                        if content and body is not None:
                            account.attempts += 1
                            account.retried(str(answer.status), sent=account.sent - before)
                    else:
                        return answer if limit is None else await answer.read(limit)
        except TimeoutError as error:
            raise unanswered(method, url, deadline or 0.0) from error

    async def _redirected(self, answer: Answer, redirects: int) -> str:
        """Return where a redirect leads, given the number of earlier ones."""
        where = address.without_query(answer.url)
        await answer.read(seconds=self.timeouts.metadata)
        # A body cannot be sent twice here, and a POST must not turn into a GET.
        if answer.method not in _IDEMPOTENT:
            raise RegistryError(f"{answer.method} {where} was redirected", status=answer.status)
        if redirects >= MAX_REDIRECTS:
            raise RegistryError(f"{answer.method} {where}: more than {MAX_REDIRECTS} redirects")
        return self._absolute(address.resolve(answer.url, answer.headers["Location"]))

    def _absolute(self, target: str) -> str:
        """Return the URL of a target, unless it would be reached by plain HTTP against the configuration."""
        url = self.base + target if target.startswith("/") else target
        to = self._origin_of(url)
        here = is_loopback(self.host) and is_loopback(address.host_of(url))
        if to.scheme == "http" and self._origin.scheme == "https" and not here:
            raise RegistryError(
                f"{self.host} points to plain HTTP: {address.without_query(url)}",
                hint="a registry behind a TLS proxy must know it (X-Forwarded-Proto, relative URLs)",
            )
        return url

    def _origin_of(self, url: str) -> address.Origin:
        return self._origin if url.startswith(f"{self.base}/") else address.origin(url)

    async def _send(
        self,
        method: str,
        url: str,
        account: Account,
        headers: Mapping[str, str] | None,
        body: Body | None,
        *,
        content: bool,
        credentials: Authorization | None,
    ) -> Answer:
        """Send one request; a GET or HEAD whose connection died of age once more."""
        octets = counted(body, account, content=content)
        answer = None
        try:
            with translated(method, url, self._proxy):
                request = httpx.Request(
                    method,
                    (self._home if self._origin_of(url) == self._origin else None) or httpx.URL(url),
                    headers=self._headers(url, headers or {}, body, credentials),
                    stream=_Octets(octets),
                    extensions={
                        "target": address.target_of(url),
                        "timeout": {
                            "connect": self.timeouts.connect,
                            "read": self.timeouts.commit if body and body.size else self.timeouts.read,
                            "write": self.timeouts.write,
                            "pool": self.timeouts.pool,
                        },
                    },
                )
                if self._proxy is not None:
                    # httpcore would ask the proxy for a tunnel to this target.
                    request.url = _ExactUrl(request.url, request.extensions.pop("target"))
                account.requests += 1
                try:
                    response = await self._network.handle_async_request(request)
                except httpx.TransportError:
                    if method not in _IDEMPOTENT or not request.extensions.get("stale"):
                        raise
                    account.requests += 1
                    account.retried(Reason.STALE_CONNECTION)
                    request.extensions["fresh"] = True
                    response = await self._network.handle_async_request(request)
            _LOG.info("%s: %d", where(method, url), response.status_code)
            answer = Answer(
                method=method,
                url=url,
                status=response.status_code,
                headers=response.headers,
                secrets=credentials.secrets if credentials else (),
                response=response,
                account=account,
                content=content,
            )
            await octets.aclose()
        except BaseException:
            await (octets.aclose() if answer is None else answer.aclose())
            raise
        return answer

    def _headers(
        self, url: str, given: Mapping[str, str], body: Body | None, authorization: Authorization | None
    ) -> dict[str, str]:
        sent = {
            "Host": address.host_of(url),
            "User-Agent": "regsim",
            "Accept-Encoding": "identity",
            **given,
        }
        if body is not None:
            # Without it a body goes out in chunks, which S3 and many proxies refuse.
            sent["Content-Length"] = str(body.size)
        to = self._origin_of(url)
        if authorization is not None and authorization.origin == to:
            sent["Authorization"] = authorization.value
        elif to != self._origin:
            sent = {name: value for name, value in sent.items() if name.lower() not in _CREDENTIALS}
        return sent


class _ExactUrl(httpx.URL):
    """A URL whose target goes out byte for byte, through httpx's own transport."""

    def __init__(self, url: httpx.URL, target: bytes) -> None:
        super().__init__(url)
        self._target = target

    @property
    def raw_path(self) -> bytes:
        """The path and the query."""
        return self._target


class _Octets(httpx.AsyncByteStream):
    """A request's body as httpx wants it. The generator is closed by its maker."""

    def __init__(self, octets: AsyncGenerator[bytes, None]) -> None:
        self._octets = octets

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._octets
