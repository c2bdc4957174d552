"""A file tree as layers make it: an immutable value, whose unchanged parts trees share.

Owns what is where after layers were applied, and how a path is followed.
Must not know tar, where layers come from, or how they are applied (`image.apply`).

Paths are followed as in a root directory of their own (chroot): symbolic links in the middle of a path are
followed, and none leads out.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regsim.errors import ContentError
from regsim.store.entry import Entry, Kind, joined, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# What Linux follows in one path (path_resolution(7)).
MAX_LINKS = 40


@dataclass(frozen=True, slots=True)
class Node:
    """What is at a path. Several paths with the same node (`is`) are hard links to one file.

    Args:
        entry: its attributes; its path is the one that it was made under.
        layer: number of the layer that it comes from, the base is 0.
        children: of a directory, by name; never changed once the tree is made.
    """

    entry: Entry
    layer: int
    children: Mapping[bytes, Node] = field(default_factory=dict, repr=False)

    @property
    def is_directory(self) -> bool:
        """Whether it may have children."""
        return self.entry.kind is Kind.DIRECTORY


@dataclass(frozen=True, slots=True)
class Tree:
    """The files that some layers make together.

    Args:
        root: the root directory.
        layers: how many layers were applied.
        linked: for each file that had several names, the file and how many it has now; by `id`.
    """

    root: Node
    layers: int = 0
    linked: Mapping[int, tuple[Node, int]] = field(default_factory=dict, repr=False)

    def find(self, path: bytes, *, follow: bool = True) -> Node | None:
        """Return what is at a path, None if there is nothing.

        Args:
            path: a leading `/` changes nothing.
            follow: whether a symbolic link at its end is followed too.

        Raises:
            ContentError: more than 40 links are to be followed.
        """
        found = resolve(self.root, path, follow=follow)
        return found.nodes[-1] if not found.missing else None

    def walk(self, below: bytes = b"") -> Iterator[tuple[bytes, Node]]:
        """Yield all paths below a directory with their nodes, in the order of a layer: parents first.

        Yields nothing if there is no such directory.
        """
        start = self.find(below)
        pending = [(below.strip(b"/"), start)] if start is not None else []
        while pending:
            path, node = pending.pop()
            if node is not start:
                yield path, node
            names = sorted(node.children, reverse=True)
            pending += [(joined(path, name), node.children[name]) for name in names]


EMPTY = Tree(Node(Entry(path=b"", kind=Kind.DIRECTORY, mode=0o755), 0))


@dataclass(frozen=True, slots=True)
class Found:
    """How far a path leads.

    Args:
        names: the way from the root, without links.
        nodes: the root and what is at each of `names`.
        missing: the parts that remain, none if the path leads all the way.
        climbs: whether a `..` would have led above the root.
    """

    names: list[bytes]
    nodes: list[Node]
    missing: list[bytes]
    climbs: bool = False


def resolve(root: Node, path: bytes, *, follow: bool) -> Found:
    """Follow a path as far as it leads.

    Args:
        root: where it begins, and which it does not leave.
        path: of any shape: `/`, `.` and `..` mean what they mean to the kernel.
        follow: whether a symbolic link at its end is followed.

    Raises:
        ContentError: more than 40 links are to be followed.
    """
    names: list[bytes] = []
    nodes = [root]
    pending = path.split(b"/")[::-1]
    links = 0
    climbs = False
    while pending:
        part = pending.pop()
        if part in {b"", b"."}:
            continue
        if part == b"..":
            if names:
                names.pop()
                nodes.pop()
            else:
                climbs = True
            continue
        child = nodes[-1].children.get(part)
        if child is None:
            pending.append(part)
            break
        if child.entry.kind is Kind.SYMLINK and (pending or follow):
            links += 1
            if links > MAX_LINKS:
                raise ContentError(f"{shown(path)!r} leads through more than {MAX_LINKS} symbolic links")
            if child.entry.link.startswith(b"/"):
                names, nodes = [], [root]
            pending += child.entry.link.split(b"/")[::-1]
            continue
        names.append(part)
        nodes.append(child)
    return Found(names, nodes, [part for part in pending[::-1] if part not in {b"", b"."}], climbs)


def clean(path: bytes) -> bytes:
    """Return a path without empty parts, `.` and `..`; what climbs beyond the root stays at the root."""
    return posixpath.normpath(b"/" + path).strip(b"/")


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
        there = joined(here, part)
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
