"""Whole round trips against the mock registry, in process and on a port: the account is the journal's."""

from __future__ import annotations

import random
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from mock_registry import Journal, MockRegistry
from regsim.core import Descriptor, media_types
from regsim.core.account import Account
from regsim.core.manifest import manifest_document
from regsim.errors import ContentError, NotFoundError, RegistryError
from regsim.registry import Connection
from regsim.registry.repository import Registry, Repository
from regsim.registry.session import UploadSession
from regsim.registry.transport import Transport
from regsim.store.memory import BytesContent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from regsim.registry.retry import Patience

pytestmark = pytest.mark.anyio

TAR = "application/vnd.oci.image.layer.v1.tar"
DATA = random.Random(7).randbytes(3_000_001)
LAYER = Descriptor.of(DATA, TAR)
CONFIG_DATA = b'{"architecture":"amd64"}'
CONFIG = Descriptor.of(CONFIG_DATA, media_types.OCI_CONFIG)
EMPTY = Descriptor.of(b"", TAR)
RAW = manifest_document(CONFIG, [LAYER, EMPTY])
MANIFEST = Descriptor.of(RAW, media_types.OCI_MANIFEST)


@pytest.fixture
async def mock() -> AsyncIterator[MockRegistry]:
    async with MockRegistry() as registry:
        yield registry


@pytest.fixture(params=["in process", "on a port"])
async def registry(
    request: pytest.FixtureRequest, mock: MockRegistry, patience: Patience
) -> AsyncIterator[Registry]:
    if request.param == "in process":
        async with Transport(
            "registry.example", Connection(plain_http=True, transport=mock.transport())
        ) as transport:
            yield Registry(transport, patience=patience)
        return
    async with mock.serve() as server, Transport(server.url) as transport:
        yield Registry(transport, patience=patience)


def journalled(journal: Journal) -> Account:
    """Return the account as the registry would have kept it. The attempts are the client's own matter."""
    account = Account(requests=len(journal))
    for record in journal:
        writes = record.method in ("POST", "PATCH", "PUT") and record.route in (
            "upload",
            "uploads",
            "manifest",
        )
        reads = (
            record.method == "GET" and record.route in ("blob", "manifest") and record.status in (200, 206)
        )
        account.sent += record.bytes_in if writes else 0
        account.received += record.bytes_out if reads else 0
        account.overhead += (0 if writes else record.bytes_in) + (0 if reads else record.bytes_out)
    return account


def same(account: Account, journal: Journal) -> bool:
    assert all(record.complete for record in journal)
    seen = journalled(journal)
    seen.attempts = account.attempts
    return account == seen


async def push(repository: Repository, account: Account) -> None:
    for descriptor, data in ((LAYER, DATA), (CONFIG, CONFIG_DATA), (EMPTY, b"")):
        assert not await repository.has_blob(descriptor, account)
        await repository.upload(BytesContent(descriptor, data), account)
        assert await repository.has_blob(descriptor, account)
    await repository.put_manifest(RAW, MANIFEST.media_type, "v1", account)


async def read(repository: Repository, descriptor: Descriptor, account: Account) -> bytes:
    async with aclosing(repository.blob(descriptor, account).open()) as stream:
        return b"".join([chunk async for chunk in stream])


async def test_an_image_goes_up_and_comes_down_and_both_accounts_agree(
    registry: Registry, mock: MockRegistry, account: Account
) -> None:
    repository = registry.repository("shop/api")
    assert await repository.resolve("v1", account) is None
    await push(repository, account)
    assert account.sent == len(DATA) + len(CONFIG_DATA) + len(RAW)
    assert await repository.resolve("v1", account) == MANIFEST
    assert await repository.resolve(MANIFEST.digest, account) == MANIFEST
    assert await repository.fetch_manifest("v1", account) == (MANIFEST, RAW)
    assert await read(repository, LAYER, account) == DATA
    assert await read(repository, EMPTY, account) == b""
    assert await repository.tags(account) == ("v1",)
    assert account.received == len(RAW) + len(DATA)
    assert account.overhead > 0
    assert same(account, mock.journal)


async def test_a_mounted_blob_sends_nothing(registry: Registry, mock: MockRegistry, account: Account) -> None:
    await push(registry.repository("shop/api"), Account())
    mock.journal.clear()
    web = registry.repository("shop/web")
    mounted = await web.mount(LAYER.digest, "shop/api", account)
    assert mounted is True
    assert await web.has_blob(LAYER, account)
    assert account == Account(requests=2)
    assert same(account, mock.journal)


async def test_a_mount_that_opens_a_session_goes_on_in_it(
    registry: Registry, mock: MockRegistry, account: Account
) -> None:
    web = registry.repository("shop/web")
    session = await web.mount(LAYER.digest, "shop/api", account)
    assert isinstance(session, UploadSession)
    await web.upload(BytesContent(LAYER, DATA), account, session)
    post, put = mock.journal
    assert (post.method, post.status, put.method, put.status) == ("POST", 202, "PUT", 201)
    assert post.session == put.session
    assert same(account, mock.journal)


async def test_a_session_that_is_cancelled_is_gone(
    registry: Registry, mock: MockRegistry, account: Account
) -> None:
    web = registry.repository("shop/web")
    session = await web.mount(LAYER.digest, "shop/api", account)
    assert isinstance(session, UploadSession)
    await web.cancel(session, account)
    assert mock.journal[-1].status == 204
    # The session is forgotten, so the upload makes itself a new one.
    await web.upload(BytesContent(CONFIG, CONFIG_DATA), account, session)
    assert await web.has_blob(CONFIG, account)
    assert account.attempts == 2
    assert same(account, mock.journal)


async def test_damaged_content_leaves_neither_blob_nor_session(
    registry: Registry, mock: MockRegistry, account: Account
) -> None:
    repository = registry.repository("shop/api")
    damaged = DATA[:-1] + bytes([DATA[-1] ^ 1])
    with pytest.raises(ContentError):
        await repository.upload(BytesContent(LAYER, damaged), account)
    assert not await repository.has_blob(LAYER, account)
    put = mock.journal.records(method="PUT")
    assert all(not record.complete for record in put)
    assert sum(record.bytes_in for record in put) <= account.sent < len(DATA)
    assert mock.journal.records(method="DELETE")[-1].status == 204


async def test_refusals_are_told_in_the_registrys_own_words(
    registry: Registry, mock: MockRegistry, account: Account
) -> None:
    repository = registry.repository("shop/api")
    with pytest.raises(RegistryError, match="registry said: MANIFEST_BLOB_UNKNOWN"):
        await repository.put_manifest(RAW, MANIFEST.media_type, "v1", account)
    with pytest.raises(NotFoundError, match="registry said: BLOB_UNKNOWN"):
        await read(repository, LAYER, account)
    with pytest.raises(NotFoundError, match="NAME_UNKNOWN"):
        await repository.tags(account)
    assert account.sent == len(RAW)
    assert same(account, mock.journal)


async def test_what_is_deleted_is_gone(registry: Registry, mock: MockRegistry, account: Account) -> None:
    repository = registry.repository("shop/api")
    await push(repository, account)
    await repository.delete_manifest("v1", account)
    assert await repository.resolve("v1", account) is None
    await repository.delete_manifest(MANIFEST.digest, account)
    await repository.delete_blob(LAYER.digest, account)
    assert not await repository.has_blob(LAYER, account)
    with pytest.raises(NotFoundError):
        await repository.delete_blob(LAYER.digest, account)
    assert same(account, mock.journal)
