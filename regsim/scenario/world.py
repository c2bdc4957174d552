"""The registry and the nodes of one run, whatever the fidelity: what steps act on.

Owns which ends each step has, where mounts are sought, and what a run calls things. The worlds differ in
their ends alone: `wire_world.py` has those of real HTTP and of plans, `model_world.py` those of the model.
Must not know steps, expectations or HTTP.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from regsim.core import Digest, Role
from regsim.core.ledger import Outcome
from regsim.core.reference import DEFAULT_TAG
from regsim.core.result import Reconciliation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from regsim.core.ledger import Ledger
    from regsim.scenario.images import Images
    from regsim.scenario.schema import NodeSpec
    from regsim.scenario.schema_step import Place

BLOBS = frozenset({Role.LAYER, Role.CONFIG})
_HELD = frozenset({Outcome.TRANSFERRED, Outcome.EXISTS, Outcome.MOUNTED, Outcome.JOINED})

S = TypeVar("S")
D = TypeVar("D")


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

    async def at_once(self, moves: Sequence[Callable[[], Awaitable[None]]], places: int) -> None:
        """Do all, at most `places` of them at the same time."""

    async def delete(self, reference: Place) -> None:
        """Delete a tag, or by digest a manifest."""

    def learn(self, ledger: Ledger, to: Place) -> None:
        """Take note of what a transfer left at a place of the registry."""

    async def reconcile(self, ledgers: Sequence[Ledger]) -> Reconciliation:
        """Compare the ledgers with the registry's own account if there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(Generic[S, D]):
    """What a transfer is made from.

    Attributes:
        member: the machine that does it.
        source: the end that is read.
        reference: what is requested there.
        destination: the end that is written to.
        tag: what it is called there; None if it is not tagged.
        name: what reports call it.
        candidates: where each blob may be mounted from.
    """

    member: Member
    source: S
    reference: str
    destination: D
    tag: str | None
    name: str
    candidates: Callable[[Digest], tuple[str, ...]]


@dataclass(kw_only=True)
class Ends(ABC, Generic[S, D]):
    """The base of worlds: `World`, by the ends that an actual world opens.

    Attributes:
        images: what can be pushed.
        prefix: the repository that all of the run's are below; empty for none.
        holders: the repositories that hold a blob, as far as this run has put it there, oldest first. It
            never depends on an earlier run; a blob deleted since costs one refused mount.
    """

    images: Images
    prefix: str = ""
    holders: dict[Digest, dict[str, None]] = field(default_factory=dict)

    @abstractmethod
    def image(self, image: str) -> S:
        """Return the source of an image that a node has."""

    @abstractmethod
    def reader(self, member: Member, name: str) -> S:
        """Return a repository to read from."""

    @abstractmethod
    def writer(self, member: Member, name: str, source: S) -> D:
        """Return a repository to write to what `source` holds."""

    @abstractmethod
    def node(self, member: Member) -> D:
        """Return the store of a machine."""

    @abstractmethod
    def work(self, job: Job[S, D]) -> Work:
        """Return the transfer."""

    def push(self, member: Member, image: str, to: Place) -> Work:
        """Return the transfer of an image from a node to the registry."""
        return self._write(member, self.image(image), self.images.reference(image), to)

    def pull(self, member: Member, reference: Place) -> Work:
        """Return the transfer of what the registry has to a node."""
        wanted = wanted_at(reference)
        job = Job(
            member=member,
            source=self.reader(member, self.name(reference)),
            reference=wanted,
            destination=self.node(member),
            # A digest is its own name.
            tag=reference.digest or f"{reference.repository}:{wanted}",
            name=str(reference),
            candidates=lambda _: (),
        )
        return self.work(job)

    def copy(self, member: Member, source: Place, to: Place) -> Work:
        """Return the transfer from one place of the registry to another."""
        name = self.name(source)
        return self._write(member, self.reader(member, name), wanted_at(source), to, copied_from=name)

    def learn(self, ledger: Ledger, to: Place) -> None:
        """Take note of what a transfer left at a place of the registry."""
        for entry in ledger.entries:
            if entry.role in BLOBS and entry.outcome in _HELD:
                self.holders.setdefault(entry.digest, {}).setdefault(self.name(to))

    async def reconcile(self, ledgers: Sequence[Ledger]) -> Reconciliation:
        """Return the verdict over the ledgers alone."""
        return Reconciliation.alone(ledgers)

    def name(self, place: Place) -> str:
        """Return what a place's repository is called in the registry."""
        return f"{self.prefix}/{place.repository}" if self.prefix else place.repository

    def _write(
        self, member: Member, source: S, reference: str, to: Place, *, copied_from: str | None = None
    ) -> Work:
        name = self.name(to)

        def candidates(digest: Digest) -> tuple[str, ...]:
            ranked = dict.fromkeys((*filter(None, [copied_from]), *self.holders.get(digest, ())))
            return tuple(repository for repository in ranked if repository != name)

        job = Job(
            member=member,
            source=source,
            reference=reference,
            destination=self.writer(member, name, source),
            tag=to.tag,
            name=str(to),
            candidates=candidates,
        )
        return self.work(job)


def wanted_at(place: Place) -> str:
    """Return the digest that a place names, else its tag."""
    return place.digest or place.tag or DEFAULT_TAG
