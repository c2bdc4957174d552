"""The room against docker's own registry, as a process: what respx and the mock say must be true of it."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from regsim.core import Descriptor, media_types
from regsim.core.account import Account
from regsim.core.manifest import manifest_document
from regsim.errors import NotFoundError
from regsim.registry.repository import Registry, Repository
from regsim.registry.retry import Patience, Policy
from regsim.registry.session import UploadSession
from regsim.registry.transport import Transport
from regsim.store.memory import BytesContent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.peers,
    pytest.mark.skipif(shutil.which("docker-registry") is None, reason="docker-registry is not installed"),
]

TAR = "application/vnd.oci.image.layer.v1.tar"
DATA = random.Random(7).randbytes(3_000_001)
LAYER = Descriptor.of(DATA, TAR)
EMPTY = Descriptor.of(b"", TAR)
CONFIG = Descriptor.of(b"{}", media_types.OCI_CONFIG)
RAW = manifest_document(CONFIG, [LAYER, EMPTY])
MANIFEST = Descriptor.of(RAW, media_types.OCI_MANIFEST)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config = tmp_path / "config.yml"
    config.write_text(
        f"{{version: 0.1, log: {{level: error, accesslog: {{disabled: true}}}}, http: {{addr: '{address}'}},"
        f" storage: {{delete: {{enabled: true}}, filesystem: {{rootdirectory: '{tmp_path / 'storage'}'}}}}}}"
    )
    process = subprocess.Popen(["docker-registry", "serve", config], stderr=subprocess.DEVNULL)
    try:
        yield address
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
async def registry(host: str) -> AsyncIterator[Registry]:
    # Patience is what waits for the process to listen.
    async with Transport(host) as transport:
        registry = Registry(transport, patience=Patience(Policy(retries=200, base=0.01, longest=0.05)))
        await registry.repository("shop/api").resolve("v1", Account())
        yield registry


async def push(repository: Repository, account: Account) -> None:
    for descriptor, data in ((LAYER, DATA), (CONFIG, b"{}"), (EMPTY, b"")):
        await repository.upload(BytesContent(descriptor, data), account)
    await repository.put_manifest(RAW, MANIFEST.media_type, "v1", account)


async def test_an_image_goes_up_and_comes_down(registry: Registry, account: Account) -> None:
    repository = registry.repository("shop/api")
    assert not await repository.has_blob(LAYER, account)
    await push(repository, account)
    assert account == Account(requests=8, attempts=4, sent=len(DATA) + 2 + len(RAW))
    assert await repository.has_blob(EMPTY, account)
    assert await repository.resolve("v1", account) == MANIFEST
    assert await repository.resolve(MANIFEST.digest, account) == MANIFEST
    assert await repository.fetch_manifest(MANIFEST, account) == (MANIFEST, RAW)
    async with aclosing(repository.blob(LAYER, account).open()) as stream:
        assert b"".join([chunk async for chunk in stream]) == DATA
    assert account.received == len(RAW) + len(DATA)
    assert await repository.tags(account) == ("v1",)


async def test_a_blob_is_mounted_or_goes_on_in_the_session_of_the_mount(
    registry: Registry, account: Account
) -> None:
    await push(registry.repository("shop/api"), Account())
    web = registry.repository("shop/web")
    mounted = await web.mount(LAYER.digest, "shop/api", account)
    assert mounted is True
    session = await web.mount(CONFIG.digest, "shop/nothing", account)
    assert isinstance(session, UploadSession)
    await web.upload(BytesContent(CONFIG, b"{}"), account, session)
    assert await web.has_blob(LAYER, account)
    assert await web.has_blob(CONFIG, account)
    assert account == Account(requests=5, attempts=1, sent=2)


async def test_what_is_deleted_is_gone(registry: Registry, account: Account) -> None:
    repository = registry.repository("shop/api")
    await push(repository, account)
    await repository.delete_manifest(MANIFEST.digest, account)
    assert await repository.resolve("v1", account) is None
    await repository.delete_blob(LAYER.digest, account)
    with pytest.raises(NotFoundError, match="registry said: BLOB_UNKNOWN"):
        await repository.delete_blob(LAYER.digest, account)
