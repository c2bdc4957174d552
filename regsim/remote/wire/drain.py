"""Emptying a line in a thread: octets from the socket to whoever takes them, past the event loop.

Owns the threads, and the lending of a line to them. Must not know HTTP, or what the octets are for. Through
the event loop each piece costs a turn of it, a copy and two hops to a thread; here it costs nothing.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING

from regsim.remote.wire.errors import PeerProtocolError, ReadError, ReadTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor, Future

    from regsim.remote.wire.line import Line
    from regsim.remote.wire.request import Taker

BLOCK = 1024 * 1024
# Buffers on their way between two threads: one being filled, one being taken, one in between.
_BUFFERS = 3
# Below this a second thread is not worth being started.
_WORTH_TWO = 8 * BLOCK


class Drain:
    """So many octets, from a line to those who take them.

    Args:
        line: is lent for as long as this runs.
        rest: the first of them, which have been read already.
        left: how many more there are.
        seconds: the longest silence.
        takers: each is handed every piece, in order, in a thread; a piece is theirs until they return.

    Attributes:
        count: octets that were read.
    """

    def __init__(
        self, line: Line, rest: bytes, left: int, seconds: float | None, takers: Sequence[Taker]
    ) -> None:
        self.count = len(rest)
        self.line = line
        self._rest = memoryview(rest)
        self._left = left
        self._seconds = seconds
        self._takers = takers

    def start(self, executor: Executor, *, alone: bool) -> Future[None]:
        """Begin in a thread, or in two if nothing else keeps the processors busy; raises as `run` does."""
        if alone and len(self._takers) > 1 and self._left >= _WORTH_TWO:
            return executor.submit(self.run_beside, _Beside(self._takers[0], executor))
        return executor.submit(self.run)

    def run(self) -> None:
        """Do it all in this thread.

        Raises:
            WireError: the line broke, ended or fell silent.
            Exception: what a taker raised.
        """
        self._hand(self._rest, self._takers)
        buffer = memoryview(bytearray(min(self._left, BLOCK)))
        while self._left:
            self._hand(buffer[: self._fill(buffer)], self._takers)

    def run_beside(self, first: _Beside) -> None:
        """Do it with the first taker in a thread of its own; raises as `run` does."""
        try:
            self._hand(self._rest, self._takers)
            while self._left and first.failure is None:
                buffer = first.free.get()
                piece = buffer[: self._fill(buffer)]
                first.full.put((buffer, piece))
                self._hand(piece, self._takers[1:])
        finally:
            first.finish()
        if first.failure is not None:
            raise first.failure

    def _hand(self, piece: memoryview, takers: Sequence[Taker]) -> None:
        for take in takers if piece else ():
            take(piece)

    def _fill(self, buffer: memoryview) -> int:
        """Read what has arrived, once something has."""
        count, room = 0, min(len(buffer), self._left)
        while count < room:
            taken = self.line.take(buffer[count:room])
            if taken:
                count += taken
            elif count:
                break  # at the end too: what came goes on its way, and the end is met again
            elif taken == 0:
                raise PeerProtocolError(f"the body ended {self._left} bytes early")
            elif not self.line.poll(self._seconds):
                raise ReadTimeoutError("no progress in time")
        self._left -= count
        self.count += count
        return count


class _Beside:
    """One taker in a thread of its own, which gets its pieces through a queue and gives the buffers back."""

    def __init__(self, take: Taker, executor: Executor) -> None:
        self.failure: Exception | None = None
        self.full: SimpleQueue[tuple[memoryview, memoryview] | None] = SimpleQueue()
        self.free: SimpleQueue[memoryview] = SimpleQueue()
        self._take = take
        for _ in range(_BUFFERS):
            self.free.put(memoryview(bytearray(BLOCK)))
        self._done = executor.submit(self._run)

    def finish(self) -> None:
        """Wait until all pieces have been taken."""
        self.full.put(None)
        self._done.result()

    def _run(self) -> None:
        while (item := self.full.get()) is not None:
            buffer, piece = item
            if self.failure is None:
                try:
                    self._take(piece)
                except Exception as error:  # noqa: BLE001  (raised by whoever waits for all of it)
                    self.failure = error
            self.free.put(buffer)


class Threads:
    """The threads of one client, which come with the first body that is drained.

    Args:
        most: lines that may be lent at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._closed = False
        self._executor: ThreadPoolExecutor | None = None
        self._running = 0

    async def drain(self, drain: Drain) -> None:
        """Let it run, and come back when it has ended, also when cancelled: then its line is hung up.

        Raises:
            WireError: the line broke, ended or fell silent.
            Exception: what a taker raised.
        """
        if self._closed:
            raise ReadError("the client is closed")
        if self._executor is None:
            self._executor = ThreadPoolExecutor(2 * self._most, thread_name_prefix="regsim-drain")
        work = asyncio.wrap_future(drain.start(self._executor, alone=self._running == 0))
        self._running += 1
        drain.line.lend()
        try:
            await finished(work, drain.line.hang_up)
        finally:
            drain.line.take_back()
            self._running -= 1

    def close(self) -> None:
        """Let the threads go."""
        self._closed = True
        if self._executor is not None:
            self._executor.shutdown(wait=False)
            self._executor = None


async def finished(work: asyncio.Future[None], stop: Callable[[], None] = lambda: None) -> None:
    """Wait for work in a thread, which cannot be cancelled; who is cancelled stops it, and still waits.

    Raises:
        Exception: what the work raised.
    """
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
            stop()
    failure = work.exception()
    if cancelled is not None:
        raise cancelled
    if failure is not None:
        raise failure
