"""A directory beside a file that is being made, which goes when its maker goes.

Owns the same rule for directories that `files.AsideFile` follows for files: locked while its maker lives, so
that whoever comes next deletes what a killed one left. Must not know what is gathered there.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from regsim.store.files import ASIDE, file_errors

if TYPE_CHECKING:
    from pathlib import Path

_SUFFIX = ".d"


class AsideDirectory:
    """A directory of our own in the directory of `target`, that nobody else deletes while we live.

    Raises:
        LocalFileError: it cannot be made there.
    """

    def __init__(self, target: Path) -> None:
        with file_errors(target, "write"):
            _sweep(target.parent)
            while True:
                self.path = target.parent / f"{ASIDE}{secrets.token_hex(8)}{_SUFFIX}"
                self.path.mkdir()
                self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                # The sweeper may have been there between making and locking: then take another name.
                if _take(self._lock) and os.fstat(self._lock).st_nlink:
                    return
                os.close(self._lock)

    def discard(self) -> None:
        """Delete it and all in it. Any number of calls are harmless."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def _sweep(directory: Path) -> None:
    for path in directory.glob(f"{ASIDE}*{_SUFFIX}"):
        with suppress(OSError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if _take(lock):
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)


def _take(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
