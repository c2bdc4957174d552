"""Applying a layer to a file tree (image-spec, layer.md#applying-changesets), and what that hides.

Owns the rules. Must not know tar or where layers come from. Only the directories that a layer touches are
copied, so that a thousand images on one base cost little more than the base.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regsim.errors import ContentError
from regsim.image.tree import Node, Tree, resolve
from regsim.store.entry import MARKERS, MAX_PATH, Entry, Kind, joined, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_IMPLIED_MODE = 0o755


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A file whose bytes still travel, though a later layer replaced or removed it.

    Args:
        path: where it was.
        size: its bytes.
        layer: number of the layer that brought it.
        by: number of the layer that hides it; the same one if it names a path twice.
    """

    path: bytes
    size: int
    layer: int
    by: int


def apply(tree: Tree, entries: Iterable[Entry]) -> tuple[Tree, tuple[Lost, ...]]:
    """Return the tree that a layer makes of another one, and the files that it hides.

    Whiteouts come first, wherever in the layer they stand, since they concern only what is below it. Of a
    file with several names, losing the last one loses the file. Parents that are in no layer are made,
    mode 0755 and root's.

    Args:
        tree: what is below; it stays as it is.
        entries: of the layer, in its order.

    Raises:
        ContentError: an entry cannot be applied: below a file, through a loop of links, a hard link to
            nothing or to a directory. The file is named.
    """
    editor = Editor(tree, tree.layers)
    entries = list(entries)
    for entry in entries:
        if entry.kind in MARKERS:
            editor.mark(entry)
    for entry in entries:
        if entry.kind not in MARKERS:
            editor.add(entry)
    return editor.finish(), tuple(editor.lost)


class Editor:
    """Makes one tree of another, change by change.

    Args:
        tree: what it begins with, which stays as it is.
        layer: the number of the layer that the changes belong to.

    Attributes:
        lost: the files that the changes so far hide.
    """

    def __init__(self, tree: Tree, layer: int) -> None:
        self._layers = max(tree.layers, layer + 1)
        self._layer = layer
        self._owned: dict[int, dict[bytes, Node]] = {}  # children that no other tree has, by id
        self._linked = dict(tree.linked)
        self._root = tree.root
        self._last: tuple[bytes, bytes, dict[bytes, Node]] | None = None
        self.lost: list[Lost] = []

    def mark(self, entry: Entry) -> None:
        """Apply a whiteout or an opaque entry. One that concerns nothing changes nothing."""
        self._last = None
        directory = entry.path if entry.kind is Kind.OPAQUE else entry.parent
        found = resolve(self._root, directory, follow=True)
        if found.missing or not found.nodes[-1].is_directory:
            return
        there = found.nodes[-1].children
        names = [*there] if entry.kind is Kind.OPAQUE else [entry.name] if entry.name in there else []
        if names:
            path, children = b"/".join(found.names), self._own(found.names)
            for name in names:
                self._lose(joined(path, name), children.pop(name))

    def add(self, entry: Entry) -> None:
        """Apply an entry that is not a marker: it replaces what is there, but a directory stays one.

        Raises:
            ContentError: as for `apply`.
        """
        if not entry.path:
            children = self._own([])
            self._root = Node(entry, self._layer, children)
            return
        directory, children = self._directory(entry)
        name = entry.name
        before = children.get(name)
        node = self._node(entry, before)
        if before is not None and before is not node:
            if not (before.is_directory and node.is_directory):
                self._lose(joined(directory, name), before)
            if before.entry.kind in {Kind.DIRECTORY, Kind.SYMLINK}:
                self._last = None
        children[name] = node

    def finish(self) -> Tree:
        """Return the tree as it is now. The editor is not used any more."""
        return Tree(self._root, self._layers, self._linked)

    def _node(self, entry: Entry, before: Node | None) -> Node:
        if entry.kind is Kind.HARDLINK:
            return self._target(entry, before)
        if entry.kind is not Kind.DIRECTORY:
            return Node(entry, self._layer)
        if before is not None and before.is_directory:
            return Node(entry, self._layer, before.children)
        return Node(entry, self._layer, self._fresh({}))

    def _target(self, entry: Entry, before: Node | None) -> Node:
        found = resolve(self._root, entry.link, follow=False)
        target = found.nodes[-1]
        if found.missing or target.is_directory:
            what = "a directory" if target.is_directory and not found.missing else "nothing"
            raise ContentError(f"{entry.shown!r} is a hard link to {what}: {shown(entry.link)!r}")
        if target is not before:
            _, names = self._linked.get(id(target), (target, 1))
            self._linked[id(target)] = (target, names + 1)
        return target

    def _directory(self, entry: Entry) -> tuple[bytes, dict[bytes, Node]]:
        """Return the path without links, and the children, of the directory that an entry goes into."""
        parent = entry.parent
        if self._last is not None and self._last[0] == parent:
            return self._last[1], self._last[2]
        found = resolve(self._root, parent, follow=True)
        while found.missing or not found.nodes[-1].is_directory:
            if not found.nodes[-1].is_directory:
                above = shown(b"/".join(found.names))
                raise ContentError(f"{entry.shown!r} cannot be: {above!r} is not a directory")
            name = found.missing[0]
            implied = Entry(path=_bounded(found.names, name, entry), kind=Kind.DIRECTORY, mode=_IMPLIED_MODE)
            self._own(found.names)[name] = Node(implied, self._layer, self._fresh({}))
            found = resolve(self._root, parent, follow=True)
        _bounded(found.names, entry.name, entry)
        path, children = b"/".join(found.names), self._own(found.names)
        self._last = (parent, path, children)
        return path, children

    def _own(self, names: list[bytes]) -> dict[bytes, Node]:
        """Return the children of a directory that may be changed, having copied the way to it."""
        children = self._owned.get(id(self._root.children))
        if children is None:
            children = self._fresh(dict(self._root.children))
            self._root = Node(self._root.entry, self._root.layer, children)
        for name in names:
            child = children[name]
            own = self._owned.get(id(child.children))
            if own is None:
                own = self._fresh(dict(child.children))
                children[name] = Node(child.entry, child.layer, own)
            children = own
        return children

    def _fresh(self, children: dict[bytes, Node]) -> dict[bytes, Node]:
        self._owned[id(children)] = children
        return children

    def _lose(self, path: bytes, node: Node) -> None:
        for each, file in _files(path, node):
            known = self._linked.get(id(file))
            if known is not None:
                self._linked[id(file)] = (file, known[1] - 1)
            if known is None or known[1] == 1:
                self.lost.append(Lost(path=each, size=file.entry.size, layer=file.layer, by=self._layer))


def _bounded(names: list[bytes], name: bytes, entry: Entry) -> bytes:
    path = b"/".join((*names, name))
    if len(path) > MAX_PATH:
        raise ContentError(f"{entry.shown!r} leads through links to a path of more than {MAX_PATH} bytes")
    return path


def _files(path: bytes, node: Node) -> Iterator[tuple[bytes, Node]]:
    pending = [(path, node)]
    while pending:
        path, node = pending.pop()
        if node.entry.kind is Kind.FILE:
            yield path, node
        pending += [(joined(path, name), child) for name, child in node.children.items()]
