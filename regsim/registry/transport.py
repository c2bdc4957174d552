"""HTTP to one registry host: bytes out, bytes in, every one of them counted.

Owns redirects, timeouts, headers and who is told which credentials. Must not know repositories, retries of
failed requests, or what a request is good for, beyond whether its bodies are content (an Account's `sent` and
`received`) or not (`overhead`).

Decisions, and why:

- Sockets of our own, since httpx's pool takes more time than the registry and the hash together; through a
  proxy httpx's own pool, which knows proxies.
- A GET or HEAD whose connection died of age, before a byte of an answer, is sent once more on a fresh one,
  and counted once more: the registry may have seen the first one.
- Targets go out byte for byte (the `target` extension), never through a URL library's re-encoding.
- Bodies are taken raw and asked for as `identity`: a decoded layer no longer has its digest.
- Redirects are followed by hand, for GET and HEAD, without credentials to another origin.
- The environment is trusted for certificates (`SSL_CERT_FILE`, `SSL_CERT_DIR`, the system's store), not
  for proxies or netrc: what a run moves shall not depend on who started it.
- Credentials are handed over with the origin that they are for, and leave with no request to another one.
- No cookies: Harbor, for one, takes a client that returns them for a browser.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Self, cast
from weakref import WeakValueDictionary

from regsim.core.account import Reason
from regsim.core.reference import is_loopback
from regsim.errors import RegistryError
from regsim.net import address
from regsim.net.answer import MAX_ERROR_BODY
from regsim.net.http import httpx
from regsim.net.sockets import Incoming, SocketTransport, is_stale, network
from regsim.net.timeouts import Timeouts
from regsim.net.troubles import translated, where
from regsim.net.trust import Trust
from regsim.registry.bodies import Response, counted, counted_feed, unanswered
from regsim.registry.connection import Connection
from regsim.registry.login.authorizer import Authorizer
from regsim.registry.login.challenge import Need
from regsim.registry.login.token_service import MAX_TOKEN_ANSWER, realm_url

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
    from types import TracebackType

    from regsim.core.account import Account
    from regsim.net.answer import Answer, Body
    from regsim.registry.login.token_service import Authorization
    from regsim.registry.retry import Patience
    from regsim.store.protocols import Taker

__all__ = ["MAX_REDIRECTS", "Network", "Timeouts", "Transport"]

Network = httpx.AsyncBaseTransport
"""What carries requests: sockets, or whatever stands in for them."""

_LOG = logging.getLogger(__name__)
MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_IDEMPOTENT = frozenset({"GET", "HEAD"})
_USER_AGENT = "regsim"
# Never shown to an origin that they were not given for (CVE-2020-15157; S3 answers 400 to them).
_CREDENTIALS = frozenset({"authorization", "cookie", "proxy-authorization"})


class Transport:
    """HTTP to one registry host.

    Args:
        host: `host[:port]`, or an http or https URL of one. Without a scheme a loopback host is spoken
            to in plain HTTP, any other with TLS.
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
        # the target from its extension, and only need to be told whom to ask.
        self._home = httpx.URL(self.base) if isinstance(self._network, SocketTransport) else None
        self._authorizer = Authorizer(
            host,
            self.base,
            self._ask_for_token,
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

    async def request(
        self,
        method: str,
        target: str,
        account: Account,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        content: bool = False,
        limit: int = MAX_ERROR_BODY,
        deadline: float | None = None,
        need: Need | None = None,
    ) -> Answer:
        """Send a request and read its answer.

        Args:
            method: GET, HEAD, POST, PUT, PATCH or DELETE.
            target: `/path[?query]` at this registry, or an absolute URL, used byte for byte.
            account: is charged.
            headers: beside those of every request.
            body: None sends none.
            content: the bodies are a blob's or a manifest's.
            limit: bytes of the answer's body that are wanted.
            deadline: seconds for all of it; None: `timeouts.metadata`.
            need: what it needs to be allowed; None: what the registry asks for.

        Raises:
            NetworkError: no whole answer came in time.
            AuthenticationError: 401, for the credentials that there are.
            RegistryError: a redirect that leads nowhere, or where it must not be followed.
        """
        deadline = self.timeouts.metadata if deadline is None else deadline
        try:
            async with asyncio.timeout(deadline):
                async with self.exchange(
                    method, target, account, headers=headers, body=body, content=content, need=need
                ) as response:
                    return await response.answer(limit)
        except TimeoutError as error:
            raise unanswered(method, self._absolute(target), deadline) from error

    @asynccontextmanager
    async def exchange(
        self,
        method: str,
        target: str,
        account: Account,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        content: bool = False,
        need: Need | None = None,
    ) -> AsyncIterator[Response]:
        """Send a request and hand over its answer with the body unread; arguments as in `request`.

        Where the registry asks who is there, or for a better token, it is sent again with what was asked for:
        a body from its beginning, as another attempt.
        """
        login = self._authorizer.login(need or Need(), account)
        await login.begin()
        while True:
            before = account.sent
            async with self._follow(
                method, target, account, headers, body, content=content, authorization=login.authorization
            ) as response:
                near = self._origin_of(response.url) == self._origin
                if not near or not login.is_challenge(response.status, response.headers):
                    yield response
                    return
                answer = await response.answer()
            await login.renew(answer)
            if content and body is not None:
                account.attempts += 1
                account.retried(str(answer.status), sent=account.sent - before)

    async def _ask_for_token(
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
        deadline = self.timeouts.metadata
        try:
            async with (
                asyncio.timeout(deadline),
                self._follow(
                    method,
                    url,
                    account,
                    headers,
                    body,
                    authorization=authorization,
                    check=lambda to: realm_url(self._origin, to, secret=False),
                ) as response,
            ):
                return await response.answer(limit)
        except TimeoutError as error:
            raise unanswered(method, url, deadline) from error

    @asynccontextmanager
    async def _follow(
        self,
        method: str,
        target: str,
        account: Account,
        headers: Mapping[str, str] | None,
        body: Body | None,
        *,
        content: bool = False,
        authorization: Authorization | None = None,
        check: Callable[[str], object] | None = None,
    ) -> AsyncIterator[Response]:
        url = self._absolute(target)
        for _ in range(MAX_REDIRECTS + 1):
            async with self._send(
                method, url, account, headers or {}, body, content=content, authorization=authorization
            ) as response:
                if response.status not in _REDIRECTS or "Location" not in response.headers:
                    yield response
                    return
                url = await self._redirected(response)
                if check is not None:
                    check(url)
        raise RegistryError(f"{method} {address.without_query(url)}: more than {MAX_REDIRECTS} redirects")

    async def _redirected(self, response: Response) -> str:
        answer = await response.answer()
        where = address.without_query(response.url)
        # A body cannot be sent twice here, and a POST that turns into a GET is no POST.
        if response.method not in ("GET", "HEAD"):
            raise RegistryError(f"{response.method} {where} was redirected", status=response.status)
        url = address.resolve(response.url, answer.location or "")
        self._absolute(url)
        return url

    def _absolute(self, target: str) -> str:
        """Return the URL of a target, unless it would be spoken to in plain HTTP without being asked."""
        url = self.base + target if target.startswith("/") else target
        to = self._origin_of(url)
        here = is_loopback(self.host) and is_loopback(address.host_of(url))
        if to.scheme == "http" and self._origin.scheme == "https" and not here:
            raise RegistryError(
                f"{self.host} points to plain HTTP: {address.without_query(url)}",
                hint="a registry behind a TLS proxy must be told so (X-Forwarded-Proto, relative URLs)",
            )
        return url

    def _origin_of(self, url: str) -> address.Origin:
        return self._origin if url.startswith(f"{self.base}/") else address.origin(url)

    @asynccontextmanager
    async def _send(
        self,
        method: str,
        url: str,
        account: Account,
        headers: Mapping[str, str],
        body: Body | None,
        *,
        content: bool,
        authorization: Authorization | None,
    ) -> AsyncIterator[Response]:
        async with aclosing(counted(body, account, content=content)) as octets:
            request = self._request(
                method, url, headers, body, octets=_Octets(octets), authorization=authorization
            )
            request.extensions["feed"] = counted_feed(body, account, content=content)
            with translated(method, url, self._proxy):
                response = await self._ask(request, account)
            _LOG.info("%s: %d", where(method, url), response.status_code)
            try:
                yield Response(
                    method=method,
                    url=url,
                    status=response.status_code,
                    headers=response.headers,
                    octets=_Raw(method, url, response),
                    account=account,
                    content=content,
                    seconds=self.timeouts.metadata,
                    secrets=authorization.secrets if authorization else (),
                )
            finally:
                with translated(method, url):
                    await response.aclose()

    async def _ask(self, request: httpx.Request, account: Account) -> httpx.Response:
        account.requests += 1
        try:
            return await self._network.handle_async_request(request)
        except httpx.TransportError as error:
            if request.method not in _IDEMPOTENT or not is_stale(error):
                raise
        account.requests += 1
        account.retried(Reason.STALE_CONNECTION)
        request.extensions["fresh"] = True
        return await self._network.handle_async_request(request)

    def _request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | None,
        *,
        octets: _Octets,
        authorization: Authorization | None,
    ) -> httpx.Request:
        sent = {
            "Host": address.host_of(url),
            "User-Agent": _USER_AGENT,
            "Accept-Encoding": "identity",
            **headers,
        }
        if body is not None:
            # Without it a body goes out in chunks, which S3 and many proxies refuse.
            sent["Content-Length"] = str(body.size)
        to = self._origin_of(url)
        near = to == self._origin
        if authorization is not None and authorization.origin == to:
            sent["Authorization"] = authorization.value
        elif not near:
            sent = {name: value for name, value in sent.items() if name.lower() not in _CREDENTIALS}
        limits = self.timeouts
        extensions = {
            "target": address.target_of(url),
            "timeout": {
                "connect": limits.connect,
                "read": limits.commit if body and body.size else limits.read,
                "write": limits.write,
                "pool": limits.pool,
            },
        }
        with translated(method, url):
            where = (self._home if near else None) or httpx.URL(url)
            request = httpx.Request(method, where, headers=sent, stream=octets, extensions=extensions)
        if self._proxy is not None:
            # httpcore would ask the proxy for a tunnel to this target.
            request.url = _ExactUrl(request.url, request.extensions.pop("target"))
        return request


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
    """A request's body as httpx wants it. The generator is closed by whoever made it."""

    def __init__(self, octets: AsyncGenerator[bytes, None]) -> None:
        self._octets = octets

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._octets


class _Raw:
    """An answer's body as this room wants it: see `bodies.Octets`."""

    def __init__(self, method: str, url: str, response: httpx.Response) -> None:
        self._method = method
        self._url = url
        # The stream itself, not aiter_raw(), which refuses the answers of mocks that httpx has read already.
        self._stream = cast("httpx.AsyncByteStream", response.stream)

    @property
    def drainable(self) -> bool:
        return isinstance(self._stream, Incoming) and self._stream.reply.drainable

    async def read(self, size: int) -> AsyncGenerator[bytes, None]:
        stream = self._stream
        with translated(self._method, self._url):
            async for piece in stream.pieces(size) if isinstance(stream, Incoming) else stream:
                yield piece

    async def drain(self, takers: Sequence[Taker], count: Callable[[int], None]) -> None:
        with translated(self._method, self._url):
            await cast("Incoming", self._stream).drain(takers, count)
