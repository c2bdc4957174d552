"""The body of a response on its way.

Owns its framing by length, by chunks and by the end of the connection (RFC 9112, 6.3), and the two ways
to read it: in the event loop, as httpx has it, and in a thread. Must not know what the body is, or who counts
it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from regsim.store.protocols import CHUNK
from regsim.store.relay import Relay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from regsim.net.head import Head
    from regsim.net.line import Line
    from regsim.store.protocols import Taker
    from regsim.store.relay import Threads

# Pieces of what the event loop reads: little comes beyond what was wanted.
_SMALL = 32 * 1024
_CHUNKED = 256 * 1024


class Incoming(httpx.AsyncByteStream):
    """The body of a response. It is read once, and closed by the caller.

    Args:
        line: where it comes from.
        head: of the response.
        rest: what came with the head.
        seconds: the longest silence.
        threads: where `pour` reads.
        done: called once, with whether the body was read to its end and nothing came after it.
    """

    def __init__(
        self,
        line: Line,
        head: Head,
        rest: bytes,
        *,
        seconds: float | None,
        threads: Threads,
        done: Callable[[bool], None],
    ) -> None:
        self._line = line
        self._head = head
        self._seconds = seconds
        self._threads = threads
        self._done = done
        self._left = head.length
        self._whole = self._over = False
        self._excess = False
        self._failure: httpx.TransportError | None = None
        self._pending = memoryview(b"")
        chunked = head.chunked and head.length is None
        self._raw: memoryview | None = memoryview(bytearray(_CHUNKED)) if chunked else None
        self._take_in(memoryview(rest))
        if head.length == 0:
            self._end()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives.

        Raises:
            ReadError, ReadTimeout: the connection broke or fell silent.
            RemoteProtocolError: the body is shorter than announced, or badly framed.
        """
        buffer = memoryview(bytearray(_SMALL if self._size is None else min(_SMALL, self._size)))
        try:
            while (count := self._some(buffer)) != 0:
                if count is None:
                    await self._line.readable(self._seconds)
                    continue
                if self._whole and not self._pending:
                    # Before the last piece is handed on: its reader need not come back.
                    self._end()
                yield bytes(buffer[:count])
            if self._failure:
                raise self._failure
            self._end()
        finally:
            await self.aclose()

    async def pour(
        self, takers: Sequence[Taker], arrived: Callable[[int], object], *, block: int = CHUNK
    ) -> None:
        """Hand the body to `takers`, in threads, past the event loop.

        It has ended when this returns, also when cancelled: then the connection is hung up.

        Args:
            takers: each is handed every piece, in order; a piece is theirs until they return.
            arrived: called in a thread with the number of bytes that arrived, before they are handed on.
            block: bytes that are handed on at once, at most.

        Raises:
            ReadError, ReadTimeout, RemoteProtocolError: as from iteration.
            Exception: what a taker raised, or `arrived`.
        """

        def fill(buffer: memoryview) -> int:
            count = self._fill(buffer)
            arrived(count)
            return count

        try:
            if self._threads.closed:
                raise httpx.ReadError("the client is closed")
            with self._line.lent():
                await self._threads.run(Relay(fill, self._size, takers, block), self._line.hang_up)
            if self._whole:
                self._end()
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Let go of the response: a body that was not read costs the connection."""
        self._whole = False
        self._end()

    @property
    def _size(self) -> int | None:
        return None if self._left is None else self._left + len(self._pending)

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._done(self._whole and not self._excess)

    # Framing

    def _some(self, buffer: memoryview) -> int | None:
        """Read what has arrived of the body; None if nothing has, 0 at its end or at a failure."""
        try:
            while not self._pending:
                if self._whole or self._failure:
                    return 0
                if self._raw is None:
                    view = buffer if self._left is None else buffer[: self._left]
                    count = self._line.take(view)
                    if self._left is not None and count == 0:
                        raise httpx.RemoteProtocolError(f"the body ended {self._left} bytes early")
                    if self._left is not None and count:
                        self._left -= count
                    self._whole = self._left == 0 or count == 0
                    return count
                count = self._line.take(self._raw)
                if count is None:
                    return None
                if count == 0:
                    raise httpx.RemoteProtocolError("the body ended in the middle of a chunk")
                self._take_in(self._raw[:count])
        except httpx.TransportError as error:
            self._failure = error
            return 0
        count = min(len(self._pending), len(buffer))
        buffer[:count], self._pending = self._pending[:count], self._pending[count:]
        return count

    def _take_in(self, data: memoryview) -> None:
        """Take the body's bytes out of what came with the head, or in chunks."""
        if self._raw is not None:
            pieces, self._whole = self._head.unchunk(data)
            self._pending = memoryview(b"".join(pieces))
            self._excess = self._head.excess
        elif self._left is None:
            self._pending = data
        else:
            self._pending, self._excess = data[: self._left], len(data) > self._left
            self._left -= len(self._pending)
            self._whole = self._left == 0

    # In a thread

    def _fill(self, buffer: memoryview) -> int:
        """Read what has arrived, once something has; 0 at the end."""
        count = 0
        while count < len(buffer):
            taken = self._some(buffer[count:])
            if taken:
                count += taken
            elif count or (taken == 0 and not self._failure):
                break
            elif self._failure:
                raise self._failure
            elif not self._line.poll(self._seconds):
                raise httpx.ReadTimeout("no progress in time")
        return count
