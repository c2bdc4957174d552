"""Blobs that arrived in part: kept beside the others when their writer is interrupted, even killed.

Owns their names, their bounds, and going on with them. What is kept proves nothing: it is hashed again, and
the whole has to be right in the end. Must not know layouts, or where the rest comes from.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from regsim.errors import ContentError
from regsim.store.files import AsideFile, remove_unlocked
from regsim.store.protocols import CHUNK, Pourable
from regsim.store.verify import Verifier

if TYPE_CHECKING:
    from pathlib import Path

    from regsim.core import Descriptor
    from regsim.store.protocols import Content

PARTIAL = ".regsim-partial-"
# Of a smaller blob, another download costs no more than a look at what is kept.
WORTH_KEEPING = 1024 * 1024
MOST = 32
LONGEST = 7 * 24 * 3600.0  # seconds


class Arrival:
    """A blob on its way into a directory: a file of its own, the check of its bytes, and where it stands.

    All of it blocks. Use `discard` in the end, whatever happens.

    Args:
        directory: where the blob is written aside.
        content: is kept in part if it can be opened in the middle, and is worth it.

    Attributes:
        kept: bytes of it that an earlier writer has left.
        verifier: has seen these.
    """

    def __init__(self, directory: Path, content: Content) -> None:
        self._descriptor: Descriptor = content.descriptor
        self.file = _open(directory, content)
        self.verifier = Verifier(self._descriptor)
        self.kept = 0
        if self.file.outlives:
            self._refill()

    @property
    def whole(self) -> bool:
        """All of it had been left, and is right."""
        return self.kept == self._descriptor.size

    def restart(self) -> None:
        """Begin again at the first byte."""
        self.file.restart(0)
        self.verifier, self.kept = Verifier(self._descriptor), 0

    def discard(self, *, keep: bool = True) -> None:
        """Let go of the file, unless it was committed; keep it if there is enough in it."""
        # What has been proven wrong is not kept, nor a beginning that is hardly one.
        self.file.discard(keep=keep and WORTH_KEEPING <= self.verifier.seen < self._descriptor.size)

    def _refill(self) -> None:
        self.file.seek(0)
        while self.verifier.seen < self._descriptor.size:
            piece = self.file.read(min(CHUNK, self._descriptor.size - self.verifier.seen))
            if not piece:
                break
            self.verifier.update(piece)
        self.kept = self.verifier.seen
        self.file.restart(self.kept)
        if self.whole:
            # Its writer was about to find out whether it is right.
            try:
                self.verifier.finish()
            except ContentError:
                self.restart()


def _open(directory: Path, content: Content) -> AsideFile:
    descriptor = content.descriptor
    if descriptor.size > WORTH_KEEPING and isinstance(content, Pourable):
        name = f"{PARTIAL}{descriptor.digest.algorithm}-{descriptor.digest.encoded}"
        # Where another process brings the same blob at the same time, this one does so for itself.
        with suppress(OSError):
            return AsideFile(directory, kept=name)
    return AsideFile(directory)


def parts(directory: Path) -> dict[Path, int]:
    """Return what is kept in a directory, with sizes in bytes."""
    found = {}
    for path in directory.glob(f"{PARTIAL}*"):
        with suppress(OSError):
            found[path] = path.lstat().st_size
    return found


def tidy(directory: Path) -> None:
    """Delete parts of blobs that were not continued for long, and of the others the oldest."""
    found: list[tuple[float, Path]] = []
    for path in directory.glob(f"{PARTIAL}*"):
        with suppress(OSError):
            found.append((path.lstat().st_mtime, path))
    found.sort(reverse=True)
    oldest = time.time() - LONGEST
    for position, (changed, path) in enumerate(found):
        if position >= MOST or changed < oldest:
            remove_unlocked(path)
