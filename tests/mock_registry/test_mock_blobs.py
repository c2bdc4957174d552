from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.mock_registry.conftest import OpenWith, Peer

pytestmark = pytest.mark.anyio

CONTENT = bytes(range(256)) * 8  # 2048 octets, each telling its place
LARGE = os.urandom(3 << 20)


async def test_end_1_base_answers_that_this_is_a_registry(peer: Peer) -> None:
    for path in ("/v2/", "/v2"):
        answer = await peer.http.get(path)
        assert (answer.status_code, answer.json()) == (200, {})
        assert answer.headers["docker-distribution-api-version"] == "registry/2.0"


async def test_end_2_get_serves_the_octets_that_were_pushed(peer: Peer) -> None:
    digest = await peer.push("app", CONTENT)
    answer = await peer.http.get(f"/v2/app/blobs/{digest}")
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["docker-content-digest"] == digest
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == "2048"
    assert answer.headers["accept-ranges"] == "bytes"
    record = peer.journal[-1]
    assert (record.route, record.digest, record.bytes_out, record.complete) == ("blob", digest, 2048, True)


async def test_end_2_get_serves_a_large_blob_from_its_spool_file(peer: Peer) -> None:
    digest = await peer.push("app", LARGE)
    assert (await peer.http.get(f"/v2/app/blobs/{digest}")).content == LARGE
    assert peer.journal[-1].bytes_out == len(LARGE)
    assert len(peer.files()) == 1


async def test_end_2_head_tells_the_length_and_sends_no_body(peer: Peer) -> None:
    digest = await peer.push("app", CONTENT)
    answer = await peer.http.head(f"/v2/app/blobs/{digest}")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == "2048"
    assert answer.headers["docker-content-digest"] == digest
    assert [(r.digest, r.bytes_out) for r in peer.journal.heads("app")] == [(digest, 0)]


async def test_end_2_a_blob_of_no_octets_is_a_blob(peer: Peer) -> None:
    digest = await peer.push("app", b"")
    answer = await peer.http.get(f"/v2/app/blobs/{digest}")
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_end_2_an_absent_blob_is_404(peer: Peer, method: str) -> None:
    answer = await peer.http.request(method, f"/v2/app/blobs/{peer.digest(b'absent')}")
    assert answer.status_code == 404
    if method == "GET":
        assert peer.codes(answer) == ["BLOB_UNKNOWN"]
    else:
        assert answer.content == b""


@pytest.mark.parametrize("digest", ["sha256:short", "md5:" + "0" * 32, "sha256:" + "A" * 64, "latest", ""])
async def test_end_2_a_bad_digest_is_400(peer: Peer, digest: str) -> None:
    answer = await peer.http.get(f"/v2/app/blobs/{digest}")
    assert (answer.status_code, peer.codes(answer)) == (400, ["DIGEST_INVALID"])


async def test_end_2_a_blob_of_another_repository_does_not_leak(peer: Peer) -> None:
    digest = await peer.push("secret", CONTENT)
    for method in ("GET", "HEAD", "DELETE"):
        answer = await peer.http.request(method, f"/v2/app/blobs/{digest}")
        assert answer.status_code == 404
    assert peer.journal.bytes_out(repository="app", method="GET") > 0  # the error, not the blob
    assert (await peer.http.get(f"/v2/secret/blobs/{digest}")).content == CONTENT


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        ("bytes=500-1499", 500, 1499),
        ("bytes=500-", 500, 2047),
        ("bytes=-500", 1548, 2047),
        ("bytes=2000-5000", 2000, 2047),
        ("bytes=-5000", 0, 2047),
        ("bytes=0-0", 0, 0),
        ("Bytes=2047-2047", 2047, 2047),
    ],
)
async def test_end_2_a_range_is_served_as_206(peer: Peer, header: str, first: int, last: int) -> None:
    digest = await peer.push("app", CONTENT)
    answer = await peer.http.get(f"/v2/app/blobs/{digest}", headers={"Range": header})
    assert (answer.status_code, answer.content) == (206, CONTENT[first : last + 1])
    assert answer.headers["content-range"] == f"bytes {first}-{last}/2048"
    assert answer.headers["content-length"] == str(last + 1 - first)
    assert peer.journal[-1].bytes_out == last + 1 - first


async def test_end_2_a_range_of_a_spooled_blob_is_served_from_the_middle_of_its_file(peer: Peer) -> None:
    digest = await peer.push("app", LARGE)
    answer = await peer.http.get(f"/v2/app/blobs/{digest}", headers={"Range": "bytes=1000001-2500000"})
    assert (answer.status_code, answer.content) == (206, LARGE[1000001:2500001])


@pytest.mark.parametrize(
    "header", ["bytes=500-0", "bytes=5000-10000", "bytes=2048-", "bytes=-0", "bytes=-", "bytes=x-y"]
)
async def test_end_2_a_range_that_cannot_be_served_is_416(peer: Peer, header: str) -> None:
    digest = await peer.push("app", CONTENT)
    answer = await peer.http.get(f"/v2/app/blobs/{digest}", headers={"Range": header})
    assert (answer.status_code, peer.codes(answer)) == (416, ["SIZE_INVALID"])
    assert answer.headers["content-range"] == "bytes */2048"


@pytest.mark.parametrize("header", ["lines=0-1", "bytes=0-1,4-5"])
async def test_end_2_another_unit_or_several_ranges_get_the_whole_blob(peer: Peer, header: str) -> None:
    digest = await peer.push("app", CONTENT)
    answer = await peer.http.get(f"/v2/app/blobs/{digest}", headers={"Range": header})
    assert (answer.status_code, answer.content) == (200, CONTENT)


async def test_end_2_any_range_of_an_empty_blob_is_416(peer: Peer) -> None:
    digest = await peer.push("app", b"")
    for header in ("bytes=0-0", "bytes=-1"):
        answer = await peer.http.get(f"/v2/app/blobs/{digest}", headers={"Range": header})
        assert answer.status_code == 416


async def test_end_2_if_range_decides_whether_the_range_counts(peer: Peer) -> None:
    digest = await peer.push("app", CONTENT)
    for tag, status in ((f'"{digest}"', 206), ('"other"', 200)):
        headers = {"Range": "bytes=0-9", "If-Range": tag}
        assert (await peer.http.get(f"/v2/app/blobs/{digest}", headers=headers)).status_code == status


async def test_end_2_a_client_that_has_the_blob_gets_304(peer: Peer) -> None:
    digest = await peer.push("app", CONTENT)
    etag = (await peer.http.head(f"/v2/app/blobs/{digest}")).headers["etag"]
    answer = await peer.http.get(f"/v2/app/blobs/{digest}", headers={"If-None-Match": f'"x", W/{etag}'})
    assert (answer.status_code, answer.content) == (304, b"")
    assert peer.journal[-1].bytes_out == 0


async def test_end_2_sha512_blobs_are_served_under_their_own_digest(peer: Peer) -> None:
    digest = await peer.push("app", CONTENT, "sha512")
    answer = await peer.http.get(f"/v2/app/blobs/{digest}")
    assert (
        answer.headers["docker-content-digest"] == digest == f"sha512:{hashlib.sha512(CONTENT).hexdigest()}"
    )


async def test_end_10_delete_removes_the_blob_from_its_repository_alone(peer: Peer) -> None:
    digest = await peer.push("app", LARGE)
    await peer.push("other", LARGE)
    assert (await peer.http.delete(f"/v2/app/blobs/{digest}")).status_code == 202
    assert (await peer.http.get(f"/v2/app/blobs/{digest}")).status_code == 404
    assert (await peer.http.get(f"/v2/other/blobs/{digest}")).content == LARGE


async def test_end_10_the_last_delete_frees_the_space(peer: Peer) -> None:
    digest = await peer.push("app", LARGE)
    await peer.http.delete(f"/v2/app/blobs/{digest}")
    assert peer.registry.storage.used == 0
    assert peer.files() == []


async def test_end_10_delete_of_an_absent_blob_is_404(peer: Peer) -> None:
    answer = await peer.http.delete(f"/v2/app/blobs/{peer.digest(b'absent')}")
    assert (answer.status_code, peer.codes(answer)) == (404, ["BLOB_UNKNOWN"])


async def test_end_10_a_blob_that_a_manifest_needs_can_be_deleted(peer: Peer) -> None:
    await peer.push_image("app", "1", layers=[CONTENT])
    assert (await peer.http.delete(f"/v2/app/blobs/{peer.digest(CONTENT)}")).status_code == 202
    assert (await peer.http.get("/v2/app/manifests/1")).status_code == 200


async def test_end_10_with_deletes_switched_off_it_is_405(with_settings: OpenWith) -> None:
    async with with_settings(delete=False) as peer:
        digest = await peer.push("app", CONTENT)
        answer = await peer.http.delete(f"/v2/app/blobs/{digest}")
        assert (answer.status_code, peer.codes(answer)) == (405, ["UNSUPPORTED"])
        assert (await peer.http.get(f"/v2/app/blobs/{digest}")).status_code == 200
