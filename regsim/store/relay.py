"""Handing bytes on in threads: from a source that fills buffers to takers.

Owns buffers and threads, and when a second thread pays. Must not know files, sockets or digests. Through the
event loop each piece costs a turn of it, a copy and two hops to a thread; here it costs nothing.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from regsim.store.protocols import CHUNK, Pourable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Sequence
    from concurrent.futures import Executor, Future

    from regsim.store.protocols import Content, Taker

T = TypeVar("T")

# Buffers on their way between two threads: one being filled, one being taken, one in between.
_BUFFERS = 3
# Below this a second thread is not worth being started.
_WORTH_TWO = 8 * CHUNK


class Relay:
    """Bytes from a source to its takers.

    Args:
        fill: writes the next bytes into a buffer, in a thread, and returns how many; 0: there are no more.
        left: how many there are; None: it is not known.
        takers: each is handed every piece, in order, in a thread; a piece is theirs until they return.
        block: bytes of a piece, at most.
    """

    def __init__(
        self, fill: Callable[[memoryview], int], left: int | None, takers: Sequence[Taker], block: int = CHUNK
    ) -> None:
        self._block = block if left is None else min(block, left)
        self._fill = fill
        self._left = left
        self._takers = takers
        self._stopped = False

    def start(self, executor: Executor, *, alone: bool) -> Future[None]:
        """Begin in a thread, or in two if nothing else keeps the processors busy; raises as `run` does."""
        if alone and len(self._takers) > 1 and (self._left or 0) >= _WORTH_TWO:
            return executor.submit(self.run_beside, _Beside(self._takers[0], executor))
        return executor.submit(self.run)

    def stop(self) -> None:
        """Let it end before the next piece, as if there were no more."""
        self._stopped = True

    def run(self) -> None:
        """Do it all in this thread.

        Raises:
            Exception: what `fill` or a taker raised.
        """
        buffer = memoryview(bytearray(self._block))
        while piece := self._next(buffer):
            hand(piece, self._takers)

    def run_beside(self, first: _Beside) -> None:
        """Do it with the first taker in a thread of its own; raises as `run` does."""
        try:
            while first.failure is None:
                buffer = first.free.get()
                if not (piece := self._next(buffer)):
                    break
                first.full.put((buffer, piece))
                hand(piece, self._takers[1:])
        finally:
            first.finish()
        if first.failure is not None:
            raise first.failure

    def _next(self, buffer: memoryview) -> memoryview:
        """Return the next piece, in `buffer`; an empty one at the end."""
        if self._stopped or self._left == 0:
            return buffer[:0]
        count = self._fill(buffer if self._left is None else buffer[: self._left])
        if self._left is not None:
            self._left -= count
        return buffer[:count]


class _Beside:
    """One taker in a thread of its own, which gets its pieces through a queue and gives the buffers back."""

    def __init__(self, take: Taker, executor: Executor) -> None:
        self.failure: Exception | None = None
        self.full: SimpleQueue[tuple[memoryview, memoryview] | None] = SimpleQueue()
        self.free: SimpleQueue[memoryview] = SimpleQueue()
        self._take = take
        for _ in range(_BUFFERS):
            self.free.put(memoryview(bytearray(CHUNK)))
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
                except Exception as error:  # noqa: BLE001  (raised when all of it is awaited)
                    self.failure = error
            self.free.put(buffer)


class Threads:
    """The threads of one store or client, which come with its first relay.

    Args:
        most: relays that run at once.
        name: what a debugger calls them.
    """

    def __init__(self, most: int, name: str) -> None:
        self.closed = False
        self._most = most
        self._name = name
        self._executor: ThreadPoolExecutor | None = None
        self._running = 0

    async def run(self, relay: Relay, stop: Callable[[], None]) -> None:
        """Let a relay run, and come back when it has ended, also when cancelled.

        Args:
            relay: is run once.
            stop: called when this is cancelled: must wake its thread from any wait.

        Raises:
            Exception: what its `fill` or a taker raised.
        """
        if self._executor is None:
            self._executor = ThreadPoolExecutor(2 * self._most, thread_name_prefix=self._name)
        work = asyncio.wrap_future(relay.start(self._executor, alone=self._running == 0))
        self._running += 1
        try:
            await finished(work, stop)
        finally:
            self._running -= 1

    def close(self) -> None:
        """Let the threads go, once they have ended what they do."""
        self.closed = True
        if self._executor is not None:
            self._executor.shutdown(wait=False)
            self._executor = None


async def in_thread(
    work: Callable[[], T], *, stop: Callable[[], None] = lambda: None, lost: Callable[[T], None] | None = None
) -> T:
    """Do work in a thread. A caller that is cancelled stops the work, and still waits for its end.

    Args:
        work: what to do; it cannot be cancelled itself.
        stop: called when this is cancelled, to make `work` end soon.
        lost: receives the result of `work` if this was cancelled meanwhile.

    Raises:
        Exception: what `work` raised.
    """
    doing = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        await finished(doing, stop)
    except asyncio.CancelledError:
        if lost is not None and doing.exception() is None:
            lost(doing.result())
        raise
    return doing.result()


async def finished(work: asyncio.Future[Any], stop: Callable[[], None] = lambda: None) -> None:
    """Wait for work in a thread. A waiter that is cancelled stops the work, and still waits for its end.

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


def hand(piece: memoryview, takers: Sequence[Taker]) -> None:
    """Hand a piece to every taker, unless it is empty."""
    for take in takers if piece else ():
        take(piece)


async def hand_all(content: Content, takers: Sequence[Taker], offset: int = 0) -> None:
    """Hand content to `takers`, in threads: poured if it is `Pourable`, else in batches of `CHUNK`.

    Args:
        content: if `offset` is not 0, one that is `Pourable`.
        takers: each is handed every piece, once and in order.
        offset: the first byte that is handed on.

    Raises:
        RegsimError: the content cannot be read.
        Exception: what a taker raised.
    """
    if isinstance(content, Pourable):
        await content.pour(*takers, offset=offset)
        return
    async with aclosing(content.open()) as stream:
        await hand_stream(stream, takers)


async def hand_stream(stream: AsyncIterable[bytes], takers: Sequence[Taker], block: int = CHUNK) -> None:
    """Hand a stream to `takers`, in threads, in batches of about `block` bytes.

    What came before a failure of the stream is handed on before it is raised.

    Raises:
        Exception: what the stream raised, or a taker.
    """
    source, failure = aiter(stream), None
    while failure is None:
        waiting: list[bytes] = []
        size = 0
        try:
            while size < block:
                waiting.append(await anext(source))
                size += len(waiting[-1])
        except Exception as error:  # noqa: BLE001  (raised below, unless it is the end)
            failure = error
        if size:
            await hand_in_thread(b"".join(waiting), takers)
    if not isinstance(failure, StopAsyncIteration):
        raise failure


async def hand_in_thread(data: bytes, takers: Sequence[Taker]) -> None:
    """Hand bytes over in a thread; a waiter that is cancelled still waits for it."""
    await in_thread(partial(hand, memoryview(data), takers))


async def streamed(pour: Callable[[Taker], Awaitable[None]]) -> AsyncGenerator[bytes, None]:
    """Turn a pour into a stream, for a consumer in the event loop: at most two pieces wait for it.

    Args:
        pour: hands pieces to a taker, in threads, and has ended when it returns, also when cancelled.

    Raises (while iterating):
        Exception: what `pour` raised, after the pieces before it.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[bytes] = asyncio.Queue()
    room, stopped = threading.Semaphore(2), threading.Event()

    def take(piece: memoryview) -> None:
        room.acquire()
        if stopped.is_set():
            raise InterruptedError
        loop.call_soon_threadsafe(arrived.put_nowait, bytes(piece))

    async def work() -> None:
        try:
            await pour(take)
        finally:
            arrived.put_nowait(b"")

    pouring = asyncio.ensure_future(work())
    try:
        while piece := await arrived.get():
            yield piece
            room.release()
        await pouring
    finally:
        stopped.set()
        room.release(3)
        pouring.cancel()
        await finished(asyncio.gather(pouring, return_exceptions=True))
