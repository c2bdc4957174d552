"""Who holds what: the questions that decisions ask of a repository or a node, and their answer by sets.

Owns the answers where no bytes are. Must not know how content got here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, cast

from regsim.core.ledger import Evidence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regsim.core import Descriptor, Digest, Document


class SkipRule(StrEnum):
    """Which layers a client leaves out of a pull."""

    BLOB = "blob"  # any layer whose digest is present: containerd, podman, regsim
    CHAIN = "chain"  # only an unbroken run from the bottom: docker's graph drivers


def runs_of(document: Document) -> tuple[tuple[Digest, ...], ...]:
    """Return every run of a manifest's layers that begins with the base, shortest first."""
    layers = tuple(layer.digest for layer in document.layers)
    return tuple(layers[:length] for length in range(1, len(layers) + 1))


@dataclass(slots=True, kw_only=True)
class HeldSets:
    """What one repository or node of a model holds, or what a plan would have written, as sets of digests.

    Attributes:
        present: what a blob that is here is known by (`head` at a registry, `local` on a node).
        runs: the unbroken runs of layers that are here, for a node that skips by `chain`; else None.
        blobs: by digest.
        manifests: by digest.
        tags: the digest that each names.
    """

    present: Evidence
    runs: set[tuple[Digest, ...]] | None = None
    blobs: set[Digest] = field(default_factory=set)
    manifests: dict[Digest, Document] = field(default_factory=dict)
    tags: dict[str, Digest] = field(default_factory=dict)

    def resolve(self, reference: str) -> Descriptor | None:
        """Return what a tag or digest names here; None if it is absent."""
        # A digest is a string; what is neither a tag nor a digest names nothing.
        held = self.manifests.get(self.tags.get(reference, cast("Digest", reference)))
        return held.descriptor if held is not None else None

    def has(self, digest: Digest, run: tuple[Digest, ...] = ()) -> Evidence | None:
        """Return how it is known that a blob is here; None if it is absent.

        Args:
            digest: of the blob.
            run: the layers from the base up to this one, if it is a layer of a manifest; else empty.
        """
        if run and self.runs is not None:
            return Evidence.CHAIN if run in self.runs else None
        return self.present if digest in self.blobs else None

    def put_manifest(
        self, document: Document, tag: str | None, *, runs: Sequence[tuple[Digest, ...]] | None = None
    ) -> None:
        """Take in a manifest whose content is here, and its tag.

        Args:
            document: the manifest.
            tag: None leaves it untagged.
            runs: `runs_of(document)`, if it is at hand, so that equal nodes share it.
        """
        self.manifests[document.descriptor.digest] = document
        if tag is not None:
            self.tags[tag] = document.descriptor.digest
        if self.runs is not None and document.config is not None:
            self.runs.update(runs_of(document) if runs is None else runs)

    def delete_manifest(self, reference: str) -> None:
        """Delete a tag; or by digest a manifest and all its tags. Blobs stay (distribution-spec, end-9)."""
        if self.tags.pop(reference, None) is None:
            self.manifests.pop(cast("Digest", reference), None)
            self.tags = {tag: digest for tag, digest in self.tags.items() if digest != reference}
