"""A small HTTP/1.1 server for one ASGI app, in the running event loop.

Owns the listening socket and the life of all connections. Must not know what the app is.
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from mock_registry.asgi import App
from mock_registry.tls import Identity

from .budget import Budget
from .connection import Connection, Patience
from .handshake import Handshake
from .limits import Limits
from .wire import Clock, Names

_RECEIVED = 1 << 20
"""Bytes, more than asyncio allocates for each read of a socket (256 KiB)."""

_SWEEP = 1.0
"""Seconds between looks at the deadlines: exact enough for patience, and free of timers for each request."""

Rejected = Callable[[str, str, int, int], None]


class Server:
    """A server on one address. Use it as a context manager.

    Args:
        app: The ASGI app to serve.
        host: Address or name to bind.
        port: 0 takes any free port.
        limits: Sizes and times.
        tls: What TLS is spoken with; by default it is not.
        rejected: Told of each answer that the server gives by itself, with method and target as far as they
            are known, the status, and the octets of the answer's body.
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
        self.app = app
        self.host = host
        self.port = port
        self.limits = limits or Limits()
        self.rejected = rejected
        self.tls = tls
        self.scheme = "https" if tls else "http"
        self.stopping = False
        self.connections: set[Connection] = set()
        self.handshakes: set[Handshake] = set()
        self.budget = Budget(self.limits.bodies_held)
        self.date = Clock()
        self.names = Names()
        self.times = {
            Patience.BODY: self.limits.body_time,
            Patience.HEAD: self.limits.head_time,
            Patience.IDLE: self.limits.idle_time,
            Patience.LINGER: self.limits.linger_time,
            Patience.NOTHING: float("inf"),
            Patience.WRITE: self.limits.write_time,
        }
        self._listener: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()

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
        bytes(
            _RECEIVED
        )  # once freed, malloc no longer maps memory for each read: a third more requests a second
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

    def check_idle(self) -> None:
        """Notice that the last connection is gone."""
        if not self.connections:
            self._empty.set()

    async def stop(self) -> None:
        """Take no new requests, let those under way finish for a time, then cut off the rest."""
        self.stopping = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._listener is not None:
            self._listener.close()
        self._empty.clear()
        if self.handshakes:
            await asyncio.wait([handshake.abort() for handshake in list(self.handshakes)])
        for connection in list(self.connections):
            connection.stop()
        self.check_idle()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.limits.stop_time):
                await self._empty.wait()
        tasks = [task for connection in list(self.connections) if (task := connection.abort())]
        if tasks:
            await asyncio.wait(tasks)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()
