"""Who may do what, and what those who may not learn from being told so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from mock_registry.access import Action
from mock_registry.auth import BasicAuth, Right
from mock_registry.auth.base import Rights

if TYPE_CHECKING:
    from tests.mock_registry.conftest import OpenWith, Peer

USERS = {"admin": "a", "dev": "d", "bot": "b"}
RIGHTS = [
    Right("admin"),
    Right("dev", "team/*", "pull,push"),
    Right("bot", "team/*", "push"),
    Right("*", "shared", "pull"),
    Right(None, "public/**", "pull"),
]
REPOSITORIES = ("public/base", "secret", "shared", "team/api")


def as_user(name: str) -> tuple[str, str]:
    return name, USERS[name]


async def fill(peer: Peer) -> bytes:
    """Push the same image everywhere, and return its one layer."""
    peer.http.auth = ("admin", "a")
    for name in REPOSITORIES:
        await peer.push_image(name, "v1", layers=[b"a layer"])
    peer.http.auth = httpx.Auth()
    return b"a layer"


def shape(answer: httpx.Response) -> tuple[int, str, bytes, list[str]]:
    """Return all that a client can tell two refusals apart by, but for the repository's name."""
    headers = sorted(name for name in answer.headers if name != "date")
    name = answer.request.url.path.split("/")[2]
    challenge = answer.headers.get("www-authenticate", "").replace(name, "NAME")
    return answer.status_code, challenge, answer.content.replace(name.encode(), b"NAME"), headers


@pytest.mark.parametrize(
    ("pattern", "names", "others"),
    [
        ("app", ["app"], ["apps", "a/app", "app/a"]),
        ("shop/*", ["shop/a", "shop/a.b"], ["shop", "shop/a/b", "shops/a"]),
        ("shop/**", ["shop/a", "shop/a/b"], ["shop", "workshop/a"]),
        ("**", ["a", "a/b"], []),
        ("*/api", ["a/api"], ["a/b/api", "api"]),
        ("team-*/a.b", ["team-x/a.b"], ["team-x/axb"]),
    ],
)
def test_a_pattern_means_one_component_with_a_star_and_any_number_with_two(
    pattern: str, names: list[str], others: list[str]
) -> None:
    rights = Rights([Right("u", pattern, "pull")])
    assert [name for name in names if not rights.allow("u", Action.PULL, name)] == []
    assert [name for name in others if rights.allow("u", Action.PULL, name)] == []


def test_a_right_is_for_a_name_for_all_who_have_one_or_for_everyone() -> None:
    rights = Rights([Right("ci", "a"), Right("*", "b"), Right(None, "c")])
    seen = {
        user: "".join(name for name in "abc" if rights.allow(user, Action.PULL, name))
        for user in ("ci", "other", "*", None)
    }
    assert seen == {"ci": "abc", "other": "bc", "*": "bc", None: "c"}


def test_without_rights_all_who_log_in_do_everything_and_others_nothing() -> None:
    rights = Rights(None)
    assert all(rights.allow("ci", action, "any/name") for action in Action)
    assert not any(rights.allow(None, action, "any/name") for action in Action)
    assert not rights.anonymous
    assert Rights([]).allow("ci", Action.PULL, "a") is False


def test_an_action_that_there_is_not_is_an_error() -> None:
    with pytest.raises(ValueError, match="actions are pull,push,delete, not 'write'"):
        Rights([Right("ci", "**", "write")])


@pytest.mark.anyio
async def test_each_may_do_what_the_rights_say_and_nothing_else(with_settings: OpenWith) -> None:
    async with with_settings(auth=BasicAuth(USERS, rights=RIGHTS)) as peer:
        layer = await fill(peer)
        blob = f"blobs/{peer.digest(layer)}"
        expected = {
            ("dev", "GET", "team/api/tags/list"): 200,
            ("dev", "GET", f"team/api/{blob}"): 200,
            ("dev", "POST", "team/api/blobs/uploads/"): 202,
            ("dev", "DELETE", "team/api/manifests/v1"): 403,
            ("dev", "GET", "shared/manifests/v1"): 200,
            ("dev", "PUT", "shared/manifests/v1"): 403,
            ("dev", "GET", "secret/manifests/v1"): 403,
            ("dev", "GET", f"secret/referrers/{peer.digest(layer)}"): 403,
            ("bot", "POST", "team/api/blobs/uploads/"): 202,
            ("bot", "GET", "team/api/manifests/v1"): 403,
            ("bot", "HEAD", f"team/api/{blob}"): 403,
            ("admin", "DELETE", "secret/manifests/v1"): 202,
        }
        got = {}
        for user, method, path in expected:
            answer = await peer.http.request(method, f"/v2/{path}", auth=as_user(user))
            got[user, method, path] = answer.status_code
            assert peer.journal[-1].user == user
        assert got == expected
        assert (await peer.http.get("/v2/public/base/manifests/v1")).status_code == 200
        assert (await peer.http.get("/v2/shared/manifests/v1")).status_code == 401


@pytest.mark.anyio
async def test_an_upload_is_continued_asked_about_and_cancelled_with_the_right_to_push(
    with_settings: OpenWith,
) -> None:
    async with with_settings(auth=BasicAuth(USERS, rights=RIGHTS)) as peer:
        peer.http.auth = ("bot", "b")
        location = await peer.open("team/api")
        assert (await peer.http.patch(location, content=b"some")).status_code == 202
        location = f"/v2/team/api/blobs/uploads/{peer.journal[-1].session}"
        assert (await peer.http.get(location)).status_code == 204
        assert (await peer.http.get(location, auth=None)).status_code == 401
        assert (await peer.http.delete(location)).status_code == 204


@pytest.mark.anyio
async def test_cancelling_an_upload_can_take_the_right_to_delete_as_in_distribution(
    with_settings: OpenWith,
) -> None:
    async with with_settings(auth=BasicAuth(USERS, rights=RIGHTS, cancel_needs_delete=True)) as peer:
        peer.http.auth = ("dev", "d")
        location = await peer.open("team/api")
        assert (await peer.http.delete(location)).status_code == 403
        assert (await peer.http.delete(location, auth=as_user("admin"))).status_code == 204


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("denial", "status", "code"),
    [(401, 401, "UNAUTHORIZED"), (403, 403, "DENIED"), (404, 404, "NAME_UNKNOWN")],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_a_repository_that_may_not_be_read_looks_as_if_it_were_not_there(
    with_settings: OpenWith, denial: int, status: int, code: str, method: str
) -> None:
    async with with_settings(auth=BasicAuth(USERS, rights=RIGHTS, denial=denial)) as peer:
        await fill(peer)
        for who in (None, as_user("dev")):
            there = await peer.http.request(method, "/v2/secret/manifests/v1", auth=who)
            absent = await peer.http.request(method, "/v2/absent/manifests/v1", auth=who)
            assert shape(there) == shape(absent)
        assert there.status_code == status
        if method != "HEAD":
            assert peer.codes(there) == [code]


@pytest.mark.anyio
async def test_a_repository_that_may_be_read_is_no_secret_to_who_may_not_write_it(
    with_settings: OpenWith,
) -> None:
    async with with_settings(auth=BasicAuth(USERS, rights=RIGHTS, denial=404)) as peer:
        await fill(peer)
        answer = await peer.http.put("/v2/shared/manifests/v2", auth=as_user("dev"))
        assert (answer.status_code, peer.codes(answer)) == (403, ["DENIED"])


@pytest.mark.anyio
async def test_the_catalog_shows_what_may_be_read(with_settings: OpenWith) -> None:
    async with with_settings(auth=BasicAuth(USERS, rights=RIGHTS)) as peer:
        await fill(peer)
        shown = {}
        for user in USERS:
            answer = await peer.http.get("/v2/_catalog", auth=as_user(user))
            shown[user] = answer.json()["repositories"]
        assert shown["admin"] == ["public/base", "secret", "shared", "team/api"]
        assert shown["dev"] == ["public/base", "shared", "team/api"]
        assert shown["bot"] == ["public/base", "shared"]
        assert (await peer.http.get("/v2/_catalog")).json()["repositories"] == ["public/base"]


@pytest.mark.anyio
async def test_pages_of_the_catalog_are_of_what_may_be_read(with_settings: OpenWith) -> None:
    async with with_settings(auth=BasicAuth(USERS, rights=RIGHTS)) as peer:
        await fill(peer)
        found, url = [], "/v2/_catalog?n=1"
        while url:
            answer = await peer.http.get(url, auth=as_user("dev"))
            found += answer.json()["repositories"]
            assert "secret" not in answer.headers.get("link", "")
            url = answer.links["next"]["url"] if answer.links else ""
        assert found == ["public/base", "shared", "team/api"]


@pytest.mark.anyio
async def test_end_11_a_mount_from_what_may_not_be_read_opens_a_session_and_tells_nothing(
    with_settings: OpenWith,
) -> None:
    async with with_settings(auth=BasicAuth(USERS, rights=RIGHTS)) as peer:
        layer = await fill(peer)
        peer.http.auth = ("dev", "d")
        shapes = []
        for source, content in [("secret", layer), ("secret", b"absent"), ("absent", layer)]:
            answer = await peer.http.post(
                "/v2/team/new/blobs/uploads/", params={"mount": peer.digest(content), "from": source}
            )
            shapes.append((answer.status_code, sorted(answer.headers), answer.content))
            assert peer.journal[-1].mounted_from is None
        assert {status for status, _, _ in shapes} == {202}
        assert shapes[1:] == shapes[:-1]
        params = {"mount": peer.digest(layer), "from": "shared"}
        assert (await peer.http.post("/v2/team/new/blobs/uploads/", params=params)).status_code == 201
        assert peer.journal[-1].mounted_from == "shared"


@pytest.mark.anyio
async def test_an_anonymous_mount_links_only_what_may_be_read(with_settings: OpenWith) -> None:
    async with with_settings(auth=BasicAuth(USERS, rights=RIGHTS), anonymous_mount=True) as peer:
        peer.http.auth = ("admin", "a")
        hidden, open_ = await peer.push("secret", b"hidden"), await peer.push("public/base", b"open")
        peer.http.auth = ("dev", "d")
        for digest, status in ((hidden, 202), (open_, 201)):
            answer = await peer.http.post("/v2/team/new/blobs/uploads/", params={"mount": digest})
            assert answer.status_code == status
        assert peer.journal[-1].mounted_from == "public/base"


@pytest.mark.anyio
async def test_a_manifest_cannot_borrow_what_only_a_hidden_repository_holds(
    with_settings: OpenWith,
) -> None:
    async with with_settings(auth=BasicAuth(USERS, rights=RIGHTS)) as peer:
        layer = await fill(peer)
        peer.http.auth = ("dev", "d")
        await peer.push("team/new", b"{}")
        answer = await peer.put("team/new", "v1", peer.image(layers=[layer]))
        assert (answer.status_code, peer.codes(answer)) == (400, ["MANIFEST_BLOB_UNKNOWN"])


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "app/blobs/uploads/"),
        ("PUT", "app/manifests/v2"),
        ("DELETE", "app/manifests/v1"),
        ("PATCH", "app/blobs/uploads/none"),
        ("DELETE", "app/blobs/uploads/none"),
    ],
)
async def test_a_read_only_registry_refuses_every_write_with_405(
    with_settings: OpenWith, method: str, path: str
) -> None:
    async with with_settings(read_only=True) as peer:
        answer = await peer.http.request(method, f"/v2/{path}")
        assert (answer.status_code, peer.codes(answer)) == (405, ["UNSUPPORTED"])
        assert answer.json()["errors"][0]["message"] == "the registry is read-only"
        assert set(answer.headers["allow"].split(", ")) <= {"GET", "HEAD", ""}
        assert peer.registry.repositories == ()


@pytest.mark.anyio
async def test_a_read_only_registry_is_read_as_ever(with_settings: OpenWith) -> None:
    async with with_settings(read_only=True, auth=BasicAuth(USERS, rights=RIGHTS)) as peer:
        assert (await peer.http.get("/v2/")).status_code == 401
        assert (await peer.http.get("/v2/", auth=as_user("dev"))).status_code == 200
        assert (await peer.http.get("/v2/team/x/tags/list", auth=as_user("dev"))).status_code == 404
        assert (await peer.http.get("/v2/_catalog", auth=as_user("dev"))).json() == {"repositories": []}
