"""Filling a line from a thread: the other direction of `drain`.

Owns the handing over of a body's pieces to the socket, in whatever thread they come. Must not know HTTP, or
where they come from.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from regsim.net.errors import OwnProtocolError, WriteTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from regsim.net.line import Line
    from regsim.net.request import Feed


class Interrupted(Exception):  # noqa: N818  (no error: the peer has answered early)
    """There is no point in sending more."""


class Sink:
    """Where the pieces of a body go.

    Args:
        line: is lent while they come.
        start: what is sent before the first one.
        length: octets that the body may have.
        seconds: until the peer must have taken more.
        interrupted: asked, in the same thread, before each piece of a piece.

    Attributes:
        start: what is still to be sent before the rest.
        left: octets that are still to come.
    """

    def __init__(
        self,
        line: Line,
        start: bytes,
        length: int,
        seconds: float | None,
        interrupted: Callable[[], bool],
    ) -> None:
        self.start = start
        self.left = length
        self._line = line
        self._seconds = seconds
        self._interrupted = interrupted

    async def take_from(self, feed: Feed) -> bytes:
        """Let a body come, and return its last piece, which is not sent yet.

        Raises:
            Interrupted: the peer has answered, or hung up.
            OwnProtocolError: the body is of another length.
            WriteError, WriteTimeoutError: the connection broke, or takes nothing more.
            Exception: what kept the body from coming.
        """
        self._line.lend()
        try:
            last = await _supervised(asyncio.ensure_future(feed(self.take)), self._line.hang_up)
        finally:
            self._line.take_back()
        if self.left != len(last):
            raise OwnProtocolError(f"a body ended {self.left - len(last)} bytes early")
        return last

    def take(self, piece: memoryview) -> None:
        """Send a piece; raises as `take_from` does."""
        self.left -= len(piece)
        if self.left < 0:
            raise OwnProtocolError(f"a body is at least {-self.left} bytes too long")
        if self.start:
            self._give(memoryview(self.start))
            self.start = b""
        self._give(piece)

    def _give(self, view: memoryview) -> None:
        while view:
            if self._interrupted():
                raise Interrupted
            count = self._line.give(view)
            if count is not None:
                view = view[count:]
            elif not self._line.poll(self._seconds, write=True):
                raise WriteTimeoutError("no progress in time")


async def _supervised(task: asyncio.Future[bytes], stop: Callable[[], None]) -> bytes:
    """Wait for a task. Whoever is cancelled meanwhile first stops what its thread may be waiting for."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
            stop()
            task.cancel()
    if cancelled is not None:
        if not task.cancelled():
            task.exception()
        raise cancelled
    return task.result()
