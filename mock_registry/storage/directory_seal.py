"""Which files are known to hold the content that they are named after.

Owns the mark that a verified file bears, and the memory of what was found. Must not read files.
"""

import os
import time
import zlib
from pathlib import Path
from typing import TypeAlias

from mock_registry.spec import Digest

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_SECOND = 10**9

Identity: TypeAlias = tuple[int, int, int, int]


class Seals:
    """Marks on verified files, so that none needs to be hashed again before somebody has written to it.

    The mark is the file's time of modification: a second that tells people when, and nanoseconds that are a
    function of the digest and the size. Whoever writes to the file sets another time, and a file of another
    size does not fit its mark. The time of a write by itself would not do: systems count it in steps of some
    milliseconds, within which a file can be verified and then damaged.

    Unless files are flushed to the disk, the mark holds only until the machine is started again, since a
    machine that lost its power may keep a file's times and lose its octets.

    Args:
        durable: Files are flushed before they are marked.
    """

    def __init__(self, *, durable: bool) -> None:
        self._epoch = "" if durable or not _BOOT.exists() else _BOOT.read_text().strip()
        self._found: dict[Digest, tuple[Identity, bool]] = {}

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
        return intact if found == identity(stat) else None

    def learn(self, digest: Digest, stat: os.stat_result, *, intact: bool) -> None:
        """Remember what reading a file has shown, until it changes."""
        self._found[digest] = identity(stat), intact

    def forget(self, digest: Digest) -> None:
        """Forget a file that is there no longer."""
        self._found.pop(digest, None)


def identity(stat: os.stat_result) -> Identity:
    """Return what tells a file apart from another one, and from itself before a change."""
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
