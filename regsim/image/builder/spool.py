"""Files' contents kept aside while a layer or an archive streams by, in one temporary file.

Owns the file. Must not know why it is needed: a tar can only be read in its own order, and a new layer has
another.
"""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from regsim.store.files import file_errors
from regsim.store.protocols import CHUNK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regsim.store.entry import Entry, Opener


class DiskSpool:
    """Keeps contents on disk until it is closed.

    Args:
        wanted: which files are kept; None for all.
    """

    def __init__(self, wanted: Callable[[Entry], bool] | None = None) -> None:
        self._wanted = wanted
        self._where = Path(tempfile.gettempdir())
        with file_errors(self._where, "write to"):
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  (closed by close)
        self._size = 0

    def begin(self, entry: Entry) -> tuple[Callable[[bytes], object], Opener] | None:
        """Return what takes a file's content and what reads it back; None to let it pass."""
        if self._wanted is not None and not self._wanted(entry):
            return None
        return self._take, partial(self._read, self._size, entry.size)

    def _take(self, data: bytes) -> None:
        with file_errors(self._where, "write to"):
            self._file.write(data)
        self._size += len(data)

    def _read(self, start: int, size: int) -> Iterator[bytes]:
        with file_errors(self._where, "read from"):
            self._file.flush()
            while size > 0 and (data := os.pread(self._file.fileno(), min(CHUNK, size), start)):
                yield data
                start += len(data)
                size -= len(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
