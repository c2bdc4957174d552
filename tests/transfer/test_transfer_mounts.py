"""What a registry is spared: blobs that it has, blobs that it can link, manifests that are equal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import pytest
import respx

from mock_registry import MockRegistry, Record, Route
from mock_registry.exchange import Exchange, Refusal, Response
from mock_registry.spec import ErrorCode, Fault
from regsim.core import Descriptor, Digest
from regsim.core.actions import MountAnswer
from regsim.core.ledger import Entry, Evidence, Ledger, violations
from regsim.errors import RegistryError
from regsim.registry import Connection
from regsim.registry.repository import Registry, Repository
from regsim.registry.transport import Transport
from regsim.scenario.reconcile import reconcile
from regsim.store.node import MemoryStore, node_store
from regsim.transfer.copy import Options, Transfer
from regsim.transfer.ends import LocalDestination, LocalSource, RegistryDestination, RegistrySource

if TYPE_CHECKING:
    from mock_registry.faults.rules import Admitted

Stock = Callable[..., Awaitable[Descriptor]]

pytestmark = pytest.mark.anyio

BASE, TOP = b"base layer", b"top"
HOST = "http://127.0.0.1:5000"


@dataclass
class Shop:
    """A registry, a store with images, and the ledgers of all that was pushed."""

    mock: MockRegistry
    registry: Registry
    store: MemoryStore
    ledgers: list[Ledger]

    async def push(self, image: str, to: str, tag: str = "v1", *, mount_from: tuple[str, ...] = ()) -> Ledger:
        ledger = await push(self.registry, self.store, image, to, tag, mount_from=mount_from)
        self.ledgers.append(ledger)
        return ledger

    def require_agreement(self) -> None:
        found = reconcile(self.ledgers, self.mock.journal)
        assert (found.differences, found.matched) == ((), True)


async def push(
    registry: Registry, store: MemoryStore, image: str, to: str, tag: str, *, mount_from: tuple[str, ...] = ()
) -> Ledger:
    ledger = await Transfer(
        LocalSource(store),
        image,
        RegistryDestination(registry.repository(to)),
        tag=tag,
        options=Options(candidates=lambda _: mount_from),
    ).run()
    assert ledger.error is None
    assert violations(ledger) == []
    return ledger


OpenShop = Callable[..., Awaitable[Shop]]


@pytest.fixture(params=["in process", "on a port"])
async def open_shop(request: pytest.FixtureRequest, stock: Stock) -> AsyncIterator[OpenShop]:
    """Return what opens a shop: `old` and `new` are two images on one base."""
    async with AsyncExitStack() as stack:

        async def opened(mock: MockRegistry | None = None) -> Shop:
            mock = mock or MockRegistry()
            if request.param == "in process":
                await stack.enter_async_context(mock)
                transport = Transport(HOST, Connection(transport=mock.transport()))
            else:
                server = await stack.enter_async_context(mock.serve())
                transport = Transport(server.url)
            await stack.enter_async_context(transport)
            store = MemoryStore()
            await stock(store, "old", BASE, config=b'{"old": 1}')
            await stock(store, "new", BASE, TOP, config=b'{"new": 1}')
            return Shop(mock, Registry(transport), store, [])

        yield opened


class Refusing(MockRegistry):
    """A registry that refuses mounts outright, as some do where the source may not be read."""

    async def _respond(self, exchange: Exchange, admitted: Admitted | None = None) -> Response:
        if exchange.parameter("mount") is None:
            return await super()._respond(exchange, admitted)
        exchange.digest = exchange.parameter("mount")
        return Refusal(403, Fault(ErrorCode.DENIED, "not from there")).response()


def entry_of(ledger: Ledger, raw: bytes) -> Entry:
    return next(entry for entry in ledger.entries if entry.digest == Digest.of(raw))


def about(mock: MockRegistry, repository: str, raw: bytes) -> list[Record]:
    """Return what was asked about a blob of a repository, sessions included, in order of arrival."""
    digest, journal = Digest.of(raw), mock.journal
    records = [
        record
        for record in journal.records(repository=repository)
        if digest in (record.digest, journal.session_digest(record.session))
    ]
    return sorted(records, key=lambda record: record.number)


def told(records: list[Record]) -> list[tuple[str, str, int | None, int]]:
    return [(record.method, record.route, record.status, record.bytes_in) for record in records]


# Mounts, at the mock.


async def test_mount_that_is_granted_counts_as_mounted_and_sends_nothing(open_shop: OpenShop) -> None:
    shop = await open_shop()
    await shop.push("old", "library/base")
    ledger = await shop.push("new", "shop/api", mount_from=("library/base",))
    base = entry_of(ledger, BASE)
    assert (base.outcome, base.evidence, base.mounted_from) == ("mounted", "201", "library/base")
    assert (base.wire_sent, base.requests) == (0, 3)
    assert told(about(shop.mock, "shop/api", BASE)) == [
        ("HEAD", "blob", 404, 0),
        ("POST", "uploads", 201, 0),
    ]
    shop.require_agreement()


async def test_mount_answered_with_a_session_goes_on_in_that_very_session(open_shop: OpenShop) -> None:
    shop = await open_shop(MockRegistry(mount=False))
    await shop.push("old", "library/base")
    ledger = await shop.push("new", "shop/api", mount_from=("library/base",))
    base = entry_of(ledger, BASE)
    assert (base.outcome, base.evidence, base.mounted_from) == ("transferred", "mount-refused", None)
    assert (base.wire_sent, base.requests) == (len(BASE), 4)
    records = about(shop.mock, "shop/api", BASE)
    assert told(records) == [
        ("HEAD", "blob", 404, 0),
        ("POST", "uploads", 202, 0),
        ("PUT", "upload", 201, len(BASE)),
    ]
    assert records[1].session == records[2].session
    assert shop.mock.state.sessions == {}
    shop.require_agreement()


async def test_mount_that_is_refused_falls_back_to_a_plain_upload(open_shop: OpenShop) -> None:
    shop = await open_shop(Refusing())
    await shop.push("old", "library/base")
    ledger = await shop.push("new", "shop/api", mount_from=("library/base",))
    base = entry_of(ledger, BASE)
    assert (base.outcome, base.evidence, base.mounted_from) == ("transferred", "mount-refused", None)
    assert (base.wire_sent, base.requests) == (len(BASE), 5)
    assert base.overhead > 0
    records = about(shop.mock, "shop/api", BASE)
    assert told(records) == [
        ("HEAD", "blob", 404, 0),
        ("POST", "uploads", 403, 0),
        ("POST", "uploads", 202, 0),
        ("PUT", "upload", 201, len(BASE)),
    ]
    shop.require_agreement()


@pytest.mark.parametrize("stale", ["library/base", "library/gone"])
async def test_stale_candidate_is_harmless(open_shop: OpenShop, stale: str) -> None:
    shop = await open_shop()
    await shop.push("old", "library/base")
    ledger = await shop.push("new", "shop/api", mount_from=(stale, "library/base"))
    top = entry_of(ledger, TOP)
    assert (top.outcome, top.evidence, top.wire_sent) == ("transferred", "upload", len(TOP))
    assert [record.method for record in about(shop.mock, stale, TOP)] == ["HEAD"]
    shop.require_agreement()


async def test_copy_mounts_what_it_can_and_reads_only_manifests(open_shop: OpenShop) -> None:
    shop = await open_shop()
    await shop.push("new", "shop/api")
    source = RegistrySource(shop.registry.repository("shop/api"))
    ledger = await Transfer(
        source,
        "v1",
        RegistryDestination(shop.registry.repository("shop/web")),
        tag="v1",
        options=Options(candidates=lambda _: ("shop/api",)),
    ).run()
    shop.ledgers.append(ledger)
    root, *blobs = ledger.entries
    assert {entry.outcome for entry in blobs} == {"mounted"}
    assert ledger.summary.wire_sent == ledger.summary.wire_received == root.size
    shop.require_agreement()


# Mounts, at a registry that respx plays.


@pytest.fixture
def router() -> respx.MockRouter:
    """A registry that holds nothing yet and takes every manifest."""
    router = respx.MockRouter(assert_all_called=False)
    router.get(f"{HOST}/v2/").respond(200)
    router.head(url__startswith=f"{HOST}/v2/shop/api/").respond(404)
    router.head(url__startswith=f"{HOST}/v2/library/base/").respond(200)
    router.put(url__startswith=f"{HOST}/v2/shop/api/manifests/").respond(201)
    return router


def uploads(number: int) -> str:
    return f"{HOST}/v2/shop/api/blobs/uploads/{number}?state=a%2Fb"


@pytest.mark.parametrize(
    ("answers", "outcome", "sessions"),
    [
        ([httpx.Response(201)], ("mounted", "201", "library/base"), []),
        (
            [httpx.Response(202, headers={"Location": uploads(1)})],
            ("transferred", "mount-refused", None),
            [1],
        ),
        *(
            (
                [httpx.Response(status), httpx.Response(202, headers={"Location": uploads(2)})],
                ("transferred", "mount-refused", None),
                [2],
            )
            for status in (400, 401, 403, 404, 405)
        ),
    ],
    ids=["201", "202", "400", "401", "403", "404", "405"],
)
async def test_every_answer_to_a_mount_leads_to_the_blob_being_there(
    router: respx.MockRouter,
    stock: Stock,
    answers: list[httpx.Response],
    outcome: tuple[str, str, str | None],
    sessions: list[int],
) -> None:
    store = MemoryStore()
    await stock(store, "app", config=BASE)
    posts = router.post(url__startswith=f"{HOST}/v2/shop/api/blobs/uploads/").mock(side_effect=answers)
    puts = router.put(url__startswith=f"{HOST}/v2/shop/api/blobs/uploads/").respond(201)
    async with Transport(HOST, Connection(transport=httpx.MockTransport(router.async_handler))) as transport:
        ledger = await push(Registry(transport), store, "app", "shop/api", "v1", mount_from=("library/base",))
    entry = entry_of(ledger, BASE)
    assert (entry.outcome, entry.evidence, entry.mounted_from) == outcome
    assert entry.wire_sent == len(BASE) * len(sessions)
    assert posts.calls[0].request.url.params["mount"] == Digest.of(BASE)
    assert posts.calls[0].request.url.params["from"] == "library/base"
    assert posts.call_count == len(answers)
    used = [call.request.url.path.rpartition("/")[2] for call in puts.calls]
    assert used == [str(number) for number in sessions]


# Existence first.


async def test_every_blob_is_asked_for_before_anything_else_is_done_about_it(open_shop: OpenShop) -> None:
    shop = await open_shop()
    await shop.push("old", "library/base")
    await shop.push("new", "shop/api", mount_from=("library/base",))
    for repository, blobs in (("library/base", (BASE, b'{"old": 1}')), ("shop/api", (BASE, TOP))):
        for raw in blobs:
            first, *rest = about(shop.mock, repository, raw)
            assert (first.method, first.route) == ("HEAD", Route.BLOB)
            # Once more at most: before it is mounted from there.
            again = [record for record in rest if record.method == "HEAD"]
            assert len(again) == (repository == "library/base" and raw == BASE)
            assert len(rest) > len(again)


async def test_existing_and_mounted_blobs_send_no_body(open_shop: OpenShop) -> None:
    shop = await open_shop()
    await shop.push("old", "shop/api")
    await shop.push("old", "library/base")
    shop.mock.journal.clear()
    existing = await shop.push("new", "shop/api", tag="v2")
    mounted = await shop.push("new", "shop/web", mount_from=("library/base",))
    assert entry_of(existing, BASE).evidence == "head"
    assert entry_of(mounted, BASE).evidence == "201"
    for repository in ("shop/api", "shop/web"):
        records = about(shop.mock, repository, BASE)
        assert records
        assert [record.bytes_in for record in records if record.bytes_in] == []


# Equal manifests.


async def test_pushing_the_same_again_costs_one_question(open_shop: OpenShop) -> None:
    shop = await open_shop()
    await shop.push("new", "shop/api")
    shop.mock.journal.clear()
    ledger = await shop.push("new", "shop/api")
    assert [(record.method, record.target) for record in shop.mock.journal] == [
        ("HEAD", "/v2/shop/api/manifests/v1")
    ]
    assert [(entry.role, entry.outcome, entry.evidence) for entry in ledger.entries] == [
        ("manifest", "exists", "head"),
        ("config", "exists", "manifest"),
        ("layer", "exists", "manifest"),
        ("layer", "exists", "manifest"),
    ]
    assert ledger.summary.requests == 1
    assert ledger.summary.saved == ledger.summary.referenced


async def test_new_tag_on_the_same_costs_two_questions_and_the_manifest(open_shop: OpenShop) -> None:
    shop = await open_shop()
    await shop.push("new", "shop/api")
    shop.mock.journal.clear()
    ledger = await shop.push("new", "shop/api", tag="v2")
    root, *rest = ledger.entries
    assert [(record.method, record.reference) for record in shop.mock.journal] == [
        ("HEAD", "v2"),
        ("HEAD", root.digest),
        ("PUT", "v2"),
    ]
    assert (root.outcome, root.evidence, root.wire_sent) == ("transferred", "upload", root.size)
    assert {(entry.outcome, entry.evidence) for entry in rest} == {("exists", "manifest")}


async def test_tag_that_moves_on_to_another_image_is_reconciled(open_shop: OpenShop) -> None:
    shop = await open_shop()
    await shop.push("old", "shop/api", tag="latest")
    ledger = await shop.push("new", "shop/api", tag="latest")
    assert ledger.entries[0].outcome == "transferred"
    shop.require_agreement()


async def test_pulling_the_same_again_costs_one_question(open_shop: OpenShop) -> None:
    shop = await open_shop()
    await shop.push("new", "shop/api")
    node = LocalDestination(node_store())
    source = RegistrySource(shop.registry.repository("shop/api"))
    first = await Transfer(source, "v1", node, tag="shop/api:v1").run()
    shop.mock.journal.clear()
    again = await Transfer(source, "v1", node, tag="shop/api:v1").run()
    assert first.summary.transferred == first.summary.referenced
    assert [(entry.outcome, entry.evidence) for entry in again.entries] == [
        ("exists", "local"),
        ("exists", "manifest"),
        ("exists", "manifest"),
        ("exists", "manifest"),
    ]
    assert [(record.method, record.reference) for record in shop.mock.journal] == [("HEAD", "v1")]


class Dead(RegistryDestination):
    """Opens a session for each mount, then refuses an upload, and takes its time to give the others up.

    Args:
        repository: answers all else.
        blobs: that there are.
    """

    def __init__(self, repository: Repository, blobs: int) -> None:
        super().__init__(repository)
        self._unopened = blobs
        self._opened = asyncio.Event()
        self._left = asyncio.Barrier(blobs - 1)

    async def is_held_by(self, *_: object) -> bool:
        return True

    async def mount(self, *_: object) -> MountAnswer:
        self._unopened -= 1
        if not self._unopened:
            self._opened.set()
        return MountAnswer(mounted=False, session=object())

    async def put(self, *_: object) -> Evidence | None:
        await self._opened.wait()
        # What was answered by then is taken note of first.
        for _turn in range(10):
            await asyncio.sleep(0)
        raise RegistryError("no more")

    async def abandon(self, *_: object) -> None:
        await self._left.wait()


async def test_sessions_that_are_left_are_given_up_all_at_once(registry: Registry, stock: Stock) -> None:
    store = MemoryStore()
    await stock(store, "app", *(b"layer %d" % number for number in range(5)))
    destination = Dead(registry.repository("shop/api"), blobs=6)
    options = Options(jobs=1, candidates=lambda _: ("library/base",))
    # One after the other they would take as many times as long as a registry may that says nothing.
    async with asyncio.timeout(20):
        ledger = await Transfer(LocalSource(store), "app", destination, tag="app", options=options).run()
    assert str(ledger.error) == "no more"
