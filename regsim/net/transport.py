"""What carries requests: sockets of our own, or httpx's pool if a proxy is to be used.

Both are httpx transports and raise httpx's exceptions. Must not know accounts, redirects or registries.
"""

from __future__ import annotations

import httpx

from regsim.errors import UsageError
from regsim.net.address import Origin, Proxy
from regsim.net.pool import Pool
from regsim.net.trust import Trust, tls_context


def network(connections: int, trust: Trust, *, proxy: Proxy | None) -> httpx.AsyncBaseTransport:
    """Return what carries requests: sockets of our own; through a proxy httpx's pool, which knows proxies.

    Args:
        connections: open at once, at most.
        trust: how the registry's certificate is judged.
        proxy: to go through; None: connect directly.

    Raises:
        UsageError: the proxy's URL is malformed.
    """
    if proxy is None:
        return SocketTransport(connections, trust)
    limits = httpx.Limits(
        max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=15.0
    )
    # Trust in the registry's certificate does not extend to the proxy's.
    own = tls_context(Trust()) if proxy.url.startswith("https:") else None
    try:
        through = httpx.Proxy(proxy.url, ssl_context=own)
    except httpx.InvalidURL:
        raise UsageError(f"not the URL of a proxy: {proxy.name!r}") from None
    return httpx.AsyncHTTPTransport(verify=tls_context(trust), limits=limits, proxy=through, trust_env=False)


class SocketTransport(httpx.AsyncBaseTransport):
    """An httpx transport over sockets, HTTP/1.1 only.

    Of a request's extensions it uses `target`, `timeout` and `fresh` (use no connection that has served
    before). It sets `stale` if a connection that had served before ended without a byte of a response.
    The stream of its responses is an `Incoming`, which can also be read in threads.

    Args:
        connections: open at once, at most.
        trust: how certificates are judged; None: by the system's authorities.
        idle: seconds that a connection is kept without use.
    """

    def __init__(self, connections: int = 32, trust: Trust | None = None, *, idle: float = 15.0) -> None:
        # TLS takes 20 ms to set up, so its context is made when it is first needed.
        self._pool = Pool(connections, lambda: tls_context(trust or Trust()), idle=idle)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return its response, the body unread.

        Raises:
            httpx.TransportError: there is no response.
        """
        extensions = request.extensions
        connection = await self._pool.acquire(
            _origin(request.url), extensions.get("timeout", {}), fresh=extensions.get("fresh", False)
        )
        return await connection.exchange(request)

    async def aclose(self) -> None:
        """Close every connection, in use or not."""
        self._pool.close()


def _origin(url: httpx.URL) -> Origin:
    if url.scheme not in ("http", "https"):
        raise httpx.UnsupportedProtocol(f"not http or https: {url.scheme!r}")
    return Origin(
        url.scheme, url.raw_host.decode("ascii"), url.port or (443 if url.scheme == "https" else 80)
    )
