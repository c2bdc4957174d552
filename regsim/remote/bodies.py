"""Bodies on their way, both ways, and their counting.

Owns the moment at which an octet is charged to an account: when a connection takes it, or gives it.
Must not know how the connection works.
"""

from __future__ import annotations

from contextlib import aclosing
from http import HTTPStatus
from typing import TYPE_CHECKING

from regsim.content.protocols import CHUNK
from regsim.errors import ContentError, NetworkError
from regsim.remote.answer import MAX_ERROR_BODY, Answer, length_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from regsim.remote.account import Account
    from regsim.remote.answer import Body

# Pieces of what is read whole: little comes beyond what was wanted.
_SMALL = 32 * 1024
_CONTENT_STATUSES = frozenset({200, 206})


async def counted(body: Body | None, account: Account, *, content: bool) -> AsyncGenerator[bytes, None]:
    """Yield a request's body, charging each chunk as it is handed over.

    Args:
        body: None yields nothing.
        account: is charged.
        content: as `sent`, else as `overhead`.

    Raises:
        ContentError: it is longer or shorter than it says.
    """
    if body is None:
        return
    left = body.size
    async with aclosing(body.open()) as stream:
        async for chunk in stream:
            left -= len(chunk)
            if left < 0:
                raise ContentError(f"a body of {body.size} bytes turned out to be longer")
            if content:
                account.sent += len(chunk)
            else:
                account.overhead += len(chunk)
            yield chunk
    if left:
        raise ContentError(f"a body of {body.size} bytes ended {left} bytes early")


class Response:
    """An answer whose body is still on its way. Lives inside `Transport.exchange` only.

    Args:
        method: of the request.
        url: that answered.
        status: the HTTP status.
        headers: by name in any case.
        read: opens the raw body, in pieces of about so many bytes; raises `NetworkError` where it is cut.
        account: is charged.
        content: a 200's or 206's body is `received`, else `overhead`, as the bodies of refusals always are.
    """

    def __init__(
        self,
        *,
        method: str,
        url: str,
        status: int,
        headers: Mapping[str, str],
        read: Callable[[int], AsyncGenerator[bytes, None]],
        account: Account,
        content: bool,
    ) -> None:
        self.method = method
        self.url = url
        self.status = status
        self.headers = headers
        self._read = read
        self._account = account
        self._is_content = content and method == "GET" and status in _CONTENT_STATUSES

    @property
    def length(self) -> int | None:
        """The `Content-Length`; None where there is none that can be read."""
        return length_of(self.headers)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the raw body in chunks of about `CHUNK` bytes.

        What had arrived before a cut is yielded before the error is raised, so that a resumed
        download asks for nothing twice.

        Raises:
            NetworkError: the body was cut short or stalled.
        """
        async with aclosing(self._pieces(CHUNK)) as pieces:
            while True:
                chunk, failure = await _gather(pieces)
                if chunk:
                    yield chunk
                if failure is not None:
                    raise failure
                if not chunk:
                    return

    async def answer(self, limit: int = MAX_ERROR_BODY) -> Answer:
        """Read the body, no further than `limit` bytes and what came with them.

        A refusal's is read to `MAX_ERROR_BODY`, however little was wanted.
        """
        if self.status >= HTTPStatus.BAD_REQUEST:
            limit = MAX_ERROR_BODY
        body = bytearray()
        if self.method != "HEAD" and self.length != 0:
            async with aclosing(self._pieces(_SMALL)) as pieces:
                async for piece in pieces:
                    body += piece
                    if len(body) > limit:
                        break
        return Answer(
            method=self.method,
            url=self.url,
            status=self.status,
            headers=self.headers,
            body=bytes(body[:limit]),
            whole=len(body) <= limit,
        )

    async def _pieces(self, size: int) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._read(size)) as source:
            async for piece in source:
                if self._is_content:
                    self._account.received += len(piece)
                else:
                    self._account.overhead += len(piece)
                yield piece


async def _gather(pieces: AsyncGenerator[bytes, None]) -> tuple[bytes, NetworkError | None]:
    """Join pieces up to `CHUNK`; empty at the end. A cut comes with what arrived before it."""
    held: list[bytes] = []
    size = 0
    try:
        async for piece in pieces:
            held.append(piece)
            size += len(piece)
            if size >= CHUNK:
                break
    except NetworkError as error:
        return b"".join(held), error
    return b"".join(held), None
