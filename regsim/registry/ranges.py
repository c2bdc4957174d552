"""Reading a large blob over several connections at once, for servers that limit what each one gets.

Owns how a blob is divided, and that its bytes are handed on in order. Must not know how a part comes, or
where the bytes go.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from threading import Semaphore
from typing import TYPE_CHECKING

from regsim.core.account import Loss
from regsim.errors import UsageError
from regsim.registry.blobs import Download, RangeError, RemoteBlob
from regsim.store.protocols import CHUNK
from regsim.store.relay import finished, hand_in_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regsim.core.account import Reason
    from regsim.store.protocols import Taker

MOST_RANGES = 16
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """How blobs are divided.

    Attributes:
        count: connections for one blob, 1 to `MOST_RANGES`.
        least: bytes below which a blob comes in one stream.
        length: bytes of a part. Longer ones cost memory, shorter ones round trips.
        room: counts places in memory for parts that come before their turn, shared by all blobs of a client:
            16 of 2 MiB. Nothing waits for one: without it, a blob comes over fewer connections.

    Raises:
        UsageError: `count` is another number.
    """

    count: int = 1
    least: int = 32 * _MIB
    length: int = 2 * _MIB
    room: Semaphore = field(default_factory=lambda: Semaphore(MOST_RANGES))

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST_RANGES:
            raise UsageError(f"{self.count} ranges of a blob at once", hint=f"1 to {MOST_RANGES}")

    def divide(self, size: int) -> bool:
        """Return whether this number of bytes is fetched in several parts at once."""
        return self.count > 1 and size >= self.least


@dataclass(frozen=True, slots=True)
class RangedBlob(RemoteBlob):
    """A large blob of a repository, as content that comes over several connections.

    A part whose turn it is is handed on as it comes, and `Ranges.room` bounds the others; each of them is
    resumed for itself. It comes in one stream from where it stands as soon as the registry answers a Range
    with something else, and from the beginning when it is opened again, since one of its parts may have been
    wrong.
    """

    ranges: Ranges

    async def pour(self, *takers: Taker, offset: int = 0) -> None:
        """Hand the raw bytes to `takers`, in threads, in order; else as `RemoteBlob.pour`."""
        divided = self.ranges.divide(self.descriptor.size - offset) and not self.account.divided
        if not (divided and self.repository.habits.ranges):
            await RemoteBlob.pour(self, *takers, offset=offset)
            return
        self.account.attempts += 1
        self.account.divided = True
        self.account.reads_from(offset)
        window = _Window(self, offset, takers)
        try:
            while window.offset < self.descriptor.size:
                try:
                    await window.due()
                except RangeError as error:
                    await window.give_up(error)
        except BaseException:
            self.account.waste(received=await window.close(), loss=Loss.READ_AGAIN)
            raise
        finally:
            self.account.has_read(window.offset)


class _Window:
    """The parts of a blob that are under way: the one whose turn it is, and those ahead of their turn.

    A part ahead never waits for another one while it has a connection: there is room for all of it before it
    is requested. So each comes to its end in whatever order connections become free.
    """

    def __init__(self, blob: RangedBlob, start: int, takers: Sequence[Taker]) -> None:
        self.offset = start  # the first byte that has not been handed on
        self._blob = blob
        self._takers = (*takers, self._gain)
        self._size = blob.descriptor.size
        self._next = start  # the first byte that was not requested
        self._part: Download | None = None  # whose turn it is
        self._turn: _Ahead | None = None  # the same, if it came ahead
        self._ahead: deque[_Ahead] = deque()
        self._proven = False  # the registry has shown that it knows what a Range is
        self._whole = False  # what is left comes in one stream

    def _gain(self, piece: memoryview) -> None:
        self.offset += len(piece)

    async def due(self) -> None:
        """Hand on the part that begins at `offset`."""
        if self._ahead:
            self._turn = self._ahead.popleft()
            self._part = self._turn.part
            self._widen()
            while piece := await self._turn.arrived.get():
                await hand_in_thread(piece, self._takers)
            await self._turn.task
            self._turn = None
            self._blob.ranges.room.release()
        else:
            self._whole = self._whole or not self._blob.repository.habits.ranges
            self._part = self._make(self.offset, None) if self._whole else self._begin()
            self._widen()
            await self._part.pour(*self._takers)

    async def give_up(self, error: RangeError) -> None:
        """Fetch the rest in one stream; what had arrived of it is wasted."""
        self._blob.account.retried(error.reason, received=await self.close())
        self._whole = True

    async def close(self) -> int:
        """End all that is under way; return how many bytes arrived that were not handed on."""
        begun = [self._part, *(each.part for each in self._ahead)]
        kept = self.offset - self._part.start if self._part else 0
        left = [*self._ahead, *([self._turn] if self._turn else [])]
        self._ahead.clear()
        self._turn = None
        for each in left:
            each.task.cancel()
            self._blob.ranges.room.release()
        await finished(asyncio.gather(*(each.task for each in left), return_exceptions=True))
        return sum(each.received - each.noted for each in begun if each is not None) - kept

    def _widen(self) -> None:
        """Ask for more parts ahead of their turn, as many as there may be."""
        blob = self._blob
        while (
            self._proven
            and blob.repository.habits.ranges
            and self._next < self._size
            and len(self._ahead) + 1 < blob.ranges.count
            and blob.ranges.room.acquire(blocking=False)
        ):
            self._ahead.append(_Ahead(self._begin()))

    def _begin(self) -> Download:
        start = self._next
        self._next = min(start + self._blob.ranges.length, self._size)
        return self._make(start, self._next, strict=self._proven)

    def _make(self, start: int, end: int | None, *, strict: bool = False) -> Download:
        blob = self._blob
        return Download(
            blob.repository,
            blob.descriptor,
            blob.account,
            start,
            self._size if end is None else end,
            strict=strict,
            block=CHUNK // 4 if end is not None else CHUNK,
            on_range=self._learn,
        )

    def _learn(self, wrong: Reason | None) -> None:
        """Take note of whether the registry knows what a Range is."""
        if wrong is not None:
            self._blob.repository.habits.ranges = False
            return
        # The first part may come whole instead, and then goes on to the end of the blob.
        first = self._part
        if not self._proven and not self._whole and first is not None and first.end == self._next:
            self._proven = first.strict = True
            self._widen()


class _Ahead:
    """A part that comes ahead of its turn, in a task of its own; an empty piece is its end."""

    def __init__(self, part: Download) -> None:
        self.part = part
        self.arrived: asyncio.Queue[bytes] = asyncio.Queue()
        self.task = asyncio.create_task(self._fetch())
        self._loop = asyncio.get_running_loop()

    async def _fetch(self) -> None:
        try:
            await self.part.pour(self._take)
        finally:
            self.arrived.put_nowait(b"")

    def _take(self, piece: memoryview) -> None:
        self._loop.call_soon_threadsafe(self.arrived.put_nowait, bytes(piece))
