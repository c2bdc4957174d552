"""One connection, one exchange at a time: a request out, its answer in.

Owns the order of things on a connection (RFC 9112), and whether it can serve another exchange. Must not know
which connections there are, or who redials.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from regsim.net.errors import (
    OwnProtocolError,
    PeerProtocolError,
    ReadError,
    WireError,
    WriteError,
    WriteTimeoutError,
)
from regsim.net.head import Head
from regsim.net.reply import Reply
from regsim.net.request import chunk
from regsim.net.sink import Interrupted, Sink

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable

    from regsim.net.address import Origin
    from regsim.net.line import Line
    from regsim.net.request import Request, Waits
    from regsim.store.relay import Threads

# A body up to this goes out in one piece with its head; beyond, joining them would cost a copy.
_ONE_PIECE = 32 * 1024
_SCRATCH = 64 * 1024
_DEATHS = (ReadError, WriteError, PeerProtocolError)


class Connection:
    """A connection to an origin.

    Args:
        origin: whom it leads to.
        line: is closed with this.
        threads: for bodies that are drained.
        done: called when an exchange is over, and when the connection is closed.

    Attributes:
        origin: whom it leads to.
        idle_since: loop time since which nobody has used it.
    """

    def __init__(
        self, origin: Origin, line: Line, threads: Threads, done: Callable[[Connection], None]
    ) -> None:
        self.origin = origin
        self.line = line
        self.threads = threads
        self.idle_since = 0.0
        self._done = done
        self._scratch = memoryview(bytearray(_SCRATCH))
        self._answers = 0
        self._early: bytes | None = None  # of a body whose head came while the request was sent
        self._usable = True  # behind the exchange under way
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether it can serve no further exchange."""
        return self._closed

    @property
    def alive(self) -> bool:
        """Whether an idle connection still stands, as far as the peer has said so far."""
        try:
            quiet = self.line.take(self._scratch[:1]) is None
        except ReadError:
            return False
        # The end, or octets that answer nothing, such as a 408 to an idle client.
        return quiet and not self._closed

    async def exchange(self, request: Request) -> Reply:
        """Send a request and return its answer, the body unread. Whoever gets it closes it.

        An answer that comes before the request was sent whole ends the sending.

        Raises:
            WireError: there is no answer; the connection is closed.
        """
        self._early = None
        self._usable = not request.last
        head = Head(request.method)
        try:
            failure = await self._send(request, head)
            rest = await self._receive(head, request.waits, failure)
            self._answers += 1
            self._usable &= head.lasting
            return Reply(self, head, rest, request.waits.read)
        except BaseException as error:
            if isinstance(error, WireError):
                error.stale = self._answers > 0 and not head.begun and type(error) in _DEATHS
            self.close()
            raise

    def finish(self, *, clean: bool) -> None:
        """Note that the answer has been read to its end; `clean` if nothing came behind it."""
        if not (clean and self._usable):
            self.close()
        elif not self._closed:
            self.idle_since = asyncio.get_running_loop().time()
            self._done(self)

    def close(self) -> None:
        """Hang up. Any number of calls are harmless."""
        if not self._closed:
            self._closed = True
            self.line.close()
            self._done(self)

    # Sending

    async def _send(self, request: Request, head: Head) -> WriteError | None:
        """Send a request, as far as the peer wants it; return what broke it off, if something did."""
        start, length = request.head(), request.length
        try:
            if request.feed is not None and length:
                sink = Sink(self.line, start, length, request.waits.write, lambda: self._interrupted(head))
                last = await sink.take_from(request.feed)
                await self._give_both(sink.start, last, request.waits, head)
            elif request.body is None:
                if length != 0:
                    raise OwnProtocolError("a body was announced, and there is none")
                await self._give(start, request.waits, head)
            elif length is None:
                await self._send_chunks(start, request.body, request.waits, head)
            else:
                await self._send_sized(start, request.body, length, request.waits, head)
        except Interrupted:
            self._usable = False
        except WriteTimeoutError:
            raise
        except WriteError as error:
            # A peer that hangs up on a request may have said why; that is still to be read.
            self._usable = False
            return error
        return None

    async def _send_sized(
        self, start: bytes, body: AsyncIterable[bytes], length: int, waits: Waits, head: Head
    ) -> None:
        left = length
        async for data in body:
            left -= len(data)
            if left < 0:
                raise OwnProtocolError(f"a body of {length} bytes turned out to be longer")
            await self._give_both(start, data, waits, head)
            start = b""
        if left:
            raise OwnProtocolError(f"a body of {length} bytes ended {left} bytes early")
        if start:
            await self._give(start, waits, head)

    async def _send_chunks(self, start: bytes, body: AsyncIterable[bytes], waits: Waits, head: Head) -> None:
        await self._give(start, waits, head)
        async for data in body:
            if data:
                await self._give(chunk(data), waits, head)
        await self._give(chunk(b""), waits, head)

    async def _give_both(self, start: bytes, data: bytes, waits: Waits, head: Head) -> None:
        if start and len(data) <= _ONE_PIECE:
            await self._give(start + data, waits, head)
            return
        await self._give(start, waits, head)
        await self._give(data, waits, head)

    async def _give(self, data: bytes, waits: Waits, head: Head) -> None:
        """Send octets.

        Raises:
            Interrupted: the peer has answered already, or has nothing more to say.
            WriteError: the connection broke.
        """
        view, line = memoryview(data), self.line
        while view:
            if self._interrupted(head):
                raise Interrupted
            count = line.give(view)
            if count is None:
                await line.writable(waits.write)
            else:
                view = view[count:]

    def _interrupted(self, head: Head) -> bool:
        """Read what the peer says while it is being spoken to; True if there is no point in going on."""
        count = self.line.take(self._scratch)
        if not count:
            return count == 0
        self._early = head.feed(bytes(self._scratch[:count]))
        return self._early is not None

    # Receiving

    async def _receive(self, head: Head, waits: Waits, failure: WriteError | None) -> bytes:
        """Read the answer's head; return what came of its body with it."""
        line, scratch = self.line, self._scratch
        rest, end, loop = self._early, None, asyncio.get_running_loop()
        while rest is None:
            count = line.take(scratch)
            if count is None:
                if head.begun and waits.read is not None:
                    # Once begun, the whole head has to come in that time, not just its next byte.
                    end = end or loop.time() + waits.read
                    await line.readable(max(0.0, end - loop.time()))
                else:
                    await line.readable(waits.read)
            elif count == 0:
                raise failure or PeerProtocolError(
                    "the answer ended in its head" if head.begun else "the connection ended without an answer"
                )
            else:
                rest = head.feed(bytes(scratch[:count]))
        return rest
