"""The tree that an image's layers make together, and the files of each layer that later ones hide.

Owns the count of bytes: what each layer adds, what of it is visible, and what later layers hide though it is
still transferred. Must not know where layers come from, nor how a tree is printed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regsim.image.apply import Lost, apply
from regsim.image.tree import EMPTY, Node, Tree, clean
from regsim.store.entry import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from regsim.core.image import Layer
    from regsim.store.entry import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedLayer:
    """What became of a layer's files.

    Args:
        layer: which.
        files: how many it adds.
        size: their bytes.
        wasted: bytes of those that a later layer, or the same one further on, overwrites or deletes.
    """

    layer: Layer
    files: int
    size: int
    wasted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """An image's files.

    Args:
        tree: what the layers make together.
        layers: base first, as `Node.layer` counts them.
        lost: the files that are hidden, in the order in which they were.
    """

    tree: Tree
    layers: tuple[MergedLayer, ...]
    lost: tuple[Lost, ...]

    @property
    def size(self) -> int:
        """Bytes of all files that the layers bring: of those in the tree, and of those that are hidden."""
        return sum(layer.size for layer in self.layers)

    @property
    def wasted(self) -> int:
        """Bytes of the files that are hidden."""
        return sum(layer.wasted for layer in self.layers)

    @property
    def efficiency(self) -> float:
        """The share of all bytes that is in the tree, 0 to 1; of none, all."""
        return 1 - self.wasted / self.size if self.size else 1.0


class Merging:
    """Applies layers one after the other, base first."""

    def __init__(self) -> None:
        self._tree = EMPTY
        self._lost: list[Lost] = []
        self._layers: list[tuple[Layer, int, int]] = []

    def add(self, layer: Layer, entries: Iterable[Entry]) -> None:
        """Apply a layer and what was read of it.

        Raises:
            ContentError: it cannot be applied; the file is named.
        """
        entries = tuple(entries)
        self._tree, lost = apply(self._tree, entries)
        self._lost += lost
        sizes = [entry.size for entry in entries if entry.kind is Kind.FILE]
        self._layers.append((layer, len(sizes), sum(sizes)))

    def finish(self) -> Merged:
        """Return what the layers make."""
        wasted = Counter[int]()
        for each in self._lost:
            wasted[each.layer] += each.size
        layers = (
            MergedLayer(layer=layer, files=files, size=size, wasted=wasted[number])
            for number, (layer, files, size) in enumerate(self._layers)
        )
        return Merged(tree=self._tree, layers=tuple(layers), lost=tuple(self._lost))


@dataclass(frozen=True, slots=True)
class Place:
    """What is at a path of a tree.

    Args:
        path: from the root.
        depth: 1 below where the walk began, 0 there.
        node: what is there.
        size: bytes of a file; of a directory, of all files below it. A file of several names counts under the
            first one alone.
        same_as: the first name of a file that has several, of all others.
    """

    path: bytes
    depth: int
    node: Node
    size: int
    same_as: bytes | None = None


def places(tree: Tree, below: bytes = b"", depth: int | None = None) -> Iterator[Place]:
    """Yield what is at a path of a tree and below it, parents first; of the root only what is below.

    Args:
        tree: in which.
        below: where to begin; links in it are followed. Nothing is yielded if it does not exist.
        depth: how many levels below it, all if None.

    Raises:
        ContentError: the path leads through more than 40 links.
    """
    prefix = clean(below)
    start = tree.find(prefix)
    if start is None:
        return
    everything = [(prefix, start), *tree.walk(prefix)]
    first: dict[int, bytes] = {}
    sizes = Counter[bytes]()
    for path, node in everything:
        if node.entry.kind is Kind.FILE and first.setdefault(id(node), path) == path:
            for parent in _upwards(path, prefix):
                sizes[parent] += node.entry.size
    base = prefix.count(b"/") + 1 if prefix else 0
    for path, node in everything:
        level = (path.count(b"/") + 1 if path else 0) - base
        if (depth is None or level <= depth) and path:
            same_as = first.get(id(node), path)
            yield Place(path, level, node, sizes[path], same_as if same_as != path else None)


def _upwards(path: bytes, top: bytes) -> Iterator[bytes]:
    while path != top:
        yield path
        path = path.rpartition(b"/")[0]
    yield top
