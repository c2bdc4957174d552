"""One connection: octets in, requests out, in order.

Owns parsing, pipelining, back-pressure, patience and the end of a connection. Must not know what a request
means.
"""

import asyncio
import contextlib
import re
import socket
from collections import deque
from enum import Enum, auto
from http import HTTPMethod
from typing import TYPE_CHECKING, BinaryIO, cast

import httptools

from mock_registry.asgi import PeerGone

from .budget import Share
from .cycle import Cycle
from .file_sender import FileSender
from .head import Head, HeadRefused
from .reset import acknowledged, reset_on_close
from .wire import Names, encode_error

if TYPE_CHECKING:
    from .server import Server

_REQUEST_LINE = re.compile(rb"^([!#-'*+.^_`|~0-9A-Za-z-]+) \S+ HTTP/1\.[01]\r?$", re.MULTILINE)
_METHODS = frozenset(method.value.encode() for method in HTTPMethod)

_UNSENT = 1 << 17


def _keep_queue_short(peer: socket.socket | None) -> None:
    """Let the kernel take only 128 KiB ahead of the peer.

    What is sent is then still in the processor's cache when the peer reads it, which doubles the speed over
    loopback, and an account of a response broken off is that much nearer to what the peer got.
    """
    if peer is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        with contextlib.suppress(OSError):  # not TCP
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)


def _names_unknown_method(data: bytes) -> bool:
    """Tell a request of an unknown method from garbage, both of which the parser calls a bad method."""
    return any(method not in _METHODS for method in _REQUEST_LINE.findall(data))


class Patience(Enum):
    """What a connection waits for, each with its own time in `Limits`."""

    BODY = auto()
    HEAD = auto()
    IDLE = auto()
    LINGER = auto()
    NOTHING = auto()
    WRITE = auto()


class Connection(asyncio.Protocol):
    """One peer.

    Args:
        server: Whose peer it is.
        beneath: The transport that TLS runs over, where it does.

    Attributes:
        deadline: Loop time at which patience ends; the server looks at it once in a while.
        lost: The socket is gone; what is written goes nowhere.
        names: How header names are written.
    """

    def __init__(self, server: "Server", beneath: asyncio.Transport | None = None) -> None:
        self._server = server
        self._beneath = beneath
        self._limits = server.limits
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._head: Head
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._active: Cycle | None = None
        self._task: asyncio.Task[None] | None = None
        self._queue: deque[Cycle] = deque()
        self._reading: Cycle | None = None
        self._raw_left = 0
        self._discarded = 0
        self._fresh = True
        self._paused = False
        self._lingering = False
        self._ended = False
        self._sender: FileSender | None = None
        self._writable: asyncio.Future[None] | None = None
        self._rejection: tuple[int, str] | None = None
        self._patience = Patience.NOTHING
        self.deadline = float("inf")
        self.lost = False
        self.names: Names = server.names

    @property
    def stopping(self) -> bool:
        """The server takes no further requests."""
        return self._server.stopping

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a new peer."""
        self._transport = cast("asyncio.Transport", transport)
        self._head = Head(
            self._limits,
            scheme=self._server.scheme,
            client=transport.get_extra_info("peername"),
            server=transport.get_extra_info("sockname"),
        )
        self._server.connections.add(self)
        _keep_queue_short(transport.get_extra_info("socket"))
        self._be_patient()

    def data_received(self, data: bytes) -> None:
        """Take octets from the peer."""
        if self._raw_left:
            data = self._take_raw(data)
        if data:
            self._parse(data)
        if len(self._queue) > self._limits.pipeline or self._holds_much():
            self._pause()
        self._be_patient(progress=True)

    def eof_received(self) -> bool:
        """Take the end of what the peer sends; it may still read."""
        self._ended = True
        if self._beneath is not None:  # asyncio lets nobody write after the peer's goodbye
            self._leave()
            return False
        if self._lingering or (self._active is None and not self._head.begun):
            return False
        if self._parser is not None and (self._reading is not None or self._head.begun):
            self._reject(400, "the request ended early")
        if self._active is not None and self._active.body_complete:
            self._active.cut(None)  # an app that waits, rather than answers, may give up
        self._parser = None
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        """Take the end of the connection."""
        self._leave()
        self._server.connections.discard(self)
        self._server.check_idle()

    def _leave(self) -> None:
        """Let everyone know that the peer is gone."""
        self.lost = True
        self._parser = None
        self._drop_queue()
        for cycle in (self._active, self._reading):
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

    # What the parser calls

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._head.begin(alone=self._fresh)
        self._fresh = False

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        if self._parser is not None and not self._head.method:
            self._head.method = self._parser.get_method().decode("ascii")
        self._head.add_target(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; after the head, it is a trailer, which nobody reads."""
        if self._reading is None:
            self._head.add(name, value)

    def on_headers_complete(self) -> None:
        """Turn the head into a cycle, to be started when those before it are done."""
        parser = self._parser
        if parser is None:  # the head before this one was refused
            return
        if self._reading is not None:  # only its framing, said again: see `_decline`
            self._head.begun = False
            return
        scope = self._head.complete(parser.get_http_version())
        cycle = Cycle(
            self,
            scope,
            keep_alive=parser.should_keep_alive(),
            expects_continue=self._head.expects_continue,
            content_length=self._head.content_length,
            share=Share(self._server.budget, self._limits.body_gathered),
        )
        self._reading = cycle
        if self._active is None:
            self._start(cycle)
        else:
            self._queue.append(cycle)

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        if self._reading is not None:
            self._reading.feed(body)

    def on_message_complete(self) -> None:
        """End the request, unless its body follows an offer to speak another protocol."""
        if self._reading is not None and not (self._head.framing and self._offered()):
            self._reading.end()
            self._reading = None

    def _offered(self) -> bool:
        return self._parser is not None and self._parser.should_upgrade()

    # Reading

    def _parse(self, data: bytes) -> None:
        while self._parser is not None:
            self._fresh = self._reading is None and not self._head.begun
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                self._decline()
            except httptools.HttpParserError as error:
                self._reject(*self._judge(error, data))
                return
            else:
                self._after(data)
                return
        self._discard(len(data))

    def _decline(self) -> None:
        """Go on with HTTP/1.1 after an offer to speak another protocol, which is none here.

        The parser stops at the end of such a head. What follows is its body, if it has one, for which another
        parser is told the framing; else it is the next request.
        """
        self._parser = httptools.HttpRequestParser(self)
        if self._reading is not None:
            self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % self._head.framing)

    def _after(self, data: bytes) -> None:
        """Bound a head that comes in pieces, and leave the parser out where a body's length is known."""
        if self._head.begun:
            try:
                self._head.grow(len(data))
            except HeadRefused as refused:
                self._reject(refused.status, str(refused))
        elif self._reading is not None and self._reading.content_length is not None:
            self._raw_left = self._reading.content_length - self._reading.received

    def _take_raw(self, data: bytes) -> bytes:
        """Hand octets to the body as they are, without the parser's copy, and return what is behind it."""
        body, rest = data[: self._raw_left], data[self._raw_left :]
        self._raw_left -= len(body)
        self.on_body(body)
        if not self._raw_left:
            self.on_message_complete()
            if self._parser is not None:
                self._parser = httptools.HttpRequestParser(self)
        return rest

    def _judge(self, error: httptools.HttpParserError, data: bytes) -> tuple[int, str]:
        refused = error.__context__
        if isinstance(refused, HeadRefused):
            return refused.status, str(refused)
        if isinstance(error, httptools.HttpParserInvalidMethodError) and _names_unknown_method(data):
            return 501, "unknown method"
        return 400, f"not HTTP/1.1: {error}"

    def _discard(self, count: int) -> None:
        self._discarded += count
        if self._discarded > self._limits.linger:
            self._transport.abort()

    def _holds_much(self) -> bool:
        """Tell whether the peer's next octets should wait until the app has got further."""
        cycles = [*self._queue]
        if self._reading is not None and self._reading not in cycles:
            cycles.append(self._reading)
        if self._server.budget.scarce:
            return any(cycle.share.in_use for cycle in cycles)
        return sum(cycle.share.waiting for cycle in cycles) > self._limits.body_held

    def _pause(self) -> None:
        if not self._paused and not self.lost:
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and not self.lost:
            self._paused = False
            self._transport.resume_reading()
            self._be_patient(progress=True)

    # What a cycle calls

    def body_taken(self, cycle: Cycle) -> None:
        """Read on once the app has made room."""
        if not self._paused:
            return
        scarce = self._server.budget.scarce
        if not cycle.share.in_use if scarce else cycle.share.waiting <= self._limits.body_held // 2:
            self._resume()

    def date_line(self) -> bytes:
        """Return the Date header's line."""
        return self._server.date.line()

    def write(self, data: bytes) -> None:
        """Write octets, or nothing when the peer is gone."""
        if not self.lost:
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the peer has read enough.

        Raises:
            PeerGone: It never will.
        """
        if self._writable is not None:
            await self._writable
            if self.lost:
                raise PeerGone

    async def send_file(self, file: BinaryIO, offset: int, count: int) -> None:
        """Send a stretch of a file.

        Raises:
            PeerGone: The peer is gone; ``unsent`` is exact.
        """
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
        """Wait until the socket has taken all that was written, so that other octets may follow it."""
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
        if not cycle.keep_alive or cycle is self._reading:
            sending = cycle is self._reading and not cycle.severed
            self._end(cleanly=cycle.finished or cycle.severed, sending=sending)
        elif self._queue:
            self._start(self._queue.popleft())
            self._resume()
        elif self._rejection is not None:
            self._answer_rejection(*self._rejection)
        elif self._ended or self.stopping:
            self._close()
        else:
            self._be_patient()

    async def reset(self) -> int:
        """End the connection with a reset, once the peer has what was written; return the octets it lacks."""
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
        """Forget the requests that nobody will answer."""
        for cycle in self._queue:
            cycle.drop()
        self._queue.clear()

    def _start(self, cycle: Cycle) -> None:
        self._active = cycle
        self._task = self._loop.create_task(cycle.run(self._server.app))

    def _reject(self, status: int, message: str) -> None:
        """Take no more requests. The app answers for a body that is cut; for a bad head we answer."""
        self._parser = None
        self._raw_left = 0
        if self._reading is not None:
            self._reading.cut(status)
        elif self._active is None:
            self._answer_rejection(status, message)
        else:
            self._rejection = (status, message)

    def _answer_rejection(self, status: int, message: str) -> None:
        bare = self._head.method == "HEAD"  # which never gets a body, not even of an error
        answer, count = encode_error(status, message, self.date_line(), bare=bare)
        self.write(answer)
        self._server.rejected(self._head.method, self._head.target, status, count)
        self._end(cleanly=True, sending=True)

    def _end(self, *, cleanly: bool, sending: bool) -> None:
        """Close. A peer that still sends would lose the answer to a reset, so its octets are taken first.

        TLS has no end of one direction alone: there, only a peer that may really be sending is waited for.
        """
        self._parser = None
        self._drop_queue()
        if self._ended or not cleanly or not (sending or self._beneath is None):
            self._close()
            return
        self._lingering = True
        self._raw_left = 0
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
        """Close without waiting for anyone; return the task that ends with it."""
        self._transport.abort()
        if self._task is not None:
            self._task.cancel()
        return self._task

    # Patience

    def _be_patient(self, *, progress: bool = False) -> None:
        """Set the deadline for what is waited for now; only progress of a body or a file renews it."""
        patience = self._awaited()
        renewed = progress and patience in (Patience.BODY, Patience.WRITE)
        if patience is not self._patience or renewed:
            self._patience = patience
            self.deadline = self._loop.time() + self._server.times[patience]

    def _awaited(self) -> Patience:
        if self.lost:
            return Patience.NOTHING
        if self._lingering:
            return Patience.LINGER
        if self._writable is not None or self._sender is not None:
            return Patience.WRITE
        if self._reading is not None and self._parser is not None:
            return Patience.NOTHING if self._paused else Patience.BODY
        if self._active is not None:
            return Patience.NOTHING
        return Patience.HEAD if self._head.begun else Patience.IDLE

    def lose_patience(self) -> None:
        """Act on a deadline that has passed."""
        match self._patience:
            case Patience.BODY:
                self._reject(408, "the body did not arrive in time")
            case Patience.HEAD:
                self._reject(408, "the head did not arrive in time")
            case Patience.IDLE:
                self._close()
            case Patience.LINGER | Patience.WRITE:
                self._transport.abort()
            case Patience.NOTHING:
                pass
        self._be_patient()
