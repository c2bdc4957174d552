"""The token service: credentials in, a token out, by GET and by OAuth2's POST (RFC 6749)."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from mock_registry import Route
from mock_registry.auth import Challenges, Lifetime, Right, TokenAnswer, TokenAuth

if TYPE_CHECKING:
    import httpx

    from tests.mock_registry.conftest import OpenWith, Peer

pytestmark = pytest.mark.anyio

USERS = {"ci": "s3cret", "dev": "pässwörd&=+%"}
RIGHTS = [Right("ci"), Right("dev", "team/*", "pull,push"), Right("dev", "shared", "pull")]
CI = ("ci", "s3cret")
PASSWORD = {"grant_type": "password", "client_id": "test", "username": "ci", "password": "s3cret"}


async def get(peer: Peer, auth: tuple[str, str] | None = CI, **query: Any) -> httpx.Response:
    return await peer.http.get("/token", params={"service": "mock-registry", **query}, auth=auth)


async def post(peer: Peer, **form: Any) -> httpx.Response:
    return await peer.http.post("/token", data={"service": "mock-registry", **form})


async def granted(peer: Peer, token: str) -> set[str]:
    """Return which of some requests a token opens."""
    requests = {
        "pull team/api": ("GET", "/v2/team/api/tags/list"),
        "push team/api": ("POST", "/v2/team/api/blobs/uploads/"),
        "delete team/api": ("DELETE", "/v2/team/api/manifests/v1"),
        "pull shared": ("GET", "/v2/shared/tags/list"),
        "push shared": ("POST", "/v2/shared/blobs/uploads/"),
        "catalog": ("GET", "/v2/_catalog"),
    }
    headers = {"authorization": f"Bearer {token}"}
    found = set()
    for name, (method, path) in requests.items():
        if (await peer.http.request(method, path, headers=headers)).status_code != 401:
            found.add(name)
    return found


async def test_get_hands_out_a_token_for_the_scope_with_both_names_and_its_life(
    with_settings: OpenWith,
) -> None:
    async with with_settings(auth=TokenAuth(USERS)) as peer:
        before = datetime.now(UTC).replace(microsecond=0)
        answer = await get(peer, scope="repository:team/api:pull")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        document = answer.json()
        assert document.keys() == {"token", "access_token", "expires_in", "issued_at"}
        assert document["token"] == document["access_token"]
        assert document["expires_in"] == 300
        assert before <= datetime.fromisoformat(document["issued_at"]) <= datetime.now(UTC)
        assert await granted(peer, document["token"]) == {"pull team/api"}


@pytest.mark.parametrize(
    ("scopes", "opened"),
    [
        ([], set()),
        (["repository:team/api:pull,push"], {"pull team/api", "push team/api"}),
        (
            ["repository:team/api:push,pull", "repository:shared:pull"],
            {"pull team/api", "push team/api", "pull shared"},
        ),
        (["repository:team/api:push repository:shared:pull"], {"push team/api", "pull shared"}),
        (["repository:team/api:pull", "repository:team/api:push"], {"pull team/api", "push team/api"}),
        (["repository:team/api:*"], {"pull team/api", "push team/api"}),
        (["repository:shared:pull,push,delete"], {"pull shared"}),
        (["repository:secret:pull"], set()),
        (["registry:catalog:*"], {"catalog"}),
        (["registry:catalog:pull", "registry:other:*", "repository(plugin):team/api:pull"], set()),
        (["", "nonsense", "a:b", ":::", "repository::pull", "repository:team/api:", "  "], set()),
    ],
)
async def test_a_token_is_good_for_what_was_asked_and_may_be_had_the_rest_is_left_out(
    with_settings: OpenWith, scopes: list[str], opened: set[str]
) -> None:
    async with with_settings(auth=TokenAuth(USERS, rights=RIGHTS)) as peer:
        answer = await get(peer, ("dev", USERS["dev"]), scope=scopes)
        assert answer.status_code == 200
        assert await granted(peer, answer.json()["token"]) == opened


async def test_a_repository_with_host_and_port_in_its_scope_is_that_repository(
    with_settings: OpenWith,
) -> None:
    async with with_settings(auth=TokenAuth(USERS)) as peer:
        answer = await get(peer, scope="repository:host:5000/app:pull")
        headers = {"authorization": f"Bearer {answer.json()['token']}"}
        assert (await peer.http.get("/v2/app/tags/list", headers=headers)).status_code == 401


async def test_tokens_differ_and_are_long(with_settings: OpenWith) -> None:
    async with with_settings(auth=TokenAuth(USERS)) as peer:
        tokens = {(await get(peer)).json()["token"] for _ in range(20)}
        assert len(tokens) == 20
        assert min(map(len, tokens)) >= 43


@pytest.mark.parametrize(
    "header", ["Basic Y2k6d3Jvbmc=", "Basic bm9ib2R5Og==", "Basic !", "Bearer x", "Basic", "Basic Y2k6/w=="]
)
async def test_wrong_or_malformed_credentials_are_401_with_a_basic_challenge(
    with_settings: OpenWith, header: str
) -> None:
    async with with_settings(auth=TokenAuth(USERS, anonymous_pull=True)) as peer:
        answer = await peer.http.get("/token", headers={"authorization": header})
        assert (answer.status_code, peer.codes(answer)) == (401, ["UNAUTHORIZED"])
        assert answer.headers["www-authenticate"].startswith('Basic realm="mock-registry"')


async def test_without_credentials_there_is_a_token_where_everyone_may_do_something(
    with_settings: OpenWith,
) -> None:
    rights = [*RIGHTS, Right(None, "shared", "pull")]
    async with with_settings(auth=TokenAuth(USERS, rights=rights)) as peer:
        answer = await get(peer, None, scope=["repository:shared:pull,push", "repository:team/api:pull"])
        assert await granted(peer, answer.json()["token"]) == {"pull shared"}
        assert {record.user for record in peer.journal} == {None}
        headers = {"authorization": f"Bearer {answer.json()['token']}"}
        assert (await peer.http.get("/v2/", headers=headers)).status_code == 200


async def test_without_credentials_there_is_none_where_nobody_may_do_anything(
    with_settings: OpenWith,
) -> None:
    async with with_settings(auth=TokenAuth(USERS)) as peer:
        assert (await get(peer, None)).status_code == 401


async def test_a_client_that_asks_for_another_service_is_told_so(with_settings: OpenWith) -> None:
    async with with_settings(auth=TokenAuth(USERS, service="registry.example")) as peer:
        assert (await peer.http.get("/token?service=other", auth=CI)).status_code == 400
        assert (await peer.http.get("/token?service=registry.example", auth=CI)).status_code == 200
        assert (await peer.http.get("/token", auth=CI)).status_code == 200


async def test_more_scopes_than_anyone_needs_are_400(with_settings: OpenWith) -> None:
    async with with_settings(auth=TokenAuth(USERS)) as peer:
        scope = " ".join(f"repository:r{number}:pull" for number in range(101))
        assert (await post(peer, **PASSWORD, scope=scope)).status_code == 400


async def test_post_with_a_password_says_the_scope_it_grants(with_settings: OpenWith) -> None:
    async with with_settings(auth=TokenAuth(USERS, rights=RIGHTS)) as peer:
        form = {**PASSWORD, "username": "dev", "password": USERS["dev"]}
        answer = await post(peer, **form, scope="repository:shared:push,pull repository:team/api:delete")
        assert answer.status_code == 200
        assert answer.json()["scope"] == "repository:shared:pull"
        assert "refresh_token" not in answer.json()
        assert await granted(peer, answer.json()["access_token"]) == {"pull shared"}


async def test_a_refresh_token_stands_for_the_password_ever_after(with_settings: OpenWith) -> None:
    auth = TokenAuth(USERS, rights=RIGHTS)
    async with with_settings(auth=auth) as peer:
        form = {**PASSWORD, "username": "dev", "password": USERS["dev"], "access_type": "offline"}
        refresh = (await post(peer, **form)).json()["refresh_token"]
        for _ in range(3):
            answer = await post(
                peer,
                grant_type="refresh_token",
                client_id="test",
                refresh_token=refresh,
                scope="repository:team/api:pull,push",
            )
            assert "refresh_token" not in answer.json()
            assert await granted(peer, answer.json()["access_token"]) == {"pull team/api", "push team/api"}
        auth.refresh_tokens.revoke_all()
        answer = await post(peer, grant_type="refresh_token", refresh_token=refresh)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


async def test_get_hands_out_a_refresh_token_to_who_asks_for_an_offline_one(
    with_settings: OpenWith,
) -> None:
    async with with_settings(auth=TokenAuth(USERS, anonymous_pull=True)) as peer:
        assert "refresh_token" not in (await get(peer)).json()
        assert "refresh_token" not in (await get(peer, None, offline_token="true")).json()
        refresh = (await get(peer, offline_token="true")).json()["refresh_token"]
        answer = await post(peer, grant_type="refresh_token", refresh_token=refresh)
        assert answer.status_code == 200
        assert peer.journal[-1].user == "ci"


async def test_refresh_tokens_can_be_switched_off(with_settings: OpenWith) -> None:
    async with with_settings(auth=TokenAuth(USERS, offline=False)) as peer:
        assert "refresh_token" not in (await get(peer, offline_token="true")).json()
        assert "refresh_token" not in (await post(peer, **PASSWORD, access_type="offline")).json()


async def test_a_rotating_refresh_token_is_good_once(with_settings: OpenWith) -> None:
    auth = TokenAuth(USERS, rotate=True)
    async with with_settings(auth=auth) as peer:
        first = auth.issue_refresh_token("ci")
        second = (await post(peer, grant_type="refresh_token", refresh_token=first)).json()["refresh_token"]
        assert (await post(peer, grant_type="refresh_token", refresh_token=first)).status_code == 400
        assert (await post(peer, grant_type="refresh_token", refresh_token=second)).status_code == 200


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"password": "wrong"}, "invalid_grant"),
        ({"username": "nobody"}, "invalid_grant"),
        ({"username": ""}, "invalid_grant"),
        ({"password": None}, "invalid_request"),
        ({"password": ["a", "b"]}, "invalid_request"),
        ({"grant_type": None}, "invalid_request"),
        ({"grant_type": ["password", "password"]}, "invalid_request"),
        ({"grant_type": "authorization_code"}, "unsupported_grant_type"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "nonsense"}, "invalid_grant"),
    ],
)
async def test_a_form_that_gets_no_token_is_told_why_as_oauth2_does(
    with_settings: OpenWith, change: dict[str, Any], error: str
) -> None:
    async with with_settings(auth=TokenAuth(USERS)) as peer:
        form = {name: value for name, value in {**PASSWORD, **change}.items() if value is not None}
        answer = await post(peer, **form)
        assert (answer.status_code, answer.json()["error"]) == (400, error)
        assert peer.codes(answer) == ["UNAUTHORIZED"]
        assert peer.journal[-1].user is None


@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [
        (b'{"grant_type": "password"}', "application/json", 400),
        (b"grant_type=password", "", 400),
        (
            b"grant_type=password&username=ci&password=s3cret",
            "application/x-www-form-urlencoded; charset=utf-8",
            200,
        ),
        (b"\xff\x00=%zz&&&;", "application/x-www-form-urlencoded", 400),
        (b"", "application/x-www-form-urlencoded", 400),
        (b"a=" + bytes(65 << 10), "application/x-www-form-urlencoded", 413),
    ],
)
async def test_a_body_that_is_no_form_is_refused_and_never_500(
    with_settings: OpenWith, content: bytes, media_type: str, status: int
) -> None:
    async with with_settings(auth=TokenAuth(USERS)) as peer:
        answer = await peer.http.post("/token", content=content, headers={"content-type": media_type})
        assert answer.status_code == status
        assert peer.journal[-1].bytes_in == len(content)


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "PATCH"])
async def test_other_methods_are_405(with_settings: OpenWith, method: str) -> None:
    async with with_settings(auth=TokenAuth(USERS)) as peer:
        answer = await peer.http.request(method, "/token")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")


@pytest.mark.parametrize("status", [404, 405])
async def test_post_can_be_refused_so_that_clients_must_fall_back_to_get(
    with_settings: OpenWith, status: int
) -> None:
    async with with_settings(auth=TokenAuth(USERS, post_status=status)) as peer:
        answer = await post(peer, **PASSWORD)
        assert (answer.status_code, answer.headers["allow"]) == (status, "GET")
        assert (await get(peer)).status_code == 200


@pytest.mark.parametrize(
    ("wording", "there", "values"),
    [
        (TokenAnswer(names=("token",)), {"token", "expires_in", "issued_at"}, {}),
        (TokenAnswer(names=("access_token",), expires_in=False), {"access_token", "issued_at"}, {}),
        (
            TokenAnswer(claimed_seconds=3600),
            {"token", "access_token", "expires_in", "issued_at"},
            {"expires_in": 3600},
        ),
        (
            TokenAnswer(claimed_seconds=1, issued_at=False),
            {"token", "access_token", "expires_in"},
            {"expires_in": 1},
        ),
    ],
)
async def test_the_answer_can_be_worded_as_any_real_service_does(
    with_settings: OpenWith, wording: TokenAnswer, there: set[str], values: dict[str, int]
) -> None:
    async with with_settings(auth=TokenAuth(USERS, answer=wording)) as peer:
        for answer in (await get(peer), await post(peer, **PASSWORD)):
            document = answer.json()
            assert document.keys() - {"scope"} == there
            assert document | values == document


async def test_the_service_s_clock_can_be_wrong(with_settings: OpenWith) -> None:
    async with with_settings(auth=TokenAuth(USERS, answer=TokenAnswer(clock_skew=-7200))) as peer:
        issued = datetime.fromisoformat((await get(peer)).json()["issued_at"])
        assert 7190 < (datetime.now(UTC) - issued).total_seconds() < 7300


async def test_a_claimed_life_does_not_change_the_real_one(with_settings: OpenWith) -> None:
    auth = TokenAuth(USERS, lifetime=Lifetime(requests=1), answer=TokenAnswer(claimed_seconds=9999))
    async with with_settings(auth=auth) as peer:
        headers = {"authorization": f"Bearer {(await get(peer)).json()['token']}"}
        statuses = [(await peer.http.get("/v2/", headers=headers)).status_code for _ in range(2)]
        assert statuses == [200, 401]


async def test_a_service_can_refuse_who_may_not_have_all_that_was_asked_for(
    with_settings: OpenWith,
) -> None:
    async with with_settings(auth=TokenAuth(USERS, rights=RIGHTS, whole_or_nothing=True)) as peer:
        dev = ("dev", USERS["dev"])
        scopes = ["repository:team/api:pull,push", "repository:secret:pull"]
        answer = await get(peer, dev, scope=scopes)
        assert (answer.status_code, peer.codes(answer)) == (403, ["DENIED"])
        assert (await get(peer, dev, scope=scopes[:1])).status_code == 200


async def test_tokens_for_the_catalog_can_be_withheld(with_settings: OpenWith) -> None:
    async with with_settings(auth=TokenAuth(USERS, catalog=False)) as peer:
        token = (await get(peer, scope="registry:catalog:*")).json()["token"]
        assert await granted(peer, token) == set()


async def test_a_read_only_registry_still_hands_out_tokens(with_settings: OpenWith) -> None:
    async with with_settings(auth=TokenAuth(USERS), read_only=True) as peer:
        assert (await post(peer, **PASSWORD)).status_code == 200


async def test_strangers_challenges_stand_before_the_token_service_s_own_too(
    with_settings: OpenWith,
) -> None:
    auth = TokenAuth(USERS, challenges=Challenges(first=("Negotiate",), only_at_base=True))
    async with with_settings(auth=auth) as peer:
        lines = (await get(peer, None)).headers.get_list("www-authenticate")
        assert [line.partition(" ")[0] for line in lines] == ["Negotiate", "Basic"]


async def test_token_requests_stand_in_the_journal_with_their_bytes_and_their_user_but_no_secret(
    with_settings: OpenWith,
) -> None:
    auth = TokenAuth(USERS)
    async with with_settings(auth=auth) as peer:
        answers = [
            await get(peer, scope="repository:app:pull", account="ci"),
            await post(peer, **PASSWORD, access_type="offline"),
            await peer.http.get(
                "/token?account=ci&password=s3cret&Refresh%5FToken=r3fresh&access_token=acc3ss&x=1"
            ),
        ]
        records = peer.journal.records(route=Route.TOKEN)
        assert [record.user for record in records] == ["ci", "ci", None]
        assert [record.bytes_out for record in records] == [len(each.content) for each in answers]
        assert records[1].bytes_in == len(answers[1].request.content) > 0
        assert records[0].target == "/token?service=mock-registry&scope=repository%3Aapp%3Apull&account=ci"
        assert records[2].target == (
            "/token?account=ci&password=REDACTED&Refresh%5FToken=REDACTED&access_token=REDACTED&x=1"
        )
        file = io.StringIO()
        peer.journal.dump(file)
        lines = file.getvalue().splitlines()
        written = "".join(lines) + repr(list(peer.journal)) + repr(auth.tokens) + repr(vars(auth.tokens))
        written += repr(auth.refresh_tokens) + repr(vars(auth.refresh_tokens)) + repr(vars(auth))
        secrets = [answers[0].json()["token"], answers[1].json()["refresh_token"]]
        for secret in (*secrets, "s3cret", "r3fresh", "acc3ss"):
            assert secret not in written
        assert all(json.loads(line) for line in lines)


async def test_a_query_without_credentials_is_kept_as_it_was_sent(with_settings: OpenWith) -> None:
    async with with_settings() as peer:
        query = "n=2&last=a%2Fb&&=&x"
        await peer.http.get(f"/v2/_catalog?{query}")
        assert peer.journal[-1].target == f"/v2/_catalog?{query}"


async def test_no_more_tokens_are_remembered_than_fit() -> None:
    auth = TokenAuth(USERS)
    first = auth.issue_token("ci")
    for _ in range(10_000):
        last = auth.issue_token("ci")
    assert auth.tokens.use(first) is None
    assert auth.tokens.use(last) is not None
    assert re.fullmatch(r"[A-Za-z0-9_-]+", last)
