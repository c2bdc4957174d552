"""A blob over several connections, against a raw server: how many at once, in which order, how bounded."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, aclosing
from threading import Semaphore
from typing import TYPE_CHECKING, Any

import pytest

from regsim.core import Descriptor
from regsim.core.account import Account
from regsim.errors import UsageError
from regsim.registry.ranges import MOST_RANGES, Ranges
from regsim.registry.repository import Registry

if TYPE_CHECKING:
    from regsim.registry.retry import Patience
    from tests.registry.conftest import Link, Peer

pytestmark = pytest.mark.anyio

DATA = bytes(range(256)) * 4096  # 1 MiB
SIZE = len(DATA)
LENGTH = SIZE // 8
LAYER = Descriptor.of(DATA, "application/vnd.oci.image.layer.v1.tar")
Serve = Callable[..., AbstractAsyncContextManager[Any]]


class Ranged:
    """A server of ranges, which tells who asks at the same time, and holds answers back as told.

    Args:
        together: answers, but the first one, are held back until so many have been asked for.
    """

    def __init__(self, together: int = 1) -> None:
        self.peer: Peer | None = None
        self.starts: list[int] = []
        self.open = self.most = 0
        self._together = together
        self._all = asyncio.Event()

    async def __call__(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self.peer is not None
        found = re.search(rb"range: bytes=(\d+)-(\d*)\r", self.peer.requests[-1].lower())
        assert found is not None
        first, last = int(found[1]), int(found[2] or SIZE - 1)
        self.starts.append(first)
        self.open += 1
        self.most = max(self.most, self.open)
        if self.open >= self._together:
            self._all.set()
        head = b"HTTP/1.1 206 Partial Content\r\nContent-Length: %d\r\nContent-Range: bytes %d-%d/%d\r\n"
        writer.write((head + b"Connection: close\r\n\r\n") % (last - first + 1, first, last, SIZE))
        await writer.drain()
        await self._all.wait()
        writer.write(DATA[first:last])
        await writer.drain()
        self.open -= 1  # nobody can know yet that it is through
        writer.write(DATA[last : last + 1])


async def read(
    link: Link, peer: Peer, patience: Patience, account: Account, *, ranges: Ranges
) -> list[bytes]:
    async with link.transport(peer) as transport, asyncio.timeout(20):
        registry = Registry(transport, patience=patience, ranges=ranges)
        blob = registry.repository("shop/api").blob(LAYER, account)
        async with aclosing(blob.open()) as stream:
            return [chunk async for chunk in stream]


@pytest.mark.parametrize("count", [2, 4, 7])
async def test_so_many_parts_are_under_way_at_once_and_handed_on_in_order(
    count: int, link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    server = Ranged(count)
    async with serve(server) as peer:
        server.peer = peer
        got = await read(link, peer, patience, account, ranges=Ranges(count=count, least=SIZE, length=LENGTH))
    assert b"".join(got) == DATA
    assert sorted(server.starts) == list(range(0, SIZE, LENGTH))
    assert server.most == count
    assert account == Account(requests=8, attempts=1, received=SIZE)


async def test_parts_wait_for_the_first_answer_to_show_that_ranges_are_known(
    link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE + DATA
    async with serve(whole) as peer:
        got = await read(link, peer, patience, account, ranges=Ranges(count=8, least=SIZE, length=LENGTH))
    assert b"".join(got) == DATA
    assert len(peer.requests) == 1
    assert account == Account(requests=1, attempts=1, received=SIZE)


async def test_a_registry_that_ignored_a_range_is_not_asked_for_one_again(
    link: Link, serve: Serve, patience: Patience
) -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE + DATA
    async with serve(whole) as peer, link.transport(peer) as transport:
        ranges = Ranges(count=8, least=SIZE, length=LENGTH)
        repository = Registry(transport, patience=patience, ranges=ranges).repository("shop/api")
        for _ in range(2):
            async with aclosing(repository.blob(LAYER, Account()).open()) as stream:
                assert b"".join([chunk async for chunk in stream]) == DATA
    assert [b"\r\nrange:" in request.lower() for request in peer.requests] == [True, False]


async def test_an_answer_that_goes_beyond_its_range_is_not_read(
    link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    head = b"HTTP/1.1 206 Partial Content\r\nContent-Length: %d\r\nContent-Range: bytes 0-%d/%d\r\n\r\n"
    beyond = head % (SIZE, SIZE - 1, SIZE) + DATA
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE + DATA
    async with serve(beyond, whole) as peer:
        got = await read(link, peer, patience, account, ranges=Ranges(count=8, least=SIZE, length=LENGTH))
    assert b"".join(got) == DATA
    assert account == Account(requests=2, attempts=1, received=SIZE)
    assert [retry.reason for retry in account.retries] == ["range-wrong"]


async def test_no_more_parts_come_ahead_of_their_turn_than_there_is_room_for(
    link: Link, serve: Serve, patience: Patience, account: Account
) -> None:
    server = Ranged(3)
    async with serve(server) as peer:
        server.peer = peer
        ranges = Ranges(count=8, least=SIZE, length=LENGTH, room=Semaphore(2))
        assert b"".join(await read(link, peer, patience, account, ranges=ranges)) == DATA
    assert server.most == 3


@pytest.mark.parametrize("count", [0, -1, MOST_RANGES + 1])
def test_how_many_there_may_be_is_bounded(count: int) -> None:
    with pytest.raises(UsageError, match=f"{count} ranges"):
        Ranges(count=count)


def test_a_blob_is_divided_from_tens_of_megabytes_on_and_only_where_asked_for() -> None:
    assert not Ranges().divide(10**12)
    assert not Ranges(count=4).divide(32 * 1024 * 1024 - 1)
    assert Ranges(count=4).divide(32 * 1024 * 1024)
