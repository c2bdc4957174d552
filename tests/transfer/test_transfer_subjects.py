"""Artifacts with a subject, where the registry lists them and where the client has to (edge case 52)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mock_registry import MockRegistry
from regsim.core import Descriptor, media_types
from regsim.core.account import Account
from regsim.core.ledger import Ledger, violations
from regsim.core.manifest import encode
from regsim.registry import Connection
from regsim.registry.repository import Registry
from regsim.registry.transport import Transport
from regsim.scenario.reconcile import reconcile
from regsim.store.memory import BytesContent
from regsim.store.node import MemoryStore
from regsim.transfer.copy import Transfer
from regsim.transfer.ends import LocalSource, RegistryDestination

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Stock = Callable[..., Awaitable[Descriptor]]

pytestmark = pytest.mark.anyio


async def signed(store: MemoryStore, stock: Stock) -> None:
    """Put an image `v1` into a store, and two artifacts that refer to it."""
    image = await stock(store, "v1", b"layer")
    empty = Descriptor.of(b"{}", media_types.OCI_EMPTY)
    await store.put(BytesContent(empty, b"{}"))
    for name in ("signature", "sbom"):
        raw = encode(
            {
                "schemaVersion": 2,
                "mediaType": media_types.OCI_MANIFEST,
                "artifactType": f"application/x.{name}",
                "config": empty.to_json(),
                "layers": [],
                "subject": image.to_json(),
            }
        )
        descriptor = Descriptor.of(raw, media_types.OCI_MANIFEST)
        await store.put(BytesContent(descriptor, raw))
        await store.tag(descriptor, name)


@pytest.mark.parametrize("profile", [None, "distribution-2.8", "ghcr"])
async def test_edge_52_pushed_artifacts_are_referrers_and_the_accounts_agree(
    stock: Stock, profile: str | None
) -> None:
    store = MemoryStore()
    await signed(store, stock)
    ledgers: list[Ledger] = []
    async with (
        MockRegistry(profile=profile) as mock,
        Transport("127.0.0.1:5000", Connection(transport=mock.transport())) as transport,
    ):
        repository = Registry(transport).repository("shop/api")
        for name in ("v1", "signature", "sbom"):
            destination = RegistryDestination(repository)
            ledgers.append(await Transfer(LocalSource(store), name, destination, tag=name).run())
            assert ledgers[-1].error is None
            assert violations(ledgers[-1]) == []
        assert reconcile(ledgers, mock.journal).differences == ()
        image = ledgers[0].digest
        assert image is not None
        found = await repository.referrers(image, Account())
    assert [each.artifact_type for each in found] == ["application/x.signature", "application/x.sbom"]
    lists = [account.sent for ledger in ledgers for _, account in ledger.beside if account.sent]
    assert len(lists) == (0 if profile is None else 2)
    assert sum(ledger.summary.wasted for ledger in ledgers) >= sum(lists)


@pytest.mark.parametrize("mode", ["absent", "unacceptable", "fallback-is-subject", "empty", "page"])
async def test_fault_30_a_registry_that_knows_no_referrers_takes_them_and_lists_what_it_can(
    stock: Stock, mode: str
) -> None:
    store = MemoryStore()
    await signed(store, stock)
    ledgers: list[Ledger] = []
    async with (
        MockRegistry(faults=[f"no_referrers {mode}"]) as mock,
        Transport("127.0.0.1:5000", Connection(transport=mock.transport())) as transport,
    ):
        repository = Registry(transport).repository("shop/api")
        for name in ("v1", "signature", "sbom"):
            destination = RegistryDestination(repository)
            ledgers.append(await Transfer(LocalSource(store), name, destination, tag=name).run())
            assert (ledgers[-1].error, violations(ledgers[-1])) == (None, [])
        assert reconcile(ledgers, mock.journal).differences == ()
        assert ledgers[0].digest is not None
        found = await repository.referrers(ledgers[0].digest, Account())
    # Who claims to keep the list (OCI-Subject), and then shows none, has been believed.
    claims = mode in ("empty", "page")
    assert [each.artifact_type for each in found] == (
        [] if claims else ["application/x.signature", "application/x.sbom"]
    )
