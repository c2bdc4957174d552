"""Images in the archive that `docker save` writes, read in place.

Owns `manifest.json` and what follows from it. What docker saves today is an OCI image layout with that
file beside it, and then the manifest is the one of the layout, byte for byte. Before that it was a config and
plain tars of layers without any manifest, which then is made here, the same each time.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

from regsim.core import Descriptor, Digest, Reference, media_types, parse_config
from regsim.core.config import MAX_CONFIG_SIZE
from regsim.core.manifest import MAX_MANIFEST_SIZE, manifest_document, parse
from regsim.errors import ContentError, InvalidReferenceError
from regsim.store.archive import (
    ArchiveFile,
    MemberContent,
    OciArchive,
    TarIndex,
    is_layout,
    listing,
    open_archive,
    place,
)
from regsim.store.memory import BytesContent
from regsim.store.protocols import CHUNK, Content

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from io import FileIO
    from pathlib import Path

    from regsim.core import Document

MANIFEST = "manifest.json"
# The name that containerd, and docker over it, give an image in an index.json.
IMAGE_NAME = "io.containerd.image.name"

MAX_LIST_SIZE = 32 * 1024 * 1024
# Docker itself stops at 128.
_MAX_LAYERS = 500

# A gzipped layer is read here for its diff ID. What zlib packs best comes out at a little over 1,000 times
# its size; no real layer comes near, but a few kilobytes of zeros do no harm.
MAX_RATIO = 200
FREE = 256 * 1024 * 1024
# What follows a member of gzip is copied once for each member, and a hostile slice has thousands.
_SLICE = 64 * 1024

_CONFIG_NAME = re.compile(r"(?:[^/]+/)*([0-9a-f]{64})(?:\.json)?")
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True)
class Saved:
    """One entry of `manifest.json`: names of members, and what the image was called."""

    config: str
    names: tuple[str, ...]
    layers: tuple[str, ...]


class DockerArchive(OciArchive):
    """A `Fetcher` over an archive of docker's. A reference is `REPO:TAG`, and empty for the only image."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(path)
        self._made: dict[str, Content] = {}

    def content(self, descriptor: Descriptor) -> Content:
        """Return what `descriptor` names; absence shows when it is opened (`NotFoundError`)."""
        return self._made.get(descriptor.digest) or super().content(descriptor)

    def _lookup(self, reference: str) -> tuple[Sequence[str], Descriptor | None]:
        """Return the names in the archive, and the image of a name, or of the digest of one made before."""
        index = self._opened()
        images = saved(index)
        names = sorted({name for each in images for name in each.names})
        if reference in self._made:
            return names, self._made[reference].descriptor
        wanted = _normal(reference)
        found = [each for each in images if not reference or wanted in map(_normal, each.names)]
        return names, self._described(index, found[0]) if len(found) == 1 else None

    def _documents(self) -> list[Descriptor]:
        index = self._opened()
        found = (self._described(index, each) for each in saved(index))
        return list({each.digest: each for each in found}.values())

    def _described(self, index: TarIndex, image: Saved) -> Descriptor:
        return _listed(index, image) or self._make(index, image)

    def _make(self, index: TarIndex, image: Saved) -> Descriptor:
        """Make the manifest of an image that has none."""
        raw = _config_of(index, image)
        config = Descriptor.of(raw, media_types.OCI_CONFIG)
        diff_ids = parse_config(raw).diff_ids
        if len(diff_ids) != len(image.layers):
            raise ContentError(
                f"{index.path} has {len(image.layers)} layers of an image whose config names {len(diff_ids)}"
            )
        pairs = tuple(zip(image.layers, diff_ids, strict=True))
        # One layer is often listed many times, such as an empty one: it is read once.
        contents = {pair: _layer(index, *pair) for pair in dict.fromkeys(pairs)}
        layers = [contents[pair] for pair in pairs]
        manifest = manifest_document(config, [each.descriptor for each in layers])
        made = BytesContent(Descriptor.of(manifest, media_types.OCI_MANIFEST), manifest)
        for each in (made, BytesContent(config, raw), *layers):
            self._made[each.descriptor.digest] = each
        return made.descriptor


def saved(index: TarIndex) -> list[Saved]:
    """Return the images that `manifest.json` lists.

    Raises:
        ContentError: the file is missing or malformed.
    """
    raw = index.document(MANIFEST, MAX_LIST_SIZE)
    if raw is None:
        hint = f"it looks like oci-archive:{index.path}" if is_layout(index) else ""
        raise ContentError(f"{index.path} is not an archive of docker's: it has no {MANIFEST}", hint=hint)
    where = f"{index.path}, {MANIFEST}"
    try:
        entries = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ContentError(f"{where} is not JSON") from error
    if not isinstance(entries, list):
        raise ContentError(f"{where} is not a list of images")
    return [_entry(value, f"{where}, [{position}]") for position, value in enumerate(entries)]


def _entry(value: object, where: str) -> Saved:
    if not isinstance(value, dict) or not isinstance(value.get("Config"), str):
        raise ContentError(f"{where} names no Config")
    names, layers = value.get("RepoTags") or [], value.get("Layers")
    if not _are_strings(names) or not _are_strings(layers) or len(layers) > _MAX_LAYERS:
        raise ContentError(f"{where} has no valid lists of RepoTags and Layers")
    return Saved(value["Config"], tuple(names), tuple(layers))


def _are_strings(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _normal(name: str) -> str:
    # `busybox` and `docker.io/library/busybox:latest` are one name.
    try:
        return str(Reference.parse(name))
    except InvalidReferenceError:
        return name


def _listed(index: TarIndex, image: Saved) -> Descriptor | None:
    """Return the manifest of the layout in the archive that names this very config and these layers."""
    if not is_layout(index):
        return None
    for descriptor in _manifests(index, listing(index).everything()):
        document = _document(index, descriptor)
        if document is None or document.config is None:
            continue
        layers = tuple(place(layer.digest) for layer in document.layers)
        if (place(document.config.digest), layers) == (image.config, image.layers):
            return Descriptor(
                media_type=descriptor.media_type, digest=descriptor.digest, size=descriptor.size
            )
    return None


def _manifests(index: TarIndex, listed: Iterable[Descriptor]) -> Iterable[Descriptor]:
    """Yield the manifests that are listed, and those of an index that is: docker saves what it pulled."""
    for descriptor in listed:
        if not media_types.is_index(descriptor.media_type):
            yield descriptor
            continue
        document = _document(index, descriptor)
        yield from (each.descriptor for each in document.successors) if document is not None else ()


def _document(index: TarIndex, descriptor: Descriptor) -> Document | None:
    if not (media_types.is_manifest(descriptor.media_type) or media_types.is_index(descriptor.media_type)):
        return None
    raw = index.document(place(descriptor.digest), MAX_MANIFEST_SIZE)
    if raw is None:
        return None  # of an index, docker saves one platform's image
    if Digest.of(raw, descriptor.digest.algorithm) != descriptor.digest:
        raise _other_bytes(index, place(descriptor.digest))
    return parse(descriptor, raw)


def _config_of(index: TarIndex, image: Saved) -> bytes:
    raw = index.document(image.config, MAX_CONFIG_SIZE)
    if raw is None:
        raise ContentError(f"{index.path} lacks the config {image.config!r:.200}, which its {MANIFEST} names")
    match = _CONFIG_NAME.fullmatch(image.config)
    if match is not None and hashlib.sha256(raw).hexdigest() != match[1]:
        raise _other_bytes(index, image.config)
    return raw


def _layer(index: TarIndex, name: str, diff_id: str) -> Content:
    """Return a layer as it stands in the archive; if it is packed, once it is known what it unpacks to."""
    member = index.find(name)
    if member is None:
        raise ContentError(f"{index.path} lacks the layer {name!r:.200}, which its {MANIFEST} names")
    try:
        wanted = Digest(diff_id)
    except InvalidReferenceError as error:
        raise ContentError(f"{index.path}: the config's diff_ids: {error.message}") from error
    with open_archive(index.path) as file:
        file.seek(member.offset)
        start = file.read(min(4, member.size))
        if start.startswith(_ZSTD):
            raise ContentError(
                f"{index.path}: the layer {name!r} is packed with zstd, and no manifest names its digest",
                hint="save the image as an OCI archive instead",
            )
        if start[:2] != _GZIP:
            # Plain, as docker writes it: its diff ID is its digest, which the store verifies.
            plain = Descriptor(media_type=media_types.OCI_LAYER, digest=wanted, size=member.size)
            return MemberContent(plain, index.path, member)
        file.seek(member.offset)
        digest = _unpacked(index, member, file, wanted)
    packed = Descriptor(media_type=media_types.OCI_LAYER_GZIP, digest=digest, size=member.size)
    return MemberContent(packed, index.path, member)


def _unpacked(index: TarIndex, member: ArchiveFile, file: FileIO, diff_id: Digest) -> Digest:
    """Return the digest of a gzipped layer that unpacks to what `diff_id` names.

    Raises:
        ContentError: it does not, or to so much that it can only be meant to do harm.
    """
    packed, unpacked = hashlib.sha256(), diff_id.hasher()
    unpacking = zlib.decompressobj(wbits=31)
    left, came, room = member.size, 0, max(FREE, MAX_RATIO * member.size)
    try:
        while left and (chunk := file.read(min(_SLICE, left))):
            left -= len(chunk)
            packed.update(chunk)
            while chunk:
                if unpacking.eof:  # gzip files may stand one behind the other
                    unpacking = zlib.decompressobj(wbits=31)
                piece = unpacking.decompress(chunk, CHUNK)
                unpacked.update(piece)
                came += len(piece)
                if came > room:
                    raise ContentError(
                        f"{index.path}: the layer {member.name!r} of {member.size:,} bytes unpacks to more "
                        f"than {room:,}"
                    )
                chunk = unpacking.unconsumed_tail or unpacking.unused_data
    except zlib.error as error:
        raise ContentError(f"{index.path}: the layer {member.name!r} is not whole gzip: {error}") from error
    if left or not unpacking.eof or not diff_id.matches(unpacked):
        raise ContentError(
            f"{index.path}: the layer {member.name!r} does not unpack to {diff_id}, which the config names"
        )
    return Digest(f"sha256:{packed.hexdigest()}")


def _other_bytes(index: TarIndex, name: str) -> ContentError:
    return ContentError(f"{index.path}: the member {name!r} has other bytes than its name says")
