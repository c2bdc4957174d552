"""Bodies as streams that faults can be put into, in both directions.

Owns pulling octets from the peer or from a blob through a row of stages. Each asks the one before it for no
more than it can pass on, so that pace and position are true for the peer too. Must not know any fault.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from mock_registry.asgi import Message, Receive
from mock_registry.exchange import BATCH, Response, Severed
from mock_registry.storage import Reader

_AHEAD = 1 << 16
"""Octets of a request's body that are taken early while something waits, where a server tells no other way
whether the peer left. With more, a client would feel nothing of a slow registry."""


class Refused(Exception):  # noqa: N818 (a decided answer)
    """The request is to be answered while its body is still arriving.

    Args:
        response: The answer.
        drain: Read the rest of the body first.
    """

    def __init__(self, response: Response, *, drain: bool) -> None:
        super().__init__("answered while the body was arriving")
        self.response = response
        self.drain = drain


class Gone(Exception):  # noqa: N818 (what the peer did)
    """The request's body ended before it was whole; ``message`` is what the server said of it."""

    def __init__(self, message: Message) -> None:
        super().__init__("the peer is gone")
        self.message = message


class Source(Protocol):
    """Octets to be had, in order."""

    async def read(self, most: int) -> bytes:
        """Return some octets, at most so many; none at the end."""


class Inlet:
    """The request's body as it comes from the server.

    Args:
        receive: The server's.
        patient: The peer waits for 100 Continue, which asking for the body would send it.
        gone: Returns when the peer has gone, where the server can tell.
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
        """Return octets of the body.

        Raises:
            Gone: The body is not whole.
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
        """Tell whether there is more of the body, which is not taken."""
        while not self._pieces and not self._ended and self._gone is None:
            await self._take()
        return bool(self._pieces)

    async def peek(self, limit: int) -> bytes:
        """Return the body, or its beginning if it has more than ``limit`` octets, without taking it."""
        while not self._ended and self._gone is None and self._held <= limit:
            await self._take()
        return b"".join(self._pieces)

    async def until_gone(self) -> None:
        """Return when the peer has gone. Of one that keeps sending, that may never be known."""
        if self._leaves is not None:
            await self._leaves()
            return
        while self._gone is None:
            if self._patient or self._held > _AHEAD:
                await asyncio.get_running_loop().create_future()
            await self._take()


class Gate:
    """The request's body as the handler gets it: what comes out of the last stage, as an ASGI ``receive``.

    Attributes:
        source: The last stage.
        verdict: What a stage decided about the whole exchange.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.verdict: Severed | Refused | None = None

    async def receive(self) -> Message:
        """Return the next event of the request; for the handler, a decided end is a peer that left."""
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
    """Octets that are whole in memory."""

    def __init__(self, content: bytes) -> None:
        self._left = memoryview(content)

    async def read(self, most: int) -> bytes:
        """Return the next ones."""
        piece, self._left = self._left[:most], self._left[most:]
        return bytes(piece)


class Stretched:
    """A stretch of a blob that is held open."""

    def __init__(self, reader: Reader, offset: int, count: int) -> None:
        self._reader = reader
        self._offset = offset
        self._left = count

    async def read(self, most: int) -> bytes:
        """Return the next octets.

        Raises:
            OSError: The blob is shorter than it should be.
        """
        count = min(most, self._left, BATCH)
        piece = self._reader.read(self._offset, count)
        if count and not piece:
            raise OSError("the blob's file is shorter than the blob")
        self._offset += len(piece)
        self._left -= len(piece)
        return piece
