"""The layers of a stage, and the files that they make together, as something to copy from and to.

Owns when layers are read: not before somebody asks what is in them. Must not know instructions.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from regsim.errors import ContentError
from regsim.image.apply import apply
from regsim.image.builder.listing import read_listing
from regsim.image.builder.spool import DiskSpool
from regsim.image.layer_read import read_layer
from regsim.image.tree import EMPTY, Tree
from regsim.store.entry import Entry, Kind
from regsim.store.protocols import Unmade

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from regsim.core import Descriptor, Digest
    from regsim.image.builder.bases import BaseLayer
    from regsim.image.builder.cache import Cache
    from regsim.image.builder.listing import Listing
    from regsim.image.tree import Node
    from regsim.store.entry import Opener
    from regsim.store.protocols import Content

# Who is somebody is read from files of this size at most.
MAX_SMALL_FILE = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLayer:
    """A layer of a stage.

    Args:
        descriptor: of its blob.
        diff_id: digest of its tar.
        content: returns the blob.
        listing: learns what it holds.
    """

    descriptor: Descriptor
    diff_id: Digest
    content: Callable[[], Content]
    listing: Callable[[], Awaitable[Listing]]


def stage_layer(layer: BaseLayer, cache: Cache | None = None) -> StageLayer:
    """Return a layer whose listing is read, from the cache or the blob, when it is first asked for."""
    known = layer.listing

    async def learn() -> Listing:
        nonlocal known
        if known is None and cache is not None:
            known = await cache.listing(layer.descriptor.digest)
        if known is None:
            known = await read_listing(layer.content())
            if cache is not None:
                await cache.keep_listing(layer.descriptor.digest, known)
        return known

    return StageLayer(
        descriptor=layer.descriptor, diff_id=layer.diff_id, content=layer.content, listing=learn
    )


class Files:
    """A `Source` over the files that layers make together.

    Args:
        name: what messages call it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._layers: list[StageLayer] = []
        self._listings: list[Listing] = []
        self._tree: Tree = EMPTY
        self._ambiguous: set[int] = set()  # entries by `id`; listings keep them alive

    async def grow(self, layers: Sequence[StageLayer]) -> None:
        """Apply the layers beyond those that were applied before.

        Args:
            layers: all of them, base first.

        Raises:
            ContentError: a layer cannot be applied, or as for `StageLayer.listing`.
        """
        for layer in layers[len(self._layers) :]:
            listing = await layer.listing()
            self._tree, _ = apply(self._tree, listing.entries)
            self._layers.append(layer)
            self._listings.append(listing)
            self._ambiguous.update(_hidden(listing))

    @property
    def tree(self) -> Tree:
        """What the layers that were applied make together."""
        return self._tree

    def find(self, path: bytes) -> Entry | None:
        """Return what is at a path, of a symbolic link the link itself; None where there is nothing."""
        node = self._tree.find(path, follow=False)
        return _at(path, node) if node is not None else None

    def hint(self, path: bytes) -> str:  # noqa: ARG002  (it does not matter which)
        """Return why something may be missing at a path."""
        return f"no instruction before this one puts it into {self.name}"

    def children(self, path: bytes) -> list[Entry]:
        """Return what is in a directory, sorted by name."""
        node = self._tree.find(path, follow=False)
        prefix = path + b"/" if path else b""
        return [_at(prefix + name, node.children[name]) for name in sorted(node.children)] if node else []

    def checksums(self, entries: Sequence[Entry]) -> dict[bytes, str]:
        """Return the SHA-256 of each file among `entries`, by its path.

        Raises:
            ContentError: a file is known by no name of its own.
        """
        found = {}
        for entry in entries:
            if entry.kind is Kind.FILE:
                node = self._node(entry.path)
                known = self._listings[node.layer].checksums.get(node.entry.path)
                found[entry.path] = known or self._place(node)
        return found

    async def contents(self, entries: Sequence[Entry], stack: ExitStack) -> dict[bytes, Opener]:
        """Return what reads the content of each file among `entries`, by its path.

        Args:
            entries: what is wanted.
            stack: keeps the contents until it is closed.

        Raises:
            ContentError, LocalFileError, NotFoundError, NetworkError, RegistryError: a layer cannot be read.
        """
        wanted: dict[int, dict[bytes, list[bytes]]] = {}
        for entry in entries:
            if entry.kind is Kind.FILE:
                node = self._node(entry.path)
                wanted.setdefault(node.layer, {}).setdefault(node.entry.path, []).append(entry.path)
        openers: dict[bytes, Opener] = {}
        for number, paths in wanted.items():
            spool = stack.enter_context(DiskSpool(lambda entry, paths=paths: entry.path in paths))  # type: ignore[misc]
            layer = await read_layer(await _made(self._layers[number].content()), spool=spool)
            for entry in layer.entries:
                if entry.content is not None:
                    openers.update(dict.fromkeys(paths[entry.path], entry.content))
        return openers

    async def small_file(self, path: bytes) -> bytes:
        """Return the content of a small file; nothing where there is no such file.

        Raises:
            ContentError: it has more than `MAX_SMALL_FILE` bytes, or as for `contents`.
        """
        node = self._tree.find(path)
        if node is None or node.entry.kind is not Kind.FILE:
            return b""
        self._check_known(node)
        if node.entry.size > MAX_SMALL_FILE:
            raise ContentError(f"{node.entry.shown!r} in {self.name} has {node.entry.size} bytes")
        with ExitStack() as stack:
            # The node's own path is where its layer has it, whatever links lead there.
            spool = stack.enter_context(DiskSpool(lambda entry: entry.path == node.entry.path))
            layer = await read_layer(await _made(self._layers[node.layer].content()), spool=spool)
            found = [entry.content for entry in layer.entries if entry.content is not None]
            return b"".join(found[-1]()) if found else b""

    def _place(self, node: Node) -> str:
        """Return what is as good as a checksum where nobody took one: in which layer a file is, and where."""
        place = self._layers[node.layer].diff_id.encode() + b" " + node.entry.path
        return hashlib.sha256(place).hexdigest()

    def _node(self, path: bytes) -> Node:
        node = self._tree.find(path, follow=False)
        assert node is not None  # noqa: S101  (it was listed)
        self._check_known(node)
        return node

    def _check_known(self, node: Node) -> None:
        if id(node.entry) in self._ambiguous:
            raise ContentError(
                f"{node.entry.shown!r} is there twice in a layer of {self.name}, "
                "and a hard link to the first of the two is meant",
                hint="the layer is malformed or hostile",
            )


def _hidden(listing: Listing) -> list[int]:
    """Return the files of a layer whose names a later one has, by `id`: contents are found by names."""
    files = [entry for entry in listing.entries if entry.kind is Kind.FILE]
    last = {entry.path: entry for entry in files}
    return [id(entry) for entry in files if last[entry.path] is not entry]


async def _made(content: Content) -> Content:
    return await content.made() if isinstance(content, Unmade) else content


def _at(path: bytes, node: Node) -> Entry:
    return node.entry if node.entry.path == path else replace(node.entry, path=path)
