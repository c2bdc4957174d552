"""Against raw servers on a port: cuts, silence, early answers, garbage, and exact bytes on the wire."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import TYPE_CHECKING, Any

import pytest

from regsim.core import Descriptor
from regsim.core.account import Account
from regsim.errors import NetworkError, RegistryError
from regsim.net import Timeouts
from regsim.registry.repository import Registry
from regsim.store.memory import BytesContent

if TYPE_CHECKING:
    from regsim.registry.retry import Patience
    from tests.registry.conftest import Link, Peer

pytestmark = pytest.mark.anyio

DATA = bytes(range(256)) * 8192  # 2 MiB
LAYER = Descriptor.of(DATA, "application/vnd.oci.image.layer.v1.tar")
SIZE = len(DATA)
Serve = Callable[..., AbstractAsyncContextManager[Any]]
Cut = Callable[[asyncio.StreamWriter], None]


def ok(body: bytes, *, length: int | None = None, status: bytes = b"200 OK", extra: bytes = b"") -> bytes:
    size = len(body) if length is None else length
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s" % (status, size, extra, body)


def rest(first: int) -> bytes:
    where = b"Content-Range: bytes %d-%d/%d\r\n" % (first, SIZE - 1, SIZE)
    return ok(DATA[first:], status=b"206 Partial Content", extra=where)


async def read(
    link: Link, peer: Peer, patience: Patience, account: Account, timeouts: Timeouts | None = None
) -> bytes:
    async with link.transport(peer, timeouts) as transport:
        blob = Registry(transport, patience=patience).repository("shop/api").blob(LAYER, account)
        async with aclosing(blob.open()) as stream:
            return b"".join([chunk async for chunk in stream])


async def push(link: Link, peer: Peer, patience: Patience, account: Account) -> None:
    async with link.transport(peer) as transport:
        repository = Registry(transport, patience=patience).repository("shop/api")
        await repository.upload(BytesContent(LAYER, DATA), account)


async def test_a_body_cut_by_fin_is_resumed_without_asking_for_a_byte_twice(
    link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    async with serve(ok(DATA[:1_500_000], length=SIZE), rest(1_500_000)) as peer:
        assert await read(link, peer, patience, account) == DATA
    assert b"range: bytes=1500000-\r\n" in peer.requests[1].lower()
    assert account == Account(requests=2, attempts=1, received=SIZE)


async def test_a_body_without_length_that_is_cut_by_fin_is_resumed(
    link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    async with serve(b"HTTP/1.1 200 OK\r\n\r\n" + DATA[:100_000], rest(100_000)) as peer:
        assert await read(link, peer, patience, account) == DATA
    assert account.received == SIZE


async def test_a_body_cut_by_reset_is_resumed(
    link: Link, serve: Serve, patience: Patience, account: Account, cut: Cut
) -> None:
    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(DATA[:1_000_000], length=SIZE))
        await writer.drain()
        cut(writer)

    async def continued(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        first = int(peer.requests[-1].lower().partition(b"range: bytes=")[2].partition(b"-")[0] or b"0")
        writer.write(rest(first) if first else ok(DATA))

    async with serve(reset, continued) as peer:
        assert await read(link, peer, patience, account) == DATA
    assert account.received == SIZE
    assert account.requests == 2


async def test_a_body_that_falls_silent_is_resumed(
    link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    silent = asyncio.Event()

    async def stall(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(DATA[:5000], length=SIZE))
        await writer.drain()
        await silent.wait()

    async with serve(stall, rest(5000)) as peer:
        assert await read(link, peer, patience, account, Timeouts(read=0.5)) == DATA
    assert account == Account(requests=2, attempts=1, received=SIZE)


async def test_a_connection_that_is_reset_before_its_answer_is_tried_again(
    link: Link, serve: Serve, patience: Patience, account: Account, cut: Cut
) -> None:
    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        cut(writer)

    async with serve(reset, b"", ok(DATA)) as peer:
        assert await read(link, peer, patience, account) == DATA
    assert len(peer.requests) == account.requests == 3


@pytest.mark.parametrize(
    "garbage",
    [
        b"220 mail.example ESMTP\r\n",
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"\x00\xff" * 100,
        b"HTTP/1.1 200 OK\r\nX" * 9999,
    ],
)
async def test_garbage_is_a_network_failure_in_one_line(
    garbage: bytes, link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    async with serve(garbage) as peer:
        with pytest.raises(NetworkError, match=f"GET {peer.host}/v2/shop/api/blobs/") as caught:
            await read(link, peer, patience, account)
    assert "\n" not in str(caught.value)
    assert account.requests == 4


# Without httpx through TLS, which leaves its transport unclosed if the deadline strikes in the handshake.
@pytest.mark.parametrize("link", ["sockets", "sockets, TLS", "httpx"], indirect=True)
async def test_an_answer_that_trickles_ends_at_the_deadline(
    link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    silent = asyncio.Event()

    async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(b"x", length=1000))
        await writer.drain()
        await silent.wait()

    async with serve(trickle) as peer, link.transport(peer, Timeouts(metadata=0.05)) as transport:
        with pytest.raises(NetworkError, match="was not answered within"):
            await Registry(transport, patience=patience).repository("shop/api").tags(account)


@pytest.mark.parametrize("link", ["sockets", "sockets, TLS", "httpx"], indirect=True)
@pytest.mark.parametrize(
    "head", [ok(b"x", length=1000, status=b"400 Bad Request"), ok(b"x", length=1000, status=b"401 No")]
)
async def test_a_refusal_of_content_that_trickles_ends_at_the_deadline(
    head: bytes, link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    silent = asyncio.Event()

    async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        await writer.drain()
        await silent.wait()

    async with serve(trickle) as peer, asyncio.timeout(20):
        with pytest.raises(NetworkError, match=r"was not answered within 0\.05 s"):
            await read(link, peer, patience, account, Timeouts(metadata=0.05))


@pytest.mark.parametrize("link", ["sockets", "sockets, TLS", "httpx"], indirect=True)
async def test_the_answer_to_a_manifest_that_trickles_ends_at_the_deadline(
    link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    silent = asyncio.Event()

    async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(b"x", length=1000, status=b"201 Created"))
        await writer.drain()
        await silent.wait()

    async with (
        serve(trickle) as peer,
        asyncio.timeout(20),
        link.transport(peer, Timeouts(metadata=0.05)) as transport,
    ):
        with pytest.raises(NetworkError, match=r"was not answered within 0\.05 s"):
            await (
                Registry(transport, patience=patience)
                .repository("shop/api")
                .put_manifest(b"{}", "application/vnd.oci.image.manifest.v1+json", "latest", account)
            )


async def test_an_error_body_is_read_no_further_than_64_kib(
    link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    async with serve(ok(b"x" * 10_000_000, status=b"400 Bad Request")) as peer:
        with pytest.raises(RegistryError, match="registry said: x"):
            await read(link, peer, patience, account)
    assert account.overhead <= 2 * 64 * 1024


async def test_the_target_on_the_wire_is_the_location_byte_for_byte(
    link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    location = b"/v2/shop/api/blobs/uploads/%7Eu%2f1?_state=a%3D%3D&q=a+b~'*\"<>|^`{}&&=\\"
    opened = ok(b"", status=b"202 Accepted", extra=b"Location: %s\r\n" % location)
    async with serve(opened, ok(b"", status=b"201 Created")) as peer:
        await push(link, peer, patience, account)
    assert peer.requests[1].startswith(b"PUT %s&digest=%s HTTP/1.1\r\n" % (location, LAYER.digest.encode()))
    head = peer.requests[1].lower()
    assert b"content-length: %d\r\n" % SIZE in head
    assert b"transfer-encoding" not in head
    assert b"host: %s\r\n" % peer.host.encode() in head
    assert b"accept-encoding: identity\r\n" in head
    assert peer.bodies[1] == DATA
    assert account == Account(requests=2, attempts=1, sent=SIZE)


@pytest.mark.parametrize("held", [0, 700_000])
async def test_an_upload_that_is_cut_goes_on_at_the_byte_that_the_registry_holds(
    held: int, link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    taken: list[bytes] = []

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1000)
        link.cut(writer)

    async def then(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method = peer.requests[-1].partition(b" ")[0]
        if method == b"PUT":
            taken.append(await reader.readexactly(SIZE - held))
        # All may have been handed over before the reset showed; then the blob is looked for first.
        status = {b"HEAD": b"404 Not Found", b"POST": b"202 Accepted", b"PUT": b"201 Created"}
        extra = b"Location: /u/2\r\nRange: 0-%d\r\n" % max(held - 1, 0)
        writer.write(ok(b"", status=status.get(method, b"204 No Content"), extra=extra))

    opened = ok(b"", status=b"202 Accepted", extra=b"Location: /u/1\r\n")
    async with serve(opened, reset, then) as peer:
        await push(link, peer, patience, account)
    targets = [b" ".join(head.split(b" ")[:2]) for head in peer.requests]
    digest = LAYER.digest.encode()
    looked = [each for each in targets if each.startswith(b"HEAD")]
    anew = [b"DELETE /u/1", b"POST /v2/shop/api/blobs/uploads/"]
    assert looked in ([], [b"HEAD /v2/shop/api/blobs/" + digest])
    assert [each for each in targets if each not in looked] == [
        b"POST /v2/shop/api/blobs/uploads/",
        b"PUT /u/1?digest=" + digest,
        b"GET /u/1",
        *([] if held else anew),
        b"PUT /u/2?digest=" + digest,
    ]
    assert taken == [DATA[held:]]
    assert (b"content-range: %d-%d\r\n" % (held, SIZE - 1) in peer.requests[-1].lower()) is bool(held)
    assert account.attempts == (1 if held else 2)
    assert [each.reason for each in account.retries] == ["reset"]
    assert account.retries[0].wasted == account.sent - SIZE


async def test_a_refusal_in_the_middle_of_an_upload_is_heard(
    link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(b"not here", status=b"403 Forbidden", extra=b"Connection: close\r\n"))
        await writer.drain()
        await reader.readexactly(SIZE)

    opened = ok(b"", status=b"202 Accepted", extra=b"Location: /u\r\n")
    async with serve(opened, early, ok(b"", status=b"204 No Content")) as peer:
        with pytest.raises(RegistryError, match="registry said: not here"):
            await push(link, peer, patience, account)
    assert peer.requests[-1].startswith(b"DELETE /u ")
    assert account.attempts == 1


async def test_a_cancelled_upload_cancels_its_session_and_leaves_nothing_running(
    link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    waiting, never = asyncio.Event(), asyncio.Event()

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del writer
        await reader.readexactly(1000)
        waiting.set()
        await never.wait()

    opened = ok(b"", status=b"202 Accepted", extra=b"Location: /u\r\n")
    async with serve(opened, stall, ok(b"", status=b"204 No Content")) as peer:
        task = asyncio.create_task(push(link, peer, patience, account))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert peer.requests[-1].startswith(b"DELETE /u ")
    assert account.requests == 3


async def test_a_cancelled_download_closes_its_connection(
    link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    started, gone, never = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(DATA[:1000], length=SIZE))
        started.set()
        with contextlib.suppress(ConnectionResetError):  # if the body was not read yet
            assert await reader.read() == b""
        gone.set()
        await never.wait()

    async with serve(stall) as peer, link.transport(peer) as transport:
        blob = Registry(transport, patience=patience).repository("shop/api").blob(LAYER, account)

        async def consume() -> None:
            async with aclosing(blob.open()) as stream:
                async for _ in stream:
                    pass

        task = asyncio.create_task(consume())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(gone.wait(), 5)


@pytest.mark.parametrize("link", ["sockets", "httpx"], indirect=True)
async def test_tls_to_a_plain_registry_says_how_to_address_it(
    link: Link, listen: Serve, patience: Patience, account: Account
) -> None:
    async def plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with listen(plain) as peer:
        peer.scheme = "https"
        with pytest.raises(NetworkError, match="no TLS connection") as caught:
            await read(link, peer, patience, account)
    assert "http://" in caught.value.hint
