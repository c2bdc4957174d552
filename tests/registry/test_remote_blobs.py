from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regsim.core import Descriptor
from regsim.core.account import Account
from regsim.errors import ContentError, NetworkError, NotFoundError, RegistryError
from regsim.registry import Connection
from regsim.registry.repository import Registry, Repository
from regsim.registry.retry import Patience, Policy
from regsim.registry.transport import Transport

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    import respx


pytestmark = pytest.mark.anyio

DATA = bytes(range(256)) * 4
LAYER = Descriptor.of(DATA, "application/vnd.oci.image.layer.v1.tar")
SIZE = len(DATA)
EMPTY = Descriptor.of(b"", LAYER.media_type)
HOST = "http://127.0.0.1:5000"
BLOB = HOST + f"/v2/shop/api/blobs/{LAYER.digest}"


async def read(repository: Repository, account: Account, descriptor: Descriptor = LAYER) -> bytes:
    async with aclosing(repository.blob(descriptor, account).open()) as stream:
        return b"".join([chunk async for chunk in stream])


# Existence: end-2, HEAD.


@pytest.mark.parametrize("length", [{"Content-Length": str(len(DATA))}, {"Content-Length": "0"}, {}])
async def test_a_blob_is_there_whether_or_not_the_head_states_its_size(
    length: dict[str, str], registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.head(BLOB).mock(return_value=httpx.Response(200, headers=length))
    assert await repository.has_blob(LAYER, account)
    assert account == Account(requests=1)


async def test_only_a_404_means_that_a_blob_is_absent(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.head(BLOB).respond(404)
    assert not await repository.has_blob(LAYER, account)
    for status in (400, 401, 451, 501):
        registry.head(BLOB).respond(status)
        with pytest.raises(RegistryError, match=str(status)):
            await repository.has_blob(LAYER, account)


@pytest.mark.parametrize("refused", [403, 405])
async def test_a_refused_head_is_asked_again_for_one_byte(
    refused: int, registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.head(BLOB).respond(refused)
    whole = f"bytes 0-0/{len(DATA)}"
    get = registry.get(BLOB).respond(206, headers={"Content-Range": whole}, content=DATA[:1])
    assert await repository.has_blob(LAYER, account)
    assert get.calls.last.request.headers["Range"] == "bytes=0-0"
    assert account == Account(requests=2, received=1)
    registry.get(BLOB).respond(404)
    assert not await repository.has_blob(LAYER, account)
    registry.get(BLOB).respond(403, json={"errors": [{"code": "DENIED"}]})
    with pytest.raises(RegistryError, match="DENIED"):
        await repository.has_blob(LAYER, account)


async def test_an_empty_blob_has_no_first_byte_and_is_there_all_the_same(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    url = HOST + f"/v2/shop/api/blobs/{EMPTY.digest}"
    registry.head(url).respond(405)
    get = registry.get(url).respond(200)
    assert await repository.has_blob(EMPTY, account)
    assert "Range" not in get.calls.last.request.headers


async def test_a_head_that_states_another_size_is_overruled_by_a_get(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.head(BLOB).respond(200, headers={"Content-Length": "7"})
    get = registry.get(BLOB).respond(206, headers={"Content-Range": f"bytes 0-0/{len(DATA)}"}, content=b"x")
    assert await repository.has_blob(LAYER, account)
    get.respond(200, content=DATA)
    assert await repository.has_blob(LAYER, account)
    get.respond(206, headers={"Content-Range": "bytes 0-0/7"}, content=b"x")
    with pytest.raises(ContentError, match=f"has 7 bytes in the registry, {len(DATA)} by its descriptor"):
        await repository.has_blob(LAYER, account)


# Downloads: end-2, GET.


async def test_a_blob_is_read_as_it_is(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    # A content encoding that a proxy put on is not undone: the digest is that of the raw bytes.
    get = registry.get(BLOB).respond(200, content=DATA, headers={"Content-Encoding": "x-gzip"})
    assert await read(repository, account) == DATA
    assert get.calls.last.request.headers["Accept-Encoding"] == "identity"
    assert "Range" not in get.calls.last.request.headers
    assert account == Account(requests=1, attempts=1, received=len(DATA))


async def test_an_empty_blob_is_read_with_one_request(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.get(HOST + f"/v2/shop/api/blobs/{EMPTY.digest}").respond(200, content=b"")
    assert await read(repository, account, EMPTY) == b""
    assert account == Account(requests=1, attempts=1)


async def test_a_blob_that_is_missing_is_not_found(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.get(BLOB).respond(404, json={"errors": [{"code": "BLOB_UNKNOWN"}]})
    with pytest.raises(NotFoundError, match="BLOB_UNKNOWN"):
        await read(repository, account)
    assert account.received == 0
    assert account.overhead > 0


@pytest.mark.parametrize("extra", [{}, {"Content-Length": str(len(DATA) + 1)}])
async def test_a_blob_of_another_size_is_refused(
    extra: dict[str, str], registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    async def longer() -> AsyncIterator[bytes]:
        yield DATA
        yield b"x"

    registry.get(BLOB).mock(return_value=httpx.Response(200, headers=extra, content=longer()))
    with pytest.raises(ContentError):
        await read(repository, account)


async def test_a_busy_registry_is_asked_again_when_it_says(
    registry: respx.MockRouter, repository: Repository, account: Account, sleeps: list[float]
) -> None:
    registry.get(BLOB).side_effect = [
        httpx.Response(429, headers={"Retry-After": "5"}, text="slow"),
        httpx.Response(200, content=DATA),
    ]
    assert await read(repository, account) == DATA
    assert sleeps == [5.0]
    assert account == Account(requests=2, attempts=1, received=len(DATA), overhead=4)


def broken(data: bytes) -> httpx.Response:
    async def stream() -> AsyncIterator[bytes]:
        yield data
        raise httpx.ReadError("reset")

    return httpx.Response(200, headers={"Content-Length": str(len(DATA))}, content=stream())


def part(first: int, data: bytes, total: str = str(len(DATA))) -> httpx.Response:
    where = f"bytes {first}-{first + len(data) - 1}/{total}"
    return httpx.Response(206, headers={"Content-Range": where}, content=data)


@pytest.mark.parametrize("total", [str(len(DATA)), "*"])
async def test_a_cut_download_goes_on_at_the_byte_it_holds(
    total: str, registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    get = registry.get(BLOB)
    get.side_effect = [broken(DATA[:300]), part(300, DATA[300:], total)]
    assert await read(repository, account) == DATA
    assert get.calls.last.request.headers["Range"] == "bytes=300-"
    assert account == Account(requests=2, attempts=1, received=len(DATA))


async def test_a_registry_that_ignores_range_is_skipped_through(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.get(BLOB).side_effect = [broken(DATA[:300]), httpx.Response(200, content=DATA)]
    assert await read(repository, account) == DATA
    assert account == Account(requests=2, attempts=2, received=300 + len(DATA))


async def test_a_range_that_starts_too_early_is_skipped_through(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.get(BLOB).side_effect = [broken(DATA[:300]), part(256, DATA[256:])]
    assert await read(repository, account) == DATA
    assert account.received == 300 + len(DATA) - 256


async def test_a_range_that_is_shorter_than_asked_is_asked_on(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.get(BLOB).side_effect = [broken(DATA[:300]), part(300, DATA[300:500]), part(500, DATA[500:])]
    assert await read(repository, account) == DATA
    assert account == Account(requests=3, attempts=1, received=len(DATA))


@pytest.mark.parametrize(
    "answer",
    [
        part(301, DATA[301:]),
        httpx.Response(206, content=DATA[300:]),
        httpx.Response(206, headers={"Content-Type": "multipart/byteranges; boundary=x"}, content=b"--x"),
    ],
)
async def test_a_range_that_leaves_a_gap_or_does_not_say_is_not_asked_for_again(
    answer: httpx.Response, registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    whole = httpx.Response(200, content=DATA)
    get = registry.get(BLOB)
    get.side_effect = [broken(DATA[:300]), answer, broken(DATA[:400]), whole]
    assert await read(repository, account) == DATA
    assert ["Range" in call.request.headers for call in get.calls] == [False, True, False, False]
    assert [each.reason for each in account.retries] == ["reset", "range-wrong", "reset"]
    assert sum(each.wasted for each in account.retries) == account.received - len(DATA)


@pytest.mark.parametrize(
    "answers",
    [
        [part(300, DATA[300:], "999999")],
        [httpx.Response(416), httpx.Response(200, content=DATA[:299])],
        [httpx.Response(416), httpx.Response(200, content=DATA + b"x")],
    ],
)
async def test_a_blob_that_changed_its_size_on_the_way_is_refused(
    answers: list[httpx.Response], registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.get(BLOB).side_effect = [broken(DATA[:300]), *answers]
    with pytest.raises(ContentError):
        await read(repository, account)


@given(cuts=st.lists(st.tuples(st.integers(1, SIZE), st.sampled_from(["resume", "ignore", "early"]))))
async def test_any_sequence_of_cuts_gives_the_same_bytes_and_every_octet_is_counted(
    cuts: list[tuple[int, str]],
) -> None:
    left, account, served, requests = list(cuts), Account(), 0, 0

    async def stream(data: bytes, length: int) -> AsyncGenerator[bytes, None]:
        nonlocal served
        served += len(data[:length])
        yield data[:length]
        if length < len(data):
            raise httpx.ReadError("reset")

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal requests
        requests += 1
        asked = int(request.headers.get("Range", "bytes=0-")[6:-1])
        length, how = left.pop(0) if left else (SIZE, "resume")
        first = {"resume": asked, "ignore": 0, "early": asked // 2}[how]
        if first == 0:
            return httpx.Response(200, content=stream(DATA, length))
        where = {"Content-Range": f"bytes {first}-{SIZE - 1}/{SIZE}"}
        return httpx.Response(206, headers=where, content=stream(DATA[first:], length))

    async def at_once(_: float) -> None: ...

    patience = Patience(Policy(retries=len(cuts)), sleep=at_once)
    async with Transport(HOST, Connection(transport=httpx.MockTransport(answer))) as transport:
        assert await read(Registry(transport, patience=patience).repository("shop/api"), account) == DATA
    assert account.received == served
    assert account.requests == requests


async def test_a_download_that_never_gets_on_is_given_up(
    registry: respx.MockRouter, repository: Repository, account: Account, sleeps: list[float]
) -> None:
    registry.get(BLOB).mock(side_effect=lambda _: broken(b""))
    with pytest.raises(NetworkError, match="the connection broke"):
        await read(repository, account)
    assert account.requests == 4
    assert sleeps == [1.0, 2.0, 4.0]


async def test_a_download_that_is_left_is_closed(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    closed = []

    class Stream(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                yield bytes(1 << 20)

        async def aclose(self) -> None:
            closed.append(True)

    big = Descriptor(media_type=LAYER.media_type, digest=LAYER.digest, size=1 << 40)
    registry.get(BLOB).mock(return_value=httpx.Response(200, stream=Stream()))
    async with aclosing(repository.blob(big, account).open()) as stream:
        async for chunk in stream:
            assert len(chunk) == 1 << 20
            break
    assert closed == [True]


# Redirects.


async def test_a_redirected_download_takes_no_credentials_along(
    registry: respx.MockRouter, network: httpx.AsyncBaseTransport, account: Account
) -> None:
    signed = "https://storage.example/b?X-Amz-Signature=a%2Fb+c"
    registry.get(BLOB).respond(307, headers={"Location": signed}, text="moved")
    there = registry.get(url__startswith="https://storage.example/").respond(206, content=DATA)
    headers = {"Authorization": "Bearer secret", "Range": "bytes=5-"}
    async with Transport(HOST, Connection(transport=network)) as transport:
        path = BLOB.removeprefix(HOST)
        answer = await transport.send("GET", path, account, headers=headers, content=True, limit=1 << 20)
    assert answer.body == DATA
    request = there.calls.last.request
    assert "Authorization" not in request.headers
    assert request.headers["Range"] == "bytes=5-"
    assert request.extensions["target"] == b"/b?X-Amz-Signature=a%2Fb+c"
    assert account == Account(requests=2, received=len(DATA), overhead=5)


async def test_a_signed_query_shows_in_no_error_and_no_log(
    registry: respx.MockRouter, repository: Repository, account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    registry.get(BLOB).respond(307, headers={"Location": "https://u:secret@storage.example/b?sig=secret"})
    registry.get(url__startswith="https://storage.example/").respond(400, text="Only one auth mechanism")
    with pytest.raises(RegistryError, match="registry said: Only one auth mechanism") as caught:
        await read(repository, account)
    assert "secret" not in str(caught.value)
    assert "storage.example/b" in caplog.text
    assert "secret" not in caplog.text


async def test_a_head_is_redirected_too(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.head(BLOB).respond(302, headers={"Location": "/elsewhere?x=1"})
    registry.head(HOST + "/elsewhere?x=1").respond(200)
    assert await repository.has_blob(LAYER, account)
    assert account.requests == 2


async def test_redirects_in_a_circle_end(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.head(BLOB).respond(307, headers={"Location": BLOB})
    with pytest.raises(RegistryError, match="more than 5 redirects"):
        await repository.has_blob(LAYER, account)
    assert account.requests == 6


async def test_a_redirected_post_is_refused(
    registry: respx.MockRouter, network: httpx.AsyncBaseTransport, account: Account
) -> None:
    registry.post(HOST + "/v2/").respond(301, headers={"Location": "/v2/x"})
    async with Transport(HOST, Connection(transport=network)) as transport:
        with pytest.raises(RegistryError, match="was redirected"):
            await transport.send("POST", "/v2/", account)


async def test_nobody_is_led_from_tls_to_plain_http(
    registry: respx.MockRouter, network: httpx.AsyncBaseTransport, account: Account
) -> None:
    registry.get("https://registry.example/v2/x").respond(
        307, headers={"Location": "http://registry.example/y"}
    )
    async with Transport("registry.example", Connection(transport=network)) as transport:
        with pytest.raises(RegistryError, match="plain HTTP"):
            await transport.send("GET", "/v2/x", account)
        with pytest.raises(RegistryError, match="plain HTTP"):
            await transport.send("PUT", "http://registry.example/upload", account)
    assert account.requests == 1


async def test_cookies_are_not_returned(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    head = registry.head(BLOB).respond(200, headers={"Set-Cookie": "sid=1; Path=/"})
    await repository.has_blob(LAYER, account)
    await repository.has_blob(LAYER, account)
    assert "Cookie" not in head.calls.last.request.headers
