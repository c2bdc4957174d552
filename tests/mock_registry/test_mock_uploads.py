from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.mock_registry.conftest import OpenWith, Peer

pytestmark = pytest.mark.anyio

FIRST, SECOND = b"hello ", b"world"
WHOLE = FIRST + SECOND


async def pieces(content: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def test_end_4a_post_opens_a_session_at_an_unguessable_location(peer: Peer) -> None:
    answers = [await peer.http.post("/v2/app/blobs/uploads/") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    sessions = [answer.headers["docker-upload-uuid"] for answer in answers]
    assert len(set(sessions)) == 2
    assert all(
        f"/v2/app/blobs/uploads/{s}" in a.headers["location"] for s, a in zip(sessions, answers, strict=True)
    )
    assert [record.session for record in peer.journal.uploads("app")] == sessions


async def test_end_4a_the_final_slash_may_be_missing(peer: Peer) -> None:
    assert (await peer.http.post("/v2/app/blobs/uploads")).status_code == 202


async def test_end_4a_a_session_alone_makes_no_repository(peer: Peer) -> None:
    await peer.open("app")
    assert peer.registry.repositories == ()


async def test_end_4a_the_smallest_chunk_is_announced(with_settings: OpenWith) -> None:
    async with with_settings(min_chunk_length=10) as peer:
        answer = await peer.http.post("/v2/app/blobs/uploads/")
        assert answer.headers["oci-chunk-min-length"] == "10"
    async with with_settings() as peer:
        assert "oci-chunk-min-length" not in (await peer.http.post("/v2/app/blobs/uploads/")).headers


async def test_end_4b_post_with_digest_and_body_stores_the_blob(peer: Peer) -> None:
    digest = peer.digest(WHOLE)
    answer = await peer.http.post("/v2/app/blobs/uploads/", params={"digest": digest}, content=WHOLE)
    assert answer.status_code == 201
    assert (await peer.http.get(answer.headers["location"])).content == WHOLE
    assert peer.registry.state.sessions == {}
    record = peer.journal[0]
    assert (record.digest, record.bytes_in, record.status) == (digest, len(WHOLE), 201)
    assert peer.journal.session_digest(record.session) == digest


async def test_end_4b_with_another_digest_it_is_400_and_nothing_is_kept(peer: Peer) -> None:
    params = {"digest": peer.digest(b"other")}
    answer = await peer.http.post("/v2/app/blobs/uploads/", params=params, content=WHOLE)
    assert (answer.status_code, peer.codes(answer)) == (400, ["DIGEST_INVALID"])
    assert (peer.registry.state.sessions, peer.registry.storage.used) == ({}, 0)


async def test_end_4b_where_it_is_not_taken_a_session_is_opened_and_put_goes_on(
    with_settings: OpenWith,
) -> None:
    async with with_settings(single_post=False) as peer:
        digest = peer.digest(WHOLE)
        answer = await peer.http.post("/v2/app/blobs/uploads/", params={"digest": digest}, content=WHOLE)
        assert answer.status_code == 202
        assert peer.journal[-1].bytes_in == len(WHOLE)
        location = answer.headers["location"]
        answer = await peer.http.put(location, params=peer.also(location, digest=digest), content=WHOLE)
        assert answer.status_code == 201


async def test_end_4c_an_announced_algorithm_is_followed(peer: Peer) -> None:
    location = await peer.open("app", **{"digest-algorithm": "sha512"})
    location = (await peer.http.patch(location, content=WHOLE)).headers["location"]
    digest = peer.digest(WHOLE, "sha512")
    answer = await peer.http.put(location, params=peer.also(location, digest=digest))
    assert (answer.status_code, answer.headers["docker-content-digest"]) == (201, digest)


async def test_end_4c_an_unknown_algorithm_is_400(peer: Peer) -> None:
    answer = await peer.http.post("/v2/app/blobs/uploads/", params={"digest-algorithm": "md5"})
    assert (answer.status_code, peer.codes(answer)) == (400, ["DIGEST_INVALID"])


@pytest.mark.parametrize("size", [11, 300_000, 3_000_000])
async def test_end_4c_an_algorithm_that_nobody_announced_is_found_when_the_digest_comes(
    peer: Peer, size: int
) -> None:
    content = os.urandom(size)
    location = (await peer.http.patch(await peer.open("app"), content=content)).headers["location"]
    digest = peer.digest(content, "sha512")
    assert (await peer.http.put(location, params=peer.also(location, digest=digest))).status_code == 201
    assert (await peer.http.get(f"/v2/app/blobs/{digest}")).content == content


async def test_end_5_chunks_in_order_are_appended(peer: Peer) -> None:
    location = await peer.open("app")
    for chunk, span, end in ((FIRST, "0-5", "0-5"), (SECOND, "6-10", "0-10")):
        answer = await peer.http.patch(location, content=chunk, headers={"Content-Range": span})
        assert (answer.status_code, answer.headers["range"]) == (202, end)
        location = answer.headers["location"]
    answer = await peer.http.put(location, params=peer.also(location, digest=peer.digest(WHOLE)))
    assert answer.status_code == 201
    assert (await peer.http.get(answer.headers["location"])).content == WHOLE


async def test_end_5_a_stream_of_unknown_length_is_appended(peer: Peer) -> None:
    content = os.urandom(2_500_000)
    answer = await peer.http.patch(await peer.open("app"), content=pieces(content))
    assert (answer.status_code, answer.headers["range"]) == (202, "0-2499999")
    location = answer.headers["location"]
    digest = peer.digest(content)
    assert (await peer.http.put(location, params=peer.also(location, digest=digest))).status_code == 201
    assert (await peer.http.get(f"/v2/app/blobs/{digest}")).content == content
    assert [record.bytes_in for record in peer.journal.uploads("app", digest=digest)] == [0, 2_500_000, 0]


@pytest.mark.parametrize("span", ["7-11", "0-5", "5-10"])
async def test_end_5_a_chunk_out_of_order_is_416_and_changes_nothing(peer: Peer, span: str) -> None:
    location = await peer.open("app")
    location = (await peer.http.patch(location, content=FIRST, headers={"Content-Range": "0-5"})).headers[
        "location"
    ]
    first, last = map(int, span.split("-"))
    chunk = b"x" * (last - first + 1)
    answer = await peer.http.patch(location, content=chunk, headers={"Content-Range": span})
    assert (answer.status_code, peer.codes(answer)) == (416, ["BLOB_UPLOAD_INVALID"])
    assert answer.headers["range"] == "0-5"
    assert peer.journal[-1].bytes_in == len(chunk)
    answer = await peer.http.patch(
        answer.headers["location"], content=SECOND, headers={"Content-Range": "6-10"}
    )
    assert answer.headers["range"] == "0-10"


async def test_end_5_the_first_chunk_begins_at_0(peer: Peer) -> None:
    location = await peer.open("app")
    answer = await peer.http.patch(location, content=FIRST, headers={"Content-Range": "1-6"})
    assert answer.status_code == 416


async def test_end_5_a_stream_to_a_stale_location_is_416_and_is_not_appended_twice(peer: Peer) -> None:
    location = await peer.open("app")
    assert (await peer.http.patch(location, content=FIRST)).status_code == 202
    answer = await peer.http.patch(location, content=FIRST)
    assert (answer.status_code, answer.headers["range"]) == (416, "0-5")


@pytest.mark.parametrize(
    ("span", "code"), [("bytes 0-5/6", "BLOB_UPLOAD_INVALID"), ("5-0", "BLOB_UPLOAD_INVALID")]
)
async def test_end_5_a_malformed_content_range_is_400(peer: Peer, span: str, code: str) -> None:
    answer = await peer.http.patch(await peer.open("app"), content=FIRST, headers={"Content-Range": span})
    assert (answer.status_code, peer.codes(answer)) == (400, [code])


@pytest.mark.parametrize("span", ["0-9", "0-3"])
async def test_end_5_a_content_range_of_another_length_is_400_and_nothing_is_kept(
    peer: Peer, span: str
) -> None:
    location = await peer.open("app")
    answer = await peer.http.patch(location, content=FIRST, headers={"Content-Range": span})
    assert (answer.status_code, peer.codes(answer)) == (400, ["SIZE_INVALID"])
    assert (await peer.http.get(location)).headers["range"] == "0-0"


@pytest.mark.parametrize(("span", "kept"), [("0-9", "0-5"), ("0-3", "0-3")])
async def test_end_5_a_stream_keeps_at_most_what_its_content_range_announced(
    peer: Peer, span: str, kept: str
) -> None:
    location = await peer.open("app")
    answer = await peer.http.patch(location, content=pieces(FIRST, 2), headers={"Content-Range": span})
    assert (answer.status_code, peer.codes(answer)) == (400, ["SIZE_INVALID"])
    assert (await peer.http.get(location)).headers["range"] == kept


async def test_end_5_only_the_last_chunk_may_be_short(with_settings: OpenWith) -> None:
    async with with_settings(min_chunk_length=6) as peer:
        location = await peer.open("app")
        for chunk in (FIRST, SECOND):
            answer = await peer.http.patch(location, content=chunk)
            assert answer.status_code == 202
            location = answer.headers["location"]
        refused = await peer.http.patch(location, content=FIRST)
        assert (refused.status_code, peer.codes(refused)) == (400, ["SIZE_INVALID"])
        answer = await peer.http.put(location, params=peer.also(location, digest=peer.digest(WHOLE)))
        assert answer.status_code == 201


@pytest.mark.parametrize("method", ["PATCH", "PUT", "GET", "DELETE"])
async def test_end_5_an_unknown_session_is_404(peer: Peer, method: str) -> None:
    location = f"/v2/app/blobs/uploads/nosuch?digest={peer.digest(WHOLE)}"
    answer = await peer.http.request(method, location, content=WHOLE if method in ("PATCH", "PUT") else None)
    assert (answer.status_code, peer.codes(answer)) == (404, ["BLOB_UPLOAD_UNKNOWN"])


@pytest.mark.parametrize("method", ["PATCH", "PUT", "GET", "DELETE"])
async def test_end_5_a_session_of_another_repository_is_404(peer: Peer, method: str) -> None:
    location = (await peer.open("app")).replace("/v2/app/", "/v2/other/")
    answer = await peer.http.request(method, location)
    assert (answer.status_code, peer.codes(answer)) == (404, ["BLOB_UPLOAD_UNKNOWN"])


@pytest.mark.parametrize("size", [0, 11, 300_000, 5_000_000])
async def test_end_6_a_blob_is_pushed_with_post_and_put(peer: Peer, size: int) -> None:
    content = os.urandom(size)
    location = await peer.open("app")
    digest = peer.digest(content)
    answer = await peer.http.put(location, params=peer.also(location, digest=digest), content=content)
    assert answer.status_code == 201
    assert answer.headers["docker-content-digest"] == digest
    assert (await peer.http.get(answer.headers["location"])).content == content
    assert peer.journal.bytes_in(repository="app") == size


async def test_end_6_the_last_chunk_may_come_with_the_put(peer: Peer) -> None:
    location = await peer.open("app")
    location = (await peer.http.patch(location, content=FIRST, headers={"Content-Range": "0-5"})).headers[
        "location"
    ]
    params = peer.also(location, digest=peer.digest(WHOLE))
    answer = await peer.http.put(location, params=params, content=SECOND, headers={"Content-Range": "6-10"})
    assert answer.status_code == 201


async def test_end_6_a_last_chunk_out_of_order_is_416_and_the_session_survives(peer: Peer) -> None:
    location = await peer.open("app")
    location = (await peer.http.patch(location, content=FIRST, headers={"Content-Range": "0-5"})).headers[
        "location"
    ]
    params = peer.also(location, digest=peer.digest(WHOLE))
    answer = await peer.http.put(location, params=params, content=SECOND, headers={"Content-Range": "7-11"})
    assert (answer.status_code, answer.headers["range"]) == (416, "0-5")
    answer = await peer.http.put(location, params=params, content=SECOND, headers={"Content-Range": "6-10"})
    assert answer.status_code == 201


@pytest.mark.parametrize("digest", [None, "bogus", "sha256:short", "md5:d41d8cd98f00b204e9800998ecf8427e"])
async def test_end_6_without_a_digest_that_can_be_checked_it_is_400(peer: Peer, digest: str | None) -> None:
    location = await peer.open("app")
    params = peer.also(location, **({"digest": digest} if digest else {}))
    answer = await peer.http.put(location, params=params, content=WHOLE)
    assert (answer.status_code, peer.codes(answer)) == (400, ["DIGEST_INVALID"])


async def test_end_6_after_another_digest_the_session_still_takes_the_right_one(peer: Peer) -> None:
    location = (await peer.http.patch(await peer.open("app"), content=WHOLE)).headers["location"]
    wrong = peer.also(location, digest=peer.digest(b"other"))
    answer = await peer.http.put(location, params=wrong)
    assert (answer.status_code, peer.codes(answer)) == (400, ["DIGEST_INVALID"])
    answer = await peer.http.put(location, params=peer.also(location, digest=peer.digest(WHOLE)))
    assert answer.status_code == 201


async def test_end_6_a_closed_session_is_404(peer: Peer) -> None:
    location = await peer.open("app")
    params = peer.also(location, digest=peer.digest(WHOLE))
    assert (await peer.http.put(location, params=params, content=WHOLE)).status_code == 201
    assert (await peer.http.put(location, params=params, content=WHOLE)).status_code == 404
    assert (await peer.http.get(location)).status_code == 404


async def test_end_6_pushing_what_is_there_takes_no_more_space(peer: Peer) -> None:
    content = os.urandom(3_000_000)
    await peer.push("app", content)
    digest = await peer.push("app", content)
    assert peer.registry.storage.used == len(content)
    assert len(peer.files()) == 1
    assert (await peer.http.get(f"/v2/app/blobs/{digest}")).content == content


async def test_end_6_a_new_push_heals_a_damaged_blob(peer: Peer) -> None:
    content = os.urandom(3_000_000)
    digest = await peer.push("app", content)
    [file] = peer.files()
    file.write_bytes(b"damage")
    await peer.push("app", content)
    assert (await peer.http.get(f"/v2/app/blobs/{digest}")).content == content


async def test_end_13_the_status_tells_how_much_has_arrived(peer: Peer) -> None:
    location = await peer.open("app")
    answer = await peer.http.get(location)
    assert (answer.status_code, answer.headers["range"], answer.content) == (204, "0-0", b"")
    await peer.http.patch(location, content=FIRST)
    answer = await peer.http.get(
        location
    )  # through the stale location, as a client that lost its answer has to
    assert (answer.status_code, answer.headers["range"]) == (204, "0-5")
    answer = await peer.http.patch(answer.headers["location"], content=SECOND)
    assert answer.headers["range"] == "0-10"


async def test_end_14_delete_cancels_the_session_and_frees_its_space(peer: Peer) -> None:
    location = await peer.open("app")
    await peer.http.patch(location, content=os.urandom(3_000_000))
    assert (await peer.http.delete(location)).status_code == 204
    assert (await peer.http.get(location)).status_code == 404
    assert peer.registry.storage.used == 0
    assert peer.files() == []


async def test_an_upload_that_finds_no_room_is_507_and_frees_what_it_took(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = await peer.push("app", WHOLE)
    before = peer.files()
    location = await peer.open("app")
    monkeypatch.setattr("os.writev", full_disk)
    answer = await peer.http.patch(location, content=os.urandom(3_000_000))
    assert (answer.status_code, peer.codes(answer)) == (507, ["UNKNOWN"])
    assert peer.journal[-1].bytes_in == 3_000_000
    monkeypatch.undo()
    assert (await peer.http.get(location)).status_code == 404
    assert peer.files() == before
    assert (await peer.http.get(f"/v2/app/blobs/{kept}")).content == WHOLE
    await peer.push("app", os.urandom(3_000_000))


def full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")
