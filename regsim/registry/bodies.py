"""Bodies on their way, both ways, and their counting.

Owns the moment at which an octet is charged to an account: when a connection takes it, or gives it.
Must not know how the connection works.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

from regsim.errors import ContentError, NetworkError, Trouble
from regsim.net.address import without_query
from regsim.net.answer import MAX_ERROR_BODY, Answer, length_of
from regsim.store.protocols import CHUNK

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

    from regsim.core.account import Account
    from regsim.net.answer import Body
    from regsim.net.request import Feed
    from regsim.store.protocols import Taker

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


def counted_feed(body: Body | None, account: Account, *, content: bool) -> Feed | None:
    """Return a body's feed, charging each piece as it is handed over; None where it has none."""
    if body is None or body.feed is None:
        return None
    inner = body.feed

    def charge(octets: int) -> None:
        if content:
            account.sent += octets
        else:
            account.overhead += octets

    async def feed(take: Taker) -> bytes:
        def counting(piece: memoryview) -> None:
            charge(len(piece))
            take(piece)

        last = await inner(counting)
        charge(len(last))
        return last

    return feed


class Octets(Protocol):
    """The body of an answer, as the connection has it. It is had once, in one of two ways.

    Both raise `NetworkError` where it is cut short or falls silent.
    """

    @property
    def drainable(self) -> bool:
        """Whether `drain` can be had."""

    def read(self, size: int) -> AsyncGenerator[bytes, None]:
        """Open it as a stream of pieces of about `size` bytes."""

    async def drain(self, takers: Sequence[Taker], count: Callable[[int], None]) -> None:
        """Hand it to `takers` in threads, and tell `count` how much it was."""


class Response:
    """An answer whose body is still on its way. Lives inside `Transport.exchange` only.

    Args:
        method: of the request.
        url: that answered.
        status: the HTTP status.
        headers: by name in any case.
        octets: the raw body.
        account: is charged.
        content: a 200's or 206's body is `received`, else `overhead`, as the bodies of refusals always are.
        seconds: for a body that is read whole: one that trickles never falls silent.
        secrets: what the request was sent with, which a refusal is told without.

    Attributes:
        received: octets of its body that were charged as `received`.
    """

    def __init__(
        self,
        *,
        method: str,
        url: str,
        status: int,
        headers: Mapping[str, str],
        octets: Octets,
        account: Account,
        content: bool,
        seconds: float,
        secrets: tuple[str, ...] = (),
    ) -> None:
        self.method = method
        self.url = url
        self.status = status
        self.headers = headers
        self._octets = octets
        self._account = account
        self._seconds = seconds
        self._secrets = secrets
        self.received = 0
        self._is_content = content and method == "GET" and status in _CONTENT_STATUSES

    @property
    def length(self) -> int | None:
        """The `Content-Length`; None where there is none that can be read."""
        return length_of(self.headers)

    async def chunks(self, size: int = CHUNK) -> AsyncGenerator[bytes, None]:
        """Yield the raw body in chunks of about `size` bytes.

        What had arrived before a cut is yielded before the error is raised, so that a resumed
        download asks for nothing twice.

        Raises:
            NetworkError: the body was cut short or stalled.
        """
        async with aclosing(self._pieces(size)) as pieces:
            while True:
                chunk, failure = await _gather(pieces, size)
                if chunk:
                    yield chunk
                if failure is not None:
                    raise failure
                if not chunk:
                    return

    @property
    def drainable(self) -> bool:
        """Whether `drain` is the fast way here."""
        return self._octets.drainable

    async def drain(self, takers: Sequence[Taker]) -> None:
        """Hand the whole raw body to `takers`, in threads that read the connection by themselves.

        Raises:
            NetworkError: the body was cut short or stalled; the takers have had what came before.
            Exception: what a taker raised.
        """
        await self._octets.drain(takers, self._count)

    async def answer(self, limit: int = MAX_ERROR_BODY) -> Answer:
        """Read the body, no further than `limit` bytes and what came with them.

        A refusal's is read to `MAX_ERROR_BODY`, however little was wanted.

        Raises:
            NetworkError: the body was cut short, stalled, or did not end in time.
        """
        if self.status >= HTTPStatus.BAD_REQUEST:
            limit = MAX_ERROR_BODY
        body = bytearray()
        if self.method != "HEAD" and self.length != 0:
            try:
                async with asyncio.timeout(self._seconds), aclosing(self._pieces(_SMALL)) as pieces:
                    async for piece in pieces:
                        body += piece
                        if len(body) > limit:
                            break
            except TimeoutError as error:
                raise unanswered(self.method, self.url, self._seconds) from error
        return Answer(
            method=self.method,
            url=self.url,
            status=self.status,
            headers=self.headers,
            body=bytes(body[:limit]),
            whole=len(body) <= limit,
            secrets=self._secrets,
        )

    async def _pieces(self, size: int) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._octets.read(size)) as source:
            async for piece in source:
                self._count(len(piece))
                yield piece

    def _count(self, octets: int) -> None:
        if self._is_content:
            self.received += octets
            self._account.received += octets
        else:
            self._account.overhead += octets


def unanswered(method: str, url: str, seconds: float) -> NetworkError:
    """Return the error that it is when a whole answer does not come in time."""
    where = without_query(url).partition("://")[2]
    return NetworkError(f"{method} {where} was not answered within {seconds:g} s", trouble=Trouble.DEADLINE)


async def _gather(pieces: AsyncGenerator[bytes, None], most: int) -> tuple[bytes, NetworkError | None]:
    """Join pieces up to `most` bytes; empty at the end. A cut comes with what arrived before it."""
    held: list[bytes] = []
    size = 0
    try:
        async for piece in pieces:
            held.append(piece)
            size += len(piece)
            if size >= most:
                break
    except NetworkError as error:
        return b"".join(held), error
    return b"".join(held), None
