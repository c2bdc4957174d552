"""Reading a large blob over several connections at once, for servers that limit what each one gets.

Owns how a blob is divided, and that its bytes are handed on in order. Must not know how a stretch comes, or
where the bytes go.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regsim.core.account import Loss
from regsim.errors import UsageError
from regsim.registry.download import RemoteBlob
from regsim.registry.stretch import RangeError, Stretch
from regsim.store.relay import finished, hand_in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from regsim.core import Descriptor
    from regsim.core.account import Account, Reason
    from regsim.registry.conversation import Conversation
    from regsim.store.protocols import Taker

MOST_RANGES = 16
_MIB = 1024 * 1024


class Room:
    """Memory for stretches that come before their turn, shared by all blobs of a client.

    Nobody waits for it: where there is none, a blob comes over fewer connections.

    Args:
        stretches: that it has place for.
    """

    def __init__(self, stretches: int = MOST_RANGES) -> None:
        self._free = stretches

    def take(self) -> bool:
        """Tell whether there was place for one more; it is taken."""
        if self._free == 0:
            return False
        self._free -= 1
        return True

    def give(self) -> None:
        """Give a place back."""
        self._free += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """How blobs are divided.

    Attributes:
        count: connections for one blob, 1 to `MOST_RANGES`.
        least: bytes below which a blob comes in one stream.
        length: bytes of a stretch. Longer ones cost memory, shorter ones round trips.
        room: for stretches before their turn: 16 of 2 MiB.

    Raises:
        UsageError: `count` is another number.
    """

    count: int = 1
    least: int = 32 * _MIB
    length: int = 2 * _MIB
    room: Room = field(default_factory=Room)

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST_RANGES:
            raise UsageError(f"{self.count} ranges of a blob at once", hint=f"1 to {MOST_RANGES}")

    def divide(self, size: int) -> bool:
        """Tell whether so many bytes come in several stretches at once."""
        return self.count > 1 and size >= self.least


@dataclass(frozen=True, slots=True)
class RangedBlob:
    """A large blob of a repository, as content that comes over several connections.

    A stretch whose turn it is is handed on as it comes, and `Ranges.room` bounds the others; all of them are
    resumed by themselves. It comes in one stream from where it stands as soon as the registry answers a Range
    with something else, and from the beginning when it is opened again, since one of its pieces may have been
    wrong.
    """

    conversation: Conversation
    descriptor: Descriptor
    account: Account
    ranges: Ranges

    def open(self) -> AsyncGenerator[bytes, None]:
        """Yield the raw bytes, in order; else as `RemoteBlob.open`."""
        return self.open_at(0)

    async def open_at(self, offset: int) -> AsyncGenerator[bytes, None]:
        """Yield the raw bytes from `offset` on; else as `open`."""
        divided = self.ranges.divide(self.descriptor.size - offset) and not self.account.divided
        self.account.reads_from(offset)
        if divided and self.conversation.habits.ranges:
            source = self._divided(offset)
        else:
            source = RemoteBlob(self.conversation, self.descriptor, self.account).open_at(offset)
        async with aclosing(source) as chunks:
            async for chunk in chunks:
                offset += len(chunk)
                self.account.has_read(offset)
                yield chunk

    async def pour(self, *takers: Taker) -> None:
        """Hand the raw bytes to `takers`, in threads, as they come; else as `RemoteBlob.pour`."""
        async with aclosing(self.open()) as chunks:
            async for chunk in chunks:
                await hand_in_thread(chunk, takers)

    async def _divided(self, offset: int) -> AsyncGenerator[bytes, None]:
        self.account.attempts += 1
        self.account.divided = True
        window = _Window(self, offset)
        try:
            while offset < self.descriptor.size:
                try:
                    async with aclosing(window.due(offset)) as chunks:
                        async for chunk in chunks:
                            offset += len(chunk)
                            yield chunk
                except RangeError as error:
                    await window.give_up(error, offset)
        except BaseException:
            self.account.waste(received=await window.close(offset), loss=Loss.READ_AGAIN)
            raise


class _Window:
    """The stretches of a blob that are under way: the one whose turn it is, and those ahead of their turn.

    A stretch ahead never waits for another one while it has a connection: there is room for all of it before
    it is asked for. So each comes to its end in whatever order connections become free.
    """

    def __init__(self, blob: RangedBlob, start: int) -> None:
        self._blob = blob
        self._size = blob.descriptor.size
        self._next = start  # the first byte that nobody has been asked for
        self._stretch: Stretch | None = None  # whose turn it is
        self._turn: _Ahead | None = None  # the same, if it came ahead
        self._ahead: deque[_Ahead] = deque()
        self._proven = False  # the registry has shown that it knows what a Range is
        self._whole = False  # what is left comes in one stream

    async def due(self, offset: int) -> AsyncGenerator[bytes, None]:
        """Yield the stretch that begins at `offset`."""
        if self._ahead:
            self._turn = self._ahead.popleft()
            self._stretch, source = self._turn.stretch, self._turn.chunks()
        else:
            self._whole = self._whole or not self._blob.conversation.habits.ranges
            self._stretch = self._make(offset, None) if self._whole else self._begin()
            source = self._stretch.chunks()
        self._widen()
        async with aclosing(source) as chunks:
            async for chunk in chunks:
                yield chunk
        if self._turn is not None:
            self._turn = None
            self._blob.ranges.room.give()

    async def give_up(self, error: RangeError, offset: int) -> None:
        """Let what is left come in one stream; what came of it before came in vain."""
        self._blob.account.retried(error.reason, received=await self.close(offset))
        self._whole = True

    async def close(self, offset: int) -> int:
        """End all that is under way; return how many octets came of it that were not handed on."""
        begun = [self._stretch, *(each.stretch for each in self._ahead)]
        kept = offset - self._stretch.start if self._stretch else 0
        left = [*self._ahead, *([self._turn] if self._turn else [])]
        self._ahead.clear()
        self._turn = None
        for each in left:
            each.task.cancel()
            self._blob.ranges.room.give()
        await finished(asyncio.gather(*(each.task for each in left), return_exceptions=True))
        return sum(each.received - each.noted for each in begun if each is not None) - kept

    def _widen(self) -> None:
        """Ask for more stretches ahead of their turn, as many as there may be."""
        blob = self._blob
        while (
            self._proven
            and blob.conversation.habits.ranges
            and self._next < self._size
            and len(self._ahead) + 1 < blob.ranges.count
            and blob.ranges.room.take()
        ):
            self._ahead.append(_Ahead(self._begin()))

    def _begin(self) -> Stretch:
        start = self._next
        self._next = min(start + self._blob.ranges.length, self._size)
        return self._make(start, self._next, strict=self._proven)

    def _make(self, start: int, end: int | None, *, strict: bool = False) -> Stretch:
        blob = self._blob
        return Stretch(
            blob.conversation,
            blob.descriptor,
            blob.account,
            start,
            end,
            strict=strict,
            on_range=self._learn,
        )

    def _learn(self, wrong: Reason | None) -> None:
        """Take note of whether the registry knows what a Range is."""
        if wrong is not None:
            self._blob.conversation.habits.ranges = False
            return
        # The first stretch may come whole instead, and then goes on to the end of the blob.
        first = self._stretch
        if not self._proven and not self._whole and first is not None and first.end == self._next:
            self._proven = first.strict = True
            self._widen()


class _Ahead:
    """A stretch that comes ahead of its turn, in a task of its own."""

    def __init__(self, stretch: Stretch) -> None:
        self.stretch = stretch
        self._arrived: asyncio.Queue[bytes] = asyncio.Queue()
        self.task = asyncio.create_task(self._fetch())

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield what has come, and then what comes; raises what `Stretch.chunks` raised."""
        while chunk := await self._arrived.get():
            yield chunk
        await self.task

    async def _fetch(self) -> None:
        try:
            async with aclosing(self.stretch.chunks()) as chunks:
                async for chunk in chunks:
                    self._arrived.put_nowait(chunk)
        finally:
            self._arrived.put_nowait(b"")
