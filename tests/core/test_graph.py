"""The graph of an image: every reference, in the order of the ledger."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from regsim.core import Descriptor, Digest, Document, media_types
from regsim.core.graph import MAX_DEPTH, MAX_REFERENCES, Graph
from regsim.core.manifest import index_document, manifest_document, parse
from regsim.errors import ContentError

if TYPE_CHECKING:
    from collections.abc import Mapping

FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


def blob(name: str, media_type: str = media_types.OCI_LAYER, **changes: Any) -> Descriptor:
    keys = {"media_type": media_type, "digest": Digest.of(name.encode()), "size": len(name)}
    return Descriptor(**{**keys, **changes})


def manifest(*layers: Descriptor, config: str = "config") -> Document:
    raw = manifest_document(blob(config, media_types.OCI_CONFIG), layers)
    return parse(Descriptor.of(raw, media_types.OCI_MANIFEST), raw)


def index(*children: Descriptor) -> Document:
    raw = index_document(children)
    return parse(Descriptor.of(raw, media_types.OCI_INDEX), raw)


def known(*documents: Document) -> Mapping[Digest, Document]:
    return {document.descriptor.digest: document for document in documents}


def told(graph: Graph) -> list[tuple[str, int, int]]:
    return [(place.role, place.number, place.first) for place in graph.places]


def test_places_stand_depth_first_and_the_first_with_a_content_leads() -> None:
    one, two = manifest(blob("base"), blob("one")), manifest(blob("base"), blob("base"), config="other")
    root = index(one.descriptor, two.descriptor, one.descriptor)
    graph = Graph.of(root.descriptor, known(root, one, two))
    assert told(graph) == [
        ("index", 0, 0),
        ("manifest", 1, 1),
        ("config", 2, 2),
        ("layer", 3, 3),
        ("layer", 4, 4),
        ("manifest", 5, 5),
        ("config", 6, 6),
        ("layer", 7, 3),
        ("layer", 8, 3),
        ("manifest", 9, 1),  # and what it names is listed once
    ]
    assert [place.leads for place in graph.places[7:]] == [False, False, False]
    assert [graph.places[number].parent for number in (0, 3)] == [None, graph.places[1]]


def test_a_layer_knows_its_number_among_the_layers_and_nothing_else_has_one() -> None:
    image = manifest(blob("base"), blob("top"))
    root = index(image.descriptor, blob("odd"))
    graph = Graph.of(root.descriptor, known(root, image))
    assert [place.layer for place in graph.places] == [None, None, None, 0, 1, None]
    assert [place.depth for place in graph.places] == [0, 1, 2, 2, 2, 1]


def test_a_manifest_that_is_not_known_is_not_opened() -> None:
    image = manifest(blob("base"))
    root = index(image.descriptor, image.descriptor)
    assert told(Graph.of(root.descriptor, known(root))) == [
        ("index", 0, 0),
        ("manifest", 1, 1),
        ("manifest", 2, 1),
    ]


def test_a_foreign_layer_stays_and_leads_nobody() -> None:
    image = manifest(blob("base", FOREIGN), blob("base"), blob("base"))
    places = Graph.of(image.descriptor, known(image)).places
    assert [(place.stays, place.first) for place in places[2:]] == [(True, 2), (False, 3), (False, 3)]


def test_a_blob_and_a_manifest_of_one_digest_are_two_things() -> None:
    image = manifest(blob("base"))
    root = index(image.descriptor, blob("x", digest=image.descriptor.digest, size=image.descriptor.size))
    places = Graph.of(root.descriptor, known(root, image)).places
    assert places[-1].leads
    assert places[-1].content != places[1].content


def test_a_digest_with_two_sizes_is_refused() -> None:
    image = manifest(blob("base"), blob("base", size=5))
    with pytest.raises(ContentError, match="is named with two sizes: 4 and 5 bytes"):
        Graph.of(image.descriptor, known(image))


def test_indexes_may_be_nested_so_deep_and_no_deeper() -> None:
    documents = [manifest(blob("base"))]
    for _ in range(MAX_DEPTH):
        documents.append(index(documents[-1].descriptor))
    assert len(Graph.of(documents[-1].descriptor, known(*documents)).places) == MAX_DEPTH + 3
    documents.append(index(documents[-1].descriptor))
    with pytest.raises(ContentError, match=f"nested {MAX_DEPTH} deep"):
        Graph.of(documents[-1].descriptor, known(*documents))


@pytest.mark.long
def test_more_references_than_any_image_has_are_refused() -> None:
    image = manifest(blob("base"))
    most = replace(image, successors=image.successors[1:] * (MAX_REFERENCES - 1))
    assert len(Graph.of(most.descriptor, known(most)).places) == MAX_REFERENCES
    more = replace(image, successors=image.successors[1:] * MAX_REFERENCES)
    with pytest.raises(ContentError, match="more than 100,000 references"):
        Graph.of(more.descriptor, known(more))
