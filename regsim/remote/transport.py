"""HTTP to one registry host: bytes out, bytes in, every one of them counted.

Owns connections, timeouts, redirects, TLS and the translation of httpx's exceptions; the only importer
of httpx. Must not know repositories, retries, or what a request is good for, beyond whether its bodies
are content (an Account's `sent` and `received`) or not (`overhead`).

Decisions, and why:

- Targets go out byte for byte (the `target` extension), never through a URL library's re-encoding.
- Bodies are taken raw and asked for as `identity`: a decoded layer no longer has its digest.
- Redirects are followed by hand, for GET and HEAD, without credentials to another origin.
- The environment is trusted for certificates (`SSL_CERT_FILE`, `SSL_CERT_DIR`, the system's store), not
  for proxies or netrc: what a run moves shall not depend on who started it.
- No cookies: Harbor, for one, takes a client that returns them for a browser.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from contextlib import aclosing, asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import ModuleType
from typing import TYPE_CHECKING, Self, cast

from regsim.errors import NetworkError, RegistryError, RegsimError
from regsim.oci.reference import is_loopback
from regsim.remote import address
from regsim.remote.answer import MAX_ERROR_BODY
from regsim.remote.bodies import Response, counted
from regsim.remote.timeouts import Timeouts

if "httpx" not in sys.modules:
    # httpx imports its own command line (click, rich, pygments: 45 ms) wherever click is installed.
    # A stand-in keeps it out; httpx.main, the only thing that is lost, is never called from here.
    sys.modules["httpx._main"] = ModuleType("httpx._main")
    sys.modules["httpx._main"].main = lambda: None  # type: ignore[attr-defined]
    import httpx

    del sys.modules["httpx._main"]
else:
    import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
    from types import TracebackType

    from regsim.remote.account import Account
    from regsim.remote.answer import Answer, Body

__all__ = ["MAX_REDIRECTS", "Timeouts", "Transport"]

MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_USER_AGENT = "regsim"
# Never shown to an origin that they were not given for (CVE-2020-15157; S3 answers 400 to them).
_CREDENTIALS = frozenset({"authorization", "cookie", "proxy-authorization"})


class Transport:
    """HTTP to one registry host.

    Args:
        host: `host[:port]`, or an http or https URL of one. Without a scheme a loopback host is spoken
            to in plain HTTP, any other with TLS.
        plain_http: speak plain HTTP where the address does not say.
        tls_verify: check certificates.
        timeouts: of every wait.
        connections: open at once, at most.
        transport: stands in for the network: a mock, or a registry in this process.

    Raises:
        InvalidReferenceError: `host` is no address of a registry.
    """

    def __init__(
        self,
        host: str,
        *,
        plain_http: bool = False,
        tls_verify: bool = True,
        timeouts: Timeouts | None = None,
        connections: int = 32,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.base = address.base_url(host, plain_http=plain_http)
        self.host = address.host_of(self.base)
        self.timeouts = timeouts or Timeouts()
        self._origin = address.origin(self.base)
        self._client = httpx.AsyncClient(
            transport=transport or _Network(connections, tls_verify=tls_verify),
            trust_env=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        )
        # httpx logs whole URLs, and upload queries and signed ones are secrets.
        logging.getLogger("httpx").addFilter(_hide_query)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

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
            deadline: seconds for all of it; None: `timeouts.metadata`, or without end (but never
                silent) where a body of content is sent.

        Raises:
            NetworkError: no whole answer came in time.
            RegistryError: a redirect that leads nowhere, or where it must not be followed.
        """
        if deadline is None and not (body and content):
            deadline = self.timeouts.metadata
        try:
            async with asyncio.timeout(deadline):
                async with self.exchange(
                    method, target, account, headers=headers, body=body, content=content
                ) as response:
                    return await response.answer(limit)
        except TimeoutError as error:
            where = address.without_query(self._absolute(target)).partition("://")[2]
            raise NetworkError(f"{method} {where} was not answered within {deadline:g} s") from error

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
    ) -> AsyncIterator[Response]:
        """Send a request and hand over its answer with the body unread; arguments as in `request`."""
        url = self._absolute(target)
        for _ in range(MAX_REDIRECTS + 1):
            async with self._send(method, url, account, headers or {}, body, content=content) as response:
                if response.status not in _REDIRECTS or "Location" not in response.headers:
                    yield response
                    return
                url = await self._redirected(response)
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
        to = address.origin(url)
        if to.scheme == "http" and self._origin.scheme == "https" and not is_loopback(address.host_of(url)):
            raise RegistryError(
                f"{self.host} points to plain HTTP: {address.without_query(url)}",
                hint="a registry behind a TLS proxy must be told so (X-Forwarded-Proto, relative URLs)",
            )
        return url

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
    ) -> AsyncIterator[Response]:
        account.requests += 1
        async with aclosing(counted(body, account, content=content)) as octets:
            request = self._request(method, url, headers, body, _Octets(octets))
            with _translated(method, url):
                response = await self._client.send(
                    request, auth=httpx.Auth(), stream=True, follow_redirects=False
                )
            try:
                yield Response(
                    method=method,
                    url=url,
                    status=response.status_code,
                    headers=response.headers,
                    pieces=_raw(method, url, response),
                    account=account,
                    content=content,
                )
            finally:
                with _translated(method, url):
                    await response.aclose()

    def _request(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None, octets: _Octets
    ) -> httpx.Request:
        sent = {
            "Host": address.host_of(url),
            "User-Agent": _USER_AGENT,
            "Accept-Encoding": "identity",
            **headers,
        }
        if body is not None:
            # Without it httpx sends chunks, which S3 and many proxies refuse.
            sent["Content-Length"] = str(body.size)
        if address.origin(url) != self._origin:
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
        with _translated(method, url):
            return httpx.Request(method, url, headers=sent, stream=octets, extensions=extensions)


class _Octets(httpx.AsyncByteStream):
    """A request's body as httpx wants it. The generator is closed by whoever made it."""

    def __init__(self, octets: AsyncGenerator[bytes, None]) -> None:
        self._octets = octets

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._octets


_TIMEOUTS: dict[type[httpx.HTTPError], str] = {
    httpx.ConnectTimeout: "no connection in time",
    httpx.PoolTimeout: "no connection became free in time",
}


class _Network(httpx.AsyncBaseTransport):
    """httpx's own pool, with TLS set up only when it is first needed (20 ms for the context)."""

    def __init__(self, connections: int, *, tls_verify: bool) -> None:
        self._limits = httpx.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=15.0
        )
        self._tls_verify = tls_verify
        self._pools: dict[str, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        scheme = request.url.scheme
        if scheme not in self._pools:
            self._pools[scheme] = self._plain() if scheme == "http" else self._tls()
        return await self._pools[scheme].handle_async_request(request)

    async def aclose(self) -> None:
        for pool in self._pools.values():
            await pool.aclose()

    def _plain(self) -> httpx.AsyncHTTPTransport:
        return httpx.AsyncHTTPTransport(verify=False, limits=self._limits, trust_env=False)

    def _tls(self) -> httpx.AsyncHTTPTransport:
        context = httpx.create_ssl_context(verify=self._tls_verify, trust_env=True)
        if self._tls_verify:
            # Certificates that an administrator added to the system are trusted, as by docker.
            context.load_default_certs()
        return httpx.AsyncHTTPTransport(verify=context, limits=self._limits)


async def _raw(method: str, url: str, response: httpx.Response) -> AsyncGenerator[bytes, None]:
    # The stream itself, not aiter_raw(), which refuses the answers of mocks that httpx has read already.
    stream = cast("httpx.AsyncByteStream", response.stream)
    with _translated(method, url):
        async for piece in stream:
            yield piece


def _hide_query(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(
            address.without_query(str(each)) if isinstance(each, httpx.URL) else each for each in record.args
        )
    return True


@contextlib.contextmanager
def _translated(method: str, url: str) -> Iterator[None]:
    """Turn httpx's exceptions into this project's; what is not httpx's passes through."""
    try:
        yield
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise RegistryError(f"not a URL that can be asked: {address.without_query(url)}") from error
    except httpx.LocalProtocolError as error:
        raise RegsimError(f"{_where(method, url)} could not be sent: {error}") from error
    except httpx.HTTPError as error:
        what, hint = _failure(error)
        raise NetworkError(f"{_where(method, url)}: {what}", hint=hint) from error


def _where(method: str, url: str) -> str:
    return f"{method} {address.without_query(url).partition('://')[2]}"


def _failure(error: httpx.HTTPError) -> tuple[str, str]:
    """Return what happened, in words, and a hint."""
    words = str(error) or type(error).__name__
    if isinstance(error, httpx.TimeoutException):
        return _TIMEOUTS.get(type(error), "the connection fell silent"), ""
    if not isinstance(error, httpx.ConnectError):
        return f"the connection broke ({words})", ""
    if "CERTIFICATE_VERIFY_FAILED" in words:
        return f"the certificate is not trusted ({words})", "SSL_CERT_FILE names further authorities"
    if "SSL" in words:
        return f"no TLS connection ({words})", "a registry without TLS is addressed as http://…"
    return f"no connection ({words})", "is a registry running there?"
