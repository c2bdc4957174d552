"""What a listener is told of moves under way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from mock_registry import MockRegistry
from regsim.core import media_types
from regsim.registry import Connection
from regsim.registry.repository import Registry
from regsim.registry.transport import Transport
from regsim.store.memory import BytesContent
from regsim.store.node import MemoryStore
from regsim.transfer.copy import Options, Transfer
from regsim.transfer.ends import LocalDestination, LocalSource, RegistryDestination, RegistrySource
from regsim.transfer.events import Event, Moment, Step

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from regsim.core import Descriptor
    from regsim.store.protocols import Content
    from tests.transfer.conftest import Stock

pytestmark = pytest.mark.anyio

PIECE = 1000


class Halting(MemoryStore):
    """A store whose layers stop after two of three pieces until they may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.may_go_on = asyncio.Event(), asyncio.Event()

    def content(self, descriptor: Descriptor) -> Content:
        found = super().content(descriptor)
        if descriptor.media_type != media_types.OCI_LAYER_GZIP:
            return found
        assert isinstance(found, BytesContent)
        return _HaltingContent(found, self)


class _HaltingContent:
    def __init__(self, content: BytesContent, store: Halting) -> None:
        self._content, self._store = content, store
        self.descriptor = content.descriptor

    async def open(self) -> AsyncGenerator[bytes, None]:
        data = self._content.data
        yield data[:PIECE]
        yield data[PIECE : 2 * PIECE]
        self._store.reached.set()
        await self._store.may_go_on.wait()
        yield data[2 * PIECE :]


async def test_a_move_under_way_is_told_with_what_has_gone_over_the_wire(
    registry: Registry, stock: Stock
) -> None:
    store = Halting()
    await stock(store, "v1", bytes(3 * PIECE))
    heard: list[Event] = []

    async def tick() -> None:
        """Let the listener be told once."""
        await (store.reached if not store.may_go_on.is_set() else asyncio.Event()).wait()

    def listener(event: Event) -> None:
        heard.append(event)
        if event.moment is Moment.PROGRESS:
            store.may_go_on.set()

    destination = RegistryDestination(registry.repository("app"))
    options = Options(listener=listener, tick=tick)
    ledger = await Transfer(LocalSource(store), "v1", destination, tag="v1", options=options).run()
    assert ledger.error is None
    layer = [each for each in heard if each.descriptor.media_type == media_types.OCI_LAYER_GZIP]
    uploads = [(each.moment, each.moved) for each in layer if each.step is Step.UPLOAD]
    # The last piece that was read is held back until it is known to be right.
    assert uploads == [(Moment.STARTED, 0), (Moment.PROGRESS, PIECE), (Moment.COMPLETED, 3 * PIECE)]


async def test_a_failure_of_the_listener_between_two_steps_is_not_lost(
    registry: Registry, stock: Stock
) -> None:
    store = Halting()
    await stock(store, "v1", bytes(3 * PIECE))

    async def tick() -> None:
        await store.reached.wait()

    def listener(event: Event) -> None:
        if event.moment is Moment.PROGRESS:
            store.may_go_on.set()
            raise LookupError("of the listener's own")

    destination = RegistryDestination(registry.repository("app"))
    options = Options(listener=listener, tick=tick)
    with pytest.raises(LookupError, match="of the listener's own"):
        await Transfer(LocalSource(store), "v1", destination, tag="v1", options=options).run()


async def test_a_pull_tells_what_was_received_and_a_local_copy_the_size(
    registry: Registry, stock: Stock
) -> None:
    here, there, elsewhere = MemoryStore(), MemoryStore(), MemoryStore()
    await stock(here, "v1", b"layer")
    repository = registry.repository("app")
    await Transfer(LocalSource(here), "v1", RegistryDestination(repository), tag="v1").run()
    for source, destination in (
        (RegistrySource(repository), LocalDestination(there)),
        (LocalSource(here), LocalDestination(elsewhere)),
    ):
        heard: list[Event] = []
        await Transfer(source, "v1", destination, options=Options(listener=heard.append)).run()
        done = [each for each in heard if (each.step, each.moment) == (Step.DOWNLOAD, Moment.COMPLETED)]
        assert len(done) == 2
        assert all(each.moved == each.descriptor.size for each in done)


@pytest.mark.parametrize("granted", [True, False])
async def test_a_mount_tells_whether_it_was_granted(stock: Stock, granted: bool) -> None:
    store = MemoryStore()
    await stock(store, "v1", b"layer")
    async with (
        MockRegistry(mount=granted) as mock,
        Transport("127.0.0.1:5000", Connection(transport=mock.transport())) as transport,
    ):
        registry = Registry(transport)
        base = RegistryDestination(registry.repository("library/base"))
        await Transfer(LocalSource(store), "v1", base, tag="v1").run()
        heard: list[Event] = []
        options = Options(listener=heard.append, candidates=lambda _: ("library/base",))
        to = RegistryDestination(registry.repository("app"))
        await Transfer(LocalSource(store), "v1", to, tag="v1", options=options).run()
    told = [each.found for each in heard if (each.step, each.moment) == (Step.MOUNT, Moment.COMPLETED)]
    assert told == [granted, granted]
