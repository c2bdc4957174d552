from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mock_registry import Route

if TYPE_CHECKING:
    import httpx

    from tests.mock_registry.conftest import OpenWith, Peer

pytestmark = pytest.mark.anyio

CONTENT = b"a shared layer"


async def mount(peer: Peer, target: str, digest: str, **query: str) -> httpx.Response:
    return await peer.http.post(f"/v2/{target}/blobs/uploads/", params={"mount": digest, **query})


async def test_end_11_a_blob_is_mounted_from_the_repository_named(peer: Peer) -> None:
    digest = await peer.push("base", CONTENT)
    answer = await mount(peer, "app", digest, **{"from": "base"})
    assert (answer.status_code, answer.headers["docker-content-digest"]) == (201, digest)
    assert (await peer.http.get(answer.headers["location"])).content == CONTENT
    [record] = peer.journal.uploads("app")
    assert (record.route, record.status, record.digest) == (Route.UPLOADS, 201, digest)
    assert (record.mounted_from, record.session, record.bytes_in) == ("base", None, 0)


async def test_end_11_a_mounted_blob_outlives_the_one_it_came_from(peer: Peer) -> None:
    digest = await peer.push("base", CONTENT)
    await mount(peer, "app", digest, **{"from": "base"})
    await peer.http.delete(f"/v2/base/blobs/{digest}")
    assert (await peer.http.get(f"/v2/app/blobs/{digest}")).content == CONTENT


@pytest.mark.parametrize("source", ["nosuch", "Invalid..Name", "other", ""])
async def test_end_11_a_mount_that_cannot_be_opens_a_session_and_put_goes_on(peer: Peer, source: str) -> None:
    digest = await peer.push("base", CONTENT)
    await peer.push("other", b"something else")
    answer = await mount(peer, "app", digest, **{"from": source})
    assert answer.status_code == 202
    record = peer.journal[-1]
    assert (record.digest, record.mounted_from) == (digest, None)
    assert record.session == answer.headers["docker-upload-uuid"]
    location = answer.headers["location"]
    answer = await peer.http.put(location, params=peer.also(location, digest=digest), content=CONTENT)
    assert answer.status_code == 201
    assert peer.journal.session_digest(record.session) == digest


async def test_end_11_without_a_source_a_session_is_opened(peer: Peer) -> None:
    digest = await peer.push("base", CONTENT)
    assert (await mount(peer, "app", digest)).status_code == 202


async def test_end_11_without_a_source_any_repository_serves_where_that_is_allowed(
    with_settings: OpenWith,
) -> None:
    async with with_settings(anonymous_mount=True) as peer:
        digest = await peer.push("base", CONTENT)
        assert (await mount(peer, "app", digest)).status_code == 201
        assert peer.journal[-1].mounted_from == "base"
        assert (await mount(peer, "app", peer.digest(b"absent"))).status_code == 202


async def test_end_11_a_blob_that_is_there_already_is_201(peer: Peer) -> None:
    digest = await peer.push("app", CONTENT)
    for query in ({}, {"from": "app"}, {"from": "nosuch"}):
        assert (await mount(peer, "app", digest, **query)).status_code == 201
        assert peer.journal[-1].mounted_from == "app"


async def test_end_11_a_bad_digest_is_400(peer: Peer) -> None:
    answer = await mount(peer, "app", "sha256:short", **{"from": "base"})
    assert (answer.status_code, peer.codes(answer)) == (400, ["DIGEST_INVALID"])


async def test_end_11_with_mounts_switched_off_a_session_is_opened(with_settings: OpenWith) -> None:
    async with with_settings(mount=False) as peer:
        digest = await peer.push("base", CONTENT)
        assert (await mount(peer, "app", digest, **{"from": "base"})).status_code == 202
