"""A registry that misbehaves as told, a client that never waits, and the two accounts of what they did."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mock_registry import MockRegistry
from mock_registry.clock import ManualClock
from regsim.core import Descriptor, media_types
from regsim.core.account import Loss, Waste
from regsim.core.ledger import Direction, Outcome, violations
from regsim.core.manifest import manifest_document
from regsim.registry import Connection
from regsim.registry.repository import Registry
from regsim.registry.retry import Patience, Policy
from regsim.registry.transport import Transport
from regsim.scenario.reconcile import reconcile
from regsim.store.memory import BytesContent
from regsim.store.node import MemoryStore
from regsim.transfer.copy import Options, Transfer
from regsim.transfer.ends import LocalDestination, LocalSource, RegistryDestination, RegistrySource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from regsim.core.ledger import Entry, Ledger
    from regsim.net import Timeouts
    from regsim.registry.ranges import Ranges
    from regsim.registry.requests import Habits
    from regsim.store.protocols import Store
    from regsim.transfer.ends import Destination, Source

MIB = 1024 * 1024
LARGE = bytes(range(251)) * (5 * MIB // 251)
# What a rule says that shall meet this blob alone, whichever is asked for first.
IS_LARGE = f"digest={Descriptor.of(LARGE, media_types.OCI_LAYER).digest}"
SMALL, CONFIG = b"small " * 500, json.dumps({"config": {}}).encode()


def lawful(entry: Entry) -> Entry:
    """Return an entry with the useful octets of its outcome, and a reason for what it wasted."""
    moved = entry.size - entry.resumed if entry.outcome is Outcome.TRANSFERRED else 0
    explained = sum(retry.wasted for retry in entry.retries)
    return replace(
        entry,
        useful_sent=moved if entry.direction is not Direction.PULL else 0,
        useful_received=moved if entry.direction is not Direction.PUSH else 0,
        losses=(Waste(Loss.FAILED, entry.wasted - explained),) if entry.wasted != explained else (),
    )


async def image(*layers: bytes, config: bytes = CONFIG) -> MemoryStore:
    """Return a store with one image, `app`."""
    store = MemoryStore()
    parts = [Descriptor.of(config, media_types.OCI_CONFIG)]
    parts += [Descriptor.of(layer, media_types.OCI_LAYER_GZIP) for layer in layers]
    for part, data in zip(parts, (config, *layers), strict=True):
        await store.put(BytesContent(part, data))
    raw = manifest_document(parts[0], parts[1:])
    root = Descriptor.of(raw, media_types.OCI_MANIFEST)
    await store.put(BytesContent(root, raw))
    await store.tag(root, "app")
    return store


@dataclass
class Shop:
    """A registry and a client of it.

    Attributes:
        mock: the registry.
        registry: the same, as the client sees it.
        sleeps: seconds that the client would have waited.
        warnings: what the user was told.
        ledgers: of all that was done since the journal began.
    """

    mock: MockRegistry
    registry: Registry
    sleeps: list[float]
    warnings: list[str]
    ledgers: list[Ledger] = field(default_factory=list)

    async def push(self, store: Store, to: str = "shop/api", *mount_from: str) -> Ledger:
        return await self.run(LocalSource(store), self.destination(to), *mount_from)

    async def pull(
        self, store: Store | None = None, repository: str = "shop/api", *, jobs: int = 1
    ) -> Ledger:
        source = RegistrySource(self.registry.repository(repository))
        return await self.run(source, LocalDestination(store or MemoryStore()), jobs=jobs)

    async def copy(self, to: str, *mount_from: str) -> Ledger:
        source = RegistrySource(self.registry.repository("shop/api"))
        return await self.run(source, self.destination(to), *mount_from)

    def destination(self, to: str) -> RegistryDestination:
        return RegistryDestination(self.registry.repository(to, writes=True))

    async def run(self, source: Source, destination: Destination, *mount_from: str, jobs: int = 1) -> Ledger:
        """Do a transfer, hold its ledger to the laws and against the journal, and return it."""
        options = Options(jobs=jobs, candidates=lambda _: mount_from)
        async with asyncio.timeout(30):
            ledger = await Transfer(source, "app", destination, tag="app", options=options).run()
            await self.mock.settled()
        self.ledgers.append(ledger)
        assert violations(ledger) == []
        assert reconcile(self.ledgers, self.mock.journal).differences == ()
        return ledger

    async def holds(self, store: MemoryStore, repository: str = "shop/api") -> bool:
        """Tell whether a repository holds a store's image, as read in calm weather."""
        for rule in tuple(self.mock.faults):
            rule.remove()
        there = MemoryStore()
        source = RegistrySource(self.registry.repository(repository))
        ledger = await Transfer(source, "app", LocalDestination(there), tag="app").run()
        return ledger.error is None and there.blobs == store.blobs

    def forget(self) -> None:
        """Begin both accounts anew."""
        self.mock.journal.clear()
        self.ledgers.clear()
        self.sleeps.clear()

    def asked(self, method: str, route: str) -> list[int | None]:
        """Return the statuses of such requests, in order of arrival."""
        records = self.mock.journal.records(method=method, route=route)
        return [record.status for record in sorted(records, key=lambda record: record.number)]


@asynccontextmanager
async def shop(
    *faults: str,
    habits: Habits | None = None,
    timeouts: Timeouts | None = None,
    connections: int = 32,
    ranges: Ranges | None = None,
    **settings: Any,
) -> AsyncIterator[Shop]:
    """Open one on a port, with these faults, and under these settings of `MockRegistry`.

    On a `ManualClock` of its own, the time that passes is what the client would have waited.
    """
    mock = MockRegistry(faults=list(faults), **settings)
    clock = settings.get("clock")
    sleeps: list[float] = []
    warnings: list[str] = []

    async def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        if isinstance(clock, ManualClock):
            clock.advance(seconds)
        await asyncio.sleep(0.002)

    patience = Patience(Policy(base=1.0), sleep=sleep, random=lambda: 1.0)
    async with (
        mock.serve() as server,
        Transport(server.url, Connection(timeouts=timeouts, connections=connections)) as transport,
    ):
        registry = Registry(transport, patience=patience, warn=warnings.append, ranges=ranges)
        registry.habits = habits or registry.habits
        yield Shop(mock, registry, sleeps, warnings)


def entry_of(ledger: Ledger, raw: bytes) -> Entry:
    digest = Descriptor.of(raw, media_types.OCI_LAYER).digest
    return next(entry for entry in ledger.entries if entry.digest == digest)


def reasons(ledger: Ledger) -> list[str]:
    return [str(retry.reason) for entry in ledger.entries for retry in entry.retries]
