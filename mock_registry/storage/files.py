"""Files that are named after their digests: checked each time, and read again if something wrote to them.

Owns the decision whether a file may be served under its digest, by a mark that a verified file bears. Must
not know how a file comes to its place, nor what the state says of it.
"""

import asyncio
import contextlib
import errno
import hashlib
import logging
import os
import time
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import TypeAlias

from mock_registry.spec import Digest, algorithm_of, digest_of

from .memory import FileReader, MemoryBlob
from .place import Place, look, open_file
from .protocol import BlobRemoved, Threads

_log = logging.getLogger(__name__)

_SMALL = 1 << 16
"""Bytes up to which content is kept in memory for a while: configs, and layers that change a file or two."""

_ROOM = 16 << 20
"""Bytes of all content that is kept so."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SECOND = 10**9

_Identity: TypeAlias = tuple[int, int, int, int]


class Seals:
    """Marks on verified files, so that they are hashed again only after something wrote to them.

    The mark is the file's time of modification: a second that tells people when, and nanoseconds that are a
    function of the digest and the size. A write sets another time, and a file of another size does not fit
    its mark. The time of a write alone would not do: systems count it in steps of some milliseconds, within
    which a file can be verified and then damaged.

    The mark holds only until the machine is started again, since a machine that lost its power may keep a
    file's times and lose its bytes.
    """

    def __init__(self) -> None:
        self._epoch = BOOT_ID.read_text().strip() if BOOT_ID.exists() else ""
        self._found: dict[Digest, tuple[_Identity, bool]] = {}

    def times(self, digest: Digest, size: int) -> tuple[int, int]:
        """Return times of access and modification, in nanoseconds, to mark a verified file with."""
        now = time.time_ns()
        return now, (now // _SECOND - 1) * _SECOND + self._mark(digest, size)

    def _mark(self, digest: Digest, size: int) -> int:
        return zlib.crc32(f"{digest} {size} {self._epoch}".encode()) % _SECOND

    def judge(self, digest: Digest, stat: os.stat_result) -> bool | None:
        """Tell whether a file holds its content; ``None`` means that it has to be read to know."""
        if stat.st_mtime_ns % _SECOND == self._mark(digest, stat.st_size):
            return True
        found, intact = self._found.get(digest, (None, None))
        return intact if found == _identity(stat) else None

    def learn(self, digest: Digest, stat: os.stat_result, *, intact: bool) -> None:
        """Remember what reading a file has shown, until it changes."""
        self._found[digest] = _identity(stat), intact

    def forget(self, digest: Digest) -> None:
        """Forget a file that was removed or replaced."""
        self._found.pop(digest, None)


def _identity(stat: os.stat_result) -> _Identity:
    """Return what tells a file apart from another one, and from itself before a change."""
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


class Library:
    """Access to the files of digests: which are intact, and the small ones that were read last.

    Args:
        place: The open directory.
        threads: Where files are read to know whether they are intact.
    """

    def __init__(self, place: Place, threads: Threads) -> None:
        self.place = place
        self.seals = Seals()
        self._threads = threads
        self._readings: dict[Digest, asyncio.Future[bool]] = {}
        self._kept: OrderedDict[Digest, tuple[_Identity, bytes]] = OrderedDict()
        self._bytes_kept = 0

    async def inspect(self, digest: Digest) -> bool:
        """Tell whether a digest's file holds its content, by reading it; callers share a reading."""
        reading = self._readings.get(digest)
        if reading is None:
            reading = self._threads.start(lambda: self._read_through(digest))
            self._readings[digest] = reading
            reading.add_done_callback(lambda _: self._readings.pop(digest, None))
        return await asyncio.shield(reading)

    async def finished(self) -> None:
        """Wait until nothing is being read, though those who asked may be gone."""
        if self._readings:
            await asyncio.wait(set(self._readings.values()))

    def _read_through(self, digest: Digest) -> bool:
        name, folder = self.place.blob(digest)
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
                    os.utime(descriptor, ns=self.seals.times(digest, before.st_size))
            else:
                _log.warning("%s is damaged: its file holds %s:%s", digest, algorithm_of(digest), actual)
            after = os.fstat(descriptor)
        if (after.st_size, after.st_ino) == (before.st_size, before.st_ino):
            self.seals.learn(digest, after, intact=intact)
        return intact

    def open(self, digest: Digest, stat: os.stat_result) -> FileReader:
        """Open a digest's file, if it is still the one that ``stat`` was taken of.

        Raises:
            BlobRemoved: It has been removed.
            OSError: It has been changed.
        """
        try:
            descriptor = open_file(*self.place.blob(digest))
        except FileNotFoundError:
            raise BlobRemoved(digest) from None
        found = os.fstat(descriptor)
        if found.st_size != stat.st_size or not self.seals.judge(digest, found):
            os.close(descriptor)
            raise OSError(errno.EIO, "the file was changed by somebody else")
        return FileReader(os.fdopen(descriptor, "rb", buffering=0))

    def read(self, digest: Digest, stat: os.stat_result) -> bytes:
        """Return small content, which is kept for as long as its file is the one that it was read from.

        Raises:
            BlobRemoved: It has been removed.
            OSError: It has been changed.
        """
        identity = _identity(stat)
        kept, content = self._kept.get(digest, (None, b""))
        if kept == identity:
            self._kept.move_to_end(digest)
            return content
        with self.open(digest, stat) as reader:
            content = reader.read(0, stat.st_size)
        if digest_of(content, algorithm_of(digest)) != digest:  # cheap for content of this size
            self.seals.learn(digest, stat, intact=False)
            raise OSError(errno.EIO, "the file does not hold what was written to it")
        self._keep(digest, identity, content)
        return content

    def _keep(self, digest: Digest, identity: _Identity, content: bytes) -> None:
        if digest in self._kept:
            self._bytes_kept -= len(self._kept.pop(digest)[1])
        self._kept[digest] = identity, content
        self._bytes_kept += len(content)
        while self._bytes_kept > _ROOM:
            self._bytes_kept -= len(self._kept.popitem(last=False)[1][1])


class DirectoryBlob:
    """A file that is named after its digest: checked each time, and read again if it was touched."""

    __slots__ = ("_digest", "_library", "_stat")

    def __init__(self, library: Library, digest: Digest, stat: os.stat_result) -> None:
        self._library = library
        self._digest = digest
        self._stat = stat

    @property
    def size(self) -> int:
        """Bytes."""
        return self._stat.st_size

    async def is_intact(self) -> bool:
        """Tell whether the file is as it was verified; if it was touched since, read it in a thread."""
        verdict = self._library.seals.judge(self._digest, self._stat)
        if verdict is None:
            verdict = await self._library.inspect(self._digest)
            fresh = look(*self._library.place.blob(self._digest))
            if fresh is None:
                return False
            self._stat = fresh  # a new push may have repaired it meanwhile
        return verdict

    def open(self) -> FileReader | MemoryBlob:
        """Open the file, if it is still the one that `is_intact` judged. Small content is cached.

        Raises:
            BlobRemoved: It has been removed.
            OSError: It has been changed.
        """
        if self.size > _SMALL:
            return self._library.open(self._digest, self._stat)
        return MemoryBlob(self._library.read(self._digest, self._stat))
