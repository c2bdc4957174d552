"""A connection to an origin: one exchange at a time (RFC 9112).

Owns the order of things on a connection, and whether it can serve another exchange.
Must not know which connections there are, or who dials again.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

import httpx

from regsim.net.body import Incoming
from regsim.net.head import Head, chunk, request_head, request_length

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from regsim.net.address import Origin
    from regsim.net.line import Line
    from regsim.store.relay import Threads

# A body up to this size is sent in one piece with its head; joining more would cost a copy.
_ONE_PIECE = 32 * 1024
_SCRATCH = 64 * 1024
_DEATHS = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)


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
        self._rest, self._usable = None, True
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
