# ruff: noqa: ARG001 (an ASGI app takes three arguments, whatever it needs)
from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import httpx
import pytest

from mock_registry import MockRegistry
from mock_registry.asgi import PeerGone
from mock_registry.transport import RegistryTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mock_registry.asgi import App, Receive, Scope, Send
    from tests.mock_registry.conftest import OpenPeer, Peer

pytestmark = pytest.mark.anyio

CONTENT = os.urandom(5 << 20)


@pytest.fixture
async def peer(open_peer: OpenPeer) -> AsyncIterator[Peer]:
    async with open_peer("process") as peer:
        yield peer


def client(app: App) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=RegistryTransport(app), base_url="http://app")


async def test_a_request_body_is_asked_for_at_the_pace_of_the_registry(peer: Peer) -> None:
    given = []

    async def body() -> AsyncIterator[bytes]:
        for start in range(0, len(CONTENT), 1 << 20):
            given.append(
                peer.journal.bytes_in(),
            )
            yield CONTENT[start : start + (1 << 20)]

    location = await peer.open("app")
    assert (await peer.http.patch(location, content=body())).status_code == 202
    assert len(given) == 5
    assert peer.journal[-1].bytes_in == len(CONTENT)


async def test_a_piece_of_a_request_body_is_given_when_the_one_before_was_taken() -> None:
    events = []

    async def body() -> AsyncIterator[bytes]:
        for number in range(3):
            events.append(f"give {number}")
            yield b"x"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            if message["body"]:
                events.append("take")
                await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with client(app) as http:
        await http.post("/", content=body())
    assert events == ["give 0", "take", "give 1", "take", "give 2", "take"]


async def test_a_response_body_is_made_at_the_pace_of_the_client() -> None:
    made = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(3):
            made.append(number)
            await send({"type": "http.response.body", "body": b"x", "more_body": number < 2})

    async with client(app) as http, http.stream("GET", "/") as answer:
        seen = []
        async for _ in answer.aiter_raw():
            seen.append(list(made))
            await asyncio.sleep(0)
    assert seen == [[0], [0, 1], [0, 1, 2]]


async def test_a_response_broken_off_is_accounted_for_to_the_octet(peer: Peer) -> None:
    digest = await peer.push("app", CONTENT)
    received = 0
    async with peer.http.stream("GET", f"/v2/app/blobs/{digest}") as answer:
        async for chunk in answer.aiter_raw():
            received += len(chunk)
            if received > 1_000_000:
                break
    await peer.registry.settled()
    record = peer.journal[-1]
    assert (record.status, record.bytes_out, record.complete) == (200, received, False)


async def test_a_request_that_fails_while_sending_keeps_what_had_arrived(peer: Peer) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield CONTENT[:1_500_000]
        raise RuntimeError("the source broke")

    location = await peer.open("app")
    with pytest.raises(RuntimeError, match="the source broke"):
        await peer.http.patch(location, content=failing())
    record = peer.journal[-1]
    assert (record.status, record.bytes_in, record.complete) == (None, 1_500_000, False)
    assert (await peer.http.get(location)).headers["range"] == "0-1499999"


async def test_a_request_that_is_cancelled_ends_the_exchange(peer: Peer) -> None:
    started = asyncio.Event()

    async def stalling() -> AsyncIterator[bytes]:
        yield CONTENT[:100]
        started.set()
        await asyncio.Event().wait()

    location = await peer.open("app")
    task = asyncio.ensure_future(peer.http.patch(location, content=stalling()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await peer.registry.settled()
    assert (peer.journal[-1].bytes_in, peer.journal[-1].complete) == (100, False)


async def test_an_answer_that_comes_before_the_body_was_read_is_not_held_back() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 413, "headers": []})
        await send({"type": "http.response.body", "body": b"no"})

    async with client(app) as http:
        answer = await http.post("/", content=endless())
    assert (answer.status_code, answer.content) == (413, b"no")


async def test_a_body_shorter_than_announced_is_a_protocol_error() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})

    async with client(app) as http:
        with pytest.raises(httpx.RemoteProtocolError, match="3 of 5"):
            await http.get("/")


async def test_an_app_that_answers_nothing_or_fails_is_a_protocol_error() -> None:
    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        pass

    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    for app in (silent, failing):
        async with client(app) as http:
            with pytest.raises(httpx.RemoteProtocolError):
                await http.get("/")


async def test_an_answer_that_does_not_come_in_time_is_a_read_timeout_and_the_app_learns_of_it() -> None:
    learned = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        learned.append((await receive())["type"])

    async with client(app) as http:
        with pytest.raises(httpx.ReadTimeout):
            await http.get("/", timeout=httpx.Timeout(None, read=0.0))
    assert learned == ["http.disconnect"]


async def test_sending_to_a_client_that_hung_up_raises() -> None:
    failures = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        except PeerGone as gone:
            failures.append(gone.unsent)

    async with client(app) as http, http.stream("GET", "/") as answer:
        async for _ in answer.aiter_raw():
            break
    assert failures == [3]


async def test_closing_the_client_hangs_up_on_what_is_under_way() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive())["type"] != "http.disconnect":
            pass

    http = client(app)
    async with http.stream("GET", "/"):
        pass
    await http.aclose()
    assert len([task for task in asyncio.all_tasks() if "app" in repr(task.get_coro())]) == 0


async def test_paths_and_queries_arrive_as_they_were_sent(peer: Peer) -> None:
    await peer.http.get("/v2/a%2Fb/blobs/x?state=a%3D%3D&x=a/b+c~")
    assert peer.journal[-1].target == "/v2/a%2Fb/blobs/x?state=a%3D%3D&x=a/b+c~"


async def test_eight_clients_at_once_may_push_the_same_blob(peer: Peer) -> None:
    await asyncio.gather(*[peer.push("app", CONTENT) for _ in range(8)])
    assert peer.registry.storage.used == len(CONTENT)
    assert len(peer.journal.uploads("app")) == 16


async def test_a_registry_serves_one_transport_after_another() -> None:
    async with MockRegistry() as registry:
        for _ in range(2):
            async with httpx.AsyncClient(transport=registry.transport(), base_url="http://r") as http:
                assert (await http.get("/v2/")).status_code == 200
        assert len(registry.journal) == 2
