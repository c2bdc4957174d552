"""A directory of the storage's own for what is too large for memory.

Owns the directory and the files in it. Must not know of digests.
"""

import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path


class Spool:
    """A temporary directory, made when first needed and removed at the latest with its owner.

    Args:
        parent: Where to make it; ``None`` is the system's place for temporary files.
    """

    def __init__(self, parent: str | os.PathLike[str] | None = None) -> None:
        self._parent = parent
        self._remove: weakref.finalize[[str, bool], Spool] | None = None
        self._directory: Path | None = None

    @property
    def directory(self) -> Path | None:
        """The directory, once it exists."""
        return self._directory

    def create(self, name: str) -> "SpoolFile":
        """Create an empty file, and the directory if this is the first."""
        if self._directory is None:
            path = tempfile.mkdtemp(prefix="mock-registry-", dir=self._parent)
            # Not TemporaryDirectory, which warns when a registry is dropped without having been closed.
            self._remove = weakref.finalize(self, shutil.rmtree, path, True)  # noqa: FBT003 (ignore_errors)
            self._directory = Path(path)
        return SpoolFile(self._directory / name)

    def close(self) -> None:
        """Remove the directory and all in it. A later `create` makes a new one."""
        if self._remove is not None:
            self._remove()
        self._remove = self._directory = None


class SpoolFile:
    """A file that is appended to, then only read.

    Its descriptor is open just while it grows, so that stored blobs cost none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
        )

    def append(self, chunks: Sequence[bytes]) -> None:
        """Write all the chunks.

        Raises:
            OSError: As the system says; part of the chunks may be in the file.
        """
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        write_all(self._descriptor, chunks)

    def pause(self) -> None:
        """Let go of the descriptor until the next append."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def remove(self) -> None:
        """Delete the file. Whoever has it open reads on."""
        self.pause()
        self.path.unlink(missing_ok=True)


def write_all(descriptor: int, chunks: Sequence[bytes]) -> None:
    """Write all the chunks, at most 1,024 of them.

    Raises:
        OSError: As the system says; part of the chunks may be written.
    """
    rest = sum(map(len, chunks))
    while rest:
        written = os.writev(descriptor, chunks)
        rest -= written
        if rest:
            chunks = _after(chunks, written)


def _after(chunks: Sequence[bytes], count: int) -> Sequence[bytes]:
    """Drop the first ``count`` octets of a sequence of chunks."""
    whole = b"".join(chunks)
    return [whole[count:]]
