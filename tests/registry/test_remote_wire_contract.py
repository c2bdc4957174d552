"""What every transport must do, the project's own and httpx's, plain and through TLS.

Against raw servers: the octets of requests, every framing of answers, and the class of every failure. Where
httpx's own falls short of this, the test says so and is run over the project's sockets alone.
"""

from __future__ import annotations

import asyncio
import gzip
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from tests.registry.conftest import Link, Peer

    Serve = Callable[..., AbstractAsyncContextManager[Peer]]
    Cut = Callable[[asyncio.StreamWriter], None]

pytestmark = pytest.mark.anyio
OWN = pytest.mark.parametrize("link", ["sockets", "sockets, TLS"], indirect=True)

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
NOTHING = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
BIG = bytes(range(256)) * 65536  # 16 MiB: more than sockets hold


class Pieces(httpx.AsyncByteStream):
    """A request's body."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            self.taken += 1
            yield piece


def request(
    peer: Peer,
    method: str = "GET",
    target: bytes = b"/v2/",
    headers: Sequence[tuple[str, str]] = (),
    body: httpx.AsyncByteStream | None = None,
    **timeout: float,
) -> httpx.Request:
    # The target differs from the URL on purpose: it must be what is sent.
    return httpx.Request(
        method,
        f"{peer.url}/v2/",
        headers=[("Host", peer.host), *headers],
        stream=body or Pieces(),
        extensions={"target": target, "timeout": timeout},
    )


@asynccontextmanager
async def answer(network: httpx.AsyncBaseTransport, asked: httpx.Request) -> AsyncIterator[httpx.Response]:
    response = await network.handle_async_request(asked)
    try:
        yield response
    finally:
        await response.aclose()


async def read(response: httpx.Response, pieces: list[bytes] | None = None) -> bytes:
    """Read a body; `pieces` has what came even if the rest does not."""
    got = [] if pieces is None else pieces
    async for piece in response.aiter_raw():
        got.append(piece)
    return b"".join(got)


async def ask(link: Link, asked: httpx.Request) -> tuple[httpx.Response, bytes]:
    async with link.network() as network, answer(network, asked) as response:
        return response, await read(response)


# Requests.


@pytest.mark.parametrize(
    "target",
    [
        b"/v2/a%2Fb/%7Eu/%c3?_state=a%3D%3D&x=a%2Fb+c~",
        b"/v2/?q='*\"<>|^`{}&&=\\",
        b"/v2//a/../b/./c?",
        b"/v2/x?digest=sha256:00&a;b=c,d@e!$()",
        b"/v2/?%zz%",
    ],
)
async def test_the_target_goes_out_byte_for_byte(target: bytes, link: Link, serve: Serve) -> None:
    async with serve(NOTHING) as peer:
        await ask(link, request(peer, target=target))
    assert peer.requests[0].startswith(b"GET " + target + b" HTTP/1.1\r\n")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"])
async def test_headers_go_out_as_they_are_given_and_none_is_added(
    method: str, link: Link, serve: Serve
) -> None:
    headers = [("X-One", "1"), ("aCCEPT", "a/b, c/d;q=0.1"), ("x-one", "two  words"), ("Content-Length", "0")]
    async with serve(NOTHING) as peer:
        await ask(link, request(peer, method, headers=headers))
    lines = peer.requests[0].split(b"\r\n")
    assert lines == [
        method.encode() + b" /v2/ HTTP/1.1",
        b"Host: " + peer.host.encode(),
        b"X-One: 1",
        b"aCCEPT: a/b, c/d;q=0.1",
        b"x-one: two  words",
        b"Content-Length: 0",
        b"",
        b"",
    ]


@pytest.mark.parametrize("pieces", [(), (b"x",), (b"ab", b"", b"c" * 100_000, b"d"), (BIG[: 3 << 20],) * 3])
async def test_a_body_of_known_length_goes_out_whole(
    pieces: tuple[bytes, ...], link: Link, serve: Serve
) -> None:
    whole = b"".join(pieces)
    async with serve(NOTHING) as peer:
        headers = [("Content-Length", str(len(whole)))]
        await ask(link, request(peer, "PUT", headers=headers, body=Pieces(*pieces)))
    assert peer.bodies == [whole]
    assert b"transfer-encoding" not in peer.requests[0].lower()


async def test_a_body_goes_out_in_chunks_if_asked_for(link: Link, serve: Serve) -> None:
    received = []

    async def unchunk(reader: Reader, writer: Writer) -> None:
        while size := int(await reader.readline(), 16):
            received.append(await reader.readexactly(size))
            assert await reader.readexactly(2) == b"\r\n"
        assert await reader.readexactly(2) == b"\r\n"
        writer.write(NOTHING)

    async with serve(unchunk) as peer:
        body = Pieces(b"abc", b"", b"d" * 70_000)
        headers = [("Transfer-Encoding", "chunked")]
        response, _ = await ask(link, request(peer, "PATCH", headers=headers, body=body))
    assert response.status_code == 200
    assert b"".join(received) == b"abc" + b"d" * 70_000


@OWN  # httpx's own blames the peer
@pytest.mark.parametrize(("announced", "pieces"), [(10, (b"12345",)), (3, (b"12345",)), (3, (b"123", b"4"))])
async def test_a_body_of_another_length_than_announced_is_our_own_mistake(
    announced: int, pieces: tuple[bytes, ...], link: Link, listen: Serve
) -> None:
    received = asyncio.get_running_loop().create_future()

    async def record(reader: Reader, _: Writer) -> None:
        try:
            received.set_result(await reader.read())
        except OSError:
            received.set_result(b"")

    async with listen(record) as peer:
        asked = request(peer, "PUT", headers=[("Content-Length", str(announced))], body=Pieces(*pieces))
        with pytest.raises(httpx.LocalProtocolError):
            await ask(link, asked)
        sent = (await received).partition(b"\r\n\r\n")[2]
    assert b"".join(pieces).startswith(sent)
    assert len(sent) <= announced


@pytest.mark.parametrize("header", [("X", "a\r\nb"), ("X", "a\x00"), ("X y", "a"), ("Content-Length", "x")])
async def test_a_header_that_would_break_the_framing_is_not_sent(
    header: tuple[str, str], link: Link, listen: Serve
) -> None:
    seen = []

    async def record(reader: Reader, _: Writer) -> None:
        seen.append(await reader.read())

    async with listen(record) as peer:
        with pytest.raises(httpx.LocalProtocolError):
            await ask(link, request(peer, headers=[header]))
    assert b"".join(seen) == b""


# Answers.


@pytest.mark.parametrize(
    ("raw", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 200, b"abc"),
        (b"HTTP/1.1 200\r\ncontent-length:   3  \r\n\r\nabc", 200, b"abc"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, b"until the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, b"until the end"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", 200, b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
         200, b"abc0123456789"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nTrailer: t\r\n\r\n",
         200, b"abc"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200, b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" + NOTHING, 200, b""),
        (b"HTTP/1.1 999 Odd\r\nContent-Length: 1\r\n\r\nx", 999, b"x"),
    ],
)  # fmt: skip
async def test_every_framing_of_an_answer_is_read(
    raw: bytes, status: int, body: bytes, link: Link, serve: Serve
) -> None:
    async def trickle(_: Reader, writer: Writer) -> None:
        for each in range(len(raw)):
            writer.write(raw[each : each + 1])
            await asyncio.sleep(0)

    async with serve(raw, trickle) as peer:
        for _ in range(2):
            response, came = await ask(link, request(peer))
            assert (response.status_code, came) == (status, body)


async def test_an_answer_to_head_has_no_body_whatever_it_says(link: Link, serve: Serve) -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 512\r\nETag: x\r\n\r\n"
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with serve(raw, chunked) as peer:
        response, body = await ask(link, request(peer, "HEAD"))
        assert (response.headers["Content-Length"], response.headers["etag"], body) == ("512", "x", b"")
        assert (await ask(link, request(peer, "HEAD")))[1] == b""


async def test_headers_come_as_they_are(link: Link, serve: Serve) -> None:
    lines = [b"HTTP/1.1 307 Go There", b"Location: /a%2f?b=%2B&c= d", b"Link: a", b"link: b", b"X: \xe9"]
    raw = b"\r\n".join([*lines, b"Content-Length: 0", b"", b""])
    async with serve(raw) as peer:
        response, _ = await ask(link, request(peer))
    # Neither followed nor touched.
    assert response.status_code == 307
    assert response.headers["location"] == "/a%2f?b=%2B&c= d"
    assert response.headers["link"] == "a, b"
    assert (b"X", b"\xe9") in response.headers.raw
    assert response.extensions["reason_phrase"] == b"Go There"
    assert response.extensions["http_version"] == b"HTTP/1.1"


async def test_a_body_comes_raw(link: Link, serve: Serve) -> None:
    packed = gzip.compress(b"x" * 1000)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    async with serve(head + packed) as peer:
        assert (await ask(link, request(peer)))[1] == packed


@pytest.mark.parametrize("framing", ["length", "chunks", "end"])
async def test_a_large_body_comes_whole(framing: str, link: Link, serve: Serve) -> None:
    async def send(_: Reader, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        if framing == "length":
            writer.write(b"Content-Length: %d\r\n" % len(BIG))
        writer.write(b"Transfer-Encoding: chunked\r\n\r\n" if framing == "chunks" else b"\r\n")
        step = 1_234_567
        for start in range(0, len(BIG), step):
            piece = BIG[start : start + step]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if framing == "chunks" else piece)
            await writer.drain()
        writer.write(b"0\r\n\r\n" if framing == "chunks" else b"")

    async with serve(send) as peer:
        assert (await ask(link, request(peer)))[1] == BIG


# Failures, each with its class.


@pytest.mark.parametrize(
    "raw",
    [
        b"220 mail.example ESMTP\r\n",
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"\x00\xff" * 100,
        b"\r\n\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcXX",
        b"<html>\r\n\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
    ],
)
async def test_what_is_no_answer_or_a_short_one_is_the_peers_fault(
    raw: bytes, link: Link, serve: Serve
) -> None:
    async with serve(raw) as peer:
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(link, request(peer))


@OWN
@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 300 + b"\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 50_000,
    ],
)
async def test_what_is_doubtful_or_without_end_is_the_peers_fault_too(
    raw: bytes, link: Link, serve: Serve
) -> None:
    async with serve(raw) as peer:
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(link, request(peer))


async def test_what_came_before_a_short_body_ended_is_handed_on(link: Link, serve: Serve) -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"
    got: list[bytes] = []
    async with serve(raw) as peer, link.network() as network, answer(network, request(peer)) as response:
        with pytest.raises(httpx.RemoteProtocolError):
            await read(response, got)
    assert b"".join(got) == b"abc"


async def test_a_reset_before_the_answer_is_a_read_error(link: Link, serve: Serve, cut: Cut) -> None:
    async def reset(_: Reader, writer: Writer) -> None:
        cut(writer)

    async with serve(reset) as peer:
        with pytest.raises(httpx.ReadError):
            await ask(link, request(peer))


async def test_a_reset_in_the_middle_of_a_body_is_a_read_error(link: Link, serve: Serve, cut: Cut) -> None:
    got: list[bytes] = []

    async def reset(_: Reader, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        await writer.drain()
        await begun.wait()
        cut(writer)

    begun = asyncio.Event()
    async with serve(reset) as peer, link.network() as network, answer(network, request(peer)) as response:
        begun.set()
        with pytest.raises(httpx.ReadError):
            await read(response, got)
    assert b"".join(got) == b"abc"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 20",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\na",
    ],
)
async def test_silence_is_a_read_timeout(raw: bytes, link: Link, serve: Serve) -> None:
    never = asyncio.Event()

    async def stall(_: Reader, writer: Writer) -> None:
        writer.write(raw)
        await writer.drain()
        await never.wait()

    async with serve(stall) as peer:
        with pytest.raises(httpx.ReadTimeout):
            await ask(link, request(peer, read=0.03))


async def test_a_peer_that_takes_nothing_is_a_write_timeout(link: Link, listen: Serve) -> None:
    never = asyncio.Event()

    async def deaf(_: Reader, writer: Writer) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await never.wait()

    async with listen(deaf) as peer:
        asked = request(
            peer, "PUT", headers=[("Content-Length", str(4 * len(BIG)))], body=Pieces(*[BIG] * 4), write=0.03
        )
        with pytest.raises(httpx.WriteTimeout):
            await ask(link, asked)


async def test_nobody_there_is_a_connect_error(link: Link, listen: Serve) -> None:
    async with listen(lambda *_: asyncio.sleep(0)) as peer:
        pass
    for name in (peer.name, "nobody.invalid", "a..b", "x" * 70):
        peer.name = name
        with pytest.raises(httpx.ConnectError):
            await ask(link, request(peer, connect=5))


async def test_no_connection_free_in_time_is_a_pool_timeout(link: Link, serve: Serve) -> None:
    raw = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc"
    async with serve(raw) as peer, link.network(connections=1) as network:
        async with answer(network, request(peer)) as response:
            with pytest.raises(httpx.PoolTimeout):
                await network.handle_async_request(request(peer, pool=0.03))
            assert await read(response) == b"abc"
        async with answer(network, request(peer, pool=5)) as response:
            assert await read(response) == b"abc"


async def test_what_is_no_http_is_not_asked(link: Link) -> None:
    async with link.network() as network:
        with pytest.raises(httpx.UnsupportedProtocol):
            await network.handle_async_request(httpx.Request("GET", "ftp://registry.example/"))


# Early answers.


@pytest.mark.parametrize("closes", [True, False])
async def test_an_answer_before_the_request_is_whole_ends_the_sending(
    closes: bool, link: Link, serve: Serve
) -> None:
    async def early(reader: Reader, writer: Writer) -> None:
        close = b"Connection: close\r\n" if closes else b""
        writer.write(b"HTTP/1.1 413 Too Large\r\n%bContent-Length: 7\r\n\r\ntoo big" % close)
        await writer.drain()
        while await reader.read(1 << 16):
            pass

    async with serve(early) as peer:
        body = Pieces(*[BIG[: 1 << 20]] * 400)
        headers = [("Content-Length", str(400 << 20))]
        response, refusal = await ask(link, request(peer, "PUT", headers=headers, body=body))
        assert (response.status_code, refusal) == (413, b"too big")
    if link.own:
        assert body.taken < 400


@OWN
async def test_an_answer_of_a_peer_that_reads_no_further_is_heard(link: Link, serve: Serve) -> None:
    async def slam(reader: Reader, writer: Writer) -> None:
        await reader.readexactly(100_000)
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        await writer.drain()
        # Closed with octets unread, which sends RST right behind the answer.

    async with serve(slam) as peer:
        headers = [("Content-Length", str(len(BIG)))]
        response, body = await ask(link, request(peer, "PUT", headers=headers, body=Pieces(BIG)))
    assert (response.status_code, body) == (401, b"no")


@OWN
async def test_a_preliminary_answer_does_not_end_the_sending(link: Link, serve: Serve) -> None:
    async def prelude(reader: Reader, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 1")
        await writer.drain()
        received.append(await reader.readexactly(len(BIG)))
        writer.write(b"02 Processing\r\n\r\n" + NOTHING)

    received: list[bytes] = []
    async with serve(prelude) as peer:
        headers = [("Content-Length", str(len(BIG)))]
        body = Pieces(*[BIG[: 1 << 20]] * 16)
        response, _ = await ask(link, request(peer, "PUT", headers=headers, body=body))
    assert response.status_code == 200
    assert len(received[0]) == len(BIG)


@OWN
async def test_a_peer_that_hangs_up_during_an_upload_is_noticed(link: Link, serve: Serve) -> None:
    async def leave(reader: Reader, writer: Writer) -> None:
        await reader.readexactly(1000)
        writer.write_eof() if writer.can_write_eof() else writer.close()
        await left.wait()

    left = asyncio.Event()
    async with serve(leave) as peer:
        headers = [("Content-Length", str(400 << 20))]
        body = Pieces(*[BIG[: 1 << 20]] * 400)
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)):
            await ask(link, request(peer, "PUT", headers=headers, body=body, write=5))
        left.set()
    assert body.taken < 400


def test_the_contract_is_run_over_both_transports(link: Link) -> None:
    kind: Any = type(link.network())
    assert (kind.__module__ == "regsim.net.transport") is link.own
