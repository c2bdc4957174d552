"""An ASGI app as a transport for ``httpx.AsyncClient``, in process and without a socket.

Owns the bridge: both bodies stream, one piece at a time, and each side feels the other's pace and its going
away. The only importer of httpx. Must not know what the app is.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import cast

import httpx

from .asgi import GONE, SEVER, App, Headers, Message, PeerGone, Scope

_ASGI = {"version": "3.0", "spec_version": "2.5"}
_GRACE = 5.0
"""Seconds for an app to notice that the client is gone, before it is cancelled."""


class RegistryTransport(httpx.AsyncBaseTransport):
    """Calls an ASGI app for each request.

    Errors are those of a real transport: a response that ends early raises ``httpx.RemoteProtocolError``, one
    that does not come in time ``httpx.ReadTimeout``.

    Args:
        app: The ASGI app.
        client: Address that the app sees as the peer's.
    """

    def __init__(self, app: App, *, client: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self._app = app
        self._client = client
        self._calls: set[_Call] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request's body at the app's pace, and return when the response has begun.

        Raises:
            httpx.TransportError: As a real transport would.
        """
        call = _Call(self._app, _scope(request, self._client), request.extensions.get("timeout", {}))
        self._calls.add(call)
        call.task.add_done_callback(lambda _: self._calls.discard(call))
        try:
            async for chunk in cast("httpx.AsyncByteStream", request.stream):
                if chunk and not await call.offer(chunk):
                    break
            call.offer_end()
            status, headers = await call.head()
        except BaseException:
            await call.hang_up()
            raise
        return httpx.Response(
            status, headers=headers, stream=_Body(call, _announced(request, status, headers))
        )

    async def aclose(self) -> None:
        """Hang up on every request under way."""
        for call in list(self._calls):
            await call.hang_up()


class _Call:
    """One call of the app: its ``receive`` and ``send``, and the client's side of each.

    Each direction holds at most one piece, and its sender waits until it is taken.
    """

    def __init__(self, app: App, scope: Scope, timeouts: dict[str, float | None]) -> None:
        self._timeouts = timeouts
        self._changed = asyncio.Event()
        self._offered: bytes | None = None
        self._offering = True
        self._end_taken = False
        self._head: tuple[int, Headers] | None = None
        self._piece: bytes | None = None
        self._sending = True
        self._severed: httpx.TransportError | None = None
        self._gone = False
        self.task: asyncio.Future[None] = asyncio.ensure_future(app(scope, self._receive, self._send))
        self.task.add_done_callback(lambda _: self._changed.set())

    async def _until(self, true: Callable[[], object]) -> None:
        while not true():
            self._changed.clear()
            await self._changed.wait()

    @property
    def _ended(self) -> bool:
        return self.task.done() or not self._sending or self._severed is not None

    # The app's side

    async def _receive(self) -> Message:
        """Return the next piece of the request, or the news that the client is gone or content."""
        await self._until(
            lambda: self._offered is not None or self._gone or not (self._offering or self._end_taken)
        )
        if self._gone:
            return {"type": "http.disconnect"}
        if self._offered is None:
            self._end_taken = True
            return {"type": "http.request", "body": b"", "more_body": False}
        body, self._offered = self._offered, None
        self._changed.set()
        return {"type": "http.request", "body": body, "more_body": True}

    async def _send(self, message: Message) -> None:
        """Take an event of the response; a piece of the body is delivered when the client has taken it.

        Raises:
            PeerGone: The client hung up; ``unsent`` is exact.
        """
        if self._gone:
            raise PeerGone(len(message.get("body", b"")))
        if message["type"] == "http.response.start":
            self._head = message["status"], message["headers"]
        elif message["type"] == GONE:
            await self._until(lambda: self._gone)
        elif message["type"] == SEVER:
            self._severed = (
                httpx.ReadError("the connection was reset")
                if message["reset"]
                else httpx.RemoteProtocolError("the connection ended before the response did")
            )
        else:
            await self._deliver(message.get("body", b""), more=message.get("more_body", False))
        self._changed.set()

    async def _deliver(self, body: bytes, *, more: bool) -> None:
        if body:
            self._piece = body
            self._changed.set()
            await self._until(lambda: self._piece is None or self._gone)
        if self._piece is not None:
            self._piece = None
            raise PeerGone(len(body))
        self._sending = more

    # The client's side

    async def offer(self, chunk: bytes) -> bool:
        """Offer a piece of the request's body, and return whether the app wants more."""
        self._offered = chunk
        self._changed.set()
        # An app that answers before it has read everything is not waited for.
        await self._in_time("write", lambda: self._offered is None or self._piece is not None or self._ended)
        return self._offered is None

    def offer_end(self) -> None:
        """Tell that the request's body is whole, unless the app did not want all of it."""
        if self._offered is None:
            self._offering = False
            self._changed.set()

    async def head(self) -> tuple[int, Headers]:
        """Return status and headers of the response."""
        await self._in_time("read", lambda: self._head is not None or self._ended)
        self._raise_failure()
        if self._head is None and self._severed is not None:
            raise self._severed
        if self._head is None:
            raise httpx.RemoteProtocolError("the app ended without a response")
        return self._head

    async def piece(self) -> bytes:
        """Return the next piece of the response's body; nothing at its end."""
        await self._in_time("read", lambda: self._piece is not None or self._ended)
        self._raise_failure()
        if self._piece is None and self._sending and self._severed is not None:
            raise self._severed
        body, self._piece = self._piece or b"", None
        self._changed.set()
        return body

    async def _in_time(self, kind: str, true: Callable[[], object]) -> None:
        try:
            async with asyncio.timeout(self._timeouts.get(kind)):
                await self._until(true)
        except TimeoutError:
            if kind == "write":
                raise httpx.WriteTimeout("the app did not read in time") from None
            raise httpx.ReadTimeout("the app did not answer in time") from None

    def _raise_failure(self) -> None:
        """Pass on what the app failed with, as the broken connection that a server would make of it."""
        failure = self._failure()
        if failure is not None and not isinstance(failure, PeerGone):
            raise httpx.RemoteProtocolError("the app failed") from failure

    def _failure(self) -> BaseException | None:
        return self.task.exception() if self.task.done() and not self.task.cancelled() else None

    async def hang_up(self) -> None:
        """Let the app know that the client is gone, and wait a little until it has noticed."""
        self._gone = True
        self._changed.set()
        if not self.task.done():
            await asyncio.wait([self.task], timeout=_GRACE)
            self.task.cancel()
        self._failure()


@dataclass(eq=False)
class _Body(httpx.AsyncByteStream):
    """The response's body."""

    call: _Call
    announced: int | None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = 0
        while piece := await self._piece(received):
            received += len(piece)
            yield piece
        if self.announced is not None and received != self.announced:
            raise httpx.RemoteProtocolError(f"the body ended after {received} of {self.announced} bytes")

    async def _piece(self, received: int) -> bytes:
        try:
            return await self.call.piece()
        except httpx.TransportError:
            if received == self.announced:
                return b""  # whatever became of the connection behind it
            raise

    async def aclose(self) -> None:
        """Release a body, complete or not."""
        await self.call.hang_up()


def _scope(request: httpx.Request, client: tuple[str, int]) -> Scope:
    url = request.url
    return {
        "type": "http",
        "asgi": _ASGI,
        "http_version": "1.1",
        "method": request.method,
        "scheme": url.scheme,
        "path": url.path,
        "raw_path": url.raw_path.partition(b"?")[0],
        "query_string": url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": client,
        "server": (url.host, url.port),
        "extensions": {GONE: {}, SEVER: {}},
    }


def _announced(request: httpx.Request, status: int, headers: Headers) -> int | None:
    """Return the bytes that the response's body must have."""
    if request.method == "HEAD" or status in (204, 304):
        return None
    lengths = [int(value) for name, value in headers if name == b"content-length"]
    return lengths[0] if lengths else None
