"""What naive clients get wrong; numbers as in the table of `regsim/registry/README.md`.

Each transfer's ledger is held to its laws, and against the registry's journal (`Shop.run`).
"""

from __future__ import annotations

import asyncio

import httpx
import pytest
import respx

from regsim.core import Descriptor, media_types
from regsim.core.account import Account
from regsim.core.actions import Mount
from regsim.core.manifest import MAX_MANIFEST_SIZE
from regsim.errors import ContentError, NetworkError, RegistryError
from regsim.registry import Connection
from regsim.registry.repository import Registry
from regsim.registry.requests import Habits
from regsim.registry.retry import Patience, Policy
from regsim.registry.session import MAX_PIECE
from regsim.registry.transport import Transport
from regsim.store.memory import BytesContent
from regsim.store.node import MemoryStore
from regsim.store.relay import hand_all
from regsim.transfer.copy import Transfer
from regsim.transfer.ends import LocalDestination, LocalSource, RegistryDestination
from tests.transfer.shop import CONFIG, IS_LARGE, LARGE, MIB, SMALL, entry_of, image, reasons, shop

pytestmark = pytest.mark.anyio

HOST = "http://127.0.0.1:5000"
LAYER = Descriptor.of(SMALL, media_types.OCI_LAYER_GZIP)
UPLOADS = f"{HOST}/v2/shop/api/blobs/uploads/"


def target(request: httpx.Request) -> str:
    sent: bytes = request.extensions["target"]
    return sent.decode()


@pytest.fixture
def router() -> respx.MockRouter:
    """A registry that respx plays."""
    return respx.MockRouter(assert_all_called=False)


@pytest.fixture
def registry(router: respx.MockRouter, habits: Habits) -> Registry:
    network = httpx.MockTransport(router.async_handler)
    return Registry(Transport(HOST, Connection(transport=network)), habits=habits)


@pytest.fixture
def habits() -> Habits:
    """What the client knows of the registry."""
    return Habits()


async def upload(registry: Registry, raw: bytes = SMALL) -> Account:
    account, descriptor = Account(), Descriptor.of(raw, media_types.OCI_LAYER_GZIP)
    await registry.repository("shop/api").upload(BytesContent(descriptor, raw), account)
    return account


# Where an upload goes on.


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/v2/shop/api/u?s=1", "/v2/shop/api/u"),
        ("u?s=1", "/v2/shop/api/blobs/uploads/u"),
        (f"{HOST}/u?s=1", "/u"),
        ("//127.0.0.1:5000/u?s=1", "/u"),
        ("127.0.0.1:5000/u?s=1", "/u"),
    ],
)
async def test_edge_01_a_location_of_any_form_is_gone_to(
    location: str, path: str, router: respx.MockRouter, registry: Registry
) -> None:
    router.post(UPLOADS).respond(202, headers={"Location": location})
    put = router.put(url__startswith=HOST).respond(201)
    await upload(registry)
    assert target(put.calls.last.request) == f"{path}?s=1&digest={LAYER.digest}"


async def test_edge_02_the_query_of_a_location_is_kept_byte_for_byte(
    router: respx.MockRouter, registry: Registry
) -> None:
    state = "_state=a%2Fb%3d%3D&x=1+2&x=&y&z=~%7e"
    router.post(UPLOADS).respond(202, headers={"Location": f"/u?{state}"})
    put = router.put(url__startswith=HOST).respond(201)
    await upload(registry)
    assert target(put.calls.last.request) == f"/u?{state}&digest={LAYER.digest}"


async def test_edge_03_each_piece_goes_to_where_the_one_before_it_said() -> None:
    # This registry refuses a location that is not its newest one.
    async with shop(habits=Habits(largest=MIB), profile="distribution-2.8") as there:
        store = await image(LARGE)
        ledger = await there.push(store)
        assert (ledger.error, reasons(ledger)) == (None, [])
        assert there.asked("PATCH", "upload") == [202] * 4
        assert await there.holds(store)


async def test_edge_04_an_upload_that_leads_from_tls_to_plain_http_is_refused(
    router: respx.MockRouter,
) -> None:
    router.post(url__startswith="https://registry.example/").respond(
        202, headers={"Location": "http://storage.example/u"}
    )
    network = httpx.MockTransport(router.async_handler)
    with pytest.raises(RegistryError, match="points to plain HTTP"):
        await upload(Registry(Transport("registry.example", Connection(transport=network))))


async def test_edge_05_a_port_that_is_spelled_out_stays_so(router: respx.MockRouter) -> None:
    location = "https://registry.example:443/u?s=1"
    router.post(url__startswith="https://registry.example").respond(202, headers={"Location": location})
    put = router.put(url__startswith="https://registry.example").respond(201)
    await upload(
        Registry(
            Transport("registry.example", Connection(transport=httpx.MockTransport(router.async_handler)))
        )
    )
    assert put.calls.last.request.headers["Host"] == "registry.example:443"


# What is there.


async def test_edge_07_a_signed_url_that_is_good_for_get_alone_is_asked_with_get() -> None:
    async with shop("blob redirect 307 head_status=403") as there:
        first = await image(LARGE)
        await there.push(first)
        ledger = await there.push(await image(LARGE, SMALL, config=b"{}"))
        assert (ledger.error, entry_of(ledger, LARGE).outcome) == (None, "exists")


async def test_edge_20_only_a_404_means_absent() -> None:
    for status in (401, 403, 500, 502):
        async with shop() as there:
            store = await image(LARGE)
            await there.push(store)
            there.forget()
            for method in ("HEAD", "GET"):
                there.mock.faults.add(f"{method} blob status {status}")
            ledger = await there.push(await image(LARGE, SMALL, config=b"{}"))
            assert isinstance(ledger.error, RegistryError)
            assert (ledger.error.status, ledger.summary.wire_sent) == (status, 0)


async def test_edge_21_a_403_for_a_manifest_before_a_push_is_taken_as_absent_and_told() -> None:
    async with shop("HEAD,GET manifest answered=404 status 403 form=empty") as there:
        store = await image(SMALL)
        ledger = await there.push(store)
        assert ledger.error is None
        assert any("taken as absent" in warning for warning in there.warnings)
        assert await there.holds(store)


async def test_edge_22_a_repository_that_does_not_exist_yet_is_pushed_to() -> None:
    async with shop() as there:
        unknown = await there.pull(repository="no/where")
        assert isinstance(unknown.error, RegistryError)
        assert (await there.push(await image(SMALL), "no/where")).error is None


async def test_edge_23_a_registry_without_head_is_asked_with_get() -> None:
    async with shop("HEAD lie absent status=405") as there:
        store = await image(SMALL)
        await there.push(store)
        ledger = await there.push(store)
        assert {str(entry.outcome) for entry in ledger.entries} == {"exists"}


async def test_edge_24_a_head_without_a_length_says_that_a_blob_is_there() -> None:
    async with shop("HEAD blob lie length=missing") as there:
        await there.push(await image(LARGE))
        ledger = await there.push(await image(LARGE, SMALL, config=b"{}"))
        assert (entry_of(ledger, LARGE).outcome, entry_of(ledger, LARGE).requests) == ("exists", 1)


async def test_edge_25_a_head_that_lied_is_found_out_and_made_good_once() -> None:
    async with shop("HEAD blob lie exists") as there:
        store = await image(LARGE, SMALL)
        ledger = await there.push(store)
        assert (ledger.error, {str(entry.outcome) for entry in ledger.entries}) == (None, {"transferred"})
        assert there.asked("PUT", "manifest") == [400, 201]
        assert await there.holds(store)


async def test_edge_25_a_registry_that_always_lies_is_one_clear_error() -> None:
    async with shop("PUT manifest status 400 error=MANIFEST_BLOB_UNKNOWN") as there:
        ledger = await there.push(await image(LARGE))
        assert isinstance(ledger.error, RegistryError)
        assert ledger.error.codes == ("MANIFEST_BLOB_UNKNOWN",)
        assert len(there.asked("PUT", "upload")) == 2


async def test_edge_39_a_wrong_digest_of_a_tag_is_not_believed_before_a_push() -> None:
    async with shop("HEAD manifest lie digest=wrong") as there:
        store = await image(SMALL)
        await there.push(store)
        ledger = await there.push(store)
        assert (ledger.error, ledger.entries[0].outcome) == (None, "transferred")
        # By its own digest it is found all the same, and what it names is not asked for.
        assert {str(entry.evidence) for entry in ledger.entries[1:]} == {"manifest"}


# Mounts.


async def test_edge_08_a_session_that_a_mount_opened_is_used_or_given_up() -> None:
    async with shop(mount=False) as there:
        store = await image(LARGE)
        for repository in ("library/one", "library/two"):
            await there.push(store, repository)
        there.forget()
        ledger = await there.push(store, "shop/api", "library/one", "library/two")
        assert (ledger.error, entry_of(ledger, LARGE).evidence) == (None, "mount-refused")
        # Two candidates for the layer, one for the small config: a session each, and none beside them.
        assert there.asked("POST", "uploads") == [202] * 3
        assert there.asked("DELETE", "upload") == [204]
        assert there.mock.state.sessions == {}


@pytest.mark.parametrize("error", [httpx.ConnectError("gone"), asyncio.CancelledError()])
async def test_edge_08_also_where_the_next_mount_gets_no_answer(
    error: BaseException, router: respx.MockRouter
) -> None:
    transport = Transport(HOST, Connection(transport=httpx.MockTransport(router.async_handler)))
    patient = Registry(transport, patience=Patience(Policy(retries=0)))
    destination = RegistryDestination(patient.repository("shop/api", writes=True))
    router.head(url__startswith=HOST).respond(200)

    def answer(request: httpx.Request) -> httpx.Response:
        if "library/two" in target(request):
            raise error
        return httpx.Response(202, headers={"Location": "/u"})

    router.post(url__startswith=UPLOADS).mock(side_effect=answer)
    delete = router.delete(f"{HOST}/u").respond(204)
    first = await destination.mount(Mount(descriptor=LAYER, account=Account(), repository="library/one"))
    second = Mount(descriptor=LAYER, account=Account(), repository="library/two", session=first.session)
    with pytest.raises((NetworkError, asyncio.CancelledError)):
        await destination.mount(second)
    assert delete.call_count == 1


async def test_edge_08_also_where_the_push_fails_before_it_is_used() -> None:
    async with shop("PUT upload status 403", mount=False) as there:
        for rule in tuple(there.mock.faults):
            rule.remove()
        store = await image(LARGE, SMALL, LARGE[::-1])
        await there.push(store, "library/base")
        there.forget()
        there.mock.faults.add("PUT upload status 403")
        ledger = await there.push(store, "shop/api", "library/base")
        assert isinstance(ledger.error, RegistryError)
        assert there.mock.state.sessions == {}


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_edge_09_a_mount_that_is_refused_is_an_upload(status: int) -> None:
    async with shop(f"POST uploads query=mount status {status}") as there:
        store = await image(LARGE)
        await there.push(store, "library/base")
        ledger = await there.push(store, "shop/api", "library/base")
        assert (ledger.error, entry_of(ledger, LARGE).evidence) == (None, "mount-refused")


async def test_edge_10_and_11_a_mount_names_its_source_and_no_other_registry() -> None:
    async with shop(profile="quay") as there:
        store = await image(LARGE)
        await there.push(store, "library/base")
        ledger = await there.push(store, "shop/api", "library/base")
        assert (ledger.error, entry_of(ledger, LARGE).outcome) == (None, "mounted")
        posts = [record.target for record in there.mock.journal.records(method="POST", route="uploads")]
        mounts = [each for each in posts if "mount=" in each]
        assert mounts
        assert all("&from=library/base" in each and "origin" not in each for each in mounts)


# Uploads.


async def test_edge_26_a_commit_whose_answer_was_lost_is_not_made_twice() -> None:
    async with shop("PUT upload when=after reset") as there:
        store = await image(LARGE)
        ledger = await there.push(store)
        assert (ledger.error, ledger.summary.wasted) == (None, 0)
        assert len(there.asked("PUT", "upload")) == 2
        # It is looked for at once: who waits first lets a registry forget.
        assert there.sleeps == []
        assert await there.holds(store)


async def test_edge_27_a_range_of_0_0_is_no_byte() -> None:
    async with shop("PUT upload times=1 status 503", "upload_range empty=0-0") as there:
        store = await image(LARGE)
        ledger = await there.push(store)
        assert (ledger.error, {400, 416} & set(there.asked("PUT", "upload"))) == (None, set())
        assert await there.holds(store)


async def test_edge_27_a_range_with_a_unit_is_understood(
    router: respx.MockRouter, registry: Registry
) -> None:
    router.post(UPLOADS).respond(202, headers={"Location": "/u"})
    router.head(url__startswith=HOST).respond(404)
    router.get(f"{HOST}/u").respond(204, headers={"Location": "/u", "Range": "bytes=0-99"})
    put = router.put(url__startswith=f"{HOST}/u")
    put.side_effect = [httpx.ReadError("reset"), httpx.Response(201)]
    await upload(registry)
    assert put.calls.last.request.content == SMALL[100:]


async def test_edge_28_a_piece_that_is_kept_in_part_is_sent_on_from_there() -> None:
    async with shop("PATCH upload short_accept 700000", habits=Habits(largest=MIB)) as there:
        store = await image(LARGE)
        ledger = await there.push(store)
        assert (ledger.error, entry_of(ledger, LARGE).attempts) == (None, 1)
        assert set(reasons(ledger)) == {"short-acceptance"}
        assert await there.holds(store)


async def test_edge_28_a_range_that_tells_the_piece_alone_is_understood(
    router: respx.MockRouter, registry: Registry, habits: Habits
) -> None:
    habits.largest = 1000
    ends = iter([999, 1999, 2999])
    router.post(UPLOADS).respond(202, headers={"Location": "/u"})
    router.patch(f"{HOST}/u").mock(
        side_effect=lambda _: httpx.Response(202, headers={"Range": f"{(end := next(ends)) - 999}-{end}"})
    )
    router.put(url__startswith=f"{HOST}/u").respond(201)
    assert (await upload(registry)).retries == []


async def test_edge_29_a_piece_at_the_wrong_place_is_followed_by_one_at_the_right_one(
    router: respx.MockRouter, registry: Registry, habits: Habits
) -> None:
    habits.largest = 1000
    answers = [
        httpx.Response(202, headers={"Range": "0-999"}),
        httpx.Response(416, headers={"Range": "0-499", "Location": "/u"}),
        httpx.Response(202, headers={"Range": "0-1499"}),
        httpx.Response(202, headers={"Range": "0-2499"}),
    ]
    router.post(UPLOADS).respond(202, headers={"Location": "/u"})
    router.head(url__startswith=HOST).respond(404)
    patch = router.patch(f"{HOST}/u").mock(side_effect=answers)
    router.get(f"{HOST}/u").respond(204, headers={"Range": "0-499", "Location": "/u"})
    put = router.put(url__startswith=f"{HOST}/u").respond(201)
    account = await upload(registry)
    assert [call.request.headers["Content-Range"] for call in patch.calls] == [
        "0-999",
        "1000-1999",
        "500-1499",
        "1500-2499",
    ]
    assert put.calls.last.request.content == SMALL[2500:]
    assert sum(retry.wasted for retry in account.retries) == account.sent - len(SMALL)


async def test_edge_30_pieces_are_as_large_as_the_registry_asks() -> None:
    async with shop(
        "PUT upload body_limit 4MiB", min_chunk_length=2 * MIB, habits=Habits(largest=MIB)
    ) as there:
        store = await image(LARGE)
        ledger = await there.push(store)
        assert (ledger.error, reasons(ledger)) == (None, [])
        pieces = [record.bytes_in for record in there.mock.journal.records(method="PATCH")]
        assert pieces == [2 * MIB, 2 * MIB]
        assert await there.holds(store)


async def test_edge_30_but_not_larger_than_any_piece_is(
    router: respx.MockRouter, registry: Registry, habits: Habits
) -> None:
    habits.largest = 1000
    headers = {"Location": "/u", "OCI-Chunk-Min-Length": "9" * 18}
    router.post(UPLOADS).respond(202, headers=headers)
    session = await registry.repository("shop/api").mount(LAYER.digest, "library/base", Account())
    assert session is not None
    assert getattr(session, "smallest", None) == MAX_PIECE


@pytest.mark.parametrize("profile", ["ecr", "ggcr", "acr", "ghcr", "gitlab"])
async def test_edge_31_pieces_and_commits_may_be_answered_as_ecr_and_others_do(profile: str) -> None:
    async with shop(profile=profile, habits=Habits(largest=MIB)) as there:
        store = await image(LARGE)
        ledger = await there.push(store)
        assert (ledger.error, ledger.summary.wasted) == (None, 0)
        assert await there.holds(store)


async def test_edge_32_every_body_tells_its_length(
    router: respx.MockRouter, registry: Registry, habits: Habits
) -> None:
    habits.largest = 1000
    post = router.post(UPLOADS).respond(202, headers={"Location": "/u"})
    patch = router.patch(f"{HOST}/u").respond(202)
    put = router.put(url__startswith=f"{HOST}/u").respond(201)
    await upload(registry)
    requests = [call.request for route in (post, patch, put) for call in route.calls]
    assert [request.headers["Content-Length"] for request in requests] == ["0", "1000", "1000", "1000"]
    assert all("Transfer-Encoding" not in request.headers for request in requests)


# Downloads.


async def test_edge_33_a_range_that_is_ignored_costs_what_is_held_and_no_more() -> None:
    async with shop(f"GET blob {IS_LARGE} times=1 cut 1500000", "GET blob ranges ignore") as there:
        store, pulled = await image(LARGE), MemoryStore()
        await there.push(store)
        there.forget()
        ledger = await there.pull(pulled)
        assert (ledger.error, ledger.summary.wasted, pulled.blobs) == (None, 1_500_000, store.blobs)
        assert reasons(ledger) == ["cut", "range-ignored"]
        assert [retry.wasted for retry in entry_of(ledger, LARGE).retries] == [0, 1_500_000]


async def test_edge_34_where_nothing_is_left_nothing_is_asked_for() -> None:
    async with shop("GET blob times=1 slow_close 0") as there:
        store = await image(LARGE)
        await there.push(store)
        repository = there.registry.repository("shop/api")
        descriptor = Descriptor.of(LARGE, media_types.OCI_LAYER_GZIP)
        account = Account()
        rest = bytearray()
        await hand_all(repository.blob(descriptor, account), [rest.extend], len(LARGE) - 1)
        assert rest == LARGE[-1:]
        assert account.received == 1


async def test_edge_36_bytes_are_taken_raw() -> None:
    async with shop("blob encode gzip") as there:
        store, pulled = await image(LARGE), MemoryStore()
        await there.push(store)
        ledger = await there.pull(pulled)
        assert (ledger.error, pulled.blobs) == (None, store.blobs)


async def test_edge_36_and_asked_for_so(router: respx.MockRouter, registry: Registry) -> None:
    get = router.get(url__startswith=HOST).respond(200, content=SMALL)
    content = registry.repository("shop/api").blob(LAYER, Account())
    assert b"".join([chunk async for chunk in content.open()]) == SMALL
    assert get.calls.last.request.headers["Accept-Encoding"] == "identity"


async def test_edge_37_a_layer_goes_as_it_is_and_is_found_again() -> None:
    async with shop() as there:
        store, pulled = await image(LARGE), MemoryStore()
        await there.push(store)
        await there.pull(pulled)
        ledger = await there.run(LocalSource(pulled), there.destination("shop/api"))
        assert {str(entry.outcome) for entry in ledger.entries} == {"exists"}


# Bounds, words, and who is no registry.


async def test_edge_44_a_manifest_without_end_is_refused_at_four_mebibytes(
    router: respx.MockRouter, registry: Registry
) -> None:
    raw = b" " * (MAX_MANIFEST_SIZE + 1)
    router.get(url__startswith=HOST).respond(
        200, content=raw, headers={"Content-Type": media_types.OCI_MANIFEST}
    )
    with pytest.raises(ContentError, match="larger than"):
        await registry.repository("shop/api").fetch_manifest("latest", Account())


@pytest.mark.parametrize(("form", "seconds"), [("11", 11.0), ("86400", 30.0)])
async def test_edge_48_a_busy_registry_is_left_alone_as_long_as_it_says_within_reason(
    form: str, seconds: float
) -> None:
    async with shop(f"HEAD manifest nth=1 status 429 headers.retry-after={form}") as there:
        ledger = await there.push(await image(SMALL))
        assert (ledger.error, there.sleeps) == (None, [seconds])


async def test_edge_49_a_warning_is_passed_on_once() -> None:
    text = '299 - "this registry moves on Monday"'
    async with shop(f"headers add.warning='{text}'") as there:
        await there.push(await image(SMALL, LARGE))
        await there.pull()
        assert [each.partition(" says: ")[2] for each in there.warnings] == ["this registry moves on Monday"]


async def test_edge_50_a_web_server_that_says_200_to_all_takes_no_push(
    router: respx.MockRouter, registry: Registry
) -> None:
    router.route().respond(200, html="<h1>It works</h1>")
    destination = RegistryDestination(registry.repository("shop/api"))
    ledger = await Transfer(LocalSource(await image(SMALL)), "app", destination, tag="app").run()
    assert isinstance(ledger.error, ContentError | RegistryError)
    pull = LocalDestination(MemoryStore())
    assert (await Transfer(LocalSource(await image(SMALL)), "app", pull, tag="app").run()).error is None


@pytest.mark.parametrize("style", ["bare", "unquoted", "absolute", "opaque"])
async def test_edge_51_tags_come_page_by_page_however_pages_are_linked(style: str) -> None:
    async with shop(f"tags paging {style} size=1") as there:
        store = await image(SMALL)
        await there.push(store)
        root = await store.resolve("app")
        assert root is not None
        repository = there.registry.repository("shop/api", writes=True)
        await repository.put_manifest(store.blobs[root.digest], root.media_type, "b", Account())
        assert await repository.tags(Account()) == ("app", "b")


async def test_edge_51_no_tags_may_be_null() -> None:
    async with shop("tags paging null=yes") as there:
        store = await image(SMALL)
        repository = there.registry.repository("shop/api", writes=True)
        for content in (SMALL, CONFIG):
            descriptor = Descriptor.of(content, media_types.OCI_LAYER_GZIP)
            await repository.upload(store.content(descriptor), Account())
        assert await repository.tags(Account()) == ()
