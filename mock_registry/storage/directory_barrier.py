"""What separates an effect from its acknowledgement when a directory is to survive a loss of power.

Owns the order in which files, folders and the changes are flushed. Must not know what they hold.
"""

import asyncio
import errno
import os
from collections.abc import Callable

from .changelog import ChangeLog
from .directory_place import Place
from .hops import Hops


class Barrier:
    """Flushes once for all who wait at the same time. Unless it is durable, there is nothing to wait for.

    Args:
        place: The directory.
        changes: Its file of changes.
        hops: Threads to flush in.
        durable: Whether to flush at all.
    """

    def __init__(self, place: Place, changes: ChangeLog, hops: Hops, *, durable: bool) -> None:
        self.durable = durable
        self._place = place
        self._changes = changes
        self._hops = hops
        self._lock = asyncio.Lock()
        self._asked = 0
        self._done = 0
        self._failed = False
        self._descriptors: list[int] = []
        self._afterwards: list[Callable[[], None]] = []

    @property
    def flushing(self) -> bool:
        """The file of changes is being flushed, and must not be replaced."""
        return self._lock.locked()

    def note(self) -> None:
        """Know of a change that is about to be written and flushed.

        Raises:
            OSError: A flush has failed before. What it was for may be lost though a second try succeeds, so
                that nothing that builds on it is begun.
        """
        if self._failed:
            raise OSError(errno.EIO, "the disk failed; the directory has to be opened again")
        self._asked += 1

    def flush_later(self, descriptor: int) -> None:
        """Take over an open file that is to be flushed with the next changes, and closed."""
        if self.durable:
            self._descriptors.append(descriptor)
        else:
            os.close(descriptor)

    def afterwards(self, work: Callable[[], None]) -> None:
        """Do something short once what was noted before is on the disk."""
        self._afterwards.append(work)

    async def flush(self, descriptor: int) -> None:
        """Bring a growing file to the disk, and its name."""
        if self.durable:
            await self._hops.together(lambda: _flush(descriptor, self._place.uploads))

    async def wait(self) -> None:
        """Wait until everything noted so far is on the disk.

        Raises:
            OSError: Some of it may not be.
        """
        if not self.durable or self._asked <= self._done:
            return
        mine = self._asked
        async with self._lock:
            if self._done >= mine:
                return  # somebody flushed it together with theirs
            reached = self._asked
            descriptors, self._descriptors = self._descriptors, []
            afterwards, self._afterwards = self._afterwards, []
            await self._hops.together(lambda: self._flush_all(descriptors))
            self._done = reached
            for work in afterwards:
                work()

    def _flush_all(self, descriptors: list[int]) -> None:
        try:
            _flush(*descriptors, *self._place.blobs.values(), self._place.uploads)
            self._changes.flush()
        except OSError:
            self._failed = True
            raise
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def close(self) -> None:
        """Close what was never flushed."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()


def _flush(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.fsync(descriptor)
