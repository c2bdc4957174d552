"""An answer whose body is still on its way.

Owns the body's framing by length, by chunks and by the end of the connection (RFC 9112, 6.3). Must not know
what the body is, or who counts it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regsim.net.drain import Drain
from regsim.net.errors import PeerProtocolError, WireError
from regsim.store.protocols import CHUNK

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from regsim.net.connection import Connection
    from regsim.net.head import Head
    from regsim.net.request import Header
    from regsim.store.protocols import Taker

_CHUNKED = 256 * 1024


class Reply:
    """An answer. Whoever gets it closes it; the connection serves again once the body has been read.

    Args:
        connection: is freed or closed.
        head: the answer's.
        rest: what came with the head.
        seconds: the longest silence.
    """

    def __init__(self, connection: Connection, head: Head, rest: bytes, seconds: float | None) -> None:
        self._connection = connection
        self._line = connection.line
        self._head = head
        self._rest = rest
        self._seconds = seconds
        self._left = head.length
        self._over = False
        if self._left == 0:
            self._end(clean=not rest)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._head.status

    @property
    def reason(self) -> bytes:
        """The words behind the status."""
        return self._head.reason

    @property
    def version(self) -> bytes:
        """Such as `HTTP/1.1`."""
        return self._head.version

    @property
    def headers(self) -> list[Header]:
        """As they came."""
        return self._head.headers

    async def pieces(self, block: int = CHUNK) -> AsyncGenerator[bytes, None]:
        """Yield the body once, in pieces of `block` bytes where it has a length, else as it comes.

        What arrived before a failure is yielded before it is raised.

        Raises:
            ReadError, ReadTimeoutError: the connection broke or fell silent.
            PeerProtocolError: the body is shorter than it says, or no body.
        """
        try:
            if self._over:
                return
            body = self._chunks() if self._head.chunked else self._octets(block)
            async for piece in body:
                yield piece
        finally:
            self.close()

    @property
    def drainable(self) -> bool:
        """Whether the body can be drained: its length is known, and none of it has been read."""
        return not self._over and self._left is not None

    async def drain(self, takers: Sequence[Taker], count: Callable[[int], None]) -> None:
        """Hand the body to `takers`, in threads, past the event loop; only where it is `drainable`.

        Args:
            takers: each is handed every piece, in order; a piece is theirs until they return.
            count: told how many bytes were read, at the end or when it fails.

        Raises:
            ReadError, ReadTimeoutError, PeerProtocolError: as from `pieces`.
            Exception: what a taker raised.
        """
        rest, left = self._rest[: self._left], self._left or 0
        drain = Drain(self._line, rest, left - len(rest), self._seconds)
        try:
            await drain.run(takers, self._connection.threads)
            self._end(clean=len(self._rest) <= left)
        finally:
            count(drain.count)
            self.close()

    def close(self) -> None:
        """Let go: what has not been read costs the connection. Any number of calls are harmless."""
        self._end(clean=False)

    def _end(self, *, clean: bool) -> None:
        if not self._over:
            self._over = True
            self._connection.finish(clean=clean)

    async def _octets(self, block: int) -> AsyncGenerator[bytes, None]:
        buffer = memoryview(bytearray(block if self._left is None else min(block, self._left)))
        while not self._over:
            window = buffer if self._left is None else buffer[: self._left]
            count, failure = await self._fill(window)
            if self._left is not None:
                self._left -= count
            if self._left == 0:
                # Before the last piece is handed on: whoever has it all need not come back.
                self._end(clean=not self._rest)
            if count:
                yield bytes(window[:count])
            if failure is not None:
                raise failure

    async def _fill(self, window: memoryview) -> tuple[int, WireError | None]:
        """Read until the window is full; less than that comes with what went wrong, or at the end."""
        count = min(len(self._rest), len(window))
        window[:count], self._rest = self._rest[:count], self._rest[count:]
        try:
            while count < len(window):
                taken = self._line.take(window[count:])
                if taken is None:
                    await self._line.readable(self._seconds)
                elif taken == 0:
                    return count, self._ended(len(window) - count)
                else:
                    count += taken
        except WireError as failure:
            return count, failure
        return count, None

    def _ended(self, missing: int) -> PeerProtocolError | None:
        if self._left is None:
            self._end(clean=False)
            return None
        missing += self._left - missing
        return PeerProtocolError(f"the body ended {missing} bytes early")

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        buffer = memoryview(bytearray(_CHUNKED))
        data: bytes | memoryview = self._rest
        while not self._over:
            pieces, complete = self._head.unchunk(data)
            if complete:
                self._end(clean=not self._head.excess)
            if pieces:
                yield b"".join(pieces)
            if not complete:
                data = buffer[: await self._some(buffer)]

    async def _some(self, buffer: memoryview) -> int:
        while (count := self._line.take(buffer)) is None:
            await self._line.readable(self._seconds)
        if count == 0:
            raise PeerProtocolError("the body ended in the middle of a chunk")
        return count
