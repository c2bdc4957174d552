"""Manifests: exact bytes, and what a registry must understand of them.

Owns reading and judging image manifests and indexes as pushed (end-7). Must not know of repositories: whether
the successors exist is asked elsewhere.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .spec import INDEXES, MANIFESTS, NON_DISTRIBUTABLE, Algorithm, Digest, algorithm_of, digest_of, is_digest


class ManifestError(ValueError):
    """The content is not a manifest that this registry takes."""


class Kind(StrEnum):
    """What a successor must be stored as."""

    BLOB = "blob"
    EITHER = "either"
    """An entry of an index that is of no manifest media type."""
    MANIFEST = "manifest"


@dataclass(frozen=True, slots=True)
class Successor:
    """A descriptor that a manifest needs to exist, in manifest order."""

    digest: Digest
    media_type: str
    kind: Kind

    def document(self) -> dict[str, str]:
        """Return what an error says of it."""
        return {"digest": self.digest, "mediaType": self.media_type}


@dataclass(frozen=True, slots=True)
class Manifest:
    """A stored manifest or index.

    Attributes:
        content: The bytes as pushed, which are served again unchanged.
        media_type: The Content-Type to serve them with, without parameters.
        subject: Digest of the manifest that this one refers to.
        artifact_type: Its own, else an image's config media type; ``None`` for an index without one.
        mentioned: Every digest in it, whether it must exist or not.
        layers: Digest and media type of each layer of an image, in order, whether it must exist or not.
    """

    digest: Digest
    media_type: str
    content: bytes
    successors: tuple[Successor, ...] = ()
    subject: Digest | None = None
    artifact_type: str | None = None
    annotations: dict[str, Any] | None = None
    mentioned: frozenset[Digest] = frozenset()
    layers: tuple[tuple[Digest, str], ...] = ()

    def descriptor(self) -> dict[str, Any]:
        """Return the descriptor that a referrers list shows (end-12)."""
        descriptor: dict[str, Any] = {
            "mediaType": self.media_type,
            "size": len(self.content),
            "digest": self.digest,
        }
        if self.artifact_type:
            descriptor["artifactType"] = self.artifact_type
        if self.annotations:
            descriptor["annotations"] = self.annotations
        return descriptor


def parse_manifest(content: bytes, content_type: str, algorithm: Algorithm) -> Manifest:
    """Read a manifest as pushed.

    Args:
        content: Its bytes.
        content_type: The request's header, parameters and all; may be empty.
        algorithm: What to compute its digest with.

    Raises:
        ManifestError: Not JSON, of an unknown media type, at odds with its Content-Type, or malformed.
    """
    document = _decode(content)
    media_type = _media_type(document, content_type)
    index = media_type in INDEXES
    subject = document.get("subject")
    return Manifest(
        digest=digest_of(content, algorithm),
        media_type=media_type,
        content=content,
        successors=_needed(_places(document, index=index), index=index),
        subject=None if subject is None else _descriptor(subject, "subject")[0],
        artifact_type=_artifact_type(document, index=index),
        annotations=_annotations(document),
        mentioned=frozenset(_mentioned(document)),
        layers=()
        if index
        else tuple((each["digest"], each["mediaType"]) for each in document.get("layers") or ()),
    )


def _decode(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"the manifest is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ManifestError("the manifest is not a JSON object")
    if document.get("schemaVersion") != 2:  # noqa: PLR2004 (the only version there is)
        raise ManifestError("schemaVersion is not 2")
    return document


def _refuse_constant(name: str) -> None:
    raise ManifestError(f"{name} is not JSON")


def _media_type(document: dict[str, Any], content_type: str) -> str:
    """Agree on the media type: parameters of the header do not count, and either side may be silent."""
    sent = content_type.partition(";")[0].strip().lower()
    own = document.get("mediaType")
    if own is not None and not isinstance(own, str):
        raise ManifestError("mediaType is not a string")
    if sent and own and sent != own.lower():
        raise ManifestError(f"Content-Type {sent} differs from mediaType {own}")
    media_type = (own or sent).lower()
    if media_type not in MANIFESTS:
        raise ManifestError(f"media type {media_type or 'absent'} is not one of a manifest")
    return media_type


def _places(document: dict[str, Any], *, index: bool) -> list[tuple[str, Any]]:
    """Return what an index (its manifests) or an image (its config, then its layers) refers to, by place."""
    name = "manifests" if index else "layers"
    entries = document.get(name)
    if entries is None:  # absent or null: registries take it as empty, and regctl makes it
        entries = []
    if not isinstance(entries, list):
        raise ManifestError(f"{name} is not a list")
    places = [(f"{name}[{n}]", entry) for n, entry in enumerate(entries)]
    return places if index else [("config", document.get("config")), *places]


def _needed(places: Iterable[tuple[str, Any]], *, index: bool) -> tuple[Successor, ...]:
    """Return each successor once that must exist: neither inlined nor non-distributable."""
    needed: dict[Successor, None] = {}
    for place, value in places:
        digest, media_type = _descriptor(value, place)
        if media_type not in NON_DISTRIBUTABLE and not _is_inlined(value, digest):
            child = Kind.MANIFEST if media_type in MANIFESTS else Kind.EITHER
            needed[Successor(digest, media_type, child if index else Kind.BLOB)] = None
    return tuple(needed)


def _descriptor(value: Any, place: str) -> tuple[Digest, str]:
    """Judge a descriptor, and return its digest and media type."""
    if not isinstance(value, dict):
        raise ManifestError(f"{place} is not a descriptor")
    digest, size, media_type = value.get("digest"), value.get("size"), value.get("mediaType")
    if not isinstance(digest, str) or not is_digest(digest):
        raise ManifestError(f"{place} has no valid digest")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ManifestError(f"{place} has no valid size")
    if not isinstance(media_type, str) or not media_type:
        raise ManifestError(f"{place} has no mediaType")
    return digest, media_type


def _is_inlined(value: dict[str, Any], digest: Digest) -> bool:
    """Tell whether a descriptor carries its content in ``data``; data of another digest does not count."""
    data = value.get("data")
    if not isinstance(data, str):
        return False
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(content) == value["size"] and digest_of(content, algorithm_of(digest)) == digest


def _mentioned(document: dict[str, Any]) -> Iterator[Digest]:
    """Yield the digest of everything that looks like a descriptor, wherever it stands."""
    open_values: list[Any] = [document]
    while open_values:
        value = open_values.pop()
        if isinstance(value, list):
            open_values += value
        elif isinstance(value, dict):
            open_values += value.values()
            digest = value.get("digest")
            if isinstance(digest, str) and is_digest(digest):
                yield digest


def _artifact_type(document: dict[str, Any], *, index: bool) -> str | None:
    """Return what a referrers list shows: an image without artifactType shows its config's media type."""
    artifact_type = document.get("artifactType")
    if artifact_type is not None and not isinstance(artifact_type, str):
        raise ManifestError("artifactType is not a string")
    if artifact_type or index:
        return artifact_type or None
    return str(document["config"]["mediaType"])


def _annotations(document: dict[str, Any]) -> dict[str, Any] | None:
    annotations = document.get("annotations")
    if annotations is not None and not isinstance(annotations, dict):
        raise ManifestError("annotations is not an object")
    return annotations
