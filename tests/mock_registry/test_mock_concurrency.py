"""Clients that meet: on one blob, one tag, one session, in the middle of each other's work."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from tests.mock_registry.conftest import OpenPeer, OpenWith, Peer

pytestmark = pytest.mark.anyio

LARGE = os.urandom(3_000_000)
MANY = 8


@pytest.fixture(params=["port", "directory"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Meeting:
    """Lets bodies come together in their middle, so that all of them are under way at once."""

    def __init__(self, parties: int) -> None:
        self._barrier = asyncio.Barrier(parties)

    async def body(self, content: bytes) -> AsyncIterator[bytes]:
        half = len(content) // 2
        yield content[:half]
        await self._barrier.wait()
        yield content[half:]


async def put(
    peer: Peer, location: str, digest: str, content: bytes | AsyncIterator[bytes]
) -> httpx.Response:
    return await peer.http.put(location, params=peer.also(location, digest=digest), content=content)


# One blob


@pytest.mark.parametrize("size", [1_000, 3_000_000])
async def test_a_blob_that_eight_clients_push_at_once_is_stored_once(peer: Peer, size: int) -> None:
    content, meeting = LARGE[:size], Meeting(MANY)
    digest = peer.digest(content)
    locations = [await peer.open(f"app/{number % 2}") for number in range(MANY)]
    answers = await asyncio.gather(
        *[put(peer, location, digest, meeting.body(content)) for location in locations]
    )
    assert [answer.status_code for answer in answers] == [201] * MANY
    assert peer.registry.storage.used == size
    assert len(peer.files()) <= 1
    for name in ("app/0", "app/1"):
        assert (await peer.http.get(f"/v2/{name}/blobs/{digest}")).content == content


async def test_a_blob_is_read_to_its_end_while_others_push_and_delete_it(peer: Peer) -> None:
    digest = await peer.push("app", LARGE)
    async with peer.http.stream("GET", f"/v2/app/blobs/{digest}") as answer:
        parts = answer.aiter_bytes(10_000)
        received = [await anext(parts)]
        await peer.push("app", LARGE)
        received.append(await anext(parts))
        assert (await peer.http.delete(f"/v2/app/blobs/{digest}")).status_code == 202
        received += [part async for part in parts]
    assert b"".join(received) == LARGE
    assert (await peer.http.get(f"/v2/app/blobs/{digest}")).status_code == 404


async def test_a_blob_pushed_while_its_last_holder_deletes_it_is_there(peer: Peer) -> None:
    for number in range(25):
        content = LARGE[number : number + (300_000 if number % 5 else 5_000)]
        digest = await peer.push("old", content)
        location = await peer.open("new")
        pushed, deleted, head = await asyncio.gather(
            put(peer, location, digest, content),
            peer.http.delete(f"/v2/old/blobs/{digest}"),
            peer.http.head(f"/v2/old/blobs/{digest}"),
        )
        assert (pushed.status_code, deleted.status_code) == (201, 202)
        assert head.status_code in (200, 404)
        assert (await peer.http.get(f"/v2/new/blobs/{digest}")).content == content
        assert (await peer.http.get(f"/v2/old/blobs/{digest}")).status_code == 404


async def test_a_blob_pushed_deleted_and_pulled_at_once_is_whole_or_absent(peer: Peer) -> None:
    content = LARGE[:200_000]
    digest = await peer.push("app", content)

    async def pull() -> None:
        answer = await peer.http.get(f"/v2/app/blobs/{digest}")
        assert answer.status_code == 404 or (answer.status_code, answer.content) == (200, content)

    async def delete() -> None:
        assert (await peer.http.delete(f"/v2/app/blobs/{digest}")).status_code in (202, 404)

    for _ in range(15):
        await asyncio.gather(pull(), peer.push("app", content), pull(), delete(), pull(), delete(), pull())
    await peer.push("app", content)
    await pull()
    assert peer.registry.storage.used == len(content)


async def test_a_mount_against_the_delete_of_its_source_works_or_opens_a_session(peer: Peer) -> None:
    for number in range(25):
        content = LARGE[number : number + 10_000]
        digest = await peer.push("base", content)
        params = {"mount": digest, "from": "base"}
        mounted, deleted = await asyncio.gather(
            peer.http.post("/v2/app/blobs/uploads/", params=params),
            peer.http.delete(f"/v2/base/blobs/{digest}"),
        )
        assert deleted.status_code == 202
        answer = await peer.http.get(f"/v2/app/blobs/{digest}")
        if mounted.status_code == 201:
            assert answer.content == content
        else:
            assert (mounted.status_code, answer.status_code) == (202, 404)


# One tag


async def test_a_tag_moved_while_it_is_pulled_leads_to_one_whole_manifest_or_the_other(peer: Peer) -> None:
    images = [await peer.push_image("app", "latest", layers=[LARGE[:n]]) for n in range(1, 6)]
    digests = {peer.digest(image): image for image in images}

    async def move() -> None:
        for number in range(40):
            assert (await peer.put("app", "latest", images[number % 5])).status_code == 201

    async def pull() -> None:
        for _ in range(40):
            answer = await peer.http.get("/v2/app/manifests/latest")
            digest = answer.headers["docker-content-digest"]
            assert answer.content == digests[digest]
            by_digest = await peer.http.get(f"/v2/app/manifests/{digest}")
            assert by_digest.content == answer.content  # though the tag may be elsewhere by now

    await asyncio.gather(move(), pull(), pull(), pull())


async def test_of_eight_clients_that_move_a_tag_at_once_one_is_the_last(peer: Peer) -> None:
    images = [await peer.push_image("app", f"v{n}", layers=[LARGE[:n]]) for n in range(MANY)]
    answers = await asyncio.gather(*[peer.put("app", "latest", image) for image in images])
    assert [answer.status_code for answer in answers] == [201] * MANY
    assert (await peer.http.get("/v2/app/manifests/latest")).content in images
    tags = (await peer.http.get("/v2/app/tags/list")).json()["tags"]
    assert tags == ["latest", *(f"v{n}" for n in range(MANY))]


async def test_a_manifest_pushed_while_it_is_deleted_is_there_or_not_but_never_half(peer: Peer) -> None:
    image = await peer.push_image("app", "v1")
    url = f"/v2/app/manifests/{peer.digest(image)}"
    for _ in range(20):
        pushed, deleted = await asyncio.gather(peer.put("app", "v1", image), peer.http.delete(url))
        assert (pushed.status_code, deleted.status_code) in ((201, 202), (201, 404))
        by_tag, by_digest = await peer.http.get("/v2/app/manifests/v1"), await peer.http.get(url)
        assert by_tag.status_code == by_digest.status_code
        assert by_tag.status_code == 404 or by_tag.content == by_digest.content == image


# One session


async def test_of_two_chunks_for_one_place_one_wins_and_the_other_is_416(peer: Peer) -> None:
    location, meeting = await peer.open("app"), Meeting(1)
    answers = await asyncio.gather(
        *[
            peer.http.patch(
                location, content=meeting.body(octet * 100_000), headers={"Content-Range": "0-99999"}
            )
            for octet in (b"a", b"b")
        ],
    )
    assert sorted(answer.status_code for answer in answers) == [202, 416]
    winner = b"ab"[[answer.status_code for answer in answers].index(202)]
    assert all(answer.headers["range"] == "0-99999" for answer in answers)
    content = bytes([winner]) * 100_000
    assert (await put(peer, location.partition("?")[0], peer.digest(content), b"")).status_code == 201


async def test_of_two_commits_one_wins_and_the_other_is_404(peer: Peer) -> None:
    location = (await peer.http.patch(await peer.open("app"), content=LARGE)).headers["location"]
    digest = peer.digest(LARGE)
    answers = await asyncio.gather(*[put(peer, location, digest, b"") for _ in range(2)])
    assert sorted(answer.status_code for answer in answers) == [201, 404]
    assert [peer.codes(each) for each in answers if each.is_error] == [["BLOB_UPLOAD_UNKNOWN"]]


async def test_a_session_that_another_request_holds_for_long_is_409(with_settings: OpenWith) -> None:
    async with with_settings(session_patience=0.0) as peer:
        location, meeting = await peer.open("app"), Meeting(2)
        path = location.partition("?")[0]
        long = asyncio.ensure_future(peer.http.patch(location, content=meeting.body(LARGE)))
        [session] = peer.registry.state.sessions.values()
        await peer.until(lambda: session.busy)
        for method in ("GET", "DELETE", "PATCH", "PUT"):
            params = {"digest": peer.digest(LARGE)}
            content = b"mine" if method in ("PATCH", "PUT") else None
            answer = await peer.http.request(method, path, params=params, content=content)
            assert (answer.status_code, peer.codes(answer)) == (409, ["BLOB_UPLOAD_INVALID"])
        await meeting._barrier.wait()
        assert (await long).headers["range"] == f"0-{len(LARGE) - 1}"
        assert (await put(peer, path, peer.digest(LARGE), b"")).status_code == 201


async def test_a_cancel_waits_for_the_chunk_under_way(peer: Peer) -> None:
    location, meeting = await peer.open("app"), Meeting(2)
    long = asyncio.ensure_future(peer.http.patch(location, content=meeting.body(LARGE)))
    [session] = peer.registry.state.sessions.values()
    await peer.until(lambda: session.busy)
    cancel = asyncio.ensure_future(peer.http.delete(location))
    await meeting._barrier.wait()
    assert ((await long).status_code, (await cancel).status_code) == (202, 204)
    assert (await peer.http.get(location)).status_code == 404
    assert peer.registry.storage.used == 0


# All of it


async def test_what_many_clients_did_at_once_is_what_the_next_start_finds(
    open_peer: OpenPeer, tmp_path: object
) -> None:
    async with open_peer("port", directory=tmp_path) as peer:

        async def work(number: int) -> None:
            name = f"team/{number % 3}"
            for turn in range(8):
                layer = hashlib.sha256(f"{number % 4} {turn}".encode()).digest() * 1000
                await peer.push_image(name, f"v{turn % 5}", f"{number}".encode(), [layer])
                if turn % 3 == 0:
                    await peer.http.delete(f"/v2/{name}/manifests/v{(turn + 2) % 5}")
                if turn % 4 == 0:
                    params = {"mount": peer.digest(layer), "from": name}
                    await peer.http.post(f"/v2/mounted/{number}/blobs/uploads/", params=params)
                if turn % 6 == 5:
                    location = (await peer.http.patch(await peer.open(name), content=layer)).headers[
                        "location"
                    ]
                    await peer.http.get(location)

        await asyncio.gather(*map(work, range(MANY)))
        before = picture(peer)
    async with open_peer("process", directory=tmp_path) as peer:
        assert picture(peer) == before


def picture(peer: Peer) -> object:
    """Return all that the state knows."""
    state = peer.registry.state
    repositories = {
        name: (set(each.blobs), dict(each.manifests), each.tags) for name, each in state.repositories.items()
    }
    sessions = {each.identifier: (each.repository, each.size) for each in state.sessions.values()}
    return repositories, sessions, state.digests
