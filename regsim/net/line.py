"""A line to a peer: bytes over a non-blocking socket, plain or through TLS.

Owns the socket, and every wait on it. Must not know HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import select
import socket
import ssl
import struct
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        self._closed = self._lent = False

    async def secure(self, context: ssl.SSLContext, name: str) -> None:
        """Speak TLS from here on. The caller sets the deadline.

        Args:
            context: decides about the certificate.
            name: of the peer, or its bare address; sent to it (SNI) and checked against its certificate.

        Raises:
            ConnectError: the peer is not trusted, or does not speak TLS.
        """
        try:
            # Ragged ends are errors, since they may have cut a body without length short.
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
            self._loop.add_reader(self._number, _wake, waiter)
        if write:
            self._loop.add_writer(self._number, _wake, waiter)
        try:
            await waiter
        finally:
            if timer is not None:
                timer.cancel()
            self._forget()

    def _forget(self) -> None:
        # At once, and never behind close(): the number may be another socket's by then.
        if self._waiter is not None:
            self._waiter = None
            self._loop.remove_reader(self._number)
            self._loop.remove_writer(self._number)

    # In a thread

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Leave `take`, `give` and `poll` to a thread, which has ended when the context is left."""
        self._lent = True
        try:
            yield
        finally:
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
            # room, and go on waiting for a minute: nothing tells it that reading has ended.
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
