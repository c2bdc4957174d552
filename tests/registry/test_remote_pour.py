"""Blobs past the event loop: downloads that pour into takers, and uploads of content that pours.

Everything that holds for streams must hold here: cuts, counts, verification, refusals, cancellation.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from mock_registry import MockRegistry
from regsim.core import Descriptor
from regsim.core.account import Account
from regsim.errors import ContentError, LocalFileError, NetworkError, RegistryError
from regsim.net import Timeouts
from regsim.registry import Connection
from regsim.registry.blobs import RemoteBlob
from regsim.registry.repository import Registry, Repository
from regsim.registry.transport import Transport
from regsim.store.memory import BytesContent
from regsim.store.protocols import Pourable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    import respx

    from regsim.registry.retry import Patience
    from regsim.store.protocols import Taker
    from tests.registry.conftest import Link, Peer

    Serve = Callable[..., AbstractAsyncContextManager[Peer]]

pytestmark = pytest.mark.anyio
OWN = pytest.mark.parametrize("link", ["sockets", "sockets, TLS"], indirect=True)

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
TAR = "application/vnd.oci.image.layer.v1.tar"
DATA = random.Random(7).randbytes(10_000_019)  # beyond what one thread alone is used for
LAYER = Descriptor.of(DATA, TAR)
SIZE = len(DATA)


def ok(body: bytes, *, status: bytes = b"200 OK", length: int | None = None, extra: bytes = b"") -> bytes:
    size = len(body) if length is None else length
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s" % (status, size, extra, body)


def rest(first: int) -> bytes:
    where = b"Content-Range: bytes %d-%d/%d\r\n" % (first, SIZE - 1, SIZE)
    return ok(DATA[first:], status=b"206 Partial Content", extra=where)


@dataclass
class Taken:
    """A taker that keeps what it is handed."""

    data: bytearray = field(default_factory=bytearray)
    pieces: int = 0
    threads: set[int] = field(default_factory=set)

    def __call__(self, piece: memoryview) -> None:
        self.data += piece
        self.pieces += 1
        self.threads.add(threading.get_ident())


async def pour(
    link: Link, peer: Peer, patience: Patience, account: Account, *takers: Taker, read: float = 60
) -> None:
    async with link.transport(peer, Timeouts(read=read)) as transport:
        await Registry(transport, patience=patience).repository("shop/api").blob(LAYER, account).pour(*takers)  # type: ignore[attr-defined]


# Downloads.


@pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_000, SIZE])
async def test_every_taker_is_handed_the_whole_blob_in_order_and_in_a_thread(
    size: int, link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    layer = Descriptor.of(DATA[:size], TAR)
    one, two = Taken(), Taken()
    async with serve(ok(DATA[:size])) as peer, link.transport(peer) as transport:
        blob = RemoteBlob(Registry(transport, patience=patience).repository("shop/api"), layer, account)
        assert isinstance(blob, Pourable)
        await blob.pour(one, two)
    assert one.data == two.data == DATA[:size]
    assert account == Account(requests=1, attempts=1, received=size)
    assert threading.get_ident() not in one.threads | two.threads


@pytest.mark.parametrize("ending", ["FIN", "RST", "silence"])
async def test_a_cut_is_made_good_without_a_byte_twice(
    ending: str, link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    never = asyncio.Event()

    async def broken(_: Reader, writer: Writer) -> None:
        writer.write(ok(DATA[:4_000_000], length=SIZE))
        await writer.drain()
        if ending == "silence":
            await never.wait()
        if ending == "RST":
            link.cut(writer)

    async def continued(_: Reader, writer: Writer) -> None:
        first = int(peer.requests[-1].lower().partition(b"range: bytes=")[2].partition(b"-")[0] or b"0")
        writer.write(rest(first) if first else ok(DATA))

    one, two = Taken(), Taken()
    async with serve(broken, continued) as peer:
        await pour(link, peer, patience, account, one, two, read=1.0 if ending == "silence" else 60)
    assert one.data == two.data == DATA
    assert account == Account(requests=2, attempts=1, received=SIZE)


async def test_what_is_held_already_is_skipped_where_range_is_ignored(
    link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    one = Taken()
    async with serve(ok(DATA[:2_000_000], length=SIZE), ok(DATA)) as peer:
        await pour(link, peer, patience, account, one)
    assert one.data == DATA
    assert account == Account(requests=2, attempts=2, received=SIZE + 2_000_000)


async def test_a_blob_in_chunks_is_poured_too(
    link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    one = Taken()
    async with serve(head + b"%x\r\n%b\r\n0\r\n\r\n" % (SIZE, DATA)) as peer:
        await pour(link, peer, patience, account, one)
    assert one.data == DATA
    assert account == Account(requests=1, attempts=1, received=SIZE)


@pytest.mark.parametrize("extra", [-1, 1])
async def test_a_blob_of_another_size_is_refused(
    extra: int, link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    one = Taken()
    async with serve(ok((DATA + b"x")[: SIZE + extra])) as peer:
        with pytest.raises(ContentError):
            await pour(link, peer, patience, account, one)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    if extra > 0:
        async with serve(head + b"%x\r\n%bx\r\n0\r\n\r\n" % (SIZE + 1, DATA)) as peer:
            with pytest.raises(ContentError):
                await pour(link, peer, patience, account, one)
    assert len(one.data) <= SIZE


@pytest.mark.parametrize("which", [0, 1])
async def test_what_a_taker_raises_ends_it_and_is_raised(
    which: int, link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    def full(_: memoryview) -> None:
        raise LocalFileError("disk full")

    takers: list[Taker] = [Taken(), Taken()]
    takers[which] = full
    async with serve(ok(DATA)) as peer:
        with pytest.raises(LocalFileError, match="disk full"):
            await pour(link, peer, patience, account, *takers)
    assert account.requests == account.attempts == 1
    assert 0 < account.received <= SIZE


async def test_a_pour_that_is_cancelled_ends_at_once_with_its_thread_and_connection(
    link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    reached, gone, never = asyncio.Event(), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def stall(reader: Reader, writer: Writer) -> None:
        with contextlib.suppress(ConnectionResetError):  # if not all had been read
            writer.write(ok(DATA[:4_000_000], length=SIZE))
            await writer.drain()
            await reader.read()
        gone.set()
        await never.wait()

    one, two = Taken(), Taken()

    def note(piece: memoryview) -> None:
        one(piece)
        loop.call_soon_threadsafe(reached.set)

    async with serve(stall) as peer:
        task = asyncio.create_task(pour(link, peer, patience, account, note, two))
        await asyncio.wait_for(reached.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 5)
        await asyncio.wait_for(gone.wait(), 5)
    pieces = one.pieces
    await asyncio.sleep(0)
    assert one.pieces == pieces
    assert len(one.data) == len(two.data) <= account.received <= 4_000_000


async def test_bytes_are_counted_as_they_arrive(
    link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    reached, seen = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def halt(_: Reader, writer: Writer) -> None:
        writer.write(ok(DATA[:4_000_000], length=SIZE))
        await seen.wait()
        writer.write(DATA[4_000_000:])

    def note(_: memoryview) -> None:
        loop.call_soon_threadsafe(reached.set)

    async with serve(halt) as peer:
        task = asyncio.create_task(pour(link, peer, patience, account, note))
        await asyncio.wait_for(reached.wait(), 5)
        assert 0 < account.received <= 4_000_000
        seen.set()
        await task
    assert account.received == SIZE


@OWN
async def test_a_peer_that_waits_for_room_hears_of_a_pour_that_is_cancelled(
    link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    reached, broken = asyncio.Event(), asyncio.Event()
    release = threading.Event()
    loop = asyncio.get_running_loop()

    async def send(_: Reader, writer: Writer) -> None:
        writer.write(ok(b"", length=SIZE))
        try:
            while True:
                # More than any window holds: this goes on until somebody breaks it off.
                writer.write(DATA[:SIZE])
                await writer.drain()
        except ConnectionError:
            broken.set()

    def hold(_: memoryview) -> None:
        loop.call_soon_threadsafe(reached.set)
        release.wait(10)

    async with serve(send) as peer:
        task = asyncio.create_task(pour(link, peer, patience, account, hold))
        await asyncio.wait_for(reached.wait(), 5)
        task.cancel()
        loop.call_soon(release.set)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 5)
        await asyncio.wait_for(broken.wait(), 5)


@OWN
async def test_closing_the_client_ends_a_pour(
    link: Link, serve: Serve, patience: Patience, account: Account, sleeps: list[float]
) -> None:
    never = asyncio.Event()

    async def stall(_: Reader, writer: Writer) -> None:
        writer.write(ok(DATA[:4_000_000], length=SIZE))
        await writer.drain()
        started.set()
        await never.wait()

    started = asyncio.Event()
    async with serve(stall) as peer:
        transport = link.transport(peer)
        blob = Registry(transport, patience=patience).repository("shop/api").blob(LAYER, account)
        task = asyncio.create_task(blob.pour(Taken(), Taken()))  # type: ignore[attr-defined]
        await started.wait()
        await transport.aclose()
        with pytest.raises(NetworkError):
            await asyncio.wait_for(task, 5)
    assert len(sleeps) == 3  # it was tried again, in vain


@OWN
async def test_more_blobs_than_connections_are_poured(
    serve: Serve, patience: Patience, account: Account
) -> None:
    taken = [Taken() for _ in range(12)]
    async with serve(ok(DATA)) as peer, Transport(peer.url, Connection(connections=3)) as transport:
        repository = Registry(transport, patience=patience).repository("shop/api")
        async with asyncio.TaskGroup() as group:
            for each in taken:
                group.create_task(repository.blob(LAYER, account).pour(each, Taken()))  # type: ignore[attr-defined]
    assert all(each.data == DATA for each in taken)
    assert account.received == 12 * SIZE


async def test_a_blob_of_a_registry_that_a_mock_plays_is_poured(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.get(path__startswith="/v2/shop/api/blobs/").respond(200, content=DATA)
    one = Taken()
    await repository.blob(LAYER, account).pour(one)  # type: ignore[attr-defined]
    assert one.data == DATA
    assert account == Account(requests=1, attempts=1, received=SIZE)


# Uploads.


@dataclass
class Streamed:
    """Content in pieces, which may be other bytes than it says.

    Attributes:
        ended: set when nobody reads it any more.
    """

    descriptor: Descriptor
    pieces: list[bytes]
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def open(self) -> AsyncGenerator[bytes, None]:
        try:
            for piece in self.pieces:
                yield piece
        finally:
            self.ended.set()


def streamed(data: bytes = DATA, descriptor: Descriptor = LAYER, step: int = 300_000) -> Streamed:
    return Streamed(descriptor, [data[start : start + step] for start in range(0, len(data), step)])


OPENED = ok(b"", status=b"202 Accepted", extra=b"Location: /u\r\n")
CREATED = ok(b"", status=b"201 Created")
DONE = ok(b"", status=b"204 No Content")


async def push(
    link: Link,
    peer: Peer,
    patience: Patience,
    account: Account,
    content: Streamed | RemoteBlob,
    *,
    timeouts: Timeouts | None = None,
) -> None:
    async with link.transport(peer, timeouts) as transport:
        await Registry(transport, patience=patience).repository("shop/api").upload(content, account)


@pytest.mark.parametrize("size", [0, 1, 10_000, 300_000, 300_001, SIZE])
async def test_content_that_pours_goes_up_whole(
    size: int, link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    content = streamed(DATA[:size], Descriptor.of(DATA[:size], TAR))
    async with serve(OPENED, CREATED) as peer:
        await push(link, peer, patience, account, content)
    assert peer.bodies == [b"", DATA[:size]]
    assert account == Account(requests=2, attempts=1, sent=size)


@pytest.mark.parametrize(
    "damaged",
    [DATA[:-1] + bytes([DATA[-1] ^ 1]), b"x" + DATA[1:], DATA[:-1], DATA + b"x", DATA + DATA],
    ids=["last byte", "first byte", "short", "long", "twice"],
)
async def test_damaged_content_never_arrives_whole(
    damaged: bytes, link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    received = bytearray()

    async def record(reader: Reader, _: Writer) -> None:
        while piece := await reader.read(1 << 20):
            received.extend(piece)

    async with serve(OPENED, record, DONE) as peer:
        with pytest.raises(ContentError):
            await push(link, peer, patience, account, streamed(damaged))
    assert len(received) < SIZE
    assert len(received) <= account.sent
    assert peer.requests[-1].startswith(b"DELETE /u ")


@OWN
@pytest.mark.parametrize("closes", [True, False])
async def test_a_refusal_ends_the_pouring_and_is_heard(
    closes: bool, link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    async def early(reader: Reader, writer: Writer) -> None:
        await reader.readexactly(100_000)
        close = b"Connection: close\r\n" if closes else b""
        writer.write(ok(b"not here", status=b"403 Forbidden", extra=close))
        await writer.drain()
        if closes:
            return
        while await reader.read(1 << 16):
            pass

    content = Streamed(Descriptor(media_type=TAR, digest=LAYER.digest, size=100 * SIZE), [DATA] * 100)
    async with serve(OPENED, early, DONE) as peer:
        with pytest.raises(RegistryError, match="registry said: not here"):
            await push(link, peer, patience, account, content)
    assert content.ended.is_set()
    assert account.sent < 100 * SIZE
    assert peer.requests[-1].startswith(b"DELETE /u ")


@OWN
async def test_an_upload_that_is_cut_starts_again(
    link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    async def reset(reader: Reader, writer: Writer) -> None:
        await reader.readexactly(1000)
        link.cut(writer)

    async def second(reader: Reader, writer: Writer) -> None:
        method = peer.requests[-1].partition(b" ")[0]
        if method == b"PUT":
            assert await reader.readexactly(SIZE) == DATA
        status = {b"HEAD": b"404 Not Found", b"POST": b"202 Accepted", b"PUT": b"201 Created"}
        writer.write(ok(b"", status=status.get(method, b"204 No Content"), extra=b"Location: /u\r\n"))

    async with serve(OPENED, reset, second) as peer:
        await push(link, peer, patience, account, streamed())
    assert account.attempts == 2
    assert SIZE < account.sent <= 2 * SIZE


@OWN
async def test_an_upload_that_is_cancelled_ends_with_its_thread(
    link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    reached, never = asyncio.Event(), asyncio.Event()

    async def stall(reader: Reader, _: Writer) -> None:
        await reader.readexactly(1000)
        reached.set()
        await never.wait()

    content = Streamed(Descriptor(media_type=TAR, digest=LAYER.digest, size=100 * SIZE), [DATA] * 100)
    async with serve(OPENED, stall, DONE) as peer:
        task = asyncio.create_task(push(link, peer, patience, account, content))
        await asyncio.wait_for(reached.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 5)
        assert content.ended.is_set()
    assert peer.requests[-1].startswith(b"DELETE /u ")


@OWN
async def test_a_registry_that_takes_nothing_more_is_given_up(
    link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    never = asyncio.Event()

    async def deaf(_: Reader, writer: Writer) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await never.wait()

    content = Streamed(Descriptor(media_type=TAR, digest=LAYER.digest, size=100 * SIZE), [DATA] * 100)
    # Each time: a session, its silence, a question to it, its end.
    async with serve(*[OPENED, deaf, DONE, DONE] * 3, OPENED, deaf, DONE) as peer:
        with pytest.raises(NetworkError, match="fell silent"):
            await push(link, peer, patience, account, content, timeouts=Timeouts(write=0.05))
    assert account.attempts == 4


@OWN
async def test_a_blob_is_copied_from_one_registry_to_another(
    link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    async def broken(_: Reader, writer: Writer) -> None:
        writer.write(ok(DATA[:4_000_000], length=SIZE))
        await writer.drain()
        link.cut(writer)

    async def continued(_: Reader, writer: Writer) -> None:
        first = int(source.requests[-1].lower().partition(b"range: bytes=")[2].partition(b"-")[0] or b"0")
        writer.write(rest(first) if first else ok(DATA))

    async with (
        serve(broken, continued) as source,
        serve(OPENED, CREATED) as peer,
        link.transport(source) as transport,
    ):
        read = Account()
        blob = RemoteBlob(Registry(transport, patience=patience).repository("a"), LAYER, read)
        await push(link, peer, patience, account, blob)
    assert peer.bodies[1] == DATA
    assert account == Account(requests=2, attempts=1, sent=SIZE)
    assert read == Account(requests=2, attempts=1, received=SIZE)


@OWN
async def test_the_source_of_a_copy_that_fails_fails_the_copy(
    link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    async with (
        serve(ok(b"gone", status=b"404 Not Found")) as source,
        serve(OPENED, CREATED, DONE) as peer,
        link.transport(source) as transport,
    ):
        blob = RemoteBlob(Registry(transport, patience=patience).repository("a"), LAYER, Account())
        with pytest.raises(RegistryError, match="404"):
            await push(link, peer, patience, account, blob)
    assert account.attempts == 1
    assert peer.requests[-1].startswith(b"DELETE /u ")


# The registry's own account of it.


async def test_the_accounts_agree_with_the_journal(patience: Patience, account: Account) -> None:
    async with MockRegistry() as mock:
        async with mock.serve() as server, Transport(server.url) as transport:
            repository = Registry(transport, patience=patience).repository("shop/api")
            other = Registry(transport, patience=patience).repository("shop/web")
            await repository.upload(streamed(), account)
            one = Taken()
            await repository.blob(LAYER, account).pour(one, Taken())  # type: ignore[attr-defined]
            await other.upload(repository.blob(LAYER, account), account)
            async with aclosing(other.blob(LAYER, account).open()) as stream:
                assert b"".join([chunk async for chunk in stream]) == DATA
            assert one.data == DATA
        put, get = mock.journal.records(method="PUT"), mock.journal.records(method="GET")
        assert account.requests == len(mock.journal)
        assert account.sent == sum(record.bytes_in for record in put) == 2 * SIZE
        assert account.received == sum(record.bytes_out for record in get) == 3 * SIZE
        assert all(record.complete for record in mock.journal)


def test_content_in_memory_does_not_pour() -> None:
    assert not isinstance(BytesContent(LAYER, DATA), Pourable)
