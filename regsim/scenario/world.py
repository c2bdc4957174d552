"""The registry and the nodes of one run, on the wire or planned: everything that a step touches.

Owns what a run opens and closes again. Must not know steps, expectations or reports.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

from mock_registry import MockRegistry
from mock_registry.auth import Auth, BasicAuth, Pairs, TokenAuth
from regsim.core import Digest, Role
from regsim.core.account import Account
from regsim.core.holdings import HeldSets
from regsim.core.ledger import Evidence, Outcome
from regsim.core.reference import DEFAULT_TAG, check_repository
from regsim.core.result import Mode, Reconciliation
from regsim.errors import NotFoundError, RegsimError
from regsim.registry.connection import Connection
from regsim.registry.login import Credentials, FixedKeychain
from regsim.registry.repository import Registry, Repository
from regsim.registry.transport import Transport
from regsim.scenario.known import Known
from regsim.scenario.reconcile import reconcile
from regsim.scenario.registry_container import check_image, registry_container
from regsim.scenario.schema_registry import Login, MockSpec, RegistrySpec
from regsim.store.layout import LayoutStore
from regsim.store.memory import SkipRule, node_store
from regsim.transfer.copy import MANIFEST_UNKNOWN, Options, Transfer
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
    from collections.abc import Set as AbstractSet

    from regsim.core import Descriptor
    from regsim.core.ledger import Ledger
    from regsim.scenario.images import Images
    from regsim.scenario.schema import NodeSpec, Scenario
    from regsim.scenario.schema_step import Place
    from regsim.store.protocols import Store
    from regsim.transfer.ends import Destination, Source


# How long a registry of ours may take to notice that an interrupted client is gone.
_SETTLE_SECONDS = 5.0

# Who the nodes of a run are at a registry of ours that wants to know.
_USER = "regsim"

_BLOBS = (Role.LAYER, Role.CONFIG)


class Work(Protocol):
    """One transfer that can be run, and whose ledger can be read at any moment."""

    async def run(self) -> Ledger:
        """Do it."""

    def ledger(self) -> Ledger:
        """Return the account as it stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One machine: its name, and the node of the scenario that it is one of."""

    name: str
    spec: NodeSpec


class World(Protocol):
    """What steps act on, whatever the fidelity."""

    @property
    def images(self) -> Images:
        """What can be pushed, and what containers are made from."""

    def push(self, member: Member, image: str, to: Place) -> Work:
        """Return the transfer of an image from a node to the registry."""

    def pull(self, member: Member, reference: Place) -> Work:
        """Return the transfer of what the registry has to a node."""

    def copy(self, member: Member, source: Place, to: Place) -> Work:
        """Return the transfer from one place of the registry to another."""

    async def delete(self, reference: Place) -> None:
        """Delete a tag, or by digest a manifest."""

    def learn(self, ledger: Ledger, to: Place) -> None:
        """Take note of what a transfer left at a place of the registry."""

    async def reconcile(self, ledgers: Sequence[Ledger]) -> Reconciliation:
        """Compare the ledgers with the registry's own account, where there is one."""


def wanted(place: Place) -> str:
    """Return what a place is asked for: its digest if it names one, else its tag."""
    return place.digest or place.tag or DEFAULT_TAG


def node_tag(place: Place) -> str:
    """Return what a node calls what it pulled from a place; a digest is its own name."""
    return place.digest or f"{place.repository}:{wanted(place)}"


@dataclass(slots=True, kw_only=True)
class WireWorld:
    """Real HTTP to one registry; where `mode` is plan, real questions and no write.

    Attributes:
        url: of the registry.
        warn: is told what the user should know though the work goes on.
        connect: opens a way to it, with the credentials and the trust that it takes.
        prefix: the repository that all of the run's are below; empty for none.
        registry: the registry itself where it is ours, and its journal can be read.
        beside: what was spent on requests that belong to no transfer.
        written: what the run has put where: by repository, each tag or digest and what it names.
    """

    mode: Mode
    url: str
    images: Images
    stack: AsyncExitStack
    warn: Callable[[str], None]
    connect: Callable[[str], Transport] = Transport
    prefix: str = ""
    registry: MockRegistry | None = None
    beside: Account = field(default_factory=Account)
    written: dict[str, dict[str, Role]] = field(default_factory=dict)
    _known: Known = field(default_factory=Known)
    _registries: dict[str, Registry] = field(default_factory=dict)
    _stores: dict[str, Store] = field(default_factory=dict)
    _planned: dict[str, HeldSets] = field(default_factory=dict)
    _gone: dict[str, set[str]] = field(default_factory=dict)
    _unsettled: bool = False

    def push(self, member: Member, image: str, to: Place) -> Transfer:  # noqa: D102  (the protocol says it)
        source = LocalSource(self.images.store(image))
        return self._to_registry(member, source, self.images.reference(image), to)

    def pull(self, member: Member, reference: Place) -> Transfer:  # noqa: D102  (likewise)
        return Transfer(
            self._source(member, reference),
            wanted(reference),
            self._node(member),
            tag=node_tag(reference),
            name=str(reference),
            options=Options(jobs=member.spec.parallel, labels=self.images.labels),
        )

    def copy(self, member: Member, source: Place, to: Place) -> Transfer:  # noqa: D102  (likewise)
        reader = self._source(member, source)
        return self._to_registry(member, reader, wanted(source), to, copied_from=self._name(source))

    async def delete(self, reference: Place) -> None:  # noqa: D102  (likewise)
        repository = self._repository("regsim", self._name(reference))
        if self.mode is Mode.PLAN:
            await self._plan_delete(repository, reference)
            return
        try:
            await repository.delete_manifest(wanted(reference), self.beside)
        except asyncio.CancelledError:
            # Nobody's ledger tells whether the registry has heard of it.
            self._unsettled = True
            raise

    async def _plan_delete(self, repository: Repository, reference: Place) -> None:
        name = wanted(reference)
        planned, gone = self._holdings(repository.name, Evidence.HEAD), self._gone_from(repository.name)
        found = planned.resolve(name) or await _Remaining(repository, gone).resolve(name, self.beside)
        if found is None:
            raise NotFoundError(f"{reference} does not exist", codes=(MANIFEST_UNKNOWN,))
        planned.delete_manifest(name)
        gone.add(name)

    def learn(self, ledger: Ledger, to: Place) -> None:  # noqa: D102  (likewise)
        name = self._name(to)
        self._known.learn(ledger, name)
        moved = {
            str(entry.digest): entry.role
            for entry in ledger.entries
            if entry.outcome in (Outcome.TRANSFERRED, Outcome.MOUNTED)
        }
        written = self.written.setdefault(name, {})
        if ledger.digest in moved and any(each.evidence is Evidence.MANIFEST for each in ledger.entries):
            # The manifest was there already, by another step's doing or before: only this tag is new.
            role = moved.pop(ledger.digest)
            if ledger.digest not in written:
                moved[wanted(to)] = role
        written.update(moved)

    async def reconcile(self, ledgers: Sequence[Ledger]) -> Reconciliation:  # noqa: D102  (likewise)
        if self.registry is None or self.mode is Mode.PLAN or self._unsettled:
            return Reconciliation.alone(ledgers)
        with suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_SECONDS):
                await self.registry.settled()
        return reconcile(ledgers, self.registry.journal, beside=self.beside)

    async def clean(self) -> None:
        """Delete what the run has written, as far as the registry lets us: manifests before blobs."""
        for name, references in self.written.items():
            repository = self._repository("regsim", name)
            manifests = [each for each, role in references.items() if role not in _BLOBS]
            blobs = [Digest(each) for each, role in references.items() if role in _BLOBS]
            try:
                for reference in manifests:
                    await _delete(repository.delete_manifest(reference, Account()))
                for digest in blobs:
                    await _delete(repository.delete_blob(digest, Account()))
            except RegsimError as error:
                self.warn(f"left behind in {name}: {error.message}")

    def _to_registry(
        self,
        member: Member,
        source: Source,
        reference: str,
        to: Place,
        *,
        copied_from: str | None = None,
    ) -> Transfer:
        name = self._name(to)
        options = Options(
            jobs=member.spec.parallel,
            candidates=self._known.candidates(name, copied_from),
            labels=self.images.labels,
        )
        repository = self._repository(member.name, name, writes=True)
        destination: Destination = RegistryDestination(repository)
        if self.mode is Mode.PLAN:
            planned = self._holdings(name, Evidence.HEAD)
            remaining = _RemainingDestination(repository, self._gone_from(name))
            destination = PlannedDestination(remaining, planned, receives=source.remote)
        return Transfer(source, reference, destination, tag=to.tag, name=str(to), options=options)

    def _source(self, member: Member, place: Place) -> Source:
        name = self._name(place)
        repository = self._repository(member.name, name)
        if self.mode is Mode.PLAN:
            remaining = _Remaining(repository, self._gone_from(name))
            return PlannedSource(remaining, self._holdings(name, Evidence.HEAD))
        return RegistrySource(repository)

    def _node(self, member: Member) -> Destination:
        store = self._stores.get(member.name)
        if store is None:
            store = self._stores[member.name] = _open_store(member)
        destination = LocalDestination(store)
        if self.mode is not Mode.PLAN:
            return destination
        runs: set[tuple[Digest, ...]] | None = set() if member.spec.skip is SkipRule.CHAIN else None
        planned = self._holdings(f"node {member.name}", Evidence.LOCAL, runs)
        return PlannedDestination(destination, planned, receives=True)

    def _holdings(self, key: str, present: Evidence, runs: set[tuple[Digest, ...]] | None = None) -> HeldSets:
        return self._planned.setdefault(key, HeldSets(present=present, runs=runs))

    def _gone_from(self, name: str) -> set[str]:
        """Return the tags and digests that the plan has deleted from a repository."""
        return self._gone.setdefault(name, set())

    def _repository(self, client: str, name: str, *, writes: bool = False) -> Repository:
        return self._registry(client).repository(name, writes=writes)

    def _registry(self, client: str) -> Registry:
        """Return the registry through a client's own connections: nodes share nothing else."""
        registry = self._registries.get(client)
        if registry is None:
            transport = self.connect(self.url)
            self.stack.push_async_callback(transport.aclose)
            registry = self._registries[client] = Registry(transport, warn=self.warn)
        return registry

    def _name(self, place: Place) -> str:
        return f"{self.prefix}/{place.repository}" if self.prefix else place.repository


class _Remaining(RegistrySource):
    """A repository as it would be without what a plan has deleted."""

    def __init__(self, repository: Repository, gone: AbstractSet[str]) -> None:
        super().__init__(repository)
        self._gone = gone

    async def resolve(self, reference: str, account: Account) -> Descriptor | None:
        found = await super().resolve(reference, account)
        return None if found is None or {reference, found.digest} & self._gone else found


class _RemainingDestination(RegistryDestination):
    """Likewise, where it is written to."""

    def __init__(self, repository: Repository, gone: AbstractSet[str]) -> None:
        super().__init__(repository)
        self._gone = gone

    async def find(self, reference: str, account: Account) -> Digest | None:
        found = await super().find(reference, account)
        return None if found is None or {reference, found} & self._gone else found


async def _delete(deletion: Awaitable[None]) -> None:
    # What a step of the scenario has deleted already is no trouble.
    with suppress(NotFoundError):
        await deletion


def _auth(login: Login, password: str) -> Auth | None:
    """Return what lets the nodes of a run into its registry, and nobody else."""
    users = Pairs({_USER: password})
    match login:
        case Login.NONE:
            return None
        case Login.BASIC:
            return BasicAuth(users)
        case Login.TOKEN:
            return TokenAuth(users)


def _open_store(member: Member) -> Store:
    if member.spec.store is None:
        return node_store(member.spec.skip, f"node {member.name}")
    return LayoutStore(member.spec.store, create=True)


def check_registry(scenario: Scenario, prefix: str | None = None) -> None:
    """Check that a scenario's registry can be asked for, and its repositories be named below a prefix.

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
        warn: is told what the user should know though the work goes on.
        connect: opens a way to a registry that is not ours.

    Raises:
        UsageError: there is no engine for a registry container.
        RegistryError, NetworkError: it does not start, or does not answer.
    """
    async with AsyncExitStack() as stack:
        match spec:
            case RegistrySpec(mock=MockSpec(auth=login, profile=profile, faults=faults)):
                password = secrets.token_urlsafe()
                auth = _auth(login, password)
                registry = MockRegistry(auth=auth, profile=profile, faults=faults, seed=seed)
                server = await stack.enter_async_context(registry.serve())
                ours = Credentials(user=_USER, password=password, source="the scenario's registry")
                yield WireWorld(
                    mode=mode,
                    url=server.url,
                    images=images,
                    stack=stack,
                    warn=warn,
                    connect=partial(
                        Transport, connection=Connection(keychain=FixedKeychain({server.netloc: ours}))
                    ),
                    prefix=check_repository(prefix) if prefix else "",
                    registry=registry,
                )
            case RegistrySpec(url=str(url)):
                fresh = f"regsim-{secrets.token_hex(4)}"
                below = check_repository(prefix) if prefix else fresh
                world = WireWorld(
                    mode=mode,
                    url=url,
                    images=images,
                    stack=stack,
                    warn=warn,
                    connect=connect,
                    prefix=below,
                )
                try:
                    yield world
                finally:
                    if not keep and mode is Mode.WIRE:
                        await world.clean()
            case RegistrySpec(container=str(image)):
                container = await stack.enter_async_context(registry_container(image, tell=warn))
                yield WireWorld(
                    mode=mode,
                    url=container.url,
                    images=images,
                    stack=stack,
                    warn=warn,
                    prefix=check_repository(prefix) if prefix else "",
                )
