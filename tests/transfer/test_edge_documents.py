"""What naive clients get wrong of documents and digests; numbers as in `regsim/registry/README.md`.

Each transfer's ledger is held to its laws, and against the registry's journal (`Shop.run`).
"""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import respx

from mock_registry.faults.profiles import Profile
from regsim.client.client import Client
from regsim.core import Descriptor, Platform, media_types
from regsim.core.account import Account
from regsim.core.ledger import violations
from regsim.core.manifest import index_document, manifest_document
from regsim.errors import ContentError, RegistryError
from regsim.registry import Connection
from regsim.registry.repository import Registry, Repository
from regsim.registry.requests import Habits
from regsim.registry.transport import Transport
from regsim.store.archive import OciArchive
from regsim.store.archive_writer import ArchiveWriter, DockerArchiveWriter
from regsim.store.docker_archive import DockerArchive
from regsim.store.layout import LayoutStore
from regsim.store.memory import BytesContent
from regsim.store.node import MemoryStore
from regsim.transfer.copy import Options, Transfer
from regsim.transfer.ends import LocalDestination, LocalSource, RegistrySource
from tests.transfer.shop import CONFIG, LARGE, MIB, SMALL, entry_of, image, reasons, shop

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regsim.store.protocols import Store

pytestmark = pytest.mark.anyio

HOST = "http://127.0.0.1:5000"
BASE = f"{HOST}/v2/shop/api"
EMPTY = Descriptor.of(b"", media_types.OCI_LAYER)


@pytest.fixture
def router() -> respx.MockRouter:
    """A registry that respx plays."""
    return respx.MockRouter(assert_all_called=False)


@pytest.fixture
def repository(router: respx.MockRouter) -> Repository:
    transport = Transport(HOST, Connection(transport=httpx.MockTransport(router.async_handler)))
    return Registry(transport).repository("shop/api")


async def keep(store: MemoryStore, raw: bytes, media_type: str, algorithm: str = "sha256") -> Descriptor:
    descriptor = Descriptor.of(raw, media_type, algorithm)
    await store.put(BytesContent(descriptor, raw))
    return descriptor


# Blobs of no bytes.


@pytest.mark.parametrize("largest", [None, MIB])
async def test_edge_35_an_empty_blob_is_pushed_copied_and_pulled_like_any_other(largest: int | None) -> None:
    async with shop(habits=Habits(largest=largest)) as there:
        store, pulled = await image(b"", SMALL), MemoryStore()
        assert (await there.push(store)).error is None
        # Nothing is sent piece by piece of what has no pieces.
        assert there.asked("PATCH", "upload") == []
        assert (await there.copy("shop/web")).error is None
        ledger = await there.pull(pulled, "shop/web")
        assert (ledger.error, pulled.blobs) == (None, store.blobs)
        assert (entry_of(ledger, b"").outcome, entry_of(ledger, b"").requests) == ("transferred", 1)


async def test_edge_35_it_is_put_without_a_byte_and_without_a_range(
    router: respx.MockRouter, repository: Repository
) -> None:
    router.post(f"{BASE}/blobs/uploads/").respond(202, headers={"Location": "/u"})
    put = router.put(url__startswith=f"{HOST}/u").respond(201)
    assert await repository.upload(BytesContent(EMPTY, b""), Account())
    request = put.calls.last.request
    assert (request.url.query.decode(), request.content) == (f"digest={EMPTY.digest}", b"")
    assert request.headers["Content-Length"] == "0"
    assert "Content-Range" not in request.headers


async def test_edge_35_it_is_read_and_looked_for_without_a_range(
    router: respx.MockRouter, repository: Repository
) -> None:
    # Some registries refuse HEAD; and of nothing there is no first byte to ask for instead.
    router.head(f"{BASE}/blobs/{EMPTY.digest}").respond(405)
    get = router.get(f"{BASE}/blobs/{EMPTY.digest}").respond(200)
    assert await repository.has_blob(EMPTY, Account())
    assert [chunk async for chunk in repository.blob(EMPTY, Account()).open()] == []
    assert [call.request.headers.get("Range") for call in get.calls] == [None, None]


async def test_edge_35_what_has_bytes_after_all_is_not_empty(
    router: respx.MockRouter, repository: Repository
) -> None:
    router.get(f"{BASE}/blobs/{EMPTY.digest}").respond(200, content=b"x")
    with pytest.raises(ContentError, match="1 bytes there, 0 by its descriptor"):
        async for _ in repository.blob(EMPTY, Account()).open():
            pass


async def test_edge_35_a_registry_that_refuses_it_is_asked_once_and_heard() -> None:
    async with shop("PUT upload nth=1 status 400 error=SIZE_INVALID") as there:
        ledger = await there.push(await image(b"", config=b""))
        assert ledger.error is not None
        assert "SIZE_INVALID" in ledger.error.message
        assert there.mock.state.sessions == {}


# Layers as they are.

WRITTEN: dict[str, Callable[[Path], Store]] = {
    "layout": lambda folder: LayoutStore(folder / "layout", create=True),
    "oci-archive": lambda folder: ArchiveWriter(folder / "image.tar"),
    "docker-archive": lambda folder: DockerArchiveWriter(folder / "image.tar"),
}
READ = {"oci-archive": OciArchive, "docker-archive": DockerArchive}


@pytest.mark.parametrize("way", ["registry", *WRITTEN])
async def test_edge_37_packed_layers_stay_as_they_were_packed(way: str, tmp_path: Path) -> None:
    """Packing them again would give them other digests, which nobody shares; so would unpacking."""
    tar = bytes(10_240)
    packed = [
        # By no compressor of ours: another level, a time, and bytes behind the end.
        (gzip.compress(tar, compresslevel=1, mtime=1_700_000_000) + gzip.compress(b"", mtime=7), "gzip"),
        (bytes.fromhex("28b52ffd2000010000"), "zstd"),
        (tar, ""),
    ]
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64] * 3}}).encode()
    store = MemoryStore()
    kinds = {
        "gzip": media_types.OCI_LAYER_GZIP,
        "zstd": media_types.OCI_LAYER_ZSTD,
        "": media_types.OCI_LAYER,
    }
    layers = [await keep(store, raw, kinds[kind]) for raw, kind in packed]
    described = await keep(store, config, media_types.OCI_CONFIG)
    root = await keep(store, manifest_document(described, layers), media_types.OCI_MANIFEST)
    await store.tag(root, "app")

    async with shop() as there:
        await there.push(store)
        if way == "registry":
            await there.copy("shop/web")
        else:
            end = WRITTEN[way](tmp_path)
            assert (await there.pull(end)).error is None
            if isinstance(end, ArchiveWriter):
                await end.commit()
            back = READ[way](tmp_path / "image.tar") if way in READ else end
            destination = there.destination("shop/web")
            name = "" if way == "docker-archive" else "app"
            ledger = await Transfer(LocalSource(back), name, destination, tag="app").run()
            assert (ledger.error, ledger.digest) == (None, root.digest)
        assert await there.holds(store, "shop/web")


# One digest in several places.


async def family() -> MemoryStore:
    """Return a store with an index `app` of three platforms, which share all but one layer each."""
    store = MemoryStore()
    config = await keep(store, CONFIG, media_types.OCI_CONFIG)
    shared = [await keep(store, each, media_types.OCI_LAYER_GZIP) for each in (LARGE, SMALL)]
    manifests = []
    for architecture in ("amd64", "arm64", "s390x"):
        own = await keep(store, architecture.encode(), media_types.OCI_LAYER_GZIP)
        raw = manifest_document(config, [*shared, own, shared[1]])
        described = await keep(store, raw, media_types.OCI_MANIFEST)
        manifests.append(replace(described, platform=Platform("linux", architecture)))
    await store.tag(await keep(store, index_document(manifests), media_types.OCI_INDEX), "app")
    return store


async def test_edge_38_sibling_platforms_move_what_they_share_once_however_many_move_at_a_time() -> None:
    options = Options(jobs=6)
    async with shop() as there:
        store, pulled = await family(), MemoryStore()
        source = RegistrySource(there.registry.repository("shop/api"))
        ways = (
            (LocalSource(store), there.destination("shop/api")),
            (source, there.destination("shop/web")),
            (source, LocalDestination(pulled)),
        )
        for way in ways:
            ledger = await Transfer(way[0], "app", way[1], tag="app", options=options).run()
            assert (ledger.error, violations(ledger)) == (None, [])
            assert ledger.summary.layers is not None
            # Five layers and a config are moved, and named fifteen times.
            moved = {entry.digest for entry in ledger.entries if entry.outcome == "transferred"}
            assert len(moved) == sum(entry.outcome == "transferred" for entry in ledger.entries) == 10
            assert ledger.summary.layers.by_outcome["joined"].count == 7  # type: ignore[index]
        assert there.asked("PUT", "upload") == [201] * 12
        assert len([each for each in there.asked("GET", "blob") if each == 200]) == 12
        assert pulled.blobs == store.blobs


async def test_edge_38_a_layer_that_fails_is_not_moved_for_its_other_places() -> None:
    async with shop("PUT upload status 403") as there:
        ledger = await there.push(await image(LARGE, LARGE, config=b"{}"))
        assert len(there.asked("PUT", "upload")) == 1
        assert {str(entry.outcome) for entry in ledger.entries} == {"failed"}


# Digests of another algorithm.


async def long_named(*layers: bytes, algorithm: str = "sha512") -> tuple[MemoryStore, Descriptor]:
    """Return a store with an image `app` all of whose digests are of `algorithm`, and its descriptor."""
    store = MemoryStore()
    config = await keep(store, CONFIG, media_types.OCI_CONFIG, algorithm)
    parts = [await keep(store, each, media_types.OCI_LAYER_GZIP, algorithm) for each in layers]
    root = await keep(store, manifest_document(config, parts), media_types.OCI_MANIFEST, algorithm)
    await store.tag(root, "app")
    return store, root


async def test_edge_40_sha512_goes_up_across_and_down_and_is_verified(tmp_path: Path) -> None:
    async with shop() as there:
        store, root = await long_named(LARGE, SMALL, b"")
        layout = LayoutStore(tmp_path, create=True)
        for ledger in (
            await there.push(store),
            await there.copy("shop/web", "shop/api"),
            await there.pull(layout, "shop/web"),
        ):
            assert (ledger.error, ledger.digest, reasons(ledger)) == (None, root.digest, [])
            assert {entry.digest.algorithm for entry in ledger.entries} == {"sha512"}
        # The registry is told in time what to hash with, and by which digest a tag names what it names.
        posts = [record.target for record in there.mock.journal.records(method="POST", route="uploads")]
        assert [
            each for each in posts if "mount=" not in each and "digest-algorithm=sha512" not in each
        ] == []
        again = await there.push(store)
        assert {str(entry.outcome) for entry in again.entries} == {"exists"}
        by_digest = RegistrySource(there.registry.repository("shop/api"))
        ledger = await Transfer(by_digest, root.digest, LocalDestination(MemoryStore())).run()
        assert ledger.error is None
    assert await layout.resolve("app") == root
    assert (tmp_path / "blobs" / "sha512" / root.digest.encoded).read_bytes() == store.blobs[root.digest]
    assert {path.name for path in (tmp_path / "blobs").iterdir()} == {"sha512"}


async def test_edge_40_a_wrong_byte_under_a_sha512_is_found() -> None:
    async with shop("GET blob corrupt 1000") as there:
        store, _ = await long_named(LARGE)
        assert (await there.push(store)).error is None
        ledger = await there.pull()
        assert isinstance(ledger.error, ContentError)


ONE_TAG = Profile(
    "one-tag",
    "a registry that knows sha512, but no tags beside a digest",
    ("manifest ignore query=yes",),
)


async def test_edge_40_a_registry_without_tags_beside_digests_is_given_the_manifest_twice() -> None:
    async with shop(profile=ONE_TAG) as there:
        store, root = await long_named(SMALL)
        ledger = await there.push(store)
        assert (ledger.error, ledger.entries[0].wasted) == (None, 0)
        # Under the tag it is named by its sha256, which the account beside it says.
        assert [account.sent for _, account in ledger.beside] == [root.size]
        assert ledger.summary.wasted == root.size
        found = await there.registry.repository("shop/api").resolve("app", Account())
        assert found is not None
        assert (found.digest.algorithm, found.size) == ("sha256", root.size)


async def test_edge_40_a_registry_that_knows_no_sha512_is_one_clear_error_with_a_hint() -> None:
    async with shop("PUT manifest status 400 error=DIGEST_INVALID") as there:
        ledger = await there.push((await long_named(SMALL))[0])
        assert isinstance(ledger.error, RegistryError)
        assert ledger.error.hint.startswith("it may know no sha512")
        usual = await there.push(await image(SMALL), "shop/web")
        assert isinstance(usual.error, RegistryError)
        assert "may know no" not in usual.error.hint


async def test_edge_40_a_sha512_that_is_stated_of_a_sha256_is_no_contradiction(
    router: respx.MockRouter, repository: Repository
) -> None:
    raw = manifest_document(EMPTY, [])
    wanted = Descriptor.of(raw, media_types.OCI_MANIFEST)
    stated = {
        "Docker-Content-Digest": str(Descriptor.of(raw, "x", "sha512").digest),
        "Content-Type": wanted.media_type,
        "Content-Length": str(len(raw)),
    }
    router.head(f"{BASE}/manifests/{wanted.digest}").respond(200, headers=stated)
    router.put(f"{BASE}/manifests/app").respond(201, headers=stated)
    account = Account()
    found = await repository.resolve(wanted.digest, account)
    assert (found, account.requests) == (wanted, 1)
    assert await repository.put_manifest(raw, wanted.media_type, "app", account) == wanted


# Bytes as they are.


def odd(config: Descriptor, layer: Descriptor, media_type: str | None) -> bytes:
    """Return a manifest that no serialiser here would write: order, spaces, escapes, unknown keys."""
    stated = f'"mediaType" : "{media_type}",' if media_type else ""
    return (
        f'\t{{"layers":[ {json.dumps(layer.to_json(), indent=3)} ],\r\n "x-unknown":[1.0,1e2,-0],'
        f'"annotations":{{"caf\\u00e9":"é","caf\\u00e9":"\\/"}}, {stated} '
        f'"config":{json.dumps(config.to_json())}, "schemaVersion":2}}\n\n'
    ).encode()


async def oddity(media_type: str, *, stated: bool = True) -> tuple[MemoryStore, Descriptor]:
    store = MemoryStore()
    docker = media_type == media_types.DOCKER_MANIFEST
    config = await keep(store, CONFIG, media_types.DOCKER_CONFIG if docker else media_types.OCI_CONFIG)
    layer = await keep(store, SMALL, media_types.DOCKER_LAYER_GZIP if docker else media_types.OCI_LAYER_GZIP)
    root = await keep(store, odd(config, layer, media_type if stated else None), media_type)
    await store.tag(root, "app")
    return store, root


@pytest.mark.parametrize("media_type", sorted(media_types.MANIFESTS))
async def test_edge_41_a_manifest_arrives_byte_for_byte_wherever_it_goes(
    media_type: str, tmp_path: Path
) -> None:
    async with shop() as there:
        store, root = await oddity(media_type)
        await there.push(store)
        await there.copy("shop/web")
        layout = LayoutStore(tmp_path / "layout", create=True)
        await there.pull(layout, "shop/web")
    writer = ArchiveWriter(tmp_path / "image.tar")
    ledger = await Transfer(LocalSource(layout), "app", LocalDestination(writer), tag="app").run()
    assert ledger.error is None
    await writer.commit()
    async with shop() as there:
        pulled = MemoryStore()
        await there.push(OciArchive(tmp_path / "image.tar"))  # type: ignore[arg-type]
        ledger = await there.pull(pulled)
    assert (ledger.digest, pulled.blobs) == (root.digest, store.blobs)


async def test_edge_41_another_tag_is_given_to_the_very_bytes() -> None:
    async with shop() as there:
        store, root = await oddity(media_types.OCI_MANIFEST)
        await there.push(store)
        async with Client(remember=False) as client:
            address = f"{there.registry.transport.host}/shop/api"
            assert (await client.tag(f"{address}:app", "stable")).digest == root.digest
            assert (await client.manifest(f"{address}:stable")).data == store.blobs[root.digest]


# What a document says that it is.


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("media_type", sorted(media_types.MANIFESTS | media_types.INDEXES))
async def test_edge_42_a_manifest_is_sent_as_what_it_is(
    media_type: str, stated: bool, router: respx.MockRouter, repository: Repository
) -> None:
    document: dict[str, Any] = {"schemaVersion": 2, **({"mediaType": media_type} if stated else {})}
    put = router.put(f"{BASE}/manifests/app").respond(201)
    await repository.put_manifest(json.dumps(document).encode(), media_type, "app", Account())
    assert put.calls.last.request.headers["Content-Type"] == media_type


@pytest.mark.parametrize("stated", [True, False])
async def test_edge_42_docker_and_oci_types_stay_what_they_are(stated: bool) -> None:
    # This registry refuses a Content-Type that is not the mediaType.
    async with shop(profile="distribution-3") as there:
        for media_type in sorted(media_types.MANIFESTS):
            store, root = await oddity(media_type, stated=stated)
            there.forget()
            assert (await there.push(store)).error is None
            assert await there.registry.repository("shop/api").resolve("app", Account()) == root


@pytest.mark.parametrize("parameters", ["; charset=utf-8", ";charset=UTF-8; q=1", " ;x"])
async def test_edge_42_parameters_of_an_answers_type_are_ignored(parameters: str) -> None:
    typed = f"{media_types.OCI_MANIFEST}{parameters}"
    async with shop() as there:
        store, pulled = await image(SMALL), MemoryStore()
        await there.push(store)
        there.mock.faults.add({"route": "manifest", "headers": {"set": {"content-type": typed}}})
        again = await there.push(store)
        assert {str(entry.outcome) for entry in again.entries} == {"exists"}
        ledger = await there.pull(pulled)
        assert (ledger.error, pulled.blobs) == (None, store.blobs)


# Which of several documents is meant.


def choosy(router: respx.MockRouter, index: bytes, manifest: bytes) -> respx.Route:
    """Let `app` be an index for whoever accepts all kinds, and one platform's manifest for others."""

    def answer(request: httpx.Request) -> httpx.Response:
        accepted = {each.strip() for each in request.headers.get("Accept", "").split(",")}
        whole = accepted == set(media_types.ACCEPT)
        raw, kind = (index, media_types.OCI_INDEX) if whole else (manifest, media_types.DOCKER_MANIFEST)
        headers = {"Content-Type": kind, "Docker-Content-Digest": str(Descriptor.of(raw, kind).digest)}
        headers["Content-Length"] = str(len(raw))
        return httpx.Response(200, headers=headers, content=b"" if request.method == "HEAD" else raw)

    return router.route(url=f"{BASE}/manifests/app").mock(side_effect=answer)


async def test_edge_43_an_index_is_seen_as_a_whole_by_each_way_to_ask(
    router: respx.MockRouter, repository: Repository
) -> None:
    index, manifest = index_document([]), manifest_document(EMPTY, [])
    route = choosy(router, index, manifest)
    wanted = Descriptor.of(index, media_types.OCI_INDEX)
    assert await repository.resolve("app", Account()) == wanted
    assert await repository.fetch_manifest("app", Account()) == (wanted, index)
    assert set(media_types.ACCEPT) == media_types.MANIFESTS | media_types.INDEXES
    assert [call.request.method for call in route.calls] == ["HEAD", "GET"]


async def test_edge_43_what_is_to_be_deleted_is_not_one_platform_of_it() -> None:
    # distribution 2 deletes by digest alone, and is asked which one.
    async with shop(profile="distribution-2.8") as there:
        store = await family()
        await there.push(store)
        root = await store.resolve("app")
        assert root is not None
        async with Client(remember=False) as client:
            with pytest.raises(RegistryError) as refused:
                await client.delete(f"{there.registry.transport.host}/shop/api:app")
        assert f"shop/api@{root.digest}" in refused.value.hint


# Layers that may not be distributed.


async def test_edge_47_a_foreign_layer_stays_where_it_is() -> None:
    store, pulled = MemoryStore(), MemoryStore()
    foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    base = replace(Descriptor.of(LARGE, foreign), urls=("https://layers.example/windows.tar.gz",))
    config = await keep(store, CONFIG, media_types.OCI_CONFIG)
    layer = await keep(store, SMALL, media_types.OCI_LAYER_GZIP)
    root = await keep(store, manifest_document(config, [base, layer]), media_types.OCI_MANIFEST)
    await store.tag(root, "app")
    async with shop() as there:
        for ledger in (await there.push(store), await there.copy("shop/web"), await there.pull(pulled)):
            assert (ledger.error, entry_of(ledger, LARGE).outcome) == (None, "foreign")
        assert await there.holds(pulled)
    assert await pulled.resolve("app") == root
    assert not await pulled.has(base)
