"""Contents of files kept on disk: of a layer that streams by, and of a container's own files.

Owns the temporary files, which are gone with the layer's reader or the container. Must not know paths in
layers or containers.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from regsim.store.files import file_errors
from regsim.store.protocols import CHUNK
from regsim.store.relay import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

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
        """Return what takes a file's content and what reads it back; None to discard it."""
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


@dataclass(frozen=True, slots=True)
class Held:
    """A content on disk (`entry.Opener`): the first `size` bytes of a file."""

    path: Path
    size: int

    def __call__(self) -> Iterator[bytes]:
        """Yield the bytes in chunks of `CHUNK` at most.

        Raises (while iterating):
            LocalFileError: the file cannot be read.
        """
        left = self.size
        with file_errors(self.path, "read"), self.path.open("rb") as file:
            while left and (chunk := file.read(min(CHUNK, left))):
                left -= len(chunk)
                yield chunk


class HeldFiles:
    """Keeps contents until it is closed. The directory is made with the first one."""

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._count = 0

    async def keep(self, chunks: Iterable[bytes], *, after: Held | None = None) -> Held:
        """Keep a content, which is taken and written in a worker thread.

        Args:
            chunks: of any size.
            after: a content that it continues, and whose place on disk it takes.

        Raises:
            LocalFileError: it cannot be written; nothing of it is kept, and `after` is unchanged.
        """
        held = after or self._next()
        stop = threading.Event()
        return await in_thread(partial(_add, held, chunks, stop, fresh=after is None), stop=stop.set)

    async def discard(self, contents: Sequence[Held]) -> None:
        """Delete contents; a reader that is open can finish.

        Raises:
            LocalFileError: a file cannot be removed.
        """
        if contents:
            await asyncio.to_thread(_remove, contents)

    async def close(self) -> None:
        """Delete everything."""
        if self._directory is not None:
            await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)
            self._directory = None

    def _next(self) -> Held:
        if self._directory is None:
            with file_errors(Path(tempfile.gettempdir()), "write to"):
                self._directory = Path(tempfile.mkdtemp(prefix="regsim-container-"))
        self._count += 1
        return Held(self._directory / str(self._count), 0)


def _add(held: Held, chunks: Iterable[bytes], stop: threading.Event, *, fresh: bool) -> Held:
    size = held.size
    try:
        with file_errors(held.path, "write"), held.path.open("r+b" if size else "wb") as file:
            file.truncate(size)  # what an earlier one that failed has left
            file.seek(size)
            for chunk in chunks:
                if stop.is_set():
                    break
                file.write(chunk)
                size += len(chunk)
    except BaseException:
        if fresh:
            held.path.unlink(missing_ok=True)
        raise
    return Held(held.path, size)


def _remove(contents: Iterable[Held]) -> None:
    for held in contents:
        with file_errors(held.path, "remove"):
            held.path.unlink(missing_ok=True)
