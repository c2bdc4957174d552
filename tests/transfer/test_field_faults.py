"""What registries were seen to do wrong, and how a client gets through: numbers as in `mock_registry.faults`.

Each transfer's ledger is held to its laws, and against the registry's journal (`Shop.run`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mock_registry.clock import ManualClock
from regsim.core.account import Account
from regsim.errors import NetworkError, NotFoundError, RegistryError
from regsim.net import Timeouts
from regsim.registry.requests import Habits
from regsim.store.layout import LayoutStore
from regsim.store.node import MemoryStore
from tests.transfer.shop import IS_LARGE, LARGE, MIB, SMALL, entry_of, image, reasons, shop

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


async def test_fault_01_requests_that_come_too_often_wait_as_long_as_they_are_told() -> None:
    async with shop("PUT manifest first=2 status 429 headers.retry-after=7") as there:
        ledger = await there.push(await image(SMALL))
        assert (ledger.error, there.sleeps) == (None, [7.0, 7.0])
        assert reasons(ledger) == ["429", "429"]


async def test_fault_01_without_a_useful_wait_each_one_is_longer_than_the_one_before() -> None:
    async with shop("PUT manifest first=3 status 429") as there:
        ledger = await there.push(await image(SMALL))
        assert (ledger.error, there.sleeps) == (None, [1.0, 2.0, 4.0])


async def test_fault_02_a_page_that_says_429_is_as_good_as_an_error() -> None:
    async with shop("manifest first=1 status 429 form=html") as there:
        store = await image(SMALL)
        ledger = await there.push(store)
        assert (ledger.error, reasons(ledger)) == (None, ["429"])
        assert await there.holds(store)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_fault_03_a_commit_that_failed_is_looked_for_before_it_is_repeated(when: str) -> None:
    async with shop(f"PUT upload nth=1 when={when} status 502") as there:
        store = await image(LARGE)
        ledger = await there.push(store)
        assert ledger.error is None
        commits = there.asked("PUT", "upload")
        assert commits == ([502, 201] if when == "after" else [502, 201, 201])
        assert there.sleeps == ([] if when == "after" else [1.0])
        assert sum(entry.wasted for entry in ledger.entries) <= len(LARGE)
        assert await there.holds(store)


async def test_fault_04_a_commit_that_outlasts_the_client_is_made_once() -> None:
    timeouts = Timeouts(commit=0.3)
    async with shop("PUT upload nth=1 slow_commit 1s", timeouts=timeouts) as there:
        store = await image(LARGE)
        ledger = await there.push(store)
        assert (ledger.error, ledger.summary.wasted) == (None, 0)
        assert set(reasons(ledger)) == {"stall"}  # a busy machine may be silent elsewhere too
        assert await there.holds(store)


async def test_fault_04_even_if_the_retry_finds_no_session() -> None:
    async with shop("PUT upload slow_commit 0 then=unknown") as there:
        store = await image(LARGE)
        ledger = await there.push(store)
        assert (ledger.error, ledger.summary.wasted) == (None, 0)
        assert reasons(ledger) == ["404", "404"]
        assert await there.holds(store)


@pytest.mark.parametrize("effect", ["cut", "reset"])
@pytest.mark.parametrize("number", ["05", "06"])
async def test_fault_05_and_06_a_download_that_breaks_off_goes_on_where_it_was(
    effect: str, number: str
) -> None:
    del number
    async with shop() as there:
        store = await image(LARGE)
        await there.push(store)
        there.forget()
        there.mock.faults.add(f"GET blob {IS_LARGE} times=2 {effect} 1500000")
        pulled = MemoryStore()
        ledger = await there.pull(pulled)
        assert (ledger.error, ledger.summary.wasted, pulled.blobs) == (None, 0, store.blobs)
        assert reasons(ledger) == [effect, effect]
        assert entry_of(ledger, LARGE).attempts == 1


@pytest.mark.parametrize("effect", ["cut", "reset"])
async def test_fault_06_an_upload_that_breaks_off_goes_on_where_the_registry_stands(effect: str) -> None:
    async with shop(f"PUT upload times=2 {effect} 1500000") as there:
        store = await image(LARGE)
        ledger = await there.push(store)
        assert ledger.error is None
        assert [record.method for record in there.mock.journal.records(route="uploads")] == ["POST"] * 2
        assert entry_of(ledger, LARGE).attempts == 1
        # What was under way when it broke, and no more.
        assert ledger.summary.wasted < 2 * len(LARGE) - 2 * 1_500_000
        assert await there.holds(store)


@pytest.mark.parametrize(
    "mode", ["ignore", "shift octets=-5", "shift octets=5", "short", "multipart", "bare", "refuse", "lie"]
)
async def test_fault_07_a_range_that_is_answered_otherwise_ends_well_all_the_same(mode: str) -> None:
    async with shop() as there:
        store = await image(LARGE)
        await there.push(store)
        there.forget()
        there.mock.faults.add(f"GET blob {IS_LARGE} times=1 cut 1500000")
        # Who lies each time about where bytes come from cannot be found out before the end.
        there.mock.faults.add(f"GET blob {IS_LARGE} {'times=1 ' if mode == 'lie' else ''}ranges {mode}")
        pulled = MemoryStore()
        ledger = await there.pull(pulled)
        assert (ledger.error, pulled.blobs) == (None, store.blobs)


async def test_fault_09_a_trickle_does_not_hold_a_pull_for_ever() -> None:
    # Every wait is shorter than the limit on silence, and a megabyte never comes.
    async with shop(timeouts=Timeouts(read=5.0, slowest=4 * MIB)) as there:
        await there.push(await image(LARGE))
        there.forget()
        there.mock.faults.add("GET blob trickle 1 every=50ms")
        ledger = await there.pull()
        assert isinstance(ledger.error, NetworkError)
        assert "bytes a second" in ledger.error.message
        assert set(reasons(ledger)) == {"too-slow"}


async def test_fault_09_a_stall_is_left_and_gone_on_with() -> None:
    async with shop(timeouts=Timeouts(read=1.0)) as there:
        store = await image(LARGE)
        await there.push(store)
        there.forget()
        there.mock.faults.add(f"GET blob {IS_LARGE} times=1 stall after=1500000 seconds=20")
        pulled = MemoryStore()
        ledger = await there.pull(pulled)
        assert (ledger.error, ledger.summary.wasted, pulled.blobs) == (None, 0, store.blobs)
        assert set(reasons(ledger)) == {"stall"}  # a busy machine may be silent elsewhere too


async def test_fault_12_an_upload_that_is_nowhere_is_one_clear_error() -> None:
    async with shop("POST uploads location drop") as there:
        ledger = await there.push(await image(SMALL))
        assert isinstance(ledger.error, RegistryError)
        assert "without a Location" in ledger.error.message


async def test_fault_12_a_piece_or_a_manifest_without_one_is_no_matter() -> None:
    faults = ("PATCH upload location drop", "PUT manifest location drop")
    async with shop(*faults, habits=Habits(largest=MIB)) as there:
        store = await image(LARGE[: MIB + 5])
        ledger = await there.push(store)
        # The session stays where it was: what this registry calls stale is told with where it stands.
        assert ledger.error is None
        assert await there.holds(store)


async def test_fault_13_a_location_with_the_wrong_port_is_one_clear_error() -> None:
    async with shop("POST uploads location form=absolute port=9") as there:
        ledger = await there.push(await image(SMALL))
        assert isinstance(ledger.error, NetworkError)
        assert ":9/" in ledger.error.message


@pytest.mark.parametrize("form", ["rewind octets=1000", "ahead octets=1000", "stale", "missing"])
async def test_fault_14_an_upload_whose_place_is_told_wrong_ends_well(form: str) -> None:
    faults = ("PUT upload times=1 reset 1500000", f"upload_range {form}")
    async with shop(*faults) as there:
        store = await image(LARGE)
        ledger = await there.push(store)
        assert ledger.error is None
        assert await there.holds(store)


async def test_fault_14_a_piece_that_is_kept_in_part_is_gone_on_with() -> None:
    async with shop("PATCH upload first=2 short_accept 300000", habits=Habits(largest=MIB)) as there:
        store = await image(LARGE)
        ledger = await there.push(store)
        layer = entry_of(ledger, LARGE)
        assert (ledger.error, layer.attempts) == (None, 1)
        assert [retry.reason for retry in layer.retries] == ["short-acceptance"] * 2
        assert layer.wasted == sum(retry.wasted for retry in layer.retries) == 2 * (MIB - 300_000)
        assert await there.holds(store)


async def test_fault_15_an_upload_is_not_begun_again_in_a_session_that_holds_some_of_it() -> None:
    async with shop("PUT upload times=1 reset 1500000") as there:
        ledger = await there.push(await image(LARGE))
        assert ledger.error is None
        assert 416 not in there.asked("PUT", "upload")


async def test_fault_16_an_upload_that_was_forgotten_is_begun_anew() -> None:
    async with shop("PUT upload times=1 reset 1500000", "GET upload nth=1 forget_sessions own") as there:
        store = await image(LARGE)
        ledger = await there.push(store)
        layer = entry_of(ledger, LARGE)
        assert (ledger.error, layer.attempts) == (None, 2)
        assert layer.wasted == sum(retry.wasted for retry in layer.retries) > 0
        assert await there.holds(store)


async def test_fault_17_a_range_that_stands_still_is_not_believed() -> None:
    async with shop("upload_range stale", habits=Habits(largest=MIB)) as there:
        store = await image(LARGE)
        ledger = await there.push(store)
        assert (ledger.error, ledger.summary.wasted) == (None, 0)
        assert await there.holds(store)


@pytest.mark.parametrize("status", [200, 201, 204])
async def test_fault_18_a_piece_may_be_answered_with_any_success(status: int) -> None:
    async with shop(f"PATCH upload status {status} keep=yes", habits=Habits(largest=MIB)) as there:
        store = await image(LARGE)
        ledger = await there.push(store)
        assert (ledger.error, ledger.summary.wasted, reasons(ledger)) == (None, 0, [])
        assert await there.holds(store)


@pytest.mark.parametrize(
    ("number", "limit"), [(19, "body_limit 2MiB status=416 form=json"), (20, "body_limit 2MiB")]
)
async def test_fault_19_and_20_what_is_too_large_goes_in_pieces_from_then_on(number: int, limit: str) -> None:
    del number
    async with shop(f"upload {limit}") as there:
        store = await image(LARGE, LARGE[::-1])
        ledger = await there.push(store)
        assert ledger.error is None
        # It is found out once for the host, in two steps: 4 MiB, 1 MiB.
        assert reasons(ledger) == ["request-too-large"] * 2
        assert await there.holds(store)


async def test_fault_20_what_is_too_large_in_any_pieces_is_one_clear_error() -> None:
    async with shop("upload body_limit 1000") as there:
        ledger = await there.push(await image(LARGE))
        assert isinstance(ledger.error, RegistryError)
        assert (ledger.error.status, there.mock.state.sessions) == (413, {})


async def test_fault_21_a_range_that_is_one_too_far_is_not_believed() -> None:
    async with shop("upload_range ahead", habits=Habits(largest=MIB)) as there:
        store = await image(LARGE)
        ledger = await there.push(store)
        assert (ledger.error, ledger.summary.wasted) == (None, 0)
        assert await there.holds(store)


@pytest.mark.parametrize("text", ["0-0", "0--1", "missing"])
async def test_fault_22_an_empty_session_may_say_so_in_any_way(text: str) -> None:
    faults = (f"upload_range empty={text}", "PUT upload nth=1 status 503")
    async with shop(*faults) as there:
        store = await image(LARGE)
        ledger = await there.push(store)
        assert ledger.error is None
        assert await there.holds(store)


@pytest.mark.parametrize("status", [401, 403, 400, 404])
async def test_fault_24_a_mount_that_is_refused_is_an_upload(status: int) -> None:
    async with shop(f"POST uploads query=mount status {status}") as there:
        store = await image(LARGE)
        await there.push(store, "library/base")
        ledger = await there.push(store, "shop/api", "library/base")
        layer = entry_of(ledger, LARGE)
        assert (ledger.error, layer.outcome, layer.evidence) == (None, "transferred", "mount-refused")


@pytest.mark.parametrize("status", [400, 404, 409, 500])
async def test_fault_25_who_comes_second_with_a_blob_finds_it_there(status: int) -> None:
    async with shop(f"collide {status} scope=stored") as there:
        store = await image(LARGE)
        await there.push(await image(LARGE, config=b'{"other": 1}'))
        there.forget()
        there.mock.faults.add("HEAD blob answered=200 times=1 lie absent")
        ledger = await there.push(store)
        layer = entry_of(ledger, LARGE)
        # What was sent before the refusal is wasted; one that sent all of it cannot know who was first.
        assert (ledger.error, reasons(ledger)) == (None, [str(status)])
        assert (layer.outcome, layer.wasted) in (("exists", layer.wire_sent), ("transferred", 0))
        assert await there.holds(store)


async def test_fault_26_a_manifest_that_comes_too_early_is_put_again_without_its_blobs() -> None:
    # It sees what it was given two seconds later: after the second wait, of one second and two.
    async with shop("lag 2s", clock=ManualClock()) as there:
        store = await image(LARGE)
        ledger = await there.push(store)
        assert (ledger.error, there.sleeps) == (None, [1.0, 2.0])
        assert there.asked("PUT", "upload") == [201, 201]
        assert there.asked("PUT", "manifest") == [400, 400, 400, 201]
        assert ledger.summary.wasted <= 3 * ledger.entries[0].size + len(ledger.entries)
        assert reasons(ledger)[0] == "manifest-blob-unknown"
        assert await there.holds(store)


async def test_fault_27_a_full_disk_is_one_clear_error_and_no_session_is_left() -> None:
    async with shop("quota 1MB") as there:
        ledger = await there.push(await image(LARGE))
        assert isinstance(ledger.error, RegistryError)
        assert ledger.error.status == 500
        assert there.mock.state.sessions == {}


async def test_fault_28_replicas_that_know_nothing_of_each_other_are_one_clear_error() -> None:
    async with shop("replicas 2") as there:
        ledger = await there.push(await image(SMALL))
        assert isinstance(ledger.error, RegistryError)
        assert "BLOB_UPLOAD_UNKNOWN" in ledger.error.codes
        assert set(reasons(ledger)) == {"session-forgotten"}


@pytest.mark.parametrize(
    "lie", ["lie digest=missing", "lie absent status=405", "lie length=missing", "lie digest=wrong"]
)
async def test_fault_29_a_head_that_says_little_or_nothing_is_made_good(lie: str) -> None:
    async with shop(f"HEAD {lie}") as there:
        store, pulled = await image(LARGE), MemoryStore()
        assert (await there.push(store)).error is None
        again = await there.push(store)
        # Under the tag something else seems to be: then it is put there once more, and no blob is.
        root, *blobs = again.entries
        assert (again.error, {str(entry.outcome) for entry in blobs}) == (None, {"exists"})
        assert root.outcome == ("transferred" if lie == "lie digest=wrong" else "exists")
        pull = await there.pull(pulled)
        if lie == "lie digest=wrong":
            assert isinstance(pull.error, NotFoundError)
            assert "sha256:000000" in pull.error.message
        else:
            assert (pull.error, pulled.blobs) == (None, store.blobs)


@pytest.mark.parametrize("style", ["opaque", "bare", "unquoted", "absolute", "keep"])
async def test_fault_31_every_page_of_tags_is_read_however_it_is_linked(style: str) -> None:
    async with shop(f"tags paging {style} size=2") as there:
        store = await image(SMALL)
        repository = there.registry.repository("shop/api", writes=True)
        root = await store.resolve("app")
        assert root is not None
        await there.push(store)
        for tag in ("a", "b", "c", "d"):
            await repository.put_manifest(store.blobs[root.digest], root.media_type, tag, Account())
        assert await repository.tags(Account()) == ("a", "app", "b", "c", "d")


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip"])
async def test_fault_32_a_layer_is_taken_as_it_is_whatever_it_is_said_to_be(encoding: str) -> None:
    async with shop(f"blob encode {encoding}") as there:
        store, pulled = await image(LARGE), MemoryStore()
        await there.push(store)
        ledger = await there.pull(pulled)
        assert (ledger.error, ledger.summary.wasted, pulled.blobs) == (None, 0, store.blobs)


@pytest.mark.parametrize("fault", ["HEAD blob answered=200 times=1 collect", "PUT manifest nth=2 collect"])
async def test_fault_33_blobs_that_were_collected_meanwhile_are_pushed_again(fault: str) -> None:
    async with shop(fault) as there:
        first, second = await image(LARGE), await image(LARGE, SMALL, config=b'{"second": 1}')
        await there.push(first)
        ledger = await there.push(second)
        assert (ledger.error, entry_of(ledger, LARGE).outcome) == (None, "transferred")
        assert "manifest-blob-unknown" in reasons(ledger)
        assert await there.holds(second)


async def test_fault_34_a_tag_that_must_not_move_is_not_put_where_it_is() -> None:
    async with shop("immutable strict") as there:
        store = await image(SMALL)
        assert (await there.push(store)).error is None
        again = await there.push(store)
        assert (again.error, again.entries[0].outcome) == (None, "exists")
        moved = await there.push(await image(SMALL, LARGE))
        assert isinstance(moved.error, RegistryError)
        assert moved.error.status == 409


async def test_fault_34_its_answer_may_be_lost() -> None:
    async with shop("immutable strict", "PUT manifest nth=1 when=after reset") as there:
        store = await image(SMALL)
        assert (await there.push(store)).error is None
        assert there.asked("PUT", "manifest") == [None]


async def test_an_interrupted_pull_goes_on_in_the_next_run_and_says_so(tmp_path: Path) -> None:
    async with shop(timeouts=Timeouts(read=1.0)) as there:
        await there.push(await image(LARGE))
        there.forget()
        rules = ("nth=1 stall after=3000000 seconds=20", "skip=1 status 403")
        faults = [there.mock.faults.add(f"GET blob {IS_LARGE} {rule}") for rule in rules]
        assert (await there.pull(LayoutStore(tmp_path, create=True))).error is not None
        for fault in faults:
            fault.remove()
        there.forget()
        ledger = await there.pull(LayoutStore(tmp_path, create=True))
        layer = entry_of(ledger, LARGE)
        assert (ledger.error, ledger.summary.wasted) == (None, 0)
        assert layer.resumed >= 3_000_000
        assert layer.wire_received == len(LARGE) - layer.resumed
        assert ledger.summary.to_json()["resumed_bytes"] == layer.resumed
