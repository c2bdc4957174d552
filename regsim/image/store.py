"""A layout as a store of images: what each one holds, what they share, and removing some of them.

Owns the answer to "what would removing this free", and doing it. Must not know registries. A layout keeps
each blob once, so what images share is what several of them reach.

A removal has the layout for itself (`store.files.in_use`): a pull in progress has stored blobs that no
manifest names yet. The list of images changes first, in one step, and then the blobs are deleted that no
listed image reaches; what a crash leaves in between, `prune` finds.

All of it blocks, so callers run it in a worker thread.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from regsim.core import Descriptor, Digest, Document, Reference, media_types
from regsim.core.image import Image, Sharing, share
from regsim.core.manifest import MAX_MANIFEST_SIZE, Role, Successor, parse
from regsim.errors import ContentError, InvalidReferenceError, LocalFileError
from regsim.store import layout_index
from regsim.store.files import file_errors, in_use, locked, read_bounded, remove_unlocked, sweep
from regsim.store.layout_index import digest_of, ref_name
from regsim.store.partial import parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from regsim.store.layout_index import Listing

# How long a removal waits for pulls in progress (seconds).
_PATIENCE = 5.0
_SHORTEST_ID = 6
_ALGORITHMS = ("sha256", "sha512")
_DIGEST = re.compile(rb"sha(?:256:[0-9a-f]{64}|512:[0-9a-f]{128})")
_IN_HINT = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """An image or index that a layout lists.

    Args:
        digest: of its manifest or index.
        names: its tags, sorted; none if it is listed by its digest alone.
        blobs: everything that it reaches and that is here, with sizes in bytes; each once.
        layers: of these, those that a manifest names as layers.
        missing: how many blobs it names that are not here.
    """

    digest: Digest
    names: tuple[str, ...]
    blobs: Mapping[Digest, int]
    layers: frozenset[Digest]
    missing: int

    @property
    def size(self) -> int:
        """Bytes of all its blobs."""
        return sum(self.blobs.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What a layout holds.

    Args:
        images: in the order of the list.
        blobs: every blob that is here, with its size in bytes, whether an image reaches it or not.
        manifests: each image of which the manifest is here, those of an index one by one.
        sharing: what `images` share.
    """

    images: tuple[StoredImage, ...] = ()
    blobs: Mapping[Digest, int] = field(default_factory=dict)
    manifests: tuple[Image, ...] = ()
    sharing: Sharing = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sharing", share(self.images))

    def unreferenced(self) -> dict[Digest, int]:
        """Return the blobs that no image reaches, with sizes in bytes."""
        holders = self.sharing.holders
        return {digest: size for digest, size in self.blobs.items() if not holders[digest]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What was removed.

    Args:
        names: tags that name nothing any more.
        images: digests of images that are gone.
        blobs: how many blobs are gone, those that had come in part among them.
        bytes: their bytes.
    """

    names: tuple[str, ...]
    images: tuple[Digest, ...]
    blobs: int
    bytes: int


def take_inventory(root: Path) -> Inventory:
    """Look at all that a layout holds. A layout that does not exist holds nothing.

    Raises:
        ContentError: `index.json` or a manifest is malformed, or not what its digest says.
        LocalFileError: there is something else, or it cannot be read.
    """
    if not root.exists():
        return Inventory()
    if not layout_index.check_marker(root):
        if not root.is_dir() or any(root.iterdir()):
            raise LocalFileError(f"{root} is not an image layout", hint="name a directory with index.json")
        return Inventory()
    return _inventory(root, layout_index.read_index(root).manifests)


def remove(root: Path, wanted: Sequence[str]) -> Removed:
    """Remove images, by tag or by digest, and free what no other image holds.

    A tag that is not the image's last one is removed alone. All are found before any is removed.

    Args:
        root: the layout.
        wanted: a tag as it is listed, a reference that docker's defaults make one, a digest, or at least the
            first six digits of one.

    Raises:
        LocalFileError: there is no such image, the layout is being written to, or its blobs are elsewhere.
        ContentError: a manifest is damaged, so what remains in use is not known; nothing was removed.
    """
    if not layout_index.check_marker(root):
        raise LocalFileError(f"there are no images in {root}", hint="regsim pull puts some there")
    with in_use(root, alone=True, seconds=_PATIENCE), locked(root / layout_index.MARKER):
        _check_own(root)
        index = layout_index.read_index(root)
        names, gone = _chosen(index, wanted, root)
        kept = [
            value
            for value in index.manifests
            if digest_of(value) not in gone and ref_name(value) not in names
        ]
        unreferenced = _inventory(root, kept).unreferenced()
        layout_index.replace_manifests(root, index, kept)
        return _delete(root, unreferenced, names, gone)


def prune(root: Path, *, dry_run: bool = False) -> Removed:
    """Remove what no listed image reaches: what interrupted pulls and crashes left, and replaced images.

    Args:
        root: the layout.
        dry_run: remove nothing, and return what would be removed.

    Raises:
        LocalFileError: the layout is being written to, or its blobs are elsewhere.
        ContentError: a manifest is damaged, so what is in use is not known; nothing was removed.
    """
    if not layout_index.check_marker(root):
        return Removed(names=(), images=(), blobs=0, bytes=0)
    with in_use(root, alone=True, seconds=_PATIENCE):
        _check_own(root)
        unreferenced, left = take_inventory(root).unreferenced(), parts(root)
        if dry_run:
            count, size = len(unreferenced) + len(left), sum((*unreferenced.values(), *left.values()))
            return Removed(names=(), images=(), blobs=count, bytes=size)
        sweep(root)
        for path in left:
            remove_unlocked(path)
        gone = _delete(root, unreferenced)
        return replace(gone, blobs=gone.blobs + len(left), bytes=gone.bytes + sum(left.values()))


def _check_own(root: Path) -> None:
    """Check that what would be deleted is this layout's own."""
    blobs = root / layout_index.BLOBS
    for folder in (blobs, *(blobs / algorithm for algorithm in _ALGORITHMS)):
        if folder.is_symlink():
            raise LocalFileError(
                f"cannot remove anything from {root}: {folder} is a symbolic link",
                hint="what it leads to may be another layout's; remove it there",
            )


def _chosen(index: Listing, wanted: Iterable[str], root: Path) -> tuple[set[str], set[Digest]]:
    """Return the tags to be removed, and the images that are left without one, or that were named."""
    names: set[str] = set()
    gone: set[Digest] = set()
    listed = [(digest_of(value), ref_name(value)) for value in index.manifests]
    for text in wanted:
        found = _tags_meant(text, listed)
        named = {digest for digest, _ in listed if digest is not None and _names_digest(text, digest)}
        if not found and len(named) != 1:
            several = f"{len(named)} images" if named else "no image"
            raise LocalFileError(f"{root} holds {several} {text!r:.200}", hint=_hint(index))
        names |= found
        gone |= named if not found else set()
    names |= {name for digest, name in listed if digest in gone and name is not None}
    left = {digest for digest, name in listed if name not in names}
    gone |= {digest for digest, name in listed if digest is not None and name in names and digest not in left}
    return names, gone


def _tags_meant(text: str, listed: list[tuple[Digest | None, str | None]]) -> set[str]:
    meant = {text}
    with suppress(InvalidReferenceError):
        meant.add(str(Reference.parse(text)))
    return meant & {name for _, name in listed if name is not None}


def _names_digest(text: str, digest: Digest) -> bool:
    return text == digest or (len(text) >= _SHORTEST_ID and digest.encoded.startswith(text))


def _hint(index: Listing) -> str:
    tags = index.tags()
    return f"there are {', '.join(tags[:_IN_HINT])}" + (", …" if len(tags) > _IN_HINT else "") if tags else ""


def _delete(
    root: Path, blobs: Mapping[Digest, int], names: Iterable[str] = (), images: Iterable[Digest] = ()
) -> Removed:
    for digest in blobs:
        place = root / layout_index.BLOBS / digest.algorithm / digest.encoded
        with file_errors(place, "remove"), suppress(FileNotFoundError):
            place.unlink()
    return Removed(
        names=tuple(sorted(names)), images=tuple(sorted(images)), blobs=len(blobs), bytes=sum(blobs.values())
    )


def _inventory(root: Path, manifests: list[Any]) -> Inventory:
    reader = _Reader(root)
    names: dict[Digest, list[str]] = {}
    roots: dict[Digest, Descriptor] = {}
    for position, value in enumerate(manifests):
        descriptor = Descriptor.from_json(value, where=f"{root / layout_index.INDEX}, manifests[{position}]")
        roots.setdefault(descriptor.digest, descriptor)
        name = ref_name(value)
        names.setdefault(descriptor.digest, []).extend([name] if name is not None else [])
    images = tuple(reader.image(each, names[each.digest]) for each in roots.values())
    return Inventory(images=images, blobs=reader.present, manifests=tuple(reader.manifests()))


class _Reader:
    """Reads manifests of a layout, each once."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / layout_index.BLOBS
        self._read: dict[Digest, Document] = {}
        self.present = dict(self._scan())

    def image(self, descriptor: Descriptor, names: list[str]) -> StoredImage:
        blobs: dict[Digest, int] = {}
        layers: set[Digest] = set()
        missing: set[Digest] = set()
        pending = [Successor(Role.MANIFEST, descriptor)]
        while pending:
            each = pending.pop()
            digest = each.descriptor.digest
            if digest in blobs or digest in missing:
                continue
            if digest not in self.present:
                missing.add(digest)
                continue
            blobs[digest] = self.present[digest]
            if each.role is Role.LAYER:
                layers.add(digest)
            if each.role in {Role.MANIFEST, Role.INDEX}:
                pending += self._successors(each.descriptor)
        return StoredImage(
            digest=descriptor.digest,
            names=tuple(sorted(names)),
            blobs=blobs,
            layers=frozenset(layers),
            missing=len(missing),
        )

    def manifests(self) -> Iterator[Image]:
        """Yield the images whose manifests were read."""
        for document in self._read.values():
            if not any(each.role in {Role.MANIFEST, Role.INDEX} for each in document.successors):
                yield Image.of(document)

    def _successors(self, descriptor: Descriptor) -> tuple[Successor, ...]:
        digest = descriptor.digest
        if digest not in self._read:
            place = self._blobs / digest.algorithm / digest.encoded
            raw = read_bounded(place, MAX_MANIFEST_SIZE)
            if Digest.of(raw, digest.algorithm) != digest:
                raise ContentError(
                    f"{place} is not what its name says", hint="remove the image, or pull it again"
                )
            self._read[digest] = _document(descriptor, raw)
        return self._read[digest].successors

    def _scan(self) -> Iterator[tuple[Digest, int]]:
        for algorithm in _ALGORITHMS:
            folder = self._blobs / algorithm
            with file_errors(folder, "read"), suppress(FileNotFoundError), os.scandir(folder) as files:
                for file in files:
                    with suppress(InvalidReferenceError):
                        digest = Digest(f"{algorithm}:{file.name}")
                        yield digest, file.stat(follow_symlinks=False).st_size


def _document(descriptor: Descriptor, raw: bytes) -> Document:
    """Return what a manifest names; of one of an unknown type, everything in it that looks like a digest."""
    if descriptor.media_type in media_types.MANIFESTS | media_types.INDEXES:
        return parse(descriptor, raw)
    digests = (Digest(text.decode()) for text in _DIGEST.findall(raw))
    unknown = (Descriptor(media_type="", digest=digest, size=0) for digest in digests)
    return Document(descriptor, raw, tuple(Successor(Role.CONFIG, each) for each in unknown))
