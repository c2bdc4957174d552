"""Where COPY takes files from: a context, a stage, or another image.

Owns the protocol, and how a path is followed through symbolic links without leaving its tree. Must not know
what any of them is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from regsim.errors import ContentError
from regsim.store.entry import Entry, Kind, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

# As many as Linux follows (path_resolution(7)).
MAX_LINKS = 40


class Source(Protocol):
    """A tree of files that can be copied from. Paths are as `Entry` has them."""

    @property
    def name(self) -> str:
        """What messages call it."""

    def find(self, path: bytes) -> Entry | None:
        """Return what is at a path, of a symbolic link the link itself; None where there is nothing."""

    def hint(self, path: bytes) -> str:
        """Return why something may be missing at a path, as an error's hint."""

    def children(self, path: bytes) -> Iterable[Entry]:
        """Return what is in a directory, sorted by name."""

    def checksums(self, entries: Sequence[Entry]) -> dict[bytes, str]:
        """Return the SHA-256, in hexadecimal, of each file among `entries`, by its path.

        Raises:
            ContentError: one of them is nothing that can be copied from here.
        """


def below(source: Source, path: bytes) -> Iterator[Entry]:
    """Yield all that is below a directory, each directory before what is in it."""
    pending = list(source.children(path))[::-1]
    while pending:
        entry = pending.pop()
        yield entry
        if entry.kind is Kind.DIRECTORY:
            pending += list(source.children(entry.path))[::-1]


def clean(path: bytes) -> bytes:
    """Return a path without empty parts, `.` and `..`; what climbs beyond the root stays at the root."""
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


def follow(find: Callable[[bytes], Entry | None], path: bytes, *, last: bool = True) -> bytes:
    """Return the path that a path leads to when its symbolic links are followed, within the tree.

    What does not exist is taken as it is written.

    Args:
        find: what is at a path.
        path: where to begin.
        last: whether its last part is followed too.

    Raises:
        ContentError: links lead in a circle.
    """
    waiting = clean(path).split(b"/")[::-1]
    here, links = b"", 0
    while waiting:
        part = waiting.pop()
        if part in (b"", b"."):
            continue
        if part == b"..":
            here = here.rpartition(b"/")[0]
            continue
        there = here + b"/" + part if here else part
        entry = find(there)
        if entry is None or entry.kind is not Kind.SYMLINK or (not waiting and not last):
            here = there
            continue
        links += 1
        if links > MAX_LINKS:
            raise ContentError(f"{shown(path)!r} leads through more than {MAX_LINKS} symbolic links")
        if entry.link.startswith(b"/"):
            here = b""
        waiting += entry.link.split(b"/")[::-1]
    return here
