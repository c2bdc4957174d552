"""Manifests and indexes: raw bytes, and what they say (image-spec, manifest.md and image-index.md).

Digests come from the raw bytes only, which are kept; nothing here ever re-serialises a document that
was read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from regsim.core import media_types
from regsim.core.descriptor import Descriptor, strings
from regsim.errors import ContentError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from regsim.core.descriptor import Digest

# Beyond this a manifest is not read: registries must take 4 MiB (distribution-spec, end-7a).
MAX_MANIFEST_SIZE = 4 * 1024 * 1024

# What a registry says of a manifest that it lacks (distribution-spec, "Error Codes").
MANIFEST_UNKNOWN = "MANIFEST_UNKNOWN"


class Role(StrEnum):
    """What a reference points at, as the ledger prints it."""

    LAYER = "layer"
    CONFIG = "config"
    MANIFEST = "manifest"
    INDEX = "index"


@dataclass(frozen=True, slots=True)
class Successor:
    """One descriptor that a manifest or index names, and the part that it plays there."""

    role: Role
    descriptor: Descriptor

    @property
    def is_foreign(self) -> bool:
        """Whether this is a layer that may not be distributed."""
        return self.role is Role.LAYER and media_types.is_foreign(self.descriptor.media_type)


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or index: its descriptor, its exact bytes, and what it names in its own order."""

    descriptor: Descriptor
    raw: bytes
    successors: tuple[Successor, ...]

    @property
    def config(self) -> Descriptor | None:
        """The config of a manifest; None for an index."""
        return next((each.descriptor for each in self.successors if each.role is Role.CONFIG), None)

    def only(self, digests: Container[Digest]) -> Document:
        """Return the same bytes with only these successors."""
        return replace(
            self, successors=tuple(each for each in self.successors if each.descriptor.digest in digests)
        )

    @property
    def layers(self) -> tuple[Descriptor, ...]:
        """The layers of a manifest, base first; empty for an index."""
        return tuple(each.descriptor for each in self.successors if each.role is Role.LAYER)


@dataclass(frozen=True, slots=True)
class Referrer:
    """A manifest that refers to another one: as lists of referrers name it, and to which."""

    descriptor: Descriptor
    subject: Digest


def role_of(media_type: str) -> Role:
    """Return the role of content that is named by an index, a tag or a digest."""
    if media_types.is_index(media_type):
        return Role.INDEX
    return Role.MANIFEST if media_types.is_manifest(media_type) else Role.LAYER


def media_type_of(raw: bytes, content_type: str | None = None) -> str:
    """Return the media type that a manifest states, or failing that the one that it was served with.

    Raises:
        ContentError: it states no media type, or it was served with another one.
    """
    stated = parse_object(raw, "the manifest").get("mediaType")
    served = media_types.essence(content_type) if content_type else None
    if isinstance(stated, str) and served and served not in (stated, "application/octet-stream"):
        raise ContentError(f"a manifest states {stated} and was served as {served}")
    media_type = stated if isinstance(stated, str) else served
    if media_type not in media_types.MANIFESTS | media_types.INDEXES:
        raise ContentError(
            f"not a manifest that can be transferred: {str(media_type)[:120]}",
            hint="OCI manifests and indexes and docker's schema 2 are",
        )
    return str(media_type)


def parse(descriptor: Descriptor, raw: bytes) -> Document:
    """Read a manifest or index that has already been verified against `descriptor`.

    Raises:
        ContentError: it is not JSON, not of schema version 2, or names something malformed.
    """
    name = f"manifest {descriptor.digest.short}"
    document = parse_object(raw, name)
    if document.get("schemaVersion") != 2:  # noqa: PLR2004  (the only version that names digests and sizes)
        raise ContentError(f"{name} is not of schema version 2")
    stated = document.get("mediaType")
    if stated is not None and stated != descriptor.media_type:
        raise ContentError(f"{name} states {stated!r:.120}, its descriptor {descriptor.media_type}")
    return Document(descriptor, raw, tuple(_successors(document, descriptor.media_type, name)))


def referrer_of(descriptor: Descriptor, raw: bytes) -> Referrer | None:
    """Return to what a manifest refers (image-spec, `subject`); None where it names nothing that can be read.

    The descriptor has the artifact type and the annotations that lists of referrers give it.
    """
    document = parse_object(raw, f"manifest {descriptor.digest.short}")
    if document.get("subject") is None:
        return None
    try:
        subject = Descriptor.from_json(document["subject"], where="subject")
    except ContentError:
        return None  # the registry is to judge it
    config = document.get("config")
    # distribution-spec, "Listing Referrers": a manifest without an artifact type has its config's type.
    kind = document.get("artifactType") or (config.get("mediaType") if isinstance(config, dict) else None)
    return Referrer(
        Descriptor(
            media_type=descriptor.media_type,
            digest=descriptor.digest,
            size=descriptor.size,
            artifact_type=kind if isinstance(kind, str) else None,
            annotations=strings(document.get("annotations")),
        ),
        subject.digest,
    )


def _successors(document: dict[str, Any], media_type: str, name: str) -> Iterable[Successor]:
    if media_types.is_index(media_type):
        for position, value in enumerate(_list(document, "manifests", name)):
            child = Descriptor.from_json(value, where=f"{name}, manifests[{position}]")
            yield Successor(role_of(child.media_type), child)
        return
    yield Successor(Role.CONFIG, Descriptor.from_json(document.get("config"), where=f"{name}, config"))
    for position, value in enumerate(_list(document, "layers", name)):
        yield Successor(Role.LAYER, Descriptor.from_json(value, where=f"{name}, layers[{position}]"))


def _list(document: dict[str, Any], key: str, name: str) -> list[Any]:
    value = document.get(key)
    if not isinstance(value, list | None):
        raise ContentError(f"{name}: {key} is not a list")
    return value or []  # absent and null are empty, as for most registries


def parse_object(raw: bytes, name: str, hint: str = "") -> dict[str, Any]:
    """Read a JSON object.

    Args:
        raw: the bytes.
        name: what errors call them.
        hint: what errors suggest.

    Raises:
        ContentError: it is not a JSON object.
    """
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ContentError(f"{name} is not JSON", hint=hint) from error
    if not isinstance(value, dict):
        raise ContentError(f"{name} is not a JSON object", hint=hint)
    return value


def encode(document: dict[str, Any]) -> bytes:
    """Write a document of our own: compact JSON in insertion order, the same on every machine."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def manifest_document(
    config: Descriptor, layers: Iterable[Descriptor], *, annotations: dict[str, str] | None = None
) -> bytes:
    """Write an OCI image manifest over a config and layers, base first."""
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": config.to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    if annotations:
        document["annotations"] = annotations
    return encode(document)


def index_document(manifests: Iterable[Descriptor]) -> bytes:
    """Write an OCI image index over manifests."""
    return encode(
        {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_INDEX,
            "manifests": [manifest.to_json() for manifest in manifests],
        }
    )
