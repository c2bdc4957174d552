"""What COPY and ADD take from their source, and where COPY, ADD and WORKDIR put it.

Owns the rules of the Dockerfile reference for sources, patterns, `--exclude`, `--parents` and destinations,
as BuildKit does them. Must not know whether a source is a context, a stage or an image.
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from regsim.errors import ContentError, UsageError
from regsim.image.builder.context import Ignore
from regsim.image.tree import clean, follow
from regsim.store.entry import MAX_PATH, Entry, Kind, check_path, of_bytes, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


class Source(Protocol):
    """A tree of files that can be copied from. Paths are as `Entry` has them."""

    @property
    def name(self) -> str:
        """What messages call it."""

    def find(self, path: bytes) -> Entry | None:
        """Return what is at a path, without following a symbolic link; None if there is nothing."""

    def hint(self, path: bytes) -> str:
        """Return why something may be missing at a path, as an error's hint."""

    def children(self, path: bytes) -> Iterable[Entry]:
        """Return what is in a directory, sorted by name."""

    def checksums(self, entries: Sequence[Entry]) -> dict[bytes, str]:
        """Return the SHA-256, in hexadecimal, of each file among `entries`, by its path.

        Raises:
            ContentError: one of them cannot be copied from here.
        """


def below(source: Source, path: bytes) -> Iterator[Entry]:
    """Yield all that is below a directory, each directory before what is in it."""
    pending = list(source.children(path))[::-1]
    while pending:
        entry = pending.pop()
        yield entry
        if entry.kind is Kind.DIRECTORY:
            pending += list(source.children(entry.path))[::-1]


_WILDCARDS = re.compile(rb"[*?\[\\]")
_PIVOT = b"/./"
# What is whole in a pattern though it has a bracket: `\[` and `[a-z]`.
_WHOLE = re.compile(r"\\.|\[\^?(?:\\.|[^\\\]])+\]", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One source of a COPY.

    Args:
        name: its last part, which a file keeps in a directory.
        entries: what is taken, each with its path below the destination; of a file alone, `b""`.
        is_directory: whether it is a directory's content.
        checksums: of the files, by their paths in the source.
    """

    name: bytes
    entries: tuple[tuple[bytes, Entry], ...]
    is_directory: bool
    checksums: dict[bytes, str]

    def fingerprint(self) -> str:
        """Return a hash of all that decides what is copied: names, kinds, modes, owners, links, contents."""
        hasher = hashlib.sha256(b"directory" if self.is_directory else b"file " + self.name)
        for path, entry in self.entries:
            checksum = self.checksums.get(entry.path, "") if entry.kind is Kind.FILE else ""
            facts = (entry.kind, entry.mode, entry.uid, entry.gid, entry.link, entry.device, checksum)
            xattrs = sorted(entry.xattrs.items())
            hasher.update(b"%d %s\0%s\n" % (len(path), path, repr((facts, xattrs)).encode()))
        return hasher.hexdigest()


def take(
    source: Source, patterns: Sequence[str], *, exclude: Sequence[str] = (), parents: bool = False
) -> list[Taken]:
    """Return what each path or pattern means.

    Args:
        source: where to look.
        patterns: paths, relative to the source; a leading `/` is ignored.
        exclude: patterns of what is left out, as in `.dockerignore`: a file by its name, what is in a
            directory by its path from there.
        parents: keep the directories above a source.

    Raises:
        UsageError: a pattern is malformed.
        ContentError: there is nothing at a path, or nothing matches any pattern; or what is there cannot be
            copied.
        LocalFileError: the source cannot be read.
    """
    left_out = Ignore(exclude, "--exclude")
    found = [
        _take(source, path, pivot, left_out, parents=parents)
        for pattern in patterns
        for path, pivot in _matching(source, pattern.encode("utf-8", "surrogateescape"))
    ]
    taken = [each for each in found if each is not None]
    if patterns and not taken:
        raise ContentError(f"nothing in {source.name} matches {' '.join(patterns)[:200]}")
    return taken


def take_inline(name: str, content: str) -> Taken:
    """Return a heredoc as a source."""
    data = content.encode("utf-8", "surrogateescape")
    entry = of_bytes(name.encode("utf-8", "surrogateescape"), data)
    return Taken(
        name=entry.path,
        entries=((b"", entry),),
        is_directory=False,
        checksums={entry.path: hashlib.sha256(data).hexdigest()},
    )


def _matching(source: Source, pattern: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the paths that a pattern means, each with the part of it that `--parents` does not keep."""
    before, pivot, _ = pattern.partition(_PIVOT)
    kept_from = len([part for part in clean(before).split(b"/") if part]) if pivot else 0
    for path in _paths(source, pattern):
        yield path, b"/".join(path.split(b"/")[:kept_from])


def _paths(source: Source, pattern: bytes) -> Iterable[bytes]:
    if _WILDCARDS.search(pattern) is None:
        path = clean(pattern)
        if source.find(follow(source.find, path, last=False)) is None:
            raise ContentError(f"there is no {shown(path)!r} in {source.name}", hint=source.hint(path))
        return [path]
    found = [b""]
    for part in clean(pattern).split(b"/"):
        match = _matcher(part)
        found = [
            entry.path for path in found for entry in _in(source, path) if match.match(_text(entry.name))
        ]
    return found


def _in(source: Source, path: bytes) -> Iterable[Entry]:
    real = follow(source.find, path)
    entry = source.find(real)
    return source.children(real) if entry is not None and entry.kind is Kind.DIRECTORY else ()


def _matcher(part: bytes) -> re.Pattern[str]:
    """Return a part of a pattern of Go's `filepath.Match` as a regular expression."""
    text = _text(part)
    if len(part) > MAX_PATH:
        raise UsageError(f"not a pattern: it has {len(part)} bytes", hint=f"a path has at most {MAX_PATH}")
    if "[" in _WHOLE.sub("", text):
        raise UsageError(f"not a pattern: {shown(part)!r}", hint="an opening [ needs its ]")
    text = re.sub(r"\\(.)", r"[\1]", text, flags=re.DOTALL).replace("[^", "[!")
    return re.compile(fnmatch.translate(text))


def _text(name: bytes) -> str:
    """Return a name as letters, which is what `?` stands for one of."""
    return name.decode("utf-8", "surrogateescape")


def _take(source: Source, path: bytes, pivot: bytes, left_out: Ignore, *, parents: bool) -> Taken | None:
    """Return one source, None if it is a file that is left out."""
    real = follow(source.find, path)
    root = source.find(real)
    if root is None:
        raise ContentError(
            f"{shown(path)!r} in {source.name} is a link to what is not there",
            hint="links lead nowhere beyond it",
        )
    prefix = path[len(pivot) + 1 if pivot else 0 :] + b"/" if parents and path else b""
    if root.kind is Kind.DIRECTORY:
        start = len(real) + 1 if real else 0
        inside = [(each.path[start:], each) for each in below(source, real)]
        kept = _without(inside, left_out)
        entries = [(prefix + relative, each) for relative, each in kept]
        if parents and path:
            entries.insert(0, (prefix[:-1], root))
    elif left_out.excludes(prefix[:-1] or path.rpartition(b"/")[2]):
        return None
    else:
        entries = [(prefix[:-1], root)]
    if parents:
        entries = [*_above(source, prefix, pivot), *entries]
    return Taken(
        name=path.rpartition(b"/")[2],
        entries=tuple(entries),
        is_directory=root.kind is Kind.DIRECTORY or parents,
        checksums=source.checksums([entry for _, entry in entries]),
    )


def _without(entries: list[tuple[bytes, Entry]], left_out: Ignore) -> list[tuple[bytes, Entry]]:
    if not left_out:
        return entries
    kept = [(path, entry) for path, entry in entries if not left_out.excludes(path)]
    needed = {path[:cut] for path, _ in kept for cut in range(len(path)) if path[cut : cut + 1] == b"/"}
    return [(path, entry) for path, entry in entries if path in needed or not left_out.excludes(path)]


def _above(source: Source, prefix: bytes, pivot: bytes) -> Iterator[tuple[bytes, Entry]]:
    parts = prefix.split(b"/")[:-2]
    for depth in range(1, len(parts) + 1):
        relative = b"/".join(parts[:depth])
        entry = source.find(follow(source.find, pivot + b"/" + relative))
        if entry is not None:
            yield relative, entry


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
            ContentError: several files have one destination that is not a directory, or a file and a
                directory have the same place; it is named.
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
        """Make a directory and those above it, with mode 0755, unless they exist.

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
        """Put one entry at a path, in place of a file that is there.

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
