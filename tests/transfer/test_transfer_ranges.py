"""Large blobs over several connections: the same bytes, an exact account, a way out where ranges fail.

Each transfer's ledger is held to its laws, and against the registry's journal (`Shop.run`).
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from threading import Semaphore
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regsim.core import Descriptor
from regsim.core.account import Account
from regsim.core.media_types import OCI_LAYER
from regsim.errors import ContentError, NetworkError
from regsim.net import Timeouts
from regsim.registry.ranges import Ranges
from regsim.store.layout import LayoutStore
from regsim.store.node import MemoryStore
from tests.transfer.shop import IS_LARGE, LARGE, MIB, entry_of, image, reasons, shop

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

LENGTH = 300_000
STRETCHES = -(-len(LARGE) // LENGTH)


def four(count: int = 4) -> Ranges:
    return Ranges(count=count, least=MIB, length=LENGTH)


async def test_a_large_blob_comes_in_stretches_each_asked_for_once() -> None:
    async with shop(ranges=four()) as there:
        store = await image(LARGE)
        await there.push(store)
        there.forget()
        pulled = MemoryStore()
        ledger = await there.pull(pulled)
        assert (ledger.error, ledger.summary.wasted, pulled.blobs) == (None, 0, store.blobs)
        entry = entry_of(ledger, LARGE)
        assert (entry.attempts, entry.requests, entry.wire_received) == (1, STRETCHES, len(LARGE))
        assert there.asked("GET", "blob").count(206) == STRETCHES


async def test_a_small_blob_comes_in_one_piece() -> None:
    async with shop(ranges=Ranges(count=4, least=len(LARGE) + 1)) as there:
        await there.push(await image(LARGE))
        there.forget()
        await there.pull()
        assert there.asked("GET", "blob") == [200, 200]


@pytest.mark.parametrize("effect", ["cut", "reset"])
async def test_each_stretch_goes_on_where_it_broke_off(effect: str) -> None:
    async with shop(ranges=four()) as there:
        store = await image(LARGE)
        await there.push(store)
        there.forget()
        there.mock.faults.add(f"GET blob {IS_LARGE} every=5 times=3 {effect} 100000")
        pulled = MemoryStore()
        ledger = await there.pull(pulled)
        assert (ledger.error, ledger.summary.wasted, pulled.blobs) == (None, 0, store.blobs)
        assert reasons(ledger) == [effect] * 3
        assert entry_of(ledger, LARGE).requests == STRETCHES + 3


async def test_a_stretch_that_falls_silent_is_left_and_gone_on_with() -> None:
    async with shop(ranges=four(), timeouts=Timeouts(read=1.0)) as there:
        store = await image(LARGE)
        await there.push(store)
        there.forget()
        there.mock.faults.add(f"GET blob {IS_LARGE} nth=3 stall after=100000 seconds=20")
        pulled = MemoryStore()
        ledger = await there.pull(pulled)
        assert (ledger.error, ledger.summary.wasted, pulled.blobs) == (None, 0, store.blobs)
        assert set(reasons(ledger)) == {"stall"}  # a busy machine may be silent elsewhere too


async def test_patience_that_ends_with_one_stretch_ends_the_blob() -> None:
    async with shop(ranges=four()) as there:
        await there.push(await image(LARGE))
        there.forget()
        there.mock.faults.add(f"GET blob {IS_LARGE} skip=5 reset 0")
        ledger = await there.pull()
        assert isinstance(ledger.error, NetworkError)


async def test_where_range_is_ignored_the_first_answer_is_made_do_with() -> None:
    async with shop(ranges=four()) as there:
        store = await image(LARGE)
        await there.push(store)
        there.forget()
        there.mock.faults.add("GET blob ranges ignore")
        pulled = MemoryStore()
        ledger = await there.pull(pulled)
        assert (ledger.error, ledger.summary.wasted, pulled.blobs) == (None, 0, store.blobs)
        entry = entry_of(ledger, LARGE)
        assert (entry.attempts, entry.requests, reasons(ledger)) == (1, 1, [])


@pytest.mark.parametrize(
    "mode", ["shift octets=-5", "shift octets=5", "short", "multipart", "bare", "refuse"]
)
@pytest.mark.parametrize("when", ["", "skip=3 ", "nth=3 "])
async def test_a_range_that_is_answered_otherwise_ends_well_all_the_same(mode: str, when: str) -> None:
    async with shop(ranges=four()) as there:
        store = await image(LARGE)
        await there.push(store)
        there.forget()
        there.mock.faults.add(f"GET blob {IS_LARGE} {when}ranges {mode}")
        pulled = MemoryStore()
        ledger = await there.pull(pulled)
        assert (ledger.error, pulled.blobs) == (None, store.blobs)


@pytest.mark.parametrize(("mode", "reason"), [("ignore", "range-ignored"), ("bare", "range-wrong")])
async def test_from_a_range_that_went_wrong_on_the_rest_comes_in_one_stream(mode: str, reason: str) -> None:
    async with shop(ranges=four()) as there:
        store = await image(LARGE)
        await there.push(store)
        there.forget()
        rule = there.mock.faults.add(f"GET blob {IS_LARGE} nth=6 ranges {mode}")
        pulled = MemoryStore()
        ledger = await there.pull(pulled)
        assert (ledger.error, pulled.blobs, rule.applied) == (None, store.blobs, 1)
        entry = entry_of(ledger, LARGE)
        assert [str(each.reason) for each in entry.retries] == [reason]
        # Only what was ahead of its turn is wasted, and the retry says so.
        assert entry.wasted == sum(each.wasted for each in entry.retries) <= 4 * LENGTH + 2 * MIB
        assert entry.attempts == 1


@pytest.mark.parametrize("mode", ["ignore", "bare"])
@pytest.mark.parametrize("start", [0, 3 * LENGTH])
async def test_a_stretch_that_broke_off_and_then_went_wrong_keeps_what_it_has(start: int, mode: str) -> None:
    async with shop(ranges=four()) as there:
        store = await image(LARGE)
        await there.push(store)
        there.forget()
        there.mock.faults.add(f"GET blob header=range=bytes={start}-* cut 100000")
        there.mock.faults.add(f"GET blob header=range=bytes={start + 100_000}-* times=1 ranges {mode}")
        pulled = MemoryStore()
        ledger = await there.pull(pulled)
        assert (ledger.error, pulled.blobs) == (None, store.blobs)
        entry = entry_of(ledger, LARGE)
        assert reasons(ledger) == ["cut", "range-ignored" if mode == "ignore" else "range-wrong"]
        assert entry.wasted == sum(each.wasted for each in entry.retries)


async def test_what_a_registry_has_shown_holds_for_its_other_blobs() -> None:
    other = LARGE[::-1]
    async with shop("GET blob ranges ignore", ranges=four()) as there:
        await there.push(await image(LARGE, other))
        there.forget()
        ledger = await there.pull()
        assert (ledger.error, ledger.summary.wasted) == (None, 0)
        assert there.asked("GET", "blob") == [200, 200, 200]


async def test_bytes_from_elsewhere_are_found_out_and_come_once_more_in_one_stream(tmp_path: Path) -> None:
    async with shop(ranges=four()) as there:
        store = await image(LARGE)
        await there.push(store)
        there.forget()
        there.mock.faults.add(f"GET blob {IS_LARGE} nth=4 ranges lie octets=7")
        pulled = MemoryStore()
        ledger = await there.pull(pulled)
        assert (ledger.error, pulled.blobs) == (None, store.blobs)
        assert reasons(ledger) == ["wrong-bytes"]
        assert entry_of(ledger, LARGE).wasted == len(LARGE)
        there.mock.faults.add(f"GET blob {IS_LARGE} corrupt 100")
        ledger = await there.pull(LayoutStore(tmp_path, create=True))
        assert isinstance(ledger.error, ContentError)


async def test_a_copy_reads_over_several_connections_too() -> None:
    async with shop(ranges=four()) as there:
        store = await image(LARGE)
        await there.push(store)
        there.forget()
        there.mock.faults.add(f"GET blob {IS_LARGE} nth=4 ranges lie octets=7")
        ledger = await there.copy("shop/web")
        assert (ledger.error, reasons(ledger)) == (None, ["wrong-bytes"])
        assert await there.holds(store, "shop/web")


@pytest.mark.parametrize("connections", [1, 2, 5])
async def test_more_stretches_than_connections_wait_for_none_but_a_free_one(connections: int) -> None:
    layers = [LARGE[start:] for start in range(6)]
    async with shop(ranges=four(16), connections=connections) as there:
        store = await image(*layers)
        await there.push(store)
        there.forget()
        pulled = MemoryStore()
        ledger = await there.pull(pulled, jobs=6)
        assert (ledger.error, ledger.summary.wasted, pulled.blobs) == (None, 0, store.blobs)


async def test_without_room_for_stretches_ahead_of_their_turn_they_come_one_by_one() -> None:
    ranges = Ranges(count=4, least=MIB, length=LENGTH, room=Semaphore(0))
    async with shop(ranges=ranges) as there:
        store = await image(LARGE)
        await there.push(store)
        there.forget()
        pulled = MemoryStore()
        ledger = await there.pull(pulled)
        assert (ledger.error, pulled.blobs) == (None, store.blobs)
        assert entry_of(ledger, LARGE).requests == STRETCHES


@pytest.mark.parametrize("effect", ["cut 100000", "ranges bare", "ranges ignore", "status 404", "reset 0"])
async def test_all_room_is_given_back_whatever_happens(effect: str) -> None:
    room = Semaphore(3)
    async with shop(ranges=Ranges(count=4, least=MIB, length=LENGTH, room=room)) as there:
        await there.push(await image(LARGE))
        there.mock.faults.add(f"GET blob {IS_LARGE} skip=4 {effect}")
        await there.pull()
    assert [room.acquire(blocking=False) for _ in range(4)] == [True, True, True, False]


async def test_a_pull_that_broke_off_is_gone_on_with(tmp_path: Path) -> None:
    async with shop(ranges=four()) as there:
        await there.push(await image(LARGE))
        there.forget()
        rule = there.mock.faults.add(f"GET blob {IS_LARGE} skip=9 reset 0")
        ledger = await there.pull(LayoutStore(tmp_path, create=True))
        assert isinstance(ledger.error, NetworkError)
        rule.remove()
        there.forget()
        ledger = await there.pull(LayoutStore(tmp_path))
        entry = entry_of(ledger, LARGE)
        assert (ledger.error, entry.wasted) == (None, 0)
        assert 5 * LENGTH <= entry.resumed < len(LARGE)
        assert entry.wire_received == len(LARGE) - entry.resumed
        assert entry.requests > 1


async def test_a_read_that_is_cancelled_leaves_nothing_running() -> None:
    ranges, account, reached = four(), Account(), asyncio.Event()
    async with shop(ranges=ranges) as there:
        await there.push(await image(LARGE))
        there.mock.faults.add(f"GET blob {IS_LARGE} skip=6 stall after=1000 seconds=60")
        blob = there.registry.repository("shop/api").blob(Descriptor.of(LARGE, OCI_LAYER), account)

        async def read() -> None:
            came = 0
            async with aclosing(blob.open()) as chunks:
                async for chunk in chunks:
                    came += len(chunk)
                    if came >= 4 * LENGTH:
                        reached.set()

        task = asyncio.create_task(read())
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(10):
                await task
        assert [each for each in asyncio.all_tasks() if "/remote/ranges.py" in repr(each)] == []
        assert [ranges.room.acquire(blocking=False) for _ in range(17)] == [True] * 16 + [False]
        async with asyncio.timeout(10):
            await there.mock.settled()
        got = there.mock.journal.records(method="GET", route="blob")
        assert account.requests >= len(got)
        assert account.received <= sum(record.bytes_out for record in got)


_FAULTS = st.one_of(
    st.builds("cut {}".format, st.integers(0, 120_000)),
    st.builds("reset {}".format, st.integers(0, 120_000)),
    st.sampled_from(["status 503", "ranges ignore", "ranges bare", "ranges short", "ranges refuse"]),
    st.builds("ranges shift octets={}".format, st.integers(-9, 9)),
)


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 1_500_000),
    length=st.integers(40_000, 400_000),
    count=st.integers(1, 16),
    room=st.integers(0, 16),
    faults=st.lists(st.tuples(st.integers(1, 30), _FAULTS), max_size=3, unique_by=lambda each: each[0]),
)
def test_whatever_the_sizes_and_troubles_the_bytes_and_the_accounts_are_right(
    size: int, length: int, count: int, room: int, faults: list[tuple[int, str]]
) -> None:
    data = LARGE[:size]

    async def pull() -> None:
        ranges = Ranges(count=count, least=1, length=length, room=Semaphore(room))
        async with shop(ranges=ranges) as there:
            store = await image(data)
            await there.push(store)
            there.forget()
            for nth, fault in faults:
                there.mock.faults.add(f"GET blob nth={nth} {fault}")
            pulled = MemoryStore()
            ledger = await there.pull(pulled)
            assert (ledger.error, pulled.blobs) == (None, store.blobs)
            assert [ranges.room.acquire(blocking=False) for _ in range(room + 1)] == [True] * room + [False]

    asyncio.run(pull())
