"""One request on a connection and its response: the ASGI side of the server.

Owns ``receive`` and ``send`` with the framing of one response. Must not parse, and must not know what the app
is.
"""

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from mock_registry.asgi import ANSWER, GONE, SCARCE, SEVER, ZERO_COPY, App, Headers, Message, PeerGone, Scope

from .limits import Share
from .wire import CONTINUE, LAST_CHUNK, encode_chunk, encode_head

_log = logging.getLogger(__name__)

_ONE_SEGMENT = 1 << 16
"""Bodies up to this go out in one write with their head; beyond, joining them would cost a copy."""


class Link(Protocol):
    """The connection of a request, as its response needs it.

    Attributes:
        lost: The socket is gone; what is written goes nowhere.
    """

    lost: bool

    @property
    def stopping(self) -> bool:
        """The server takes no further requests."""

    def body_taken(self, cycle: "Cycle") -> None:
        """Read on once the app has made room."""

    def write(self, data: bytes) -> None:
        """Write bytes, or nothing when the peer is gone."""

    async def drain(self) -> None:
        """Wait until the peer has read enough.

        Raises:
            PeerGone: It never will.
        """

    async def send_file(self, file: BinaryIO, offset: int, count: int) -> None:
        """Send a stretch of a file.

        Raises:
            PeerGone: The peer is gone; ``unsent`` is exact.
        """

    async def reset(self) -> int:
        """End the connection with a reset, once the peer has what was written; return the bytes it lacks."""

    def cycle_done(self, cycle: "Cycle") -> None:
        """Go on with the next request, or end the connection."""


@dataclass(slots=True, eq=False)
class Cycle:
    """One request and its response.

    Attributes:
        keep_alive: The connection may serve another request after this one.
        expects_continue: The peer waits for 100 Continue, which has not been sent.
        body_complete: The request's body has arrived whole.
        share: What is held of the body.
        finished: The response has been handed to the socket, whole.
        severed: The app has ended the connection.
    """

    connection: Link
    scope: Scope
    keep_alive: bool
    expects_continue: bool
    share: Share
    body_complete: bool = False
    finished: bool = False
    severed: bool = False
    _chunks: deque[bytes] = field(default_factory=deque)
    _ended: bool = False
    _cut: bool = False
    _answer: int | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _status: int | None = None
    _headers: Headers = field(default_factory=list)
    _head_written: bool = False
    _chunked: bool = False
    _left: int | None = None

    @property
    def _is_head(self) -> bool:
        return bool(self.scope["method"] == "HEAD")

    # What the connection tells

    def feed(self, data: bytes) -> None:
        """Take bytes of the body."""
        self.share.add(len(data))
        self._chunks.append(data)
        self._changed.set()

    def end(self) -> None:
        """Know that the body is complete."""
        self.body_complete = True
        self._changed.set()

    def cut(self, answer: int | None) -> None:
        """Know that nothing more will arrive; ``answer`` is a status that the peer can still read."""
        self._cut = True
        self._answer = answer
        if not self.body_complete:
            self.keep_alive = False
        self._changed.set()

    # What the app calls

    async def run(self, app: App) -> None:
        """Let the app answer, and close what it leaves unfinished."""
        try:
            await app(self.scope, self.receive, self.send)
        except Exception:  # noqa: BLE001 (the server outlives its app's failures)
            _log.exception("the app failed")
        finally:
            if not self.finished:
                self.keep_alive = False  # the peer sees the end of the connection where the body should go on
            self.drop()
            self.connection.cycle_done(self)

    def drop(self) -> None:
        """Release the body: it will not be read any more."""
        self._chunks.clear()
        self.share.close()

    async def receive(self) -> Message:
        """Return the next event of the request, as ASGI describes them."""
        if self.share.used():
            self.connection.body_taken(self)
        while not (self._chunks or self._cut or (self.body_complete and not self._ended) or self.finished):
            if self.expects_continue:
                self.expects_continue = False
                self.connection.write(CONTINUE)
            self._changed.clear()
            await self._changed.wait()
        if not self._chunks and (self._ended or not self.body_complete):
            return {"type": "http.disconnect", ANSWER: self._answer}
        data, scarce = b"", False
        if self._chunks:
            data = self._chunks.popleft()
            scarce = self.share.lend(len(data))
            self.connection.body_taken(self)
        self._ended = self.body_complete and not self._chunks
        message = {"type": "http.request", "body": data, "more_body": not self._ended}
        return message | {SCARCE: True} if scarce else message

    async def send(self, message: Message) -> None:
        """Take one event of the response.

        Raises:
            PeerGone: The peer is gone.
        """
        kind = message["type"]
        if self.connection.lost:
            raise PeerGone(message.get("count") or len(message.get("body", b"")))
        if kind == "http.response.start":
            self._status, self._headers = message["status"], message["headers"]
        elif kind == "http.response.body":
            self._write(message.get("body", b""), more=message.get("more_body", False))
            await self.connection.drain()
        elif kind == ZERO_COPY:
            await self._send_file(message)
        elif kind == SEVER:
            self.severed = True
            self.keep_alive = False
            if message["reset"] and (unsent := await self.connection.reset()):
                raise PeerGone(unsent)
        elif kind == GONE:
            while not self._cut:  # until the peer has gone, or sends no more of what it should
                self._changed.clear()
                await self._changed.wait()
        else:
            raise RuntimeError(f"not an event of a response: {kind}")

    def _write(self, body: bytes, *, more: bool) -> None:
        head = b"" if self._head_written else self._head(None if more else len(body))
        frame = self._frame(body, more=more)
        if head and len(frame) > _ONE_SEGMENT:
            self.connection.write(head)
            head = b""
        if head or frame:
            self.connection.write(head + frame)
        if not more:
            self._finish()

    def _head(self, length: int | None) -> bytes:
        """Write the head, and settle on a framing if the app chose none."""
        if self._status is None:
            raise RuntimeError("a body before the start of the response")
        self._head_written = True
        extra: list[bytes] = []
        lengths = [int(value) for name, value in self._headers if name == b"content-length"]
        if lengths:
            self._left = lengths[0]
        elif self._is_head:
            pass  # an app that tells no length of what it would send: nor do we
        elif length is not None and self._status not in (204, 304):
            extra.append(b"Content-Length: %d\r\n" % length)
        elif length is None and self.scope["http_version"] == "1.1":
            self._chunked = True
            extra.append(b"Transfer-Encoding: chunked\r\n")
        elif length is None:
            self.keep_alive = False  # HTTP/1.0 tells the end of a body by closing
        self.keep_alive &= self.body_complete and not self.connection.stopping
        if not self.keep_alive:
            extra.append(b"Connection: close\r\n")
        elif self.scope["http_version"] == "1.0":
            extra.append(b"Connection: keep-alive\r\n")
        return encode_head(self._status, self._headers, *extra)

    def _frame(self, body: bytes, *, more: bool) -> bytes:
        if self._is_head:
            return b""
        if self._left is not None:
            self._left -= len(body)
            if self._left < 0:
                raise RuntimeError("a body longer than its Content-Length")
        if not self._chunked:
            return body
        return (encode_chunk(body) if body else b"") + (b"" if more else LAST_CHUNK)

    async def _send_file(self, message: Message) -> None:
        """Send a stretch of a file by the kernel alone."""
        if not self._head_written:
            self.connection.write(self._head(None))
        await self.connection.send_file(message["file"], message["offset"], message["count"])
        if self._left is not None:
            self._left -= message["count"]
        if not message.get("more_body", False):
            self._finish()

    def _finish(self) -> None:
        self.finished = True
        if self._left and not self._is_head:
            self.keep_alive = False  # shorter than announced: only the end of the connection tells
        self._changed.set()
