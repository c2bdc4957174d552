"""Reading a blob, through cuts (distribution-spec, end-2 and its Range requests).

Owns the stream and its resumption. Must not know where the bytes go: they are handed on as they came,
and whoever stores them verifies them.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

from regsim.content.protocols import CHUNK
from regsim.content.relay import hand_in_thread
from regsim.errors import ContentError, NetworkError, Trouble
from regsim.remote.account import Reason
from regsim.remote.answer import ContentRange, refusal
from regsim.remote.retry import Unready, final

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from regsim.content.protocols import Taker
    from regsim.oci import Descriptor, Digest
    from regsim.remote.account import Account
    from regsim.remote.bodies import Response
    from regsim.remote.retry import Patience
    from regsim.remote.timeouts import Timeouts


class _LiedError(NetworkError):
    """A Range was answered with something else; it is not asked for again."""


class Asked(Protocol):
    """Who is asked for a blob."""

    @property
    def timeouts(self) -> Timeouts:
        """How long each wait may be."""

    def exchange(
        self, method: str, target: str, account: Account, *, headers: Mapping[str, str], content: bool
    ) -> AbstractAsyncContextManager[Response]:
        """Send a request and hand over its answer unread."""


class Place(Protocol):
    """Where a blob is: a repository, or whatever a foreign layer's URL leads to."""

    @property
    def name(self) -> str:
        """What errors call it."""

    @property
    def patience(self) -> Patience:
        """How long to keep trying."""

    @property
    def transport(self) -> Asked:
        """Whom to ask."""

    def blob(self, digest: Digest) -> str:
        """Return what to ask for."""


@dataclass(frozen=True, slots=True)
class RemoteBlob:
    """A blob at a place, as content. Each opening is one attempt to move it."""

    place: Place
    descriptor: Descriptor
    account: Account

    def open(self) -> AsyncGenerator[bytes, None]:
        """Yield the raw bytes in chunks of about `CHUNK`, never more than the descriptor's size.

        After a cut it goes on at the byte it holds. A stretch that brought a chunk's worth renews the
        patience; so the number of requests is bounded by the size. A registry that answers a Range with
        something else is asked for all of it once more, and what is held already comes in vain.

        Raises:
            NotFoundError: the repository lacks the blob.
            ContentError: what the registry holds under this digest has another size.
            NetworkError, RegistryError: patience ended.
        """
        return self.open_at(0)

    async def open_at(self, offset: int) -> AsyncGenerator[bytes, None]:
        """Yield the raw bytes from `offset` on; else as `open`."""
        tries = _Tries(self, offset)
        self.account.attempts += 1
        while tries.offset < self.descriptor.size or not tries.asked:
            start = tries.offset
            try:
                async with aclosing(self._stretch(tries)) as stretch:
                    async for chunk in stretch:
                        tries.offset += len(chunk)
                        yield chunk
                self._check_end(tries.offset)
            except (NetworkError, Unready) as failure:
                await tries.failed(failure, since=start)
        tries.note_waste()

    async def pour(self, *takers: Taker) -> None:
        """Hand the raw bytes to `takers`, in threads, never more than the descriptor's size.

        The fast way for a store that takes a blob whole: the connection is read, and the bytes are taken, in
        one thread, without a hop in between. Cuts, attempts and counts are as for `open`.

        Args:
            takers: each is handed every piece, once and in order; a piece is theirs until they return. Where
                nothing else moves, the first one runs in a thread beside the others.

        Raises:
            NotFoundError, ContentError, NetworkError, RegistryError: as from `open`.
            Exception: what a taker raised.
        """
        tries = _Tries(self, 0)
        self.account.attempts += 1
        while tries.offset < self.descriptor.size or not tries.asked:
            start = tries.offset
            try:
                await self._pour_stretch(tries, (*takers, tries.gain))
                self._check_end(tries.offset)
            except (NetworkError, Unready) as failure:
                await tries.failed(failure, since=start)
        tries.note_waste()

    @property
    def _name(self) -> str:
        return f"blob {self.descriptor.digest.short} of {self.place.name}"

    def _ask(self, tries: _Tries) -> AbstractAsyncContextManager[Response]:
        # Open-ended: the last byte need not be said, and is off by one in some clients' hands.
        ranged = tries.offset and tries.trusting
        headers = {"Range": f"bytes={tries.offset}-"} if ranged else {}
        target = self.place.blob(self.descriptor.digest)
        tries.asked = True
        return self.place.transport.exchange("GET", target, self.account, headers=headers, content=True)

    async def _stretch(self, tries: _Tries) -> AsyncGenerator[bytes, None]:
        """Yield what one request brings from the first byte that is lacking on."""
        await self.place.patience.ready()
        async with self._ask(tries) as response:
            skip = await self._skip(response, tries)
            async with aclosing(self._wanted(response, tries.offset, skip)) as wanted:
                async for chunk in wanted:
                    yield chunk

    async def _pour_stretch(self, tries: _Tries, takers: Sequence[Taker]) -> None:
        """Hand over what one request brings from the first byte that is lacking on."""
        await self.place.patience.ready()
        async with self._ask(tries) as response:
            start = tries.offset
            skip = await self._skip(response, tries)
            plain = skip == 0 and response.length == self.descriptor.size - start
            if plain and response.drainable:
                await response.drain((*takers, _Pace(self._too_slow, self._seconds).check))
                return
            async with aclosing(self._wanted(response, start, skip)) as wanted:
                async for chunk in wanted:
                    await hand_in_thread(chunk, takers)

    async def _wanted(self, response: Response, start: int, skip: int) -> AsyncGenerator[bytes, None]:
        """Yield the body without its first `skip` bytes; what follows them is the blob's from `start` on."""
        room = self.descriptor.size - start
        async with aclosing(response.chunks()) as chunks:
            while chunk := await self._in_time(chunks):
                wanted = chunk[skip:]
                skip -= len(chunk) - len(wanted)
                room -= len(wanted)
                if room < 0:
                    raise ContentError(f"{self._name} is longer than {self.descriptor.size} bytes")
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
    def _seconds(self) -> float:
        """How long a chunk may take."""
        return CHUNK / self.place.transport.timeouts.slowest

    def _too_slow(self) -> NetworkError:
        slowest = self.place.transport.timeouts.slowest
        return NetworkError(
            f"{self._name} came at less than {slowest:g} bytes a second", trouble=Trouble.SLOW
        )

    async def _skip(self, response: Response, tries: _Tries) -> int:
        """Return how many bytes of the body come before the first one that is lacking."""
        start, ranged = tries.offset, tries.offset and tries.trusting
        if response.status == HTTPStatus.PARTIAL_CONTENT and ranged:
            return self._behind(response, start)
        if response.status == HTTPStatus.OK:
            self.place.patience.well()
            self._check_size(response.length)
            if start:
                # All comes anew, and what is held already comes in vain.
                self.account.attempts += 1
            if ranged:
                self.account.retried(Reason.RANGE_IGNORED)
            return start
        answer = self.place.patience.settled(await response.answer())
        if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and ranged:
            raise _LiedError(f"{self._name} ends before byte {start} of {self.descriptor.size}")
        raise refusal(answer)

    def _behind(self, response: Response, start: int) -> int:
        """Read `Content-Range`; a start before the one asked for is made good by skipping."""
        came = ContentRange.of(response.headers)
        if came is None or came.first > start:
            text = response.headers.get("Content-Range", "")
            raise _LiedError(f"{self._name} was asked for from byte {start}, and came as {text!r:.100}")
        self._check_size(came.total)
        return start - came.first

    def _check_end(self, offset: int) -> None:
        # A body without a stated length that is cut by FIN looks whole, and a 206 may bring less than asked.
        if offset < self.descriptor.size:
            raise NetworkError(f"{self._name} ended after {offset} of {self.descriptor.size} bytes")

    def _check_size(self, size: int | None) -> None:
        if size is not None and size != self.descriptor.size:
            raise ContentError(
                f"{self._name} has {size} bytes there, {self.descriptor.size} by its descriptor"
            )


class _Tries:
    """How far a blob has come, and how often in vain.

    Attributes:
        offset: the first byte that is lacking.
        asked: a request has been made.
        trusting: that the registry knows what a Range is.
    """

    def __init__(self, blob: RemoteBlob, offset: int) -> None:
        self.offset = offset
        self.asked = False
        self.trusting = True
        self._account = blob.account
        self._patience = blob.place.patience
        self._failures = 0
        self._before = blob.account.received - offset
        self._wasted = 0

    def gain(self, piece: memoryview) -> None:
        """Take note of a piece, as a taker."""
        self.offset += len(piece)

    async def failed(self, failure: NetworkError | Unready, *, since: int) -> None:
        """Wait before the next try, which begins at `offset`; the last one began at `since`.

        Raises:
            RegsimError: there shall be none.
        """
        if isinstance(failure, _LiedError):
            self.trusting = False
            self._account.retried(Reason.RANGE_WRONG)
        else:
            if self.offset - since >= CHUNK:
                self._failures = 0
            if not await self._patience.again(self._failures, failure, self._account):
                raise final(failure) from failure.__cause__
            self._failures += 1
        self.note_waste()

    def note_waste(self) -> None:
        """Charge the last retry with what came, and had come before."""
        wasted = self._account.received - self._before - self.offset - self._wasted
        if wasted and self._account.retries:
            self._wasted += wasted
            self._account.waste(wasted)


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
