"""Images whose layers can be read: to build on, to copy from, to run containers from, or to push.

Owns when layers are read, which is not before their content is requested, and the files that they make
together. Must not know instructions, containers, or where images come from.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Protocol, Self

from regsim.core import Descriptor, Digest, media_types
from regsim.core.config import MAX_CONFIG_SIZE
from regsim.core.manifest import manifest_document
from regsim.errors import ContentError, UsageError
from regsim.image.apply import apply
from regsim.image.builder.config import Config
from regsim.image.layer_read import read_layer
from regsim.image.layer_write import arrange, write_layer
from regsim.image.listing import Listing, read_listing
from regsim.image.spool import DiskSpool
from regsim.image.tree import EMPTY, Tree
from regsim.store.entry import Entry, Kind
from regsim.store.memory import AbsentContent, BytesContent
from regsim.store.protocols import Unmade
from regsim.store.verify import read_all

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

    from regsim.core.image import Image
    from regsim.image.compression import Compressor
    from regsim.image.tree import Node
    from regsim.store.entry import Opener
    from regsim.store.layout import LayoutStore
    from regsim.store.protocols import Content
    from regsim.synth.recipe import LayerInfo

# Files that are read whole, such as /etc/passwd, have at most this many bytes.
MAX_SMALL_FILE = 1024 * 1024


class Listings(Protocol):
    """Remembers what layers hold."""

    async def listing(self, digest: Digest) -> Listing | None:
        """Return what a layer holds, if it is known."""

    async def keep_listing(self, digest: Digest, listing: Listing) -> None:
        """Remember what a layer holds."""


@dataclass(slots=True, kw_only=True)
class OpenLayer:
    """A layer whose blob can be read.

    Args:
        descriptor: of its blob.
        diff_id: digest of its tar.
        content: returns the blob.
        known: what it holds, if that is known without reading it.
        listings: looked up before the blob is read, and updated afterwards.
    """

    descriptor: Descriptor
    diff_id: Digest
    content: Callable[[], Content] = field(repr=False)
    known: Listing | None = field(default=None, repr=False)
    listings: Listings | None = field(default=None, repr=False)

    async def listing(self) -> Listing:
        """Return what the layer holds; the blob is read at most once.

        Raises:
            ContentError: the blob is damaged, or not a layer that can be understood.
            LocalFileError, NotFoundError, NetworkError, RegistryError: it cannot be read.
        """
        if self.known is None and self.listings is not None:
            self.known = await self.listings.listing(self.descriptor.digest)
        if self.known is None:
            self.known = await read_listing(self.content())
            if self.listings is not None:
                await self.listings.keep_listing(self.descriptor.digest, self.known)
        return self.known


async def write_open(
    layout: LayoutStore, entries: Iterable[Entry], compressor: Compressor, checksums: Mapping[bytes, str]
) -> OpenLayer:
    """Write a layer into a layout, and return it with its listing.

    Args:
        layout: takes the blob.
        entries: as for `write_layer`.
        compressor: what the tar is compressed with.
        checksums: SHA-256 of files that need no hashing, by path.

    Raises:
        ContentError: as for `write_layer`.
        LocalFileError: it could not be written.
    """
    found = dict(checksums)
    # Of several names of a file, the listing must have the one with the content in the layer.
    arranged = arrange(entries)
    hashed = [
        replace(entry, content=partial(_hashed, entry, found))
        if entry.kind is Kind.FILE and entry.path not in checksums
        else entry
        for entry in arranged
    ]
    written: list[LayerInfo] = []

    def write(sink: Callable[[bytes], object]) -> Descriptor:
        written.append(write_layer(hashed, compressor, sink))
        return written[-1].descriptor

    await layout.ingest(write)
    (info,) = written
    return OpenLayer(
        descriptor=info.descriptor,
        diff_id=info.diff_id,
        content=partial(layout.content, info.descriptor),
        known=Listing.of(arranged, found),
    )


def _hashed(entry: Entry, checksums: dict[bytes, str]) -> Iterator[bytes]:
    """Yield a file's content, and then note its checksum."""
    hasher = hashlib.sha256()
    for chunk in entry.content() if entry.content is not None else ():
        hasher.update(chunk)
        yield chunk
    checksums[entry.path] = hasher.hexdigest()


@dataclass(frozen=True, kw_only=True)
class OpenImage:
    """An image whose config and layers can be read. It is a `Fetcher` of itself.

    Args:
        name: what messages call it, and what `resolve` takes.
        raw: the exact bytes of its config.
        layers: base first.
    """

    name: str
    raw: bytes = field(repr=False)
    layers: tuple[OpenLayer, ...]

    @classmethod
    async def of(cls, image: Image, content: Callable[[Descriptor], Content], name: str) -> Self:
        """Return an image of which only the manifest has been read. Docker's gzip layers get OCI's type.

        Args:
            image: what its manifest says.
            content: returns what a descriptor names.
            name: what messages call it.

        Raises:
            UsageError: it is not an image, or its config is one for other layers.
            ContentError: its config is damaged or malformed.
            LocalFileError, NotFoundError, NetworkError, RegistryError: its config cannot be read.
        """
        config = image.config
        if config is None or config.media_type not in media_types.CONFIGS:
            raise UsageError(f"{name} is not an image to build on", hint="its config is not that of an image")
        raw = await read_all(content(config), limit=MAX_CONFIG_SIZE)
        diff_ids = _checked(raw, len(image.layers), name).diff_ids
        named = [layer.descriptor for layer in image.layers]
        layers = (
            OpenLayer(descriptor=_oci(layer), diff_id=Digest(diff_id), content=partial(content, layer))
            for layer, diff_id in zip(named, diff_ids, strict=True)
        )
        return cls(name=name, raw=raw, layers=tuple(layers))

    @cached_property
    def config(self) -> BytesContent:
        """The config as content."""
        return BytesContent(Descriptor.of(self.raw, media_types.OCI_CONFIG), self.raw)

    @cached_property
    def manifest(self) -> BytesContent:
        """The OCI manifest over the config and the layers, the same bytes each time."""
        raw = manifest_document(self.config.descriptor, [layer.descriptor for layer in self.layers])
        return BytesContent(Descriptor.of(raw, media_types.OCI_MANIFEST), raw)

    @cached_property
    def files(self) -> Files:
        """The files of the layers that were read so far; `read` reads all of them."""
        return Files(self.name)

    def settings(self) -> Config:
        """Return the config, to be changed.

        Raises:
            ContentError: it is malformed.
            UsageError: it is one for other layers.
        """
        return _checked(self.raw, len(self.layers), self.name)

    async def read(self) -> Files:
        """Read the layers of which the listing is not known, and return the files that they make together.

        Raises:
            ContentError, LocalFileError, NotFoundError, NetworkError, RegistryError: a layer cannot be read
                or applied.
        """
        await self.files.grow(self.layers)
        return self.files

    async def resolve(self, reference: str) -> Descriptor | None:
        """Return the manifest, under the image's name or the manifest's digest."""
        manifest = self.manifest.descriptor
        return manifest if reference in (self.name, manifest.digest) else None

    def content(self, descriptor: Descriptor) -> Content:
        """Return what `descriptor` names; absence shows when it is opened (`NotFoundError`)."""
        for document in (self.manifest, self.config):
            if document.descriptor.digest == descriptor.digest:
                return document
        found = (each.content() for each in self.layers if each.descriptor.digest == descriptor.digest)
        return next(found, None) or AbsentContent(descriptor, f"image {self.name}")

    async def export(self, store: LayoutStore, tag: str, layers: LayoutStore) -> None:
        """Put the image into a layout.

        Args:
            store: the layout.
            tag: what the image is called there.
            layers: a layout that holds some of its layers, which are linked if the file system allows.

        Raises:
            RegsimError: a layer cannot be read, or the layout cannot be written.
        """
        for layer in self.layers:
            if not await store.has(layer.descriptor) and not await store.link(layer.descriptor, layers):
                await store.put(layer.content())
        await store.put(self.config)
        await store.put(self.manifest)
        await store.tag(self.manifest.descriptor, tag)


def _oci(layer: Descriptor) -> Descriptor:
    """Return a layer as an OCI manifest names it: docker's gzip layers are the same bytes."""
    if layer.media_type == media_types.DOCKER_LAYER_GZIP:
        return replace(layer, media_type=media_types.OCI_LAYER_GZIP)
    return layer


def _checked(raw: bytes, layers: int, name: str) -> Config:
    config = Config.of(raw)
    if len(config.diff_ids) != layers:
        raise UsageError(
            f"{name} has {layers} layers, and a config for {len(config.diff_ids)}",
            hint="it is not an image to build on",
        )
    return config


class Files:
    """A `Source` over the files that layers make together.

    Args:
        name: what messages call it.

    Attributes:
        tree: what the layers that were applied make together.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._layers: list[OpenLayer] = []
        self._listings: list[Listing] = []
        self.tree: Tree = EMPTY
        self._ambiguous: set[int] = set()  # entries by `id`; listings keep them alive

    async def grow(self, layers: Sequence[OpenLayer]) -> None:
        """Apply the layers beyond those that were applied before.

        Args:
            layers: all of them, base first.

        Raises:
            ContentError: a layer cannot be applied, or as for `OpenLayer.listing`.
        """
        for layer in layers[len(self._layers) :]:
            listing = await layer.listing()
            self.tree, _ = apply(self.tree, listing.entries)
            self._layers.append(layer)
            self._listings.append(listing)
            self._ambiguous.update(_hidden(listing))

    def find(self, path: bytes) -> Entry | None:
        """Return what is at a path, without following a symbolic link; None if there is nothing."""
        node = self.tree.find(path, follow=False)
        return _at(path, node) if node is not None else None

    def hint(self, path: bytes) -> str:  # noqa: ARG002  (it does not matter which)
        """Return why something may be missing at a path."""
        return f"no instruction before this one puts it into {self.name}"

    def children(self, path: bytes) -> list[Entry]:
        """Return what is in a directory, sorted by name."""
        node = self.tree.find(path, follow=False)
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
            for entry in await self._kept(number, paths, stack):
                if entry.content is not None:
                    openers.update(dict.fromkeys(paths[entry.path], entry.content))
        return openers

    async def small_file(self, path: bytes) -> bytes:
        """Return the content of a small file, or nothing if there is no such file.

        Raises:
            ContentError: it has more than `MAX_SMALL_FILE` bytes, or as for `contents`.
        """
        node = self.tree.find(path)
        if node is None or node.entry.kind is not Kind.FILE:
            return b""
        self._check_known(node)
        if node.entry.size > MAX_SMALL_FILE:
            raise ContentError(f"{node.entry.shown!r} in {self.name} has {node.entry.size} bytes")
        with ExitStack() as stack:
            # The node's own path is its path in the layer, without the links that lead there.
            entries = await self._kept(node.layer, {node.entry.path}, stack)
            found = [entry.content for entry in entries if entry.content is not None]
            return b"".join(found[-1]()) if found else b""

    async def _kept(self, number: int, paths: Container[bytes], stack: ExitStack) -> Sequence[Entry]:
        """Read a layer, and return its entries, those at some paths with their contents."""
        spool = stack.enter_context(DiskSpool(lambda entry: entry.path in paths))
        content = self._layers[number].content()
        content = await content.made() if isinstance(content, Unmade) else content
        return await read_layer(content, spool)

    def _place(self, node: Node) -> str:
        """Return a stand-in for an unknown checksum: the layer that a file is in, and its path there."""
        place = self._layers[node.layer].diff_id.encode() + b" " + node.entry.path
        return hashlib.sha256(place).hexdigest()

    def _node(self, path: bytes) -> Node:
        node = self.tree.find(path, follow=False)
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


def _at(path: bytes, node: Node) -> Entry:
    return node.entry if node.entry.path == path else replace(node.entry, path=path)
