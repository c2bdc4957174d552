from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from mock_registry.exchange import Exchange

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.mock_registry.conftest import OpenPeer, Peer

pytestmark = pytest.mark.anyio

CONTENT = os.urandom(6 << 20)


@pytest.fixture(params=["uvicorn", "granian"])
async def peer(request: pytest.FixtureRequest, open_peer: OpenPeer) -> AsyncIterator[Peer]:
    async with open_peer(request.param) as peer:
        yield peer


async def test_a_blob_goes_up_and_down_under_another_asgi_server(peer: Peer) -> None:
    location = await peer.open("app")
    location = (await peer.http.patch(location, content=CONTENT[:4_000_000])).headers["location"]
    digest = peer.digest(CONTENT)
    params = peer.also(location, digest=digest)
    assert (await peer.http.put(location, params=params, content=CONTENT[4_000_000:])).status_code == 201
    assert (await peer.http.get(f"/v2/app/blobs/{digest}")).content == CONTENT
    answer = await peer.http.get(f"/v2/app/blobs/{digest}", headers={"Range": "bytes=5000000-"})
    assert (answer.status_code, answer.content) == (206, CONTENT[5_000_000:])
    assert (await peer.http.head(f"/v2/app/blobs/{digest}")).headers["content-length"] == str(len(CONTENT))
    assert peer.journal.bytes_in(repository="app") == len(CONTENT)
    assert all(record.complete for record in peer.journal)


async def test_manifests_tags_and_errors_are_the_same_under_another_asgi_server(peer: Peer) -> None:
    content = await peer.push_image("app", "1", layers=[b"layer"])
    assert (await peer.http.get("/v2/app/manifests/1")).content == content
    assert (await peer.http.get("/v2/app/tags/list")).json() == {"name": "app", "tags": ["1"]}
    answer = await peer.http.patch("/v2/app/blobs/uploads/nosuch", content=CONTENT)
    assert (answer.status_code, peer.codes(answer)) == (404, ["BLOB_UPLOAD_UNKNOWN"])
    assert peer.journal[-1].bytes_in == len(CONTENT)
    answer = await peer.http.get("/v2/a%2Fb/tags/list")
    assert peer.codes(answer) == ["NAME_INVALID"]


async def test_end_5_a_half_sent_body_is_kept_under_another_asgi_server(peer: Peer) -> None:
    location = await peer.open("app")
    address = peer.http.base_url
    _, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(f"PATCH {location} HTTP/1.1\r\nHost: r\r\nContent-Length: 6291456\r\n\r\n".encode())
    writer.write(CONTENT[:2_000_000])
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    await peer.until(lambda: len(peer.journal) == 2)
    record = peer.journal[-1]
    assert (record.status, record.bytes_in, record.complete) == (None, 2_000_000, False)
    assert (await peer.http.get(location)).headers["range"] == "0-1999999"


async def test_a_response_broken_off_is_noticed_under_another_asgi_server(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, noticed = asyncio.Event(), asyncio.Event()
    hand_over, watch = Exchange._hand_over, Exchange._watch

    async def hand_over_one(exchange: Exchange, message: dict[str, object]) -> None:
        """Wait after the first piece: a server may take the rest before it learns that nobody reads it."""
        await hand_over(exchange, message)
        await left.wait()
        await noticed.wait()

    async def watch_and_tell(exchange: Exchange) -> None:
        await watch(exchange)
        noticed.set()

    content = os.urandom(4 << 20)
    digest = await peer.push("app", content)
    monkeypatch.setattr(Exchange, "_hand_over", hand_over_one)
    monkeypatch.setattr(Exchange, "_watch", watch_and_tell)
    async with peer.http.stream("GET", f"/v2/app/blobs/{digest}") as answer:
        async for _ in answer.aiter_raw():
            break
    left.set()
    await peer.registry.settled()
    record = peer.journal[-1]
    assert (record.status, record.complete) == (200, False)
    assert record.bytes_out < len(content)
