"""Checksums of a context's files, remembered so that a file is read only when it may have changed.

Owns what is remembered and when it may be trusted: a file whose size, number and times of modification and
change are what they were is what it was. A file that changed so shortly before it was read that a later write
could bear the same time is read again next time, as git does. Must not know what checksums are for.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regsim.errors import RegsimError
from regsim.store.files import file_errors, read_bounded, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

# Room for half a million files.
MAX_MEMORY = 256 * 1024 * 1024
_VERSION = 1
_FINE = 100_000_000  # nanoseconds: ten times the longest tick of a Linux clock
_COARSE = 2_000_000_000  # for file systems that keep whole seconds, or every second one
_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells that a file is the same as before: size, inode, times of modification and change in ns."""

    size: int
    inode: int
    modified: int
    changed: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """Return the stamp of a file's status."""
        return cls(status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)

    def settled(self, now: int) -> bool:
        """Tell whether any write from `now` on, in nanoseconds, will change the stamp."""
        granularity = _COARSE if self.changed % _SECOND == 0 else _FINE
        return self.changed + granularity < now


class Checksums:
    """The SHA-256 of files, kept in a small file between runs.

    Args:
        memory: where they are kept; None to forget them. A file that cannot be used counts as empty.
    """

    def __init__(self, memory: Path | None) -> None:
        self._memory = memory
        self._known: dict[str, list[int | str]] = _load(memory) if memory is not None else {}
        self._used: dict[str, list[int | str]] = {}

    def of(
        self, files: Sequence[tuple[bytes, Stamp]], read: Callable[[bytes], Iterator[bytes]]
    ) -> dict[bytes, str]:
        """Return the checksum of each file, in hexadecimal, by its path.

        Args:
            files: paths and stamps.
            read: returns a file's content in chunks.
        """
        found: dict[bytes, str] = {}
        missing: list[tuple[bytes, Stamp]] = []
        for path, stamp in files:
            key = os.fsdecode(path)
            known = self._known.get(key)
            if known is not None and known[:4] == [stamp.size, stamp.inode, stamp.modified, stamp.changed]:
                found[path] = str(known[4])
                self._used[key] = known
            else:
                missing.append((path, stamp))
        if missing:
            found.update(self._learn(missing, read))
        return found

    def save(self) -> None:
        """Keep what was asked for in this run. That it cannot be kept is no error: it only takes time."""
        if self._memory is None or self._used == self._known:
            return
        raw = json.dumps({"version": _VERSION, "files": self._used}, separators=(",", ":")).encode()
        with suppress(RegsimError), file_errors(self._memory, "write"):
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._memory, raw, durable=False)

    def _learn(
        self, files: list[tuple[bytes, Stamp]], read: Callable[[bytes], Iterator[bytes]]
    ) -> Iterator[tuple[bytes, str]]:
        now = time.time_ns()

        def learn(file: tuple[bytes, Stamp]) -> str:
            hasher = hashlib.sha256()
            for chunk in read(file[0]):
                hasher.update(chunk)
            return hasher.hexdigest()

        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as threads:
            for (path, stamp), checksum in zip(files, threads.map(learn, files), strict=True):
                if stamp.settled(now):
                    self._used[os.fsdecode(path)] = [
                        stamp.size, stamp.inode, stamp.modified, stamp.changed, checksum,
                    ]  # fmt: skip
                yield path, checksum


def _load(memory: Path) -> dict[str, list[int | str]]:
    try:
        document = json.loads(read_bounded(memory, MAX_MEMORY))
        files = document["files"] if document["version"] == _VERSION else {}
        return {str(path): [*map(int, line[:4]), str(line[4])] for path, line in files.items()}
    except (OSError, RegsimError, ValueError, LookupError, TypeError, AttributeError):
        return {}
