from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regsim.core import Descriptor, Digest, media_types
from regsim.core.holdings import SkipRule
from regsim.core.manifest import MAX_MANIFEST_SIZE
from regsim.errors import ContentError, LocalFileError, NotFoundError
from regsim.store import node
from regsim.store.layout import LayoutStore
from regsim.store.memory import BytesContent
from regsim.store.node import ChainDigestStore, DigestStore, MemoryStore, node_store
from regsim.store.protocols import ChainKeeper
from regsim.store.verify import read_all

pytestmark = pytest.mark.anyio

LAYERS = tuple(Digest.of(bytes([number])) for number in range(6))


def content(data: bytes, media_type: str) -> BytesContent:
    return BytesContent(Descriptor.of(data, media_type), data)


async def test_layer_bytes_are_dropped_and_the_error_says_so() -> None:
    store = DigestStore("edge-1")
    layer = content(b"some layer", media_types.OCI_LAYER_GZIP)
    await store.put(layer)
    with pytest.raises(NotFoundError, match="edge-1 does not hold") as caught:
        await read_all(store.content(layer.descriptor), limit=100)
    assert "drops the bytes" in caught.value.hint


@pytest.mark.parametrize("media_type", [media_types.OCI_CONFIG, media_types.DOCKER_CONFIG])
async def test_config_is_kept_for_its_history(media_type: str) -> None:
    store = DigestStore()
    config = content(b'{"history":[]}', media_type)
    await store.put(config)
    assert await read_all(store.content(config.descriptor), limit=100) == config.data


async def test_huge_manifest_is_refused_unread() -> None:
    descriptor = Descriptor(media_type=media_types.OCI_MANIFEST, digest=LAYERS[0], size=MAX_MANIFEST_SIZE + 1)
    store = DigestStore()
    with pytest.raises(ContentError, match="keeps at most"):
        await store.put(BytesContent(descriptor, b""))
    assert not await store.has(descriptor)


async def test_manifests_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "MAX_DOCUMENTS", 10)
    store = DigestStore()
    await store.put(content(b"12345678", media_types.OCI_MANIFEST))
    await store.put(content(b"12345678", media_types.OCI_MANIFEST))
    second = content(b"abc", media_types.OCI_MANIFEST)
    with pytest.raises(LocalFileError, match="10 bytes"):
        await store.put(second)
    assert not await store.has(second.descriptor)


def test_only_the_chain_store_keeps_chains() -> None:
    others = (MemoryStore(), DigestStore(), LayoutStore("."), node_store(SkipRule.BLOB))
    assert not any(isinstance(store, ChainKeeper) for store in others)
    assert isinstance(ChainDigestStore(), ChainKeeper)
    assert isinstance(node_store(SkipRule.CHAIN), ChainKeeper)


def test_chain_holds_its_beginnings_and_nothing_else() -> None:
    store = ChainDigestStore()
    store.add_chain(LAYERS[:3])
    assert [store.has_chain(LAYERS[:length]) for length in range(5)] == [True, True, True, True, False]
    assert not store.has_chain(LAYERS[1:3])
    assert not store.has_chain((LAYERS[1], LAYERS[0]))


async def test_layers_put_without_their_run_make_no_chain() -> None:
    store = ChainDigestStore()
    layer = content(b"some layer", media_types.OCI_LAYER_GZIP)
    await store.put(layer)
    assert not store.has_chain((layer.descriptor.digest,))


@given(st.lists(st.lists(st.sampled_from(LAYERS), max_size=5)), st.lists(st.sampled_from(LAYERS), max_size=5))
def test_chains_are_exactly_the_prefixes_of_what_was_added(
    runs: list[list[Digest]], asked: list[Digest]
) -> None:
    store = ChainDigestStore()
    for run in runs:
        store.add_chain(tuple(run))
    expected = not asked or any(run[: len(asked)] == asked for run in runs)
    assert store.has_chain(tuple(asked)) == expected
