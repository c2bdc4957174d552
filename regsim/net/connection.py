"""A connection to an origin: its socket, and one exchange at a time (RFC 9112).

Owns the order of things on a connection, every wait on its socket, and whether it can serve another exchange.
Must not know which connections there are, or who dials again.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import select
import socket
import ssl
import struct
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

import httpx

from regsim.net.body import Incoming
from regsim.net.head import Head, chunk, request_head, request_length

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from regsim.net.address import Origin
    from regsim.store.relay import Threads

# A body up to this size is sent in one piece with its head; joining more would cost a copy.
_ONE_PIECE = 32 * 1024
_SCRATCH = 64 * 1024
_DEATHS = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
_CLOSED = "the connection was closed"
_NOT_YET = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Line:
    """An open socket to a peer, plain or through TLS, with every wait on it.

    What is not awaited is not read, which is all the back-pressure there is. It has one user at a time.

    Args:
        sock: connected and non-blocking; closed with this.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._number = sock.fileno()
        self._waiter: asyncio.Future[None] | None = None
        self._reading = self._writing = False
        self._closed = self._lent = False

    async def secure(self, context: ssl.SSLContext, name: str) -> None:
        """Speak TLS from here on. The caller sets the deadline.

        Args:
            context: decides about the certificate.
            name: of the peer, or its bare address; told to it (SNI) and looked for in its certificate.

        Raises:
            ConnectError: the peer is not trusted, or does not speak TLS.
        """
        try:
            # Ragged ends are told, since by them a body without length may have been cut short.
            self._sock = sock = context.wrap_socket(
                self._sock, server_hostname=name, do_handshake_on_connect=False, suppress_ragged_eofs=False
            )
            while True:
                try:
                    sock.do_handshake()
                except ssl.SSLWantReadError:
                    await self.wait(read=True)
                except ssl.SSLWantWriteError:
                    await self.wait(write=True)
                else:
                    return
        except (OSError, ValueError) as error:  # ValueError: a name that no certificate can bear
            words = str(error)
            raise httpx.ConnectError(words if "SSL" in words else f"SSL: {words}") from error

    def take(self, view: memoryview) -> int | None:
        """Read what has arrived, at most as much as fits; None if nothing has, 0 at the end.

        Raises:
            ReadError: the connection broke.
        """
        if self._closed:
            raise httpx.ReadError(_CLOSED)
        try:
            return self._sock.recv_into(view)
        except _NOT_YET:
            return None
        except OSError as error:
            raise httpx.ReadError(_reason(error)) from error

    def give(self, view: memoryview) -> int | None:
        """Send as much as the connection takes at once; None if it takes nothing yet.

        Raises:
            WriteError: the connection broke.
        """
        if self._closed:
            raise httpx.WriteError(_CLOSED)
        try:
            return self._sock.send(view)
        except _NOT_YET:
            return None
        except OSError as error:
            raise httpx.WriteError(_reason(error)) from error

    async def readable(self, seconds: float | None) -> None:
        """Wait until something has arrived.

        Raises:
            ReadTimeout: nothing did.
        """
        await self.wait(read=True, seconds=seconds, late=httpx.ReadTimeout)

    async def writable(self, seconds: float | None) -> None:
        """Wait until more can be sent, or something has arrived: a refusal is no reason to go on.

        Raises:
            WriteTimeout: neither.
        """
        await self.wait(read=True, write=True, seconds=seconds, late=httpx.WriteTimeout)

    async def wait(
        self,
        *,
        read: bool = False,
        write: bool = False,
        seconds: float | None = None,
        late: type[httpx.TransportError] = httpx.ReadTimeout,
    ) -> None:
        """Wait for what `read` and `write` ask for, at most so many seconds; then `late` is raised."""
        if self._closed:
            raise httpx.ReadError(_CLOSED)
        self._waiter = waiter = self._loop.create_future()
        timer = None if seconds is None else self._loop.call_later(seconds, _fail, waiter, late)
        if read:
            self._reading = True
            self._loop.add_reader(self._number, _wake, waiter)
        if write:
            self._writing = True
            self._loop.add_writer(self._number, _wake, waiter)
        try:
            await waiter
        finally:
            if timer is not None:
                timer.cancel()
            self._forget()

    def _forget(self) -> None:
        # At once, and never behind close(): the number may be another socket's by then.
        if self._reading:
            self._loop.remove_reader(self._number)
        if self._writing:
            self._loop.remove_writer(self._number)
        self._reading = self._writing = False
        self._waiter = None

    # In a thread

    def lend(self) -> None:
        """Leave `take`, `give` and `poll` to a thread, until `take_back`."""
        self._lent = True

    def take_back(self) -> None:
        """Know that the thread is through with it."""
        self._lent = False
        if self._closed:
            self._sock.close()

    def poll(self, seconds: float | None, *, write: bool = False) -> bool:
        """Wait in a thread until something has arrived (or can be sent, if `write`); False if nothing did."""
        poll = select.poll()
        poll.register(self._number, select.POLLIN | (select.POLLOUT if write else 0))
        return bool(poll.poll(None if seconds is None else math.ceil(seconds * 1000)))

    def hang_up(self) -> None:
        """End both directions, which wakes a thread that polls; the peer learns when this is closed."""
        with contextlib.suppress(OSError):  # the peer was first
            # By a reset. A peer that had filled our window would else hear the end of what we send, wait for
            # room, and go on waiting for a minute: nothing tells it that nobody reads any more.
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # Of the socket below TLS: what TLS keeps is the thread's.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Hang up, and wake the waiting task. Any number of calls are harmless."""
        if self._closed:
            return
        self._closed = True
        waiter = self._waiter
        self._forget()
        if waiter is not None:
            _fail(waiter, httpx.ReadError)
        if self._lent:
            # Its number must stay its own until the thread has let go of it.
            self.hang_up()
        else:
            self._sock.close()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _fail(waiter: asyncio.Future[None], kind: type[httpx.TransportError]) -> None:
    if not waiter.done():
        waiter.set_exception(kind(_CLOSED if kind is httpx.ReadError else "no progress in time"))


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__


class Connection:
    """A connection to an origin.

    Args:
        origin: the peer.
        line: is closed with this.
        threads: for bodies that are read in threads.
        done: called when an exchange is over, and when the connection is closed.

    Attributes:
        origin: the peer.
        idle_since: loop time at which its last exchange ended.
    """

    def __init__(
        self, origin: Origin, line: Line, threads: Threads, done: Callable[[Connection], None]
    ) -> None:
        self.origin = origin
        self.idle_since = 0.0
        self.closed = False
        self._line = line
        self._threads = threads
        self._done = done
        self._scratch = memoryview(bytearray(_SCRATCH))
        self._answers = 0
        self._rest: bytes | None = None  # of the response, once its head is whole
        self._usable = True  # after the current exchange

    @property
    def alive(self) -> bool:
        """Whether an idle connection is still open, as far as the peer has said so far."""
        try:
            quiet = self._line.take(self._scratch[:1]) is None
        except httpx.ReadError:
            return False
        # The end, or bytes that answer nothing, such as a 408 to an idle client.
        return quiet and not self.closed

    async def exchange(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return its response with the body unread. The caller closes it.

        A response that comes before the request was sent completely ends the sending.

        Raises:
            httpx.TransportError: there is no response; the connection is closed. The extension `stale` of the
                request is set if the connection had served before and ended without a byte of a response.
        """
        head, failure = Head(request.method.encode("ascii", "replace")), None
        self._rest, self._usable = None, not _closes(request)
        waits = request.extensions.get("timeout", {})
        try:
            try:
                async with aclosing(_framed(request)) as pieces:
                    async for piece in pieces:
                        view = memoryview(piece)
                        while view and not self._interrupted(head):
                            count = self._line.give(view)
                            if count is None:
                                await self._line.writable(waits.get("write"))
                            else:
                                view = view[count:]
                        if view:
                            self._usable = False
                            break
            except httpx.WriteError as error:
                # A peer that hangs up on a request may have said why; that is still to be read.
                failure, self._usable = error, False
            return await self._receive(head, request, failure)
        except BaseException as error:
            request.extensions["stale"] = self._answers > 0 and not head.begun and isinstance(error, _DEATHS)
            self.close()
            raise

    def close(self) -> None:
        """Hang up. Any number of calls are harmless."""
        if not self.closed:
            self.closed = True
            self._line.close()
            self._done(self)

    def _finish(self, clean: bool) -> None:
        """Note that a body is over; `clean` if it was read to its end and nothing came after it."""
        if not (clean and self._usable):
            self.close()
        elif not self.closed:
            self.idle_since = asyncio.get_running_loop().time()
            self._done(self)

    def _interrupted(self, head: Head) -> bool:
        """Read what the peer says while it is being sent to; True if there is no point in going on."""
        count = self._line.take(self._scratch)
        if not count:
            return count == 0
        self._rest = head.feed(bytes(self._scratch[:count]))
        return self._rest is not None

    async def _receive(
        self, head: Head, request: httpx.Request, failure: httpx.WriteError | None
    ) -> httpx.Response:
        seconds = request.extensions.get("timeout", {}).get("read")
        end, loop = None, asyncio.get_running_loop()
        while self._rest is None:
            count = self._line.take(self._scratch)
            if count is None:
                if head.begun and seconds is not None:
                    # Once begun, the whole head has to come in that time, not just its next byte.
                    end = end or loop.time() + seconds
                    await self._line.readable(max(0.0, end - loop.time()))
                else:
                    await self._line.readable(seconds)
            elif count == 0:
                raise failure or httpx.RemoteProtocolError(
                    "the answer ended in its head" if head.begun else "the connection ended without an answer"
                )
            else:
                self._rest = head.feed(bytes(self._scratch[:count]))
        self._answers += 1
        self._usable &= head.lasting
        return httpx.Response(
            head.status,
            headers=head.headers,
            stream=Incoming(
                self._line, head, self._rest, seconds=seconds, threads=self._threads, done=self._finish
            ),
            extensions={"http_version": head.version, "reason_phrase": head.reason},
        )


async def _framed(request: httpx.Request) -> AsyncGenerator[bytes, None]:
    """Yield a request as it is sent: its head, with a small body in one piece with it."""
    start, left = request_head(request), request_length(request)
    async for data in cast("httpx.AsyncByteStream", request.stream):
        if left is not None:
            left -= len(data)
            if left < 0:
                raise httpx.LocalProtocolError(f"a body turned out to be at least {-left} bytes too long")
        if start and len(data) > _ONE_PIECE:
            yield start
            start = b""
        if data:
            yield start + (data if left is not None else chunk(data))
            start = b""
    if left:
        raise httpx.LocalProtocolError(f"a body ended {left} bytes early")
    if left is None:
        yield start + chunk(b"")
    elif start:
        yield start


def _closes(request: httpx.Request) -> bool:
    return any(
        name.lower() == b"connection" and b"close" in value.lower() for name, value in request.headers.raw
    )
