"""Content in a directory: looked at each time, read again when somebody has touched it.

Owns the decision whether a file may be served under its digest. Must not know who asks.
"""

import asyncio
import contextlib
import errno
import hashlib
import logging
import os
from typing import TYPE_CHECKING

from mock_registry.spec import Digest, algorithm_of, digest_of

from .directory_cache import SMALL
from .directory_place import Place, look, open_file
from .directory_seal import Seals, identity
from .hops import Hops
from .memory import FileReader, MemoryBlob
from .protocol import BlobRemoved

if TYPE_CHECKING:
    from .directory import DirectoryStorage

_log = logging.getLogger(__name__)


class DirectoryBlob:
    """A file that is named after its digest."""

    __slots__ = ("_digest", "_stat", "_storage")

    def __init__(self, storage: "DirectoryStorage", digest: Digest, stat: os.stat_result) -> None:
        self._storage = storage
        self._digest = digest
        self._stat = stat

    @property
    def size(self) -> int:
        """Octets."""
        return self._stat.st_size

    async def is_intact(self) -> bool:
        """Tell whether the file is as it was verified; if it was touched since, read it in a thread."""
        verdict = self._storage.seals.judge(self._digest, self._stat)
        if verdict is None:
            verdict = await self._storage.inspection.inspect(self._storage.place, self._digest)
            fresh = look(*self._storage.place.blob(self._digest))
            if fresh is None:
                return False
            self._stat = fresh  # a new push may have healed it meanwhile
        return verdict

    def open(self) -> FileReader | MemoryBlob:
        """Open the file, if it is still the one that `is_intact` spoke of. Small content is cached.

        Raises:
            BlobRemoved: It has been removed.
            OSError: It has been changed.
        """
        if self.size > SMALL:
            return self._open()
        cache, file = self._storage.cache, identity(self._stat)
        content = cache.get(self._digest, file)
        if content is None:
            with self._open() as reader:
                content = reader.read(0, self.size)
            if digest_of(content, algorithm_of(self._digest)) != self._digest:  # it costs next to nothing
                self._storage.seals.learn(self._digest, self._stat, intact=False)
                raise OSError(errno.EIO, "the file does not hold what was written to it")
            cache.put(self._digest, file, content)
        return MemoryBlob(content)

    def _open(self) -> FileReader:
        try:
            descriptor = open_file(*self._storage.place.blob(self._digest))
        except FileNotFoundError:
            raise BlobRemoved(self._digest) from None
        stat = os.fstat(descriptor)
        if stat.st_size != self.size or not self._storage.seals.judge(self._digest, stat):
            os.close(descriptor)
            raise OSError(errno.EIO, "the file was changed by somebody else")
        return FileReader(os.fdopen(descriptor, "rb", buffering=0))


class Inspection:
    """Reads files whose content is in doubt; many who ask for one at a time share its reading."""

    def __init__(self, seals: Seals, hops: Hops) -> None:
        self._seals = seals
        self._hops = hops
        self._under_way: dict[Digest, asyncio.Future[bool]] = {}

    async def inspect(self, place: Place, digest: Digest) -> bool:
        """Tell whether a digest's file holds its content."""
        reading = self._under_way.get(digest)
        if reading is None:
            reading = self._hops.start(lambda: _inspect(place, self._seals, digest))
            self._under_way[digest] = reading
            reading.add_done_callback(lambda _: self._under_way.pop(digest, None))
        return await asyncio.shield(reading)

    async def finished(self) -> None:
        """Wait until nothing is being read, though those who asked may be gone."""
        if self._under_way:
            await asyncio.wait(set(self._under_way.values()))


def _inspect(place: Place, seals: Seals, digest: Digest) -> bool:
    name, folder = place.blob(digest)
    try:
        descriptor = open_file(name, folder)
    except OSError:
        return False
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        before = os.fstat(descriptor)
        try:
            actual = hashlib.file_digest(file, algorithm_of(digest)).hexdigest()
        except OSError as error:
            _log.warning("%s cannot be read: %s", digest, error)
            return False
        intact = actual == name
        if intact:
            with contextlib.suppress(OSError):  # a file of another user; then it is only remembered
                os.utime(descriptor, ns=seals.times(digest, before.st_size))
        else:
            _log.warning("%s is damaged: its file holds %s:%s", digest, algorithm_of(digest), actual)
        after = os.fstat(descriptor)
    if (after.st_size, after.st_ino) == (before.st_size, before.st_ino):
        seals.learn(digest, after, intact=intact)
    return intact
