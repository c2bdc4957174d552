"""Faults of pace and of the connection as a client sees them: by socket, in process, under another server."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from mock_registry import MockRegistry
from mock_registry.clock import ManualClock
from mock_registry.server import Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.mock_registry.conftest import OpenPeer, OpenWirePeer, OpenWith, Peer

pytestmark = pytest.mark.anyio

CONTENT = os.urandom(400_000)


@pytest.fixture(params=["process", "port"])
def transport(request: pytest.FixtureRequest) -> str:
    """Leave out other storages: no rule knows of any."""
    return str(request.param)


class Pieces:
    """A body that is sent in pieces, and how much of it was asked for."""

    def __init__(self, content: bytes = CONTENT, size: int = 10_000) -> None:
        self.given = 0
        self._content = content
        self._size = size

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._content), self._size):
            self.given += self._size
            yield self._content[start : start + self._size]


async def digest_of_pushed(peer: Peer, content: bytes = CONTENT) -> str:
    return f"/v2/app/blobs/{await peer.push('app', content)}"


def account(peer: Peer) -> tuple[int | None, int, int, bool, str | None]:
    record = peer.journal[-1]
    return record.status, record.bytes_in, record.bytes_out, record.complete, record.fault


# How a connection ends


async def received(http: httpx.AsyncClient, path: str) -> tuple[bytes, type[Exception] | None]:
    """Return what of a body comes, and what ends it."""
    octets = b""
    try:
        async with http.stream("GET", path) as answer:
            async for piece in answer.aiter_raw():
                octets += piece
    except httpx.TransportError as error:
        return octets, type(error)
    return octets, None


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("cut", httpx.RemoteProtocolError),
        ("reset", httpx.ReadError),
        ("limit_data", httpx.RemoteProtocolError),
    ],
)
@pytest.mark.parametrize("after", [0, 123_456])
async def test_a_client_sees_where_a_body_was_broken_and_how(
    peer: Peer, fault: str, error: type[Exception], after: int
) -> None:
    path = await digest_of_pushed(peer)
    peer.registry.faults.add(f"GET blob times=1 {fault} {after}")
    assert await received(peer.http, path) == (CONTENT[:after], error)
    await peer.registry.settled()
    assert account(peer) == (200, 0, after, False, fault)
    assert await received(peer.http, path) == (CONTENT, None)


@pytest.mark.parametrize("fault", ["cut", "reset"])
async def test_a_body_that_was_whole_is_whole_whatever_becomes_of_the_connection(
    peer: Peer, fault: str
) -> None:
    path = await digest_of_pushed(peer)
    peer.registry.faults.add(f"GET blob {fault} {len(CONTENT)}")
    assert await received(peer.http, path) == (CONTENT, None)
    await peer.registry.settled()
    assert account(peer)[2] == len(CONTENT)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("cut", httpx.RemoteProtocolError),
        ("reset", httpx.ReadError),
        ("reset_peer 50", httpx.ReadError),
        ("timeout 50", httpx.RemoteProtocolError),
    ],
)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_answer_is_lost_and_only_the_registry_knows_what_was_done(
    with_settings: OpenWith, fault: str, error: type[Exception], when: str
) -> None:
    clock = ManualClock(jumps=True)
    async with with_settings(clock=clock, sleep=clock.sleep) as peer:
        content = await peer.push_image("app", "v1")
        stream = "upstream" if when == "before" else "downstream"
        peer.registry.faults.add(f"DELETE manifest times=1 when={when} stream={stream} {fault}")
        with pytest.raises(error):
            await peer.http.delete("/v2/app/manifests/v1")
        await peer.registry.settled()
        assert account(peer) == (None, 0, 0, False, fault.partition(" ")[0])
        assert clock() == pytest.approx(0.05 if "50" in fault else 0)
        left = [200, content] if when == "before" else [404, None]
        answer = await peer.http.get("/v2/app/manifests/v1")
        assert [answer.status_code, answer.content if answer.status_code == 200 else None] == left


@pytest.mark.parametrize(("fault", "error"), [("cut", httpx.RemoteProtocolError), ("reset", httpx.ReadError)])
async def test_an_upload_that_is_broken_can_be_resumed_at_that_very_octet(
    peer: Peer, fault: str, error: type[Exception]
) -> None:
    peer.registry.faults.add(f"PATCH upload nth=1 {fault} 123456")
    location = await peer.open("app")
    with pytest.raises((error, httpx.WriteError)):
        await peer.http.patch(location, content=CONTENT)
    await peer.registry.settled()
    assert account(peer) == (None, 123_456, 0, False, fault)
    assert (await peer.http.get(location)).headers["range"] == "0-123455"
    rest = await peer.http.patch(
        location, content=CONTENT[123_456:], headers={"Content-Range": "123456-399999"}
    )
    assert rest.status_code == 202


async def test_a_body_is_answered_in_its_middle(peer: Peer) -> None:
    peer.registry.faults.add("PATCH upload nth=1 status 503 after=100000")
    location = await peer.open("app")
    answer = await peer.http.patch(location, content=CONTENT)
    assert (answer.status_code, peer.codes(answer)) == (503, ["UNKNOWN"])
    assert account(peer)[:2] == (503, len(CONTENT))
    assert account(peer)[3:] == (True, "status")
    assert (await peer.http.get(location)).headers["range"] == "0-99999"


async def test_a_body_is_answered_in_its_middle_and_not_read_any_further(peer: Peer) -> None:
    peer.registry.faults.add("PATCH upload status 503 after=100000 drain=no")
    location = await peer.open("app")
    pieces = Pieces()
    answer = await peer.http.patch(location, content=pieces)
    assert answer.status_code == 503
    assert account(peer)[:2] == (503, 100_000)
    assert account(peer)[3] is False


async def test_a_connection_that_is_closed_late_is_closed(open_wire_peer: OpenWirePeer) -> None:
    clock = ManualClock()
    async with open_wire_peer(faults=["slow_close 500"], clock=clock, sleep=clock.sleep) as peer:
        wire = await peer.connect()
        status, headers, _ = await wire.ask(b"GET /v2/ HTTP/1.1\r\nHost: r\r\n\r\n")
        assert (status, headers.get("connection")) == (200, None)
        await peer.until(lambda: clock.sleepers)
        clock.advance(0.5)
        assert await wire.rest() == b""
        await peer.registry.settled()
        record = peer.journal[-1]
        assert (record.complete, record.bytes_out, record.fault) == (True, 2, "slow_close")


async def test_a_response_is_whole_only_when_a_slow_close_is_over(with_settings: OpenWith) -> None:
    clock = ManualClock(jumps=True)
    async with with_settings(faults=["slow_close 500"], clock=clock, sleep=clock.sleep) as peer:
        assert (await peer.http.get("/v2/")).content == b"{}"
        await peer.registry.settled()
        assert clock() == 0.5


@pytest.mark.parametrize(("fault", "reset"), [("cut", False), ("reset", True)])
@pytest.mark.parametrize("after", [0, 100_000])
async def test_an_upload_ends_with_the_very_packet_that_was_asked_for(
    open_wire_peer: OpenWirePeer, fault: str, reset: bool, after: int
) -> None:
    async with open_wire_peer(faults=[f"PATCH upload {fault} {after}"]) as peer:
        session = await peer.session()
        wire = await peer.connect()
        head = f"PATCH {session.decode()} HTTP/1.1\r\nHost: r\r\nContent-Length: {len(CONTENT)}\r\n\r\n"
        await wire.send(head.encode(), CONTENT[:200_000])  # and no end in sight
        if reset:
            with pytest.raises(ConnectionResetError):
                await wire.rest()
        else:
            assert await wire.rest() == b""
        await peer.registry.settled()
        record = peer.journal[-1]
        assert (record.status, record.bytes_in, record.complete) == (None, after, False)


@pytest.mark.parametrize(("fault", "error"), [("cut", httpx.RemoteProtocolError), ("reset", httpx.ReadError)])
async def test_a_connection_under_tls_ends_as_well(fault: str, error: type[Exception]) -> None:
    registry = MockRegistry(faults=[f"GET blob times=1 {fault} 100000"])
    async with registry.serve(tls="self-signed") as server:
        context = ssl.create_default_context(cafile=str(server.ca))
        async with httpx.AsyncClient(base_url=server.url, verify=context, trust_env=False) as http:
            digest = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
            path = f"/v2/app/blobs/uploads/?digest={digest}"
            assert (await http.post(path, content=CONTENT)).status_code == 201
            assert await received(http, f"/v2/app/blobs/{digest}") == (CONTENT[:100_000], error)
            await registry.settled()
            record = registry.journal[-1]
            assert (record.bytes_out, record.complete, record.fault) == (100_000, False, fault)
            assert (await http.get(f"/v2/app/blobs/{digest}")).content == CONTENT


# Pace


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        ("throttle 100kB/s", 4.0),
        ("bandwidth 100", 4.0),
        ("trickle octets=100000 every=10s", 30.0),
        ("slicer average_size=40000 delay=100ms", 0.9),
        ("latency 250", 0.25),
    ],
)
@pytest.mark.parametrize("direction", ["up", "down"])
async def test_everything_arrives_but_slowly(
    with_settings: OpenWith, fault: str, seconds: float, direction: str
) -> None:
    clock = ManualClock(jumps=True)
    async with with_settings(clock=clock, sleep=clock.sleep) as peer:
        location, path = await peer.open("app"), await digest_of_pushed(peer)
        start = clock()
        if direction == "up":
            peer.registry.faults.add(f"PATCH stream=upstream {fault}")
            assert (await peer.http.patch(location, content=CONTENT)).headers["range"] == "0-399999"
            assert account(peer) == (202, len(CONTENT), 0, True, fault.partition(" ")[0])
        else:
            peer.registry.faults.add(f"GET blob {fault}")
            assert (await peer.http.get(path)).content == CONTENT
            await peer.registry.settled()
            assert account(peer) == (200, 0, len(CONTENT), True, fault.partition(" ")[0])
        assert clock() - start == pytest.approx(seconds, abs=0.02)


async def test_jitter_and_variation_are_chance_that_repeats(open_peer: OpenPeer) -> None:
    async def run() -> tuple[float, list[int]]:
        clock = ManualClock(jumps=True)
        faults = ["blob latency 100 jitter=50", "GET blob slicer 1000 size_variation=500"]
        async with open_peer("process", clock=clock, sleep=clock.sleep, faults=faults) as peer:
            path = await digest_of_pushed(peer, CONTENT[:10_000])
            async with peer.http.stream("GET", path) as answer:
                return clock(), [len(piece) async for piece in answer.aiter_raw()]

    first = await run()
    assert 0.05 <= first[0] <= 0.15
    assert all(500 <= size <= 1500 for size in first[1][:-1])
    assert len(set(first[1])) > 3
    assert await run() == first


async def test_a_throttled_body_is_given_no_faster_than_it_is_asked_for(open_peer: OpenPeer) -> None:
    clock = ManualClock()
    async with open_peer("process", clock=clock, sleep=clock.sleep) as peer:
        path = await digest_of_pushed(peer)
        peer.registry.faults.add("GET blob throttle 100kB/s")
        got = 0
        async with peer.http.stream("GET", path) as answer:
            pieces = answer.aiter_raw()
            for tenth in range(1, 11):
                asking = asyncio.ensure_future(anext(pieces))
                await peer.until(lambda: clock.sleepers)
                assert not asking.done()
                clock.advance(0.1)
                got += len(await asking)
                assert got == 10_000 * tenth
        await peer.registry.settled()
        assert account(peer) == (200, 0, got, False, "throttle")


async def test_a_throttled_upload_is_taken_no_faster(open_peer: OpenPeer) -> None:
    clock = ManualClock()
    async with open_peer("process", clock=clock, sleep=clock.sleep) as peer:
        location = await peer.open("app")
        peer.registry.faults.add("PATCH throttle 100kB/s")
        pieces = Pieces()
        sending = asyncio.ensure_future(peer.http.patch(location, content=pieces))
        for tenth in range(1, 41):
            await peer.until(lambda: clock.sleepers)
            assert pieces.given <= 10_000 * (tenth + 1)
            clock.advance(0.1)
        assert (await sending).headers["range"] == "0-399999"


PATIENCE = (0.01, 0.1, 1, 5)
"""Seconds, until a fault has struck: on a busy machine, a request takes its time to get there."""


async def test_a_client_that_does_not_wait_ends_the_wait(with_settings: OpenWith) -> None:
    clock = ManualClock()
    async with with_settings(clock=clock, sleep=clock.sleep) as peer:
        for fault in ("latency 5000", "stall", "timeout", "stream=upstream latency 5000"):
            rule = peer.registry.faults.add(f"base {fault}")
            for patience in PATIENCE:
                with pytest.raises(httpx.ReadTimeout):
                    await peer.http.get("/v2/", timeout=httpx.Timeout(5, read=patience))
                await peer.registry.settled()
                if rule.applied:
                    break
            assert rule.applied == 1
            assert clock.sleepers == 0
            rule.remove()
        assert clock() == 0


async def test_a_client_that_sends_into_a_stall_gives_up_too(with_settings: OpenWith) -> None:
    async with with_settings() as peer:
        rule = peer.registry.faults.add("PATCH upload stall")
        for patience in PATIENCE:
            location = await peer.open("app")
            timeout = httpx.Timeout(5, read=patience, write=patience)
            with pytest.raises(httpx.TimeoutException):
                await peer.http.patch(location, content=CONTENT, timeout=timeout)
            await peer.registry.settled()
            if rule.applied:
                break
        assert account(peer)[4] == "stall"
        assert (await peer.http.get(location)).status_code == 204


async def test_a_client_that_waits_to_be_asked_for_its_body_is_not_asked_by_a_stall(
    open_wire_peer: OpenWirePeer,
) -> None:
    async with open_wire_peer(faults=["PATCH upload stall"]) as peer:
        session = await peer.session()
        wire = await peer.connect()
        expecting = b"\r\nHost: r\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        await wire.send(b"PATCH ", session, b" HTTP/1.1", expecting)
        [rule] = peer.registry.faults
        await peer.until(lambda: rule.applied)
        for _ in range(50):
            await asyncio.sleep(0)
        asking = asyncio.ensure_future(wire.response())
        await asyncio.sleep(0)
        assert not asking.done()
        rule.release()
        assert (await asking)[0] == 100
        assert (await wire.ask(b"12345"))[0] == 202


async def test_octets_that_wait_behind_a_stall_are_not_lost(open_wire_peer: OpenWirePeer) -> None:
    content = os.urandom(12 << 20)  # more than is held for anybody
    async with open_wire_peer(faults=["PATCH upload stall"], limits=Limits(body_held=1 << 20)) as peer:
        session = await peer.session()
        wire = await peer.connect()
        head = f"PATCH {session.decode()} HTTP/1.1\r\nHost: r\r\nContent-Length: {len(content)}\r\n\r\n"
        sending = asyncio.ensure_future(wire.send(head.encode(), content))
        [rule] = peer.registry.faults
        await peer.until(lambda: rule.applied)
        for _ in range(200):
            await asyncio.sleep(0)
        rule.release()
        status, headers, _ = await wire.response()
        await sending
        assert (status, headers["range"]) == (202, f"0-{len(content) - 1}")


# Octets


async def test_an_octet_is_not_what_it_was(peer: Peer) -> None:
    path = await digest_of_pushed(peer)
    peer.registry.faults.add("GET blob times=1 corrupt offset=200000 mask=1")
    answer = await peer.http.get(path)
    changed = bytearray(CONTENT)
    changed[200_000] ^= 1
    assert answer.content == changed
    assert answer.headers["docker-content-digest"] == path.rpartition("/")[2]
    assert account(peer) == (200, 0, len(CONTENT), True, "corrupt")
    assert (await peer.http.get(path)).content == CONTENT


async def test_an_octet_that_is_not_there_cannot_be_changed(peer: Peer) -> None:
    path = await digest_of_pushed(peer)
    peer.registry.faults.add(f"GET blob corrupt offset={len(CONTENT)}")
    assert (await peer.http.get(path)).content == CONTENT
    assert account(peer)[4] is None


async def test_an_upload_that_is_damaged_on_its_way_is_refused(peer: Peer) -> None:
    peer.registry.faults.add("PUT upload nth=1 corrupt 7")
    location, digest = await peer.open("app"), peer.digest(CONTENT)
    params = peer.also(location, digest=digest)
    answer = await peer.http.put(location, params=params, content=CONTENT)
    assert (answer.status_code, peer.codes(answer)) == (400, ["DIGEST_INVALID"])
    assert account(peer)[:2] == (400, len(CONTENT))
    assert account(peer)[4] == "corrupt"


# Blobs elsewhere


async def test_a_client_follows_to_another_host_and_leaves_its_credentials_behind(peer: Peer) -> None:
    path = await digest_of_pushed(peer)
    peer.registry.faults.add("blob redirect")
    bearing = {"Authorization": "Bearer secret"}
    answer = await peer.http.get(path, headers={**bearing, "Range": "bytes=5-9"}, follow_redirects=True)
    assert (answer.status_code, answer.content) == (206, CONTENT[5:10])
    assert answer.url.netloc != peer.http.base_url.netloc
    assert peer.journal.bytes_out(route="blob") == 5
    sent = await peer.http.get(answer.url, headers=bearing)
    assert (sent.status_code, sent.headers["content-type"]) == (400, "application/xml")


async def test_an_url_of_the_other_host_ends(with_settings: OpenWith) -> None:
    clock = ManualClock()
    async with with_settings(clock=clock, sleep=clock.sleep) as peer:
        path = await digest_of_pushed(peer)
        rule = peer.registry.faults.add("blob redirect 302 seconds=60 head_status=403")
        location = (await peer.http.get(path)).headers["location"]
        assert (await peer.http.get(location)).content == CONTENT
        assert (await peer.http.head(location)).status_code == 403
        clock.advance(60)
        assert (await peer.http.get(location)).status_code == 403
        clock.advance(-60)
        rule.remove()
        assert (await peer.http.get(location)).status_code == 404


async def test_what_is_not_there_is_not_redirected(peer: Peer) -> None:
    peer.registry.faults.add("blob redirect heads=no")
    path = await digest_of_pushed(peer)
    assert (await peer.http.head(path)).status_code == 200
    assert (await peer.http.get(f"/v2/app/blobs/{peer.digest(b'absent')}")).status_code == 404
    elsewhere = peer.registry.faults.add("blob redirect to=http://127.0.0.1:1")
    peer.registry.faults.remove("redirect")
    assert (await peer.http.get(path)).headers["location"].startswith("http://127.0.0.1:1/object-storage/")
    assert elsewhere.applied == 1


# Under another server


async def test_what_needs_no_socket_is_the_same_under_another_server(open_peer: OpenPeer) -> None:
    clock = ManualClock(jumps=True)
    faults = ["HEAD status 503", "GET blob throttle 100kB/s", "GET blob corrupt 0"]
    async with open_peer("uvicorn", clock=clock, sleep=clock.sleep, faults=faults) as peer:
        path = await digest_of_pushed(peer)
        assert (await peer.http.head(path)).status_code == 503
        answer = await peer.http.get(path)
        assert answer.content[1:] == CONTENT[1:]
        assert answer.content[0] == CONTENT[0] ^ 0xFF
        assert clock() == pytest.approx(4)
        await peer.registry.settled()
        assert account(peer) == (200, 0, len(CONTENT), True, "throttle,corrupt")


@pytest.mark.parametrize("fault", ["cut", "reset"])
async def test_under_another_server_a_reset_is_a_fin(open_peer: OpenPeer, fault: str) -> None:
    async with open_peer("uvicorn") as peer:
        path = await digest_of_pushed(peer)
        peer.registry.faults.add(f"GET blob {fault} 1000")
        assert await received(peer.http, path) == (CONTENT[:1000], httpx.RemoteProtocolError)
        await peer.registry.settled()
        assert account(peer) == (200, 0, 1000, False, fault)


async def test_under_another_server_a_lost_answer_is_a_502(open_peer: OpenPeer) -> None:
    async with open_peer("uvicorn", faults=["base cut"]) as peer:
        answer = await peer.http.get("/v2/")
        assert (answer.status_code, answer.content) == (502, b"")
        await peer.registry.settled()
        assert account(peer) == (502, 0, 0, True, "cut")


async def test_under_another_server_a_client_that_leaves_ends_a_wait(open_peer: OpenPeer) -> None:
    clock = ManualClock()
    async with open_peer("uvicorn", clock=clock, sleep=clock.sleep) as peer:
        path = await digest_of_pushed(peer)
        rule = peer.registry.faults.add("GET blob trickle octets=1000")

        async def read(**timeout: Any) -> None:
            await peer.http.get(path, timeout=httpx.Timeout(5, **timeout))

        with pytest.raises(httpx.ReadTimeout):
            await read(read=0.05)
        await peer.until(lambda: len(peer.journal) == 3)
        assert (rule.applied, clock.sleepers) == (1, 0)
        assert account(peer)[3] is False
