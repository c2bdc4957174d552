"""What COPY and ADD take from their source: paths, patterns, `--exclude` and `--parents`.

Owns which entries are meant and under which names. Must not know where they are put. The rules are those of
the Dockerfile reference: a directory means what is in it, a path cannot leave the source, a pattern is Go's
`filepath.Match`.
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regsim.errors import ContentError, UsageError
from regsim.image.context.ignore import Ignore
from regsim.image.source import below, clean, follow
from regsim.store.entry import MAX_PATH, Entry, Kind, of_bytes, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from regsim.image.source import Source

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
    source: Source,
    patterns: Sequence[str],
    *,
    exclude: Sequence[str] = (),
    parents: bool = False,
) -> list[Taken]:
    """Return what each path or pattern means.

    Args:
        source: where to look.
        patterns: paths, relative to the source; a leading `/` is ignored.
        exclude: patterns of what is left out, as in `.dockerignore`: a file by its name, what is in a
            directory by its path from there.
        parents: keep the directories above a source.

    Raises:
        UsageError: a pattern is none.
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
