"""What carries requests: `wire` behind httpx's interface, and httpx's own pool where a proxy is in between.

Owns how requests, answers and errors of `wire` look to httpx. Must not know accounts, redirects, registries.
"""

from __future__ import annotations

import contextlib
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from regsim.errors import UsageError
from regsim.net import Limits, Request, Waits, Wire, address, errors
from regsim.net.http import httpx
from regsim.net.trust import Trust
from regsim.store.protocols import CHUNK

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence

    from regsim.net.proxy import Proxy
    from regsim.net.reply import Reply
    from regsim.store.protocols import Taker


def network(connections: int, trust: Trust, *, proxy: Proxy | None) -> httpx.AsyncBaseTransport:
    """Return what carries requests: sockets of our own; through a proxy httpx's pool, which knows proxies.

    Args:
        connections: open at once, at most.
        trust: how the registry's certificate is judged.
        proxy: to go through; None goes straight.

    Raises:
        UsageError: the proxy's URL is none.
    """
    if proxy is None:
        return SocketTransport(connections, trust)
    limits = httpx.Limits(
        max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=15.0
    )
    # What is said of a registry's certificate is not said of the proxy's.
    own = tls_context(Trust()) if proxy.url.startswith("https:") else None
    try:
        through = httpx.Proxy(proxy.url, ssl_context=own)
    except httpx.InvalidURL:
        raise UsageError(f"not the URL of a proxy: {proxy.name!r}") from None
    return httpx.AsyncHTTPTransport(verify=tls_context(trust), limits=limits, proxy=through, trust_env=False)


def tls_context(trust: Trust) -> ssl.SSLContext:
    """Return how to speak TLS with whom `trust` trusts."""
    context = httpx.create_ssl_context(verify=trust.verify, trust_env=True)
    if trust.verify:
        # Certificates that an administrator added to the system are trusted, as by docker.
        context.load_default_certs()
    trust.extend(context)
    context.set_alpn_protocols(["http/1.1"])
    return context


class SocketTransport(httpx.AsyncBaseTransport):
    """`wire` behind httpx's interface.

    Of a request's extensions it heeds `target`, `timeout`, `fresh` (use no connection that has served before)
    and `feed` (take the body from there, not from the stream).

    Args:
        connections: open at once, at most.
        trust: how certificates are judged; None: by the system's authorities.
    """

    def __init__(self, connections: int = 32, trust: Trust | None = None) -> None:
        # TLS costs 20 ms to set up, and is only paid for where it is spoken.
        limits = Limits(total=connections, each=connections)
        self._wire = Wire(limits, lambda: tls_context(trust or Trust()))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return its answer, the body unread."""
        extensions = request.extensions
        asked = Request(
            origin=address.Origin(*_origin(request.url)),
            method=request.method.encode("ascii"),
            target=extensions.get("target", request.url.raw_path),
            headers=request.headers.raw,
            body=cast("httpx.AsyncByteStream", request.stream),
            waits=Waits(**extensions.get("timeout", {})),
            feed=extensions.get("feed"),
            fresh=extensions.get("fresh", False),
        )
        with _as_httpx(request):
            reply = await self._wire.ask(asked)
        return httpx.Response(
            reply.status,
            headers=reply.headers,
            stream=Incoming(reply, request),
            extensions={"http_version": reply.version, "reason_phrase": reply.reason},
        )

    async def aclose(self) -> None:
        """Close every connection."""
        self._wire.close()


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    if url.scheme not in ("http", "https"):
        raise httpx.UnsupportedProtocol(f"not http or https: {url.scheme!r}")
    return url.scheme, url.raw_host.decode("ascii"), url.port or (443 if url.scheme == "https" else 80)


class Incoming(httpx.AsyncByteStream):
    """An answer's body as httpx wants it."""

    def __init__(self, reply: Reply, request: httpx.Request) -> None:
        self.reply = reply
        self._request = request

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.pieces(CHUNK)

    async def pieces(self, size: int) -> AsyncGenerator[bytes, None]:
        """Yield the body in pieces of about `size` bytes."""
        with _as_httpx(self._request):
            async with aclosing(self.reply.pieces(size)) as pieces:
                async for piece in pieces:
                    yield piece

    async def drain(self, takers: Sequence[Taker], count: Callable[[int], None]) -> None:
        """Hand the body to `takers`; see `Reply.drain`."""
        with _as_httpx(self._request):
            await self.reply.drain(takers, count)

    async def aclose(self) -> None:
        """Let go of the answer, whether it was read or not."""
        self.reply.close()


_AS_HTTPX: dict[type[errors.WireError], type[httpx.TransportError]] = {
    errors.ConnectError: httpx.ConnectError,
    errors.ConnectTimeoutError: httpx.ConnectTimeout,
    errors.PoolTimeoutError: httpx.PoolTimeout,
    errors.ReadError: httpx.ReadError,
    errors.ReadTimeoutError: httpx.ReadTimeout,
    errors.WriteError: httpx.WriteError,
    errors.WriteTimeoutError: httpx.WriteTimeout,
    errors.PeerProtocolError: httpx.RemoteProtocolError,
    errors.OwnProtocolError: httpx.LocalProtocolError,
}


@contextlib.contextmanager
def _as_httpx(request: httpx.Request) -> Iterator[None]:
    try:
        yield
    except errors.WireError as error:
        raise _AS_HTTPX[type(error)](str(error), request=request) from error


def is_stale(error: httpx.TransportError) -> bool:
    """Tell whether a connection died of age, before a byte of an answer."""
    return isinstance(error.__cause__, errors.WireError) and error.__cause__.stale
