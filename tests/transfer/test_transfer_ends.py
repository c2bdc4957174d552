"""The two ends of a transfer, real and planned, asked one question at a time."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import httpx
import pytest
import respx

from mock_registry import MockRegistry
from regsim.core import Descriptor, Digest, Document, media_types
from regsim.core.account import Account
from regsim.core.actions import CheckBlob, CheckHolder, Mount, MountAnswer, PutManifest
from regsim.core.holdings import HeldSets, SkipRule
from regsim.core.ledger import Evidence
from regsim.core.manifest import parse
from regsim.errors import NotFoundError, RegistryError
from regsim.registry import Connection
from regsim.registry.repository import Registry, Repository
from regsim.registry.transport import Transport
from regsim.store.memory import BytesContent
from regsim.store.node import MemoryStore, node_store
from regsim.transfer.ends import (
    Destination,
    LocalDestination,
    LocalSource,
    PlannedDestination,
    PlannedSource,
    RegistryDestination,
    RegistrySource,
    Source,
)

Stock = Callable[..., Awaitable[Descriptor]]

HOST = "127.0.0.1:5000"

pytestmark = pytest.mark.anyio

A, B, C = (Descriptor.of(name, media_types.OCI_LAYER_GZIP) for name in (b"a", b"bb", b"ccc"))
CONFIG = Descriptor.of(b"{}", media_types.OCI_CONFIG)
LAYERS = (A.digest, B.digest, C.digest)


def document(*layers: Descriptor) -> Document:
    raw = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": CONFIG.to_json(),
            "layers": [layer.to_json() for layer in layers],
        }
    ).encode()
    return parse(Descriptor.of(raw, media_types.OCI_MANIFEST), raw)


def index(*children: Descriptor) -> Document:
    raw = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_INDEX,
            "manifests": [child.to_json() for child in children],
        }
    ).encode()
    return parse(Descriptor.of(raw, media_types.OCI_INDEX), raw)


def ask(descriptor: Descriptor, layers: tuple[Digest, ...] = (), layer: int | None = None) -> CheckBlob:
    return CheckBlob(descriptor=descriptor, account=Account(), layers=layers, layer=layer)


def put(image: Document, tag: str | None, account: Account) -> PutManifest:
    return PutManifest(descriptor=image.descriptor, account=account, document=image, tag=tag)


def holder(repository: str) -> CheckHolder:
    return CheckHolder(descriptor=A, account=Account(), repository=repository)


def mount(repository: str, session: object | None = None) -> Mount:
    return Mount(descriptor=A, account=Account(), repository=repository, session=session)


def content(descriptor: Descriptor, raw: bytes) -> BytesContent:
    return BytesContent(descriptor, raw)


# Local.


def local(rule: SkipRule) -> LocalDestination:
    return LocalDestination(node_store(rule))


def held(rule: SkipRule) -> HeldSets:
    return HeldSets(present=Evidence.LOCAL, runs=set() if rule is SkipRule.CHAIN else None)


def planned(rule: SkipRule) -> PlannedDestination:
    return PlannedDestination(LocalDestination(MemoryStore()), held(rule), receives=True)


NODES = pytest.mark.parametrize("node", [local, planned], ids=["real", "planned"])


@NODES
async def test_node_that_skips_by_blob_finds_any_layer_that_was_put(
    node: Callable[[SkipRule], Destination],
) -> None:
    destination = node(SkipRule.BLOB)
    await destination.put(content(B, b"bb"), None, Account())
    assert await destination.has(ask(B, LAYERS, 1)) is Evidence.LOCAL
    assert await destination.has(ask(A, LAYERS, 0)) is None
    await destination.put_manifest(put(document(A, B), None, Account()))
    assert await destination.has(ask(A, LAYERS, 0)) is None


@NODES
async def test_node_that_skips_by_chain_finds_unbroken_runs_from_the_bottom_alone(
    node: Callable[[SkipRule], Destination],
) -> None:
    destination = node(SkipRule.CHAIN)
    await destination.put(content(B, b"bb"), None, Account())
    await destination.put_manifest(put(document(A, B), None, Account()))
    assert [await destination.has(ask(layer, LAYERS, place)) for place, layer in enumerate((A, B, C))] == [
        Evidence.CHAIN,
        Evidence.CHAIN,
        None,
    ]
    assert await destination.has(ask(B, (B.digest, A.digest), 0)) is None
    assert await destination.has(ask(A, (B.digest, A.digest), 1)) is None


@NODES
async def test_config_is_found_by_its_digest_on_every_node(
    node: Callable[[SkipRule], Destination],
) -> None:
    for rule in SkipRule:
        destination = node(rule)
        assert await destination.has(ask(CONFIG, LAYERS)) is None
        await destination.put(content(CONFIG, b"{}"), None, Account())
        assert await destination.has(ask(CONFIG, LAYERS)) is Evidence.LOCAL


@NODES
async def test_index_adds_no_run_of_layers(node: Callable[[SkipRule], Destination]) -> None:
    destination = node(SkipRule.CHAIN)
    await destination.put_manifest(put(index(Descriptor.of(b"a", "text/plain")), "v1", Account()))
    assert await destination.has(ask(A, LAYERS, 0)) is None


@NODES
async def test_manifest_is_found_by_digest_and_by_the_tag_that_it_was_put_under(
    node: Callable[[SkipRule], Destination],
) -> None:
    destination, image = node(SkipRule.BLOB), document(A)
    digest, account = image.descriptor.digest, Account()
    assert await destination.find("v1", account) is None
    await destination.put_manifest(put(image, None, account))
    assert await destination.find(digest, account) == digest
    assert await destination.find("v1", account) is None
    await destination.put_manifest(put(image, "v1", account))
    assert await destination.find("v1", account) == digest
    assert await destination.manifest(image.descriptor, account) == image.raw
    with pytest.raises(NotFoundError):
        await destination.manifest(document(B).descriptor, account)
    assert (account.requests, account.sent, account.received) == (0, 0, 0)


async def test_tag_whose_manifest_is_gone_finds_nothing() -> None:
    store, image = MemoryStore(), document(A)
    destination = LocalDestination(store)
    await destination.put_manifest(put(image, "v1", Account()))
    del store.blobs[image.descriptor.digest]
    assert await destination.find("v1", Account()) is None


async def test_node_mounts_nothing() -> None:
    answer = await local(SkipRule.BLOB).mount(mount("library/base"))
    assert answer == MountAnswer(mounted=False)


async def test_store_is_read_as_a_source_at_no_cost(stock: Stock) -> None:
    store, account = MemoryStore(), Account()
    root = await stock(store, "v1", b"a")
    source = LocalSource(store)
    assert not source.remote
    assert await source.resolve("v1", account) == root
    assert await source.resolve("v9", account) is None
    assert Digest.of(await source.manifest(root, account)) == root.digest
    assert [chunk async for chunk in source.content(A, account).open()] == [b"a"]
    assert account == Account()


# A registry.


async def test_repository_is_written_to_and_read_from_on_the_account_of_who_asks(registry: Registry) -> None:
    repository = registry.repository("shop/api")
    destination, source = RegistryDestination(repository), RegistrySource(repository)
    assert destination.remote
    assert source.remote
    account, image = Account(), document(A)
    asked = ask(A)
    assert await destination.has(asked) is None
    assert asked.account.requests == 1
    await destination.put(content(A, b"a"), None, account)
    await destination.put(content(CONFIG, b"{}"), None, account)
    await destination.put_manifest(put(image, None, account))
    assert account.sent == 3 + image.descriptor.size
    assert await destination.has(ask(A)) is Evidence.HEAD
    digest = image.descriptor.digest
    assert await destination.find(digest, Account()) == digest
    assert await destination.find("v1", Account()) is None
    await destination.put_manifest(put(image, "v1", Account()))
    assert await destination.find("v1", Account()) == digest
    for end in (destination, source):
        account = Account()
        assert await end.manifest(image.descriptor, account) == image.raw
        assert account.received == image.descriptor.size
    assert await source.resolve("v1", Account()) == image.descriptor
    account = Account()
    assert [chunk async for chunk in source.content(A, account).open()] == [b"a"]
    assert account.received == 1


async def test_session_that_a_mount_opened_is_used() -> None:
    async with (
        MockRegistry(mount=False) as mock,
        Transport(HOST, Connection(transport=mock.transport())) as transport,
    ):
        registry = Registry(transport)
        await registry.repository("library/base").upload(content(A, b"a"), Account())
        destination = RegistryDestination(registry.repository("shop/api"))
        first = await destination.mount(mount("library/base"))
        assert (first.mounted, len(mock.state.sessions)) == (False, 1)
        # Another refusal opens another one, and the one before is given up.
        second = await destination.mount(mount("library/base", first.session))
        assert (second.mounted, len(mock.state.sessions)) == (False, 1)
        assert await destination.is_held_by(holder("library/base"))
        assert not await destination.is_held_by(holder("no/where"))
        account = Account()
        await destination.put(content(A, b"a"), second.session, account)
        assert account.requests == 1
        assert mock.state.sessions == {}


async def test_mount_that_is_granted_gives_up_the_session_of_one_that_was_not(
    mock: MockRegistry, registry: Registry
) -> None:
    await registry.repository("shop/api").upload(content(A, b"a"), Account())
    web = registry.repository("shop/web")
    opened = await web.mount(A.digest, "no/where", Account())
    assert len(mock.state.sessions) == 1
    mounted = await RegistryDestination(web).mount(mount("shop/api", opened))
    assert mounted == MountAnswer(mounted=True)
    assert mock.state.sessions == {}


@pytest.fixture
async def refusing() -> Repository:
    """A repository of a registry that says 403 to every question about a manifest."""
    router = respx.MockRouter(assert_all_called=False)
    router.route(path__startswith="/v2/shop/api/manifests/").respond(403)
    transport = Transport(
        "http://127.0.0.1:5000", Connection(transport=httpx.MockTransport(router.async_handler))
    )
    return Registry(transport, warn=lambda _: None).repository("shop/api")


async def test_manifest_that_is_forbidden_before_a_push_is_absent_and_before_a_pull_it_is_not(
    refusing: Repository,
) -> None:
    assert await RegistryDestination(refusing).find("v1", Account()) is None
    with pytest.raises(RegistryError, match="403"):
        await RegistrySource(refusing).resolve("v1", Account())


# Planned.


async def test_plan_writes_nothing_and_finds_what_it_would_have_written(
    mock: MockRegistry, registry: Registry
) -> None:
    real = RegistryDestination(registry.repository("shop/api"))
    holdings = HeldSets(present=Evidence.HEAD)
    destination, image, account = (
        PlannedDestination(real, holdings, receives=False),
        document(A),
        Account(),
    )
    assert destination.remote
    assert await destination.has(ask(A)) is None
    await destination.put(content(A, b"a"), None, account)
    await destination.put_manifest(put(image, "v1", account))
    assert (account.sent, account.received, account.attempts) == (1 + image.descriptor.size, 0, 1)
    assert await destination.has(ask(A)) is Evidence.HEAD
    assert await destination.find("v1", account) == image.descriptor.digest
    asked = Mount(descriptor=B, account=account, repository="library/base")
    assert await destination.mount(asked) == MountAnswer(mounted=True, assumed=True)
    assert await destination.has(ask(B)) is Evidence.HEAD
    assert {record.method for record in mock.journal} == {"HEAD"}


async def test_plan_asks_the_real_ends_for_all_else(registry: Registry) -> None:
    repository, image = registry.repository("shop/api"), document(A)
    real = RegistryDestination(repository)
    for descriptor, raw in ((A, b"a"), (CONFIG, b"{}")):
        await real.put(content(descriptor, raw), None, Account())
    await real.put_manifest(put(image, "v1", Account()))
    empty = HeldSets(present=Evidence.HEAD)
    destination = PlannedDestination(real, empty, receives=False)
    assert await destination.has(ask(A)) is Evidence.HEAD
    assert await destination.find("v1", Account()) == image.descriptor.digest
    assert await destination.manifest(image.descriptor, Account()) == image.raw
    source: Source = PlannedSource(RegistrySource(repository), empty)
    account = Account()
    assert await source.resolve("v1", account) == image.descriptor
    assert await source.manifest(image.descriptor, account) == image.raw
    assert (account.requests, account.received) == (2, image.descriptor.size)
    assert [chunk async for chunk in source.content(A, Account()).open()] == [b"a"]


@pytest.mark.parametrize("remote", [True, False])
async def test_what_a_plan_would_have_written_can_be_read_again(remote: bool, registry: Registry) -> None:
    holdings, image, account = HeldSets(present=Evidence.HEAD), document(A), Account()
    holdings.put_manifest(image, "v1")
    real: Source = RegistrySource(registry.repository("shop/api")) if remote else LocalSource(MemoryStore())
    source = PlannedSource(real, holdings)
    assert source.remote is remote
    assert await source.resolve("v1", account) == image.descriptor
    assert await source.manifest(image.descriptor, account) == image.raw
    assert account == Account(received=image.descriptor.size if remote else 0)


@pytest.mark.parametrize(
    ("remote", "receives", "inlined", "sent", "received"),
    [
        (True, False, False, 2, 0),
        (True, True, False, 2, 2),
        (True, True, True, 2, 2),
        (False, True, False, 0, 2),
        (False, True, True, 0, 0),
        (False, False, False, 0, 0),
    ],
)
async def test_plan_tells_what_a_blob_would_have_cost(
    *, remote: bool, receives: bool, inlined: bool, sent: int, received: int, registry: Registry
) -> None:
    real: Destination = (
        RegistryDestination(registry.repository("shop/api")) if remote else local(SkipRule.BLOB)
    )
    described = Descriptor(
        media_type=B.media_type, digest=B.digest, size=B.size, data=b"bb" if inlined else None
    )
    account = Account()
    destination = PlannedDestination(real, HeldSets(present=Evidence.HEAD), receives=receives)
    await destination.put(content(described, b"bb"), None, account)
    assert account == Account(attempts=1, sent=sent, received=received)
    account = Account()
    await destination.put_manifest(put(document(A), None, account))
    assert account == Account(sent=document(A).descriptor.size if remote else 0)
