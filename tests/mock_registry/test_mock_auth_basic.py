"""A name and a password with every request (RFC 7617)."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import httpx
import pytest

from mock_registry.auth import BasicAuth, Challenges, Right
from mock_registry.auth.headers import MalformedError, parse_authorization

if TYPE_CHECKING:
    from tests.mock_registry.conftest import OpenWith

pytestmark = pytest.mark.anyio

USERS = {"ci": "s3cret", "Ünal": "pässwörd:ж"}
CI = ("ci", "s3cret")


def basic(pair: str, encoding: str = "utf-8") -> str:
    return "Basic " + base64.b64encode(pair.encode(encoding)).decode()


async def test_without_credentials_everything_of_a_registry_is_401_with_a_challenge(
    with_settings: OpenWith,
) -> None:
    async with with_settings(auth=BasicAuth(USERS, realm='the "mock"')) as peer:
        for method, path in [
            ("GET", "/v2/"),
            ("GET", "/v2/_catalog"),
            ("GET", "/v2/app/tags/list"),
            ("GET", "/v2/app/manifests/v1"),
            ("PUT", "/v2/app/manifests/v1"),
            ("POST", "/v2/app/blobs/uploads/"),
            ("PATCH", "/v2/app/blobs/uploads/none"),
            ("DELETE", f"/v2/app/blobs/{peer.digest(b'')}"),
            ("GET", f"/v2/app/referrers/{peer.digest(b'')}"),
        ]:
            answer = await peer.http.request(method, path)
            assert (answer.status_code, peer.codes(answer)) == (401, ["UNAUTHORIZED"]), path
            assert answer.headers["www-authenticate"] == r'Basic realm="the \"mock\"",charset="UTF-8"'
            assert peer.journal[-1].user is None


async def test_a_401_to_a_head_has_no_body(with_settings: OpenWith) -> None:
    async with with_settings(auth=BasicAuth(USERS)) as peer:
        answer = await peer.http.head("/v2/app/manifests/v1")
        assert (answer.status_code, answer.content) == (401, b"")
        assert "www-authenticate" in answer.headers
        assert peer.journal[-1].bytes_out == 0


@pytest.mark.parametrize("name", USERS)
async def test_a_user_pushes_and_pulls_and_the_journal_has_the_name(
    with_settings: OpenWith, name: str
) -> None:
    async with with_settings(auth=BasicAuth(USERS)) as peer:
        peer.http.headers["authorization"] = basic(f"{name}:{USERS[name]}")
        assert (await peer.http.get("/v2/")).status_code == 200
        content = await peer.push_image("app", "v1", layers=[b"a layer"])
        assert (await peer.http.get("/v2/app/manifests/v1")).content == content
        assert {record.user for record in peer.journal} == {name}


async def test_the_body_of_a_refused_push_is_counted_and_the_connection_goes_on(
    with_settings: OpenWith,
) -> None:
    async with with_settings(auth=BasicAuth(USERS)) as peer:
        answer = await peer.http.put("/v2/app/manifests/v1", content=bytes(3 << 20))
        assert answer.status_code == 401
        assert peer.journal[-1].bytes_in == 3 << 20
        assert (await peer.http.get("/v2/", auth=CI)).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        "Basic",
        "Basic !!!",
        "Basic Y2k6czNjcmV0Og",  # no padding
        "Basic =",
        "Basic " + "é" * 8,
        basic("ci"),
        basic("ci:wrong"),
        basic("CI:s3cret"),
        basic("nobody:s3cret"),
        basic("ci:s3cret\n"),
        basic("ci\0:s3cret"),
        basic("Ünal:pässwörd", "latin-1"),
        "Bearer ci",
        "Digest username=ci",
        "Basic Y2k6czNjcmV0, Basic Y2k6czNjcmV0",
        "Basic " + "QUFB" * 4000,
    ],
)
async def test_credentials_that_are_wrong_or_malformed_are_401_even_where_none_are_needed(
    with_settings: OpenWith, header: str
) -> None:
    async with with_settings(auth=BasicAuth(USERS, anonymous_pull=True)) as peer:
        answer = await peer.http.get("/v2/app/tags/list", headers=[(b"authorization", header.encode())])
        assert (answer.status_code, peer.codes(answer)) == (401, ["UNAUTHORIZED"])
        assert peer.journal[-1].user is None


async def test_the_scheme_is_read_in_any_case(with_settings: OpenWith) -> None:
    async with with_settings(auth=BasicAuth(USERS)) as peer:
        for scheme in ("basic", "BASIC", "BaSiC"):
            header = basic("ci:s3cret").replace("Basic", scheme)
            assert (await peer.http.get("/v2/", headers={"authorization": header})).status_code == 200


async def test_two_authorization_headers_are_401(with_settings: OpenWith) -> None:
    async with with_settings(auth=BasicAuth(USERS)) as peer:
        headers = [("authorization", basic("ci:s3cret"))] * 2
        assert (await peer.http.get("/v2/", headers=headers)).status_code == 401


async def test_an_empty_name_with_an_empty_password_is_no_credentials_as_skopeo_sends_them(
    with_settings: OpenWith,
) -> None:
    async with with_settings(auth=BasicAuth(USERS, anonymous_pull=True)) as peer:
        headers = {"authorization": basic(":")}
        assert (await peer.http.get("/v2/app/tags/list", headers=headers)).status_code == 404
        assert (await peer.http.get("/v2/", headers=headers)).status_code == 401


async def test_where_everyone_pulls_the_base_still_asks_so_that_clients_learn_how_to_log_in(
    with_settings: OpenWith,
) -> None:
    async with with_settings(auth=BasicAuth(USERS, anonymous_pull=True)) as peer:
        peer.http.auth = CI
        await peer.push_image("app", "v1")
        peer.http.auth = httpx.Auth()
        assert (await peer.http.get("/v2/app/manifests/v1")).status_code == 200
        assert (await peer.http.get("/v2/")).status_code == 401
        assert (await peer.http.post("/v2/app/blobs/uploads/")).status_code == 401
        assert (await peer.http.delete("/v2/app/manifests/v1")).status_code == 401


async def test_the_base_can_be_open(with_settings: OpenWith) -> None:
    async with with_settings(auth=BasicAuth(USERS, open_base=True)) as peer:
        assert (await peer.http.get("/v2/")).status_code == 200
        assert (await peer.http.get("/v2/app/tags/list")).status_code == 401


async def test_what_is_no_endpoint_or_no_name_says_so_before_it_asks_who_you_are(
    with_settings: OpenWith,
) -> None:
    async with with_settings(auth=BasicAuth(USERS)) as peer:
        assert (await peer.http.get("/v1/")).status_code == 404
        assert (await peer.http.get("/v2/Upper/tags/list")).status_code == 400
        assert (await peer.http.put("/v2/app/tags/list")).status_code == 405
        answer = await peer.http.get("/token")
        assert (answer.status_code, peer.codes(answer)) == (404, ["UNSUPPORTED"])


@pytest.mark.parametrize(
    ("challenges", "lines"),
    [
        (Challenges(first=("Negotiate",)), ["Negotiate", 'Basic realm="r",charset="UTF-8"']),
        (
            Challenges(first=("Negotiate", 'Digest realm="a, b"'), joined=True),
            ['Negotiate, Digest realm="a, b", Basic realm="r",charset="UTF-8"'],
        ),
    ],
)
async def test_other_schemes_can_be_offered_first(
    with_settings: OpenWith, challenges: Challenges, lines: list[str]
) -> None:
    async with with_settings(auth=BasicAuth(USERS, realm="r", challenges=challenges)) as peer:
        answer = await peer.http.get("/v2/app/tags/list")
        assert answer.headers.get_list("www-authenticate") == lines


async def test_the_challenge_can_be_left_out_after_the_base(with_settings: OpenWith) -> None:
    async with with_settings(auth=BasicAuth(USERS, challenges=Challenges(only_at_base=True))) as peer:
        assert "www-authenticate" in (await peer.http.get("/v2/")).headers
        answer = await peer.http.get("/v2/app/tags/list")
        assert answer.status_code == 401
        assert "www-authenticate" not in answer.headers


@pytest.mark.parametrize("name", ["", "a:b", "a\nb"])
def test_a_name_that_cannot_log_in_is_refused_at_once(name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        BasicAuth({name: "password"})


def test_passwords_are_in_no_repr() -> None:
    auth = BasicAuth(USERS, rights=[Right("ci")])
    assert "s3cret" not in repr(vars(auth)) + repr(auth.known) + repr(vars(auth.known))


@pytest.mark.parametrize(
    "header", ["", " ", "Basic ", "Basic\tY2k6", "Bearer ", "Bearer a b", "Bearer ä", "x"]
)
def test_a_header_that_says_nothing_readable_is_malformed(header: str) -> None:
    with pytest.raises(MalformedError):
        parse_authorization(header)
