"""What an image is made of: every reference from a root down, in the order of the ledger.

Owns the order, and the limits that hostile documents meet. Must not know how the content is used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from regsim.core.manifest import Role, role_of
from regsim.errors import ContentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from regsim.core.descriptor import Descriptor, Digest
    from regsim.core.manifest import Document

MANIFEST_ROLES = frozenset({Role.MANIFEST, Role.INDEX})

# No image comes near these; a document that does is hostile.
MAX_REFERENCES = 100_000
MAX_DEPTH = 16


class Content(NamedTuple):
    """What references share: a blob and a manifest of one digest are two things to a registry."""

    is_manifest: bool
    digest: Digest


def needs(document: Document | None) -> list[Content]:
    """Return what has to be in place before a manifest is: all that it names, but what stays where it is."""
    return [
        Content(each.role in MANIFEST_ROLES, each.descriptor.digest)
        for each in (document.successors if document is not None else ())
        if not each.is_foreign
    ]


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """One reference: the root, or one descriptor in a manifest or index.

    Attributes:
        role: the part that the content plays there.
        descriptor: as it stands there.
        parent: the place of the manifest that names it; None of the root.
        number: its own, in ledger order.
        first: the number of the first place with the same content, which does the work.
        layer: its number among the layers of its manifest, base first; None if it is no layer of a manifest.
        depth: manifests above it.
        stays: it may not be distributed, and is left where it is.
    """

    role: Role
    descriptor: Descriptor
    parent: Place | None = None
    number: int = 0
    first: int = 0
    layer: int | None = None
    depth: int = 0
    stays: bool = False

    @property
    def is_manifest(self) -> bool:
        """Tell whether this names a manifest or an index."""
        return self.role in MANIFEST_ROLES

    @property
    def content(self) -> Content:
        """What it names."""
        return Content(self.role in MANIFEST_ROLES, self.descriptor.digest)

    @property
    def leads(self) -> bool:
        """Tell whether this is the first place with its content."""
        return self.first == self.number


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """All that a root refers to, depth first in manifest order: immutable, and shared by its transfers.

    Attributes:
        places: one for each reference, in the order of the ledger.
        documents: the manifests and indexes that were opened, by digest. What stands in one is listed once,
            below its first place.
    """

    places: tuple[Place, ...]
    documents: Mapping[Digest, Document]

    @classmethod
    def of(cls, root: Descriptor, documents: Mapping[Digest, Document]) -> Graph:
        """Build the graph of a root; a manifest that is not among `documents` is not opened.

        Raises:
            ContentError: indexes are nested too deep, there are too many references, or a digest has two
                sizes.
        """
        walk = Walk(root)
        while (place := walk.step()) is not None:
            document = documents.get(place.descriptor.digest) if place.is_manifest and place.leads else None
            if document is not None:
                walk.open(place, document)
        return walk.graph()

    @property
    def root(self) -> Place:
        """The place of the root."""
        return self.places[0]


class Walk:
    """Goes through a graph depth first while its documents become known.

    `step` goes to the next place. A manifest that leads is opened before the next step, if at all.
    """

    def __init__(self, root: Descriptor) -> None:
        self._places: list[Place] = []
        self._documents: dict[Digest, Document] = {}
        self._layers: dict[Digest, tuple[Digest, ...]] = {}
        self._firsts: dict[Content, int] = {}
        self._ahead = [Place(role_of(root.media_type), root)]

    def step(self) -> Place | None:
        """Go to the next place; None at the end.

        Raises:
            ContentError: its digest has been named with another size.
        """
        if not self._ahead:
            return None
        place = _numbered(self._ahead.pop(), len(self._places), self._firsts)
        self._places.append(place)
        size = self._places[place.first].descriptor.size
        if place.descriptor.size != size:
            raise ContentError(
                f"{place.descriptor.digest} is named with two sizes: "
                f"{size:,} and {place.descriptor.size:,} bytes"
            )
        return place

    def open(self, place: Place, document: Document) -> None:
        """List what a manifest names: the next steps go through it.

        Raises:
            ContentError: indexes are nested deeper than `MAX_DEPTH`, or there are more references than
                `MAX_REFERENCES`.
        """
        descriptor = place.descriptor
        if place.role is Role.INDEX and place.depth >= MAX_DEPTH:
            raise ContentError(
                f"index {descriptor.digest.short} is nested {place.depth} deep",
                hint=f"{MAX_DEPTH} is the limit",
            )
        self._documents[descriptor.digest] = document
        # An index may name content that is no manifest: a blob, but not a layer on top of others.
        layers = 0
        found: list[Place] = []
        for each in document.successors:
            layer = layers if place.role is Role.MANIFEST and each.role is Role.LAYER else None
            layers += layer is not None
            found.append(
                Place(
                    each.role,
                    each.descriptor,
                    place,
                    layer=layer,
                    depth=place.depth + 1,
                    stays=each.is_foreign,
                )
            )
        self._layers[descriptor.digest] = tuple(
            each.descriptor.digest for each in found if each.layer is not None
        )
        self._ahead.extend(reversed(found))
        if len(self._places) + len(self._ahead) > MAX_REFERENCES:
            raise ContentError(f"an image with more than {MAX_REFERENCES:,} references")

    def layers(self, place: Place) -> tuple[Digest, ...]:
        """Return the layers of the manifest that names a place, base first; empty if it is no manifest's."""
        return self._layers[place.parent.descriptor.digest] if place.parent is not None else ()

    def neighbours(self, place: Place) -> Iterator[Place]:
        """Yield the manifests beside a place, ahead of it, whose first place can only be the one there.

        A manifest names no manifests, so neighbours are independent; what follows a nested index might be
        named inside it first.
        """
        if place.role is Role.INDEX:
            return
        for each in reversed(self._ahead):
            if each.parent is not place.parent:
                return
            if each.is_manifest:
                yield each
            if each.role is Role.INDEX:
                return

    def graph(self) -> Graph:
        """Return the graph as far as it is known."""
        firsts, places = dict(self._firsts), list(self._places)
        for place in reversed(self._ahead):
            places.append(_numbered(place, len(places), firsts))
        return Graph(tuple(places), dict(self._documents))


def _numbered(place: Place, number: int, firsts: dict[Content, int]) -> Place:
    first = number if place.stays else firsts.setdefault(place.content, number)
    return replace(place, number=number, first=first)
