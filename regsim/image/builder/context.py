"""A directory as a build context: its files, without what `.dockerignore` leaves out, and their checksums.

Owns how a directory becomes entries. Links are never followed here, and a file is read only if it is still
the one that was listed. Patterns are matched by `e2b_dockerfile_utils`, a port of moby's matcher: `**`, `!`,
and the last pattern that matches wins. Must not know Dockerfiles. All of it blocks, so callers run it in a
worker thread.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from e2b_dockerfile_utils import PatternMatcher

from regsim.errors import ContentError, LocalFileError, RegsimError, UsageError
from regsim.store.entry import Entry, Kind, shown
from regsim.store.files import file_error, file_errors, open_regular, read_bounded, write_whole
from regsim.store.protocols import CHUNK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class Ignore:
    """Patterns of files to leave out.

    Args:
        patterns: lines as a `.dockerignore` has them; comments and empty lines are skipped.
        name: their file or flag, for errors.

    Raises:
        UsageError: one of them is malformed.
    """

    def __init__(self, patterns: Sequence[str], name: str = ".dockerignore") -> None:
        try:
            self._matcher = PatternMatcher([each.removeprefix("\ufeff") for each in patterns])
        except ValueError as error:
            raise UsageError(f"{name}: {error}", hint="an opening [ needs its ]") from error
        self._any = bool(self._matcher.patterns)

    def __bool__(self) -> bool:
        """Return whether there are any patterns."""
        return self._any

    def excludes(self, path: bytes) -> bool:
        """Return whether a path, relative to the context, is left out."""
        return self._any and self._matcher.matches(os.fsdecode(path))

    def excludes_all_below(self, path: bytes) -> bool:
        """Return whether no `!` pattern can include anything in an excluded directory."""
        return not self._matcher.may_match_under(os.fsdecode(path))


NOTHING = Ignore(())


# Room for half a million files.
MAX_MEMORY = 256 * 1024 * 1024
_VERSION = 1
_FINE = 100_000_000  # nanoseconds: ten times the longest tick of a Linux clock
_COARSE = 2_000_000_000  # for file systems that keep whole seconds, or every second one
_SECOND = 1_000_000_000


class Stamp(NamedTuple):
    """What identifies a version of a file: size, inode, times of modification and change in nanoseconds."""

    size: int
    inode: int
    modified: int
    changed: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """Return the stamp of a file's status."""
        return cls(status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)

    def settled(self, now: int) -> bool:
        """Return whether any write from `now` on, in nanoseconds, will change the stamp."""
        granularity = _COARSE if self.changed % _SECOND == 0 else _FINE
        return self.changed + granularity < now


class Checksums:
    """The SHA-256 of files, kept in a small file between runs.

    Args:
        memory: the file that keeps them; None to keep none. A file that cannot be used counts as empty.
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
            if known is not None and known[:4] == [*stamp]:
                found[path] = str(known[4])
                self._used[key] = known
            else:
                missing.append((path, stamp))
        if missing:
            found.update(self._learn(missing, read))
        return found

    def save(self) -> None:
        """Keep what was used in this run. A failure is ignored: it only costs time."""
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
                    self._used[os.fsdecode(path)] = [*stamp, checksum]
                yield path, checksum


def _load(memory: Path) -> dict[str, list[int | str]]:
    try:
        document = json.loads(read_bounded(memory, MAX_MEMORY))
        files = document["files"] if document["version"] == _VERSION else {}
        return {str(path): [*map(int, line[:4]), str(line[4])] for path, line in files.items()}
    except (OSError, RegsimError, ValueError, LookupError, TypeError, AttributeError):
        return {}


MAX_IGNORE = 1024 * 1024
MAX_DEPTH = 256

_KINDS = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.DIRECTORY, stat.S_IFLNK: Kind.SYMLINK}
_SPECIAL = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Context:
    """A `Source` over a directory. All owners are root: an image does not show who built it.

    Args:
        root: the directory.
        ignore: what is left out.
        checksums: of its files.

    Raises:
        LocalFileError: it is not a directory.
    """

    name = "the context"

    def __init__(self, root: Path, ignore: Ignore = NOTHING, checksums: Checksums | None = None) -> None:
        if not root.is_dir():
            raise LocalFileError(f"there is no directory {root}", hint="name the directory to build from")
        self._root = os.fsencode(root)
        self._ignore = ignore
        self._checksums = checksums or Checksums(None)
        self._children: dict[bytes, list[Entry]] = {}
        self._stamps: dict[bytes, Stamp] = {}
        self._special: dict[bytes, str] = {}

    def find(self, path: bytes) -> Entry | None:
        """Return what is at a path and not left out.

        Raises:
            ContentError: it is nested too deep.
            LocalFileError: a directory cannot be listed.
        """
        if not path:
            return Entry(path=b"", kind=Kind.DIRECTORY, mode=0o755)
        _check_depth(path)
        parent = path.rpartition(b"/")[0]
        above = self.find(parent)
        if above is None or above.kind is not Kind.DIRECTORY:
            return None
        return next((each for each in self.children(parent) if each.path == path), None)

    def hint(self, path: bytes) -> str:
        """Return why something may be missing at a path."""
        there = os.path.lexists(os.path.join(self._root, path))  # noqa: PTH118  (paths are bytes)
        return "an ignore file leaves it out" if there and self._ignore.excludes(path) else "check the path"

    def children(self, path: bytes) -> list[Entry]:
        """Return what is in a directory and not left out, sorted by name.

        A directory that is left out is listed if something in it is not left out.

        Raises:
            ContentError: it is nested too deep.
            LocalFileError: the directory cannot be listed.
        """
        _check_depth(path + b"/")
        if path not in self._children:
            self._children[path] = list(self._list(path))
        return self._children[path]

    def checksums(self, entries: Sequence[Entry]) -> dict[bytes, str]:
        """Return the checksums of files.

        Raises:
            ContentError: one of the entries is a socket, a pipe or a device; it is named.
            LocalFileError: one cannot be read, or changed since it was listed.
        """
        for each in entries:
            if each.path in self._special:
                raise ContentError(
                    f"{each.shown!r} in the context is {self._special[each.path]}, which is not copied",
                    hint="remove it, or name it in .dockerignore",
                )
        files = [(each.path, self._stamps[each.path]) for each in entries if each.kind is Kind.FILE]
        return self._checksums.of(files, self._read)

    def _list(self, path: bytes) -> Iterator[Entry]:
        where = os.path.join(self._root, path) if path else self._root  # noqa: PTH118  (paths are bytes)
        with file_errors(_shown(where), "list"), os.scandir(where) as found:
            items = sorted(found, key=lambda item: item.name)
        prefix = path + b"/" if path else b""
        for item in items:
            entry = self._entry(prefix + item.name, item)
            if entry is not None:
                yield entry

    def _entry(self, path: bytes, item: os.DirEntry[bytes]) -> Entry | None:
        excluded = self._ignore.excludes(path)
        if excluded and (not item.is_dir(follow_symlinks=False) or not self._holds_something(path)):
            return None
        with file_errors(_shown(item.path), "read"):
            status = item.stat(follow_symlinks=False)
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        mode = stat.S_IMODE(status.st_mode)
        if kind is None:
            self._special[path] = _SPECIAL.get(stat.S_IFMT(status.st_mode), "no file")
            return Entry(path=path, kind=Kind.FIFO, mode=mode)
        if kind is Kind.DIRECTORY:
            return Entry(path=path, kind=kind, mode=mode)
        if kind is Kind.SYMLINK:
            with file_errors(_shown(item.path), "read"):
                return Entry(path=path, kind=kind, mode=0o777, link=os.readlink(item.path))  # noqa: PTH115  (bytes)
        self._stamps[path] = Stamp.of(status)
        return Entry(path=path, kind=kind, mode=mode, size=status.st_size, content=partial(self._read, path))

    def _holds_something(self, path: bytes) -> bool:
        if self._ignore.excludes_all_below(path):
            return False
        if path not in self._children:
            # The deepest ones first: one that asks for those below it, level by level, exhausts the stack.
            for each in reversed(self._left_out_below(path)):
                self.children(each)
        return bool(self.children(path))

    def _left_out_below(self, path: bytes) -> list[bytes]:
        """Return the directories below one that are left out but for what they hold, parents first."""
        found, pending = [], [path]
        while pending:
            path = pending.pop()
            where = os.path.join(self._root, path)  # noqa: PTH118  (paths are bytes)
            with file_errors(_shown(where), "list"), os.scandir(where) as items:
                names = [path + b"/" + item.name for item in items if item.is_dir(follow_symlinks=False)]
            below = [
                each
                for each in names
                if self._ignore.excludes(each) and not self._ignore.excludes_all_below(each)
            ]
            found += below
            pending += below
        return found

    def _read(self, path: bytes) -> Iterator[bytes]:
        where = _shown(os.path.join(self._root, path))  # noqa: PTH118  (paths are bytes)
        try:
            file = open_regular(where)
        except FileNotFoundError as error:
            raise file_error(error, where, "read") from error
        with file:
            self._check_unchanged(path, file.fileno())
            with file_errors(where, "read"):
                while chunk := file.read(CHUNK):
                    yield chunk
            self._check_unchanged(path, file.fileno())

    def _check_unchanged(self, path: bytes, descriptor: int) -> None:
        if Stamp.of(os.fstat(descriptor)) != self._stamps[path]:
            raise LocalFileError(
                f"{shown(path)!r} in the context changed while it was read", hint="build again"
            )


def _check_depth(path: bytes) -> None:
    if path.count(b"/") > MAX_DEPTH:
        raise ContentError(f"{shown(path[:200])!r}… in the context is nested deeper than {MAX_DEPTH}")


def _shown(path: bytes) -> Path:
    return Path(os.fsdecode(path))


def read_ignore(root: Path, dockerfile: Path) -> Ignore:
    """Return what a context leaves out: by the Dockerfile's own ignore file, else by `.dockerignore`.

    Args:
        root: the context.
        dockerfile: whose own file is named like it, with `.dockerignore` added.

    Raises:
        UsageError: a pattern is malformed, or the file is not text.
        LocalFileError: it cannot be read.
    """
    for file in (dockerfile.with_name(f"{dockerfile.name}.dockerignore"), root / ".dockerignore"):
        try:
            raw = read_bounded(file, MAX_IGNORE)
        except FileNotFoundError:
            continue
        try:
            lines = raw.decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise UsageError(f"{file} is not text", hint="it has one pattern a line, in UTF-8") from error
        return Ignore(lines, str(file))
    return NOTHING
