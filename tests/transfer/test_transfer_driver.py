"""The asyncio driver: concurrency, cancellation, errors, labels and events."""
# ruff: noqa: ARG001, ARG002  (fakes take what the protocols hand them)

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from regsim.core import Digest, Role
from regsim.core import actions as act
from regsim.core.ledger import Evidence, Ledger, Outcome, violations
from regsim.core.schedule import CONCURRENT_CHECKS, DEFAULT_JOBS
from regsim.core.work import Labels
from regsim.errors import ContentError, LocalFileError, NetworkError, NotFoundError
from regsim.scenario.reconcile import reconcile
from regsim.store.memory import BytesContent
from regsim.store.node import MemoryStore, node_store
from regsim.transfer import copy
from regsim.transfer.copy import Options, Transfer
from regsim.transfer.ends import (
    LocalDestination,
    LocalSource,
    RegistryDestination,
    RegistrySource,
)
from regsim.transfer.events import Event, Moment, Step

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from mock_registry import MockRegistry
    from regsim.core import Descriptor
    from regsim.core.account import Account
    from regsim.core.actions import CheckBlob, MountAnswer
    from regsim.registry.repository import Registry
    from regsim.store.protocols import Content

    Stock = Callable[..., Awaitable[Descriptor]]

pytestmark = pytest.mark.anyio


def push(store: MemoryStore, registry: Registry, to: str = "shop/api", **options: object) -> Transfer:
    destination = RegistryDestination(registry.repository(to))
    return Transfer(LocalSource(store), "v1", destination, tag="v1", options=Options(**options))  # type: ignore[arg-type]


def told(ledger: Ledger) -> list[tuple[str, str | None]]:
    assert violations(ledger) == []
    return [(entry.outcome, entry.evidence) for entry in ledger.entries]


@dataclass
class Hooked:
    """Content that lets a hook look at each of its chunks before it goes."""

    content: Content
    hook: Callable[[Descriptor, int], Awaitable[None]]

    @property
    def descriptor(self) -> Descriptor:
        return self.content.descriptor

    async def open(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(self.content.open()) as stream:
            data = b"".join([chunk async for chunk in stream])
        for position in range(len(data)):
            await self.hook(self.descriptor, position)
            yield data[position : position + 1]


class HookedStore(MemoryStore):
    """A store whose layers come byte by byte, past a hook."""

    def __init__(self, hook: Callable[[Descriptor, int], Awaitable[None]]) -> None:
        super().__init__()
        self.hook = hook

    def content(self, descriptor: Descriptor) -> Content:
        content = super().content(descriptor)
        return Hooked(content, self.hook) if "layer" in descriptor.media_type else content


# Cancellation.


async def test_cancelled_push_leaves_no_task_and_no_session_and_a_lawful_ledger(
    mock: MockRegistry, registry: Registry, stock: Stock
) -> None:
    stuck, two_done = asyncio.Event(), asyncio.Event()
    done: list[Descriptor] = []

    async def stop_at_the_fourth(descriptor: Descriptor, position: int) -> None:
        if descriptor.digest == Digest.of(b"stuck") and position == 4:
            stuck.set()
            await asyncio.Event().wait()

    def note(event: Event) -> None:
        if (event.step, event.moment) == (Step.UPLOAD, Moment.COMPLETED):
            done.append(event.descriptor)
            if len(done) == 2:
                two_done.set()

    store = HookedStore(stop_at_the_fourth)
    await stock(store, "v1", b"done", b"stuck", b"done")
    before = asyncio.all_tasks()
    transfer = push(store, registry, listener=note)
    task = asyncio.ensure_future(transfer.run())
    await asyncio.gather(stuck.wait(), two_done.wait())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == before
    assert mock.state.sessions == {}
    ledger = transfer.ledger()
    assert told(ledger) == [
        ("failed", "blocked"),
        ("transferred", "upload"),
        ("transferred", "upload"),
        ("failed", "cancelled"),
        ("joined", None),
    ]
    broken = ledger.entries[3]
    # The last byte before the stop is held back until what follows it is known.
    assert (broken.wire_sent, broken.wasted_sent) == (3, 3)
    found = reconcile([ledger], mock.journal)
    assert (found.differences, found.matched) == ((), True)


async def test_cancelled_pull_leaves_nothing_of_what_was_under_way(
    mock: MockRegistry, registry: Registry, stock: Stock
) -> None:
    source = MemoryStore()
    await stock(source, "v1", b"done", b"stuck")
    await push(source, registry).run()
    mock.journal.clear()
    arrived = asyncio.Event()

    class Stuck(MemoryStore):
        async def put(self, content: Content) -> None:
            if content.descriptor.digest == Digest.of(b"stuck"):
                async with aclosing(content.open()) as stream:
                    async for _ in stream:
                        arrived.set()
                        await asyncio.Event().wait()
            await super().put(content)

    store = Stuck()
    before = asyncio.all_tasks()
    transfer = Transfer(
        RegistrySource(registry.repository("shop/api")), "v1", LocalDestination(store), tag="v1"
    )
    task = asyncio.ensure_future(transfer.run())
    await arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == before
    ledger = transfer.ledger()
    assert told(ledger)[0] == ("failed", "blocked")
    assert told(ledger)[3] == ("failed", "cancelled")
    assert await store.resolve("v1") is None
    found = reconcile([ledger], mock.journal)
    assert (found.differences, found.matched) == ((), True)


async def test_transfer_that_is_cancelled_before_it_began_has_an_empty_ledger(registry: Registry) -> None:
    transfer = push(MemoryStore(), registry)
    task = asyncio.ensure_future(transfer.run())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert transfer.ledger().entries == ()
    assert violations(transfer.ledger()) == []


# Concurrency.


@pytest.mark.parametrize("jobs", [1, 2, 3])
async def test_as_many_blobs_are_moved_at_once_as_there_are_jobs(
    jobs: int, registry: Registry, stock: Stock
) -> None:
    barrier = asyncio.Barrier(jobs)
    moving, most = set[str](), 0

    async def meet(descriptor: Descriptor, position: int) -> None:
        if position == 0:
            # Nobody gets past this unless as many as `jobs` have come here.
            await barrier.wait()

    def count(event: Event) -> None:
        nonlocal most
        if event.step is Step.UPLOAD and event.moment is not Moment.PROGRESS:
            change = moving.add if event.moment is Moment.STARTED else moving.remove
            change(event.descriptor.digest)
            most = max(most, len(moving))

    store = HookedStore(meet)
    layers = [f"layer {number}".encode() for number in range(6)]
    # The config goes last, as the smallest.
    await stock(store, "v1", *layers, config=b"{}")
    ledger = await push(store, registry, jobs=jobs, listener=count).run()
    assert ledger.error is None
    assert most == jobs


async def test_largest_blobs_go_first(registry: Registry, stock: Stock) -> None:
    store, sizes = MemoryStore(), list[int]()

    def note(event: Event) -> None:
        if event.step is Step.UPLOAD and event.moment is Moment.STARTED:
            sizes.append(event.descriptor.size)

    held = asyncio.Event()

    class Held(RegistryDestination):
        """Answers for blobs all at once, so that all uploads are known before the first one starts."""

        open = 0

        async def has(self, check: CheckBlob) -> Evidence | None:
            self.open += 1
            if self.open == 4:
                held.set()
            await held.wait()
            return await super().has(check)

    await stock(store, "v1", b"aa", b"a" * 4000, b"a" * 300, config=b"{...}")
    destination = Held(registry.repository("shop/api"))
    options = Options(jobs=1, listener=note)
    await Transfer(LocalSource(store), "v1", destination, tag="v1", options=options).run()
    # The first to be free starts at once; all others wait, and the largest of them is next.
    assert sizes[1:] == sorted(sizes[1:], reverse=True)
    assert sorted(sizes) == [2, 5, 300, 4000]


async def test_questions_are_asked_all_at_once_within_reason(stock: Stock) -> None:
    store, destination = MemoryStore(), Counting()
    await stock(store, "v1", *(f"layer {number}".encode() for number in range(40)))
    ledger = await Transfer(LocalSource(store), "v1", destination).run()
    assert ledger.error is None
    assert destination.most == CONCURRENT_CHECKS


async def test_moves_take_no_place_from_questions(stock: Stock) -> None:
    store = MemoryStore()
    layers = [f"layer {number}".encode() for number in range(15)]
    await stock(store, "v1", *layers, b"late", config=b"{}")
    all_moving, asked = asyncio.Event(), asyncio.Event()

    class Waiting(Counting):
        moving = 0

        async def has(self, check: CheckBlob) -> Evidence | None:
            if check.descriptor.digest == Digest.of(b"late"):
                asked.set()
            elif check.descriptor.digest == Digest.of(b"layer 14"):
                # Of 17 questions 16 are asked at once; this one makes room for the last.
                await all_moving.wait()
            return None

        async def put(self, content: Content, session: object | None, account: Account) -> None:
            self.moving += 1
            if self.moving == 15:
                all_moving.set()
            await asked.wait()

    ledger = await Transfer(LocalSource(store), "v1", Waiting(), options=Options(jobs=16)).run()
    assert ledger.error is None


def test_six_blobs_are_moved_at_once_unless_told_otherwise() -> None:
    assert (Options().jobs, DEFAULT_JOBS, CONCURRENT_CHECKS) == (6, 6, 16)


@dataclass
class Counting:
    """A destination that takes everything, and counts how much it is asked at the same time."""

    remote = False
    open: int = 0
    most: int = 0

    async def pass_by(self) -> None:
        self.open += 1
        self.most = max(self.most, self.open)
        for _ in range(8):
            await asyncio.sleep(0)
        self.open -= 1

    async def find(self, reference: str, account: Account) -> Digest | None:
        return None

    async def manifest(self, descriptor: Descriptor, account: Account) -> bytes:
        raise AssertionError("nothing here is read, sent or given up")

    async def has(self, check: CheckBlob) -> Evidence | None:
        await self.pass_by()
        return Evidence.LOCAL

    async def is_held_by(self, check: act.CheckHolder) -> bool:
        return False

    async def mount(self, action: act.Mount) -> MountAnswer:
        return act.MountAnswer(mounted=False)

    async def put(self, content: Content, session: object | None, account: Account) -> None:
        raise AssertionError("nothing here is read, sent or given up")

    async def put_manifest(self, action: act.PutManifest) -> None:
        pass

    async def abandon(self, session: object, account: Account) -> None:
        raise AssertionError("nothing here is read, sent or given up")


# What goes wrong.


@dataclass
class Failing(Counting):
    """A destination that lacks all blobs, and does with each what it was told to do."""

    deeds: dict[Digest, Callable[[], Awaitable[None]]] = field(default_factory=dict)

    async def has(self, check: CheckBlob) -> Evidence | None:
        return None

    async def put(self, content: Content, session: object | None, account: Account) -> None:
        await self.deeds[content.descriptor.digest]()


async def test_error_on_purpose_stands_in_the_ledger_and_is_not_raised(
    mock: MockRegistry, registry: Registry, stock: Stock
) -> None:
    async def break_at_the_third(descriptor: Descriptor, position: int) -> None:
        if position == 2:
            raise LocalFileError("the disk is gone")

    store = HookedStore(break_at_the_third)
    await stock(store, "v1", b"broken")
    ledger = await push(store, registry).run()
    assert isinstance(ledger.error, LocalFileError)
    assert told(ledger)[::2] == [("failed", "blocked"), ("failed", "error")]
    assert mock.state.sessions == {}
    assert reconcile([ledger], mock.journal).differences == ()


async def test_bug_propagates_and_leaves_no_task(registry: Registry, stock: Stock) -> None:
    async def divide(descriptor: Descriptor, position: int) -> None:
        raise ZeroDivisionError(position)

    store = HookedStore(divide)
    await stock(store, "v1", b"broken", b"also broken")
    before = asyncio.all_tasks()
    transfer = push(store, registry)
    with pytest.raises(ZeroDivisionError):
        await transfer.run()
    assert asyncio.all_tasks() == before
    assert violations(transfer.ledger()) == []


async def test_reference_that_does_not_exist_is_an_error_and_its_cost_is_told(
    mock: MockRegistry, registry: Registry
) -> None:
    source = RegistrySource(registry.repository("shop/api"))
    ledger = await Transfer(source, "v9", LocalDestination(MemoryStore()), name="shop/api:v9").run()
    assert isinstance(ledger.error, NotFoundError)
    assert ledger.error.codes == ("MANIFEST_UNKNOWN",)
    assert "shop/api:v9" in ledger.error.message
    assert ledger.entries == ()
    assert ledger.summary.requests == 1
    assert ledger.digest is None
    assert violations(ledger) == []
    assert reconcile([ledger], mock.journal).matched is True


async def test_bytes_that_are_not_what_they_should_be_reach_no_registry(
    mock: MockRegistry, registry: Registry, stock: Stock
) -> None:
    store = MemoryStore()
    await stock(store, "v1", b"honest")
    store.blobs[Digest.of(b"honest")] = b"forged"
    ledger = await push(store, registry).run()
    assert isinstance(ledger.error, ContentError)
    assert ledger.entries[2].evidence is Evidence.ERROR
    assert mock.state.blob("shop/api", Digest.of(b"honest")) is None
    assert mock.journal.records(method="PUT", route="manifest") == ()
    assert reconcile([ledger], mock.journal).differences == ()


async def test_pull_of_damaged_content_keeps_none_of_it(
    mock: MockRegistry, registry: Registry, stock: Stock
) -> None:
    source, store = MemoryStore(), MemoryStore()
    root = await stock(source, "v1", b"honest")
    await push(source, registry).run()
    mock.journal.clear()
    forge(mock, b"honest", b"forged")
    pulled = Transfer(RegistrySource(registry.repository("shop/api")), "v1", LocalDestination(store))
    ledger = await pulled.run()
    assert isinstance(ledger.error, ContentError)
    entry = ledger.entries[2]
    assert (entry.outcome, entry.evidence, entry.wasted_received) == ("failed", "error", 6)
    assert await store.resolve(root.digest) is None
    assert reconcile([ledger], mock.journal).differences == ()


def forge(mock: MockRegistry, honest: bytes, forged: bytes) -> None:
    """Let a registry hold other bytes than it says."""
    blobs = mock.storage._blobs  # type: ignore[attr-defined]
    digest = Digest.of(honest)
    blobs[digest] = type(blobs[digest])(forged)


async def test_what_is_finished_while_the_rest_is_cancelled_is_told_as_done(stock: Stock) -> None:
    started = asyncio.Event()

    async def finish_anyway() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    async def fail() -> None:
        await started.wait()
        raise NetworkError("the connection broke")

    async def fail_when_stopped() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise NetworkError("the connection broke as well") from None

    async def wait() -> None:
        await asyncio.Event().wait()

    store = MemoryStore()
    await stock(store, "v1", b"done", b"late", b"never", config=b"broken")
    deeds = {b"broken": fail, b"done": finish_anyway, b"late": fail_when_stopped, b"never": wait}
    destination = Failing(deeds={Digest.of(raw): deed for raw, deed in deeds.items()})
    ledger = await Transfer(LocalSource(store), "v1", destination).run()
    assert isinstance(ledger.error, NetworkError)
    assert ledger.error.message == "the connection broke"
    assert told(ledger) == [
        ("failed", "blocked"),
        ("failed", "error"),
        ("transferred", "stored"),
        ("failed", "error"),
        ("failed", "cancelled"),
    ]


# Labels.


INSTRUCTIONS = ("ADD rootfs.tar /", "RUN make")


def created_by(ledger: Ledger) -> list[str | None]:
    return [entry.created_by for entry in ledger.entries if entry.role is Role.LAYER]


async def test_layers_are_told_what_made_them_on_push_pull_and_copy_and_each_again(
    registry: Registry, stock: Stock
) -> None:
    store = MemoryStore()
    await stock(store, "v1", b"base", b"top", created_by=INSTRUCTIONS)
    node = LocalDestination(node_store())
    for _ in range(2):
        assert created_by(await push(store, registry).run()) == list(INSTRUCTIONS)
    for _ in range(2):
        source = RegistrySource(registry.repository("shop/api"))
        pulled = await Transfer(source, "v1", node, tag="v1").run()
        assert created_by(pulled) == list(INSTRUCTIONS)
    copied = await Transfer(source, "v1", RegistryDestination(registry.repository("shop/web"))).run()
    assert created_by(copied) == list(INSTRUCTIONS)


async def test_copy_does_not_read_a_config_that_is_there_just_for_labels(
    mock: MockRegistry, registry: Registry, stock: Stock
) -> None:
    store = MemoryStore()
    root = await stock(store, "v1", b"base", b"top", created_by=INSTRUCTIONS)
    await push(store, registry).run()
    source = RegistrySource(registry.repository("shop/api"))
    destination = RegistryDestination(registry.repository("shop/web"))
    await Transfer(source, "v1", destination).run()
    mock.journal.clear()
    again = await Transfer(source, "v1", destination).run()
    assert created_by(again) == [None, None]
    assert mock.journal.bytes_out() == root.size


async def test_config_in_its_own_descriptor_is_read_from_there(registry: Registry, stock: Stock) -> None:
    store = MemoryStore()
    await stock(store, "v1", b"base", b"top", created_by=INSTRUCTIONS, inlined=True)
    await push(store, registry).run()
    source = RegistrySource(registry.repository("shop/api"))
    pulled = await Transfer(source, "v1", LocalDestination(node_store())).run()
    assert pulled.entries[1].outcome is Outcome.INLINED
    assert created_by(pulled) == list(INSTRUCTIONS)


@pytest.mark.parametrize("config", [b"not JSON", b"[]", b'{"history": [{"created_by": "RUN make"}]}'])
async def test_config_that_does_not_say_what_made_the_layers_labels_none(
    config: bytes, registry: Registry, stock: Stock
) -> None:
    store = MemoryStore()
    await stock(store, "v1", b"base", b"top", config=config)
    ledger = await push(store, registry).run()
    assert ledger.error is None
    assert created_by(ledger) == [None, None]


@pytest.mark.parametrize("room", [0, -1])
async def test_config_that_is_too_large_is_not_read_for_its_labels(
    room: int, registry: Registry, stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, config = MemoryStore(), b'{"history": [{"created_by": "RUN make"}]}'
    await stock(store, "v1", b"base", config=config)
    monkeypatch.setattr(copy, "MAX_CONFIG_SIZE", len(config) + room)
    ledger = await push(store, registry).run()
    assert ledger.error is None
    assert created_by(ledger) == (["RUN make"] if room == 0 else [None])


async def test_labels_that_were_given_stand_before_those_of_configs(registry: Registry, stock: Stock) -> None:
    store = MemoryStore()
    await stock(store, "v1", b"base", b"top", created_by=INSTRUCTIONS)
    base, real = Digest.of(b"base"), Digest.of(b"the real base")
    labels = Labels({base: "COPY . ."}, {base: real})
    ledger = await push(store, registry, labels=labels).run()
    assert created_by(ledger) == ["COPY . .", "RUN make"]
    assert [entry.recorded_digest for entry in ledger.entries[2:]] == [real, None]
    assert labels == Labels({base: "COPY . ."}, {base: real})


# Events, names, clocks.


async def test_each_action_is_told_when_it_starts_and_when_it_ends(registry: Registry, stock: Stock) -> None:
    store, events = MemoryStore(), list[tuple[str, str]]()
    await stock(store, "v1", b"base")
    await push(store, registry, listener=lambda event: events.append((event.step, event.moment))).run()
    steps = ["check-manifest"] * 2 + ["fetch-manifest"] + ["check-blob", "upload"] * 2 + ["put-manifest"]
    assert sorted(step for step, moment in events if moment == "started") == sorted(steps)
    assert sorted(step for step, moment in events if moment == "completed") == sorted(steps)
    assert events[-1] == ("put-manifest", "completed")


async def test_action_that_fails_is_told_as_failed(registry: Registry, stock: Stock) -> None:
    store, failed = MemoryStore(), list[str]()

    def note(event: Event) -> None:
        if event.moment is Moment.FAILED:
            failed.append(event.step)

    await stock(store, "v1", b"base")
    del store.blobs[Digest.of(b"base")]
    await push(store, registry, listener=note).run()
    assert "upload" in failed


async def test_ledger_has_the_name_that_the_user_wrote_and_the_time_it_took(
    registry: Registry, stock: Stock
) -> None:
    store = MemoryStore()
    root = await stock(store, "v1")
    times = iter([100.0, 100.5, 101.0, 103.5])
    transfer = Transfer(
        LocalSource(store),
        "v1",
        RegistryDestination(registry.repository("shop/api")),
        name="oci:layout:v1",
        options=Options(clock=lambda: next(times)),
    )
    assert transfer.ledger().seconds == 0.5
    ledger = await transfer.run()
    assert (ledger.reference, ledger.digest, ledger.seconds) == ("oci:layout:v1", root.digest, 2.5)
    assert transfer.ledger().seconds == 2.5
    assert push(store, registry).ledger().reference == "v1"


async def test_bytes_in_a_descriptor_are_as_good_as_those_in_the_store(
    registry: Registry, stock: Stock
) -> None:
    store, config = MemoryStore(), b'{"inlined": 1}'
    await stock(store, "v1", b"base", config=config, inlined=True)
    del store.blobs[Digest.of(config)]
    pushed = await push(store, registry).run()
    assert told(pushed) == [("transferred", "upload")] * 3
    source = RegistrySource(registry.repository("shop/api"))
    copied = await Transfer(source, "v1", RegistryDestination(registry.repository("shop/web"))).run()
    assert told(copied) == [("transferred", "upload")] * 3
    assert copied.entries[1].wire_received == len(config)


async def test_content_between_two_stores_costs_nothing_on_the_wire(stock: Stock) -> None:
    here, there = MemoryStore(), MemoryStore()
    await stock(here, "v1", b"base", inlined=True)
    ledger = await Transfer(LocalSource(here), "v1", LocalDestination(there), tag="v2").run()
    assert told(ledger) == [("transferred", "stored")] * 3
    assert (ledger.direction, ledger.summary.wire_sent, ledger.summary.wire_received) == ("copy", 0, 0)
    found = await there.resolve("v2")
    assert found is not None
    assert isinstance(there.content(found), BytesContent)
