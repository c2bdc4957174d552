"""An image with its layers, and what several images share (image-spec, manifest.md and config.md)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from regsim.core.config import History, ImageConfig
from regsim.core.descriptor import Digest
from regsim.core.platform import Platform
from regsim.errors import InvalidReferenceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from regsim.core.descriptor import Descriptor
    from regsim.core.manifest import Document


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer of an image.

    Attributes:
        descriptor: media type, digest and size in bytes of its blob.
        diff_id: digest of the uncompressed tar (config.md#layer-diffid); None if it is not known.
        uncompressed_size: bytes of that tar; None if they are not known.
        content_size: bytes of the files in it, which docker calls the layer's size; None if not known.
        created_by: the instruction that made it; None if the image's history does not say.
        created: when, as configs write it (RFC 3339); None if the history does not say.
    """

    descriptor: Descriptor
    diff_id: Digest | None = None
    uncompressed_size: int | None = None
    content_size: int | None = None
    created_by: str | None = None
    created: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image: its manifest, its config and its layers.

    Attributes:
        manifest: descriptor of its manifest; of size 0 if only the digest is known.
        config: descriptor of its config; None if it has none.
        layers: base first.
        history: its config's history, base first; empty if there is none that can be read.
        platform: what it runs on; None if neither an index nor its config says.
        created: when it was made, as its config says (RFC 3339).
        labels: its config's labels.
    """

    manifest: Descriptor
    config: Descriptor | None = None
    layers: tuple[Layer, ...] = ()
    history: tuple[History, ...] = ()
    platform: Platform | None = None
    created: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, document: Document, config: ImageConfig | None = None) -> Image:
        """Return the image of a manifest.

        An index's word on the platform goes before that of the config. A history that has not exactly as
        many lines with a layer as there are layers says nothing of any layer, and so do the diff IDs.

        Args:
            document: the manifest.
            config: what its config says; None if it is not an image's or cannot be read.
        """
        described, count = document.layers, len(document.layers)
        config = config or ImageConfig(platform=Platform("", ""), history=(), diff_ids=())
        diff_ids = config.diff_ids if len(config.diff_ids) == count else [""] * count
        layers = (
            Layer(
                descriptor=descriptor,
                diff_id=_digest(diff_id),
                created_by=line.created_by or None,
                created=line.created,
            )
            for descriptor, diff_id, line in zip(described, diff_ids, config.lines(count), strict=True)
        )
        return cls(
            manifest=document.descriptor,
            config=document.config,
            layers=tuple(layers),
            history=config.history,
            platform=document.descriptor.platform or (config.platform if config.platform.os else None),
            created=config.created,
            labels=config.labels,
        )

    @property
    def digest(self) -> Digest:
        """The manifest's digest."""
        return self.manifest.digest

    @property
    def id(self) -> Digest:
        """The digest by which docker knows the image: its config's, else its manifest's."""
        return self.config.digest if self.config is not None else self.digest

    @property
    def size(self) -> int:
        """Bytes of all layers and the config as they travel, a repeated layer each time; not the manifest."""
        config = self.config.size if self.config is not None else 0
        return config + sum(layer.descriptor.size for layer in self.layers)

    @property
    def blobs(self) -> dict[Digest, int]:
        """The manifest, the config and the layers, with sizes in bytes; each once."""
        named = [layer.descriptor for layer in self.layers]
        config = [self.config] if self.config is not None else []
        return {each.digest: each.size for each in (self.manifest, *config, *named)}

    @property
    def lines(self) -> tuple[tuple[History, Layer | None], ...]:
        """The lines of the history, base first, each with its layer unless it changed only metadata.

        If the history does not fit the layers: one empty line for each layer.
        """
        if sum(not line.empty_layer for line in self.history) != len(self.layers):
            return tuple((History(), layer) for layer in self.layers)
        layers = iter(self.layers)
        return tuple((line, None if line.empty_layer else next(layers)) for line in self.history)

    def measured(self, sizes: Mapping[Digest, int | None]) -> Image:
        """Return the same image with the content sizes of its layers, in bytes by the blob's digest."""
        layers = (replace(each, content_size=sizes.get(each.descriptor.digest)) for each in self.layers)
        return replace(self, layers=tuple(layers))


class Holder(Protocol):
    """What holds blobs: an image, or an entry of a store that stands for several."""

    @property
    def digest(self) -> Digest:
        """Its own digest."""

    @property
    def blobs(self) -> Mapping[Digest, int]:
        """All that it holds, with sizes in bytes."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """Which blobs several images share, and how many bytes that saves.

    Attributes:
        images: the blobs of each image with their sizes in bytes, by the image's digest.
        holders: how many of the images hold each blob.
    """

    images: Mapping[Digest, Mapping[Digest, int]]
    holders: Counter[Digest]

    @property
    def referenced(self) -> int:
        """Bytes of all images if each kept its blobs for itself."""
        return sum(sum(blobs.values()) for blobs in self.images.values())

    @property
    def stored(self) -> int:
        """Bytes of all blobs, each once."""
        blobs = {digest: size for image in self.images.values() for digest, size in image.items()}
        return sum(blobs.values())

    @property
    def saved(self) -> int:
        """Bytes that sharing saves."""
        return self.referenced - self.stored

    @property
    def saved_ratio(self) -> float:
        """Saved bytes over referenced bytes; 0 if nothing is referenced."""
        return self.saved / self.referenced if self.referenced else 0.0

    def unique(self, image: Digest) -> int:
        """Return the bytes that only this image holds, which removing it alone frees."""
        return sum(size for digest, size in self.images[image].items() if self.holders[digest] == 1)

    def others(self, image: Digest, blob: Digest | None = None) -> int:
        """Return how many other images there are; with `blob`, those that hold it."""
        held = self.images.get(image)
        if blob is None:
            return len(self.images) - (held is not None)
        return self.holders[blob] - (held is not None and blob in held)


def share(images: Iterable[Holder]) -> Sharing:
    """Return what images share. An image that comes several times counts once."""
    held = {image.digest: image.blobs for image in images}
    return Sharing(held, Counter(digest for blobs in held.values() for digest in blobs))


def moment(text: str | None) -> datetime | None:
    """Return a time of a config (RFC 3339, with up to nanoseconds) in UTC; None if it cannot be read."""
    try:
        found = datetime.fromisoformat(text) if text is not None else None
        return found.astimezone(UTC) if found is not None and found.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _digest(text: str) -> Digest | None:
    try:
        return Digest(text)
    except InvalidReferenceError:
        return None
