"""Connections of the project's own sockets: how many, how long, how found dead, and how let go."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from regsim.core.account import Account
from regsim.errors import NetworkError
from regsim.net import Timeouts
from regsim.net.address import Proxy
from regsim.net.transport import SocketTransport
from regsim.net.trust import Trust
from regsim.registry import Connection
from regsim.registry.transport import Transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.registry.conftest import Link, Peer

    Serve = Callable[..., AbstractAsyncContextManager[Peer]]
    Cut = Callable[[asyncio.StreamWriter], None]

pytestmark = pytest.mark.anyio
OWN = pytest.mark.parametrize("link", ["sockets", "sockets, TLS"], indirect=True)
PLAIN = pytest.mark.parametrize("link", ["sockets"], indirect=True)

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
ABC = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
SECONDS = {"connect": 5, "read": 5, "write": 5, "pool": 5}


def sockets(connections: int = 2, *, idle: float = 15.0) -> SocketTransport:
    return SocketTransport(connections, Trust(verify=False), idle=idle)


@pytest.fixture
async def wire() -> AsyncIterator[SocketTransport]:
    async with sockets() as wire:
        yield wire


def request(
    peer: Peer, method: str = "GET", path: str = "/", *, fresh: bool = False, **seconds: float
) -> httpx.Request:
    extensions = {"timeout": {**SECONDS, **seconds}, "fresh": fresh}
    return httpx.Request(method, f"{peer.url}{path}", headers={"Host": "x"}, extensions=extensions)


async def body_of(answer: httpx.Response) -> bytes:
    return b"".join([piece async for piece in answer.aiter_raw()])


async def ask(wire: SocketTransport, asked: httpx.Request) -> bytes:
    return await body_of(await wire.handle_async_request(asked))


async def answering(reader: Reader, writer: Writer) -> None:
    """Answer requests without bodies until the client leaves."""
    while await reader.readuntil(b"\r\n\r\n"):
        writer.write(ABC)


def open_sockets() -> set[str]:
    """Return the sockets that this process has open."""
    names = set()
    for file in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            names.add(str(file.readlink()))
    return {name for name in names if name.startswith("socket:")}


async def until(true: Callable[[], bool]) -> None:
    """Let the loop turn until something is so: servers let go of their ends in their own time."""
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110  (what is open in the system tells nobody of its end)
            await asyncio.sleep(0)


# Reuse.


@OWN
async def test_a_connection_serves_one_request_after_another(listen: Serve, wire: SocketTransport) -> None:
    async with listen(answering) as peer:
        for _ in range(5):
            assert await ask(wire, request(peer)) == b"abc"
    assert peer.connections == 1


@OWN
@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nConnection: x, close\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ],
)
async def test_a_connection_that_cannot_be_trusted_further_serves_no_more(
    raw: bytes, listen: Serve, wire: SocketTransport
) -> None:
    async def once(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        assert await reader.read() == b""

    async with listen(once) as peer:
        assert await ask(wire, request(peer)) == b"abc"
        assert await ask(wire, request(peer)) == b"abc"
    assert peer.connections == 2


@OWN
async def test_an_answer_that_was_not_read_costs_its_connection(listen: Serve, wire: SocketTransport) -> None:
    async def long(reader: Reader, writer: Writer) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + bytes(3_000_000))

    async with listen(long) as peer:
        await (await wire.handle_async_request(request(peer))).aclose()
        answer = await wire.handle_async_request(request(peer))
        async for _ in answer.aiter_raw():
            break
        await answer.aclose()
        assert len(await ask(wire, request(peer))) == 3_000_000
        assert len(await ask(wire, request(peer))) == 3_000_000
    assert peer.connections == 3


@OWN
async def test_a_connection_that_died_while_idle_is_not_used_for_any_method(
    listen: Serve, wire: SocketTransport
) -> None:
    closed = asyncio.Event()

    async def once(reader: Reader, writer: Writer) -> None:
        seen.append((await reader.readuntil(b"\r\n\r\n")).partition(b" ")[0])
        writer.write(ABC)
        await writer.drain()
        writer.close()  # through TLS it then waits for the client to agree, which an idle one does not
        await asyncio.sleep(0)
        closed.set()

    seen: list[bytes] = []
    async with listen(once) as peer:
        for method in ("GET", "POST", "PUT"):
            assert await ask(wire, request(peer, method)) == b"abc"
            await closed.wait()
            closed.clear()
    assert seen == [b"GET", b"POST", b"PUT"]


@OWN
async def test_what_a_peer_says_unasked_ends_a_connection(listen: Serve, wire: SocketTransport) -> None:
    said = asyncio.Event()

    async def babble(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ABC)
        await writer.drain()
        await asked.wait()
        writer.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        said.set()
        await reader.read()

    asked = asyncio.Event()
    async with listen(babble) as peer:
        assert await ask(wire, request(peer)) == b"abc"
        asked.set()
        await said.wait()
        assert await ask(wire, request(peer)) == b"abc"
    assert peer.connections == 2


@OWN
async def test_an_idle_connection_is_closed_after_its_time(listen: Serve) -> None:
    ended = asyncio.Event()

    async def watch(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ABC)
        assert await reader.read() == b""
        ended.set()

    wire = sockets(idle=0.01)
    async with listen(watch) as peer:
        assert await ask(wire, request(peer)) == b"abc"
        await asyncio.wait_for(ended.wait(), 5)
    await wire.aclose()


# Requests that meet a dying connection.


@OWN
@pytest.mark.parametrize("ending", ["FIN", "RST"])
async def test_a_get_on_a_connection_that_dies_of_age_is_sent_again_and_counted_again(
    ending: str, link: Link, listen: Serve, cut: Cut
) -> None:
    async def second_time(reader: Reader, writer: Writer) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        if b"/v2/doomed" not in requests[-1] or peer.connections > 1:
            writer.write(ABC)
            await writer.drain()
            await second_time(reader, writer)
        elif ending == "RST":
            cut(writer)

    requests: list[bytes] = []
    async with listen(second_time) as peer, link.transport(peer) as transport:
        account = Account()
        await transport.send("GET", "/v2/", account)
        answer = await transport.send("GET", "/v2/doomed", account)
        assert answer.body == b"abc"
    assert peer.connections == 2
    assert account.requests == len(requests) == 3


@OWN
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_nothing_else_is_sent_again(method: str, link: Link, listen: Serve) -> None:
    async def second_time(reader: Reader, writer: Writer) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        if len(requests) == 1:
            writer.write(ABC)
            await second_time(reader, writer)

    requests: list[bytes] = []
    async with listen(second_time) as peer, link.transport(peer) as transport:
        account = Account()
        await transport.send("GET", "/v2/", account)
        with pytest.raises(NetworkError):
            await transport.send(method, "/v2/", account)
    assert account.requests == len(requests) == 2


@OWN
async def test_a_get_on_a_fresh_connection_that_dies_is_not_sent_again(link: Link, listen: Serve) -> None:
    async def dying(reader: Reader, _: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with listen(dying) as peer, link.transport(peer) as transport:
        account = Account()
        with pytest.raises(NetworkError, match="ended without an answer"):
            await transport.send("GET", "/v2/", account)
    assert account.requests == peer.connections == 1


@OWN
async def test_silence_on_a_used_connection_is_not_age(link: Link, listen: Serve) -> None:
    never = asyncio.Event()

    async def stall(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ABC)
        await never.wait()

    async with listen(stall) as peer, link.transport(peer, Timeouts(read=0.05)) as transport:
        account = Account()
        await transport.send("GET", "/v2/", account)
        with pytest.raises(NetworkError, match="fell silent"):
            await transport.send("GET", "/v2/", account)
    assert account.requests == 2
    assert peer.connections == 1


# Limits.


@OWN
async def test_there_are_never_more_connections_than_allowed_and_all_requests_are_served(
    listen: Serve, wire: SocketTransport
) -> None:
    async with listen(answering) as peer:
        answers = await asyncio.gather(*[ask(wire, request(peer)) for _ in range(100)])
    assert answers == [b"abc"] * 100
    assert peer.connections == 2


@OWN
async def test_an_idle_connection_gives_way_to_one_elsewhere(listen: Serve) -> None:
    wire = sockets(1)
    async with listen(answering) as one, listen(answering) as two:
        for peer in (one, two, one):
            assert await ask(wire, request(peer)) == b"abc"
    assert (one.connections, two.connections) == (2, 1)
    await wire.aclose()


@OWN
async def test_the_request_that_waits_longest_is_served_first(listen: Serve) -> None:
    wire, order = sockets(1), list[int]()

    async def one(peer: Peer, number: int) -> None:
        answer = await wire.handle_async_request(request(peer))
        order.append(number)
        assert await body_of(answer) == b"abc"

    async with listen(answering) as peer, asyncio.TaskGroup() as group:
        for number in range(10):
            group.create_task(one(peer, number))
    assert order == list(range(10))
    await wire.aclose()


@OWN
async def test_a_place_is_given_back_by_requests_that_fail_or_are_cancelled(listen: Serve, cut: Cut) -> None:
    wire, waiting = sockets(1), asyncio.Event()
    never = asyncio.Event()

    async def moody(reader: Reader, writer: Writer) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/cut" in head:
            cut(writer)
        elif b"/stall" in head:
            waiting.set()
            await never.wait()
        else:
            writer.write(ABC)
            await moody(reader, writer)

    async with listen(moody) as peer:
        for _ in range(3):
            with pytest.raises(httpx.ReadError):
                await wire.handle_async_request(request(peer, path="/cut", fresh=True))
            stalled = asyncio.create_task(wire.handle_async_request(request(peer, path="/stall")))
            await waiting.wait()
            waiting.clear()
            queued = asyncio.create_task(wire.handle_async_request(request(peer)))
            patient = asyncio.create_task(ask(wire, request(peer)))
            await asyncio.sleep(0)
            queued.cancel()
            stalled.cancel()
            assert await patient == b"abc"
            assert queued.cancelled()
            assert stalled.cancelled()
    await wire.aclose()


# Cancellation and closing leave nothing behind.


@OWN
@pytest.mark.parametrize("phase", ["queue", "send", "head", "body"])
async def test_a_request_that_is_cancelled_leaves_no_connection_and_no_task(
    phase: str, listen: Serve
) -> None:
    reached, gone, never = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def stall(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if phase == "body":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        reached.set()
        if phase == "send":
            await never.wait()
        with suppress(ConnectionResetError):
            await reader.read()
        gone.set()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1 << 20)

    async with listen(stall) as peer:
        wire, before, tasks = sockets(1), open_sockets(), asyncio.all_tasks()
        asked = request(peer)
        if phase == "send":
            length = {"Host": "x", "Content-Length": str(1 << 40)}
            asked = httpx.Request("PUT", peer.url, headers=length, content=endless())
        begun = [asyncio.create_task(ask(wire, asked))]
        await asyncio.wait_for(reached.wait(), 5)
        if phase == "queue":
            begun.append(asyncio.create_task(ask(wire, request(peer))))
            await asyncio.sleep(0)
        for each in begun:
            each.cancel()
        await asyncio.wait(begun)
        assert all(each.cancelled() for each in begun)
        if phase != "send":
            await asyncio.wait_for(gone.wait(), 5)
        assert {each for each in asyncio.all_tasks() - tasks if "listening" not in repr(each)} == set()
        never.set()
    await until(lambda: open_sockets() <= before)
    await wire.aclose()


@OWN
async def test_a_request_that_is_cancelled_while_connecting_leaves_nothing(listen: Serve) -> None:
    async with listen(answering) as peer:
        before = open_sockets()
        for turns in range(8):
            wire = sockets(1)
            task = asyncio.create_task(wire.handle_async_request(request(peer)))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await wire.aclose()
    await until(lambda: open_sockets() <= before)


@OWN
async def test_closing_wakes_everybody_and_closes_everything(link: Link, listen: Serve) -> None:
    reached, never = asyncio.Event(), asyncio.Event()

    async def stall(reader: Reader, _: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        reached.set()
        await never.wait()

    async with listen(stall) as peer:
        network = link.network(connections=1)
        asked = httpx.Request("GET", f"{peer.url}/v2/", headers={"Host": "x"})
        tasks = [asyncio.create_task(network.handle_async_request(asked)) for _ in range(3)]
        await reached.wait()
        await network.aclose()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each) for each in outcomes] == [httpx.ReadError, httpx.ConnectError, httpx.ConnectError]
        with pytest.raises(httpx.ConnectError, match="closed"):
            await network.handle_async_request(asked)


# Dialling.


@OWN
async def test_ipv6_is_spoken(link: Link, listen: Serve, wire: SocketTransport) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("this machine has no IPv6")
    async with listen(answering, address="::1") as peer:
        assert await ask(wire, request(peer)) == b"abc"
        async with link.transport(peer) as transport:
            assert (await transport.send("GET", "/v2/", Account())).body == b"abc"


@PLAIN
async def test_a_dead_address_does_not_hold_up_a_living_one(
    listen: Serve, wire: SocketTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listen(answering) as peer:
        # A queue for one connection, which is taken: whoever else knocks is left standing.
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
            knocking = [socket.socket() for _ in range(3)]
            for each in knocking:
                each.setblocking(False)  # noqa: FBT003  (its only argument)
                each.connect_ex(full.getsockname())
            found = [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", address)
                for address in (full.getsockname(), ("127.0.0.1", 1), ("127.0.0.1", peer.port))
            ]

            async def resolve(*_: object, **__: object) -> list[tuple[Any, ...]]:
                return found

            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
            monkeypatch.setattr("regsim.net.pool.HEAD_START", 0.01)
            peer.name = "registry.example"
            before = asyncio.all_tasks()
            assert await ask(wire, request(peer)) == b"abc"
            assert {each for each in asyncio.all_tasks() - before if "_connect" in repr(each)} == set()

            found[:] = found[:1]
            with pytest.raises(httpx.ConnectTimeout):
                await ask(wire, request(peer, connect=0.03, fresh=True))
            found[:] = [found[0]] * 0
            with pytest.raises(httpx.ConnectError, match="no address"):
                await ask(wire, request(peer, fresh=True))
            for each in knocking:
                each.close()


async def test_every_reason_is_told_when_no_address_answers(
    wire: SocketTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolve(*_: object, **__: object) -> list[tuple[Any, ...]]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 2)),
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    with pytest.raises(httpx.ConnectError, match="refused"):
        await wire.handle_async_request(httpx.Request("GET", "http://x.example/"))


@PLAIN
async def test_through_a_proxy_httpx_goes(listen: Serve) -> None:
    async def proxy(reader: Reader, writer: Writer) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(ABC)

    heads: list[bytes] = []
    async with (
        listen(proxy) as peer,
        Transport("http://registry.example", Connection(proxy=Proxy.parse(peer.url))) as transport,
    ):
        assert (await transport.send("GET", "/v2/a%2Fb", Account())).body == b"abc"
    assert heads[0].startswith(b"GET http://registry.example/v2/a%2Fb HTTP/1.1\r\n")
