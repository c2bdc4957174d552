"""Transfers with a registry that asks who is there: what logging in costs shows, and the accounts agree."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from mock_registry import MockRegistry
from mock_registry.auth import Auth, BasicAuth, Challenges, Lifetime, Right, TokenAuth
from regsim.core import Digest
from regsim.core.ledger import violations
from regsim.registry import Connection
from regsim.registry.login import Credentials, FixedKeychain
from regsim.registry.repository import Registry
from regsim.registry.transport import Transport
from regsim.scenario.reconcile import reconcile
from regsim.store.node import MemoryStore
from regsim.transfer.copy import Options, Transfer
from regsim.transfer.ends import LocalDestination, LocalSource, RegistryDestination, RegistrySource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from regsim.core import Descriptor
    from regsim.core.ledger import Entry, Ledger
    from regsim.transfer.ends import Destination, Source

    Stock = Callable[..., Awaitable[Descriptor]]

pytestmark = pytest.mark.anyio

USERS = {"ci": "pw"}
CI = Credentials(user="ci", password="pw")
BASE, TOP, CONFIG = b"base " * 100_000, b"top " * 50_000, b"{}"

AUTHS = {
    "basic": lambda: BasicAuth(USERS),
    "token": lambda: TokenAuth(USERS),
    "token, one request each": lambda: TokenAuth(USERS, lifetime=Lifetime(requests=1)),
    "token, as distribution": lambda: TokenAuth(USERS, challenge_mounts=True, cancel_needs_delete=True),
    "token, 403 for a scope": lambda: TokenAuth(USERS, scope_status=403, challenge_mounts=True),
    "token, told at the base": lambda: TokenAuth(USERS, challenges=Challenges(only_at_base=True)),
}


class Shop:
    """A registry that asks, and what is known about all that was done there."""

    def __init__(self, mock: MockRegistry, registry: Registry, store: MemoryStore) -> None:
        self.mock = mock
        self.registry = registry
        self.store = store
        self.ledgers: list[Ledger] = []

    async def push(self, to: str, *, mount_from: tuple[str, ...] = ()) -> Ledger:
        destination = RegistryDestination(self.registry.repository(to, writes=True))
        return await self._run(LocalSource(self.store), "app", destination, mount_from)

    async def pull(self, repository: str) -> Ledger:
        source = RegistrySource(self.registry.repository(repository))
        return await self._run(source, "v1", LocalDestination(MemoryStore()))

    async def copy(self, repository: str, to: str) -> Ledger:
        source = RegistrySource(self.registry.repository(repository))
        destination = RegistryDestination(self.registry.repository(to, writes=True))
        return await self._run(source, "v1", destination)

    async def _run(
        self, source: Source, reference: str, destination: Destination, mount_from: tuple[str, ...] = ()
    ) -> Ledger:
        # One at a time, so that the order of requests is what a test says.
        options = Options(jobs=1, candidates=lambda _: mount_from)
        ledger = await Transfer(source, reference, destination, tag="v1", options=options).run()
        self.ledgers.append(ledger)
        return ledger

    def assert_agrees(self) -> None:
        """Check the laws of every ledger, and all of them against the registry's own account."""
        for ledger in self.ledgers:
            assert (ledger.error, violations(ledger)) == (None, [])
        assert reconcile(self.ledgers, self.mock.journal).differences == ()


@asynccontextmanager
async def opened(
    stock: Stock, auth: Auth, *, on_a_port: bool = False, **settings: Any
) -> AsyncIterator[Shop]:
    store = MemoryStore()
    await stock(store, "app", BASE, TOP, config=CONFIG)
    mock = MockRegistry(auth=auth, **settings)
    if on_a_port:
        async with mock.serve() as server:
            keychain = FixedKeychain({server.url.partition("://")[2]: CI})
            async with Transport(server.url, Connection(keychain=keychain)) as transport:
                yield Shop(mock, Registry(transport), store)
        return
    async with (
        mock,
        Transport(
            "127.0.0.1:5000",
            Connection(transport=mock.transport(), keychain=FixedKeychain({"127.0.0.1:5000": CI})),
        ) as transport,
    ):
        yield Shop(mock, Registry(transport), store)


def entry_of(ledger: Ledger, raw: bytes) -> Entry:
    return next(entry for entry in ledger.entries if entry.digest == Digest.of(raw))


@pytest.mark.parametrize("auth", AUTHS.values(), ids=AUTHS.keys())
@pytest.mark.parametrize("on_a_port", [False, True], ids=["in process", "on a port"])
async def test_accounts_agree_however_the_registry_asks(
    stock: Stock, auth: Callable[[], Auth], *, on_a_port: bool
) -> None:
    async with opened(stock, auth(), on_a_port=on_a_port) as shop:
        await shop.push("shop/api")
        await shop.push("shop/web", mount_from=("shop/api",))
        await shop.push("shop/api")
        await shop.copy("shop/web", "shop/archive")
        await shop.pull("shop/archive")
        outcomes = [str(entry_of(ledger, BASE).outcome) for ledger in shop.ledgers]
        assert outcomes == ["transferred", "mounted", "exists", "transferred", "transferred"]
        shop.assert_agrees()


async def test_edge_14_what_a_401_made_go_out_twice_is_wasted(stock: Stock) -> None:
    faults = ["PUT upload nth=1 expire_tokens"]
    async with opened(stock, TokenAuth(USERS), on_a_port=True, faults=faults) as shop:
        ledger = await shop.push("shop/api")
        shop.assert_agrees()
        wasted = [entry for entry in ledger.entries if entry.wasted]
        assert [(entry.wasted, entry.attempts) for entry in wasted] == [(wasted[0].size, 2)]
        assert wasted[0].wire_sent == 2 * wasted[0].size


async def test_edge_14_a_token_that_ended_costs_a_pull_no_byte(stock: Stock) -> None:
    faults = ["GET blob every=2 expire_tokens"]
    async with opened(stock, TokenAuth(USERS), on_a_port=True, faults=faults) as shop:
        await shop.push("shop/api")
        ledger = await shop.pull("shop/api")
        shop.assert_agrees()
        assert any(record.status == 401 for record in shop.mock.journal.records(method="GET", route="blob"))
        assert [entry.wasted for entry in ledger.entries] == [0] * len(ledger.entries)


@pytest.mark.parametrize("status", [401, 403])
async def test_edge_09_and_field_fault_24_a_mount_that_is_refused_is_an_upload(
    stock: Stock, status: int
) -> None:
    faults = [f"POST uploads query=mount status {status}"]
    async with opened(stock, TokenAuth(USERS), faults=faults) as shop:
        await shop.push("shop/api")
        ledger = await shop.push("shop/web", mount_from=("shop/api",))
        entry = entry_of(ledger, BASE)
        assert (entry.outcome, entry.evidence, entry.wasted) == ("transferred", "mount-refused", 0)
        shop.assert_agrees()


async def test_edge_12_where_the_source_may_not_be_read_the_layer_is_uploaded(stock: Stock) -> None:
    rights = [Right("ci", "shop/**")]
    auth = TokenAuth(USERS, rights=rights, challenge_mounts=True, whole_or_nothing=True)
    async with opened(stock, auth) as shop:
        ledger = await shop.push("shop/web", mount_from=("secret/base",))
        entry = entry_of(ledger, BASE)
        assert (entry.outcome, entry.evidence) == ("transferred", "upload")
        shop.assert_agrees()
