from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import pytest

from regsim.core import Descriptor
from regsim.core.account import Account, Retry
from regsim.errors import ContentError, LocalFileError, NetworkError, RegistryError
from regsim.registry import Connection
from regsim.registry.session import UploadSession
from regsim.registry.transport import Transport
from regsim.store.memory import BytesContent

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import respx

    from regsim.registry.repository import Repository

pytestmark = pytest.mark.anyio

DATA = bytes(range(256)) * 10
LAYER = Descriptor.of(DATA, "application/vnd.oci.image.layer.v1.tar")
CONTENT = BytesContent(LAYER, DATA)
MIB = 1024 * 1024
HOST = "http://127.0.0.1:5000"
UPLOADS = HOST + "/v2/shop/api/blobs/uploads/"
BLOB = HOST + f"/v2/shop/api/blobs/{LAYER.digest}"
STATE = "?_state=a%2Fb%3d%3D&x=1+2&x=&y"
SESSION = UPLOADS + "u1"
OPENED = httpx.Response(202, headers={"Location": SESSION + STATE})


def target(request: httpx.Request) -> str:
    sent: bytes = request.extensions["target"]
    return sent.decode()


async def test_a_mount_answered_201_needs_no_upload(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    post = registry.post(url__startswith=UPLOADS).respond(201)
    mounted = await repository.mount(LAYER.digest, "shop/base", account)
    assert mounted is True
    request = post.calls.last.request
    assert target(request) == f"/v2/shop/api/blobs/uploads/?mount={LAYER.digest}&from=shop/base"
    assert request.headers["Content-Length"] == "0"
    assert account == Account(requests=1)


async def test_a_mount_answered_202_goes_on_in_that_very_session(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    post = registry.post(url__startswith=UPLOADS).mock(return_value=OPENED)
    put = registry.put(url__startswith=SESSION).respond(201)
    session = await repository.mount(LAYER.digest, "shop/base", account)
    assert isinstance(session, UploadSession)
    await repository.upload(CONTENT, account, session)
    assert post.call_count == 1
    assert target(put.calls.last.request).endswith(f"/u1{STATE}&digest={LAYER.digest}")
    assert account == Account(requests=2, attempts=1, sent=len(DATA))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405])
async def test_a_mount_answered_4xx_is_no_failure(
    status: int, registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.post(url__startswith=UPLOADS).respond(status, text="no")
    assert await repository.mount(LAYER.digest, "shop/base", account) is None
    # A 401 that does not say how to log in takes a look at the base, which might.
    assert account == Account(requests=2 if status == 401 else 1, overhead=2)


async def test_a_mount_answered_5xx_is_retried_and_then_raised(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.post(url__startswith=UPLOADS).side_effect = [httpx.Response(502), httpx.Response(201)]
    assert await repository.mount(LAYER.digest, "shop/base", account) is True
    registry.post(url__startswith=UPLOADS).respond(500)
    with pytest.raises(RegistryError, match="500"):
        await repository.mount(LAYER.digest, "shop/base", account)
    assert account.requests == 6


async def test_a_session_does_not_show_its_state() -> None:
    assert "_state" not in repr(UploadSession(url=SESSION + STATE))


@pytest.mark.parametrize(
    "location",
    [
        f"/v2/shop/api/blobs/uploads/u1{STATE}",
        f"u1{STATE}",
        f"{SESSION}{STATE}",
        f"//127.0.0.1:5000/u1{STATE}",
    ],
)
async def test_a_location_of_any_form_keeps_its_query_byte_for_byte(
    location: str, registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    post = registry.post(UPLOADS).respond(202, headers={"Location": location})
    put = registry.put(url__startswith=HOST).respond(201)
    await repository.upload(CONTENT, account)
    assert post.calls.last.request.headers["Content-Length"] == "0"
    request = put.calls.last.request
    assert target(request).endswith(f"u1{STATE}&digest={LAYER.digest}")
    assert request.headers["Content-Length"] == str(len(DATA))
    assert "Transfer-Encoding" not in request.headers
    assert request.headers["Accept-Encoding"] == "identity"
    assert request.content == DATA
    assert account == Account(requests=2, attempts=1, sent=len(DATA))


async def test_a_location_without_a_query_gets_one(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.post(UPLOADS).respond(202, headers={"Location": SESSION})
    put = registry.put(url__startswith=SESSION).respond(201)
    await repository.upload(CONTENT, account)
    assert target(put.calls.last.request).endswith(f"/u1?digest={LAYER.digest}")


async def test_an_upload_without_location_is_a_fault_of_the_registry(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.post(UPLOADS).respond(202)
    with pytest.raises(RegistryError, match="without a Location"):
        await repository.upload(CONTENT, account)


async def test_a_server_that_says_200_to_all_does_not_accept_a_push(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.post(UPLOADS).respond(200, headers={"Location": SESSION})
    with pytest.raises(RegistryError, match="200"):
        await repository.upload(CONTENT, account)


@pytest.mark.parametrize("status", [200, 201, 204])
async def test_a_commit_may_be_answered_in_several_ways(
    status: int, registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.post(UPLOADS).mock(return_value=OPENED)
    registry.put(url__startswith=SESSION).respond(status)
    await repository.upload(CONTENT, account)
    assert account.requests == 2


async def test_an_upload_elsewhere_gets_no_credentials(
    registry: respx.MockRouter, network: httpx.AsyncBaseTransport, account: Account
) -> None:
    there = registry.put(url__startswith="https://storage.example/").respond(201)
    here = registry.put(url__startswith=HOST).respond(201)
    secret = {"Authorization": "Bearer secret", "cookie": "a=b"}
    async with Transport(HOST, Connection(transport=network)) as transport:
        await transport.send("PUT", "https://storage.example/u", account, headers=secret)
        await transport.send("PUT", "/v2/u", account, headers=secret)
    assert not {"authorization", "cookie"} & set(there.calls.last.request.headers)
    assert here.calls.last.request.headers["Authorization"] == "Bearer secret"


async def test_an_empty_blob_is_uploaded_with_an_empty_body(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    empty = Descriptor.of(b"", LAYER.media_type)
    registry.post(UPLOADS).mock(return_value=OPENED)
    put = registry.put(url__startswith=SESSION).respond(201)
    await repository.upload(BytesContent(empty, b""), account)
    assert put.calls.last.request.headers["Content-Length"] == "0"
    assert account == Account(requests=2, attempts=1)


async def test_a_passing_refusal_goes_on_where_the_registry_stands(
    registry: respx.MockRouter, repository: Repository, account: Account, sleeps: list[float]
) -> None:
    post = registry.post(UPLOADS).mock(return_value=OPENED)
    put = registry.put(url__startswith=SESSION)
    put.side_effect = [httpx.Response(429, headers={"Retry-After": "9"}), httpx.Response(201)]
    head = registry.head(BLOB).respond(404)
    registry.get(url__startswith=SESSION).respond(204, headers={"Range": "0-99", "Location": SESSION + "?b"})
    delete = registry.delete(url__startswith=SESSION).respond(204)
    await repository.upload(CONTENT, account)
    assert (post.call_count, head.call_count, delete.call_count) == (1, 1, 0)
    request = put.calls.last.request
    assert target(request).endswith(f"/u1?b&digest={LAYER.digest}")
    assert (request.content, request.headers["Content-Range"]) == (DATA[100:], f"100-{len(DATA) - 1}")
    assert sleeps == [9.0]
    assert account == Account(requests=5, attempts=1, sent=2 * len(DATA) - 100)
    assert account.retries == [Retry("429", seconds=9.0, wasted=len(DATA) - 100)]


@pytest.mark.parametrize("held", [None, "0-0", "what", f"0-{len(DATA)}"])
async def test_a_session_that_cannot_be_believed_is_cancelled_and_another_one_opened(
    held: str | None, registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    post = registry.post(UPLOADS).mock(return_value=OPENED)
    registry.put(url__startswith=SESSION).side_effect = [httpx.Response(503), httpx.Response(201)]
    registry.head(BLOB).respond(404)
    registry.get(url__startswith=SESSION).respond(204, headers={} if held is None else {"Range": held})
    delete = registry.delete(url__startswith=SESSION).respond(204)
    await repository.upload(CONTENT, account)
    assert (post.call_count, delete.call_count) == (2, 1)
    assert account == Account(requests=7, attempts=2, sent=2 * len(DATA))


@pytest.mark.parametrize(
    "answer",
    [
        httpx.ReadTimeout("x"),
        httpx.Response(500),
        httpx.Response(404, json={"errors": [{"code": "BLOB_UPLOAD_UNKNOWN"}]}),
        httpx.Response(400, json={"errors": [{"code": "BLOB_UPLOAD_UNKNOWN"}]}),
        httpx.Response(409),
        httpx.Response(202),
    ],
)
async def test_a_commit_in_doubt_is_looked_for_first(
    answer: httpx.Response | Exception, registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.post(UPLOADS).mock(return_value=OPENED)
    put = registry.put(url__startswith=SESSION).mock(side_effect=[answer])
    registry.head(BLOB).respond(200, headers={"Content-Length": str(len(DATA))})
    delete = registry.delete(url__startswith=SESSION).respond(204)
    await repository.upload(CONTENT, account)
    # One that is still there is cancelled: it was another one that was committed.
    stays = isinstance(answer, httpx.Response) and answer.status_code in (202, 409)
    assert (put.call_count, delete.call_count) == (1, int(stays))
    assert (account.requests, account.attempts) == (3 + stays, 1)


async def test_a_forgotten_session_starts_again_without_being_cancelled(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    post = registry.post(UPLOADS).mock(return_value=OPENED)
    registry.put(url__startswith=SESSION).side_effect = [httpx.Response(404), httpx.Response(201)]
    registry.head(BLOB).respond(404)
    delete = registry.delete(url__startswith=SESSION).respond(204)
    await repository.upload(CONTENT, account)
    assert (post.call_count, delete.call_count) == (2, 0)


@pytest.mark.parametrize("status", [401, 403, 413])
async def test_a_lasting_refusal_cancels_the_session_and_is_raised(
    status: int, registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.post(UPLOADS).mock(return_value=OPENED)
    registry.put(url__startswith=SESSION).respond(status, html="<h1>Request Entity Too Large</h1>")
    delete = registry.delete(url__startswith=SESSION).respond(204)
    with pytest.raises(RegistryError, match="registry said: Request Entity Too Large") as caught:
        await repository.upload(CONTENT, account)
    assert caught.value.status == status
    assert "_state" not in str(caught.value)
    assert target(delete.calls.last.request).endswith(f"/u1{STATE}")
    assert account.attempts == 1


async def test_a_refused_digest_is_raised_after_a_look(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.post(UPLOADS).mock(return_value=OPENED)
    registry.put(url__startswith=SESSION).respond(400, json={"errors": [{"code": "DIGEST_INVALID"}]})
    registry.head(BLOB).respond(404)
    registry.delete(url__startswith=SESSION).respond(204)
    with pytest.raises(RegistryError) as caught:
        await repository.upload(CONTENT, account)
    assert caught.value.codes == ("DIGEST_INVALID",)


@dataclass
class Broken:
    """Content whose stream fails after its first chunk."""

    error: BaseException
    descriptor: Descriptor = LAYER

    async def open(self) -> AsyncGenerator[bytes, None]:
        yield DATA[:100]
        yield DATA[100:200]
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        LocalFileError("gone"),
        ContentError("damaged"),
        NetworkError("the source broke"),
        asyncio.CancelledError(),
    ],
)
async def test_content_that_fails_is_not_retried_and_its_session_is_cancelled(
    error: BaseException, registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    post = registry.post(UPLOADS).mock(return_value=OPENED)
    registry.put(url__startswith=SESSION).respond(201)
    delete = registry.delete(url__startswith=SESSION).respond(204)
    with pytest.raises(type(error)) as caught:
        await repository.upload(Broken(error), account)
    assert caught.value is error
    assert (post.call_count, delete.call_count) == (1, 1)
    assert account == Account(requests=3, attempts=1, sent=100)


@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"x", DATA[:-1] + b"x"])
async def test_content_that_is_not_what_its_descriptor_says_never_arrives_whole(
    data: bytes, registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.post(UPLOADS).mock(return_value=OPENED)
    registry.delete(url__startswith=SESSION).respond(204)
    registry.put(url__startswith=SESSION).respond(201)
    with pytest.raises(ContentError):
        await repository.upload(BytesContent(LAYER, data), account)
    assert account.sent < LAYER.size


async def test_a_registry_that_keeps_forgetting_what_it_took_is_given_up(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    data = bytes(2 * MIB)
    repository.habits.largest = MIB
    registry.post(UPLOADS).mock(return_value=OPENED)
    patch = registry.patch(url__startswith=SESSION).respond(202)
    registry.put(url__startswith=SESSION).respond(404)
    registry.head(url__startswith=HOST).respond(404)
    with pytest.raises(RegistryError, match="404"):
        await repository.upload(BytesContent(Descriptor.of(data, "x/y"), data), account)
    assert patch.call_count == 4


async def test_a_registry_that_takes_a_byte_at_a_time_is_given_up(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    repository.habits.largest = 1000
    held = 1

    def take(_: httpx.Request) -> httpx.Response:
        nonlocal held
        held += 1
        return httpx.Response(202, headers={"Range": f"0-{held - 1}"})

    registry.post(UPLOADS).mock(return_value=OPENED)
    patch = registry.patch(url__startswith=SESSION).mock(side_effect=take)
    registry.get(url__startswith=SESSION).mock(
        side_effect=lambda _: httpx.Response(204, headers={"Range": f"0-{held - 1}"})
    )
    registry.put(url__startswith=SESSION).respond(201)
    registry.delete(url__startswith=SESSION).respond(204)
    with pytest.raises(RegistryError, match="kept no more than 1 of 1,000 bytes"):
        await repository.upload(CONTENT, account)
    assert patch.call_count == 4


async def test_a_put_that_is_cut_again_and_again_gets_there_piece_by_piece(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    data = bytes(8 * MIB)
    held = 0

    def cut(request: httpx.Request) -> httpx.Response:
        nonlocal held
        if len(request.content) <= MIB:
            return httpx.Response(201)
        held += MIB
        raise httpx.WriteError("cut")

    registry.post(UPLOADS).mock(return_value=OPENED)
    registry.put(url__startswith=SESSION).mock(side_effect=cut)
    registry.get(url__startswith=SESSION).mock(
        side_effect=lambda _: httpx.Response(204, headers={"Range": f"0-{held - 1}"})
    )
    registry.head(url__startswith=HOST).respond(404)
    registry.delete(url__startswith=SESSION).respond(204)
    await repository.upload(BytesContent(Descriptor.of(data, "x/y"), data), account)
    assert len(account.retries) == 7


async def test_a_request_that_was_too_large_makes_no_later_one_larger(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    data = bytes(20 * MIB)
    habits = repository.habits

    def refuse(_: httpx.Request) -> httpx.Response:
        habits.largest = MIB  # somebody else has found out meanwhile
        return httpx.Response(413)

    registry.post(UPLOADS).mock(return_value=OPENED)
    registry.put(url__startswith=SESSION).mock(
        side_effect=lambda request: refuse(request) if len(request.content) > MIB else httpx.Response(201)
    )
    patch = registry.patch(url__startswith=SESSION).respond(202)
    registry.get(url__startswith=SESSION).respond(204)
    registry.delete(url__startswith=SESSION).respond(204)
    await repository.upload(BytesContent(Descriptor.of(data, "x/y"), data), account)
    assert {len(call.request.content) for call in patch.calls} == {MIB}


async def test_a_cancel_that_fails_is_no_failure(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.delete(url__startswith=SESSION).mock(side_effect=httpx.ReadError)
    await repository.cancel(UploadSession(url=SESSION), account)
    registry.delete(url__startswith=SESSION).respond(404, text="gone")
    await repository.cancel(UploadSession(url=SESSION), account)
    assert account == Account(requests=2, overhead=4)
