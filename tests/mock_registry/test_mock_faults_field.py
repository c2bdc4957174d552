"""Every fault that was seen in the field and that HTTP/1.1 can show, provoked, and seen on the wire.

The numbers are those of the table in mock_registry/faults/README.md. Fault 8 resets a stream of HTTP/2, which
is not spoken here. Requests are written by hand and answers read from a bare socket: no client is in between.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from mock_registry.auth import TokenAnswer, TokenAuth
from mock_registry.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mock_registry import MockRegistry, Record
    from tests.mock_registry.conftest import Answer, OpenWirePeer, Wire, WirePeer

pytestmark = pytest.mark.anyio

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONTENT = os.urandom(1_000_000)
HALF = len(CONTENT) // 2


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


DIGEST = digest_of(CONTENT)
BLOB = f"/v2/app/blobs/{DIGEST}"
UPLOADS = "/v2/app/blobs/uploads/"


def head(method: str, path: str, *headers: str, length: int | None = None) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: registry.example:5000", *headers]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


class Client:
    """Requests by hand, and what the registry's journal says of the last one."""

    def __init__(self, peer: WirePeer, wire: Wire) -> None:
        self.peer = peer
        self.wire = wire
        self.registry: MockRegistry = peer.registry

    async def ask(self, method: str, path: str, *headers: str, body: bytes | None = None) -> Answer:
        length = None if body is None else len(body)
        data = head(method, path, *headers, length=length)
        return await self.wire.ask(data, body or b"", method=method)

    async def start(self, path: str | None = None) -> str:
        """Open a session, and return the location that it has now."""
        status, headers, _ = await self.ask("POST", path or UPLOADS)
        assert status == 202
        return headers["location"]

    async def commit(self, location: str, digest: str = DIGEST, body: bytes = b"") -> Answer:
        return await self.ask("PUT", f"{location}&digest={digest}", body=body)

    async def push(self, content: bytes = CONTENT, repository: str = "app") -> str:
        digest = digest_of(content)
        path = f"/v2/{repository}/blobs/uploads/?digest={digest}"
        assert (await self.ask("POST", path, body=content))[0] == 201
        return digest

    async def put_manifest(self, tag: str, content: bytes, *headers: str) -> Answer:
        path = f"/v2/app/manifests/{tag}"
        return await self.ask("PUT", path, f"Content-Type: {OCI_MANIFEST}", *headers, body=content)

    async def last(self) -> Record:
        await self.registry.settled()
        return self.registry.journal[-1]


@pytest.fixture
async def client(open_wire_peer: OpenWirePeer) -> AsyncIterator[Client]:
    async with open_wire_peer() as peer:
        yield Client(peer, await peer.connect())


def descriptor(content: bytes, media_type: str = "application/octet-stream") -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def image(*layers: bytes, **more: object) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(b"{}"),
        "layers": [descriptor(layer) for layer in layers],
        **more,
    }
    return json.dumps(document).encode()


def code(answer: Answer) -> str:
    return str(json.loads(answer[2])["errors"][0]["code"])


def account(record: Record) -> tuple[int | None, int, int, bool]:
    return record.status, record.bytes_in, record.bytes_out, record.complete


async def test_fault_01_requests_above_a_rate_are_refused_and_retry_after_is_told_in_seconds(
    open_wire_peer: OpenWirePeer,
) -> None:
    clock = ManualClock()
    faults = ["PUT manifest rate_limit rate=10 burst=2 per=client"]
    async with open_wire_peer(faults=faults, clock=clock, sleep=clock.sleep) as peer:
        client = Client(peer, await peer.connect())
        await client.push(b"{}")
        answers = [await client.put_manifest(f"v{n}", image()) for n in range(4)]
        assert [answer[0] for answer in answers] == [201, 201, 429, 429]
        assert (answers[3][1]["retry-after"], code(answers[3])) == ("1", "TOOMANYREQUESTS")
        record = await client.last()
        assert record.fault == "rate_limit"
        assert account(record) == (429, len(image()), len(answers[3][2]), True)
        clock.advance(0.1)
        assert [(await client.put_manifest("v5", image()))[0] for _ in range(2)] == [201, 429]


async def test_fault_01_retry_after_may_be_a_date_or_absent(client: Client) -> None:
    client.registry.faults.add("GET rate_limit rate=0.01 retry_after=date")
    await client.ask("GET", "/v2/")
    _, headers, _ = await client.ask("GET", "/v2/")
    wait = parsedate_to_datetime(headers["retry-after"]) - parsedate_to_datetime(headers["date"])
    assert 95 < wait.total_seconds() <= 102
    client.registry.faults.clear()
    client.registry.faults.add("GET rate_limit rate=0.01 retry_after=none")
    await client.ask("GET", "/v2/")
    status, headers, _ = await client.ask("GET", "/v2/")
    assert status == 429
    assert "retry-after" not in headers


async def test_fault_02_too_many_requests_may_come_as_a_page(client: Client) -> None:
    client.registry.faults.add("manifest status 429 form=html")
    status, headers, body = await client.ask("GET", "/v2/app/manifests/v1")
    assert (status, headers["content-type"]) == (429, "text/html")
    assert b"429 Too Many Requests" in body
    assert account(await client.last()) == (429, 0, len(body), True)


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_fault_03_an_error_before_the_work_leaves_everything_as_it_was(
    client: Client, method: str
) -> None:
    client.registry.faults.add(f"{method} upload first=1 status 503")
    location = await client.start()
    answer = await client.ask(method, f"{location}&digest={DIGEST}", body=CONTENT)
    assert answer[0] == 503
    record = await client.last()
    assert account(record) == (503, len(CONTENT), len(answer[2]), True)
    assert record.fault == "status"
    assert (await client.ask("GET", location))[1]["range"] == "0-0"
    assert (await client.commit(location, body=CONTENT))[0] == 201


async def test_fault_03_an_error_after_the_work_hides_that_it_was_done(client: Client) -> None:
    client.registry.faults.add("PUT upload when=after status 502 form=html")
    answer = await client.commit(await client.start(), body=CONTENT)
    assert (answer[0], answer[1]["content-type"]) == (502, "text/html")
    assert account(await client.last()) == (502, len(CONTENT), len(answer[2]), True)
    assert (await client.ask("HEAD", BLOB))[0] == 200


async def test_fault_03_an_existence_check_may_fail_too(client: Client) -> None:
    client.registry.faults.add("HEAD blob first=1 status 500")
    assert (await client.ask("HEAD", BLOB))[0] == 500
    assert (await client.last()).bytes_out == 0
    assert (await client.ask("HEAD", BLOB))[0] == 404


async def test_fault_04_a_commit_outlasts_the_client_and_the_next_one_finds_no_session(
    open_wire_peer: OpenWirePeer,
) -> None:
    clock = ManualClock()
    async with open_wire_peer(faults=["slow_commit 11s"], clock=clock, sleep=clock.sleep) as peer:
        client = Client(peer, await peer.connect())
        location = await client.start()
        path = f"{location}&digest={DIGEST}"
        await client.wire.send(head("PUT", path, length=len(CONTENT)), CONTENT)
        await peer.until(lambda: clock.sleepers)
        client.wire.reset()  # it has waited long enough
        record = await client.last()
        assert (record.status, record.bytes_in, record.fault) == (None, len(CONTENT), "slow_commit")
        client.wire = await peer.connect()
        answer = await client.ask("PUT", path, body=CONTENT)
        assert (answer[0], code(answer)) == (404, "BLOB_UPLOAD_UNKNOWN")
        assert (await client.ask("HEAD", BLOB))[0] == 200


async def test_fault_04_a_commit_may_be_denied_though_it_was_made(client: Client) -> None:
    client.registry.faults.add("slow_commit then=unknown")
    answer = await client.commit(await client.start(), body=CONTENT)
    assert (answer[0], code(answer)) == (404, "BLOB_UPLOAD_UNKNOWN")
    assert account(await client.last()) == (404, len(CONTENT), len(answer[2]), True)
    assert (await client.ask("HEAD", BLOB))[0] == 200


async def read_to_the_end(wire: Wire) -> tuple[bytes, bool]:
    """Return what comes, and whether the connection ended with a reset."""
    octets = b""
    try:
        while piece := await wire.reader.read(1 << 16):
            octets += piece
    except ConnectionResetError:
        return octets, True
    return octets, False


@pytest.mark.parametrize(("effect", "reset"), [("cut", False), ("limit_data", False)])
@pytest.mark.parametrize("after", [0, 1, 300_000, 999_999])
async def test_fault_05_a_body_ends_in_the_middle(
    client: Client, effect: str, reset: bool, after: int
) -> None:
    await client.push()
    client.registry.faults.add(f"GET blob {effect} {after}")
    await client.wire.send(head("GET", BLOB))
    octets, was_reset = await read_to_the_end(client.wire)
    lines, _, body = octets.partition(b"\r\n\r\n")
    assert lines.startswith(b"HTTP/1.1 200 OK")
    assert b"Content-Length: 1000000" in lines
    assert (body, was_reset) == (CONTENT[:after], reset)
    record = await client.last()
    assert account(record) == (200, 0, after, False)
    assert record.fault == effect


@pytest.mark.parametrize("after", [0, 1, 300_000, 999_999])
async def test_fault_06_a_connection_is_reset_in_the_middle_of_a_body(client: Client, after: int) -> None:
    await client.push()
    client.registry.faults.add(f"GET blob reset {after}")
    await client.wire.send(head("GET", BLOB))
    octets, was_reset = await read_to_the_end(client.wire)
    assert (octets.partition(b"\r\n\r\n")[2], was_reset) == (CONTENT[:after], True)
    record = await client.last()
    assert account(record) == (200, 0, after, False)
    assert record.fault == "reset"


async def test_fault_06_a_reset_waits_for_a_slow_reader_so_that_the_account_holds(client: Client) -> None:
    content = os.urandom(24 << 20)  # more than both sides' buffers hold
    digest = await client.push(content)
    client.registry.faults.add("GET blob reset 20MiB")
    await client.wire.send(head("GET", f"/v2/app/blobs/{digest}"))
    octets, was_reset = await read_to_the_end(client.wire)
    assert (len(octets.partition(b"\r\n\r\n")[2]), was_reset) == (20 << 20, True)
    assert (await client.last()).bytes_out == 20 << 20


async def test_fault_06_an_upload_is_reset_and_what_arrived_is_kept(client: Client) -> None:
    client.registry.faults.add("PATCH upload nth=1 reset 200kB")
    location = await client.start()
    await client.wire.send(head("PATCH", location, length=len(CONTENT)), CONTENT[:300_000])
    assert await read_to_the_end(client.wire) == (b"", True)
    record = await client.last()
    assert account(record) == (None, 200_000, 0, False)
    assert record.fault == "reset"
    client.wire = await client.peer.connect()
    assert (await client.ask("GET", location))[1]["range"] == "0-199999"


RANGES = {
    "ignore": (200, None, CONTENT),
    "shift octets=-10": (206, "bytes 490-999999/1000000", CONTENT[490:]),
    "lie octets=-10": (206, "bytes 500-999999/1000000", CONTENT[490:999_990]),
    "short": (206, "bytes 500-999998/1000000", CONTENT[500:999_999]),
    "bare": (206, None, CONTENT[500:]),
}


@pytest.mark.parametrize("mode", RANGES)
async def test_fault_07_a_range_is_not_what_was_asked_for(client: Client, mode: str) -> None:
    await client.push()
    client.registry.faults.add(f"ranges {mode}")
    status, headers, body = await client.ask("GET", BLOB, "Range: bytes=500-")
    assert (status, headers.get("content-range"), body) == RANGES[mode]
    record = await client.last()
    assert account(record) == (status, 0, len(body), True)
    assert record.fault == "ranges"
    assert (await client.ask("GET", BLOB))[2] == CONTENT
    assert (await client.last()).fault is None


async def test_fault_07_a_range_may_be_refused_or_come_in_parts(client: Client) -> None:
    await client.push()
    with client.registry.faults.add("ranges refuse"):
        status, headers, _ = await client.ask("GET", BLOB, "Range: bytes=500-")
        assert (status, headers["content-range"]) == (416, "bytes */1000000")
    client.registry.faults.add("ranges multipart")
    status, headers, body = await client.ask("GET", BLOB, "Range: bytes=500-599")
    assert (status, headers["content-type"].partition(";")[0]) == (206, "multipart/byteranges")
    boundary = headers["content-type"].partition("boundary=")[2].encode()
    part = body.removeprefix(b"--" + boundary + b"\r\n").removesuffix(b"\r\n--" + boundary + b"--\r\n")
    lines, _, octets = part.partition(b"\r\n\r\n")
    assert b"Content-Range: bytes 500-599/1000000" in lines
    assert octets == CONTENT[500:600]
    assert account(await client.last()) == (206, 0, len(body), True)


async def test_fault_09_a_trickle_is_never_silent_long_enough(open_wire_peer: OpenWirePeer) -> None:
    clock = ManualClock()
    faults = ["GET blob trickle octets=100 every=30s"]
    async with open_wire_peer(faults=faults, clock=clock, sleep=clock.sleep) as peer:
        client = Client(peer, await peer.connect())
        digest = await client.push(CONTENT[:250])
        await client.wire.send(head("GET", f"/v2/app/blobs/{digest}"))
        await client.wire.reader.readuntil(b"\r\n\r\n")
        for expected in (CONTENT[:100], CONTENT[100:200], CONTENT[200:250]):
            assert await client.wire.reader.readexactly(len(expected)) == expected
            await peer.until(lambda: clock.sleepers or len(peer.journal) == 2)
            clock.advance(30)
        assert account(await client.last()) == (200, 0, 250, True)
        assert clock() == 90


async def test_fault_09_a_body_stalls_until_it_is_told_to_go_on(client: Client) -> None:
    await client.push()
    rule = client.registry.faults.add("GET blob stall after=1000")
    await client.wire.send(head("GET", BLOB))
    await client.wire.reader.readuntil(b"\r\n\r\n")
    assert await client.wire.reader.readexactly(1000) == CONTENT[:1000]
    await client.peer.until(lambda: rule.applied)
    assert len(client.peer.journal) == 1
    rule.release()
    assert await client.wire.reader.readexactly(999_000) == CONTENT[1000:]
    assert account(await client.last()) == (200, 0, len(CONTENT), True)


async def test_fault_10_a_token_ends_in_the_middle_of_a_push(open_wire_peer: OpenWirePeer) -> None:
    auth = TokenAuth({"ci": "s3cret"})
    async with open_wire_peer(auth=auth, faults=["PUT manifest nth=1 expire_tokens"]) as peer:
        client = Client(peer, await peer.connect())
        bearing = f"Authorization: Bearer {auth.issue_token('ci', 'repository:app:pull,push')}"
        path = f"{UPLOADS}?digest={digest_of(b'{}')}"
        assert (await client.ask("POST", path, bearing, body=b"{}"))[0] == 201
        answer = await client.put_manifest("v1", image(), bearing)
        assert (answer[0], code(answer)) == (401, "UNAUTHORIZED")
        assert 'error="invalid_token"' in answer[1]["www-authenticate"]
        record = await client.last()
        assert account(record) == (401, len(image()), len(answer[2]), True)
        assert record.fault == "expire_tokens"
        bearing = f"Authorization: Bearer {auth.issue_token('ci', 'repository:app:pull,push')}"
        assert (await client.put_manifest("v1", image(), bearing))[0] == 201


async def test_fault_11_a_token_answer_may_lack_what_clients_look_for(open_wire_peer: OpenWirePeer) -> None:
    bare = TokenAnswer(names=("access_token",), expires_in=False, issued_at=False)
    async with open_wire_peer(auth=TokenAuth({}, anonymous_pull=True, answer=bare)) as peer:
        client = Client(peer, await peer.connect())
        status, _, body = await client.ask("GET", "/token?service=mock-registry&scope=repository:app:pull")
        assert (status, list(json.loads(body))) == (200, ["access_token"])
        assert account(await client.last()) == (200, 0, len(body), True)


@pytest.mark.parametrize("request_", ["POST uploads", "PATCH upload", "PUT upload", "PUT manifest"])
async def test_fault_12_an_answer_lacks_its_location(client: Client, request_: str) -> None:
    client.registry.faults.add(f"{request_} location drop")
    await client.push(b"{}")
    with client.registry.faults.add("other cut"):  # another rule changes nothing
        opened = await client.ask("POST", UPLOADS)
    [session] = client.registry.state.sessions
    patched = await client.ask("PATCH", f"{UPLOADS}{session}", body=CONTENT)
    committed = await client.commit(f"{UPLOADS}{session}?x=y")
    stored = await client.put_manifest("v1", image())
    answers = {
        "POST uploads": opened,
        "PATCH upload": patched,
        "PUT upload": committed,
        "PUT manifest": stored,
    }
    lacking = [name for name, answer in answers.items() if "location" not in answer[1]]
    assert lacking == [request_]
    assert [each.fault for each in client.peer.journal if each.fault] == ["location"] * (
        2 if request_ == "POST uploads" else 1
    )


LOCATIONS = {
    "absolute": "http://registry.example:5000",
    "scheme=https": "https://registry.example:5000",
    "port=0": "http://registry.example",
    "port=8443": "http://registry.example:8443",
    "host=internal.example scheme=https port=0": "https://internal.example",
}


@pytest.mark.parametrize("rewrite", LOCATIONS)
async def test_fault_13_a_location_is_not_where_the_registry_was_reached(
    client: Client, rewrite: str
) -> None:
    client.registry.faults.add(f"POST uploads location {rewrite}")
    location = urlsplit(await client.start())
    assert f"{location.scheme}://{location.netloc}" == LOCATIONS[rewrite]
    assert (await client.last()).fault == "location"
    path = location._replace(scheme="", netloc="").geturl()
    assert (await client.commit(path, body=CONTENT))[0] == 201


async def test_fault_14_an_upload_is_to_be_resumed_at_a_wrong_offset(client: Client) -> None:
    client.registry.faults.add("GET upload upload_range rewind octets=1000")
    location = (await client.ask("PATCH", await client.start(), body=CONTENT[:HALF]))[1]["location"]
    _, headers, _ = await client.ask("GET", location)
    assert headers["range"] == f"0-{HALF - 1001}"
    assert (await client.last()).fault == "upload_range"
    resumed = f"Content-Range: {HALF - 1000}-{len(CONTENT) - 1}"
    status, headers, _ = await client.ask("PATCH", location, resumed, body=CONTENT[HALF - 1000 :])
    assert (status, headers["range"]) == (416, f"0-{HALF - 1}")


async def test_fault_14_a_chunk_may_be_kept_in_part(client: Client) -> None:
    client.registry.faults.add("PATCH upload nth=1 short_accept 300kB")
    location = await client.start()
    status, headers, _ = await client.ask("PATCH", location, "Content-Range: 0-499999", body=CONTENT[:HALF])
    assert (status, headers["range"]) == (202, "0-299999")
    record = await client.last()
    assert account(record) == (202, HALF, 0, True)
    assert record.fault == "short_accept"
    rest = CONTENT[300_000:]
    status, headers, _ = await client.ask(
        "PATCH", headers["location"], "Content-Range: 300000-999999", body=rest
    )
    assert status == 202
    assert (await client.commit(headers["location"]))[0] == 201


async def test_fault_15_a_retry_from_the_first_octet_is_out_of_order(client: Client) -> None:
    location = await client.start()
    first = "Content-Range: 0-499999"
    _, headers, _ = await client.ask("PATCH", location, first, body=CONTENT[:HALF])
    answer = await client.ask("PATCH", headers["location"], first, body=CONTENT[:HALF])
    assert (answer[0], code(answer), answer[1]["range"]) == (416, "BLOB_UPLOAD_INVALID", "0-499999")
    assert account(await client.last()) == (416, HALF, len(answer[2]), True)


async def test_fault_16_an_upload_that_was_broken_off_is_forgotten(client: Client) -> None:
    client.registry.faults.add("PATCH upload forget_sessions own on=abort")
    location = await client.start()
    await client.wire.send(head("PATCH", location, length=len(CONTENT)), CONTENT[:200_000])
    await client.peer.reading(200_000)
    client.wire.reset()
    record = await client.last()
    assert account(record) == (None, 200_000, 0, False)
    assert record.fault == "forget_sessions"
    client.wire = await client.peer.connect()
    answer = await client.ask("GET", location)
    assert (answer[0], code(answer)) == (404, "BLOB_UPLOAD_UNKNOWN")


async def test_fault_17_the_range_of_a_session_stands_still_at_its_first_chunk(client: Client) -> None:
    client.registry.faults.add("PATCH upload upload_range stale")
    location = await client.start()
    ranges = []
    for start in range(0, len(CONTENT), 250_000):
        _, headers, _ = await client.ask("PATCH", location, body=CONTENT[start : start + 250_000])
        location = headers["location"]
        ranges.append(headers["range"])
    assert ranges == ["0-249999"] * 4
    assert [each.fault for each in client.peer.journal][1:] == [None, *["upload_range"] * 3]
    assert (await client.commit(location))[0] == 201


@pytest.mark.parametrize("status", [201, 204])
async def test_fault_18_a_chunk_is_answered_with_another_success(client: Client, status: int) -> None:
    client.registry.faults.add(f"PATCH upload status {status} keep=true")
    answer = await client.ask("PATCH", await client.start(), body=CONTENT)
    assert (answer[0], answer[1]["range"]) == (status, "0-999999")
    assert account(await client.last()) == (status, len(CONTENT), 0, True)
    assert (await client.commit(answer[1]["location"]))[0] == 201


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_fault_19_a_chunk_above_the_cap_is_refused_with_416(client: Client, framing: str) -> None:
    client.registry.faults.add(
        "PATCH upload body_limit 400kB status=416 form=json error=SIZE_INVALID drain=yes"
    )
    location = await client.start()
    if framing == "length":
        answer = await client.ask("PATCH", location, body=CONTENT)
    else:
        await client.wire.send(head("PATCH", location, "Transfer-Encoding: chunked"), b"f4240\r\n", CONTENT)
        answer = await client.wire.ask(b"\r\n0\r\n\r\n")
    assert (answer[0], code(answer)) == (416, "SIZE_INVALID")
    assert account(await client.last()) == (416, len(CONTENT), len(answer[2]), True)
    assert (await client.ask("PATCH", location, body=CONTENT[:400_000]))[0] in (202, 416)


async def test_fault_20_a_proxy_refuses_a_large_body_at_once_and_with_a_page(client: Client) -> None:
    client.registry.faults.add("PUT upload body_limit 100kB")
    path = f"{await client.start()}&digest={DIGEST}"
    answer = await client.wire.ask(head("PUT", path, length=len(CONTENT)))
    assert (answer[0], answer[1]["content-type"], answer[1]["connection"]) == (413, "text/html", "close")
    record = await client.last()
    assert account(record) == (413, 0, len(answer[2]), False)
    assert record.fault == "body_limit"


async def test_fault_21_the_end_of_a_range_is_off_by_one(client: Client) -> None:
    client.registry.faults.add("PATCH upload upload_range ahead octets=1")
    _, headers, _ = await client.ask("PATCH", await client.start(), body=CONTENT)
    assert headers["range"] == "0-1000000"
    assert (await client.last()).fault == "upload_range"


@pytest.mark.parametrize(("told", "seen"), [("0--1", "0--1"), ("missing", None)])
async def test_fault_22_the_range_of_an_empty_session_is_told_in_other_ways(
    client: Client, told: str, seen: str | None
) -> None:
    client.registry.faults.add(f"upload_range empty={told}")
    location = await client.start()
    assert (await client.last()).fault == "upload_range"
    status, headers, _ = await client.ask("GET", location)
    assert (status, headers.get("range")) == (204, seen)
    assert (await client.ask("PATCH", location, body=b"x"))[1]["range"] == "0-0"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_fault_23_blobs_are_redirected_to_a_host_that_wants_no_credentials(
    client: Client, method: str
) -> None:
    await client.push()
    client.registry.faults.add("blob redirect 307")
    status, headers, body = await client.ask(method, BLOB)
    assert (status, body) == (307, b"")
    assert account(await client.last()) == (307, 0, 0, True)
    location = urlsplit(headers["location"])
    assert location.port not in (None, client.peer.server.port)
    other = type(client.wire)(*await asyncio.open_connection("127.0.0.1", location.port))
    target = f"{location.path}?{location.query}"
    with_credentials = head(method, target, "Authorization: Bearer x")
    refused = await other.ask(with_credentials, method=method)
    assert refused[0] == 400
    assert b"Only one auth mechanism allowed" in refused[2] or method == "HEAD"
    served = await other.ask(head(method, target), method=method)
    assert (served[0], served[1]["content-length"]) == (200, "1000000")
    assert "docker-content-digest" not in served[1]
    record = await client.last()
    assert (record.route, record.repository, record.digest) == ("blob", "app", DIGEST)
    assert record.bytes_out == (len(CONTENT) if method == "GET" else 0)
    assert (await other.ask(head(method, target[:-1]), method=method))[0] == 403
    other.writer.close()


@pytest.mark.parametrize("status", [401, 403])
async def test_fault_24_a_mount_is_refused_in_place_of_a_session(client: Client, status: int) -> None:
    await client.push(repository="base")
    client.registry.faults.add(f"POST uploads query=mount status {status}")
    answer = await client.ask("POST", f"{UPLOADS}?mount={DIGEST}&from=base")
    assert answer[0] == status
    record = await client.last()
    assert (record.status, record.fault, record.bytes_out) == (status, "status", len(answer[2]))
    assert await client.start()


@pytest.mark.parametrize("status", [400, 404, 500])
async def test_fault_25_the_second_of_two_pushers_of_one_blob_fails(client: Client, status: int) -> None:
    client.registry.faults.add(f"PUT upload collide {status}")
    first, second = await client.start(), await client.start()
    await client.wire.send(head("PUT", f"{first}&digest={DIGEST}", length=len(CONTENT)), CONTENT[:HALF])
    await client.peer.reading(HALF)
    other = Client(client.peer, await client.peer.connect())
    answer = await other.commit(second, body=CONTENT)
    assert answer[0] == status
    assert client.peer.journal[-1].fault == "collide"
    assert account(client.peer.journal[-1]) == (status, len(CONTENT), len(answer[2]), True)
    assert (await client.wire.ask(CONTENT[HALF:]))[0] == 201
    assert (await other.commit(second, body=CONTENT))[0] == 201


async def test_fault_25_who_pushes_what_is_there_may_fail_too(client: Client) -> None:
    client.registry.faults.add("collide 500 scope=stored")
    await client.push()
    assert (await client.commit(await client.start(), body=CONTENT))[0] == 500


async def test_fault_26_a_manifest_right_after_its_blobs_is_refused(open_wire_peer: OpenWirePeer) -> None:
    clock = ManualClock()
    async with open_wire_peer(faults=["lag 2s"], clock=clock, sleep=clock.sleep) as peer:
        client = Client(peer, await peer.connect())
        await client.push(b"{}")
        await client.push()
        manifest = image(CONTENT)
        assert (await client.ask("HEAD", BLOB))[0] == 200
        answer = await client.put_manifest("v1", manifest)
        assert (answer[0], code(answer)) == (400, "MANIFEST_BLOB_UNKNOWN")
        record = await client.last()
        assert account(record) == (400, len(manifest), len(answer[2]), True)
        assert record.fault == "lag"
        clock.advance(2)
        assert (await client.put_manifest("v1", manifest))[0] == 201


async def test_fault_26_what_was_pushed_may_not_be_seen_by_anyone(open_wire_peer: OpenWirePeer) -> None:
    clock = ManualClock()
    async with open_wire_peer(faults=["lag 2s heads=yes"], clock=clock, sleep=clock.sleep) as peer:
        client = Client(peer, await peer.connect())
        await client.push()
        assert (await client.ask("HEAD", BLOB))[0] == 404
        clock.advance(2)
        assert (await client.ask("HEAD", BLOB))[0] == 200


@pytest.mark.parametrize("status", [500, 507])
async def test_fault_27_a_full_disk_gives_an_error_while_all_seems_well(client: Client, status: int) -> None:
    client.registry.faults.add(f"quota 600kB status={status}")
    await client.push(CONTENT[:400_000])
    answer = await client.commit(await client.start(), body=CONTENT)
    assert answer[0] == status
    record = await client.last()
    assert account(record) == (status, len(CONTENT), len(answer[2]), True)
    assert record.fault == "quota"
    assert (await client.ask("GET", "/v2/"))[0] == 200
    [session] = client.registry.state.sessions.values()
    assert session.size == 200_000


async def test_fault_27_a_full_disk_may_hang_or_free_what_was_taken(client: Client) -> None:
    with client.registry.faults.add("quota 600kB frees=yes status=403 error=DENIED"):
        answer = await client.commit(await client.start(), body=CONTENT)
        assert (answer[0], code(answer)) == (403, "DENIED")
        assert not client.registry.state.sessions
    rule = client.registry.faults.add("quota 600kB hang=yes")
    location = await client.start()
    await client.wire.send(head("PATCH", location, length=len(CONTENT)), CONTENT)
    await client.peer.until(lambda: rule.applied)
    before = len(client.peer.journal)
    assert (await Client(client.peer, await client.peer.connect()).ask("GET", "/v2/"))[0] == 200
    assert len(client.peer.journal) == before + 1
    rule.release()
    assert (await client.wire.response())[0] == 500


async def test_fault_28_every_other_replica_knows_nothing_of_a_session(client: Client) -> None:
    client.registry.faults.add("replicas 2")
    location = await client.start()  # replica 0
    answers = [await client.ask("GET", location) for _ in range(4)]
    assert [answer[0] for answer in answers] == [404, 204, 404, 204]
    assert code(answers[0]) == "BLOB_UPLOAD_UNKNOWN"
    faults = [each.fault for each in client.peer.journal]
    assert faults == [None, "replicas", None, "replicas", None]


async def test_fault_29_an_existence_check_is_not_answered_as_it_should_be(client: Client) -> None:
    await client.push()
    for status in (404, 405, 403):
        with client.registry.faults.add(f"lie absent status={status}"):
            assert (await client.ask("HEAD", BLOB))[0] == status
            assert (await client.last()).fault == "lie"
            assert (await client.ask("GET", BLOB))[0] == 200
    with client.registry.faults.add("lie digest=missing length=missing"):
        status, headers, _ = await client.ask("HEAD", BLOB)
        assert status == 200
        assert not headers.keys() & {"docker-content-digest", "content-length", "transfer-encoding"}
    with client.registry.faults.add("lie digest=wrong length=wrong"):
        _, headers, _ = await client.ask("HEAD", BLOB)
        assert headers["docker-content-digest"] == "sha256:" + "0" * 64
        assert headers["content-length"] == "1000001"
    assert account(await client.last()) == (200, 0, 0, True)
    with client.registry.faults.add("lie exists octets=7"):
        absent = digest_of(b"absent")
        status, headers, _ = await client.ask("HEAD", f"/v2/app/blobs/{absent}")
        assert (status, headers["content-length"], headers["docker-content-digest"]) == (200, "7", absent)
        assert (await client.ask("GET", f"/v2/app/blobs/{absent}"))[0] == 404


REFERRERS = {
    "absent": (404, "text/plain; charset=utf-8"),
    "unacceptable": (406, None),
    "empty": (200, "application/vnd.oci.image.index.v1+json"),
    "page": (200, "text/html"),
    "fallback-is-subject": (404, "text/plain; charset=utf-8"),
}


@pytest.mark.parametrize("mode", REFERRERS)
async def test_fault_30_referrers_are_not_known_in_one_of_many_ways(client: Client, mode: str) -> None:
    client.registry.faults.add(f"no_referrers {mode}")
    await client.push(b"{}")
    subject = image()
    await client.put_manifest("v1", subject)
    referrer = image(subject=descriptor(subject, OCI_MANIFEST))
    _, headers, _ = await client.put_manifest("sig", referrer)
    assert ("oci-subject" in headers) is (mode in ("empty", "page"))
    status, headers, body = await client.ask("GET", f"/v2/app/referrers/{digest_of(subject)}")
    assert (status, headers.get("content-type")) == REFERRERS[mode]
    record = await client.last()
    assert account(record) == (status, 0, len(body), True)
    assert record.fault == "no_referrers"
    if mode == "empty":
        assert json.loads(body)["manifests"] == []
    status, _, body = await client.ask("GET", f"/v2/app/manifests/{digest_of(subject).replace(':', '-')}")
    assert (status, body == subject) == ((200, True) if mode == "fallback-is-subject" else (404, False))


async def walk(client: Client, path: str) -> tuple[list[str], list[str]]:
    """Return all tags, page by page, and the links on the way."""
    tags: list[str] = []
    links: list[str] = []
    while path:
        status, headers, body = await client.ask("GET", path)
        assert status == 200
        tags += json.loads(body)["tags"]
        link = headers.get("link", "")
        links += [link] if link else []
        path = link.partition(";")[0].strip("<>").removeprefix("http://registry.example:5000")
    return tags, links


PAGES = {
    "bare": '/v2/app/tags/list?n=2&last=b; rel="next"',
    "unquoted": "</v2/app/tags/list?n=2&last=b>; rel=next",
    "absolute": '<http://registry.example:5000/v2/app/tags/list?n=2&last=b>; rel="next"',
}


@pytest.mark.parametrize("style", [*PAGES, "opaque"])
async def test_fault_31_the_next_page_is_linked_as_nobody_should(client: Client, style: str) -> None:
    await client.push(b"{}")
    for tag in "abcde":
        await client.put_manifest(tag, image())
    client.registry.faults.add(f"paging {style} size=2")
    tags, links = await walk(client, "/v2/app/tags/list")
    assert tags == list("abcde")
    assert len(links) == 2
    if style == "opaque":
        assert "last" not in links[0]
        assert links[0].startswith("</v2/app/tags/list?next_page=")
    else:
        assert links[0] == PAGES[style]
    assert [each.fault for each in client.peer.journal][-3:-1] == ["paging", "paging"]


async def test_fault_31_more_may_not_be_linked_at_all_and_nothing_may_be_null(client: Client) -> None:
    await client.push(b"{}")
    client.registry.faults.add("paging none size=1 null=yes")
    assert json.loads((await client.ask("GET", "/v2/app/tags/list"))[2])["tags"] is None
    for tag in "ab":
        await client.put_manifest(tag, image())
    _, headers, body = await client.ask("GET", "/v2/app/tags/list")
    assert (json.loads(body)["tags"], headers.get("link")) == (["a"], None)


async def test_fault_32_a_proxy_adds_an_encoding(client: Client) -> None:
    await client.push()
    with client.registry.faults.add("encode x-gzip"):
        _, headers, body = await client.ask("GET", BLOB)
        assert (headers["content-encoding"], body) == ("x-gzip", CONTENT)
        assert (await client.last()).fault == "encode"
    client.registry.faults.add("blob encode gzip compress=yes")
    await client.wire.send(head("GET", BLOB, "Connection: close"))
    octets = await client.wire.rest()
    lines = octets.partition(b"\r\n\r\n")[0]
    assert b"Content-Encoding: gzip" in lines
    assert b"Transfer-Encoding: chunked" in lines
    record = await client.last()
    assert record.complete
    assert len(CONTENT) < record.bytes_out < len(octets)


async def test_fault_33_a_blob_is_collected_between_its_check_and_its_manifest(client: Client) -> None:
    client.registry.faults.add("HEAD blob collect")
    await client.push(b"{}")
    await client.push()
    assert (await client.ask("HEAD", BLOB))[0] == 200
    assert (await client.last()).fault == "collect"
    answer = await client.put_manifest("v1", image(CONTENT))
    assert (answer[0], code(answer)) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert (await client.ask("HEAD", BLOB))[0] == 404


async def test_fault_33_blobs_are_collected_under_the_manifest_that_arrives(client: Client) -> None:
    client.registry.faults.add("PUT manifest times=1 collect")
    await client.push(b"{}")
    answer = await client.put_manifest("v1", image())
    assert (answer[0], code(answer)) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert account(await client.last()) == (400, len(image()), len(answer[2]), True)


@pytest.mark.parametrize("status", [400, 403, 409, 412])
async def test_fault_34_a_tag_cannot_be_moved_even_to_where_it_is(client: Client, status: int) -> None:
    client.registry.faults.add(f"immutable strict status={status} error=TAG_IMMUTABLE")
    await client.push(b"{}")
    assert (await client.put_manifest("v1", image()))[0] == 201
    answer = await client.put_manifest("v1", image())
    assert (answer[0], code(answer)) == (status, "TAG_IMMUTABLE")
    record = await client.last()
    assert account(record) == (status, len(image()), len(answer[2]), True)
    assert record.fault == "immutable"
    assert (await client.put_manifest("v2", image()))[0] == 201


async def test_fault_34_a_tag_may_be_put_again_where_it_is(client: Client) -> None:
    client.registry.faults.add("immutable same-digest-ok")
    await client.push(b"{}")
    answers = [(await client.put_manifest("v1", each))[0] for each in (image(), image(), image(x=1))]
    assert answers == [201, 201, 409]
