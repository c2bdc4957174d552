"""Foreign layers (edge case 47): left where they are, or fetched from their URLs, on request and as nobody.

Each transfer's ledger is held to its laws, and against the registry's journal (`Shop.run`), which knows
nothing of what was fetched elsewhere.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest
import respx

from mock_registry import MockRegistry
from mock_registry.auth import BasicAuth
from regsim.client.client import Client
from regsim.core import Descriptor, media_types
from regsim.core.account import Account
from regsim.core.ledger import Outcome
from regsim.core.manifest import manifest_document
from regsim.errors import ContentError, NetworkError, RegistryError, RegsimError
from regsim.net.timeouts import Timeouts
from regsim.registry.foreign import MAX_URLS, ForeignHosts
from regsim.registry.login import Credentials, FixedKeychain
from regsim.registry.retry import Patience, Policy
from regsim.store.layout import LayoutStore
from regsim.store.memory import BytesContent, MemoryStore
from regsim.transfer.copy import Options, Transfer
from regsim.transfer.ends import LocalDestination, RegistrySource
from tests.transfer.shop import CONFIG, LARGE, SMALL, entry_of, reasons, shop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from regsim.store.protocols import Content
    from regsim.transfer.events import Event

pytestmark = pytest.mark.anyio

FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
ELSEWHERE = "https://layers.example"
URL = f"{ELSEWHERE}/windows.tar.gz?sig=S3CRET"
REGISTRY = "registry.example"


async def windows(*urls: str, held: bool = False) -> MemoryStore:
    """Return a store with an image whose base is a foreign layer, which the store may hold or not."""
    store = MemoryStore()
    base = replace(Descriptor.of(LARGE, FOREIGN), urls=urls or (URL,))
    parts = [(Descriptor.of(CONFIG, media_types.OCI_CONFIG), CONFIG)]
    parts.append((Descriptor.of(SMALL, media_types.OCI_LAYER_GZIP), SMALL))
    raw = manifest_document(parts[0][0], [base, parts[1][0]])
    root = Descriptor.of(raw, media_types.OCI_MANIFEST)
    for descriptor, data in (*parts, (root, raw), *([(base, LARGE)] if held else [])):
        await store.put(BytesContent(descriptor, data))
    await store.tag(root, "app")
    return store


@pytest.fixture
def world() -> respx.MockRouter:
    """The internet, as far as a test says that it is there."""
    return respx.MockRouter(assert_all_called=False)


@pytest.fixture
async def fetch(world: respx.MockRouter) -> AsyncIterator[Callable[..., Content]]:
    """Return what takes foreign layers out of that world, as a registry's image names them."""

    async def no_wait(_: float) -> None:
        pass

    hosts = ForeignHosts(
        patience=Patience(Policy(retries=2), sleep=no_wait),
        timeouts=Timeouts(read=5.0),
        transport=httpx.MockTransport(world.async_handler),
    )

    def content(descriptor: Descriptor, account: Account) -> Content:
        return hosts.content(descriptor, account, near=REGISTRY)

    yield content
    await hosts.aclose()


def served(request: httpx.Request) -> httpx.Response:
    """Give the layer, or the part of it that is asked for."""
    start = int(request.headers.get("Range", "bytes=0-")[6:-1])
    headers = {"Content-Range": f"bytes {start}-{len(LARGE) - 1}/{len(LARGE)}"} if start else {}
    return httpx.Response(206 if start else 200, content=LARGE[start:], headers=headers)


async def read(content: Content) -> bytes:
    return b"".join([chunk async for chunk in content.open()])


def descriptor(*urls: str) -> Descriptor:
    return replace(Descriptor.of(LARGE, FOREIGN), urls=urls)


async def test_edge_47_a_foreign_layer_stays_where_it_is_unless_it_is_asked_for() -> None:
    async with shop() as there:
        store, pulled = await windows(), MemoryStore()
        for ledger in (await there.push(store), await there.copy("shop/web"), await there.pull(pulled)):
            assert (ledger.error, entry_of(ledger, LARGE).outcome) == (None, "foreign")
            assert entry_of(ledger, LARGE).elsewhere is None
        assert pulled._blobs == store._blobs


async def test_edge_47_on_request_it_is_pulled_from_its_url_and_told_apart(
    world: respx.MockRouter, fetch: Callable[..., Content]
) -> None:
    get = world.get(URL).mock(side_effect=served)
    async with shop() as there:
        store, pulled = await windows(), MemoryStore()
        await there.push(store)
        there.foreign = fetch
        ledger = await there.pull(pulled)
        base = entry_of(ledger, LARGE)
        assert (ledger.error, base.outcome, base.evidence) == (None, "transferred", "url")
        assert pulled._blobs == {**store._blobs, base.digest: LARGE}
        assert base.elsewhere is not None
        assert base.elsewhere.to_json() == {
            "url": f"{ELSEWHERE}/windows.tar.gz",
            "requests": 1,
            "received": len(LARGE),
            "overhead": 0,
        }
        assert (base.wire_received, base.requests, ledger.summary.wasted) == (len(LARGE), 1, 0)
        assert there.asked("GET", "blob") == [200, 200]
        again = await there.pull(pulled)
        assert (entry_of(again, LARGE).outcome, get.call_count) == ("exists", 1)
    assert get.calls.last.request.extensions["target"] == b"/windows.tar.gz?sig=S3CRET"
    assert "S3CRET" not in str(ledger)


async def test_edge_47_on_request_a_copy_uploads_it_and_counts_both_sides(
    world: respx.MockRouter, fetch: Callable[..., Content]
) -> None:
    world.get(URL).mock(side_effect=served)
    async with shop() as there:
        store = await windows()
        await there.push(store)
        there.forget()
        there.foreign = fetch
        ledger = await there.copy("shop/web")
        base = entry_of(ledger, LARGE)
        assert (ledger.error, base.evidence) == (None, "url")
        assert (base.wire_received, base.wire_sent, base.wasted) == (len(LARGE), len(LARGE), 0)
        again = await there.copy("shop/web")
        assert entry_of(again, LARGE).outcome == "exists"
        mounted = await there.copy("shop/third", "shop/web")
        assert entry_of(mounted, LARGE).outcome == "mounted"


async def test_edge_47_what_was_said_on_the_way_is_counted_and_no_registry_has_to_know_of_it(
    world: respx.MockRouter, fetch: Callable[..., Content]
) -> None:
    world.get(URL).respond(302, headers={"Location": "https://cdn.example/x"}, content=b"see there")
    world.get("https://cdn.example/x").mock(side_effect=served)
    async with shop() as there:
        await there.push(await windows())
        there.foreign = fetch
        # Asked for, opened, sent and committed at the registry; and two requests elsewhere.
        base = entry_of(await there.copy("shop/web"), LARGE)
        assert (base.requests, base.attempts, base.retries) == (5, 2, ())
        assert base.elsewhere is not None
        assert (base.elsewhere.requests, base.elsewhere.overhead) == (2, len(b"see there"))
        assert base.overhead - base.elsewhere.overhead == 0


async def test_edge_47_whoever_watches_sees_its_octets_come(
    world: respx.MockRouter, fetch: Callable[..., Content]
) -> None:
    world.get(URL).mock(side_effect=served)
    seen: list[Event] = []
    async with shop() as there:
        await there.push(await windows())
        source = RegistrySource(there.registry.repository("shop/api"))
        options = Options(foreign=fetch, listener=seen.append)
        await Transfer(source, "app", LocalDestination(MemoryStore()), options=options).run()
    moves = [each for each in seen if each.step == "download" and each.descriptor.size == len(LARGE)]
    assert (moves[-1].moment, moves[-1].moved) == ("completed", len(LARGE))


async def test_edge_47_on_request_a_layout_pushes_what_it_holds(fetch: Callable[..., Content]) -> None:
    async with shop() as there:
        there.foreign = fetch
        ledger = await there.push(await windows(held=True))
        base = entry_of(ledger, LARGE)
        assert (ledger.error, base.outcome, base.evidence, base.elsewhere) == (
            None,
            "transferred",
            "upload",
            None,
        )
        lacking = await there.push(await windows(), "shop/other")
        assert isinstance(lacking.error, RegsimError)
        assert entry_of(lacking, LARGE).outcome == "failed"


async def test_edge_47_what_has_no_url_is_asked_of_the_registry(fetch: Callable[..., Content]) -> None:
    async with shop() as there:
        store, pulled = await windows(held=True), MemoryStore()
        root = await store.resolve("app")
        assert root is not None
        base = Descriptor.of(LARGE, FOREIGN)
        config = Descriptor.of(CONFIG, media_types.OCI_CONFIG)
        raw = manifest_document(config, [base])
        bare = Descriptor.of(raw, media_types.OCI_MANIFEST)
        await store.put(BytesContent(bare, raw))
        await store.tag(bare, "app")
        there.foreign = fetch
        await there.push(store)
        ledger = await there.pull(pulled)
        assert (entry_of(ledger, LARGE).evidence, pulled._blobs[base.digest]) == ("download", LARGE)


async def test_edge_47_a_download_that_breaks_goes_on_where_it_was_and_at_the_next_url(
    world: respx.MockRouter, fetch: Callable[..., Content]
) -> None:
    cut = 3_000_000

    def breaking(request: httpx.Request) -> httpx.Response:
        whole = served(request)
        return httpx.Response(whole.status_code, headers=whole.headers, content=_Cut(whole.content[:cut]))

    first, second = f"{ELSEWHERE}/first", "https://other.example/second"
    one = world.get(first).mock(side_effect=breaking)
    two = world.get(second).mock(side_effect=served)
    one.side_effect = [breaking(httpx.Request("GET", first)), *[httpx.Response(503)] * 3]
    async with shop() as there:
        store, pulled = await windows(first, second), MemoryStore()
        await there.push(store)
        there.foreign = fetch
        ledger = await there.pull(pulled)
    base = entry_of(ledger, LARGE)
    assert (ledger.error, pulled._blobs[base.digest] == LARGE, base.wasted) == (None, True, 0)
    assert two.calls.last.request.headers["Range"] == f"bytes={cut}-"
    assert reasons(ledger)[0] in ("reset", "cut")
    assert base.elsewhere is not None
    assert base.elsewhere.url == second
    assert base.elsewhere.overhead == 0


class _Cut(httpx.AsyncByteStream):
    """A body that breaks off."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._octets
        raise httpx.ReadError("reset")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (LARGE[:-1] + b"?", "sha256"),
        (LARGE + b"x", f"{len(LARGE) + 1} bytes there"),
    ],
)
async def test_edge_47_other_bytes_are_refused(
    body: bytes, words: str, world: respx.MockRouter, fetch: Callable[..., Content]
) -> None:
    world.get(URL).respond(200, content=body)
    async with shop() as there:
        pulled = MemoryStore()
        await there.push(await windows())
        there.foreign = fetch
        ledger = await there.pull(pulled)
        assert isinstance(ledger.error, ContentError)
        assert words in ledger.error.message
        base = entry_of(ledger, LARGE)
        assert (base.outcome, base.digest in pulled._blobs) == (Outcome.FAILED, False)


async def test_edge_47_what_has_no_end_is_not_read_to_it(
    world: respx.MockRouter, fetch: Callable[..., Content]
) -> None:
    sent = 0

    class Long(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            nonlocal sent
            while sent < 20 * len(LARGE):
                sent += 1_000_000
                yield bytes(1_000_000)

    world.get(URL).mock(return_value=httpx.Response(200, stream=Long()))
    with pytest.raises(ContentError, match="longer than"):
        await read(fetch(descriptor(URL), Account()))
    assert sent <= len(LARGE) + 3_000_000


async def test_edge_47_nobody_logs_in_there_whoever_asks_and_wherever_it_is(tmp_path: Path) -> None:
    """Not even at the registry itself, by a URL that leads back to it, nor where a redirect leads."""
    auth = BasicAuth({"ci": "P4SSW0RD"})
    async with MockRegistry(auth=auth) as mock, mock.serve() as server:
        host = server.url.partition("://")[2]
        keychain = FixedKeychain({host: Credentials(user="ci", password="P4SSW0RD")})
        back = f"{server.url}/v2/shop/api/blobs/{Descriptor.of(LARGE, FOREIGN).digest}"
        store = await windows(back, held=True)
        async with Client(keychain=keychain, remember=False) as client:
            layout = LayoutStore(tmp_path / "layout", create=True)
            root = await store.resolve("app")
            assert root is not None
            for digest, data in store._blobs.items():
                await layout.put(BytesContent(replace(root, digest=digest, size=len(data)), data))
            await layout.tag(root, "app")
            await client.push(f"oci:{tmp_path / 'layout'}:app", f"{host}/shop/api:app", foreign=True)
            before = len(mock.journal)
            with pytest.raises(RegistryError, match="UNAUTHORIZED"):
                await client.pull(f"{host}/shop/api:app", f"oci:{tmp_path / 'pulled'}", foreign=True)
        asked = [record for record in list(mock.journal)[before:] if back.endswith(record.target)]
        assert [(record.status, record.user) for record in asked] == [(401, None)]


async def test_edge_47_no_header_that_could_be_a_secret_goes_there_nor_where_it_leads(
    world: respx.MockRouter, fetch: Callable[..., Content]
) -> None:
    challenge = {"WWW-Authenticate": 'Bearer realm="https://auth.example/token"', "Set-Cookie": "a=b"}
    first = world.get(URL).respond(302, headers={"Location": "https://cdn.example/x?t=1", **challenge})
    then = world.get("https://cdn.example/x?t=1").respond(401, headers=challenge)
    realm = world.get(url__startswith="https://auth.example")
    account = Account()
    with pytest.raises(RegistryError, match="401"):
        await read(fetch(descriptor(URL), account))
    own = world.get("https://own.example/x").respond(401, headers=challenge)
    with pytest.raises(RegistryError, match="401"):
        await read(fetch(descriptor("https://own.example/x"), account))
    assert own.call_count == 1
    names = {name for route in (first, then, own) for call in route.calls for name in call.request.headers}
    assert names == {"host", "user-agent", "accept-encoding"}
    assert not realm.called
    assert (account.requests, account.received) == (0, 0)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://layers.example/x", "plain HTTP"),
        ("https://169.254.169.254/latest/meta-data", "inside a network"),
        ("https://127.0.0.1/x", "inside a network"),
        ("https://[::1]:8443/x", "inside a network"),
        ("https://2130706433/x", "inside a network"),
    ],
)
@pytest.mark.parametrize("led", [False, True])
async def test_edge_47_a_url_that_leads_astray_is_not_asked(
    url: str, words: str, led: bool, world: respx.MockRouter, fetch: Callable[..., Content]
) -> None:
    world.get(URL).respond(307, headers={"Location": url})
    anything = world.route(url__regex="x|meta")
    with pytest.raises(RegistryError) as refused:
        await read(fetch(descriptor(URL if led else url), Account()))
    assert words in refused.value.message
    assert not anything.called


async def test_edge_47_a_password_in_a_url_is_neither_sent_nor_shown(
    world: respx.MockRouter, fetch: Callable[..., Content]
) -> None:
    anything = world.route(url__regex="x").respond(200)
    with pytest.raises(RegistryError, match="with a user's name") as refused:
        await read(fetch(descriptor("https://user:P4SS@layers.example/x"), Account()))
    assert "P4SS" not in f"{refused.value.message}{refused.value.hint}"
    assert not anything.called


@pytest.mark.parametrize("url", ["ftp://layers.example/x", "layers.example/x", "file:///etc/passwd", ""])
async def test_edge_47_what_is_no_url_is_not_asked(url: str, fetch: Callable[..., Content]) -> None:
    with pytest.raises(RegistryError, match="not an http or https URL"):
        await read(fetch(descriptor(url), Account()))


async def test_edge_47_plain_http_is_spoken_where_it_was_allowed(world: respx.MockRouter) -> None:
    world.get("http://layers.example/x").mock(side_effect=served)
    hosts = ForeignHosts(plain_http=True, transport=httpx.MockTransport(world.async_handler))
    content = hosts.content(descriptor("http://layers.example/x"), Account(), near=REGISTRY)
    assert await read(content) == LARGE
    await hosts.aclose()


async def test_edge_47_a_registry_of_this_machine_may_lead_into_it(world: respx.MockRouter) -> None:
    world.get("http://127.0.0.1:9000/x").mock(side_effect=served)
    hosts = ForeignHosts(transport=httpx.MockTransport(world.async_handler))
    content = hosts.content(descriptor("http://127.0.0.1:9000/x"), Account(), near="127.0.0.1:5000")
    assert await read(content) == LARGE
    await hosts.aclose()


async def test_edge_47_only_so_many_urls_and_redirects_are_gone_through(
    world: respx.MockRouter, fetch: Callable[..., Content]
) -> None:
    urls = tuple(f"{ELSEWHERE}/{number}" for number in range(3 * MAX_URLS))
    missing = world.get(url__startswith=ELSEWHERE).respond(404)
    with pytest.raises(RegistryError, match=r"layers\.example/7"):
        await read(fetch(descriptor(*urls), Account()))
    assert missing.call_count == MAX_URLS
    circle = world.get("https://circle.example/").respond(302, headers={"Location": "/"})
    with pytest.raises(RegistryError, match="redirects"):
        await read(fetch(descriptor("https://circle.example/"), Account()))
    assert circle.call_count == 6


async def test_edge_47_a_host_that_cannot_be_reached_is_one_clear_error(
    world: respx.MockRouter, fetch: Callable[..., Content]
) -> None:
    world.get(URL).mock(side_effect=httpx.ConnectError("refused"))
    async with shop() as there:
        await there.push(await windows())
        there.foreign = fetch
        ledger = await there.pull()
        assert isinstance(ledger.error, NetworkError)
        assert "layers.example/windows.tar.gz" in ledger.error.message
        assert "S3CRET" not in str(ledger.error)
        base = entry_of(ledger, LARGE)
        assert (base.outcome, base.requests) == (Outcome.FAILED, 3)
