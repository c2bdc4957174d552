"""An exchange as effects see it, with its bodies as streams that effects can be put into.

Owns what rules work with, and pulling bytes from the peer or from a blob through a row of stages. Each stage
reads no more from the one before it than it passes on, so that the peer feels its pace and the counts are
exact. Must not know any fault.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeAlias

from mock_registry.asgi import Message, Receive
from mock_registry.exchange import BATCH, CutShort, Exchange, Response, Severed
from mock_registry.service import Service
from mock_registry.storage.protocol import Reader

_AHEAD = 1 << 16
"""Bytes of a request's body that are read ahead during a wait, where only reading shows that the peer has
left. With more, a client would not notice a slow registry."""

Source: TypeAlias = Callable[[int], Awaitable[bytes]]
"""A body, in order: a call returns the next bytes, at most as many as are asked for, and none at the end."""


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


class Inlet:
    """The request's body as it comes from the server.

    Args:
        receive: The server's ASGI ``receive``.
        patient: The peer waits for 100 Continue, which reading would send.
        gone: Returns when the peer has left, where the server can tell.
    """

    def __init__(
        self, receive: Receive, *, patient: bool, gone: Callable[[], Awaitable[None]] | None
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
        if not await self.has_more():
            if self._gone is not None and not self._ended:
                raise Gone(self._gone)
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


class Host(Protocol):
    """A host that requests can be redirected to."""

    async def url(self) -> str:
        """Return scheme, host and port."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What rules work with.

    Attributes:
        service: The registry.
        clock: Returns seconds, monotonic.
        sleep: Waits for seconds of that clock.
        hosts: Other hosts of the registry, for redirects; empty without sockets.
    """

    service: Service
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    hosts: Sequence[Host]


class Scene:
    """An exchange as effects see it.

    Attributes:
        exchange: The exchange.
        service: The registry.
        verdict: How a stage of the request's body ended the exchange.
        drains: Whether the rest of the request's body is read before the answer.
        closes: Whether the connection ends with the answer.
        left: Whether the peer was seen to leave during a wait.
    """

    def __init__(self, exchange: Exchange, surroundings: Surroundings) -> None:
        self.exchange = exchange
        self._receive = exchange.receive  # before this scene takes its place
        self.surroundings = surroundings
        self.service = surroundings.service
        self.verdict: Severed | Refused | None = None
        self.drains = True
        self.closes = False
        self.left = False

    @cached_property
    def inlet(self) -> Inlet:
        """The request's body as the server has it."""
        exchange = self.exchange
        gone = exchange.until_gone if exchange.tells_gone else None
        return Inlet(self._receive, patient=exchange.header(b"expect") is not None, gone=gone)

    @cached_property
    def source(self) -> Source:
        """The last stage that the request's body is read through."""
        return self.inlet.read

    async def receive(self) -> Message:
        """Return the next event for the handler; if a stage ended the exchange, it is a disconnect."""
        if self.verdict is None:
            try:
                piece = await self.source(BATCH)
            except Gone as gone:
                return gone.message
            except (Severed, Refused) as verdict:
                self.verdict = verdict
            else:
                return {"type": "http.request", "body": piece, "more_body": bool(piece)}
        return {"type": "http.disconnect"}

    async def take_rest(self) -> None:
        """Read and count what is left of the request's body, past all stages."""
        self.verdict = None
        self.source = self.inlet.read
        self.exchange.resume()
        try:
            await self.exchange.drain(self.service.settings.drain_limit)
        except CutShort:
            """The peer did not send the rest; what it sent is counted."""

    async def wait(self, *works: Awaitable[object]) -> None:
        """Wait until one of these is done, or the peer has left.

        If the peer leaves, only the wait ends; the exchange goes on as it would without the wait.
        """
        tasks = [asyncio.ensure_future(work) for work in works]
        watch = asyncio.ensure_future(self.inlet.until_gone())
        try:
            done, _ = await asyncio.wait([*tasks, watch], return_when=asyncio.FIRST_COMPLETED)
            self.left = self.left or watch in done
            for work in done - {watch}:
                work.result()
        finally:
            for task in (*tasks, watch):
                task.cancel()
            await asyncio.gather(*tasks, watch, return_exceptions=True)


def in_memory(content: bytes) -> Source:
    """Return a body in memory."""
    left = memoryview(content)

    async def read(most: int) -> bytes:
        nonlocal left
        piece, left = left[:most], left[most:]
        return bytes(piece)

    return read


def from_blob(reader: Reader, offset: int, count: int) -> Source:
    """Return ``count`` bytes of a blob that is open.

    It raises OSError if the blob's file is too short.
    """
    end = offset + count

    async def read(most: int) -> bytes:
        nonlocal offset
        wanted = min(most, end - offset, BATCH)
        piece = reader.read(offset, wanted)
        if wanted and not piece:
            raise OSError("the blob's file is shorter than the blob")
        offset += len(piece)
        return piece

    return read


def until(
    source: Source, after: int | Callable[[], int], act: Callable[[], Awaitable[bool | None]]
) -> Source:
    """Return a body in which something happens once, at one byte, if the body gets that far.

    Args:
        source: The body.
        after: Bytes before it, or what returns them when the first ones are read.
        act: Acts. If it returns true, the body ends there.
    """
    left: int | None = None
    passed = False

    async def read(most: int) -> bytes:
        nonlocal left, passed
        if left is None:
            left = after if isinstance(after, int) else after()
        if not passed and not left:
            if await act():
                return b""
            passed = True
        if passed:
            return await source(most)
        piece = await source(min(most, left))
        left -= len(piece)
        return piece

    return read


def joined(*sources: Source) -> Source:
    """Return bodies one after another."""
    left = deque(sources)

    async def read(most: int) -> bytes:
        while left:
            if piece := await left[0](most):
                return piece
            left.popleft()
        return b""

    return read
