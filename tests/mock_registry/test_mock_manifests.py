from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from mock_registry.faults.profiles import NAMES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    from tests.mock_registry.conftest import OpenPeer, OpenWith, Peer

pytestmark = pytest.mark.anyio

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"


async def test_end_3_get_serves_the_very_octets_under_tag_and_digest(peer: Peer) -> None:
    await peer.push("app", b"{}")
    content = json.dumps(json.loads(peer.image()), indent=7).encode() + b"\n\n"
    digest = peer.digest(content)
    assert (await peer.put("app", "1", content)).status_code == 201
    for reference in ("1", digest):
        answer = await peer.http.get(f"/v2/app/manifests/{reference}")
        assert (answer.status_code, answer.content) == (200, content)
        assert answer.headers["content-type"] == peer.OCI_MANIFEST
        assert answer.headers["docker-content-digest"] == digest
        record = peer.journal[-1]
        assert (record.reference, record.digest, record.bytes_out) == (reference, digest, len(content))


async def test_end_3_head_tells_length_and_digest_and_sends_no_body(peer: Peer) -> None:
    content = await peer.push_image("app", "1")
    answer = await peer.http.head("/v2/app/manifests/1")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(content))
    assert answer.headers["docker-content-digest"] == peer.digest(content)


async def test_end_3_an_unknown_repository_and_an_unknown_manifest_are_told_apart(peer: Peer) -> None:
    await peer.push_image("app", "1")
    for name, code in (("nosuch", "NAME_UNKNOWN"), ("app", "MANIFEST_UNKNOWN")):
        for reference in ("2", peer.digest(b"absent")):
            answer = await peer.http.get(f"/v2/{name}/manifests/{reference}")
            assert (answer.status_code, peer.codes(answer)) == (404, [code])


async def test_end_3_a_manifest_of_another_repository_does_not_leak(peer: Peer) -> None:
    content = await peer.push_image("secret", "1")
    await peer.push("app", b"x")
    assert (await peer.http.get(f"/v2/app/manifests/{peer.digest(content)}")).status_code == 404


async def test_end_3_a_bad_digest_is_400(peer: Peer) -> None:
    answer = await peer.http.get("/v2/app/manifests/sha256:bad")
    assert (answer.status_code, peer.codes(answer)) == (400, ["DIGEST_INVALID"])


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        (None, 200),
        ("*/*", 200),
        ("application/*", 200),
        ("text/html, application/vnd.oci.image.manifest.v1+json;q=0.5", 200),
        ("APPLICATION/vnd.oci.image.manifest.v1+json", 200),
        (DOCKER_MANIFEST, 404),
        ("application/vnd.oci.image.manifest.v1+json;q=0, text/*", 404),
    ],
)
async def test_end_3_a_manifest_that_is_not_accepted_is_404(
    peer: Peer, accept: str | None, status: int
) -> None:
    await peer.push_image("app", "1")
    request = peer.http.build_request(
        "GET", "/v2/app/manifests/1", headers={"Accept": accept} if accept else {}
    )
    if accept is None:
        del request.headers["accept"]
    answer = await peer.http.send(request)
    assert answer.status_code == status
    if status == 404:
        assert peer.codes(answer) == ["MANIFEST_UNKNOWN"]


async def test_end_3_accept_may_come_in_several_lines(peer: Peer) -> None:
    await peer.push_image("app", "1")
    headers = [("Accept", DOCKER_MANIFEST), ("Accept", peer.OCI_MANIFEST)]
    assert (await peer.http.get("/v2/app/manifests/1", headers=headers)).status_code == 200


async def test_end_3_a_client_that_has_the_manifest_gets_304(peer: Peer) -> None:
    await peer.push_image("app", "1")
    etag = (await peer.http.head("/v2/app/manifests/1")).headers["etag"]
    answer = await peer.http.get("/v2/app/manifests/1", headers={"If-None-Match": etag})
    assert (answer.status_code, answer.content) == (304, b"")


async def test_end_7a_put_answers_where_to_pull_it_from(peer: Peer) -> None:
    await peer.push("app", b"{}")
    content = peer.image()
    answer = await peer.put("app", "1", content)
    assert (answer.status_code, answer.headers["docker-content-digest"]) == (201, peer.digest(content))
    assert (await peer.http.get(answer.headers["location"])).content == content
    record = peer.journal[-2]
    assert (record.reference, record.digest, record.bytes_in) == ("1", peer.digest(content), len(content))


async def test_end_7a_a_tag_moves_and_the_old_manifest_stays(peer: Peer) -> None:
    old = await peer.push_image("app", "1")
    new = await peer.push_image("app", "1", layers=[b"layer"])
    assert (await peer.http.get("/v2/app/manifests/1")).content == new
    assert (await peer.http.get(f"/v2/app/manifests/{peer.digest(old)}")).content == old


async def test_end_7a_content_type_parameters_do_not_count(peer: Peer) -> None:
    await peer.push("app", b"{}")
    answer = await peer.put("app", "1", peer.image(), f"{peer.OCI_MANIFEST}; charset=utf-8")
    assert answer.status_code == 201
    assert (await peer.http.get("/v2/app/manifests/1")).headers["content-type"] == peer.OCI_MANIFEST


async def test_end_7a_either_content_type_or_media_type_may_be_silent(peer: Peer) -> None:
    await peer.push("app", b"{}")
    assert (await peer.put("app", "1", peer.image(), None)).status_code == 201
    silent = json.loads(peer.image())
    del silent["mediaType"]
    assert (await peer.put("app", "2", json.dumps(silent).encode())).status_code == 201
    answer = await peer.put("app", "3", json.dumps(silent).encode(), None)
    assert (answer.status_code, peer.codes(answer)) == (400, ["MANIFEST_INVALID"])


BAD = {
    "no octets": b"",
    "not json": b"{",
    "not utf-8": b'{"a": "\xff"}',
    "nested without end": b"[" * 100_000,
    "a number of many digits": b'{"schemaVersion": ' + b"2" * 10_000 + b"}",
    "not a number": b'{"schemaVersion": NaN}',
    "not an object": b"[]",
    "no schema version": b"{}",
    "schema 1": b'{"schemaVersion": 1}',
    "no config": b'{"schemaVersion": 2, "layers": []}',
    "layers no list": b'{"schemaVersion": 2, "config": {}, "layers": {}}',
    "config no descriptor": b'{"schemaVersion": 2, "config": "x", "layers": []}',
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
async def test_end_7a_what_is_no_manifest_is_400(peer: Peer, content: bytes) -> None:
    answer = await peer.put("app", "1", content)
    assert (answer.status_code, peer.codes(answer)) == (400, ["MANIFEST_INVALID"])
    assert peer.registry.repositories == ()


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "sha256:short"},
        {"digest": None},
        {"size": -1},
        {"size": "2"},
        {"size": True},
        {"mediaType": ""},
        {"mediaType": 1},
    ],
)
async def test_end_7a_a_malformed_descriptor_is_400(peer: Peer, change: dict[str, Any]) -> None:
    document = json.loads(peer.image())
    document["config"] |= change
    answer = await peer.put("app", "1", json.dumps(document).encode())
    assert (answer.status_code, peer.codes(answer)) == (400, ["MANIFEST_INVALID"])


@pytest.mark.parametrize(
    "change",
    [
        {"mediaType": 1},
        {"artifactType": 1},
        {"annotations": []},
        {"subject": "x"},
        {"mediaType": "text/plain"},
    ],
)
async def test_end_7a_a_malformed_field_is_400(peer: Peer, change: dict[str, Any]) -> None:
    await peer.push("app", b"{}")
    media_type = "text/plain" if change == {"mediaType": "text/plain"} else peer.OCI_MANIFEST
    answer = await peer.put("app", "1", peer.image(**change), media_type)
    assert (answer.status_code, peer.codes(answer)) == (400, ["MANIFEST_INVALID"])


async def test_end_7a_content_type_and_media_type_must_agree(peer: Peer) -> None:
    await peer.push("app", b"{}")
    answer = await peer.put("app", "1", peer.image(), DOCKER_MANIFEST)
    assert (answer.status_code, peer.codes(answer)) == (400, ["MANIFEST_INVALID"])


@pytest.mark.parametrize("media_type", [DOCKER_MANIFEST, DOCKER_LIST])
async def test_end_7a_docker_media_types_are_kept(peer: Peer, media_type: str) -> None:
    content = await peer.push_image("app", "oci")
    parts: dict[str, Any] = {"manifests": [peer.descriptor(content, peer.OCI_MANIFEST)]}
    if media_type == DOCKER_MANIFEST:
        parts = {
            "config": peer.descriptor(b"{}", "application/vnd.docker.container.image.v1+json"),
            "layers": [],
        }
    document = json.dumps({"schemaVersion": 2, "mediaType": media_type, **parts}).encode()
    assert (await peer.put("app", "docker", document, media_type)).status_code == 201
    assert (await peer.http.get("/v2/app/manifests/docker")).headers["content-type"] == media_type


async def test_end_7a_each_missing_blob_is_named(peer: Peer) -> None:
    await peer.push("app", b"here")
    answer = await peer.put("app", "1", peer.image(b"{}", [b"here", b"one", b"two", b"one"]))
    assert (answer.status_code, peer.codes(answer)) == (400, ["MANIFEST_BLOB_UNKNOWN"] * 3)
    named = [error["detail"]["digest"] for error in answer.json()["errors"]]
    assert named == [peer.digest(each) for each in (b"{}", b"one", b"two")]


async def test_end_7a_blobs_of_another_repository_are_missing(peer: Peer) -> None:
    await peer.push("other", b"{}")
    answer = await peer.put("app", "1", peer.image())
    assert peer.codes(answer) == ["MANIFEST_BLOB_UNKNOWN"]


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ],
)
async def test_end_7a_layers_that_are_not_distributable_may_be_missing(peer: Peer, media_type: str) -> None:
    await peer.push("app", b"{}")
    document = json.loads(peer.image())
    document["layers"] = [peer.descriptor(b"elsewhere", media_type)]
    assert (await peer.put("app", "1", json.dumps(document).encode())).status_code == 201


async def test_end_7a_content_that_stands_in_its_descriptor_may_be_missing(peer: Peer) -> None:
    document = json.loads(peer.image())
    document["config"]["data"] = base64.b64encode(b"{}").decode()
    assert (await peer.put("app", "1", json.dumps(document).encode())).status_code == 201
    for data in ("bm90IGl0", "!", 1):
        document["config"]["data"] = data
        assert peer.codes(await peer.put("app", "2", json.dumps(document).encode())) == [
            "MANIFEST_BLOB_UNKNOWN"
        ]


async def test_end_7a_a_layer_that_is_only_there_as_a_manifest_is_missing(peer: Peer) -> None:
    content = await peer.push_image("app", "1")
    answer = await peer.put("app", "2", peer.image(b"{}", [content]))
    assert peer.codes(answer) == ["MANIFEST_BLOB_UNKNOWN"]


async def test_end_7a_unknown_fields_no_layers_and_equal_layers_are_taken(peer: Peer) -> None:
    await peer.push_image("app", "1", more={"anything": [1]})
    await peer.push_image("app", "2", layers=[b"twice", b"twice", b"{}", b""])


def without_entries(content: bytes, *, absent: bool) -> bytes:
    """Return a manifest whose layers, or an index whose manifests, are absent or null."""
    document = json.loads(content)
    key = "layers" if "layers" in document else "manifests"
    document[key] = None
    if absent:
        del document[key]
    return json.dumps(document).encode()


@pytest.mark.parametrize("profile", [None, *NAMES])
@pytest.mark.parametrize("absent", [True, False])
async def test_end_7a_layers_and_manifests_that_are_null_or_absent_are_empty(
    open_peer: OpenPeer, profile: str | None, *, absent: bool
) -> None:
    async with open_peer("process", profile=profile) as peer:
        image = without_entries(await peer.push_image("app", "whole"), absent=absent)
        index = without_entries(peer.index(), absent=absent)
        for reference, content, media_type in (("1", image, peer.OCI_MANIFEST), ("2", index, peer.OCI_INDEX)):
            assert (await peer.put("app", reference, content, media_type)).status_code == 201
            answer = await peer.http.get(f"/v2/app/manifests/{reference}", headers={"accept": media_type})
            assert (answer.status_code, answer.content) == (200, content)


async def test_end_12a_a_fallback_tag_without_manifests_adds_no_referrers(peer: Peer) -> None:
    subject = peer.digest(await peer.push_image("app", "1"))
    index = without_entries(peer.index(), absent=False)
    assert (await peer.put("app", subject.replace(":", "-"), index, peer.OCI_INDEX)).status_code == 201
    assert (await peer.http.get(f"/v2/app/referrers/{subject}")).json()["manifests"] == []


async def test_end_7a_an_index_of_indexes_is_taken(peer: Peer) -> None:
    inner = peer.index(await peer.push_image("app", None))
    assert (await peer.put("app", "inner", inner, peer.OCI_INDEX)).status_code == 201
    outer = json.loads(peer.index(inner))
    outer["manifests"][0]["mediaType"] = peer.OCI_INDEX
    assert (await peer.put("app", "outer", json.dumps(outer).encode(), peer.OCI_INDEX)).status_code == 201
    assert (await peer.put("app", "empty", peer.index(), peer.OCI_INDEX)).status_code == 201


async def test_end_7a_an_index_names_its_missing_children(peer: Peer) -> None:
    await peer.push("app", b"child")  # as a blob, which does not count for a manifest
    answer = await peer.put("app", "1", peer.index(b"child", b"other"), peer.OCI_INDEX)
    assert (answer.status_code, peer.codes(answer)) == (400, ["MANIFEST_BLOB_UNKNOWN"] * 2)


async def test_end_7a_an_index_may_refer_to_blobs(peer: Peer) -> None:
    await peer.push("app", b"text")
    entries = [peer.descriptor(b"text", "text/plain")]
    content = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    assert (await peer.put("app", "1", content, peer.OCI_INDEX)).status_code == 201


async def test_end_7a_with_sparse_content_allowed_nothing_is_missing(with_settings: OpenWith) -> None:
    async with with_settings(sparse=True) as peer:
        assert (await peer.put("app", "1", peer.image(b"{}", [b"absent"]))).status_code == 201


async def test_end_7a_under_another_digest_it_is_400(peer: Peer) -> None:
    await peer.push("app", b"{}")
    answer = await peer.put("app", peer.digest(b"other"), peer.image())
    assert (answer.status_code, peer.codes(answer)) == (400, ["DIGEST_INVALID"])


async def test_end_7a_under_a_sha512_digest_it_is_served_by_it(peer: Peer) -> None:
    await peer.push("app", b"{}")
    digest = peer.digest(peer.image(), "sha512")
    answer = await peer.put("app", digest, peer.image(), tag="1")
    assert (answer.status_code, answer.headers["docker-content-digest"]) == (201, digest)
    assert (await peer.http.get("/v2/app/manifests/1")).headers["docker-content-digest"] == digest


async def test_end_7a_a_manifest_of_exactly_the_limit_is_taken_and_one_octet_more_is_413(
    with_settings: OpenWith,
) -> None:
    async with with_settings(manifest_limit=4000) as peer:
        await peer.push("app", b"{}")
        content = peer.image()
        for size, status in ((4000, 201), (4001, 413)):
            padded = content + b" " * (size - len(content))
            answer = await peer.put("app", "1", padded)
            assert answer.status_code == status
            assert peer.journal[-1].bytes_in == size
        assert peer.codes(answer) == ["SIZE_INVALID"]

        async def unannounced() -> AsyncIterator[bytes]:
            yield padded[:3000]
            yield padded[3000:]

        answer = await peer.http.put("/v2/app/manifests/1", content=unannounced())
        assert answer.status_code == 413


async def test_end_7a_four_mebibytes_are_taken_by_default_and_nine_get_a_proper_413(peer: Peer) -> None:
    await peer.push("app", b"{}")
    content = peer.image()
    padded = content + b" " * ((4 << 20) - len(content))
    assert (await peer.put("app", "1", padded)).status_code == 201
    assert (await peer.put("app", "1", padded + b" " * (5 << 20))).status_code == 413


async def test_end_7b_a_push_by_digest_sets_many_tags(peer: Peer) -> None:
    await peer.push("app", b"{}")
    tags = [f"tag-{number}" for number in range(12)]
    answer = await peer.put("app", peer.digest(peer.image()), peer.image(), tag=[*tags, tags[0]])
    assert answer.status_code == 201
    assert answer.headers.get_list("oci-tag") == tags
    for tag in tags:
        assert (await peer.http.get(f"/v2/app/manifests/{tag}")).content == peer.image()


async def test_end_7b_one_bad_tag_refuses_them_all(peer: Peer) -> None:
    await peer.push("app", b"{}")
    answer = await peer.put("app", peer.digest(peer.image()), peer.image(), tag=["good", ".bad"])
    assert (answer.status_code, peer.codes(answer)) == (400, ["MANIFEST_INVALID"])
    assert (await peer.http.get("/v2/app/manifests/good")).status_code == 404


async def test_end_9_deleting_a_tag_leaves_the_manifest(peer: Peer) -> None:
    content = await peer.push_image("app", "1")
    await peer.put("app", "2", content)
    assert (await peer.http.delete("/v2/app/manifests/1")).status_code == 202
    assert (await peer.http.get("/v2/app/manifests/1")).status_code == 404
    assert (await peer.http.get("/v2/app/manifests/2")).status_code == 200
    assert (await peer.http.get(f"/v2/app/manifests/{peer.digest(content)}")).status_code == 200


async def test_end_9_deleting_a_digest_deletes_every_tag_on_it(peer: Peer) -> None:
    content = await peer.push_image("app", "1")
    await peer.put("app", "2", content)
    await peer.push_image("app", "3", layers=[b"other"])
    await peer.push_image("elsewhere", "1")
    assert (await peer.http.delete(f"/v2/app/manifests/{peer.digest(content)}")).status_code == 202
    for reference in ("1", "2", peer.digest(content)):
        assert (await peer.http.head(f"/v2/app/manifests/{reference}")).status_code == 404
    assert (await peer.http.get("/v2/app/manifests/3")).status_code == 200
    assert (await peer.http.get("/v2/elsewhere/manifests/1")).status_code == 200


async def test_end_9_what_is_absent_is_404(peer: Peer) -> None:
    answer = await peer.http.delete("/v2/nosuch/manifests/1")
    assert (answer.status_code, peer.codes(answer)) == (404, ["NAME_UNKNOWN"])
    await peer.push_image("app", "1")
    for reference in ("2", peer.digest(b"absent")):
        answer = await peer.http.delete(f"/v2/app/manifests/{reference}")
        assert (answer.status_code, peer.codes(answer)) == (404, ["MANIFEST_UNKNOWN"])


async def test_end_9_with_deletes_switched_off_it_is_405(with_settings: OpenWith) -> None:
    async with with_settings(delete=False) as peer:
        content = await peer.push_image("app", "1")
        for reference in ("1", peer.digest(content)):
            answer = await peer.http.delete(f"/v2/app/manifests/{reference}")
            assert (answer.status_code, peer.codes(answer)) == (405, ["UNSUPPORTED"])
