"""The registry and the nodes of one run on the wire or planned, and how a registry is opened for it.

Owns what a run opens and closes again. Must not know steps, expectations or reports.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from mock_registry import MockRegistry
from mock_registry.auth import Auth, BasicAuth, Pairs, TokenAuth
from regsim.core import Digest, Role
from regsim.core.account import Account
from regsim.core.holdings import HeldSets, SkipRule
from regsim.core.ledger import Evidence, Outcome
from regsim.core.manifest import MANIFEST_UNKNOWN
from regsim.core.reference import check_repository
from regsim.core.result import Mode, Reconciliation
from regsim.errors import NotFoundError, RegsimError
from regsim.registry import Connection
from regsim.registry.login import Credentials, FixedKeychain
from regsim.registry.repository import Registry, Repository
from regsim.registry.transport import Transport
from regsim.scenario.reconcile import reconcile
from regsim.scenario.registry_container import check_image, registry_container
from regsim.scenario.schema import Login, MockSpec, RegistrySpec
from regsim.scenario.world import BLOBS, Ends, Job, Member, wanted_at
from regsim.store.layout import LayoutStore
from regsim.store.node import node_store
from regsim.transfer.copy import Options, Transfer
from regsim.transfer.ends import (
    LocalDestination,
    LocalSource,
    PlannedDestination,
    PlannedSource,
    RegistryDestination,
    RegistrySource,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from regsim.core.ledger import Ledger
    from regsim.scenario.images import Images
    from regsim.scenario.schema import Scenario
    from regsim.scenario.schema_step import Place
    from regsim.store.protocols import Store
    from regsim.transfer.ends import Destination, Source


# How long a registry of ours may take to notice that an interrupted client is gone.
_SETTLE_SECONDS = 5.0

# The user that the nodes of a run are at a registry of ours that wants to know.
_USER = "regsim"


@dataclass(kw_only=True)
class WireWorld(Ends["Source", "Destination"]):
    """Real HTTP to one registry.

    Attributes:
        url: of the registry.
        stack: closes what is opened.
        warn: receives warnings for the user; the work goes on.
        connect: opens a way to it, with the credentials and the trust that it takes.
        registry: the registry itself if it is ours, and its journal can be read.
        beside: what was spent on requests that belong to no transfer.
        written: what the run has put where: by repository, each tag or digest and what it names.
    """

    url: str
    stack: AsyncExitStack
    warn: Callable[[str], None]
    connect: Callable[[str], Transport] = Transport
    registry: MockRegistry | None = None
    beside: Account = field(default_factory=Account)
    written: dict[str, dict[str, Role]] = field(default_factory=dict)
    _registries: dict[str, Registry] = field(default_factory=dict)
    _stores: dict[str, Store] = field(default_factory=dict)
    _unsettled: bool = False

    def image(self, image: str) -> Source:  # noqa: D102  (Ends says it)
        return LocalSource(self.images.store(image))

    def reader(self, member: Member, name: str) -> Source:  # noqa: D102  (as above)
        return RegistrySource(self.repository(member.name, name))

    def writer(self, member: Member, name: str, _source: Source) -> Destination:  # noqa: D102  (as above)
        return RegistryDestination(self.repository(member.name, name, writes=True))

    def node(self, member: Member) -> Destination:  # noqa: D102  (as above)
        store = self._stores.get(member.name)
        if store is None:
            kept = member.spec.store
            store = self._stores[member.name] = (
                node_store(member.spec.skip, f"node {member.name}")
                if kept is None
                else LayoutStore(kept, create=True)
            )
        return LocalDestination(store)

    def work(self, job: Job[Source, Destination]) -> Transfer:  # noqa: D102  (as above)
        options = Options(jobs=job.member.spec.parallel, candidates=job.candidates, labels=self.images.labels)
        return Transfer(
            job.source, job.reference, job.destination, tag=job.tag, name=job.name, options=options
        )

    @staticmethod
    async def at_once(moves: Sequence[Callable[[], Awaitable[None]]], places: int) -> None:  # noqa: D102  (as above)
        free = asyncio.Semaphore(places)

        async def placed(move: Callable[[], Awaitable[None]]) -> None:
            async with free:
                await move()

        async with asyncio.TaskGroup() as group:
            for move in moves:
                group.create_task(placed(move))

    async def delete(self, reference: Place) -> None:  # noqa: D102  (World says it)
        repository = self.repository("regsim", self.name(reference))
        try:
            await repository.delete_manifest(wanted_at(reference), self.beside)
        except asyncio.CancelledError:
            # No ledger tells whether the registry has heard of it.
            self._unsettled = True
            raise

    def learn(self, ledger: Ledger, to: Place) -> None:  # noqa: D102  (as above)
        super().learn(ledger, to)
        moved = {
            str(entry.digest): entry.role
            for entry in ledger.entries
            if entry.outcome in (Outcome.TRANSFERRED, Outcome.MOUNTED)
        }
        written = self.written.setdefault(self.name(to), {})
        if ledger.digest in moved and any(each.evidence is Evidence.MANIFEST for each in ledger.entries):
            # The manifest was there already, by another step or before: only this tag is new.
            role = moved.pop(ledger.digest)
            if ledger.digest not in written:
                moved[wanted_at(to)] = role
        written.update(moved)

    async def reconcile(self, ledgers: Sequence[Ledger]) -> Reconciliation:  # noqa: D102  (as above)
        if self.registry is None or self._unsettled:
            return Reconciliation.alone(ledgers)
        with suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_SECONDS):
                await self.registry.settled()
        return reconcile(ledgers, self.registry.journal, beside=self.beside)

    async def clean(self) -> None:
        """Delete what the run has written, as far as the registry lets us: manifests before blobs."""
        for name, references in self.written.items():
            repository = self.repository("regsim", name)
            manifests = [each for each, role in references.items() if role not in BLOBS]
            blobs = [Digest(each) for each, role in references.items() if role in BLOBS]
            try:
                for reference in manifests:
                    await _delete(repository.delete_manifest(reference, Account()))
                for digest in blobs:
                    await _delete(repository.delete_blob(digest, Account()))
            except RegsimError as error:
                self.warn(f"left behind in {name}: {error.message}")

    def repository(self, client: str, name: str, *, writes: bool = False) -> Repository:
        """Return a repository through a client's own connections: nodes share nothing else."""
        registry = self._registries.get(client)
        if registry is None:
            transport = self.connect(self.url)
            self.stack.push_async_callback(transport.aclose)
            registry = self._registries[client] = Registry(transport, warn=self.warn)
        return registry.repository(name, writes=writes)


@dataclass(kw_only=True)
class PlanWorld(WireWorld):
    """Real questions to one registry and no write: what would be written or deleted is remembered."""

    _planned: dict[str, HeldSets] = field(default_factory=dict)
    _gone: dict[str, set[str]] = field(default_factory=dict)

    def reader(self, member: Member, name: str) -> Source:  # noqa: D102  (Ends says it)
        return PlannedSource(super().reader(member, name), self._held(name), self._gone_from(name))

    def writer(self, member: Member, name: str, source: Source) -> Destination:  # noqa: D102  (as above)
        real = super().writer(member, name, source)
        return PlannedDestination(real, self._held(name), receives=source.remote, gone=self._gone_from(name))

    def node(self, member: Member) -> Destination:  # noqa: D102  (as above)
        runs: set[tuple[Digest, ...]] | None = set() if member.spec.skip is SkipRule.CHAIN else None
        empty = HeldSets(present=Evidence.LOCAL, runs=runs)
        planned = self._planned.setdefault(f"node {member.name}", empty)
        return PlannedDestination(super().node(member), planned, receives=True)

    async def delete(self, reference: Place) -> None:  # noqa: D102  (World says it)
        name, wanted = self.name(reference), wanted_at(reference)
        repository = RegistrySource(self.repository("regsim", name))
        source = PlannedSource(repository, self._held(name), self._gone_from(name))
        if await source.resolve(wanted, self.beside) is None:
            raise NotFoundError(f"{reference} does not exist", codes=(MANIFEST_UNKNOWN,))
        self._held(name).delete_manifest(wanted)
        self._gone_from(name).add(wanted)

    async def reconcile(self, ledgers: Sequence[Ledger]) -> Reconciliation:  # noqa: D102  (as above)
        return Reconciliation.alone(ledgers)

    def _held(self, name: str) -> HeldSets:
        return self._planned.setdefault(name, HeldSets(present=Evidence.HEAD))

    def _gone_from(self, name: str) -> set[str]:
        """Return the tags and digests that the plan has deleted from a repository."""
        return self._gone.setdefault(name, set())


async def _delete(deletion: Awaitable[None]) -> None:
    # What a step of the scenario has deleted already is no trouble.
    with suppress(NotFoundError):
        await deletion


def _auth(login: Login, password: str) -> Auth | None:
    """Return what lets only the nodes of a run into its registry."""
    users = Pairs({_USER: password})
    match login:
        case Login.NONE:
            return None
        case Login.BASIC:
            return BasicAuth(users)
        case Login.TOKEN:
            return TokenAuth(users)


def check_registry(scenario: Scenario, prefix: str | None = None) -> None:
    """Check that a scenario's registry can be used, and its repositories be named below a prefix.

    Raises:
        UsageError: it cannot, or they cannot.
    """
    if scenario.registry.container is not None:
        check_image(scenario.registry.container)
    if prefix is None:
        return
    check_repository(prefix)
    for step in scenario.steps:
        writes = step.push or step.copy_
        if writes is not None:
            check_repository(f"{prefix}/{writes.to.repository}")


@asynccontextmanager
async def wire_world(
    spec: RegistrySpec,
    images: Images,
    *,
    mode: Mode,
    seed: int = 0,
    prefix: str | None = None,
    keep: bool = False,
    warn: Callable[[str], None],
    connect: Callable[[str], Transport] = Transport,
) -> AsyncIterator[WireWorld]:
    """Open the registry of a run, and close it again.

    A registry that we did not start gets a repository prefix of its own for each run, and is left as it
    was found where it allows deletes.

    Args:
        spec: which registry.
        images: what can be pushed.
        mode: wire or plan.
        seed: decides all chance in the faults of a mock registry.
        prefix: put all repositories below this one; None: a fresh one where the registry is not ours.
        keep: delete nothing afterwards.
        warn: receives warnings for the user; the work goes on.
        connect: opens a way to a registry that is not ours.

    Raises:
        UsageError: there is no engine for a registry container.
        RegistryError, NetworkError: it does not start, or does not answer.
    """
    below, registry = check_repository(prefix) if prefix else "", None
    async with AsyncExitStack() as stack:
        match spec:
            case RegistrySpec(mock=MockSpec(auth=login, profile=profile, faults=faults)):
                password = secrets.token_urlsafe()
                auth = _auth(login, password)
                registry = MockRegistry(auth=auth, profile=profile, faults=faults, seed=seed)
                server = await stack.enter_async_context(registry.serve())
                url = server.url
                ours = Credentials(user=_USER, password=password, source="the scenario's registry")
                keychain = FixedKeychain({server.netloc: ours})
                connect = partial(Transport, connection=Connection(keychain=keychain))
            case RegistrySpec(container=str(image)):
                url = (await stack.enter_async_context(registry_container(image, tell=warn))).url
                connect = Transport
            case _:
                url = spec.url or ""
                below = below or f"regsim-{secrets.token_hex(4)}"
        kind = PlanWorld if mode is Mode.PLAN else WireWorld
        world = kind(
            url=url, images=images, stack=stack, warn=warn, connect=connect, prefix=below, registry=registry
        )
        try:
            yield world
        finally:
            if spec.url is not None and not keep and mode is Mode.WIRE:
                await world.clean()
