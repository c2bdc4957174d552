"""A small HTTP/1.1 server for one ASGI app, in the running event loop.

Owns the listening socket, TLS handshakes and the life of all connections. Must not know what the app is.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self, cast

from mock_registry.asgi import App
from mock_registry.tls import Identity

from .connection import Connection, Rejected, Shared
from .limits import Limits

_log = logging.getLogger(__name__)

_SWEEP = 1.0
"""Seconds between looks at the deadlines: exact enough for patience, and free of timers for each request."""


class Server(Shared):
    """A server on one address. Use it as a context manager.

    Args:
        app: The ASGI app to serve.
        host: Address or name to bind.
        port: 0 takes any free port.
        limits: Sizes and times.
        tls: Certificate and key for TLS; by default plain HTTP.
        rejected: Told of each answer that the server gives without the app, with method and target as far as
            they are known, the status, and the bytes of the answer's body.
    """

    def __init__(
        self,
        app: App,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: Limits | None = None,
        tls: Identity | None = None,
        rejected: Rejected = lambda *_: None,
    ) -> None:
        super().__init__(app, limits or Limits(), "https" if tls else "http", rejected)
        self.host = host
        self.port = port
        self.tls = tls
        self.handshakes: set[Handshake] = set()
        self._listener: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def url(self) -> str:
        """The address to reach it, such as ``http://127.0.0.1:43121``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def netloc(self) -> str:
        """Host and port, as they stand before a repository's name in an image reference."""
        return self.url.partition("://")[2]

    @property
    def ca(self) -> Path | None:
        """The file by which clients can check this server; ``None`` without TLS."""
        return None if self.tls is None else self.tls.ca

    async def start(self) -> None:
        """Bind and listen.

        Raises:
            OSError: The address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._greet, self.host, self.port, backlog=1024)
        self.port = self._listener.sockets[0].getsockname()[1]
        self._sweep()

    def _greet(self) -> asyncio.Protocol:
        return Connection(self) if self.tls is None else Handshake(self, self.tls.context)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self.check_patience(loop.time())
        self._sweeper = loop.call_later(_SWEEP, self._sweep)

    def check_patience(self, now: float) -> None:
        """Let every connection whose deadline has passed by ``now`` (loop time) act on it."""
        for connection in [each for each in self.connections if each.deadline <= now]:
            connection.lose_patience()

    async def stop(self) -> None:
        """Take no new requests, let those under way finish for a time, then cut off the rest."""
        self.stopping = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._listener is not None:
            self._listener.close()
        self.empty.clear()
        if self.handshakes:
            await asyncio.wait([handshake.abort() for handshake in list(self.handshakes)])
        for connection in list(self.connections):
            connection.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.limits.stop_time):
                if self.connections:
                    await self.empty.wait()
        tasks = [task for connection in list(self.connections) if (task := connection.abort())]
        if tasks:
            await asyncio.wait(tasks)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()


class Handshake(asyncio.Protocol):
    """A TLS handshake, which becomes a `Connection` or nothing.

    asyncio's own servers hide theirs, so that one which the peer does not continue would outlive a server
    that stops.
    """

    def __init__(self, server: Server, context: ssl.SSLContext) -> None:
        self._server = server
        self._context = context
        self._transport: asyncio.Transport
        self._task: asyncio.Task[None]
        self._early: list[bytes] = []
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, now that TCP stands."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.pause_reading()  # the first bytes are for TLS
        self._server.handshakes.add(self)
        self._task = asyncio.get_running_loop().create_task(self._run())

    def data_received(self, data: bytes) -> None:
        """Keep what comes in one piece with the end of the handshake."""
        self._early.append(data)

    def eof_received(self) -> bool:
        """Keep that the peer said goodbye at once."""
        self._ended = True
        return False

    async def _run(self) -> None:
        try:
            secured = await self._secure()
        finally:
            self._server.handshakes.discard(self)
        if secured is None or self._server.stopping:
            self._transport.abort()
            return
        connection = Connection(self._server, self._transport)
        secured.set_protocol(connection)
        connection.connection_made(secured)
        for data in self._early:
            connection.data_received(data)
        if self._ended:
            connection.eof_received()

    async def _secure(self) -> asyncio.Transport | None:
        """Shake hands; ``None`` if it failed, which concerns the peer alone."""
        limits = self._server.limits
        try:
            return await asyncio.get_running_loop().start_tls(
                self._transport,
                self,
                self._context,
                server_side=True,
                ssl_handshake_timeout=limits.head_time,
                ssl_shutdown_timeout=limits.linger_time,
            )
        except OSError as error:  # what ssl raises is one, and so is a peer that left or took too long
            _log.debug("no TLS with a peer: %s", error)
            return None

    def abort(self) -> "asyncio.Task[None]":
        """Give up, and return the task that ends with it."""
        self._transport.abort()
        return self._task


class SparePort:
    """Another port of the same app, which is opened when its address is first used.

    Args:
        stack: Closes it.
        make: Makes its server.
    """

    def __init__(self, stack: AsyncExitStack, make: Callable[[], Server]) -> None:
        self._stack = stack
        self._make = make
        self._opening: asyncio.Task[Server] | None = None

    async def url(self) -> str:
        """Return the address to reach it."""
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._stack.enter_async_context(self._make()))
        server = await asyncio.shield(self._opening)  # others may be waiting for it too
        return server.url
