from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    import httpx

    from tests.mock_registry.conftest import OpenWith, Peer

pytestmark = pytest.mark.anyio

TAGS = ["10", "9", "B", "a", "b", "v1.0", "v1.0-rc", "x_y"]


async def tagged(peer: Peer, name: str = "app", tags: Sequence[str] = TAGS) -> None:
    content = await peer.push_image(name, tags[-1])
    await peer.put(name, peer.digest(content), content, tag=list(tags))


async def test_end_8a_tags_are_listed_in_ascii_order(peer: Peer) -> None:
    await tagged(peer)
    answer = await peer.http.get("/v2/app/tags/list")
    assert (answer.status_code, answer.json()) == (200, {"name": "app", "tags": sorted(TAGS)})
    assert "link" not in answer.headers


async def test_end_8a_an_unknown_repository_is_404(peer: Peer) -> None:
    answer = await peer.http.get("/v2/nosuch/tags/list")
    assert (answer.status_code, peer.codes(answer)) == (404, ["NAME_UNKNOWN"])


async def test_end_8a_a_repository_of_blobs_has_an_empty_list(peer: Peer) -> None:
    await peer.push("app", b"x")
    assert (await peer.http.get("/v2/app/tags/list")).json() == {"name": "app", "tags": []}


async def test_end_8a_after_its_last_tag_a_repository_has_an_empty_list(peer: Peer) -> None:
    await peer.push_image("app", "1")
    await peer.http.delete("/v2/app/manifests/1")
    assert (await peer.http.get("/v2/app/tags/list")).json()["tags"] == []


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
async def test_end_8b_pages_lead_through_all_tags_by_their_links(peer: Peer, count: int) -> None:
    await tagged(peer)
    found: list[str] = []
    url: str | None = f"/v2/app/tags/list?n={count}"
    while url:
        answer = await peer.http.get(url)
        page = answer.json()["tags"]
        assert 0 < len(page) <= count
        found += page
        url = answer.links["next"]["url"] if "next" in answer.links else None
        assert (len(found) < len(TAGS)) == (url is not None)
    assert found == sorted(TAGS)


async def test_end_8b_last_is_exclusive_and_need_not_exist(peer: Peer) -> None:
    await tagged(peer)
    expected = {"a": ["b", "v1.0"], "aa": ["b", "v1.0"], "zzz": [], "": ["10", "9"]}
    for last, tags in expected.items():
        answer = await peer.http.get("/v2/app/tags/list", params={"n": 2, "last": last})
        assert answer.json()["tags"] == tags


async def test_end_8b_last_may_come_without_n(peer: Peer) -> None:
    await tagged(peer)
    answer = await peer.http.get("/v2/app/tags/list?last=v1.0")
    assert answer.json()["tags"] == ["v1.0-rc", "x_y"]


async def test_end_8b_n_of_0_is_an_empty_list_without_a_link(peer: Peer) -> None:
    await tagged(peer)
    answer = await peer.http.get("/v2/app/tags/list?n=0")
    assert (answer.status_code, answer.json()["tags"]) == (200, [])
    assert "link" not in answer.headers


async def test_end_8b_n_may_have_any_number_of_zeros_before_it(peer: Peer) -> None:
    await tagged(peer)
    answer = await peer.http.get(f"/v2/app/tags/list?n={'0' * 5_000}2")
    assert (answer.status_code, len(answer.json()["tags"])) == (200, 2)


@pytest.mark.parametrize("count", ["-1", "abc", "", "1.5", "%C2%B2", "+1"])
async def test_end_8b_n_that_is_no_number_from_0_is_400(peer: Peer, count: str) -> None:
    await tagged(peer)
    answer = await peer.http.get(f"/v2/app/tags/list?n={count}")
    assert (answer.status_code, peer.codes(answer)) == (400, ["UNSUPPORTED"])


@pytest.mark.parametrize("count", ["8", "100000", "9" * 5000])
async def test_end_8b_n_beyond_the_tags_gets_them_all_without_a_link(peer: Peer, count: str) -> None:
    await tagged(peer)
    answer = await peer.http.get(f"/v2/app/tags/list?n={count}")
    assert answer.json()["tags"] == sorted(TAGS)
    assert "link" not in answer.headers


async def test_the_catalog_lists_repositories_in_pages(peer: Peer) -> None:
    for name in ("b", "a/b", "a"):
        await peer.push(name, b"x")
    assert (await peer.http.get("/v2/_catalog")).json() == {"repositories": ["a", "a/b", "b"]}
    answer = await peer.http.get("/v2/_catalog?n=1&last=a")
    assert answer.json() == {"repositories": ["a/b"]}
    assert answer.links["next"]["url"] == "/v2/_catalog?n=1&last=a%2Fb"
    assert peer.registry.repositories == ("a", "a/b", "b")


async def refer(peer: Peer, subject: bytes, name: str = "app", **more: Any) -> bytes:
    descriptor = peer.descriptor(subject, peer.OCI_MANIFEST)
    return await peer.push_image(name, None, subject=descriptor, **more)


async def referrers(
    peer: Peer, subject: bytes, name: str = "app", **query: str
) -> tuple[httpx.Response, list[dict[str, Any]]]:
    answer = await peer.http.get(f"/v2/{name}/referrers/{peer.digest(subject)}", params=query)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == peer.OCI_INDEX
    index = answer.json()
    assert (index["schemaVersion"], index["mediaType"]) == (2, peer.OCI_INDEX)
    return answer, index["manifests"]


async def test_end_12a_referrers_are_listed_with_type_and_annotations(peer: Peer) -> None:
    subject = await peer.push_image("app", "1")
    signature = await refer(peer, subject, artifactType="application/signature", annotations={"by": "me"})
    plain = await refer(peer, subject, layers=[b"sbom"])
    index = peer.index(subject=peer.descriptor(subject, peer.OCI_MANIFEST))
    await peer.put("app", peer.digest(index), index, peer.OCI_INDEX)
    _, found = await referrers(peer, subject)
    config_type = "application/vnd.oci.image.config.v1+json"
    assert found == [
        peer.descriptor(
            signature, peer.OCI_MANIFEST, artifactType="application/signature", annotations={"by": "me"}
        ),
        peer.descriptor(plain, peer.OCI_MANIFEST, artifactType=config_type),
        peer.descriptor(index, peer.OCI_INDEX),
    ]


async def test_end_12a_a_push_with_a_subject_says_so(peer: Peer) -> None:
    await peer.push("app", b"{}")
    subject = b"a manifest that is not there yet"
    content = peer.image(subject=peer.descriptor(subject, peer.OCI_MANIFEST))
    for reference in ("1", peer.digest(content)):
        answer = await peer.put("app", reference, content)
        assert (answer.status_code, answer.headers["oci-subject"]) == (201, peer.digest(subject))
    assert len((await referrers(peer, subject))[1]) == 1


async def test_end_12a_an_unknown_subject_or_repository_has_an_empty_list(peer: Peer) -> None:
    await peer.push("app", b"x")
    for name in ("app", "nosuch"):
        assert (await referrers(peer, b"unknown", name))[1] == []


async def test_end_12a_a_bad_digest_is_400(peer: Peer) -> None:
    answer = await peer.http.get("/v2/app/referrers/sha256:bad")
    assert (answer.status_code, peer.codes(answer)) == (400, ["DIGEST_INVALID"])


async def test_end_12a_a_deleted_referrer_leaves_the_list_and_a_deleted_subject_does_not_empty_it(
    peer: Peer,
) -> None:
    subject = await peer.push_image("app", "1")
    one, two = await refer(peer, subject), await refer(peer, subject, layers=[b"two"])
    await peer.http.delete(f"/v2/app/manifests/{peer.digest(one)}")
    await peer.http.delete(f"/v2/app/manifests/{peer.digest(subject)}")
    _, found = await referrers(peer, subject)
    assert [each["digest"] for each in found] == [peer.digest(two)]


async def test_end_12a_referrers_of_another_repository_do_not_leak(peer: Peer) -> None:
    subject = await peer.push_image("secret", "1")
    await refer(peer, subject, "secret")
    await peer.push("app", b"x")
    assert (await referrers(peer, subject))[1] == []


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_end_12a_what_an_older_client_kept_under_the_fallback_tag_is_listed_too(
    peer: Peer, algorithm: str
) -> None:
    subject = b"subject"
    old, new = await peer.push_image("app", None, artifactType="old"), peer.image(artifactType="new")
    index = peer.index(old, old)
    tag = peer.digest(subject, algorithm).replace(":", "-")[: len(algorithm) + 65]
    assert (await peer.put("app", tag, index, peer.OCI_INDEX)).status_code == 201
    descriptor = peer.descriptor(subject, peer.OCI_MANIFEST) | {"digest": peer.digest(subject, algorithm)}
    new = await peer.push_image("app", None, subject=descriptor)
    answer = await peer.http.get(f"/v2/app/referrers/{peer.digest(subject, algorithm)}")
    assert [each["digest"] for each in answer.json()["manifests"]] == [peer.digest(new), peer.digest(old)]


async def test_end_12a_a_list_that_does_not_fit_comes_in_pages(with_settings: OpenWith) -> None:
    async with with_settings(manifest_limit=4096) as peer:
        subject = await peer.push_image("app", "1")
        kinds: dict[str, Any] = {"annotations": {"text": "x" * 500}, "artifactType": "a/b+c"}
        pushed = [peer.digest(await refer(peer, subject, layers=[bytes([n])], **kinds)) for n in range(12)]
        found: list[str] = []
        url: str | None = f"/v2/app/referrers/{peer.digest(subject)}?artifactType=a%2Fb%2Bc"
        pages = 0
        while url:
            answer = await peer.http.get(url)
            assert len(answer.content) <= 4096
            found += [each["digest"] for each in answer.json()["manifests"]]
            url = answer.links["next"]["url"] if "next" in answer.links else None
            pages += 1
        assert (found, pages > 1) == (pushed, True)


async def test_end_12b_a_filter_is_applied_and_said_to_be(peer: Peer) -> None:
    subject = await peer.push_image("app", "1")
    wanted = await refer(peer, subject, artifactType="application/a+json")
    await refer(peer, subject, artifactType="application/b")
    answer, found = await referrers(peer, subject, artifactType="application/a+json")
    assert [each["digest"] for each in found] == [peer.digest(wanted)]
    assert answer.headers["oci-filters-applied"] == "artifactType"
    answer, found = await referrers(peer, subject)
    assert (len(found), "oci-filters-applied" in answer.headers) == (2, False)


async def test_lists_answer_head_without_a_body(peer: Peer) -> None:
    await peer.push_image("app", "1")
    for path in ("/v2/app/tags/list", "/v2/_catalog", f"/v2/app/referrers/{peer.digest(b'')}", "/v2/"):
        got, head = await peer.http.get(path), await peer.http.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(got.content))
        assert json.loads(got.content) is not None
