"""The server over TLS, octet by octet: what stays as it is without, and what TLS does not allow."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import ssl
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from mock_registry import MockRegistry
from mock_registry.auth import BasicAuth
from mock_registry.server import Limits
from mock_registry.server.limits import Patience
from mock_registry.tls import SELF_SIGNED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from mock_registry.server import Server

pytestmark = pytest.mark.anyio

BASE = b"GET /v2/ HTTP/1.1\r\nHost: r\r\n\r\n"


async def until(true: Callable[[], object]) -> None:
    """Let others run until something is so; what never becomes so ends with the test run's own deadline."""
    while not true():  # noqa: ASYNC110 (what is waited for tells nobody when it happens)
        await asyncio.sleep(0)


class Tls:
    """A client's side of TLS, of which the test decides when each octet goes out."""

    def __init__(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = peer.context.wrap_bio(self._in, self._out, server_hostname="127.0.0.1")
        self._plain = b""
        self.goodbye = False

    async def _feed(self) -> None:
        data = await self.reader.read(1 << 16)
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()

    def encode(self, data: bytes) -> bytes:
        """Return what must go out for the other side to get the data."""
        self._tls.write(data)
        return self._out.read()

    def encode_goodbye(self) -> bytes:
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        return self._out.read()

    async def shake_hands(self, *, hold: bool = False) -> bytes:
        """Do it; with ``hold``, return the last octets, which are not sent."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self.writer.write(self._out.read())
                await self._feed()
            else:
                break
        if not hold:
            self.writer.write(self._out.read())
        return self._out.read()

    async def send(self, data: bytes) -> None:
        self.writer.write(self.encode(data))
        await self.writer.drain()

    async def read(self) -> bytes:
        """Return some octets; nothing at the other side's goodbye.

        Raises:
            ssl.SSLEOFError: It left without one.
        """
        while True:
            try:
                data = self._tls.read(1 << 16)
            except ssl.SSLWantReadError:
                await self._feed()
            except ssl.SSLZeroReturnError:
                data = b""
                break
            else:
                break
        self.goodbye = not data
        return data

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        while b"\r\n\r\n" not in self._plain:
            self._plain += await self._some()
        head, _, self._plain = self._plain.partition(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in lines)}
        length = int(headers.get("content-length", "0"))
        while len(self._plain) < length:
            self._plain += await self._some()
        body, self._plain = self._plain[:length], self._plain[length:]
        return int(line.split(" ")[1]), headers, body

    async def _some(self) -> bytes:
        data = await self.read()
        assert data, "the other side said goodbye instead"
        return data

    async def ask(self, data: bytes) -> tuple[int, dict[str, str], bytes]:
        await self.send(data)
        return await self.response()

    def reset(self) -> None:
        found = self.writer.get_extra_info("socket")
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Peer:
    """A registry over TLS, and connections to it."""

    def __init__(self, registry: MockRegistry, server: Server) -> None:
        self.registry = registry
        self.server = server
        self.journal = registry.journal
        self.context = ssl.create_default_context(cafile=server.ca)
        self._writers: list[asyncio.StreamWriter] = []

    async def reach(self) -> Tls:
        """Connect, and say nothing yet."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        self._writers.append(writer)
        return Tls(self, reader, writer)

    async def connect(self) -> Tls:
        wire = await self.reach()
        await wire.shake_hands()
        return wire

    async def session(self) -> bytes:
        """Open an upload session and return the path of its location."""
        wire = await self.connect()
        _, headers, _ = await wire.ask(b"POST /v2/app/blobs/uploads/ HTTP/1.1\r\nHost: r\r\n\r\n")
        return headers["location"].encode()

    async def arrived(self, count: int) -> None:
        """Wait until the server holds so many octets of a body that is not whole."""
        await until(
            lambda: any(
                each.requests.reading and each.requests.received >= count for each in self.server.connections
            )
        )

    def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


@asynccontextmanager
async def serving(limits: Limits | None = None, **settings: Any) -> AsyncIterator[Peer]:
    registry = MockRegistry(**settings)
    async with registry.serve(tls=SELF_SIGNED, limits=limits) as server:
        peer = Peer(registry, server)
        try:
            yield peer
        finally:
            peer.close()


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with serving() as peer:
        yield peer


async def push(peer: Peer, content: bytes) -> str:
    """Push a blob in one request, and return its digest."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    head = b"POST /v2/app/blobs/uploads/?digest=%b HTTP/1.1\r\nHost: r\r\nContent-Length: %d\r\n\r\n"
    wire = await peer.connect()
    assert (await wire.ask(head % (digest.encode(), len(content)) + content))[0] == 201
    return digest


def patch(location: bytes, length: int) -> bytes:
    return b"PATCH %b HTTP/1.1\r\nHost: r\r\nContent-Length: %d\r\n\r\n" % (location, length)


async def test_a_connection_serves_many_requests_and_those_sent_ahead_in_order(peer: Peer) -> None:
    wire = await peer.connect()
    for _ in range(3):
        assert (await wire.ask(BASE))[0] == 200
    await wire.send(BASE + BASE.replace(b"/v2/", b"/v3/") + BASE)
    assert [(await wire.response())[0] for _ in range(3)] == [200, 404, 200]
    assert len(peer.server.connections) == 1


async def test_a_request_may_come_in_one_piece_with_the_end_of_the_handshake(peer: Peer) -> None:
    wire = await peer.reach()
    last = await wire.shake_hands(hold=True)
    wire.writer.write(last + wire.encode(BASE))
    assert (await wire.response())[0] == 200


async def test_a_request_may_even_come_with_the_goodbye_and_is_accounted_for(peer: Peer) -> None:
    wire = await peer.reach()
    last = await wire.shake_hands(hold=True)
    wire.writer.write(last + wire.encode(BASE) + wire.encode_goodbye())
    await until(lambda: len(peer.journal))
    [record] = peer.journal
    assert (record.target, record.complete, record.bytes_out) == ("/v2/", False, 0)


async def test_a_request_may_come_octet_by_octet(peer: Peer) -> None:
    wire = await peer.connect()
    for octet in BASE:
        await wire.send(bytes([octet]))
    assert (await wire.response())[0] == 200


async def test_the_server_says_goodbye_after_the_last_response(peer: Peer) -> None:
    wire = await peer.connect()
    status, headers, _ = await wire.ask(BASE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert (status, headers["connection"]) == (200, "close")
    assert await wire.read() == b""
    assert wire.goodbye


@pytest.mark.parametrize(
    "octets",
    [
        BASE,
        b"\x16\x03\x01",
        bytes(64),
        b"\x16\x03\x01\x00\x05hello",
        b"SSH-2.0-x\r\n",
        b"\x80\x2e\x01\x00\x02" + bytes(60),
        b"\x16\x03\x01\xff\xff" + bytes(100_000),
    ],
)
async def test_who_does_not_speak_tls_is_left_and_nobody_else_notices(peer: Peer, octets: bytes) -> None:
    stranger = await peer.reach()
    stranger.writer.write(octets)
    if len(octets) > 3:
        with contextlib.suppress(ConnectionError):
            assert b"HTTP" not in await stranger.reader.read()
    else:
        stranger.reset()
    await until(lambda: not peer.server.handshakes)
    wire = await peer.connect()
    assert (await wire.ask(BASE))[0] == 200
    assert len(peer.journal) == 1


async def test_who_leaves_in_the_middle_of_the_handshake_leaves_nothing_behind(peer: Peer) -> None:
    wire = await peer.reach()
    with contextlib.suppress(ssl.SSLWantReadError):
        wire._tls.do_handshake()
    wire.writer.write(wire._out.read())
    await wire.reader.read(1)
    wire.reset()
    await until(lambda: not peer.server.handshakes)
    assert (len(peer.journal), len(peer.server.connections)) == (0, 0)


async def test_who_never_begins_the_handshake_is_cut_off_in_the_time_for_a_head() -> None:
    async with serving(Limits(head_time=0.01)) as peer:
        wire = await peer.reach()
        with contextlib.suppress(ConnectionError):
            assert await wire.reader.read() == b""
        assert not peer.server.handshakes


async def test_a_server_that_stops_waits_for_no_handshake() -> None:
    async with serving(Limits(head_time=3600)) as peer:
        wire = await peer.reach()
        await until(lambda: peer.server.handshakes)
        async with asyncio.timeout(30):
            await peer.server.stop()
        assert not peer.server.handshakes
        with contextlib.suppress(ConnectionError):
            assert await wire.reader.read() == b""


async def test_a_server_that_stops_says_goodbye_to_who_is_idle_and_does_not_wait_for_theirs() -> None:
    async with serving(Limits(stop_time=3600, linger_time=3600)) as peer:
        wires = [await peer.connect() for _ in range(3)]
        for wire in wires:
            assert (await wire.ask(BASE))[0] == 200
        async with asyncio.timeout(30):
            await peer.server.stop()
        assert not peer.server.connections
        for wire in wires:
            assert await wire.read() == b""


async def test_a_server_that_stops_lets_a_request_finish() -> None:
    async with serving() as peer:
        location = await peer.session()
        wire = await peer.connect()
        await wire.send(patch(location, 10) + b"12345")
        await peer.arrived(5)
        stopping = asyncio.ensure_future(peer.server.stop())
        await until(lambda: peer.server.stopping)
        status, headers, _ = await wire.ask(b"67890")
        assert (status, headers["range"], headers["connection"]) == (202, "0-9", "close")
        assert await wire.read() == b""
        await stopping


async def test_idle_connections_are_closed_with_a_goodbye() -> None:
    async with serving(Limits(idle_time=0.01)) as peer:
        wire = await peer.connect()
        await until(lambda: peer.server.connections)
        peer.server.check_patience(float("inf"))
        assert await wire.read() == b""


@pytest.mark.parametrize("end", ["goodbye", "end", "reset"])
async def test_a_body_cut_short_is_accounted_for_and_kept_however_it_ended(peer: Peer, end: str) -> None:
    location = await peer.session()
    wire = await peer.connect()
    await wire.send(patch(location, 1000) + bytes(600))
    await peer.arrived(600)
    match end:
        case "goodbye":
            wire.writer.write(wire.encode_goodbye())
        case "end":
            wire.writer.write_eof()
        case "reset":
            wire.reset()
    await until(lambda: len(peer.journal) == 2)
    record = peer.journal[-1]
    assert (record.bytes_in, record.bytes_out, record.complete) == (600, 0, False)
    again = await peer.connect()
    path = location.partition(b"?")[0]
    _, headers, _ = await again.ask(b"GET %b HTTP/1.1\r\nHost: r\r\n\r\n" % path)
    assert headers["range"] == "0-599"


async def test_a_goodbye_ends_both_directions_so_that_a_half_closed_peer_gets_no_answer(peer: Peer) -> None:
    location = await peer.session()
    wire = await peer.connect()
    wire.writer.write(wire.encode(patch(location, 5) + b"1234") + wire.encode_goodbye())
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        assert await wire.read() == b""
    await until(lambda: len(peer.journal) == 2)
    assert (peer.journal[-1].bytes_in, peer.journal[-1].bytes_out) == (4, 0)


async def test_a_peer_that_does_not_read_holds_the_registry_back(peer: Peer) -> None:
    size = 64 << 20
    wire = await peer.connect()
    digest = await push(peer, bytes(size))
    await wire.send(b"GET /v2/app/blobs/%b HTTP/1.1\r\nHost: r\r\n\r\n" % digest.encode())
    await until(lambda: any(each.awaited is Patience.WRITE for each in peer.server.connections))
    await asyncio.sleep(0)
    wire.reset()
    await until(lambda: len(peer.journal) == 2)
    record = peer.journal[-1]
    assert not record.complete
    assert 0 < record.bytes_out < size // 2


async def test_a_registry_that_does_not_read_holds_the_peer_back() -> None:
    async with serving(Limits(body_held=1 << 16)) as peer:
        location = await peer.session()
        session = next(iter(peer.registry.state.sessions.values()))
        async with session.hold(1):
            wire = await peer.connect()
            await wire.send(patch(location, 64 << 20))
            sent = 0
            block = bytes(1 << 20)
            while sent < 64 << 20 and wire.writer.transport.get_write_buffer_size() < 1 << 20:
                wire.writer.write(wire.encode(block))
                sent += len(block)
                for _ in range(10):
                    await asyncio.sleep(0)
            assert sent < 64 << 20
            [body] = filter(None, [each.requests.reading for each in peer.server.connections])
            assert body.share.waiting < 4 << 20
        while sent < 64 << 20:
            await wire.send(block)
            sent += len(block)
        status, headers, _ = await wire.response()
        assert (status, headers["range"]) == (202, f"0-{sent - 1}")


async def test_an_answer_reaches_a_peer_that_is_still_sending() -> None:
    auth = BasicAuth({"ci": "s3cret"})
    async with serving(auth=auth, drain_limit=0) as peer:
        wire = await peer.connect()
        length = 32 << 20
        await wire.send(
            b"PUT /v2/app/manifests/v1 HTTP/1.1\r\nHost: r\r\nContent-Length: %d\r\n\r\n" % length
        )
        for _ in range(16):
            await wire.send(bytes(1 << 20))
        status, headers, body = await wire.response()
        assert (status, headers["connection"]) == (401, "close")
        assert b"UNAUTHORIZED" in body


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /v2/ HTTP/1.1\r\n\r\n", 400),
        (b"BREW /v2/ HTTP/1.1\r\nHost: r\r\n\r\n", 501),
        (BASE[:-2] + b"X: " + bytes(199_999).replace(b"\0", b"x"), 431),
        (b"GET /v2/?password=s3cret HTTP/1.1\r\nHost: r\r\nHost: r\r\n\r\n", 400),
    ],
)
async def test_a_bad_head_is_answered_and_the_journal_keeps_no_secret_of_it(
    peer: Peer, head: bytes, status: int
) -> None:
    wire = await peer.connect()
    assert (await wire.ask(head))[0] == status
    wire.writer.write(wire.encode_goodbye())
    await until(lambda: not peer.server.connections)
    [record] = peer.journal
    assert record.status == status
    assert "s3cret" not in record.target
