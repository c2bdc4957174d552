from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import httpx

    from tests.mock_registry.conftest import Peer

pytestmark = pytest.mark.anyio

NAMES = [
    "UPPER",
    "app/",
    "/app",
    "a//b",
    "-app",
    "app-",
    "a..b",
    "a___b",
    "a%2fb",
    "a%2Fb",
    "%2e%2e",
    "a%00b",
    "a%20b",
    "a%0d%0ab",
    "a%C3%A9b",
    "a%ff",
    "%",
    "a%zz",
    "a:b",
    "a@b",
    "a+b",
    "a%5Cb",
    "x" * 256,
    "x/" * 127 + "xx",
    "%61%2f%62",
]
DIGEST = "sha256:" + "0" * 64
PATHS = [
    ("GET", f"blobs/{DIGEST}"),
    ("DELETE", f"blobs/{DIGEST}"),
    ("GET", "manifests/latest"),
    ("PUT", "manifests/latest"),
    ("GET", "tags/list"),
    ("POST", "blobs/uploads/"),
    ("PATCH", "blobs/uploads/x"),
    ("GET", f"referrers/{DIGEST}"),
]


async def send(peer: Peer, method: str, path: str) -> httpx.Response:
    """Send a path as it stands: httpx would clean it."""
    request = peer.http.build_request(method, "/")
    request.url = request.url.copy_with(raw_path=path.encode())
    return await peer.http.send(request)


@pytest.mark.parametrize("name", NAMES)
async def test_a_bad_name_is_400_on_every_endpoint_and_makes_nothing(peer: Peer, name: str) -> None:
    for method, path in PATHS:
        answer = await send(peer, method, f"/v2/{name}/{path}")
        assert (answer.status_code, peer.codes(answer)) == (400, ["NAME_INVALID"])
        assert peer.journal[-1].repository is None
        assert peer.journal[-1].target == f"/v2/{name}/{path}"
    assert peer.registry.repositories == ()
    assert peer.registry.state.sessions == {}


@pytest.mark.parametrize(
    "name",
    ["a", "0", "a.b", "a_b", "a__b", "a-b", "a--b", "a---b", "a/b/c/d", "blobs", "a/blobs/uploads",
     "manifests/tags", "x" * 255, "uploads", "v2", "a/tags/list/b", "%61pp"],
)  # fmt: skip
async def test_a_good_name_is_taken_even_if_it_reads_like_a_path(peer: Peer, name: str) -> None:
    answer = await send(peer, "POST", f"/v2/{name}/blobs/uploads/")
    assert answer.status_code == 202
    assert peer.journal[-1].repository == name.replace("%61", "a")
    location = answer.headers["location"]
    digest = peer.digest(b"x")
    answer = await peer.http.put(location, params=peer.also(location, digest=digest), content=b"x")
    assert answer.status_code == 201
    assert (await peer.http.get(answer.headers["location"])).content == b"x"


TAGS_REFUSED = [".bad", "-bad", "a" * 129, "a%20b", "a%2fb", "a%00", "%2e%2e", "a+b", "%C3%A9", "%", ""]


@pytest.mark.parametrize("tag", TAGS_REFUSED)
async def test_end_7a_a_bad_tag_is_400_on_put_and_404_on_get(peer: Peer, tag: str) -> None:
    await peer.push("app", b"{}")
    request = peer.http.build_request(
        "PUT", "/", content=peer.image(), headers={"Content-Type": peer.OCI_MANIFEST}
    )
    request.url = request.url.copy_with(raw_path=f"/v2/app/manifests/{tag}".encode())
    answer = await peer.http.send(request)
    assert (answer.status_code, peer.codes(answer)) == (400, ["MANIFEST_INVALID"])
    for method in ("GET", "DELETE"):
        answer = await send(peer, method, f"/v2/app/manifests/{tag}")
        assert answer.status_code == 404


@pytest.mark.parametrize("tag", ["a" * 128, "_", "A.b-C_d", "1", "a%2Db"])
async def test_end_7a_a_good_tag_is_taken(peer: Peer, tag: str) -> None:
    await peer.push("app", b"{}")
    answer = await peer.put("app", tag, peer.image())
    assert answer.status_code == 201
    tags = (await peer.http.get("/v2/app/tags/list")).json()["tags"]
    assert tags == [tag.replace("%2D", "-")]


async def test_a_digest_may_come_with_an_escaped_colon(peer: Peer) -> None:
    digest = await peer.push("app", b"x")
    answer = await send(peer, "GET", f"/v2/app/blobs/{digest.replace(':', '%3A')}")
    assert answer.content == b"x"


@pytest.mark.parametrize(
    "path",
    ["/x", "/v1/", "/v3/", "/v2/x", "/v2/x/y/z", "/v2/tags/list", "/v2//", "/v2/_catalog/",
     "/v2/_oci/ext/discover", "/v2/a/tags/list/", "/v2/a/blobs", "/v2/a/manifests", "//v2/",
     "/v2/a/blobs/uploads/x/y", "/%76%32/x"],
)  # fmt: skip
async def test_a_path_that_is_no_endpoint_is_404(peer: Peer, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        answer = await send(peer, method, path)
        assert (answer.status_code, peer.codes(answer)) == (404, ["UNSUPPORTED"])
        assert peer.journal[-1].route == "other"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/v2/", "GET, HEAD"),
        ("PUT", "/v2/app/tags/list", "GET, HEAD"),
        ("POST", "/v2/_catalog", "GET, HEAD"),
        ("PATCH", "/v2/app/manifests/1", "GET, HEAD, PUT, DELETE"),
        ("PUT", f"/v2/app/blobs/{DIGEST}", "GET, HEAD, DELETE"),
        ("GET", "/v2/app/blobs/uploads/", "POST"),
        ("POST", "/v2/app/blobs/uploads/x", "GET, HEAD, PATCH, PUT, DELETE"),
        ("DELETE", f"/v2/app/referrers/{DIGEST}", "GET, HEAD"),
        ("PROPFIND", "/v2/", "GET, HEAD"),
        ("OPTIONS", "/v2/", "GET, HEAD"),
    ],
)
async def test_another_method_is_405_and_told_which_are_allowed(
    peer: Peer, method: str, path: str, allow: str
) -> None:
    answer = await peer.http.request(method, path, content=b"some body")
    assert (answer.status_code, peer.codes(answer)) == (405, ["UNSUPPORTED"])
    assert answer.headers["allow"] == allow
    assert (peer.journal[-1].bytes_in, peer.journal[-1].complete) == (9, True)


async def test_a_body_on_a_get_is_read_counted_and_ignored(peer: Peer) -> None:
    digest = await peer.push("app", b"content")
    answer = await peer.http.request("GET", f"/v2/app/blobs/{digest}", content=b"why?")
    assert (answer.status_code, answer.content) == (200, b"content")
    assert (peer.journal[-1].bytes_in, peer.journal[-1].bytes_out) == (4, 7)


async def test_a_refused_body_is_read_and_counted_so_that_the_answer_arrives(peer: Peer) -> None:
    answer = await peer.http.patch("/v2/app/blobs/uploads/nosuch", content=b"x" * 5_000_000)
    assert answer.status_code == 404
    assert (peer.journal[-1].bytes_in, peer.journal[-1].complete) == (5_000_000, True)


async def test_odd_query_strings_are_no_trouble(peer: Peer) -> None:
    await peer.push_image("app", "1")
    for query in ("", "?", "&&&", "=", "a=%ff%00", "n=1&n=2", "ns=docker.io", "x" * 5000):
        answer = await send(peer, "GET", f"/v2/app/manifests/1?{query}")
        assert answer.status_code == 200
