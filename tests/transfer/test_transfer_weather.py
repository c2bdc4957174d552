"""A storm: random transfers through random faults. Each ends well, or in one clear error.

Never a wrong byte, never a hang, never an account that the journal contradicts. A storm follows from its
number alone, so that one that was seen can be seen again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import pytest

from mock_registry import MockRegistry
from mock_registry.auth import TokenAuth
from regsim.core.ledger import violations
from regsim.core.manifest import parse
from regsim.errors import ContentError, NetworkError, RegistryError
from regsim.net import Timeouts
from regsim.registry import Connection
from regsim.registry.login import Credentials, FixedKeychain
from regsim.registry.repository import Registry
from regsim.registry.retry import Patience, Policy
from regsim.registry.transport import Transport
from regsim.scenario.reconcile import reconcile
from regsim.store.layout import LayoutStore
from regsim.store.node import MemoryStore
from regsim.store.verify import read_all
from regsim.transfer.copy import Options, Transfer
from regsim.transfer.ends import LocalDestination, LocalSource, RegistryDestination, RegistrySource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from regsim.core import Descriptor
    from regsim.core.ledger import Ledger
    from regsim.store.protocols import Store
    from regsim.transfer.ends import Destination, Source

    Stock = Callable[..., Awaitable[Descriptor]]

pytestmark = pytest.mark.anyio

FEW, MANY = 25, 500
SIZES = (0, 1, 2, 3000, 70_000, 300_000, 1_200_000, 2_500_000)
PLACES = (0, 1, 1000, 200_000, 1_100_000)
SECONDS = 60  # for a storm; more is a hang

# What the weather is made of: `{at}` is a byte.
WEATHER = (
    "GET blob times=2 cut {at}",
    "GET blob times=2 reset {at}",
    "GET blob times=1 stall after={at} seconds=1",
    "GET blob times=2 status 503",
    "GET blob times=1 corrupt {at}",
    "GET blob ranges ignore",
    "GET blob ranges shift octets=-3",
    "GET blob ranges shift octets=3",
    "GET blob times=1 ranges lie",
    "GET blob ranges short",
    "GET blob ranges multipart",
    "GET blob ranges bare",
    "GET blob ranges refuse",
    "blob redirect 307",
    "GET manifest times=1 cut 10",
    "manifest times=2 status 500",
    "PUT upload times=2 cut {at}",
    "PUT upload times=2 reset {at}",
    "PUT upload times=1 stall after={at} seconds=1",
    "PUT upload times=1 corrupt {at}",
    "PUT upload times=2 status 429 headers.retry-after=1",
    "PUT upload times=2 when=after status 502",
    "PUT upload times=1 when=after cut",
    "PUT upload times=1 when=after reset",
    "PUT upload times=1 forget_sessions own",
    "forget_sessions own on=abort",
    "PUT upload times=2 slow_commit 0 then=unknown",
    "PUT upload body_limit 1MiB",
    "PUT upload body_limit 1MiB status=416 form=json",
    "upload body_limit 1MiB",
    "PATCH upload times=3 short_accept 500000",
    "PATCH upload times=1 reset {at}",
    "PATCH upload times=1 status 201 keep=yes",
    "upload_range stale",
    "upload_range rewind octets=1000",
    "upload_range ahead",
    "upload_range missing",
    "upload_range empty=0--1",
    "GET upload times=1 status 500",
    "times=2 POST uploads status 500",
    "POST uploads times=1 when=after reset",
    "POST uploads location absolute",
    "POST uploads times=1 location drop",
    "POST uploads query=mount status 403",
    "POST uploads query=mount times=1 status 500",
    "HEAD blob times=2 lie exists",
    "HEAD blob times=1 lie absent",
    "HEAD blob times=2 lie absent status=403",
    "HEAD blob lie length=missing digest=missing",
    "HEAD blob times=2 lie length=wrong",
    "HEAD blob times=1 collect",
    "HEAD manifest times=1 lie absent status=405",
    "HEAD times=2 status 429 form=html",
    "PUT manifest times=1 collect",
    "PUT manifest times=1 when=after status 500",
    "PUT manifest times=1 when=after reset",
    "PUT manifest times=1 reset",
    "PUT manifest times=2 status 503",
    "lag 5ms",
    "collide 500 scope=stored",
    "toxicity=0.1 expire_tokens",
    "toxicity=0.05 reset 0",
    "toxicity=0.05 cut 0",
    "toxicity=0.05 status 503",
    "rate_limit 200 burst=5",
)


@dataclass(frozen=True, slots=True)
class Storm:
    """One transfer, and the weather that it goes through."""

    kind: str
    faults: tuple[str, ...]
    layers: tuple[bytes, ...]
    held: tuple[bytes, ...]
    jobs: int
    auth: bool

    @classmethod
    def of(cls, seed: int) -> Storm:
        random = Random(seed)
        layers = [random.randbytes(random.choice(SIZES)) for _ in range(random.randint(1, 5))]
        faults = random.sample(WEATHER, random.randint(1, 4))
        return cls(
            kind=random.choice(("push", "pull", "pull to a layout", "copy")),
            faults=tuple(
                fault.format(at=random.choice((0, 1, 1000, 200_000, 1_100_000))) for fault in faults
            ),
            layers=tuple(layers),
            held=tuple(each for each in layers if random.random() < 0.4),
            jobs=random.choice((1, 3, 6)),
            auth=random.random() < 0.3,
        )


async def no_wait(_seconds: float) -> None:
    await asyncio.sleep(0.004)


class Sky:
    """A registry, and a client that goes out in the storm."""

    def __init__(self, mock: MockRegistry, registry: Registry, folder: Path) -> None:
        self.mock = mock
        self.registry = registry
        self.folder = folder

    async def transfer(self, storm: Storm, local: MemoryStore) -> tuple[Ledger, Store | None]:
        """Do what the storm is about; return its ledger, and the store that was pulled to."""
        store: Store | None = None
        source: Source = RegistrySource(self.registry.repository("shop/api"))
        destination: Destination = RegistryDestination(self.registry.repository("shop/web", writes=True))
        if storm.kind == "push":
            source = LocalSource(local)
        elif storm.kind != "copy":
            store = LayoutStore(self.folder, create=True) if "layout" in storm.kind else MemoryStore()
            destination = LocalDestination(store)
        options = Options(jobs=storm.jobs, candidates=lambda _: ("library/base", "shop/api"))
        ledger = await Transfer(source, "app", destination, tag="app", options=options).run()
        return ledger, store


async def weather(seed: int, stock: Stock, folder: Path) -> Ledger:
    """Go through a storm, and judge what came of it."""
    storm, local = Storm.of(seed), MemoryStore()
    root = await stock(local, "app", *storm.layers)
    await stock(local, "held", *storm.held, config=b'{"held": 1}')
    mock = MockRegistry(seed=seed, auth=TokenAuth({"ci": "pw"}) if storm.auth else None)
    async with mock.serve() as server:
        keychain = FixedKeychain({server.url.partition("://")[2]: Credentials(user="ci", password="pw")})
        timeouts = Timeouts(read=0.3, commit=0.5, write=0.5)
        async with Transport(server.url, Connection(keychain=keychain, timeouts=timeouts)) as transport:
            patience = Patience(Policy(retries=5), sleep=no_wait, random=Random(seed).random)
            registry = Registry(transport, patience=patience)
            calm = Registry(transport)
            await put(calm, local, "held", "library/base")
            if storm.kind != "push":
                await put(calm, local, "app", "shop/api")
            await mock.settled()
            mock.journal.clear()
            for fault in storm.faults:
                mock.faults.add(fault)
            ledger, store = await Sky(mock, registry, folder).transfer(storm, local)
            await mock.settled()
            assert violations(ledger) == []
            assert reconcile([ledger], mock.journal).differences == ()
            for rule in tuple(mock.faults):
                rule.remove()
            if ledger.error is None:
                reached = store or await fetched(calm, root)
                await require_same(local, reached, root)
            else:
                assert isinstance(ledger.error, NetworkError | RegistryError | ContentError)
                assert ledger.error.message
            assert await leftovers(mock, ledger) == []
    return ledger


async def put(registry: Registry, local: MemoryStore, image: str, to: str) -> None:
    destination = RegistryDestination(registry.repository(to, writes=True))
    ledger = await Transfer(LocalSource(local), image, destination, tag=image).run()
    assert ledger.error is None


async def fetched(registry: Registry, root: Descriptor) -> MemoryStore:
    """Return what the registry has, read in calm weather."""
    store = MemoryStore()
    source = RegistrySource(registry.repository("shop/web"))
    ledger = await Transfer(source, "app", LocalDestination(store), tag="app").run()
    assert (ledger.error, ledger.digest) == (None, root.digest)
    return store


async def require_same(local: MemoryStore, there: Store, root: Descriptor) -> None:
    assert await there.resolve("app") == root
    raw = await read_all(local.content(root), limit=root.size)
    for successor in parse(root, raw).successors:
        descriptor = successor.descriptor
        same = await read_all(there.content(descriptor), limit=descriptor.size)
        assert same == await read_all(local.content(descriptor), limit=descriptor.size)


async def leftovers(mock: MockRegistry, ledger: Ledger) -> list[str]:
    """Return sessions that a transfer without trouble has left open: there are none."""
    troubled = any(entry.retries for entry in ledger.entries) or ledger.error is not None
    return [] if troubled else list(mock.state.sessions)


@pytest.mark.parametrize("seed", range(FEW))
async def test_a_transfer_through_a_storm_ends_well_or_in_one_clear_error(
    seed: int, stock: Stock, tmp_path: Path
) -> None:
    async with asyncio.timeout(SECONDS):
        await weather(seed, stock, tmp_path / "layout")


@pytest.mark.soak
async def test_every_storm_ends_well_or_in_one_clear_error(stock: Stock, tmp_path: Path) -> None:
    ends: Counter[str] = Counter()
    for seed in range(FEW, FEW + MANY):
        async with asyncio.timeout(SECONDS):
            ledger = await weather(seed, stock, tmp_path / str(seed))
        ends["well" if ledger.error is None else type(ledger.error).__name__] += 1
        ends["retries"] += sum(len(entry.retries) for entry in ledger.entries)
    print(dict(ends))  # noqa: T201  (the figures of the closing note)
    assert ends["well"] > MANY * 0.7
