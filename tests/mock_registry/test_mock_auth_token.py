"""Bearer tokens at the registry: what they open, how they end, and how one is asked for (RFC 6750)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from mock_registry import Route
from mock_registry.auth import Challenges, Lifetime, Right, TokenAuth
from mock_registry.clock import ManualClock

if TYPE_CHECKING:
    import httpx

    from tests.mock_registry.conftest import OpenWith

pytestmark = pytest.mark.anyio

USERS = {"ci": "s3cret", "dev": "d"}
RIGHTS = [Right("ci"), Right("dev", "team/*", "pull,push"), Right("*", "shared", "pull")]
ALL = "pull,push,delete"


def challenge(answer: httpx.Response) -> dict[str, str]:
    """Return the parameters of the one Bearer challenge of a 401."""
    assert answer.status_code == 401
    scheme, _, text = answer.headers["www-authenticate"].partition(" ")
    assert scheme == "Bearer"
    return dict(re.findall(r'(\w+)="([^"]*)"', text))


def bearing(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def test_without_a_token_the_challenge_says_where_to_get_one_and_what_for(
    with_settings: OpenWith,
) -> None:
    async with with_settings(auth=TokenAuth(USERS)) as peer:
        digest = peer.digest(b"")
        base = f"{peer.http.base_url}".rstrip("/")
        wanted = {
            ("GET", "/v2/"): None,
            ("GET", "/v2/_catalog"): "registry:catalog:*",
            ("GET", "/v2/shop/api/manifests/v1"): "repository:shop/api:pull",
            ("HEAD", f"/v2/shop/api/blobs/{digest}"): "repository:shop/api:pull",
            ("GET", "/v2/app/tags/list"): "repository:app:pull",
            ("GET", f"/v2/app/referrers/{digest}"): "repository:app:pull",
            ("POST", "/v2/app/blobs/uploads/"): "repository:app:pull,push",
            ("PATCH", "/v2/app/blobs/uploads/x"): "repository:app:pull,push",
            ("PUT", "/v2/app/manifests/v1"): "repository:app:pull,push",
            ("DELETE", "/v2/app/manifests/v1"): "repository:app:delete",
            ("POST", f"/v2/app/blobs/uploads/?mount={digest}&from=base"): (
                "repository:app:pull,push repository:base:pull"
            ),
            ("POST", f'/v2/app/blobs/uploads/?mount={digest}&from=Bad.."'): "repository:app:pull,push",
        }
        for (method, path), scope in wanted.items():
            answer = await peer.http.request(method, path)
            expected = {"realm": f"{base}/token", "service": "mock-registry"}
            assert challenge(answer) == (expected if scope is None else expected | {"scope": scope}), path


async def test_a_token_opens_what_its_scopes_say_and_nothing_else(with_settings: OpenWith) -> None:
    async with with_settings(auth=(auth := TokenAuth(USERS))) as peer:
        peer.http.headers["authorization"] = f"Bearer {auth.issue_token('ci', f'repository:app:{ALL}')}"
        content = await peer.push_image("app", "v1")
        token = auth.issue_token("ci", "repository:app:pull")
        assert (await peer.http.get("/v2/", headers=bearing(token))).status_code == 200
        assert (await peer.http.get("/v2/app/manifests/v1", headers=bearing(token))).content == content
        for method, path in [
            ("PUT", "/v2/app/manifests/v1"),
            ("DELETE", "/v2/app/manifests/v1"),
            ("GET", "/v2/apps/manifests/v1"),
            ("GET", "/v2/_catalog"),
        ]:
            answer = await peer.http.request(method, path, headers=bearing(token))
            assert challenge(answer)["error"] == "insufficient_scope"
            assert peer.journal[-1].user == "ci"
        token = auth.issue_token("ci", "registry:catalog:*")
        answer = await peer.http.get("/v2/_catalog", headers=bearing(token))
        assert answer.json() == {"repositories": ["app"]}


@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer nonsense", "Bearer None", "bearer x y", "Basic Y2k6czNjcmV0Og", "Token x"]
)
async def test_what_is_no_token_is_401_and_never_500(with_settings: OpenWith, header: str) -> None:
    async with with_settings(auth=TokenAuth(USERS)) as peer:
        answer = await peer.http.get("/v2/", headers={"authorization": header})
        assert challenge(answer)["error"] == "invalid_token"
        assert peer.journal[-1].user is None


async def test_a_name_and_a_password_are_no_token(with_settings: OpenWith) -> None:
    async with with_settings(auth=TokenAuth(USERS)) as peer:
        answer = await peer.http.get("/v2/", auth=("ci", "s3cret"))
        assert "error" not in challenge(answer)


async def test_where_both_are_taken_both_are_offered(with_settings: OpenWith) -> None:
    async with with_settings(auth=TokenAuth(USERS, rights=RIGHTS, basic=True)) as peer:
        answer = await peer.http.get("/v2/")
        schemes = [line.partition(" ")[0] for line in answer.headers.get_list("www-authenticate")]
        assert schemes == ["Bearer", "Basic"]
        dev = ("dev", "d")
        assert (await peer.http.get("/v2/", auth=dev)).status_code == 200
        assert (await peer.http.post("/v2/team/api/blobs/uploads/", auth=dev)).status_code == 202
        assert (await peer.http.post("/v2/other/blobs/uploads/", auth=dev)).status_code == 401
        assert (await peer.http.get("/v2/_catalog", auth=dev)).json() == {"repositories": []}
        assert (await peer.http.get("/v2/", auth=("dev", "wrong"))).status_code == 401


async def test_a_token_of_one_registry_opens_no_other(with_settings: OpenWith) -> None:
    token = TokenAuth(USERS).issue_token("ci", "repository:app:pull")
    async with with_settings(auth=TokenAuth(USERS)) as peer:
        assert challenge(await peer.http.get("/v2/", headers=bearing(token)))["error"] == "invalid_token"


async def test_a_token_ends_after_its_seconds(with_settings: OpenWith) -> None:
    auth = TokenAuth(USERS, lifetime=Lifetime(seconds=30), clock=(clock := ManualClock()))
    async with with_settings(auth=auth) as peer:
        token = auth.issue_token("ci")
        clock.advance(29.9)
        assert (await peer.http.get("/v2/", headers=bearing(token))).status_code == 200
        clock.advance(0.1)
        assert challenge(await peer.http.get("/v2/", headers=bearing(token)))["error"] == "invalid_token"


async def test_a_token_ends_after_its_requests(with_settings: OpenWith) -> None:
    auth = TokenAuth(USERS, lifetime=Lifetime(requests=2))
    async with with_settings(auth=auth) as peer:
        token = auth.issue_token("ci")
        statuses = [(await peer.http.get("/v2/", headers=bearing(token))).status_code for _ in range(4)]
        assert statuses == [200, 200, 401, 401]


async def test_a_token_ends_after_its_octets_in_the_middle_of_an_upload(with_settings: OpenWith) -> None:
    auth = TokenAuth(USERS, lifetime=Lifetime(octets=1000))
    async with with_settings(auth=auth) as peer:
        peer.http.headers["authorization"] = f"Bearer {auth.issue_token('ci', f'repository:app:{ALL}')}"
        location = await peer.open("app")
        for size, status in ((600, 202), (900, 202), (1, 401)):
            answer = await peer.http.patch(location, content=bytes(size))
            assert answer.status_code == status
            location = answer.headers.get("location", location)
        asked = challenge(answer)
        assert (asked["error"], asked["scope"]) == ("invalid_token", "repository:app:pull,push")
        fresh = auth.issue_token("ci", "repository:app:push")
        status_of_upload = await peer.http.get(location, headers=bearing(fresh))
        assert status_of_upload.headers["range"] == "0-1499"


async def test_octets_are_counted_both_ways(with_settings: OpenWith) -> None:
    auth = TokenAuth(USERS, lifetime=Lifetime(octets=100))
    async with with_settings(auth=auth) as peer:
        full = auth.issue_token("ci", f"repository:app:{ALL}")
        digest = peer.digest(bytes(200))
        answer = await peer.http.post(
            "/v2/app/blobs/uploads/", params={"digest": digest}, content=bytes(200), headers=bearing(full)
        )
        assert answer.status_code == 201
        token = auth.issue_token("ci", "repository:app:pull")
        url = f"/v2/app/blobs/{digest}"
        assert (await peer.http.head(url, headers=bearing(token))).status_code == 200
        assert len((await peer.http.get(url, headers=bearing(token))).content) == 200
        await peer.registry.settled()
        assert (await peer.http.head(url, headers=bearing(token))).status_code == 401


async def test_all_tokens_can_be_ended_at_once(with_settings: OpenWith) -> None:
    async with with_settings(auth=(auth := TokenAuth(USERS))) as peer:
        token = auth.issue_token("ci")
        assert (await peer.http.get("/v2/", headers=bearing(token))).status_code == 200
        auth.tokens.expire()
        assert (await peer.http.get("/v2/", headers=bearing(token))).status_code == 401


async def test_end_11_a_mount_needs_both_scopes_in_one_token(with_settings: OpenWith) -> None:
    async with with_settings(auth=(auth := TokenAuth(USERS))) as peer:
        peer.http.headers["authorization"] = f"Bearer {auth.issue_token('ci', f'repository:base:{ALL}')}"
        digest = await peer.push("base", b"a layer")
        params = {"mount": digest, "from": "base"}
        one = auth.issue_token("ci", "repository:app:pull,push")
        answer = await peer.http.post("/v2/app/blobs/uploads/", params=params, headers=bearing(one))
        assert (answer.status_code, peer.journal[-1].mounted_from) == (202, None)
        both = auth.issue_token("ci", "repository:app:pull,push", "repository:base:pull")
        answer = await peer.http.post("/v2/app/blobs/uploads/", params=params, headers=bearing(both))
        assert (answer.status_code, peer.journal[-1].mounted_from) == (201, "base")


async def test_end_11_a_mount_from_what_the_user_may_not_read_is_202_whatever_was_asked_for(
    with_settings: OpenWith,
) -> None:
    async with with_settings(auth=(auth := TokenAuth(USERS, rights=RIGHTS))) as peer:
        peer.http.headers["authorization"] = f"Bearer {auth.issue_token('ci', f'repository:secret:{ALL}')}"
        digest = await peer.push("secret", b"a layer")
        token = auth.issue_token("dev", "repository:team/api:pull,push repository:secret:pull")
        params = {"mount": digest, "from": "secret"}
        answer = await peer.http.post("/v2/team/api/blobs/uploads/", params=params, headers=bearing(token))
        assert answer.status_code == 202
        assert (await peer.http.get(f"/v2/secret/blobs/{digest}", headers=bearing(token))).status_code == 401


async def test_a_mount_can_be_challenged_for_its_source_as_in_distribution(
    with_settings: OpenWith,
) -> None:
    async with with_settings(auth=(auth := TokenAuth(USERS, challenge_mounts=True))) as peer:
        token = auth.issue_token("ci", "repository:app:pull,push")
        params = {"mount": peer.digest(b""), "from": "base"}
        answer = await peer.http.post("/v2/app/blobs/uploads/", params=params, headers=bearing(token))
        asked = challenge(answer)
        assert asked["error"] == "insufficient_scope"
        assert asked["scope"] == "repository:app:pull,push repository:base:pull"


@pytest.mark.parametrize(("denial", "status"), [(401, 401), (403, 403), (404, 404)])
async def test_what_no_token_of_the_user_would_open_is_denied_the_same_way_there_or_not(
    with_settings: OpenWith, denial: int, status: int
) -> None:
    async with with_settings(auth=(auth := TokenAuth(USERS, rights=RIGHTS, denial=denial))) as peer:
        peer.http.headers["authorization"] = f"Bearer {auth.issue_token('ci', f'repository:secret:{ALL}')}"
        await peer.push_image("secret", "v1")
        token = auth.issue_token("dev", "repository:secret:pull repository:absent:pull")
        there = await peer.http.get("/v2/secret/manifests/v1", headers=bearing(token))
        absent = await peer.http.get("/v2/absent/manifests/v1", headers=bearing(token))
        assert there.status_code == absent.status_code == status
        assert there.text.replace("secret", "absent") == absent.text
        # What another token would open is asked for, so that the client gets one.
        answer = await peer.http.get("/v2/team/api/tags/list", headers=bearing(token))
        assert challenge(answer)["error"] == "insufficient_scope"


async def test_the_scope_can_be_left_out_of_the_challenge(with_settings: OpenWith) -> None:
    async with with_settings(auth=TokenAuth(USERS, challenges=Challenges(scope=False))) as peer:
        assert "scope" not in challenge(await peer.http.get("/v2/app/tags/list"))


async def test_the_challenge_can_be_missing_after_the_base_and_have_strangers_before_it(
    with_settings: OpenWith,
) -> None:
    challenges = Challenges(first=("Negotiate",), only_at_base=True)
    async with with_settings(auth=(auth := TokenAuth(USERS, challenges=challenges))) as peer:
        lines = (await peer.http.get("/v2/")).headers.get_list("www-authenticate")
        assert [line.partition(" ")[0] for line in lines] == ["Negotiate", "Bearer"]
        answer = await peer.http.get("/v2/app/tags/list", headers=bearing(auth.issue_token("ci")))
        assert answer.status_code == 401
        assert "www-authenticate" not in answer.headers


async def test_the_base_can_be_open_and_everything_else_asks_for_a_token(
    with_settings: OpenWith,
) -> None:
    async with with_settings(auth=TokenAuth(USERS, open_base=True)) as peer:
        assert (await peer.http.get("/v2/")).status_code == 200
        assert challenge(await peer.http.get("/v2/app/tags/list"))["scope"] == "repository:app:pull"


@pytest.mark.parametrize("host", ["", 'a"b', "a b", "evil/../", "a,b"])
async def test_a_host_that_is_none_does_not_get_into_the_realm(with_settings: OpenWith, host: str) -> None:
    async with with_settings(auth=TokenAuth(USERS)) as peer:
        answer = await peer.http.get("/v2/", headers={"host": host})
        assert re.fullmatch(r"http://(127\.0\.0\.1:\d+|registry)/token", challenge(answer)["realm"])


async def test_the_realm_follows_the_host_that_the_client_knows(with_settings: OpenWith) -> None:
    async with with_settings(auth=TokenAuth(USERS)) as peer:
        answer = await peer.http.get("/v2/", headers={"host": "proxy.example:8080"})
        assert challenge(answer)["realm"] == "http://proxy.example:8080/token"


async def test_the_realm_can_be_anywhere(with_settings: OpenWith) -> None:
    async with with_settings(auth=TokenAuth(USERS, realm="https://tokens.example/x?y=1")) as peer:
        assert challenge(await peer.http.get("/v2/"))["realm"] == "https://tokens.example/x?y=1"


@pytest.mark.parametrize("transport", ["port"])
async def test_tokens_are_to_be_had_at_a_second_origin_and_there_alone(
    with_settings: OpenWith, transport: str
) -> None:
    assert transport == "port"
    async with with_settings(auth=TokenAuth(USERS, second_origin=True)) as peer:
        realm = challenge(await peer.http.get("/v2/"))["realm"]
        origin = realm.removesuffix("/token")
        assert origin != f"{peer.http.base_url}".rstrip("/")
        assert (await peer.http.get("/token", auth=("ci", "s3cret"))).status_code == 404
        answer = await peer.http.get(realm, auth=("ci", "s3cret"))
        token = answer.json()["token"]
        assert (await peer.http.get("/v2/", headers=bearing(token))).status_code == 200
        assert (await peer.http.get(f"{origin}/v2/", headers=bearing(token))).status_code == 404
        assert [(r.route, r.status) for r in peer.journal] == [
            (Route.BASE, 401),
            (Route.TOKEN, 404),
            (Route.TOKEN, 200),
            (Route.BASE, 200),
            (Route.BASE, 404),
        ]


async def test_a_token_without_the_scope_can_get_403_with_the_challenge_as_rfc_6750_has_it(
    with_settings: OpenWith,
) -> None:
    async with with_settings(auth=(auth := TokenAuth(USERS, scope_status=403))) as peer:
        answer = await peer.http.get("/v2/app/tags/list", headers=bearing(auth.issue_token("ci")))
        assert (answer.status_code, peer.codes(answer)) == (403, ["DENIED"])
        text = answer.headers["www-authenticate"]
        assert text.endswith('scope="repository:app:pull",error="insufficient_scope"')
        assert (await peer.http.get("/v2/app/tags/list", headers=bearing("x"))).status_code == 401


def test_a_status_that_is_no_refusal_is_an_error() -> None:
    with pytest.raises(ValueError, match="401, 403 or 404, not 200"):
        TokenAuth(USERS, denial=200)
    with pytest.raises(ValueError, match="401 or 403, not 404"):
        TokenAuth(USERS, scope_status=404)
