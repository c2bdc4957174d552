"""The untimed model: registries and nodes as sets of digests."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import dataclass

import pytest

from regsim.core import Descriptor, Digest, media_types
from regsim.core.holdings import HeldSets
from regsim.core.ledger import Evidence, Ledger, Tally, violations
from regsim.core.manifest import parse
from regsim.core.work import Labels
from regsim.errors import NotFoundError
from regsim.transfer.model import ModelEnd, ModelRegistry, ModelTransfer


@dataclass(frozen=True)
class Image:
    """An image whose layers are named by their bytes."""

    root: Descriptor
    raw: bytes

    @classmethod
    def of(cls, *layers: str, config: str = "{}", inlined: str | None = None) -> Image:
        parts = [Descriptor.of(config.encode(), media_types.OCI_CONFIG).to_json()]
        for layer in layers:
            described = Descriptor.of(layer.encode(), media_types.OCI_LAYER_GZIP)
            if layer == inlined:
                described = Descriptor(
                    media_type=described.media_type,
                    digest=described.digest,
                    size=described.size,
                    data=layer.encode(),
                )
            parts.append(described.to_json())
        document = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": parts[0],
            "layers": parts[1:],
        }
        raw = json.dumps(document).encode()
        return cls(Descriptor.of(raw, media_types.OCI_MANIFEST), raw)

    def held(self, tag: str = "v1") -> ModelEnd:
        """Return a node that holds this."""
        holdings = HeldSets(present=Evidence.LOCAL)
        holdings.put_manifest(parse(self.root, self.raw), tag)
        return ModelEnd(holdings)


def node(*, in_chains: bool = False) -> ModelEnd:
    return ModelEnd(HeldSets(present=Evidence.LOCAL, runs=set() if in_chains else None))


def move(source: ModelEnd, destination: ModelEnd, reference: str = "v1", *mount_from: str) -> Ledger:
    ledger = ModelTransfer(
        source=source,
        reference=reference,
        destination=destination,
        tag="v1",
        candidates=lambda _: mount_from,
    ).run()
    assert violations(ledger) == []
    return ledger


def told(ledger: Ledger) -> list[str]:
    return [f"{entry.outcome} {entry.evidence}" for entry in ledger.entries]


def test_repository_is_there_as_soon_as_somebody_asks_for_it() -> None:
    registry = ModelRegistry()
    assert registry.repository("shop/api").holdings is registry.repository("shop/api").holdings
    assert registry.repository("shop/api").remote
    assert not node().remote


def test_first_push_sends_everything_and_the_second_asks_once() -> None:
    api = ModelRegistry().repository("shop/api")
    image = Image.of("base", "top")
    first, second = move(image.held(), api), move(image.held(), api)
    assert told(first) == ["transferred upload"] * 4
    assert first.summary.wire_sent == first.summary.referenced.bytes
    # For each blob a question, a session and its body; for the manifest two questions and its body.
    assert [entry.requests for entry in first.entries] == [3, 3, 3, 3]
    assert [entry.attempts for entry in first.entries[1:]] == [1, 1, 1]
    assert told(second) == ["exists head", "exists manifest", "exists manifest", "exists manifest"]
    assert (second.summary.requests, second.summary.wire_sent) == (1, 0)


def test_pull_receives_what_the_node_lacks() -> None:
    api, edge = ModelRegistry().repository("shop/api"), node()
    move(Image.of("base").held(), api)
    move(api, edge)
    move(Image.of("base", "top").held(), api)
    ledger = move(api, edge)
    assert told(ledger) == ["transferred download", "exists local", "exists local", "transferred download"]
    root, *_, top = ledger.entries
    # To resolve the tag is a request, and so is every body.
    assert [entry.requests for entry in ledger.entries] == [2, 0, 0, 1]
    assert ledger.summary.wire_received == root.size + top.size
    assert ledger.summary.wire_sent == 0


def test_node_that_skips_by_chain_needs_an_unbroken_run_from_the_bottom() -> None:
    api = ModelRegistry().repository("shop/api")
    move(Image.of("base", "middle", "top").held(), api)
    by_chain, by_blob = node(in_chains=True), node()
    move(api, by_chain)
    move(api, by_blob)
    move(Image.of("base", "new", "top").held(), api)
    assert told(move(api, by_chain))[2:] == ["exists chain", "transferred download", "transferred download"]
    assert told(move(api, by_blob))[2:] == ["exists local", "transferred download", "exists local"]


def test_blob_is_mounted_from_a_repository_that_holds_it() -> None:
    registry = ModelRegistry()
    move(Image.of("base").held(), registry.repository("library/base"))
    ledger = move(Image.of("base").held(), registry.repository("shop/api"), "v1", "library/base")
    assert [(entry.outcome, entry.mounted_from) for entry in ledger.entries[1:]] == [
        ("mounted", "library/base")
    ] * 2
    assert [entry.requests for entry in ledger.entries[1:]] == [3, 3]
    assert Digest.of(b"base") in registry.repositories["shop/api"].blobs


@pytest.mark.parametrize("stale", ["library/base", "no/where"])
def test_candidate_that_holds_nothing_costs_a_question(stale: str) -> None:
    registry = ModelRegistry()
    registry.repository("library/base")
    ledger = move(Image.of("base").held(), registry.repository("shop/api"), "v1", stale)
    assert told(ledger)[1:] == ["transferred upload"] * 2
    assert [entry.requests for entry in ledger.entries[1:]] == [4, 4]
    assert stale == "library/base" or stale not in registry.repositories


def test_copy_reads_and_writes_between_repositories() -> None:
    registry = ModelRegistry()
    api, web = registry.repository("shop/api"), registry.repository("shop/web")
    move(Image.of("base").held(), api)
    ledger = move(api, web)
    assert ledger.direction == "copy"
    size = ledger.summary.referenced.bytes
    assert (ledger.summary.wire_sent, ledger.summary.wire_received) == (size, size)
    again = move(api, web)
    assert again.summary.wire_received == again.summary.wasted == again.entries[0].size


def test_data_in_a_descriptor_spares_a_pull_alone_the_wire() -> None:
    registry = ModelRegistry()
    api, web = registry.repository("shop/api"), registry.repository("shop/web")
    pushed = move(Image.of("tiny", inlined="tiny").held(), api)
    pulled, copied = move(api, node()), move(api, web)
    assert [told(ledger)[2] for ledger in (pushed, pulled, copied)] == [
        "transferred upload",
        "inlined None",
        "transferred upload",
    ]
    assert [ledger.entries[2].wire_received for ledger in (pushed, pulled, copied)] == [0, 0, 4]
    assert [ledger.entries[2].requests for ledger in (pushed, pulled, copied)] == [3, 0, 4]


def test_content_between_nodes_costs_nothing() -> None:
    ledger = move(Image.of("base").held(), node())
    assert told(ledger) == ["transferred stored"] * 3
    assert (ledger.summary.wire_sent, ledger.summary.wire_received, ledger.summary.requests) == (0, 0, 0)


def test_reference_that_does_not_exist_costs_a_registry_one_request() -> None:
    missing = ModelTransfer(
        source=ModelRegistry().repository("shop/api"), reference="v9", destination=node(), name="shop/api:v9"
    ).run()
    assert isinstance(missing.error, NotFoundError)
    assert missing.error.codes == ("MANIFEST_UNKNOWN",)
    assert missing.error.message == "shop/api:v9 does not exist"
    assert (missing.entries, missing.digest, missing.summary.requests) == ((), None, 1)
    local = ModelTransfer(source=node(), reference="v9", destination=node()).run()
    assert isinstance(local.error, NotFoundError)
    assert local.error.message == "v9 does not exist"
    assert local.summary.requests == 0


def test_manifest_that_is_missing_at_its_source_fails_the_transfer_lawfully() -> None:
    api = ModelRegistry().repository("shop/api")
    image = Image.of("base")
    raw = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_INDEX,
            "manifests": [image.root.to_json()],
        }
    ).encode()
    root = Descriptor.of(raw, media_types.OCI_INDEX)
    api.holdings.put_manifest(parse(root, raw), "v1")
    ledger = move(api, node())
    assert isinstance(ledger.error, NotFoundError)
    assert image.root.digest in ledger.error.message
    assert told(ledger) == ["failed blocked", "failed error"]


def test_ledger_carries_digest_name_labels_and_what_is_referenced() -> None:
    image = Image.of("base")
    base, real = Digest.of(b"base"), Digest.of(b"the real base")
    transfer = ModelTransfer(
        source=image.held(),
        reference="v1",
        destination=ModelRegistry().repository("shop/api"),
        name="shop/api:v1",
        labels=Labels({base: "ADD rootfs.tar /"}, {base: real}),
    )
    blank, ledger = transfer.blank(), transfer.run()
    assert (blank.reference, blank.direction, blank.entries) == ("shop/api:v1", "push", ())
    assert (ledger.reference, ledger.direction) == (blank.reference, blank.direction)
    assert ledger.digest == image.root.digest
    assert ledger.referenced == Tally(3, image.root.size + 2 + 4)
    assert (ledger.entries[2].created_by, ledger.entries[2].recorded_digest) == ("ADD rootfs.tar /", real)


def test_tag_and_digest_both_name_what_was_pushed() -> None:
    api, image = ModelRegistry().repository("shop/api"), Image.of("base")
    move(image.held(), api)
    assert api.holdings.resolve("v1") == api.holdings.resolve(image.root.digest) == image.root
    assert api.holdings.resolve("v2") is None


@pytest.mark.parametrize("in_chains", [False, True])
def test_a_node_and_its_pull_take_two_kilobytes(*, in_chains: bool) -> None:
    registry = ModelRegistry()
    labels = Labels()
    move(Image.of(*map(str, range(7))).held(), registry.repository("shop/api"))
    pulled: list[tuple[ModelEnd, Ledger]] = []
    tracemalloc.start()
    try:
        for _ in range(1000):
            end = node(in_chains=in_chains)
            transfer = ModelTransfer(
                source=registry.repository("shop/api"), reference="v1", destination=end, labels=labels
            )
            pulled.append((end, transfer.run()))
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert {ledger.summary.wire_received for _, ledger in pulled} == {pulled[0][1].summary.wire_received}
    assert used / len(pulled) < (2_200 if in_chains else 1_600)
