"""A peer that has connected, but does not speak TLS yet.

Owns the time from the connection to the first octet of HTTP. Must not know what follows.
"""

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING, cast

from .connection import Connection

if TYPE_CHECKING:
    from .server import Server

_log = logging.getLogger(__name__)


class Handshake(asyncio.Protocol):
    """One handshake, which becomes a `Connection` or nothing at all.

    asyncio's own servers do it out of sight, so that one which the peer does not go on with would outlive a
    server that stops.
    """

    def __init__(self, server: "Server", context: ssl.SSLContext) -> None:
        self._server = server
        self._context = context
        self._transport: asyncio.Transport
        self._task: asyncio.Task[None]
        self._early: list[bytes] = []
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, now that TCP stands."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.pause_reading()  # the first octets are for TLS
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
        """Shake hands; ``None`` if it came to nothing, which is the peer's affair and nobody else's."""
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
