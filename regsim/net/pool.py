"""The connections of one client: which are open, to whom, and who gets the next one.

Owns their number, their idleness and the queue for them. Must not know requests.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regsim.net.connection import Connection
from regsim.net.dial import dial
from regsim.net.errors import ConnectError, PoolTimeoutError
from regsim.store.relay import Threads

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from regsim.net.address import Origin
    from regsim.net.request import Waits


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many connections, and how long they are kept.

    Attributes:
        total: open at once, idle ones included.
        each: open at once to one origin.
        idle: seconds that a connection is kept without use. Less than servers wait, so that it is rarely
            closed by the peer just when it is needed.
    """

    total: int = 32
    each: int = 32
    idle: float = 15.0


@dataclass(slots=True, eq=False)
class _Wish:
    """Somebody who waits for a connection. The answer is an idle one, or None: leave to dial."""

    origin: Origin
    fresh: bool
    answer: asyncio.Future[Connection | None]


class Pool:
    """Connections, shared.

    Args:
        limits: how many, how long.
        context: for TLS; called once, when it is first needed.
    """

    def __init__(self, limits: Limits, context: Callable[[], ssl.SSLContext]) -> None:
        self._limits = limits
        self._make_context = context
        self._context: ssl.SSLContext | None = None
        self._open: Counter[Origin] = Counter()  # dialling, busy and idle
        self._idle: list[Connection] = []  # longest idle first
        self._busy: set[Connection] = set()
        self._wishes: deque[_Wish] = deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self._threads = Threads(limits.total, "regsim-drain")
        self._closed = False

    async def acquire(self, origin: Origin, waits: Waits, *, fresh: bool = False) -> Connection:
        """Return a connection that nobody else uses. It comes back by itself when its exchange is over.

        Args:
            origin: whom it leads to.
            waits: of which `pool` and `connect` are heeded.
            fresh: it must not have served before.

        Raises:
            PoolTimeoutError: none became free in time.
            ConnectError, ConnectTimeoutError: there is none to be had.
        """
        if self._closed:
            raise ConnectError("the client is closed")
        connection = await self._wait(origin, waits.pool, fresh=fresh)
        if connection is None:
            connection = await self._dial(origin, waits.connect)
        self._busy.add(connection)
        return connection

    def close(self) -> None:
        """Close every connection, in use or not."""
        self._closed = True
        self._stop_sweeping()
        for wish in self._wishes:
            if not wish.answer.done():
                wish.answer.set_exception(ConnectError("the client is closed"))
        self._wishes.clear()
        for connection in self._idle.copy():
            self._drop(connection)
        for connection in list(self._busy):
            connection.close()
        self._threads.close()

    async def _wait(self, origin: Origin, seconds: float | None, *, fresh: bool) -> Connection | None:
        wish = _Wish(origin, fresh, asyncio.get_running_loop().create_future())
        self._wishes.append(wish)
        self._grant()
        if wish.answer.done():
            return wish.answer.result()
        try:
            async with asyncio.timeout(seconds):
                return await wish.answer
        except BaseException as error:
            self._withdraw(wish)
            if isinstance(error, TimeoutError):
                raise PoolTimeoutError(f"not within {seconds:g} s") from error
            raise

    def _withdraw(self, wish: _Wish) -> None:
        """Take a wish back; what it was given at the same moment is for the next."""
        if wish in self._wishes:
            self._wishes.remove(wish)
        elif not wish.answer.cancelled() and wish.answer.exception() is None:
            connection = wish.answer.result()
            if connection is None:
                self._lose(wish.origin)
            else:
                self._keep(connection)
        self._grant()

    async def _dial(self, origin: Origin, seconds: float | None) -> Connection:
        try:
            line = await dial(origin, self._tls, seconds=seconds)
        except BaseException:
            self._lose(origin)
            self._grant()
            raise
        connection = Connection(origin, line, self._threads, self._free)
        if self._closed:
            connection.close()
            raise ConnectError("the client is closed")
        return connection

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = self._make_context()
        return self._context

    def _free(self, connection: Connection) -> None:
        """Take back a connection whose exchange is over, or that was closed in its middle."""
        if connection not in self._busy:
            return
        self._busy.remove(connection)
        if connection.closed:
            self._lose(connection.origin)
        else:
            self._keep(connection)
        self._grant()

    def _lose(self, origin: Origin) -> None:
        self._open[origin] -= 1
        if not self._open[origin]:
            del self._open[origin]

    # Who gets the next one

    def _grant(self) -> None:
        """Grant every wish that can be granted, first come first served within an origin."""
        passed: set[Origin] = set()
        for wish in list(self._wishes):
            if wish.answer.done():
                continue
            if wish.origin in passed or not self._grant_one(wish):
                passed.add(wish.origin)

    def _grant_one(self, wish: _Wish) -> bool:
        found = None if wish.fresh else self._take_idle(wish.origin)
        if found is None:
            if not self._make_room(wish.origin):
                return False
            self._open[wish.origin] += 1
        self._wishes.remove(wish)
        wish.answer.set_result(found)
        return True

    def _take_idle(self, origin: Origin) -> Connection | None:
        """Return the idle connection that was used last, if it still stands; drop those that do not."""
        oldest = asyncio.get_running_loop().time() - self._limits.idle
        for connection in reversed(self._idle.copy()):
            if connection.origin == origin:
                if connection.idle_since > oldest and connection.alive:
                    self._idle.remove(connection)
                    return connection
                self._drop(connection)
        return None

    def _make_room(self, origin: Origin) -> bool:
        """Tell whether one more connection may be opened; an idle one gives way to it."""
        if self._open[origin] >= self._limits.each:
            return self._evict(lambda each: each.origin == origin)
        if self._open.total() >= self._limits.total:
            return self._evict(lambda _: True)
        return True

    def _evict(self, which: Callable[[Connection], bool]) -> bool:
        for connection in self._idle:
            if which(connection):
                self._drop(connection)
                return True
        return False

    def _drop(self, connection: Connection) -> None:
        """Close an idle connection."""
        self._idle.remove(connection)
        self._lose(connection.origin)
        connection.close()

    # Idleness

    def _keep(self, connection: Connection) -> None:
        self._idle.append(connection)
        if self._sweeper is None:
            self._sweep()

    def _sweep(self) -> None:
        """Close what has been idle for too long, and look again when the next one may have been."""
        loop = asyncio.get_running_loop()
        oldest = loop.time() - self._limits.idle
        for connection in [each for each in self._idle if each.idle_since <= oldest]:
            self._drop(connection)
        self._sweeper = None
        if self._idle:
            first = min(each.idle_since for each in self._idle)
            self._sweeper = loop.call_at(first + self._limits.idle, self._sweep)

    def _stop_sweeping(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
