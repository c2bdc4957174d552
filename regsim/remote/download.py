"""Reading a blob, through cuts (distribution-spec, end-2 and its Range requests).

Owns the stream and its resumption. Must not know where the bytes go: they are handed on as they came,
and whoever stores them verifies them.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from regsim.content.protocols import CHUNK
from regsim.content.relay import hand_in_thread
from regsim.errors import ContentError, NetworkError, RegistryError
from regsim.remote.answer import ContentRange, refusal
from regsim.remote.retry import Unready, final

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from contextlib import AbstractAsyncContextManager

    from regsim.content.protocols import Taker
    from regsim.oci import Descriptor
    from regsim.remote.account import Account
    from regsim.remote.bodies import Response
    from regsim.remote.conversation import Conversation
    from regsim.remote.retry import Patience


@dataclass(frozen=True, slots=True)
class RemoteBlob:
    """A blob of a repository, as content. Each opening is one attempt to move it."""

    conversation: Conversation
    descriptor: Descriptor
    account: Account

    async def open(self) -> AsyncGenerator[bytes, None]:
        """Yield the raw bytes in chunks of about `CHUNK`, never more than the descriptor's size.

        After a cut it goes on at the byte it holds. A stretch that brought a chunk's worth renews the
        patience; so the number of requests is bounded by the size.

        Raises:
            NotFoundError: the repository lacks the blob.
            ContentError: what the registry holds under this digest has another size.
            NetworkError, RegistryError: patience ended.
        """
        tries = _Tries(self.conversation.patience)
        self.account.attempts += 1
        while True:
            start = tries.offset
            try:
                async with aclosing(self._stretch(start)) as stretch:
                    async for chunk in stretch:
                        tries.offset += len(chunk)
                        yield chunk
                self._check_end(tries.offset)
            except (NetworkError, Unready) as failure:
                await tries.failed(failure, since=start)
            else:
                return

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
        tries = _Tries(self.conversation.patience)
        self.account.attempts += 1
        while True:
            start = tries.offset
            try:
                await self._pour_stretch(start, (*takers, tries.gain))
                self._check_end(tries.offset)
            except (NetworkError, Unready) as failure:
                await tries.failed(failure, since=start)
            else:
                return

    @property
    def _name(self) -> str:
        return f"blob {self.descriptor.digest.short} of {self.conversation.name}"

    def _ask(self, start: int) -> AbstractAsyncContextManager[Response]:
        # Open-ended: the last byte need not be said, and is off by one in some clients' hands.
        headers = {"Range": f"bytes={start}-"} if start else {}
        target = self.conversation.blob(self.descriptor.digest)
        return self.conversation.transport.exchange(
            "GET", target, self.account, headers=headers, content=True
        )

    async def _stretch(self, start: int) -> AsyncGenerator[bytes, None]:
        """Yield what one request brings from byte `start` on."""
        async with self._ask(start) as response:
            skip = await self._skip(response, start)
            async with aclosing(self._wanted(response, start, skip)) as wanted:
                async for chunk in wanted:
                    yield chunk

    async def _pour_stretch(self, start: int, takers: Sequence[Taker]) -> None:
        """Hand over what one request brings from byte `start` on."""
        async with self._ask(start) as response:
            skip = await self._skip(response, start)
            plain = skip == 0 and response.length == self.descriptor.size - start
            if plain and response.drainable:
                await response.drain(takers)
                return
            async with aclosing(self._wanted(response, start, skip)) as wanted:
                async for chunk in wanted:
                    await hand_in_thread(chunk, takers)

    async def _wanted(self, response: Response, start: int, skip: int) -> AsyncGenerator[bytes, None]:
        """Yield the body without its first `skip` bytes; what follows them is the blob's from `start` on."""
        room = self.descriptor.size - start
        async with aclosing(response.chunks()) as chunks:
            async for chunk in chunks:
                wanted = chunk[skip:]
                skip -= len(chunk) - len(wanted)
                room -= len(wanted)
                if room < 0:
                    raise ContentError(f"{self._name} is longer than {self.descriptor.size} bytes")
                if wanted:
                    yield wanted

    async def _skip(self, response: Response, start: int) -> int:
        """Return how many bytes of the body come before byte `start`."""
        if response.status == HTTPStatus.PARTIAL_CONTENT and start:
            return self._behind(response, start)
        if response.status == HTTPStatus.OK:
            self._check_size(response.length)
            if start:
                # The registry ignored Range: all comes anew, and what is held already is in vain.
                self.account.attempts += 1
            return start
        answer = self.conversation.patience.settled(await response.answer())
        if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            raise ContentError(f"{self._name} ends before byte {start} of {self.descriptor.size}")
        raise refusal(answer)

    def _behind(self, response: Response, start: int) -> int:
        """Read `Content-Range`; a start before the one asked for is made good by skipping."""
        came = ContentRange.of(response.headers)
        if came is None or came.first > start:
            text = response.headers.get("Content-Range", "")
            raise RegistryError(f"{self._name} was asked for from byte {start}, and came as {text!r:.100}")
        self._check_size(came.total)
        return start - came.first

    def _check_end(self, offset: int) -> None:
        # A body without a stated length that is cut by FIN looks whole, and a 206 may bring less than asked.
        if offset < self.descriptor.size:
            raise NetworkError(f"{self._name} ended after {offset} of {self.descriptor.size} bytes")

    def _check_size(self, size: int | None) -> None:
        if size is not None and size != self.descriptor.size:
            raise ContentError(
                f"{self._name} has {size} bytes in the registry, {self.descriptor.size} by its descriptor"
            )


class _Tries:
    """How far a blob has come, and how often in vain."""

    def __init__(self, patience: Patience) -> None:
        self.offset = 0
        self._failures = 0
        self._patience = patience

    def gain(self, piece: memoryview) -> None:
        """Take note of a piece, as a taker."""
        self.offset += len(piece)

    async def failed(self, failure: NetworkError | Unready, *, since: int) -> None:
        """Wait before the next try, which begins at `offset`; the last one began at `since`.

        Raises:
            RegsimError: there shall be none.
        """
        if self.offset - since >= CHUNK:
            self._failures = 0
        if not await self._patience.again(self._failures, failure):
            raise final(failure) from failure.__cause__
        self._failures += 1
