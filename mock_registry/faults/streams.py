"""Bodies as streams that effects can be put into, in both directions.

Owns pulling bytes from the peer or from a blob through a row of stages. Each stage reads no more from the
one before it than it passes on, so that the peer feels its pace and the counts are exact. Must not know any
fault.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from mock_registry.asgi import Message, Receive
from mock_registry.exchange import BATCH, Response, Severed
from mock_registry.storage import Reader

_AHEAD = 1 << 16
"""Bytes of a request's body that are read ahead during a wait, where only reading shows that the peer has
left. With more, a client would not notice a slow registry."""


class Refused(Exception):  # noqa: N818 (a decided answer)
    """The request is answered while its body is still arriving.

    Args:
        response: The answer.
        drain: Read the rest of the body first.
    """

    def __init__(self, response: Response, *, drain: bool) -> None:
        super().__init__("answered while the body was arriving")
        self.response = response
        self.drain = drain


class Gone(Exception):  # noqa: N818 (what the peer did)
    """The request's body ended early; ``message`` is the server's event."""

    def __init__(self, message: Message) -> None:
        super().__init__("the peer is gone")
        self.message = message


class Source(Protocol):
    """A body, in order."""

    async def read(self, most: int) -> bytes:
        """Return the next bytes, at most ``most``; empty at the end."""


class Inlet:
    """The request's body as it comes from the server.

    Args:
        receive: The server's ASGI ``receive``.
        patient: The peer waits for 100 Continue, which reading would send.
        gone: Returns when the peer has left, where the server can tell.
    """

    def __init__(
        self, receive: Receive, *, patient: bool, gone: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._receive = receive
        self._leaves = gone
        self._patient = patient
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._ended = False
        self._gone: Message | None = None

    async def read(self, most: int) -> bytes:
        """Return the next bytes of the body.

        Raises:
            Gone: The body ended early.
        """
        while not self._pieces and not self._ended:
            if self._gone is not None:
                raise Gone(self._gone)
            await self._take()
        if not self._pieces:
            return b""
        piece = self._pieces.popleft()
        if len(piece) > most:
            self._pieces.appendleft(piece[most:])
            piece = piece[:most]
        self._held -= len(piece)
        return piece

    async def _take(self) -> None:
        self._patient = False
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._gone = message
            return
        if body := message.get("body", b""):
            self._pieces.append(body)
            self._held += len(body)
        self._ended = self._ended or not message.get("more_body", False)

    async def has_more(self) -> bool:
        """Tell whether the body goes on, without consuming it."""
        while not self._pieces and not self._ended and self._gone is None:
            await self._take()
        return bool(self._pieces)

    async def peek(self, limit: int) -> bytes:
        """Return the body, or its beginning if it is longer than ``limit`` bytes, without consuming it."""
        while not self._ended and self._gone is None and self._held <= limit:
            await self._take()
        return b"".join(self._pieces)

    async def until_gone(self) -> None:
        """Return when the peer has left; while a peer keeps sending, that may never be known."""
        if self._leaves is not None:
            await self._leaves()
            return
        while self._gone is None:
            if self._patient or self._held > _AHEAD:
                await asyncio.get_running_loop().create_future()
            await self._take()


class Gate:
    """The output of the last stage as an ASGI ``receive``, for the handler.

    Attributes:
        source: The last stage.
        verdict: How a stage ended the exchange.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.verdict: Severed | Refused | None = None

    async def receive(self) -> Message:
        """Return the next event; if a stage ended the exchange, the handler sees a disconnect."""
        if self.verdict is None:
            try:
                piece = await self.source.read(BATCH)
            except Gone as gone:
                return gone.message
            except (Severed, Refused) as verdict:
                self.verdict = verdict
            else:
                return {"type": "http.request", "body": piece, "more_body": bool(piece)}
        return {"type": "http.disconnect"}


class Content:
    """A body in memory."""

    def __init__(self, content: bytes) -> None:
        self._left = memoryview(content)

    async def read(self, most: int) -> bytes:
        """Return the next bytes."""
        piece, self._left = self._left[:most], self._left[most:]
        return bytes(piece)


class Stretched:
    """Part of a blob that is open."""

    def __init__(self, reader: Reader, offset: int, count: int) -> None:
        self._reader = reader
        self._offset = offset
        self._left = count

    async def read(self, most: int) -> bytes:
        """Return the next bytes.

        Raises:
            OSError: The blob's file is too short.
        """
        count = min(most, self._left, BATCH)
        piece = self._reader.read(self._offset, count)
        if count and not piece:
            raise OSError("the blob's file is shorter than the blob")
        self._offset += len(piece)
        self._left -= len(piece)
        return piece


class Until:
    """A body in which something happens once, at one byte, if the body gets that far.

    Args:
        source: The body.
        after: Bytes before it, or what returns them when the first ones are read.
        act: Acts. If it returns true, the body ends there.
    """

    def __init__(
        self, source: Source, after: int | Callable[[], int], act: Callable[[], Awaitable[bool | None]]
    ) -> None:
        self._source = source
        self._after = after
        self._left: int | None = None
        self._act = act
        self._passed = False

    async def read(self, most: int) -> bytes:
        """Return the next bytes."""
        if self._left is None:
            self._left = self._after if isinstance(self._after, int) else self._after()
        if self._passed:
            return await self._source.read(most)
        if not self._left:
            if await self._act():
                return b""
            self._passed = True
            return await self._source.read(most)
        piece = await self._source.read(min(most, self._left))
        self._left -= len(piece)
        return piece


class Joined:
    """Bodies one after another."""

    def __init__(self, *sources: Source) -> None:
        self._sources = list(sources)

    async def read(self, most: int) -> bytes:
        """Return the next bytes."""
        while self._sources:
            if piece := await self._sources[0].read(most):
                return piece
            del self._sources[0]
        return b""
