"""Why octets were wasted without a retry: each reason has a name, and the entry says it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.transfer.shop import IS_LARGE, LARGE, entry_of, image, shop

if TYPE_CHECKING:
    from regsim.core.ledger import Entry, Ledger

pytestmark = pytest.mark.anyio


def lost(entry: Entry) -> list[tuple[str, int]]:
    return [(str(loss.reason), loss.wasted) for loss in entry.losses]


def sizes(ledger: Ledger) -> list[int]:
    return [entry.size for entry in ledger.entries]


async def test_get_of_a_manifest_in_place_of_a_head_is_a_probe() -> None:
    store = await image(b"base")
    async with shop() as there:
        await there.push(store)
        there.mock.faults.add("HEAD lie absent status=405")
        ledger = await there.push(store)
    root = ledger.entries[0]
    assert (root.outcome, lost(root)) == ("exists", [("probe", root.size)])


async def test_get_of_one_byte_in_place_of_a_head_is_a_probe() -> None:
    async with shop() as there:
        await there.push(await image(b"base"))
        there.mock.faults.add("HEAD lie absent status=405")
        ledger = await there.push(await image(b"base", b"top"))
    base = entry_of(ledger, b"base")
    assert (base.outcome, lost(base), base.wasted_received) == ("exists", [("probe", 1)], 1)


async def test_octets_before_the_one_that_a_range_asked_for_are_an_overlap() -> None:
    store = await image(LARGE)
    async with shop() as there:
        await there.push(store)
        there.mock.faults.add(f"GET blob {IS_LARGE} times=1 cut 1500000")
        there.mock.faults.add(f"GET blob {IS_LARGE} ranges shift octets=-5")
        ledger = await there.pull()
    large = entry_of(ledger, LARGE)
    assert (large.outcome, lost(large)) == ("transferred", [("range-overlap", 5)])
    assert [retry.wasted for retry in large.retries] == [0]
    assert large.wire_received == len(LARGE) + 5


async def test_manifest_that_breaks_off_is_read_again_and_what_had_come_is_cut() -> None:
    store = await image(b"base")
    async with shop() as there:
        await there.push(store)
        there.mock.faults.add("GET manifest times=1 cut 100")
        ledger = await there.pull()
    root = ledger.entries[0]
    assert (root.outcome, lost(root), len(root.retries)) == ("transferred", [("cut", 100)], 1)


async def test_manifest_that_a_copy_reads_though_it_is_there_is_not_needed() -> None:
    store = await image(b"base")
    async with shop() as there:
        await there.push(store)
        await there.copy("shop/web")
        ledger = await there.copy("shop/web")
    root = ledger.entries[0]
    assert (root.outcome, lost(root)) == ("exists", [("not-needed", root.size)])


async def test_content_that_a_copy_reads_again_to_send_it_again_is_read_again() -> None:
    store = await image(LARGE)
    async with shop() as there:
        await there.push(store)
        there.mock.faults.add(f"PUT upload {IS_LARGE} times=1 status 503")
        ledger = await there.copy("shop/web")
    large = entry_of(ledger, LARGE)
    again = large.wire_received - len(LARGE)
    assert large.outcome == "transferred"
    assert lost(large) == [("read-again", again)]
    assert 0 < again <= len(LARGE)
    # What was sent is not read again: the retry has it.
    assert sum(retry.wasted for retry in large.retries) == large.wasted_sent == large.wire_sent - len(LARGE)


async def test_all_that_was_moved_for_what_fails_is_lost() -> None:
    store = await image(LARGE)
    async with shop() as there:
        await there.push(store)
        there.mock.faults.add(f"GET blob {IS_LARGE} status 403")
        ledger = await there.pull()
    root, config, large = ledger.entries
    assert sizes(ledger)[0] == root.wire_received
    assert (root.outcome, root.evidence, lost(root)) == ("failed", "blocked", [("failed", root.size)])
    assert config.outcome in ("transferred", "failed")
    assert (large.outcome, large.evidence, lost(large)) == ("failed", "error", [])
