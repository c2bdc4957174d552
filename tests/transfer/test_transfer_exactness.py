"""Random images, registries, nodes and steps: wire, model and plan against a naive oracle.

The oracle knows sets and recursion, and nothing of generators, drivers or HTTP. All here that says what
should happen is written for this file alone.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mock_registry import MockRegistry, Record, Route
from regsim.core import Descriptor, Digest, Role, Successor, media_types
from regsim.core import actions as act
from regsim.core.account import Account
from regsim.core.decide import Decisions
from regsim.core.holdings import HeldSets, SkipRule
from regsim.core.ledger import Direction, Evidence, Ledger, violations
from regsim.core.manifest import parse
from regsim.core.work import Labels, Rules, entries
from regsim.errors import NetworkError, NotFoundError
from regsim.registry import Connection
from regsim.registry.repository import Registry
from regsim.registry.transport import Transport
from regsim.scenario.reconcile import reconcile
from regsim.store.memory import BytesContent
from regsim.store.node import ChainDigestStore, DigestStore, MemoryStore, node_store
from regsim.transfer.copy import Options, Transfer
from regsim.transfer.ends import (
    Destination,
    LocalDestination,
    LocalSource,
    PlannedDestination,
    PlannedSource,
    RegistryDestination,
    RegistrySource,
    Source,
)
from regsim.transfer.model import ModelEnd, ModelRegistry, ModelTransfer
from tests.transfer.answers import Answers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# What there is: content, images, places.

# Shared by all images, so that layers, configs and contents of registries meet each other often.
BLOBS = (b"", b"{}", b"ab", b"layer " * 4, bytes(range(256)) * 8, b"y" * 70_000, b"z" * 300_000)
LAYER_TYPES = (media_types.OCI_LAYER_GZIP, media_types.OCI_LAYER, media_types.DOCKER_LAYER_GZIP)
FOREIGN_TYPES = (
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
)
CONFIG_TYPES = (media_types.OCI_CONFIG, media_types.DOCKER_CONFIG, media_types.OCI_EMPTY)
MANIFEST_TYPES = (media_types.OCI_MANIFEST, media_types.DOCKER_MANIFEST)
INDEX_TYPES = (media_types.OCI_INDEX, media_types.DOCKER_INDEX)
ODD_TYPE = "application/vnd.example.something+json"

BUILDER = "builder"
REPOSITORIES = ("shop/api", "shop/web", "library/base")
NODES = {"any-blob": SkipRule.BLOB, "in-chains": SkipRule.CHAIN}
NOWHERE = "no/where"
TAGS = ("v1", "v2")


def digest_of(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:6]


def is_registry(place: str) -> bool:
    return "/" in place


@dataclass(frozen=True, slots=True)
class Item:
    """A descriptor where it stands, with the bytes that it names and the items that these name in turn."""

    role: str
    media_type: str
    raw: bytes
    inlined: bool = False
    children: tuple[Item, ...] = ()

    def __repr__(self) -> str:
        below = f" of {list(self.children)}" if self.children else ""
        return f"<{self.role} {short(self.digest)}{' inlined' * self.inlined}{below}>"

    @property
    def digest(self) -> str:
        return digest_of(self.raw)

    @property
    def is_document(self) -> bool:
        return self.role in ("manifest", "index")

    @property
    def is_foreign(self) -> bool:
        return self.media_type in FOREIGN_TYPES

    @property
    def layers(self) -> tuple[str, ...]:
        """The digests of a manifest's layers, base first."""
        return tuple(child.digest for child in self.children[1:]) if self.role == "manifest" else ()

    @property
    def written(self) -> dict[str, object]:
        document: dict[str, object] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": len(self.raw),
        }
        if self.inlined:
            document["data"] = base64.b64encode(self.raw).decode()
        return document

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(media_type=self.media_type, digest=Digest(self.digest), size=len(self.raw))

    def below(self) -> Iterator[Item]:
        """Yield everything that has to exist before this can, and this last."""
        for child in self.children:
            if not child.is_foreign:
                yield from child.below()
        yield self


def manifest(media_type: str, config: Item, layers: Sequence[Item]) -> Item:
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": config.written,
        "layers": [layer.written for layer in layers],
    }
    return Item("manifest", media_type, json.dumps(document).encode(), children=(config, *layers))


def index(media_type: str, manifests: Sequence[Item]) -> Item:
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [child.written for child in manifests],
    }
    return Item("index", media_type, json.dumps(document).encode(), children=tuple(manifests))


# What is held, and what should happen to it.


@dataclass(slots=True)
class Shelf:
    """What a repository or a node holds."""

    blobs: set[str] = field(default_factory=set)
    manifests: set[str] = field(default_factory=set)
    tags: dict[str, str] = field(default_factory=dict)
    runs: set[tuple[str, ...]] | None = None

    def put(self, document: Item) -> None:
        self.manifests.add(document.digest)
        if self.runs is not None:
            self.runs |= {document.layers[:length] for length in range(1, len(document.layers) + 1)}


@dataclass(frozen=True, slots=True, repr=False)
class Row:
    """What an entry of a ledger has to say."""

    digest: str
    role: str
    size: int
    outcome: str
    evidence: str | None
    mounted_from: str | None = None
    sent: int = 0
    received: int = 0
    wasted_sent: int = 0
    wasted_received: int = 0

    def __repr__(self) -> str:
        from_where = f" from {self.mounted_from}" if self.mounted_from else ""
        return (
            f"<{self.role} {short(self.digest)} of {self.size}: {self.outcome} {self.evidence}{from_where}, "
            f"sent {self.sent} (wasted {self.wasted_sent}), "
            f"received {self.received} (wasted {self.wasted_received})>"
        )


@dataclass(frozen=True, slots=True)
class Move:
    """A step: bring what `reference` names at `source` to `destination`, and call it `tag` there."""

    source: str
    reference: str
    destination: str
    tag: str | None
    candidates: Mapping[str, tuple[str, ...]]
    expected: tuple[Row, ...]
    stale: bool


@dataclass(frozen=True, slots=True)
class Delete:
    """A step: delete a tag, or by digest a manifest with its tags."""

    repository: str
    reference: str


@dataclass(slots=True)
class Oracle:
    """Predicts one transfer by recursion over what is in sets, and then changes the sets."""

    shelves: Mapping[str, Shelf]
    source: str
    destination: str
    tag: str | None
    candidates: Mapping[str, tuple[str, ...]]
    rows: list[Row] = field(default_factory=list)
    firsts: dict[tuple[bool, str], tuple[str, str | None]] = field(default_factory=dict)

    def transfer(self, root: Item) -> tuple[Row, ...]:
        self.visit(root, (), parent_known=None)
        if self.tag is not None:
            self.shelf.tags[self.tag] = root.digest
        return tuple(self.rows)

    @property
    def shelf(self) -> Shelf:
        return self.shelves[self.destination]

    @property
    def moved_by(self) -> str:
        if is_registry(self.destination):
            return "upload"
        return "download" if is_registry(self.source) else "stored"

    def visit(self, item: Item, run: tuple[str, ...], *, parent_known: bool | None) -> None:
        """Add the rows of an item; `run` is it and the layers below it, if it is a manifest's layer."""
        if item.is_foreign:
            self.rows.append(Row(item.digest, item.role, len(item.raw), "foreign", None))
            return
        first = self.firsts.get((item.is_document, item.digest))
        if first is not None:
            again = ("joined", None) if first[0] in ("transferred", "mounted") else first
            self.rows.append(Row(item.digest, item.role, len(item.raw), *again))
            return
        if item.is_document:
            self.visit_document(item, parent_known=parent_known)
        else:
            self.visit_blob(item, run, parent_known=parent_known)

    def visit_document(self, item: Item, *, parent_known: bool | None) -> None:
        held = item.digest in self.shelf.manifests
        if parent_known is None and self.tag is not None:
            there = self.shelf.tags.get(self.tag) == item.digest
        else:
            there = held
        present_by = "head" if is_registry(self.destination) else "local"
        if there:
            outcome, evidence = "exists", "manifest" if parent_known else present_by
        else:
            outcome, evidence = "transferred", self.moved_by
        read = is_registry(self.source) and (is_registry(self.destination) or not there)
        self.add(item, outcome, evidence, received=len(item.raw) if read else 0)
        for position, child in enumerate(item.children):
            self.visit(child, item.layers[:position], parent_known=held)
        if not there:
            self.shelf.put(item)

    def visit_blob(self, item: Item, run: tuple[str, ...], *, parent_known: bool | None) -> None:
        to_registry = is_registry(self.destination)
        if to_registry and parent_known:
            self.add(item, "exists", "manifest")
            return
        present_by = self.presence(item, run)
        if present_by is not None:
            self.add(item, "exists", "manifest" if parent_known else present_by)
            return
        candidates = self.candidates.get(item.digest, ()) if to_registry else ()
        worth_trying = candidates[: 1 if len(item.raw) < 102_400 else 3]
        holder = next((each for each in worth_trying if item.digest in self.blobs_of(each)), None)
        self.shelf.blobs.add(item.digest)
        if holder is not None:
            self.add(item, "mounted", "201", mounted_from=holder)
        elif item.inlined and is_registry(self.source) and not to_registry:
            self.add(item, "inlined", None)
        else:
            read = is_registry(self.source)
            self.add(item, "transferred", self.moved_by, received=len(item.raw) if read else 0)

    def presence(self, item: Item, run: tuple[str, ...]) -> str | None:
        shelf = self.shelf
        if shelf.runs is not None and run:
            return "chain" if run in shelf.runs else None
        if item.digest not in shelf.blobs:
            return None
        return "head" if is_registry(self.destination) else "local"

    def blobs_of(self, repository: str) -> set[str]:
        return self.shelves[repository].blobs if repository in self.shelves else set()

    def add(
        self,
        item: Item,
        outcome: str,
        evidence: str | None,
        *,
        received: int = 0,
        mounted_from: str | None = None,
    ) -> None:
        self.firsts[item.is_document, item.digest] = (outcome, evidence)
        transferred = outcome == "transferred"
        self.rows.append(
            Row(
                item.digest,
                item.role,
                len(item.raw),
                outcome,
                evidence,
                mounted_from=mounted_from,
                sent=len(item.raw) if transferred and is_registry(self.destination) else 0,
                received=received,
                wasted_received=0 if transferred else received,
            )
        )


# Stories: a family of images, what every place holds at first, and steps with what is to come of them.


@dataclass(frozen=True, slots=True)
class Start:
    """What a place holds at first: blobs, documents (children first) and tags."""

    blobs: tuple[bytes, ...]
    documents: tuple[Item, ...]
    tags: Mapping[str, str]

    def shelf(self, rule: SkipRule | None = None) -> Shelf:
        shelf = Shelf(
            blobs={digest_of(raw) for raw in self.blobs},
            tags=dict(self.tags),
            runs=set() if rule is SkipRule.CHAIN else None,
        )
        for document in self.documents:
            shelf.put(document)
        return shelf


@dataclass(frozen=True, slots=True)
class Story:
    """Everything that one example needs, and the state in which it should end."""

    family: tuple[Item, ...]
    starts: Mapping[str, Start]
    steps: tuple[Move | Delete, ...]
    end: Mapping[str, Shelf]


def blobs(role: str, types: Sequence[str]) -> st.SearchStrategy[Item]:
    """Any content may be a config or a layer, and may stand in its own descriptor if it is small."""

    def item(media_type: str, raw: bytes, chance: int) -> Item:
        return Item(role, media_type, raw, inlined=chance == 0 and len(raw) < 100)

    return st.builds(item, st.sampled_from(types), st.sampled_from(BLOBS), st.integers(0, 4))


@st.composite
def families(draw: st.DrawFn) -> tuple[Item, ...]:
    """Draw images upon each other's layers, and indexes over them, nested and with repetitions."""
    own = blobs("layer", LAYER_TYPES)
    layers = st.lists(st.one_of(own, own, own, blobs("layer", FOREIGN_TYPES)), max_size=3)
    documents: list[Item] = []
    for _ in range(draw(st.integers(1, 4))):
        base = draw(st.sampled_from([(), *(image.children[1:] for image in documents)]))
        config = draw(blobs("config", CONFIG_TYPES))
        documents.append(manifest(draw(st.sampled_from(MANIFEST_TYPES)), config, [*base, *draw(layers)]))
    for _ in range(draw(st.integers(0, 3))):
        known = st.builds(
            lambda item, chance: replace(item, inlined=chance == 0),
            st.sampled_from(documents),
            st.integers(0, 9),
        )
        children = st.one_of(known, known, known, blobs("layer", [ODD_TYPE]))
        documents.append(index(draw(st.sampled_from(INDEX_TYPES)), draw(st.lists(children, max_size=4))))
    return tuple({document.digest: document for document in documents}.values())


@st.composite
def starts(draw: st.DrawFn, family: tuple[Item, ...], place: str) -> Start:
    """Draw contents: some images whole, some blobs of others; a node that skips by blob may have holes."""
    roots = draw(st.lists(st.sampled_from(family), max_size=2))
    whole = [item for root in roots for item in root.below()]
    held = {item.raw for item in whole if not item.is_document}
    documents = {item.digest: item for item in whole if item.is_document}
    held |= set(draw(st.lists(st.sampled_from(BLOBS), max_size=2)))
    if documents and NODES.get(place) is SkipRule.BLOB:
        held -= set(draw(st.lists(st.sampled_from(BLOBS), max_size=2)))
        for digest in draw(st.lists(st.sampled_from(sorted(documents)), max_size=1)):
            del documents[digest]
    named = [digest for digest in sorted(documents) if draw(st.booleans())]
    return Start(tuple(sorted(held)), tuple(documents.values()), dict(zip(TAGS, named, strict=False)))


@st.composite
def stories(draw: st.DrawFn, *, length: int = 6) -> Story:
    """Draw a story; what each step is to come to is told by the oracle on the way."""
    family = draw(families())
    begin = {place: draw(starts(family, place)) for place in (*REPOSITORIES, *NODES)}
    shelves = {place: start.shelf(NODES.get(place)) for place, start in begin.items()}
    steps = [draw(steps_from(family, shelves)) for _ in range(draw(st.integers(2, length)))]
    return Story(family, begin, tuple(steps), shelves)


@st.composite
def steps_from(draw: st.DrawFn, family: tuple[Item, ...], shelves: Mapping[str, Shelf]) -> Move | Delete:
    """Draw what can be done next, and do it to the shelves."""
    catalog = {item.digest: item for item in family}
    offers = {place: offered(catalog, shelves[place]) for place in REPOSITORIES}
    source = draw(st.sampled_from([BUILDER, *(place for place in REPOSITORIES if offers[place])]))
    reference = draw(st.sampled_from(offers.get(source, sorted(catalog))))
    if source != BUILDER and draw(st.integers(0, 9)) == 0 and delete(catalog, shelves[source], reference):
        return Delete(source, reference)
    destination = draw(st.sampled_from((*REPOSITORIES, *NODES, *NODES)))
    tag = draw(st.sampled_from((*TAGS, None)))
    kind = draw(st.sampled_from(("none", "true", "stale"))) if is_registry(destination) else "none"
    candidates = {
        digest_of(raw): candidates_for(kind, digest_of(raw), source, destination, shelves) for raw in BLOBS
    }
    digest = shelves[source].tags.get(reference, reference) if source != BUILDER else reference
    rows = Oracle(shelves, source, destination, tag, candidates).transfer(catalog[digest])
    return Move(source, reference, destination, tag, candidates, rows, stale=kind == "stale")


def offered(catalog: Mapping[str, Item], shelf: Shelf) -> list[str]:
    """Return the tags and digests that can be asked for."""
    return [*sorted(shelf.tags), *sorted(shelf.manifests & set(catalog))]


def candidates_for(
    kind: str, digest: str, source: str, destination: str, shelves: Mapping[str, Shelf]
) -> tuple[str, ...]:
    if kind == "none":
        return ()
    if kind == "stale":
        # Right for some digests and wrong for others.
        return (REPOSITORIES[0] if destination != REPOSITORIES[0] else NOWHERE, REPOSITORIES[1])
    ranked = dict.fromkeys((source, *REPOSITORIES))
    return tuple(
        each for each in ranked if is_registry(each) and each != destination and digest in shelves[each].blobs
    )


def delete(catalog: Mapping[str, Item], shelf: Shelf, reference: str) -> bool:
    """Delete a tag or a manifest, unless an index that is held needs it."""
    if shelf.tags.pop(reference, None):
        return True
    held = [catalog[digest] for digest in shelf.manifests if digest in catalog]
    if any(reference == child.digest for item in held for child in item.children):
        return False
    shelf.manifests.remove(reference)
    shelf.tags = {tag: digest for tag, digest in shelf.tags.items() if digest != reference}
    return True


# Three ways to go through a story.


class World(Protocol):
    """One fidelity."""

    async def move(self, move: Move) -> Ledger:
        """Do one transfer."""


@dataclass(slots=True)
class Wire:
    """Real HTTP requests to the mock, in this process."""

    mock: MockRegistry
    registry: Registry
    builder: MemoryStore
    nodes: Mapping[str, DigestStore]
    jobs: int = 6
    ledgers: list[Ledger] = field(default_factory=list)
    beside: Account = field(default_factory=Account)

    @classmethod
    async def begin(cls, story: Story, mock: MockRegistry, transport: Transport, jobs: int) -> Wire:
        registry = Registry(transport)
        builder = MemoryStore()
        for root in story.family:
            for item in root.below():
                await builder.put(BytesContent(item.descriptor, item.raw))
        nodes = {name: node_store(rule, name) for name, rule in NODES.items()}
        for name, start in story.starts.items():
            if is_registry(name):
                await fill_repository(registry, name, start)
            else:
                await fill_node(nodes[name], start)
        mock.journal.clear()
        return cls(mock, registry, builder, nodes, jobs)

    def source(self, place: str) -> Source:
        if is_registry(place):
            return RegistrySource(self.registry.repository(place))
        return LocalSource(self.builder)

    def destination(self, place: str) -> Destination:
        if is_registry(place):
            return RegistryDestination(self.registry.repository(place))
        return LocalDestination(self.nodes[place])

    async def move(self, move: Move) -> Ledger:
        transfer = Transfer(
            self.source(move.source),
            move.reference,
            self.destination(move.destination),
            tag=move.tag,
            options=Options(jobs=self.jobs, candidates=lambda digest: move.candidates.get(digest, ())),
        )
        ledger = await transfer.run()
        self.ledgers.append(ledger)
        return ledger

    async def delete(self, step: Delete) -> None:
        await self.registry.repository(step.repository).delete_manifest(step.reference, self.beside)


async def fill_repository(registry: Registry, name: str, start: Start) -> None:
    repository, account = registry.repository(name), Account()
    for raw in start.blobs:
        await repository.upload(BytesContent(Descriptor.of(raw, ODD_TYPE), raw), account)
    for item in start.documents:
        await repository.put_manifest(item.raw, item.media_type, item.digest, account)
    for tag, digest in start.tags.items():
        item = next(each for each in start.documents if each.digest == digest)
        await repository.put_manifest(item.raw, item.media_type, tag, account)


async def fill_node(store: DigestStore, start: Start) -> None:
    for raw in start.blobs:
        await store.put(BytesContent(Descriptor.of(raw, ODD_TYPE), raw))
    for item in start.documents:
        await store.put(BytesContent(item.descriptor, item.raw))
        if isinstance(store, ChainDigestStore):
            store.add_chain(tuple(map(Digest, item.layers)))
    for tag, digest in start.tags.items():
        item = next(each for each in start.documents if each.digest == digest)
        await store.tag(item.descriptor, tag)


@dataclass(slots=True)
class Plan:
    """Questions to the wire world, and no write; earlier moves count as made."""

    real: Wire
    planned: dict[str, HeldSets] = field(default_factory=dict)

    def holdings(self, place: str) -> HeldSets:
        present = Evidence.HEAD if is_registry(place) else Evidence.LOCAL
        runs = set[tuple[Digest, ...]]() if NODES.get(place) is SkipRule.CHAIN else None
        return self.planned.setdefault(place, HeldSets(present=present, runs=runs))

    async def move(self, move: Move) -> Ledger:
        source: Source = self.real.source(move.source)
        if is_registry(move.source):
            source = PlannedSource(source, self.holdings(move.source))
        destination = PlannedDestination(
            self.real.destination(move.destination), self.holdings(move.destination), receives=source.remote
        )
        options = Options(candidates=lambda digest: move.candidates.get(digest, ()))
        return await Transfer(source, move.reference, destination, tag=move.tag, options=options).run()


@dataclass(slots=True)
class Model:
    """No HTTP and no bytes."""

    registry: ModelRegistry
    nodes: dict[str, HeldSets]

    @classmethod
    def begin(cls, story: Story) -> Model:
        model = cls(ModelRegistry(), {BUILDER: HeldSets(present=Evidence.LOCAL)})
        for name, rule in NODES.items():
            runs = set[tuple[Digest, ...]]() if rule is SkipRule.CHAIN else None
            model.nodes[name] = HeldSets(present=Evidence.LOCAL, runs=runs)
        for root in story.family:
            fill_holdings(
                model.nodes[BUILDER], Start((), tuple(each for each in root.below() if each.is_document), {})
            )
        for name, start in story.starts.items():
            fill_holdings(model.end(name).holdings, start)
        return model

    def end(self, place: str) -> ModelEnd:
        return self.registry.repository(place) if is_registry(place) else ModelEnd(self.nodes[place])

    async def move(self, move: Move) -> Ledger:
        return self.transfer(move).run()

    def transfer(self, move: Move) -> ModelTransfer:
        return ModelTransfer(
            source=self.end(move.source),
            reference=move.reference,
            destination=self.end(move.destination),
            tag=move.tag,
            candidates=lambda digest: move.candidates.get(digest, ()),
        )

    def delete(self, step: Delete) -> None:
        holdings = self.end(step.repository).holdings
        digest = holdings.tags.pop(step.reference, None)
        if digest is None:
            del holdings.manifests[Digest(step.reference)]
            holdings.tags = {tag: held for tag, held in holdings.tags.items() if held != step.reference}


def fill_holdings(holdings: HeldSets, start: Start) -> None:
    holdings.blobs |= {Digest(digest_of(raw)) for raw in start.blobs}
    for item in start.documents:
        holdings.manifests[item.descriptor.digest] = parse(item.descriptor, item.raw)
        if holdings.runs is not None:
            layers = tuple(map(Digest, item.layers))
            holdings.runs |= {layers[:length] for length in range(1, len(layers) + 1)}
    holdings.tags.update({tag: Digest(digest) for tag, digest in start.tags.items()})


# What is required of each.


def rows_of(ledger: Ledger) -> list[Row]:
    return [
        Row(
            entry.digest,
            entry.role,
            entry.size,
            entry.outcome,
            entry.evidence,
            mounted_from=entry.mounted_from,
            sent=entry.wire_sent,
            received=entry.wire_received,
            wasted_sent=entry.wasted_sent,
            wasted_received=entry.wasted_received,
        )
        for entry in ledger.entries
    ]


def requests_of(ledger: Ledger) -> list[int]:
    return [entry.requests for entry in ledger.entries]


def require(ledger: Ledger, expected: Sequence[Row]) -> None:
    assert ledger.error is None
    assert violations(ledger) == []
    assert rows_of(ledger) == list(expected)


def planned(rows: Sequence[Row]) -> list[Row]:
    """Return what a plan says where the wire says `201`."""
    return [replace(row, evidence="assumed") if row.evidence == "201" else row for row in rows]


def require_existence_first(move: Move, records: Sequence[Record]) -> None:
    """No blob is uploaded or mounted before it was asked for, nor anything sent of what was there."""
    asked: set[str | None] = set()
    opened: dict[str | None, set[str | None]] = {}
    for record in records:
        if record.route is Route.BLOB and record.method == "HEAD":
            asked.add(record.digest)
        elif record.route is Route.UPLOADS:
            # A session names no digest yet: something must have been asked for.
            assert record.digest in asked if record.digest else asked
            opened[record.session] = set(asked)
        elif record.route is Route.UPLOAD:
            assert record.digest in opened[record.session]
    sent = {record.digest for record in records if record.bytes_in}
    spared = {row.digest for row in move.expected if row.outcome in ("exists", "mounted", "foreign")}
    moved = {row.digest for row in move.expected if row.outcome == "transferred"}
    assert sent & (spared - moved) == set()


async def live_through(story: Story, mock: MockRegistry, transport: Transport, jobs: int) -> None:
    """Do every step as a plan, on the wire and in the model, and require what the oracle said of it."""
    model = Model.begin(story)
    wire = await Wire.begin(story, mock, transport, jobs)
    await plan_ahead(story, wire)
    for step in story.steps:
        if isinstance(step, Delete):
            await wire.delete(step)
            model.delete(step)
            continue
        if not step.stale:
            require(await asking_only(wire, step), planned(step.expected))
        before = len(mock.journal)
        moved, modelled = await wire.move(step), await model.move(step)
        require(moved, step.expected)
        require(modelled, step.expected)
        assert requests_of(moved) == requests_of(modelled)
        if is_registry(step.destination):
            require_existence_first(step, mock.journal[before:])
    found = reconcile(wire.ledgers, mock.journal, beside=wire.beside)
    assert (found.differences, found.matched) == ((), True)
    await require_end(story, wire, model)


async def plan_ahead(story: Story, wire: Wire) -> None:
    """Plan the whole story before any of it: what an earlier step would have written counts as present."""
    plan = Plan(wire)
    for step in story.steps:
        if isinstance(step, Delete) or step.stale:
            break
        require(await plan.move(step), planned(step.expected))
    wire.mock.journal.clear()


async def asking_only(wire: Wire, move: Move) -> Ledger:
    """Plan one move as things stand, off the record."""
    records = wire.mock.journal[:]
    ledger = await Plan(wire).move(move)
    wire.mock.journal.clear()
    for record in records:
        wire.mock.journal.append(record)
    return ledger


async def require_end(story: Story, wire: Wire, model: Model) -> None:
    """Every place holds what the oracle says, no more and no less."""
    for place in REPOSITORIES:
        shelf, held = story.end[place], wire.mock.state.repositories.get(place)
        if held is not None:
            assert (set(held.blobs), set(held.manifests), held.tags) == (
                shelf.blobs,
                shelf.manifests,
                shelf.tags,
            )
        else:
            assert shelf == Shelf()
    for place in (*REPOSITORIES, *NODES):
        shelf, modelled = story.end[place], model.end(place).holdings
        assert (modelled.blobs, set(modelled.manifests), modelled.tags, modelled.runs) == (
            shelf.blobs,
            shelf.manifests,
            shelf.tags,
            shelf.runs,
        )
    for place, store in wire.nodes.items():
        shelf = story.end[place]
        for raw in BLOBS:
            assert await store.has(Descriptor.of(raw, ODD_TYPE)) == (digest_of(raw) in shelf.blobs)


async def in_process(story: Story, jobs: int) -> None:
    async with (
        MockRegistry() as mock,
        Transport("127.0.0.1:5000", Connection(transport=mock.transport())) as transport,
    ):
        await live_through(story, mock, transport, jobs)


async def on_a_port(story: Story, jobs: int) -> None:
    mock = MockRegistry()
    async with mock.serve() as server, Transport(server.url) as transport:
        await live_through(story, mock, transport, jobs)


# Seeded once an example: what it decides may depend on how many decisions there are.
RANDOMS = st.builds(Random, st.integers(0, 2**32 - 1))


def enough(examples: int) -> settings:
    """Return settings for so many examples, and as many fewer as the profile wants fewer than usual."""
    share = settings().max_examples / settings.get_profile("default").max_examples
    return settings(
        max_examples=max(1, round(examples * share)),
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow],
    )


@given(story=stories(), jobs=st.integers(1, 6))
@enough(120)
def test_wire_model_and_plan_do_what_the_oracle_says(story: Story, jobs: int) -> None:
    asyncio.run(in_process(story, jobs))


@given(story=stories(), jobs=st.integers(1, 6))
@enough(15)
def test_a_real_socket_changes_nothing(story: Story, jobs: int) -> None:
    asyncio.run(on_a_port(story, jobs))


@pytest.mark.soak
@given(story=stories(length=12), jobs=st.integers(1, 6))
@enough(5000)
def test_wire_model_and_plan_do_what_the_oracle_says_for_long(story: Story, jobs: int) -> None:
    asyncio.run(in_process(story, jobs))


@pytest.mark.soak
@given(story=stories(length=12), jobs=st.integers(1, 6))
@enough(1000)
def test_a_real_socket_changes_nothing_for_long(story: Story, jobs: int) -> None:
    asyncio.run(on_a_port(story, jobs))


# The decisions by hand: whatever is answered first, and whatever fails.


@dataclass(slots=True)
class Hand:
    """Drives decisions as the model would, but answers in an order of its own."""

    transfer: ModelTransfer
    decisions: Decisions
    pending: list[act.Action]
    checked: set[Digest] = field(default_factory=set)
    last: act.Action | None = None

    @classmethod
    def take(cls, transfer: ModelTransfer) -> Hand:
        sends, receives = transfer.destination.remote, transfer.source.remote
        rules = Rules(
            direction=Direction.between(from_registry=receives, to_registry=sends),
            to_registry=sends,
            from_registry=receives,
            tag=transfer.tag,
            candidates=transfer.candidates,
        )
        root = transfer.source.holdings.resolve(transfer.reference)
        assert root is not None
        decisions = Decisions(root, rules, Account())
        return cls(transfer, decisions, decisions.start())

    def answer(self, action: act.Action) -> None:
        """Answer one action, and look at what it was and at what it leads to."""
        self.pending.remove(action)
        self.require_place(action)
        answers = Answers(self.transfer.source, self.transfer.destination)
        found = self.decisions.succeed(action, answers.answer(action))
        assert self.decisions.error is None or found == []
        self.pending += found
        self.last = action
        assert violations(self.ledger()) == []

    def require_place(self, action: act.Action) -> None:
        """Existence before mount before upload; what a manifest names before itself; its tag last."""
        held = self.transfer.destination.holdings
        match action:
            case act.CheckBlob():
                assert action.descriptor.digest not in self.checked
                self.checked.add(action.descriptor.digest)
            case act.Mount() | act.Upload() | act.Download():
                assert action.descriptor.digest in self.checked
            case act.PutManifest():
                assert all(is_held(each, held) for each in action.document.successors)
                is_root = action.descriptor.digest == self.decisions.root.digest
                assert action.tag == (self.transfer.tag if is_root else None)
                assert not is_root or self.pending == []

    def ledger(self) -> Ledger:
        sends, receives = self.transfer.destination.remote, self.transfer.source.remote
        return Ledger(
            direction=self.decisions.rules.direction,
            reference="",
            sends=sends,
            receives=receives,
            entries=entries(self.decisions.graph(), self.decisions.work, self.decisions.rules, Labels()),
            referenced=self.decisions.referenced,
            error=self.decisions.error,
        )


def is_held(successor: Successor, holdings: HeldSets) -> bool:
    """Tell whether what a manifest names is in place; a node that skips by chain has no layers, but runs."""
    digest = successor.descriptor.digest
    if successor.role in (Role.MANIFEST, Role.INDEX):
        return digest in holdings.manifests
    foreign = media_types.is_foreign(successor.descriptor.media_type)
    return foreign or digest in holdings.blobs or any(digest in run for run in holdings.runs or ())


@pytest.mark.long
@given(story=stories(), random=RANDOMS)
@enough(150)
def test_order_of_answers_changes_no_entry(story: Story, random: Random) -> None:
    model = Model.begin(story)
    for step in story.steps:
        if isinstance(step, Delete):
            model.delete(step)
            continue
        hand = Hand.take(model.transfer(step))
        while hand.pending:
            assert not hand.decisions.done
            hand.answer(random.choice(hand.pending))
        assert hand.decisions.done
        require(hand.ledger(), step.expected)


@pytest.mark.long
@given(story=stories(), random=RANDOMS)
@enough(150)
def test_after_a_failure_nothing_starts_and_the_laws_hold(story: Story, random: Random) -> None:
    model = Model.begin(story)
    for step in story.steps:
        if isinstance(step, Delete):
            model.delete(step)
            continue
        hand = Hand.take(model.transfer(step))
        for _ in range(random.randrange(40)):
            if len(hand.pending) > 1:
                hand.answer(random.choice(hand.pending))
        broken = random.choice(hand.pending)
        hand.pending.remove(broken)
        spend_in_vain(broken, hand, random)
        assert hand.decisions.fail(broken, NetworkError("the connection broke")) == []
        assert hand.decisions.done
        for action in random.sample(hand.pending, random.randrange(len(hand.pending) + 1)):
            hand.answer(action)
        require_partial(hand.ledger(), step, broken)
        break


def spend_in_vain(action: act.Action, hand: Hand, random: Random) -> None:
    """Let a part of the content have gone over the wire before it broke."""
    part = random.randrange(action.descriptor.size + 1)
    if isinstance(action, act.Upload | act.PutManifest):
        action.account.sent += part if hand.transfer.destination.remote else 0
    if isinstance(action, act.Upload | act.Download | act.FetchManifest):
        action.account.received += part if hand.transfer.source.remote else 0


def require_partial(ledger: Ledger, step: Move, broken: act.Action) -> None:
    """What is listed is listed in order, and is as it would have been in the end, or failed."""
    assert violations(ledger) == []
    assert isinstance(ledger.error, NetworkError)
    rest = iter(step.expected)
    for row in rows_of(ledger):
        expected = next(each for each in rest if (each.digest, each.role) == (row.digest, row.role))
        if row.outcome == "failed":
            assert row.evidence in ("error", "blocked", "cancelled")
            assert row.evidence != "error" or row.digest == broken.descriptor.digest
        else:
            assert (row.outcome, row.evidence, row.mounted_from) == (
                expected.outcome,
                expected.evidence,
                expected.mounted_from,
            )


# Failures on the wire.


@pytest.mark.long
@given(story=stories(), jobs=st.integers(1, 6), random=RANDOMS)
@enough(60)
def test_accounts_agree_whatever_is_lost_or_spoilt_at_the_source(
    story: Story, jobs: int, random: Random
) -> None:
    asyncio.run(live_through_losses(story, jobs, random))


async def live_through_losses(story: Story, jobs: int, random: Random) -> None:
    async with (
        MockRegistry() as mock,
        Transport("127.0.0.1:5000", Connection(transport=mock.transport())) as transport,
    ):
        wire = await Wire.begin(story, mock, transport, jobs)
        for step in story.steps:
            for raw in random.sample(BLOBS, random.randrange(3)):
                await lose_or_spoil(wire, step, raw, random)
            try:
                if isinstance(step, Delete):
                    await wire.delete(step)
                else:
                    await wire.move(step)
            except NotFoundError:
                assert isinstance(step, Delete)
        differences = [line for ledger in wire.ledgers for line in violations(ledger)]
        assert differences == []
        found = reconcile(wire.ledgers, mock.journal, beside=wire.beside)
        assert (found.differences, found.matched) == ((), True)


async def lose_or_spoil(wire: Wire, step: Move | Delete, raw: bytes, random: Random) -> None:
    digest = digest_of(raw)
    place = step.source if isinstance(step, Move) else step.repository
    if is_registry(place):
        held = wire.mock.state.repositories.get(place)
        if held is not None and digest in held.blobs:
            await wire.mock.state.unlink_blob(place, digest)
    elif random.random() < 0.5:
        wire.builder.blobs.pop(Digest(digest), None)
    else:
        wire.builder.blobs[Digest(digest)] = random.choice((raw[:-1], raw + b"!", raw[:-1] + b"!"))
