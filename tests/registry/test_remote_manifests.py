from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import pytest

from regsim.core import Descriptor, Digest, media_types
from regsim.core.account import Account
from regsim.core.manifest import MAX_MANIFEST_SIZE
from regsim.errors import ContentError, InvalidReferenceError, NetworkError, NotFoundError, RegistryError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import respx

    from regsim.registry.repository import Repository

pytestmark = pytest.mark.anyio

RAW = json.dumps({"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST}).encode()
WANTED = Descriptor.of(RAW, media_types.OCI_MANIFEST)
BASE = "http://127.0.0.1:5000/v2/shop/api/"
TAG = BASE + "manifests/v1"
BY_DIGEST = BASE + f"manifests/{WANTED.digest}"
TYPE = {"Content-Type": media_types.OCI_MANIFEST}
SAID = {**TYPE, "Docker-Content-Digest": WANTED.digest, "Content-Length": str(len(RAW))}


async def test_a_tag_is_resolved_by_one_head(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    head = registry.head(TAG).respond(200, headers=SAID)
    assert await repository.resolve("v1", account) == WANTED
    accept = head.calls.last.request.headers["Accept"]
    assert set(accept.split(", ")) == set(media_types.ACCEPT)
    assert account == Account(requests=1)


async def test_only_a_404_means_absent(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.head(TAG).respond(404)
    assert await repository.resolve("v1", account) is None
    for status in (400, 401, 410, 501):
        registry.head(TAG).respond(status)
        with pytest.raises(RegistryError, match=str(status)):
            await repository.resolve("v1", account)


@pytest.mark.parametrize("status", [403, 405])
async def test_a_head_that_is_refused_is_asked_again_as_a_get(
    status: int, registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.head(TAG).respond(status)
    registry.get(TAG).respond(200, headers=TYPE, content=RAW)
    assert await repository.resolve("v1", account) == WANTED
    assert account == Account(requests=2, received=len(RAW))


@pytest.mark.parametrize("missing", ["Docker-Content-Digest", "Content-Length", "Content-Type"])
async def test_a_head_that_leaves_something_out_is_asked_again_as_a_get(
    missing: str, registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.head(TAG).respond(200, headers={k: v for k, v in SAID.items() if k != missing})
    registry.get(TAG).respond(200, headers=TYPE, content=RAW)
    assert await repository.resolve("v1", account) == WANTED
    assert account.requests == 2


@pytest.mark.parametrize("digest", ["", "sha256:short", "md5:x"])
async def test_a_malformed_digest_on_a_head_is_not_used(
    digest: str, registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.head(TAG).respond(200, headers={**SAID, "Docker-Content-Digest": digest})
    registry.get(TAG).respond(200, headers=TYPE, content=RAW)
    assert await repository.resolve("v1", account) == WANTED


async def test_a_head_by_digest_needs_no_digest_from_the_registry(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.head(BY_DIGEST).respond(200, headers={**TYPE, "Content-Length": str(len(RAW))})
    assert await repository.resolve(WANTED.digest, account) == WANTED
    assert account.requests == 1


async def test_a_digest_of_another_algorithm_is_no_mismatch(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    by_sha512 = Digest.of(RAW, "sha512")
    registry.head(BASE + f"manifests/{by_sha512}").respond(200, headers=SAID)
    found = await repository.resolve(by_sha512, account)
    assert found is not None
    assert found.digest == by_sha512


async def test_a_head_by_digest_that_names_another_is_verified_by_get(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.head(BY_DIGEST).respond(200, headers={**SAID, "Docker-Content-Digest": Digest.of(b"other")})
    registry.get(BY_DIGEST).respond(200, headers=TYPE, content=b"{}")
    with pytest.raises(ContentError, match="whose digest is"):
        await repository.resolve(WANTED.digest, account)


async def test_a_403_counts_as_absent_before_a_push_with_a_warning(
    registry: respx.MockRouter, repository: Repository, account: Account, warnings: list[str]
) -> None:
    registry.head(TAG).respond(403)
    registry.get(TAG).respond(403, json={"errors": [{"code": "DENIED"}]})
    assert await repository.resolve("v1", account, forbidden_means_absent=True) is None
    assert len(warnings) == 1
    assert "registry said: DENIED" in warnings[0]


async def test_a_403_is_a_refusal_elsewhere(
    registry: respx.MockRouter, repository: Repository, account: Account, warnings: list[str]
) -> None:
    registry.head(TAG).respond(403)
    registry.get(TAG).respond(403, json={"errors": [{"code": "DENIED"}]})
    with pytest.raises(RegistryError, match="DENIED"):
        await repository.resolve("v1", account)
    assert account.overhead > 0
    assert warnings == []


async def test_a_manifest_is_fetched_byte_for_byte(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.get(TAG).respond(
        200, headers={"Content-Type": f"{WANTED.media_type}; charset=utf-8"}, content=RAW
    )
    assert await repository.fetch_manifest("v1", account) == (WANTED, RAW)
    assert account == Account(requests=1, attempts=1, received=len(RAW))


async def test_what_a_descriptor_says_of_a_manifest_must_hold(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    get = registry.get(BY_DIGEST).respond(200, headers=TYPE, content=RAW)
    assert (await repository.fetch_manifest(WANTED, account))[0] is WANTED
    get.respond(200, headers=TYPE, content=RAW[:-1] + b" ")
    with pytest.raises(ContentError, match="digest"):
        await repository.fetch_manifest(WANTED, account)
    get.respond(200, headers=TYPE, content=RAW + b" ")
    with pytest.raises(ContentError, match="bytes"):
        await repository.fetch_manifest(WANTED, account)
    get.respond(200, headers={"Content-Type": media_types.OCI_INDEX}, content=RAW)
    with pytest.raises(ContentError, match="served as"):
        await repository.fetch_manifest(WANTED, account)


async def test_a_manifest_of_another_type_than_its_descriptor_is_refused(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    raw = b'{"schemaVersion":2}'
    wanted = Descriptor.of(raw, media_types.DOCKER_MANIFEST)
    registry.get(BASE + f"manifests/{wanted.digest}").respond(200, headers=TYPE, content=raw)
    with pytest.raises(ContentError, match="by its descriptor"):
        await repository.fetch_manifest(wanted, account)


async def test_a_manifest_that_is_missing_is_not_found(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.get(TAG).respond(404, json={"errors": [{"code": "MANIFEST_UNKNOWN"}]})
    with pytest.raises(NotFoundError, match="MANIFEST_UNKNOWN"):
        await repository.fetch_manifest("v1", account)


async def test_a_manifest_without_end_is_not_read_to_its_end(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1 << 16)

    registry.get(TAG).mock(return_value=httpx.Response(200, headers=TYPE, content=endless()))
    with pytest.raises(ContentError, match="larger than"):
        await repository.fetch_manifest("v1", account)
    assert account.received <= MAX_MANIFEST_SIZE + (1 << 16)
    huge = Descriptor(media_type=WANTED.media_type, digest=WANTED.digest, size=MAX_MANIFEST_SIZE + 1)
    with pytest.raises(ContentError, match="larger than"):
        await repository.fetch_manifest(huge, account)
    assert account.requests == 1


async def test_a_web_server_that_says_200_to_all_is_no_registry(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.route(method="HEAD").respond(200, headers={"Content-Type": "text/html", "Content-Length": "20"})
    registry.route(method="GET").respond(200, html="<html>welcome</html>")
    with pytest.raises(ContentError, match="not JSON"):
        await repository.resolve("v1", account)


async def test_a_manifest_is_put_with_its_own_media_type_and_length(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    put = registry.put(TAG).respond(201, headers={"Docker-Content-Digest": "sha256:wrong"}, text="created")
    assert await repository.put_manifest(RAW, WANTED.media_type, "v1", account) == WANTED
    sent = put.calls.last.request
    assert sent.content == RAW
    assert sent.headers["Content-Type"] == WANTED.media_type
    assert sent.headers["Content-Length"] == str(len(RAW))
    assert account == Account(requests=1, attempts=1, sent=len(RAW), overhead=len("created"))


async def test_a_put_whose_answer_was_lost_is_looked_up_before_it_is_repeated(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    put = registry.put(TAG).mock(side_effect=httpx.ReadError)
    registry.head(TAG).respond(200, headers=SAID)
    await repository.put_manifest(RAW, WANTED.media_type, "v1", account)
    assert put.call_count == 1
    assert account.requests == 2


async def test_a_put_without_effect_is_repeated(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.put(TAG).side_effect = [httpx.Response(503), httpx.Response(201)]
    registry.head(TAG).respond(404)
    await repository.put_manifest(RAW, WANTED.media_type, "v1", account)
    assert account == Account(requests=3, attempts=2, sent=2 * len(RAW))


async def test_a_refused_manifest_says_which_blob_is_missing(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.put(TAG).respond(400, json={"errors": [{"code": "MANIFEST_BLOB_UNKNOWN"}]})
    with pytest.raises(RegistryError) as caught:
        await repository.put_manifest(RAW, WANTED.media_type, "v1", account)
    assert caught.value.codes == ("MANIFEST_BLOB_UNKNOWN",)
    assert account.requests == 1


async def test_a_reference_that_is_neither_tag_nor_digest_is_never_sent(
    repository: Repository, account: Account
) -> None:
    for reference in ("../x", "a/b", "sha256:x", "", "x?y"):
        with pytest.raises(InvalidReferenceError):
            await repository.resolve(reference, account)
    assert account.requests == 0


async def test_a_delete_tells_what_was_absent_and_what_is_not_allowed(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    delete = registry.delete(TAG).respond(202)
    await repository.delete_manifest("v1", account)
    delete.respond(404)
    with pytest.raises(NotFoundError):
        await repository.delete_manifest("v1", account)
    delete.respond(405, json={"errors": [{"code": "UNSUPPORTED"}]})
    with pytest.raises(RegistryError, match="UNSUPPORTED"):
        await repository.delete_manifest("v1", account)


async def test_a_404_on_a_repeated_delete_is_the_first_ones_effect(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.delete(BASE + f"blobs/{WANTED.digest}").side_effect = [httpx.ReadError, httpx.Response(404)]
    await repository.delete_blob(WANTED.digest, account)
    assert account.requests == 2


async def test_tags_are_read_page_by_page(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    def page(request: httpx.Request) -> httpx.Response:
        target = request.extensions["target"]
        if target == b"/v2/shop/api/tags/list":
            link = '</v2/shop/api/tags/list?last=a%2Bb&n=1>; rel="next"'
            return httpx.Response(200, json={"name": "shop/api", "tags": ["a"]}, headers={"Link": link})
        assert target == b"/v2/shop/api/tags/list?last=a%2Bb&n=1"
        return httpx.Response(200, json={"tags": None})

    registry.get(url__startswith=BASE).mock(side_effect=page)
    assert await repository.tags(account) == ("a",)
    assert account.received == 0
    assert account.overhead > 0


async def test_tags_at_another_host_are_not_asked_for(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    link = '<https://elsewhere.example/v2/x/tags/list>; rel="next"'
    registry.get(BASE + "tags/list").respond(200, json={"tags": ["a"]}, headers={"Link": link})
    with pytest.raises(RegistryError, match="another host"):
        await repository.tags(account)
    assert account.requests == 1


async def test_tags_without_end_are_given_up(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    link = "</v2/shop/api/tags/list?last=a>; rel=next"
    registry.get(url__startswith=BASE).respond(200, json={"tags": ["a"]}, headers={"Link": link})
    with pytest.raises(RegistryError, match="no end"):
        await repository.tags(account)


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'{"tags":3}', b'{"tags":"abc"}', b'{"tags":[1]}'])
async def test_tags_of_another_shape_are_a_fault_of_the_registry(
    body: bytes, registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.get(BASE + "tags/list").respond(200, content=body)
    with pytest.raises(RegistryError):
        await repository.tags(account)


async def test_an_unreachable_registry_is_a_network_error_after_retries(
    registry: respx.MockRouter, repository: Repository, account: Account, sleeps: list[float]
) -> None:
    registry.head(TAG).mock(side_effect=httpx.ConnectError("refused"))
    with pytest.raises(NetworkError, match="no connection"):
        await repository.resolve("v1", account)
    assert account.requests == 4
    assert len(sleeps) == 3
