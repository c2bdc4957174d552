"""Where COPY, ADD and WORKDIR put things: destinations, parents, owners, modes, times.

Owns the rules of the Dockerfile reference for destinations, as BuildKit does them. Must not know where files
come from.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from regsim.errors import ContentError
from regsim.image.source import follow
from regsim.store.entry import Entry, Kind, check_path, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from regsim.image.builder.selecting import Taken

DIRECTORY_MODE = 0o755


@dataclass(slots=True, kw_only=True)
class Placement:
    """The entries of a layer being put together.

    Args:
        find: what the image has at a path below this layer, of a symbolic link the link itself.
        timestamp: time of modification of all entries, in seconds since 1970.
        owner: numbers of user and group of what is put here; None to keep the source's.
        mode: permission bits of all but links; None to keep the source's.
        entries: what was put, by path.
        checksums: of the files among them, as far as they are known.
    """

    find: Callable[[bytes], Entry | None]
    timestamp: int
    owner: tuple[int, int] | None = None
    mode: int | None = None
    entries: dict[bytes, Entry] = field(default_factory=dict)
    checksums: dict[bytes, str] = field(default_factory=dict)

    def copy(self, taken: Sequence[Taken], destination: str) -> None:
        """Put sources at a destination.

        Args:
            taken: what is copied; a directory means what is in it.
            destination: from the root; with `/` at its end it is a directory.

        Raises:
            ContentError: several files have one destination that is no directory, or a file and a directory
                have the same place; it is named.
        """
        place = self.directory_of(taken, destination)
        for source in taken:
            if place is not None:
                for relative, entry in source.entries:
                    inside = relative if source.is_directory or relative else source.name
                    self.put(_below(place, inside), entry, source.checksums.get(entry.path))
                continue
            ((_, entry),) = source.entries
            path = self._followed(_raw(destination), last=False)
            self.put(path, entry, source.checksums.get(entry.path))

    def directory_of(self, taken: Sequence[Taken], destination: str) -> bytes | None:
        """Return the directory into which sources go, made if it is missing; None if there is but one file.

        Raises:
            ContentError: it is a file, or it should be a directory.
        """
        raw = _raw(destination)
        place = self._followed(raw)
        there = self._at(place)
        is_directory = there is not None and there.kind is Kind.DIRECTORY
        if not is_directory and not destination.endswith("/"):
            if len(taken) == 1 and not taken[0].is_directory:
                return None
            if not all(source.is_directory for source in taken):
                raise ContentError(
                    f"several sources have one destination, {destination!r}",
                    hint="a directory's name ends with /",
                )
        self.make_directory(place)
        return place

    def make_directory(self, path: bytes) -> None:
        """Let there be a directory, and those above it, with mode 0755.

        Raises:
            ContentError: something else is there.
        """
        path = self._followed(path)
        parts = path.split(b"/") if path else []
        for depth in range(1, len(parts) + 1):
            above = b"/".join(parts[:depth])
            there = self._at(above)
            if there is None:
                uid, gid = self.owner or (0, 0)
                entry = Entry(
                    path=check_path(above),
                    kind=Kind.DIRECTORY,
                    mode=DIRECTORY_MODE,
                    uid=uid,
                    gid=gid,
                    mtime_ns=self.timestamp * 10**9,
                )
                self.entries[above] = entry
            elif there.kind is not Kind.DIRECTORY:
                raise ContentError(f"{shown(above)!r} in the image is a {there.kind}, not a directory")

    def put(self, path: bytes, entry: Entry, checksum: str | None = None) -> None:
        """Put one entry at a path, in place of whatever file is there.

        Args:
            path: its place.
            entry: what is put.
            checksum: SHA-256 of a file's content, if it is known.

        Raises:
            ContentError: a directory would replace a file, or a file a directory.
        """
        parent = path.rpartition(b"/")[0]
        if parent not in self.entries:
            self.make_directory(parent)
        there = self._at(path)
        if there is not None and (there.kind is Kind.DIRECTORY) != (entry.kind is Kind.DIRECTORY):
            raise ContentError(
                f"{entry.shown!r} is a {entry.kind}, and {shown(path)!r} in the image is a {there.kind}",
                hint="one cannot replace the other; copy to another place",
            )
        uid, gid = self.owner or (entry.uid, entry.gid)
        mode = entry.mode if self.mode is None or entry.kind is Kind.SYMLINK else self.mode
        self.entries[path] = replace(
            entry, path=check_path(path), mode=mode, uid=uid, gid=gid, mtime_ns=self.timestamp * 10**9
        )
        self.checksums.pop(path, None)
        if checksum is not None and entry.kind is Kind.FILE:
            self.checksums[path] = checksum

    def unpack(self, entries: Iterable[Entry], place: bytes) -> None:
        """Put what was in an archive below a directory; hard links in it stay links.

        Raises:
            ContentError: as for `put`.
        """
        for entry in entries:
            if not entry.path:
                continue
            path = self._followed(_below(place, entry.path), last=False)
            link = entry.link
            if entry.kind is Kind.HARDLINK:
                link = self._followed(_below(place, link), last=False)
            self.put(path, replace(entry, link=link))

    def _at(self, path: bytes) -> Entry | None:
        if not path:
            return Entry(path=b"", kind=Kind.DIRECTORY, mode=DIRECTORY_MODE)
        return self.entries.get(path) or self.find(path)

    def _followed(self, path: bytes, *, last: bool = True) -> bytes:
        return follow(self._at, path, last=last)


def _raw(destination: str) -> bytes:
    return destination.encode("utf-8", "surrogateescape").strip(b"/")


def _below(directory: bytes, path: bytes) -> bytes:
    return b"/".join(part for part in (directory, path) if part)
