"""The connections of one client: which are open, to whom, who gets the next one, and how one is opened.

Owns their number, their idleness and the queue for them; names, addresses and their order (RFC 8305), and TLS
as part of connecting. Must not know requests.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from functools import cache
from ipaddress import IPv4Address, ip_address
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any

import httpx

from regsim.net.connection import Connection
from regsim.net.line import Line
from regsim.store.relay import Threads

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence

    from regsim.net.address import Origin


class Pool:
    """Connections, shared.

    Args:
        total: open at once, idle ones included.
        context: for TLS; called once, when it is first needed.
        idle: seconds that a connection is kept without use. Less than servers wait, so that it is rarely
            closed by the peer just when it is needed.
    """

    def __init__(self, total: int, context: Callable[[], ssl.SSLContext], *, idle: float = 15.0) -> None:
        self._total, self._idle_seconds = total, idle
        self._tls = cache(context)
        self._places = asyncio.Semaphore(total)
        self._used = 0  # places taken: dialling and busy
        self._idle: list[Connection] = []  # longest idle first
        self._busy: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._threads = Threads(total, "regsim-drain")
        self._closed = False

    async def acquire(
        self, origin: Origin, waits: Mapping[str, float | None], *, fresh: bool = False
    ) -> Connection:
        """Return a connection for one user. It comes back when its exchange is over.

        Args:
            origin: whom it leads to.
            waits: of which `pool` and `connect` are used.
            fresh: it must not have served before.

        Raises:
            PoolTimeout: none became free in time.
            ConnectError, ConnectTimeout: none could be opened.
        """
        seconds = waits.get("pool")
        try:
            async with asyncio.timeout(seconds):
                await self._places.acquire()
        except TimeoutError as error:
            raise httpx.PoolTimeout(f"not within {seconds:g} s") from error
        self._used += 1
        try:
            self._require_open()
            connection = None if fresh else self._take_idle(origin)
            if connection is None:
                if self._used + len(self._idle) > self._total:
                    self._drop(self._idle[0])
                connection = Connection(
                    origin, await self._dial(origin, waits.get("connect")), self._threads, self._free
                )
        except BaseException:
            self._leave()
            raise
        self._busy.add(connection)
        return connection

    def _require_open(self) -> None:
        if self._closed:
            raise httpx.ConnectError("the client is closed")

    def _leave(self) -> None:
        """Give a place back, to the one who has waited longest."""
        self._used -= 1
        self._places.release()

    def close(self) -> None:
        """Close every connection, in use or not."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in self._idle.copy():
            self._drop(connection)
        for connection in list(self._busy):
            connection.close()
        self._places.release()  # each who waits learns of it, and lets the next one know
        self._threads.close()

    async def _dial(self, origin: Origin, seconds: float | None) -> Line:
        try:
            async with asyncio.timeout(seconds):
                line = Line(await _first(await _resolve(origin.host, origin.port)))
                try:
                    if origin.scheme == "https":
                        await line.secure(self._tls(), origin.host)
                    self._require_open()
                except BaseException:
                    line.close()
                    raise
        except TimeoutError as error:
            raise httpx.ConnectTimeout(f"not within {seconds:g} s") from error
        return line

    def _free(self, connection: Connection) -> None:
        """Take back a connection whose exchange is over, or that was closed in its middle."""
        if connection in self._busy:
            self._busy.remove(connection)
            if not connection.closed:
                self._idle.append(connection)
                if self._sweeper is None:
                    self._sweep()
            self._leave()

    # Idleness

    def _take_idle(self, origin: Origin) -> Connection | None:
        """Return the idle connection that was used last, if it still stands; drop those that do not."""
        oldest = asyncio.get_running_loop().time() - self._idle_seconds
        for connection in reversed(self._idle.copy()):
            if connection.origin == origin:
                if connection.idle_since > oldest and connection.alive:
                    self._idle.remove(connection)
                    return connection
                self._drop(connection)
        return None

    def _drop(self, connection: Connection) -> None:
        """Close an idle connection."""
        self._idle.remove(connection)
        connection.close()

    def _sweep(self) -> None:
        """Close what has been idle for too long, and look again when the next one may have been."""
        loop = asyncio.get_running_loop()
        oldest = loop.time() - self._idle_seconds
        for connection in [each for each in self._idle if each.idle_since <= oldest]:
            self._drop(connection)
        self._sweeper = None
        if self._idle:
            first = min(each.idle_since for each in self._idle)
            self._sweeper = loop.call_at(first + self._idle_seconds, self._sweep)


# Dialling

# Seconds that an address has before the next one is tried as well (RFC 8305, section 8).
HEAD_START = 0.25

# Family and address, as the socket module has them.
Address = tuple[int, Any]


async def _resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of a host, families in turn, the system's favourite first."""
    with suppress(ValueError):  # a bare address needs no thread to look it up in
        bare = ip_address(host)
        return [(socket.AF_INET if isinstance(bare, IPv4Address) else socket.AF_INET6, (host, port))]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # UnicodeError: no name at all, by the rules of IDNA
        raise httpx.ConnectError(str(error)) from error
    families: dict[int, dict[Address, None]] = {}
    for family, _, _, _, address in found:
        families.setdefault(family, {})[int(family), address] = None
    return [each for each in chain.from_iterable(zip_longest(*families.values())) if each is not None]


async def _first(addresses: Sequence[Address]) -> socket.socket:
    """Return a socket that is connected to the first address that answers."""
    if len(addresses) == 1:
        return await _connect(addresses[0])
    left = list(addresses)
    attempts: set[asyncio.Task[socket.socket]] = set()
    failures: list[str] = []
    try:
        while left or attempts:
            if left:
                attempts.add(asyncio.create_task(_connect(left.pop(0))))
            done, _ = await asyncio.wait(
                attempts, timeout=HEAD_START if left else None, return_when=asyncio.FIRST_COMPLETED
            )
            for attempt in done:
                attempts.discard(attempt)
                try:
                    return attempt.result()
                except httpx.ConnectError as error:
                    failures.append(str(error))
    finally:
        for attempt in attempts:
            attempt.cancel()
        for outcome in await asyncio.gather(*attempts, return_exceptions=True):
            if isinstance(outcome, socket.socket):
                outcome.close()
    raise httpx.ConnectError("; ".join(dict.fromkeys(failures)) or "the name has no address")


async def _connect(address: Address) -> socket.socket:
    family, where = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(0)
        # Heads and last pieces must not wait for the peer's acknowledgement of what went before.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, where)
    except OSError as error:
        sock.close()
        # What asyncio says instead names the address alone.
        raise httpx.ConnectError(os.strerror(error.errno) if error.errno else str(error)) from error
    except BaseException:
        sock.close()
        raise
    return sock
