"""A stretch of a blob on its way here, asked for until all of it has come (end-2, and RFC 9110, 14).

Owns one stream through its cuts: what is asked for, what the answers bring, and what came in vain. Must not
know how a blob is divided, or where the bytes go: whoever stores them verifies them.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from regsim.core.account import Loss, Reason
from regsim.errors import ContentError, NetworkError, Trouble
from regsim.net.answer import ContentRange, refusal
from regsim.registry.retry import Unready, final
from regsim.store.protocols import CHUNK
from regsim.store.relay import hand_in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

    from regsim.core import Descriptor
    from regsim.core.account import Account
    from regsim.registry.bodies import Response
    from regsim.registry.place import Place
    from regsim.store.protocols import Taker


class RangeError(NetworkError):
    """A Range was answered with something else; `reason` says what."""

    def __init__(self, message: str, reason: Reason = Reason.RANGE_WRONG) -> None:
        super().__init__(message)
        self.reason = reason


class Stretch:
    """The bytes of a blob from `start` to before `end`, once.

    Args:
        place: where the blob is.
        descriptor: of the blob.
        account: is charged.
        start: the first byte.
        end: where it ends; None: with the blob.
        on_range: told of each answer to a Range what is wrong with it; None: nothing.

    Attributes:
        offset: the first byte that is lacking.
        end: where it ends. It moves to the end of the blob when an answer brings all of it.
        strict: an answer that is not to its Range ends it with `RangeError`; else the blob comes whole once
            more, and what is held already comes in vain.
        received: octets that came for it.
        noted: octets of these that were wasted.
    """

    def __init__(
        self,
        place: Place,
        descriptor: Descriptor,
        account: Account,
        start: int,
        end: int | None = None,
        *,
        strict: bool = False,
        on_range: Callable[[Reason | None], None] = lambda _: None,
    ) -> None:
        self.start = self.offset = start
        self.end = descriptor.size if end is None else end
        self.strict = strict
        self.received = self.noted = 0
        self._place = place
        self._descriptor = descriptor
        self._account = account
        self._on_range = on_range
        self._asked = False
        self._trusting = True  # that the registry knows what a Range is
        self._failures = 0

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield it in chunks of about `CHUNK` bytes, or a quarter of that.

        Raises:
            RangeError: see `strict`.
            NotFoundError, ContentError, NetworkError, RegistryError: as from `RemoteBlob.open`.
        """
        while self.offset < self.end or not self._asked:
            since = self.offset
            try:
                async with (
                    self._answered() as (response, skip),
                    aclosing(self._wanted(response, skip)) as wanted,
                ):
                    async for chunk in wanted:
                        self.offset += len(chunk)
                        yield chunk
                self._check_end()
            except (NetworkError, Unready) as failure:
                await self._failed(failure, since=since)
            except BaseException:
                self._note_waste()
                raise

    async def pour(self, *takers: Taker) -> None:
        """Hand it to `takers`, in threads; raises as `chunks` does, and what they raise."""
        while self.offset < self.end or not self._asked:
            since = self.offset
            try:
                async with self._answered() as (response, skip):
                    await self._hand_on(response, skip, (*takers, self._gain))
                self._check_end()
            except (NetworkError, Unready) as failure:
                await self._failed(failure, since=since)
            except BaseException:
                self._note_waste()
                raise

    async def _hand_on(self, response: Response, skip: int, takers: Sequence[Taker]) -> None:
        plain = skip == 0 and response.length == self.end - self.offset
        if plain and response.drainable:
            await response.drain((*takers, _Pace(self._too_slow, self._seconds).check))
            return
        async with aclosing(self._wanted(response, skip)) as wanted:
            async for chunk in wanted:
                await hand_in_thread(chunk, takers)

    def _gain(self, piece: memoryview) -> None:
        self.offset += len(piece)

    @property
    def _name(self) -> str:
        return f"blob {self._descriptor.digest.short} of {self._place.name}"

    # Asking.

    @property
    def _ranged(self) -> bool:
        return self._trusting and (self.offset > 0 or self.end < self._descriptor.size)

    @asynccontextmanager
    async def _answered(self) -> AsyncIterator[tuple[Response, int]]:
        """Ask for what is lacking; hand over the answer, and how many bytes come before that."""
        await self._place.patience.ready()
        # Where nothing follows, the last byte is not said: some servers are off by one.
        last = self.end - 1 if self.end < self._descriptor.size else ""
        headers = {"Range": f"bytes={self.offset}-{last}"} if self._ranged else {}
        target = self._place.blob(self._descriptor.digest)
        self._asked = True
        async with self._place.transport.exchange(
            "GET", target, self._account, headers=headers, content=True
        ) as response:
            try:
                yield response, await self._skip(response)
            finally:
                self.received += response.received

    async def _skip(self, response: Response) -> int:
        """Return how many bytes of the body come before the first one that is lacking."""
        if response.status == HTTPStatus.PARTIAL_CONTENT and self._ranged:
            return self._behind(response)
        if response.status == HTTPStatus.OK:
            self._place.patience.well()
            self._check_size(response.length)
            self._take_whole()
            return self.offset
        answer = self._place.patience.settled(await response.answer())
        if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and self._ranged:
            raise RangeError(f"{self._name} ends before byte {self.offset} of {self._descriptor.size}")
        raise refusal(answer)

    def _take_whole(self) -> None:
        """Make do with an answer that brings all of the blob."""
        if self._ranged:
            self._on_range(Reason.RANGE_IGNORED)
            if self.strict:
                raise RangeError(f"{self._name} came whole for a part of it", Reason.RANGE_IGNORED)
        if self.offset:
            # All comes anew, and what is held already comes in vain.
            self._account.attempts += 1
            if self._ranged:
                self._account.retried(Reason.RANGE_IGNORED)
        self.end = self._descriptor.size

    def _behind(self, response: Response) -> int:
        """Read `Content-Range`; a start before the one asked for is made good by skipping."""
        came = ContentRange.of(response.headers)
        text = response.headers.get("Content-Range", "")
        if came is None or came.first > self.offset:
            raise RangeError(f"{self._name} was asked for from byte {self.offset}, and came as {text!r:.100}")
        self._check_size(came.total)
        if came.last >= self.end:
            raise RangeError(f"{self._name} was asked for before byte {self.end}, and came as {text!r:.100}")
        self._on_range(None)
        return self.offset - came.first

    # What the answer brings.

    async def _wanted(self, response: Response, skip: int) -> AsyncGenerator[bytes, None]:
        """Yield the body without its first `skip` bytes; what follows them is what is lacking."""
        room = self.end - self.offset
        async with aclosing(response.chunks(self._chunk)) as chunks:
            while chunk := await self._in_time(chunks):
                wanted = chunk[skip:]
                self._skipped(response, len(chunk) - len(wanted))
                skip -= len(chunk) - len(wanted)
                room -= len(wanted)
                if room < 0:
                    if self.end < self._descriptor.size:
                        raise RangeError(
                            f"{self._name} came beyond byte {self.end - 1}, against its own word"
                        )
                    raise ContentError(f"{self._name} is longer than {self._descriptor.size} bytes")
                if wanted:
                    yield wanted

    async def _in_time(self, chunks: AsyncGenerator[bytes, None]) -> bytes:
        """Return the next chunk, empty at the end: a trickle never falls silent, and yet never gets there."""
        try:
            async with asyncio.timeout(self._seconds):
                return await anext(chunks, b"")
        except TimeoutError as error:
            raise self._too_slow() from error

    @property
    def _chunk(self) -> int:
        """Bytes that are handed on at once: fewer where many stretches come at once, each with a buffer."""
        return CHUNK if self.end == self._descriptor.size else CHUNK // 4

    @property
    def _seconds(self) -> float:
        """How long a chunk may take."""
        return self._chunk / self._place.transport.timeouts.slowest

    def _too_slow(self) -> NetworkError:
        slowest = self._place.transport.timeouts.slowest
        return NetworkError(
            f"{self._name} came at less than {slowest:g} bytes a second", trouble=Trouble.SLOW
        )

    def _check_end(self) -> None:
        # A body without a stated length that is cut by FIN looks whole, and a 206 may bring less than asked.
        if self.offset < self.end:
            raise NetworkError(f"{self._name} ended after {self.offset} of {self._descriptor.size} bytes")

    def _check_size(self, size: int | None) -> None:
        if size is not None and size != self._descriptor.size:
            raise ContentError(
                f"{self._name} has {size} bytes there, {self._descriptor.size} by its descriptor"
            )

    # What came in vain.

    async def _failed(self, failure: NetworkError | Unready, *, since: int) -> None:
        """Wait before the next try, which begins at `offset`; the last one began at `since`.

        Raises:
            RegsimError: there shall be none.
        """
        if isinstance(failure, RangeError):
            self._on_range(failure.reason)
            if self.strict:
                raise failure
            self._trusting = False
            self._account.retried(failure.reason)
        else:
            if self.offset - since >= CHUNK:
                self._failures = 0
            if not await self._place.patience.again(self._failures, failure, self._account):
                raise final(failure) from failure.__cause__
            self._failures += 1
        self._note_waste()

    def _skipped(self, response: Response, octets: int) -> None:
        """Count octets that came before the first one that is lacking."""
        overlap = response.status == HTTPStatus.PARTIAL_CONTENT
        self.noted += octets
        self._account.waste(received=octets, loss=Loss.OVERLAP if overlap else None)

    def _note_waste(self) -> None:
        """Count what an answer brought that broke off, and that nobody was given."""
        wasted = self.received - self.noted - (self.offset - self.start)
        self.noted += wasted
        self._account.waste(received=wasted)


class _Pace:
    """Watches, as a taker, that pieces do not trickle in.

    Args:
        failure: returns what to raise.
        seconds: that a chunk may take.
    """

    def __init__(self, failure: Callable[[], NetworkError], seconds: float) -> None:
        self._failure = failure
        self._seconds = seconds
        self._since = time.monotonic()
        self._left = CHUNK

    def check(self, piece: memoryview) -> None:
        """Take note of a piece."""
        self._left -= len(piece)
        now = time.monotonic()
        if self._left <= 0:
            self._since, self._left = now, CHUNK
        elif now - self._since > self._seconds:
            raise self._failure()
