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
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from mock_registry.spec import Digest, algorithm_of, digest_of

from .memory import FileReader, MemoryBlob
from .place import Place, look, open_file
from .protocol import BlobRemoved, in_thread

_log = logging.getLogger(__name__)

_SMALL = 1 << 15
"""Bytes up to which content is kept in memory for a while: configs, and layers that change a file or two."""

_KEPT = 512
"""Contents that are kept so, 16 MiB at most."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SECOND = 10**9

_Identity: TypeAlias = tuple[int, int, int, int]


def _identity(stat: os.stat_result) -> _Identity:
    """Return what tells a file apart from another one, and from itself before a change."""
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


class Library:
    """Access to the files of digests, with marks on those that were verified.

    A marked file is hashed again only after something wrote to it. The mark is the file's time of
    modification: a second that tells people when, and nanoseconds that are a function of the digest and the
    size. A write sets another time, and a file of another size does not fit its mark. The time of a write
    alone would not do: systems count it in steps of some milliseconds, within which a file can be verified
    and then damaged.

    The mark holds only until the machine is started again, since a machine that lost its power may keep a
    file's times and lose its bytes.

    Args:
        place: The open directory.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._epoch = BOOT_ID.read_text().strip() if BOOT_ID.exists() else ""
        self._found: dict[Digest, tuple[_Identity, bool]] = {}
        self._readings: dict[Digest, asyncio.Future[bool]] = {}
        self._kept: dict[tuple[Digest, _Identity], bytes] = {}

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

    async def inspect(self, digest: Digest) -> bool:
        """Tell whether a digest's file holds its content, by reading it; callers share a reading."""
        reading = self._readings.get(digest)
        if reading is None:
            reading = self._readings[digest] = in_thread(lambda: self._read_through(digest))
            reading.add_done_callback(lambda _: self._readings.pop(digest, None))
        return await asyncio.shield(reading)

    async def finished(self) -> None:
        """Wait until nothing is being read, though those who asked may be gone."""
        if self._readings:
            await asyncio.wait(set(self._readings.values()))

    def _read_through(self, digest: Digest) -> bool:
        name, folder = self.place.blob(digest)
        try:
            with open_file(name, folder) as file:
                before = os.fstat(file.fileno())
                actual = hashlib.file_digest(file, algorithm_of(digest)).hexdigest()
                intact = actual == name
                if intact:
                    with contextlib.suppress(OSError):  # a file of another user; then it is only remembered
                        os.utime(file.fileno(), ns=self.times(digest, before.st_size))
                else:
                    _log.warning("%s is damaged: its file holds %s:%s", digest, algorithm_of(digest), actual)
                after = os.fstat(file.fileno())
        except OSError as error:
            _log.warning("%s cannot be read: %s", digest, error)
            return False
        if (after.st_size, after.st_ino) == (before.st_size, before.st_ino):
            self.learn(digest, after, intact=intact)
        return intact

    def open(self, digest: Digest, size: int) -> FileReader:
        """Open a digest's file, if it is verified and of this size.

        Raises:
            BlobRemoved: It has been removed.
            OSError: It has been changed.
        """
        try:
            file = open_file(*self.place.blob(digest))
        except FileNotFoundError:
            raise BlobRemoved(digest) from None
        found = os.fstat(file.fileno())
        if found.st_size != size or not self.judge(digest, found):
            file.close()
            raise OSError(errno.EIO, "the file was changed by another program")
        return FileReader(file)

    def read(self, digest: Digest, stat: os.stat_result) -> bytes:
        """Return small content, which is kept for as long as its file is the one that it was read from.

        Raises:
            BlobRemoved: It has been removed.
            OSError: It has been changed.
        """
        key = digest, _identity(stat)
        if key in self._kept:
            return self._kept[key]
        with self.open(digest, stat.st_size) as reader:
            content = reader.read(0, stat.st_size)
        if digest_of(content, algorithm_of(digest)) != digest:  # cheap for content of this size
            self.learn(digest, stat, intact=False)
            raise OSError(errno.EIO, "the file does not hold what was written to it")
        if len(self._kept) >= _KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = content
        return content


@dataclass(slots=True)
class DirectoryBlob:
    """A file that is named after its digest: checked each time, and read again if it was touched."""

    library: Library
    digest: Digest
    stat: os.stat_result

    @property
    def size(self) -> int:
        """Bytes."""
        return self.stat.st_size

    async def is_intact(self) -> bool:
        """Tell whether the file is as it was verified; if it was touched since, read it in a thread."""
        verdict = self.library.judge(self.digest, self.stat)
        if verdict is None:
            verdict = await self.library.inspect(self.digest)
            fresh = look(*self.library.place.blob(self.digest))
            if fresh is None:
                return False
            self.stat = fresh  # a new push may have repaired it meanwhile
        return verdict

    def open(self) -> FileReader | MemoryBlob:
        """Open the file, if it is still the one that `is_intact` judged. Small content is cached.

        Raises:
            BlobRemoved: It has been removed.
            OSError: It has been changed.
        """
        if self.size > _SMALL:
            return self.library.open(self.digest, self.size)
        return MemoryBlob(self.library.read(self.digest, self.stat))
