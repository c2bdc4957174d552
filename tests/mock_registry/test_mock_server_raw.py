from __future__ import annotations

import asyncio
import hashlib
import json
import os
from typing import TYPE_CHECKING

import pytest

from mock_registry.server import Limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mock_registry.server.connection import Connection
    from mock_registry.storage.memory import MemoryUpload
    from tests.mock_registry.conftest import Answer, OpenWirePeer, Wire, WirePeer

pytestmark = pytest.mark.anyio

BASE = b"GET /v2/ HTTP/1.1\r\nHost: r\r\n\r\n"
CONTENT = os.urandom(1_000_000)
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


def request(method: str, path: str, *headers: str, body: bytes | None = None) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: r", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


def chunked(*chunks: bytes, ending: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + ending


async def push(wire: Wire, session: bytes, content: bytes = CONTENT) -> str:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    status, _, _ = await wire.ask(request("PUT", f"{session.decode()}&digest={digest}", body=content))
    assert status == 201
    return digest


def refused(answer: Answer, status: int) -> None:
    assert answer[0] == status
    assert answer[1]["connection"] == "close"
    assert [error["code"] for error in json.loads(answer[2])["errors"]]


async def test_requests_on_one_connection_are_answered_one_after_another(
    wire: Wire, wire_peer: WirePeer
) -> None:
    for _ in range(3):
        status, headers, body = await wire.ask(BASE)
        assert (status, body) == (200, b"{}")
        assert "connection" not in headers
        assert "date" in headers
    assert len(wire_peer.server.connections) == 1


async def test_pipelined_requests_are_answered_in_order(wire: Wire, wire_peer: WirePeer) -> None:
    session = await wire_peer.session()
    await wire.send(
        request("PUT", f"{session.decode()}&digest={DIGEST}", body=CONTENT),
        request("GET", f"/v2/app/blobs/{DIGEST}"),
        request("HEAD", f"/v2/app/blobs/{DIGEST}"),
        request("GET", "/v2/app/tags/list"),
        *[BASE] * 200,
    )
    assert (await wire.response())[0] == 201
    assert (await wire.response())[2] == CONTENT
    assert (await wire.response("HEAD"))[1]["content-length"] == "1000000"
    assert json.loads((await wire.response())[2]) == {"name": "app", "tags": []}
    for _ in range(200):
        assert (await wire.response())[2] == b"{}"
    assert [record.number for record in wire_peer.journal] == list(range(1, 206))


async def test_requests_may_arrive_octet_by_octet(wire: Wire) -> None:
    for octet in BASE * 2:
        await wire.send(bytes([octet]))
        await asyncio.sleep(0)
    assert [(await wire.response())[0] for _ in range(2)] == [200, 200]


async def test_a_chunked_request_body_is_taken_in_any_pieces(wire: Wire, wire_peer: WirePeer) -> None:
    session = await wire_peer.session()
    pieces = [CONTENT[:1], CONTENT[1:70_000], CONTENT[70_000:]]
    data = request("PATCH", session.decode(), "Transfer-Encoding: chunked") + chunked(*pieces)
    for start in range(0, len(data), 9_999):
        await wire.send(data[start : start + 9_999])
    status, headers, _ = await wire.response()
    assert (status, headers["range"]) == (202, "0-999999")
    assert (wire_peer.journal[-1].bytes_in, wire_peer.journal[-1].complete) == (1_000_000, True)
    assert (await wire.ask(BASE))[0] == 200


async def test_many_tiny_chunks_and_trailers_are_taken(wire: Wire, wire_peer: WirePeer) -> None:
    session = await wire_peer.session()
    tiny = [CONTENT[n : n + 1] for n in range(5_000)]
    body = chunked(*tiny, ending=b"0\r\nX-Trailer: yes\r\nHost: s\r\n\r\n")
    status, headers, _ = await wire.ask(
        request("PATCH", session.decode(), "Transfer-Encoding: chunked"), body
    )
    assert (status, headers["range"]) == (202, "0-4999")
    assert (await wire.ask(BASE))[0] == 200


@pytest.mark.parametrize("end", ["half close", "close", "reset"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_end_5_a_half_sent_body_is_kept_and_resumed(
    wire: Wire, wire_peer: WirePeer, method: str, framing: str, end: str
) -> None:
    session = await wire_peer.session()
    path = f"{session.decode()}&digest={DIGEST}"
    if framing == "length":
        await wire.send(request(method, path, "Content-Length: 1000000"), CONTENT[:200_000])
    else:
        await wire.send(request(method, path, "Transfer-Encoding: chunked"), b"f4240\r\n", CONTENT[:200_000])
    if end == "reset":
        await wire_peer.reading(200_000)  # a reset may throw away what is still on its way
        wire.reset()
    elif end == "close":
        wire.writer.close()
    else:
        wire.half_close()
        answer = await wire.response()
        refused(answer, 400)
        assert await wire.rest() == b""
    await wire_peer.registry.settled()
    record = wire_peer.journal[-1]
    assert (record.bytes_in, record.complete) == (200_000, False)
    # A peer that closed looks like one that still reads, until an answer is written to it.
    assert record.status == (None if end == "reset" else 400)

    second = await wire_peer.connect()
    status, headers, _ = await second.ask(request("GET", session.decode()))
    assert (status, headers["range"]) == (204, "0-199999")
    rest = request("PATCH", headers["location"], "Content-Range: 200000-999999", body=CONTENT[200_000:])
    status, headers, _ = await second.ask(rest)
    assert (status, headers["range"]) == (202, "0-999999")
    status, _, _ = await second.ask(request("PUT", f"{headers['location']}&digest={DIGEST}", body=b""))
    assert status == 201
    assert wire_peer.journal.session_digest(record.session) == DIGEST
    assert sum(r.bytes_in for r in wire_peer.journal.uploads("app", digest=DIGEST)) == 1_000_000


async def test_end_13_a_resume_waits_until_the_broken_request_has_ended(
    wire: Wire, wire_peer: WirePeer
) -> None:
    session = await wire_peer.session()
    await wire.send(request("PATCH", session.decode(), "Content-Length: 1000000"), CONTENT[:300_000])
    second = await wire_peer.connect()
    await second.send(request("GET", session.decode()))
    wire.half_close()
    status, headers, _ = await second.response()
    assert (status, headers["range"]) == (204, "0-299999")


async def test_a_session_that_stays_in_use_is_409_for_others(open_wire_peer: OpenWirePeer) -> None:
    async with open_wire_peer(session_patience=0.0) as peer:
        session = (await peer.session()).decode()
        first, second = await peer.connect(), await peer.connect()
        await first.send(request("PATCH", session, "Content-Length: 10", "Expect: 100-continue"))
        assert (await first.response())[0] == 100
        for method in ("PATCH", "PUT", "GET", "DELETE"):
            status, _, body = await second.ask(request(method, f"{session}&digest={DIGEST}", body=b""))
            assert (status, json.loads(body)["errors"][0]["code"]) == (409, "BLOB_UPLOAD_INVALID")
        await first.send(b"0123456789")
        assert (await first.response())[0] == 202


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x01\x02\x03\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /v2/ HTTP/1.1 extra\r\nHost: r\r\n\r\n",
        b"GET /v2/ HTTX/1.1\r\nHost: r\r\n\r\n",
        b"GET /v2/\x00 HTTP/1.1\r\nHost: r\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nNo colon\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\n: no name\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: r\r\nX: a\x00b\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: r\r\nContent-Length: -1\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: r\r\nContent-Length: x\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: r\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: r\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"PUT /v2/ HTTP/1.1\r\nHost: r\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
        b"PUT /v2/ HTTP/1.1\r\nHost: r\r\nTransfer-Encoding: chunked, gzip\r\n\r\nabc",
        b"GET /v2/ HTTP/1.1\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: r\r\nHost: s\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_garbage_is_answered_with_400_and_the_end_of_the_connection(
    wire: Wire, wire_peer: WirePeer, garbage: bytes
) -> None:
    await wire.send(garbage)
    refused(await wire.response(), 400)
    assert await wire.rest() == b""
    record = wire_peer.journal[-1]
    assert (record.status, record.route, record.complete) == (400, "other", False)
    assert (await (await wire_peer.connect()).ask(BASE))[0] == 200


async def test_garbage_behind_good_requests_does_not_cost_their_answers(wire: Wire) -> None:
    await wire.send(BASE, BASE, b"garbage\r\n\r\n", BASE)
    assert [(await wire.response())[0] for _ in range(3)] == [200, 200, 400]
    assert await wire.rest() == b""


@pytest.mark.parametrize("method", ["FOO", "get", "M-SEARCHX"])
async def test_a_method_that_http_does_not_know_is_501(wire: Wire, method: str) -> None:
    refused(await wire.ask(request(method, "/v2/")), 501)


async def test_another_version_of_http_is_refused(wire_peer: WirePeer) -> None:
    for line, status in ((b"GET /v2/", 505), (b"GET /v2/ HTTP/2.0", 505), (b"GET /v2/ HTTP/3.7", 400)):
        wire = await wire_peer.connect()
        refused(await wire.ask(line, b"\r\nHost: r\r\n\r\n"), status)


async def test_connect_upgrade_and_options_are_answered(wire_peer: WirePeer) -> None:
    for line, headers, status in (
        (b"CONNECT example.org:443 HTTP/1.1", b"", 404),
        (b"OPTIONS * HTTP/1.1", b"", 404),
        (
            b"GET /v2/ HTTP/1.1",
            b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n",
            200,
        ),
        (b"GET http://r/v2/ HTTP/1.1", b"", 200),
        (b"GET http://r HTTP/1.1", b"", 200),  # the page
    ):
        wire = await wire_peer.connect()
        assert (await wire.ask(line, b"\r\nHost: r\r\n", headers, b"\r\n"))[0] == status


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_body_behind_an_offer_of_another_protocol_is_no_request(
    wire: Wire, wire_peer: WirePeer, framing: str
) -> None:
    """curl offers HTTP/2 this way, whatever it sends."""
    session = (await wire_peer.session()).decode()
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA")
    if framing == "length":
        data = request("PATCH", session, *offer, body=CONTENT)
    else:
        ending = b"0\r\nX-Trailer: yes\r\n\r\n"
        data = request("PATCH", session, *offer, "Transfer-Encoding: chunked") + chunked(
            CONTENT, ending=ending
        )
    for pieces in (data + BASE, BASE + BASE):
        await wire.send(pieces)
    status, headers, _ = await wire.response()
    assert (status, headers["range"]) == (202, "0-999999")
    assert (wire_peer.journal[1].bytes_in, wire_peer.journal[1].complete) == (1_000_000, True)
    assert [(await wire.response())[0] for _ in range(3)] == [200] * 3


async def test_a_broken_body_behind_an_offer_of_another_protocol_is_400(wire: Wire) -> None:
    offer = ("Connection: Upgrade", "Upgrade: h2c", "Transfer-Encoding: chunked")
    refused(await wire.ask(request("PATCH", "/v2/app/blobs/uploads/x", *offer), b"nonsense\r\n"), 400)


async def test_thousands_of_offers_at_once_are_answered(wire: Wire) -> None:
    count = 3_000
    sending = asyncio.ensure_future(
        wire.send(request("GET", "/v2/", "Connection: Upgrade", "Upgrade: x") * count)
    )
    assert [(await wire.response())[0] for _ in range(count)] == [200] * count
    await sending


@pytest.mark.parametrize("size", [70_000, 170_000])
async def test_a_head_that_begins_behind_a_large_body_is_measured_by_itself(wire: Wire, size: int) -> None:
    first, second = request("PUT", "/v2/", body=bytes(size)), request("GET", "/v2/", "X-Odd: " + "y" * 50)
    for cut in range(1, len(second)):
        await wire.send(first[:cut])
        await asyncio.sleep(0)
        await wire.send(first[cut:], second[:cut])
        assert (await wire.response())[0] == 405
        await wire.send(second[cut:])
        assert (await wire.response())[0] == 200


async def test_a_head_within_the_limits_may_come_in_pieces(wire: Wire) -> None:
    data = request("GET", "/v2/", *[f"X-{n}: {'y' * 1000}" for n in range(55)])
    for start in range(0, len(data), 5_000):
        await wire.send(data[start : start + 5_000])
        await asyncio.sleep(0)
    assert (await wire.response())[0] == 200


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request("HEAD", "/" + "a" * 20_000), 414),
        (request("HEAD", "/v2/", "X: " + "y" * 100_000), 431),
        (request("HEAD", "/v2/", "Host: s"), 400),
        (b"HEAD /v2/ HTTP/3.7\r\nHost: r\r\n\r\n", 400),
    ],
)
async def test_a_refused_head_gets_no_body(wire: Wire, wire_peer: WirePeer, data: bytes, status: int) -> None:
    await wire.send(data)
    answer, headers, _ = await wire.response("HEAD")
    assert (answer, headers["connection"]) == (status, "close")
    assert await wire.rest() == b""
    record = wire_peer.journal[-1]
    assert (record.method, record.status, record.bytes_out) == ("HEAD", status, 0)


async def test_a_refusal_that_waits_for_its_turn_is_not_forgotten_for_the_end_of_the_peer(
    open_wire_peer: OpenWirePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = asyncio.Event()

    async def slow(self: MemoryUpload, chunks: Sequence[bytes]) -> None:
        await go.wait()
        self.size += sum(map(len, chunks))

    monkeypatch.setattr("mock_registry.storage.memory.MemoryUpload.append", slow)
    async with open_wire_peer() as peer:
        session, wire = await peer.session(), await peer.connect()
        await wire.send(
            request("PATCH", session.decode(), body=b"x"), request("GET", "/v2/", "X: " + "y" * 70_000)
        )
        wire.half_close()
        await peer.until(lambda: any(each.peer_ended for each in peer.server.connections))
        go.set()
        assert (await wire.response())[0] == 202
        refused(await wire.response(), 431)


@pytest.mark.parametrize(
    "path", ["/v2/../v2/", "/v2/a/../b/tags/list", "/v2/../../etc/passwd", "/v2/./tags/list"]
)
async def test_dots_in_a_path_lead_nowhere(wire: Wire, path: str) -> None:
    assert (await wire.ask(request("GET", path)))[0] in (400, 404)


async def test_a_giant_target_is_414(wire: Wire, wire_peer: WirePeer) -> None:
    refused(await wire.ask(request("GET", "/v2/" + "a" * 20_000)), 414)
    assert wire_peer.journal[-1].target.startswith("/v2/aaa")
    assert (await (await wire_peer.connect()).ask(request("GET", f"/v2/{'a' * 8_000}/tags/list")))[0] == 400


async def test_giant_headers_are_431(wire_peer: WirePeer) -> None:
    for headers in ([f"X-{n}: {'y' * 100}" for n in range(1000)], ["X: " + "y" * 100_000]):
        wire = await wire_peer.connect()
        refused(await wire.ask(request("GET", "/v2/", *headers)), 431)


async def test_a_head_that_never_ends_is_431(wire: Wire) -> None:
    await wire.send(b"GET /v2/ HTTP/1.1\r\nHost: r\r\nX: ")
    for _ in range(20):
        await wire.send(b"y" * 10_000)
    refused(await wire.response(), 431)


async def test_expect_100_continue_is_answered_when_the_body_is_wanted(
    wire: Wire, wire_peer: WirePeer
) -> None:
    session = await wire_peer.session()
    head = request(
        "PUT", f"{session.decode()}&digest={DIGEST}", "Content-Length: 1000000", "Expect: 100-continue"
    )
    assert (await wire.ask(head))[0] == 100
    assert (await wire.ask(CONTENT))[0] == 201


async def test_expect_100_continue_is_answered_finally_when_the_body_is_not_wanted(
    wire: Wire, wire_peer: WirePeer
) -> None:
    path = f"/v2/app/blobs/uploads/nosuch?digest={DIGEST}"
    status, headers, _ = await wire.ask(
        request("PUT", path, "Content-Length: 1000000", "Expect: 100-continue")
    )
    assert (status, headers["connection"]) == (404, "close")
    record = wire_peer.journal[-1]
    assert (record.bytes_in, record.status, record.complete) == (0, 404, False)


async def test_a_body_that_comes_without_waiting_needs_no_continue(wire: Wire, wire_peer: WirePeer) -> None:
    session = await wire_peer.session()
    await wire.send(request("PATCH", session.decode(), "Expect: 100-continue", body=b"all at once"))
    assert (await wire.response())[0] == 202


async def test_a_length_beyond_the_body_is_408_when_patience_ends(open_wire_peer: OpenWirePeer) -> None:
    async with open_wire_peer(Limits(body_time=50.0)) as peer:
        session, wire = await peer.session(), await peer.connect()
        await wire.send(request("PATCH", session.decode(), "Content-Length: 100"), b"too little")
        connection = await peer.reading(10)
        peer.server.check_patience(connection.deadline - 1.0)
        assert peer.registry.state.sessions
        peer.server.check_patience(connection.deadline)
        refused(await wire.response(), 408)
        assert (peer.journal[-1].bytes_in, peer.journal[-1].status) == (10, 408)


async def test_octets_beyond_the_length_are_the_next_request_and_garbage(
    wire: Wire, wire_peer: WirePeer
) -> None:
    session = await wire_peer.session()
    data = request("PATCH", session.decode(), "Content-Length: 4")
    await wire.send(data, b"1234and more")
    status, headers, _ = await wire.response()
    assert (status, headers["range"]) == (202, "0-3")
    refused(await wire.response(), 400)


async def test_a_broken_chunk_is_400_and_what_came_before_is_kept(wire: Wire, wire_peer: WirePeer) -> None:
    session = await wire_peer.session()
    head = request("PATCH", session.decode(), "Transfer-Encoding: chunked")
    await wire.send(head, b"5\r\nhello\r\n", b"nonsense\r\n")
    refused(await wire.response(), 400)
    _, headers, _ = await (await wire_peer.connect()).ask(request("GET", session.decode()))
    assert headers["range"] == "0-4"


async def test_patience_with_a_slow_head_ends_with_408_and_with_an_idle_peer_silently(
    wire_peer: WirePeer,
) -> None:
    slow, idle = await wire_peer.connect(), await wire_peer.connect()
    await slow.send(b"GET /v2/ HT")
    await idle.ask(BASE)
    for connection in set(wire_peer.server.connections):
        wire_peer.server.check_patience(connection.deadline)
    refused(await slow.response(), 408)
    assert await idle.rest() == b""


def sending(wire_peer: WirePeer) -> list[Connection]:
    return [each for each in wire_peer.server.connections if each.awaited.name == "WRITE"]


async def test_a_peer_that_does_not_read_is_cut_off(wire_peer: WirePeer) -> None:
    session, wire = await wire_peer.session(), await wire_peer.connect()
    content = os.urandom(24 << 20)
    digest = await push(wire, session, content)
    transport = wire.writer.transport
    assert isinstance(transport, asyncio.Transport)
    transport.pause_reading()
    await wire.send(request("GET", f"/v2/app/blobs/{digest}"))
    await wire_peer.until(lambda: sending(wire_peer))
    wire_peer.server.check_patience(sending(wire_peer)[0].deadline)
    await wire_peer.registry.settled()
    record = wire_peer.journal[-1]
    assert record.complete is False
    assert 0 < record.bytes_out < len(content)


async def test_a_response_that_the_peer_breaks_off_is_accounted_for(wire_peer: WirePeer) -> None:
    session, wire = await wire_peer.session(), await wire_peer.connect()
    content = os.urandom(24 << 20)
    digest = await push(wire, session, content)
    await wire.send(request("GET", f"/v2/app/blobs/{digest}"))
    received = len(await wire.reader.readexactly(5_000_000)) - 500
    wire.reset()
    await wire_peer.registry.settled()
    record = wire_peer.journal[-1]
    assert (record.status, record.complete) == (200, False)
    assert received <= record.bytes_out < len(content)


async def test_half_closed_peers_get_their_answers(wire: Wire, wire_peer: WirePeer) -> None:
    session = await wire_peer.session()
    digest = await push(wire, session)
    await wire.send(request("GET", f"/v2/app/blobs/{digest}"), BASE)
    wire.half_close()
    assert (await wire.response())[2] == CONTENT
    assert (await wire.response())[2] == b"{}"
    assert await wire.rest() == b""


async def test_a_head_that_ends_early_is_400(wire: Wire) -> None:
    await wire.send(b"GET /v2/ HTTP/1.1\r\nHo")
    wire.half_close()
    refused(await wire.response(), 400)


async def test_peers_that_come_and_go_leave_nothing(wire_peer: WirePeer) -> None:
    for data in (b"", b"GET", BASE[:-2]):
        wire = await wire_peer.connect()
        await wire.send(data)
        wire.reset()
    await wire_peer.disconnected()
    assert len(wire_peer.journal) == 0


async def test_connection_close_and_http_1_0_end_the_connection(wire_peer: WirePeer) -> None:
    for data, kept in (
        (b"GET /v2/ HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n", "close"),
        (b"GET /v2/ HTTP/1.0\r\n\r\n", "close"),
    ):
        wire = await wire_peer.connect()
        status, headers, _ = await wire.ask(data)
        assert (status, headers["connection"]) == (200, kept)
        assert await wire.rest() == b""
    wire = await wire_peer.connect()
    for _ in range(2):
        _, headers, _ = await wire.ask(b"GET /v2/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert headers["connection"] == "keep-alive"


async def test_a_body_too_large_to_drain_is_answered_and_the_connection_ends(
    open_wire_peer: OpenWirePeer,
) -> None:
    async with open_wire_peer(drain_limit=100_000) as peer:
        wire = await peer.connect()
        await wire.send(request("PATCH", "/v2/app/blobs/uploads/nosuch", body=bytes(30 << 20)))
        status, headers, _ = await wire.response()
        assert (status, headers["connection"]) == (404, "close")
        assert await wire.rest() == b""
        assert peer.journal[-1].complete is False


async def test_a_body_that_nobody_takes_holds_the_socket_back(
    wire: Wire, wire_peer: WirePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, go = asyncio.Event(), asyncio.Event()

    async def slow(self: MemoryUpload, chunks: Sequence[bytes]) -> None:
        taken.set()
        await go.wait()
        self.size += sum(map(len, chunks))

    monkeypatch.setattr("mock_registry.storage.memory.MemoryUpload.append", slow)
    session = await wire_peer.session()
    content = bytes(40 << 20)
    sending = asyncio.ensure_future(wire.send(request("PATCH", session.decode(), body=content)))
    await taken.wait()
    connection = await wire_peer.reading(0)
    await wire_peer.until(lambda: connection.reading_paused)
    assert connection.requests.reading is not None
    assert connection.requests.reading.share.waiting < 6 << 20
    assert not sending.done()
    go.set()
    await sending
    assert (await wire.response())[1]["range"] == f"0-{len(content) - 1}"


async def test_a_graceful_stop_answers_what_is_under_way_and_closes_the_idle(
    open_wire_peer: OpenWirePeer,
) -> None:
    async with open_wire_peer() as peer:
        session = await peer.session()
        idle, busy = await peer.connect(), await peer.connect()
        await idle.ask(BASE)
        await busy.send(request("PATCH", session.decode(), "Content-Length: 10"), b"01234")
        await peer.reading(5)
        stop = asyncio.ensure_future(peer.server.stop())
        assert await idle.rest() == b""
        await busy.send(b"56789")
        status, headers, _ = await busy.response()
        assert (status, headers["connection"]) == (202, "close")
        busy.half_close()
        await stop
        with pytest.raises(OSError, match="Connect call failed"):
            await peer.connect()


async def test_a_stop_cuts_off_what_does_not_end_in_time(open_wire_peer: OpenWirePeer) -> None:
    async with open_wire_peer(Limits(stop_time=0.0)) as peer:
        session, wire = await peer.session(), await peer.connect()
        await wire.send(request("PATCH", session.decode(), "Content-Length: 10", "Expect: 100-continue"))
        await wire.response()
        await peer.server.stop()
        assert await wire.rest() == b""
        await peer.registry.settled()
        assert (peer.journal[-1].status, peer.journal[-1].complete) == (None, False)


async def test_200_connections_at_once_are_served(wire_peer: WirePeer) -> None:
    async def one() -> list[int]:
        wire = await wire_peer.connect()
        return [(await wire.ask(BASE))[0] for _ in range(3)]

    assert await asyncio.gather(*[one() for _ in range(200)]) == [[200] * 3] * 200
    assert len(wire_peer.journal) == 600
