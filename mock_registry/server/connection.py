"""One connection: bytes in, requests out, in order.

Owns pipelining, back-pressure, patience and the end of a connection. Must not know what a request means.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import BinaryIO, cast

from mock_registry.asgi import App, PeerGone, Scope

from .cycle import Cycle
from .limits import Budget, Limits, Patience, Share
from .requests import Requests
from .sockets import FileSender, acknowledged, keep_queue_short, reset_on_close
from .wire import encode_error

Rejected = Callable[[str, str, int, int], None]


class Shared:
    """What the connections of a server share; the server itself.

    Attributes:
        rejected: As of `Server`.
        connections: Those that are open.
        empty: Set when the last one has ended.
        stopping: No further requests are taken.
    """

    def __init__(self, app: App, limits: Limits, scheme: str, rejected: Rejected) -> None:
        self.app = app
        self.limits = limits
        self.scheme = scheme
        self.rejected = rejected
        self.stopping = False
        self.connections: set[Connection] = set()
        self.empty = asyncio.Event()
        self.budget = Budget(limits.bodies_held)


class Connection(asyncio.Protocol):
    """One peer.

    Args:
        server: What it shares with the others.
        beneath: The transport that TLS runs over, where it does.

    Attributes:
        deadline: Loop time at which patience ends; the server looks at it once in a while.
        lost: The socket is gone; what is written goes nowhere.
        requests: The requests that arrive.
        peer_ended: The peer sends nothing more.
        reading_paused: The peer is held back until the app has read.
    """

    def __init__(self, server: Shared, beneath: asyncio.Transport | None = None) -> None:
        self._server = server
        self._beneath = beneath
        self._limits = server.limits
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self.requests: Requests
        self._active: Cycle | None = None
        self._task: asyncio.Task[None] | None = None
        self._queue: deque[Cycle] = deque()
        self._discarded = 0
        self.reading_paused = False
        self._lingering = False
        self.peer_ended = False
        self._sender: FileSender | None = None
        self._writable: asyncio.Future[None] | None = None
        self._rejection: tuple[int, str] | None = None
        self._patience = Patience.NOTHING
        self.deadline = float("inf")
        self.lost = False

    @property
    def awaited(self) -> Patience:
        """What is waited for now."""
        if self.lost:
            return Patience.NOTHING
        if self._lingering:
            return Patience.LINGER
        if self._writable is not None or self._sender is not None:
            return Patience.WRITE
        if self.requests.reading is not None and not self.requests.closed:
            return Patience.NOTHING if self.reading_paused else Patience.BODY
        if self._active is not None:
            return Patience.NOTHING
        return Patience.HEAD if self.requests.begun else Patience.IDLE

    @property
    def stopping(self) -> bool:
        """The server takes no further requests."""
        return self._server.stopping

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a new peer."""
        self._transport = cast("asyncio.Transport", transport)
        self.requests = Requests(
            self._limits,
            self._server.scheme,
            transport.get_extra_info("peername"),
            transport.get_extra_info("sockname"),
            begin=self._request_begun,
            refuse=self._refuse,
        )
        self._server.connections.add(self)
        keep_queue_short(transport.get_extra_info("socket"))
        self._be_patient()

    def data_received(self, data: bytes) -> None:
        """Take bytes from the peer."""
        self._discarded += self.requests.feed(data)
        if self._discarded > self._limits.linger:
            self._transport.abort()
        if not self.reading_paused and not self.lost and self._holds_much():
            self.reading_paused = True
            self._transport.pause_reading()
        self._be_patient(progress=True)

    def eof_received(self) -> bool:
        """Take the end of what the peer sends; it may still read."""
        self.peer_ended = True
        if self._beneath is not None:  # asyncio does not write after the peer's goodbye
            self._leave()
            return False
        if self._lingering or (self._active is None and not self.requests.begun):
            return False
        if not self.requests.closed and (self.requests.reading or self.requests.begun):
            self._refuse(400, "the request ended early")
        if self._active is not None and self._active.body_complete:
            self._active.cut(None)  # an app that waits, rather than answers, may give up
        self.requests.close()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        """Take the end of the connection."""
        self._leave()
        self._server.connections.discard(self)
        if not self._server.connections:
            self._server.empty.set()

    def _leave(self) -> None:
        """Tell all cycles that the peer is gone."""
        self.lost = True
        self.requests.close()
        self._drop_queue()
        for cycle in (self._active, self.requests.reading):
            if cycle is not None:
                cycle.cut(None)
        if self._sender is not None:
            self._sender.give_up()
        self.resume_writing()

    def pause_writing(self) -> None:
        """Hold the app back until the peer has read."""
        if self._writable is None:
            self._writable = self._loop.create_future()
            self._be_patient()

    def resume_writing(self) -> None:
        """Let the app go on."""
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)
        self._be_patient()

    # What arrives

    def _request_begun(self, scope: Scope, keep_alive: bool) -> Cycle:
        """Make a cycle of a request, to be started when those before it are done."""
        cycle = Cycle(
            self,
            scope,
            keep_alive=keep_alive,
            expects_continue=self.requests.expects_continue,
            share=Share(self._server.budget, self._limits.body_gathered),
        )
        if self._active is None:
            self._start(cycle)
        else:
            self._queue.append(cycle)
        return cycle

    def _holds_much(self) -> bool:
        """Tell whether the peer's next bytes should wait until the app has got further."""
        cycles = {*self._queue, *filter(None, [self.requests.reading])}
        if len(self._queue) > self._limits.pipeline:
            return True
        if self._server.budget.scarce:
            return any(cycle.share.in_use for cycle in cycles)
        return sum(cycle.share.waiting for cycle in cycles) > self._limits.body_held

    def _resume(self) -> None:
        if self.reading_paused and not self.lost:
            self.reading_paused = False
            self._transport.resume_reading()
            self._be_patient(progress=True)

    # What a cycle calls

    def body_taken(self, cycle: Cycle) -> None:
        """Read on once the app has made room."""
        if not self.reading_paused:
            return
        scarce = self._server.budget.scarce
        if not cycle.share.in_use if scarce else cycle.share.waiting <= self._limits.body_held // 2:
            self._resume()

    def write(self, data: bytes) -> None:
        """Write bytes, or nothing when the peer is gone."""
        if not self.lost:
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the peer has read enough."""
        if self._writable is not None:
            await self._writable
            if self.lost:
                raise PeerGone

    async def send_file(self, file: BinaryIO, offset: int, count: int) -> None:
        """Send a stretch of a file."""
        try:
            await self._flush()
        except PeerGone:
            raise PeerGone(count) from None
        descriptor = self._transport.get_extra_info("socket").fileno()
        self._sender = FileSender(descriptor, file, offset, count, lambda: self._be_patient(progress=True))
        self._be_patient(progress=True)
        try:
            await self._sender.run()
        finally:
            self._sender = None
            self._be_patient()

    async def _flush(self) -> None:
        """Wait until the socket has taken all that was written, so that other bytes may follow it."""
        if self._transport.get_write_buffer_size():
            self._transport.set_write_buffer_limits(high=0)
            await self.drain()
            self._transport.set_write_buffer_limits()
        if self._transport.is_closing():
            raise PeerGone

    def cycle_done(self, cycle: Cycle) -> None:
        """Go on with the next request, or end the connection."""
        self._active = self._task = None
        if self.lost:
            return
        unread = cycle is self.requests.reading
        if unread or not cycle.keep_alive:
            self._end(cleanly=cycle.finished or cycle.severed, sending=unread and not cycle.severed)
        elif self._queue:
            self._start(self._queue.popleft())
            self._resume()
        elif self._rejection is not None:
            self._answer_rejection(*self._rejection)
        elif self.peer_ended or self.stopping:
            self._close()
        else:
            self._be_patient()

    async def reset(self) -> int:
        """End the connection with a reset, once the peer has what was written; return the bytes it lacks."""
        try:
            await self._flush()
        except PeerGone:
            return 0
        peer = self._transport.get_extra_info("socket")
        lacking = await acknowledged(peer, self._limits.linger_time)
        reset_on_close(peer)
        self._transport.abort()
        return lacking

    # Ends

    def _drop_queue(self) -> None:
        """Forget the requests that will not be answered."""
        for cycle in self._queue:
            cycle.drop()
        self._queue.clear()

    def _start(self, cycle: Cycle) -> None:
        self._active = cycle
        self._task = self._loop.create_task(cycle.run(self._server.app))

    def _refuse(self, status: int, message: str) -> None:
        """Take no more requests. The app answers for a body that is cut; for a bad head we answer."""
        self.requests.close()
        if self.requests.reading is not None:
            self.requests.reading.cut(status)
        elif self._active is None:
            self._answer_rejection(status, message)
        else:
            self._rejection = (status, message)

    def _answer_rejection(self, status: int, message: str) -> None:
        method = self.requests.method
        answer, count = encode_error(status, message, bare=method == "HEAD")
        self.write(answer)
        self._server.rejected(method, self.requests.target, status, count)
        self._end(cleanly=True, sending=True)

    def _end(self, *, cleanly: bool, sending: bool) -> None:
        """Close. A peer that still sends would lose the answer to a reset, so its bytes are taken first.

        TLS has no end of one direction alone: there, only a peer that may really be sending is waited for.
        """
        self.requests.close()
        self._drop_queue()
        if self.peer_ended or not cleanly or not (sending or self._beneath is None):
            self._close()
            return
        self._lingering = True
        if self._beneath is None:
            try:
                self._transport.write_eof()
            except OSError:  # the peer was faster
                self._transport.abort()
        self._resume()
        self._be_patient()

    def stop(self) -> None:
        """Close now if nothing is under way, else after it."""
        if self._active is None:
            self._close()

    def _close(self) -> None:
        """Send what is left, and close. TLS says goodbye, but does not wait for the peer to say it too."""
        self._transport.close()
        if self._beneath is not None:
            self._beneath.close()

    def abort(self) -> asyncio.Task[None] | None:
        """Close at once; return the task that ends with it."""
        self._transport.abort()
        if self._task is not None:
            self._task.cancel()
        return self._task

    # Patience

    def _be_patient(self, *, progress: bool = False) -> None:
        """Set the deadline for what is waited for now; only progress of a body or a file renews it."""
        patience = self.awaited
        renewed = progress and patience in (Patience.BODY, Patience.WRITE)
        if patience is not self._patience or renewed:
            self._patience = patience
            self.deadline = self._loop.time() + self._limits.seconds(patience)

    def lose_patience(self) -> None:
        """Act on a deadline that has passed."""
        match self._patience:
            case Patience.BODY:
                self._refuse(408, "the body did not arrive in time")
            case Patience.HEAD:
                self._refuse(408, "the head did not arrive in time")
            case Patience.IDLE:
                self._close()
            case Patience.LINGER | Patience.WRITE:
                self._transport.abort()
        self._be_patient()
