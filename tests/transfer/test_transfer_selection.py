"""What a choice of platforms moves, what it leaves out, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from regsim.core import Descriptor, Platform, graph, media_types, selection
from regsim.core.account import Account
from regsim.core.holdings import HeldSets
from regsim.core.ledger import Evidence, Ledger, Outcome, violations
from regsim.core.manifest import index_document
from regsim.core.selection import Choice
from regsim.errors import ContentError, NotFoundError
from regsim.scenario.reconcile import reconcile
from regsim.store.memory import BytesContent
from regsim.store.node import MemoryStore, node_store
from regsim.transfer.copy import Options, Transfer
from regsim.transfer.ends import (
    LocalDestination,
    LocalSource,
    PlannedDestination,
    RegistryDestination,
    RegistrySource,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mock_registry import MockRegistry
    from regsim.registry.repository import Registry

    Stock = Callable[..., Awaitable[Descriptor]]

pytestmark = pytest.mark.anyio

AMD, ARM, ARM64 = (Platform.parse(each) for each in ("linux/amd64", "linux/arm/v7", "linux/arm64/v8"))
NAMED = (AMD, ARM, ARM64)


@dataclass
class Multi:
    """An index of three images, and one of it beside an image of another system."""

    store: MemoryStore
    images: dict[Platform, Descriptor]
    index: Descriptor
    outer: Descriptor


async def put_index(store: MemoryStore, tag: str, *named: Descriptor) -> Descriptor:
    raw = index_document(named)
    descriptor = Descriptor.of(raw, media_types.OCI_INDEX)
    await store.put(BytesContent(descriptor, raw))
    await store.tag(descriptor, tag)
    return descriptor


@pytest.fixture
async def multi(stock: Stock) -> Multi:
    store = MemoryStore()
    images = {
        each: replace(await stock(store, str(each), b"base", str(each).encode()), platform=each)
        for each in NAMED
    }
    attestation = replace(
        await stock(store, "attestation", b"signed"), platform=Platform("unknown", "unknown")
    )
    index = await put_index(store, "v1", *images.values(), attestation)
    windows = replace(await stock(store, "windows", b"other"), platform=Platform("windows", "amd64"))
    outer = await put_index(store, "nested", windows, index)
    return Multi(store, images, index, outer)


async def push(
    multi: Multi, registry: Registry, *platforms: Platform, sparse: bool = False, reference: str = "v1"
) -> Ledger:
    ledger = await Transfer(
        LocalSource(multi.store),
        reference,
        RegistryDestination(registry.repository("shop/api")),
        tag="v1",
        options=Options(choice=Choice(platforms=platforms, sparse=sparse)),
    ).run()
    assert violations(ledger) == []
    return ledger


async def test_one_platform_moves_that_image_and_nothing_else(
    multi: Multi, registry: Registry, mock: MockRegistry
) -> None:
    ledger = await push(multi, registry, ARM)
    assert ledger.error is None
    assert ledger.digest == multi.images[ARM].digest
    assert [entry.outcome for entry in ledger.entries] == [Outcome.TRANSFERRED] * 4
    assert ledger.unselected == 3
    beside = Account()
    found = await registry.repository("shop/api").resolve("v1", beside)
    assert found is not None
    assert found.digest == multi.images[ARM].digest
    assert reconcile([ledger], mock.journal, beside=beside).differences == ()


@pytest.mark.parametrize("platforms", [(ARM, AMD), (AMD, ARM, AMD)], ids=["two", "one of them twice"])
async def test_several_platforms_keep_the_index_byte_for_byte(
    multi: Multi, platforms: tuple[Platform, ...]
) -> None:
    target = node_store()
    ledger = await Transfer(
        LocalSource(multi.store),
        "v1",
        LocalDestination(target),
        tag="v1",
        options=Options(choice=Choice(platforms=platforms)),
    ).run()
    assert violations(ledger) == []
    assert ledger.digest == multi.index.digest
    assert ledger.unselected == 2
    manifests = [entry.digest for entry in ledger.entries if entry.role == "manifest"]
    assert manifests == [multi.images[AMD].digest, multi.images[ARM].digest]
    assert not await target.has(multi.images[ARM64])


async def test_sparse_keeps_the_index_around_one_image_too(multi: Multi) -> None:
    target = node_store()
    ledger = await Transfer(
        LocalSource(multi.store),
        "nested",
        LocalDestination(target),
        options=Options(choice=Choice(platforms=(ARM64,), sparse=True)),
    ).run()
    assert violations(ledger) == []
    roles = [str(entry.role) for entry in ledger.entries]
    assert roles == ["index", "index", "manifest", "config", "layer", "layer"]
    assert ledger.unselected == 4
    assert (ledger.digest, ledger.entries[1].digest) == (multi.outer.digest, multi.index.digest)


async def test_image_in_a_nested_index_is_found(multi: Multi, registry: Registry) -> None:
    ledger = await push(multi, registry, ARM64, reference="nested")
    assert ledger.digest == multi.images[ARM64].digest
    assert ledger.unselected == 5


async def test_image_without_a_platform_has_that_of_its_index(stock: Stock) -> None:
    store = MemoryStore()
    inner = await put_index(store, "inner", await stock(store, "image", b"layer"))
    await put_index(store, "v1", replace(inner, platform=AMD))
    ledger = await Transfer(
        LocalSource(store),
        "v1",
        LocalDestination(node_store()),
        options=Options(choice=Choice(platforms=(AMD,))),
    ).run()
    assert ledger.error is None
    assert ledger.entries[0].role == "manifest"


async def test_platform_that_is_not_there_is_told_with_those_that_are(
    multi: Multi, registry: Registry, mock: MockRegistry
) -> None:
    ledger = await push(multi, registry, AMD, Platform.parse("linux/s390x"))
    assert isinstance(ledger.error, NotFoundError)
    assert "linux/s390x" in ledger.error.message
    assert ledger.error.hint == "it has linux/amd64, linux/arm/v7, linux/arm64/v8"
    assert ledger.entries == ()
    assert reconcile([], mock.journal).differences == ()


@pytest.mark.parametrize("sparse", [False, True], ids=["image", "sparse index"])
async def test_pull_pays_once_for_each_index_and_reconciles(
    multi: Multi, registry: Registry, mock: MockRegistry, sparse: bool
) -> None:
    repository = registry.repository("shop/api")
    pushed = await push(multi, registry, reference="nested")
    ledger = await Transfer(
        RegistrySource(repository),
        "v1",
        LocalDestination(node_store()),
        tag="v1",
        options=Options(choice=Choice(platforms=(ARM,), sparse=sparse)),
    ).run()
    assert ledger.error is None
    assert violations(ledger) == []
    indexes = multi.outer.size + multi.index.size
    assert ledger.summary.wasted == (0 if sparse else indexes)
    moved = sum(entry.size for entry in ledger.entries if entry.outcome is Outcome.TRANSFERRED)
    assert ledger.summary.wire_received == moved + ledger.summary.wasted
    assert reconcile([pushed, ledger], mock.journal).differences == ()


async def test_plan_of_a_choice_is_what_the_transfer_does(multi: Multi, registry: Registry) -> None:
    await push(multi, registry)
    ledgers = []
    for plan in (True, False):
        real = LocalDestination(node_store())
        planned = PlannedDestination(real, HeldSets(present=Evidence.LOCAL), receives=True)
        ledgers.append(
            await Transfer(
                RegistrySource(registry.repository("shop/api")),
                "v1",
                planned if plan else real,
                options=Options(choice=Choice(platforms=(ARM, AMD))),
            ).run()
        )
    told = [
        [(each.digest, each.outcome, each.wire_received, each.wasted) for each in ledger.entries]
        for ledger in ledgers
    ]
    assert told[0] == told[1]
    assert ledgers[0].unselected == ledgers[1].unselected == 2


async def test_another_part_of_a_sparse_index_follows_later(multi: Multi, registry: Registry) -> None:
    """A registry that took an index of which it lacks a part answers for the index, not for the part."""
    destination = RegistryDestination(registry.repository("shop/api"))

    async def sparse(*platforms: Platform) -> Ledger:
        return await Transfer(
            LocalSource(multi.store),
            "v1",
            destination,
            tag="v1",
            options=Options(choice=Choice(platforms=platforms, sparse=True)),
        ).run()

    await push(multi, registry)
    await registry.repository("shop/api").delete_manifest(multi.images[ARM].digest, Account())
    ledger = await sparse(ARM)
    assert ledger.error is None
    assert violations(ledger) == []
    outcomes = {entry.digest: entry.outcome for entry in ledger.entries}
    assert outcomes[multi.index.digest] is Outcome.EXISTS
    assert outcomes[multi.images[ARM].digest] is Outcome.TRANSFERRED


async def image_for(store: MemoryStore, stock: Stock, platform: str | None) -> Descriptor:
    system, _, architecture = (platform or "").partition("/")
    config = f'{{"os":"{system}","architecture":"{architecture}"}}' if platform else "{}"
    return await stock(store, "v1", b"layer", config=config.encode())


@pytest.mark.parametrize(("platform", "fits"), [("linux/amd64", True), ("linux/arm64", False), (None, True)])
async def test_single_image_is_held_against_its_own_config(
    stock: Stock, registry: Registry, platform: str | None, fits: bool
) -> None:
    store = MemoryStore()
    await image_for(store, stock, platform)
    repository = registry.repository("a")
    await Transfer(LocalSource(store), "v1", RegistryDestination(repository), tag="v1").run()
    ledger = await Transfer(
        RegistrySource(repository),
        "v1",
        LocalDestination(node_store()),
        options=Options(choice=Choice(platforms=(AMD,))),
    ).run()
    assert violations(ledger) == []
    assert (ledger.error is None) is fits
    assert ledger.unselected == 0
    if ledger.error is not None:
        assert ledger.error.hint == "it has linux/arm64"


async def test_digest_as_a_tag_means_the_digest_of_what_was_chosen(multi: Multi) -> None:
    target = MemoryStore()
    ledger = await Transfer(
        LocalSource(multi.store),
        multi.index.digest,
        LocalDestination(target),
        tag=multi.index.digest,
        options=Options(choice=Choice(platforms=(AMD,))),
    ).run()
    assert ledger.error is None
    assert await target.resolve(multi.index.digest) is None
    assert await target.resolve(multi.images[AMD].digest) is not None


async def test_indexes_nested_too_deep_are_refused(stock: Stock) -> None:
    store = MemoryStore()
    named = await stock(store, "image", b"layer")
    for level in range(graph.MAX_DEPTH + 2):
        named = await put_index(store, f"level-{level}", named)
    ledger = await Transfer(
        LocalSource(store),
        named.digest,
        LocalDestination(node_store()),
        options=Options(choice=Choice(platforms=(AMD,))),
    ).run()
    assert isinstance(ledger.error, ContentError)
    assert "deep" in ledger.error.message


async def test_indexes_that_fan_out_are_read_once_and_bounded(
    stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "MAX_REFERENCES", 1000)
    store = MemoryStore()
    named = await stock(store, "image", b"layer")
    for level in range(12):
        named = await put_index(
            store, f"level-{level}", *[replace(named, annotations={"n": str(n)}) for n in range(4)]
        )
    ledger = await Transfer(
        LocalSource(store),
        named.digest,
        LocalDestination(node_store()),
        options=Options(choice=Choice(platforms=(AMD,))),
    ).run()
    assert isinstance(ledger.error, ContentError)
    assert "references" in ledger.error.message
