"""Whatever stands in a header, a query or a form: an answer that was decided, and never a 500."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_registry import MockRegistry
from mock_registry.auth import BasicAuth, TokenAuth
from mock_registry.journal import redact_query, redact_target

if TYPE_CHECKING:
    from mock_registry.auth import Auth

USERS = {"ci": "s3cret"}

octets = st.binary(max_size=64).map(lambda raw: raw.translate(None, b"\r\n"))
pairs = octets.map(lambda raw: b"Basic " + base64.b64encode(raw))
schemes = st.sampled_from([b"Basic ", b"basic\t", b"Bearer ", b"BEARER  ", b"Negotiate ", b"", b","])
headers = st.one_of(octets, pairs, st.tuples(schemes, octets).map(b"".join))
scopes = st.one_of(
    st.text(max_size=40),
    st.lists(st.text(alphabet="ab/.:,*()-", max_size=12), max_size=4).map(":".join),
    st.lists(st.sampled_from(["repository", "registry", "app", "catalog", "*", "pull,push", ""])).map(
        ":".join
    ),
)
names = st.sampled_from(
    ["scope", "service", "grant_type", "username", "password", "refresh_token", "account"]
)
values = st.one_of(scopes, st.sampled_from(["ci", "s3cret", "password", "refresh_token", "mock-registry"]))
fields = st.lists(st.tuples(names, values), max_size=6)


def ask(gate: Auth, method: str, url: str, **more: Any) -> httpx.Response:
    """Send one request to a registry in process."""

    async def sent() -> httpx.Response:
        registry = MockRegistry(auth=gate)
        transport = registry.transport()
        async with registry, httpx.AsyncClient(transport=transport, base_url="http://registry") as http:
            return await http.request(method, url, **more)

    return asyncio.run(sent())


@pytest.mark.parametrize("auth", [BasicAuth(USERS), TokenAuth(USERS, basic=True)], ids=["basic", "token"])
@given(header=headers)
def test_any_authorization_header_is_answered(auth: Auth, header: bytes) -> None:
    sent = [(b"authorization", header)]
    assert ask(auth, "GET", "/v2/app/tags/list", headers=sent).status_code == 401
    assert ask(auth, "GET", "/token", headers=sent).status_code in (401, 404)


@given(fields=fields)
def test_any_query_for_a_token_is_answered(fields: list[tuple[str, str]]) -> None:
    auth = TokenAuth(USERS)
    answer = ask(auth, "GET", "/token", params=fields, auth=("ci", "s3cret"))
    assert answer.status_code in (200, 400)


@given(fields=fields)
def test_any_form_for_a_token_is_answered(fields: list[tuple[str, str]]) -> None:
    auth = TokenAuth(USERS)
    form = {name: [value for each, value in fields if each == name] for name, _ in fields}
    answer = ask(auth, "POST", "/token", data=form)
    assert answer.status_code in (200, 400)


@given(body=st.binary(max_size=200))
def test_any_octets_for_a_form_are_answered(body: bytes) -> None:
    sent = {"content-type": "application/x-www-form-urlencoded"}
    assert ask(TokenAuth(USERS), "POST", "/token", content=body, headers=sent).status_code == 400


@given(query=st.binary(max_size=60))
def test_a_query_that_is_redacted_keeps_everything_but_values(query: bytes) -> None:
    redacted = redact_query(query)
    assert [piece.partition(b"=")[:2] for piece in redacted.split(b"&")] == [
        piece.partition(b"=")[:2] for piece in query.split(b"&")
    ]
    assert redact_query(redacted) == redacted


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/v2/", "/v2/"),
        ("/token?password=x", "/token?password=REDACTED"),
        ("/token?PASSWORD=x&a=1", "/token?PASSWORD=REDACTED&a=1"),
        ("/token?pass%77ord=x", "/token?pass%77ord=REDACTED"),
        ("/token?a=1&+token=x&token", "/token?a=1&+token=REDACTED&token"),
        ("http://ci:x@host/v2/?secret=x", "http://host/v2/?secret=REDACTED"),
        ("http://ci:x@host", "http://host"),
        ("/v2/app/blobs/uploads/?digest=sha256:0", "/v2/app/blobs/uploads/?digest=sha256:0"),
    ],
)
def test_a_target_is_written_down_without_credentials(target: str, shown: str) -> None:
    assert redact_target(target) == shown
