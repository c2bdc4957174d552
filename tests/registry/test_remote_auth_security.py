"""Credentials and tokens go to those whom they are for, and to nobody else: no host, log, error or `repr`."""

from __future__ import annotations

import base64
import json
import logging
import traceback
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import httpx
import pytest
import respx

from mock_registry import MockRegistry
from mock_registry.auth import Auth, BasicAuth, TokenAuth
from regsim.core import Descriptor
from regsim.core.account import Account
from regsim.errors import AuthenticationError, RegistryError, RegsimError
from regsim.registry import Connection
from regsim.registry.login import Credentials, FixedKeychain
from regsim.registry.login.authorizer import MAX_SERVICES, Authorizer
from regsim.registry.login.challenge import Challenge
from regsim.registry.login.token_service import MAX_TOKEN_ANSWER, Authorization
from regsim.registry.repository import Registry, Repository
from regsim.registry.session import UploadSession
from regsim.registry.transport import Transport
from regsim.store.memory import BytesContent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from regsim.registry.answer import Answer
    from regsim.registry.retry import Patience

pytestmark = pytest.mark.anyio

HOST = "https://registry.example"
ELSEWHERE = "https://elsewhere.example"
REALM = "https://auth.example/token"
PASSWORD, TOKEN, IDENTITY = "P4SSW0RD", "T0K3N.T0K3N", "1D3NT1TY"
CI = Credentials(user="ci", password=PASSWORD)
BASIC = "Basic Y2k6UDRTU1cwUkQ="
SECRETS = (PASSWORD, TOKEN, IDENTITY, BASIC.partition(" ")[2])
DATA = bytes(range(256)) * 10
LAYER = Descriptor.of(DATA, "application/vnd.oci.image.layer.v1.tar")
CONTENT = BytesContent(LAYER, DATA)
UPLOADS = f"{HOST}/v2/shop/api/blobs/uploads/"
BLOB = f"{HOST}/v2/shop/api/blobs/{LAYER.digest}"


@asynccontextmanager
async def connected(
    router: respx.MockRouter, patience: Patience, credentials: Credentials | None = CI
) -> AsyncIterator[Transport]:
    """Yield a transport behind TLS, of which `router` plays the registry and all others."""
    keychain = FixedKeychain({"registry.example": credentials} if credentials else {})
    connection = Connection(transport=httpx.MockTransport(router.async_handler), keychain=keychain)
    async with Transport(HOST, connection, patience=patience) as transport:
        yield transport


@asynccontextmanager
async def client(
    router: respx.MockRouter, patience: Patience, credentials: Credentials | None = CI
) -> AsyncIterator[Repository]:
    """Yield a repository of that registry."""
    async with connected(router, patience, credentials) as transport:
        yield Registry(transport, patience=patience).repository("shop/api")


@pytest.fixture
def world() -> respx.MockRouter:
    """The internet, as far as a test says that it is there."""
    return respx.MockRouter(assert_all_called=False)


def wanting(*, challenge: str, good: str, then: httpx.Response) -> Any:
    """Return a handler that wants `good` in Authorization, and says so by `challenge`."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.headers.get("Authorization") == good:
            return then
        return httpx.Response(401, headers={"WWW-Authenticate": challenge})

    return answer


BASIC_WAY = {"challenge": 'Basic realm="x"', "good": BASIC}
TOKEN_WAY = {"challenge": f'Bearer realm="{REALM}",service="s"', "good": f"Bearer {TOKEN}"}
BOTH = pytest.mark.parametrize("way", [BASIC_WAY, TOKEN_WAY], ids=["basic", "token"])


def give_tokens(world: respx.MockRouter) -> respx.Route:
    return world.get(url__startswith=REALM).respond(json={"token": TOKEN})


def numbered(_request: httpx.Request, route: respx.Route) -> httpx.Response:
    """Give another token each time."""
    return httpx.Response(200, json={"token": f"T0K3N{route.call_count}"})


def authorizations(route: respx.Route) -> list[str | None]:
    return [call.request.headers.get("Authorization") for call in route.calls]


# To nobody else.


@BOTH
async def test_edge_06_a_redirect_takes_no_credentials_along(
    way: dict[str, str], world: respx.MockRouter, patience: Patience
) -> None:
    give_tokens(world)
    to = httpx.Response(307, headers={"Location": f"{ELSEWHERE}/signed?X-Amz=1"})
    world.head(BLOB).mock(side_effect=wanting(**way, then=to))
    signed = world.head(url__startswith=ELSEWHERE).respond(200, headers={"Content-Length": str(LAYER.size)})
    async with client(world, patience) as repository:
        assert await repository.has_blob(LAYER, Account())
        assert await repository.has_blob(LAYER, Account())
    assert authorizations(signed) == [None, None]


@BOTH
async def test_a_401_from_where_a_redirect_led_is_not_answered(
    way: dict[str, str], world: respx.MockRouter, patience: Patience
) -> None:
    service = give_tokens(world)
    world.head(BLOB).respond(307, headers={"Location": f"{ELSEWHERE}/signed"})
    signed = world.head(url__startswith=ELSEWHERE).respond(
        401, headers={"WWW-Authenticate": way["challenge"]}
    )
    async with client(world, patience) as repository:
        with pytest.raises(RegistryError, match="401"):
            await repository.has_blob(LAYER, Account())
    assert authorizations(signed) == [None]
    assert not service.called


@BOTH
async def test_edge_04_a_location_elsewhere_takes_no_credentials_along(
    way: dict[str, str], world: respx.MockRouter, patience: Patience
) -> None:
    give_tokens(world)
    opened = httpx.Response(202, headers={"Location": f"{ELSEWHERE}/upload?state=1"})
    post = world.post(UPLOADS).mock(side_effect=wanting(**way, then=opened))
    put = world.put(url__startswith=ELSEWHERE).respond(201)
    async with client(world, patience) as repository:
        await repository.upload(CONTENT, Account())
    assert authorizations(post) == [None, way["good"]]
    assert authorizations(put) == [None]


@BOTH
async def test_edge_04_a_location_at_another_port_is_elsewhere(
    way: dict[str, str], world: respx.MockRouter, patience: Patience
) -> None:
    give_tokens(world)
    opened = httpx.Response(202, headers={"Location": "https://registry.example:444/upload"})
    world.post(UPLOADS).mock(side_effect=wanting(**way, then=opened))
    put = world.put(url__startswith="https://registry.example:444").respond(201)
    async with client(world, patience) as repository:
        await repository.upload(CONTENT, Account())
    assert authorizations(put) == [None]


# This machine is not the registry's to send anything to.
@pytest.mark.parametrize("host", ["registry.example", "127.0.0.1:2375", "localhost"])
@BOTH
async def test_edge_04_a_location_without_tls_is_not_followed(
    way: dict[str, str], host: str, world: respx.MockRouter, patience: Patience
) -> None:
    give_tokens(world)
    opened = httpx.Response(202, headers={"Location": f"http://{host}/upload"})
    world.post(UPLOADS).mock(side_effect=wanting(**way, then=opened))
    async with client(world, patience) as repository:
        with pytest.raises(RegistryError, match="plain HTTP"):
            await repository.upload(CONTENT, Account())


@BOTH
async def test_a_link_elsewhere_is_not_followed(
    way: dict[str, str], world: respx.MockRouter, patience: Patience
) -> None:
    give_tokens(world)
    page = httpx.Response(
        200, json={"tags": ["v1"]}, headers={"Link": f'<{ELSEWHERE}/v2/shop/api/tags/list>; rel="next"'}
    )
    world.get(f"{HOST}/v2/shop/api/tags/list").mock(side_effect=wanting(**way, then=page))
    following = world.get(url__startswith=ELSEWHERE)
    async with client(world, patience) as repository:
        with pytest.raises(RegistryError, match="at another host"):
            await repository.tags(Account())
    assert not following.called


@BOTH
async def test_an_absolute_url_elsewhere_is_asked_without_credentials(
    way: dict[str, str], world: respx.MockRouter, patience: Patience
) -> None:
    give_tokens(world)
    world.head(BLOB).mock(side_effect=wanting(**way, then=httpx.Response(404)))
    other = world.get(f"{ELSEWHERE}/layer.tar").respond(401, headers={"WWW-Authenticate": way["challenge"]})
    async with connected(world, patience) as transport:
        await Registry(transport).repository("shop/api").has_blob(LAYER, Account())
        answer = await transport.send("GET", f"{ELSEWHERE}/layer.tar", Account())
    assert answer.status == 401
    assert authorizations(other) == [None]


@pytest.mark.parametrize("realm", ["http://auth.example/token", "https://169.254.169.254/token", "x"])
async def test_edge_19_nothing_goes_to_a_realm_that_may_not_be_asked(
    realm: str, world: respx.MockRouter, patience: Patience
) -> None:
    world.head(BLOB).respond(401, headers={"WWW-Authenticate": f'Bearer realm="{realm}"'})
    elsewhere = world.get(url__startswith=realm)
    async with client(world, patience) as repository:
        with pytest.raises(AuthenticationError, match="sends clients for tokens to"):
            await repository.has_blob(LAYER, Account())
    assert not elsewhere.called


async def test_a_realm_that_leads_on_takes_no_credentials_along(
    world: respx.MockRouter, patience: Patience
) -> None:
    world.head(BLOB).mock(side_effect=wanting(**TOKEN_WAY, then=httpx.Response(404)))
    realm = world.get(url__startswith=REALM).respond(302, headers={"Location": f"{ELSEWHERE}/token"})
    leads = world.get(url__startswith=ELSEWHERE).respond(json={"token": TOKEN})
    async with client(world, patience) as repository:
        assert not await repository.has_blob(LAYER, Account())
    assert authorizations(realm) == [BASIC]
    assert authorizations(leads) == [None]


@pytest.mark.parametrize(
    "to", ["https://169.254.169.254/latest", "https://127.0.0.1/", "http://127.0.0.1:80/"]
)
async def test_edge_19_a_realm_leads_to_no_place_that_it_could_not_name(
    to: str, world: respx.MockRouter, patience: Patience
) -> None:
    world.get(url__startswith=REALM).respond(302, headers={"Location": to})
    inside = world.get(to).respond(json={"token": TOKEN})
    world.get(BLOB).mock(side_effect=wanting(**TOKEN_WAY, then=httpx.Response(200, content=DATA)))
    async with client(world, patience) as repository:
        with pytest.raises(RegistryError, match=r"inside a network|plain HTTP"):
            await repository.has_blob(LAYER, Account(), closely=True)
    assert inside.call_count == 0


async def test_an_identity_token_is_not_sent_on(world: respx.MockRouter, patience: Patience) -> None:
    world.head(BLOB).mock(side_effect=wanting(**TOKEN_WAY, then=httpx.Response(404)))
    world.post(REALM).respond(307, headers={"Location": f"{ELSEWHERE}/token"})
    leads = world.post(url__startswith=ELSEWHERE)
    async with client(world, patience, Credentials(identity_token=IDENTITY)) as repository:
        with pytest.raises(RegistryError, match="was redirected"):
            await repository.has_blob(LAYER, Account())
    assert not leads.called


async def test_a_password_is_not_shown_to_a_registry_that_wants_a_token(
    world: respx.MockRouter, patience: Patience
) -> None:
    service = give_tokens(world)
    head = world.head(BLOB).mock(side_effect=wanting(**TOKEN_WAY, then=httpx.Response(404)))
    async with client(world, patience) as repository:
        await repository.has_blob(LAYER, Account())
    assert authorizations(service) == [BASIC]
    assert authorizations(head) == [None, f"Bearer {TOKEN}"]


async def test_a_token_is_not_shown_to_its_service(world: respx.MockRouter, patience: Patience) -> None:
    service = give_tokens(world)
    world.head(url__startswith=HOST).mock(side_effect=wanting(**TOKEN_WAY, then=httpx.Response(404)))
    async with connected(world, patience, None) as transport:
        for name in ("shop/api", "shop/web"):
            await Registry(transport, patience=patience).repository(name).has_blob(LAYER, Account())
    assert authorizations(service) == [None, None]


@BOTH
async def test_edge_53_cookies_are_returned_to_nobody(
    way: dict[str, str], world: respx.MockRouter, patience: Patience
) -> None:
    cookie = {"Set-Cookie": "sid=harbor; Path=/"}
    service = world.get(url__startswith=REALM).respond(json={"token": TOKEN}, headers=cookie)
    head = world.head(BLOB).mock(side_effect=wanting(**way, then=httpx.Response(404, headers=cookie)))
    async with client(world, patience) as repository:
        for _ in range(2):
            await repository.has_blob(LAYER, Account())
    calls = [*head.calls, *service.calls]
    assert [call.request for call in calls if "Cookie" in call.request.headers] == []


@BOTH
async def test_an_authorization_is_put_into_no_request_to_another_origin(
    way: dict[str, str], world: respx.MockRouter, patience: Patience
) -> None:
    """Neither that of the login, nor one that a caller puts among the headers."""
    give_tokens(world)
    world.head(BLOB).mock(side_effect=wanting(**way, then=httpx.Response(404)))
    foreign = world.get(f"{ELSEWHERE}/x").respond(200)
    async with connected(world, patience) as transport:
        await Registry(transport, patience=patience).repository("shop/api").has_blob(LAYER, Account())
        for headers in ({}, {"Authorization": BASIC, "Cookie": "x", "Proxy-Authorization": BASIC}):
            await transport.send("GET", f"{ELSEWHERE}/x", Account(), headers=headers)
    names = {name for call in foreign.calls for name in call.request.headers}
    assert not names & {"authorization", "cookie", "proxy-authorization"}


@pytest.mark.parametrize("auth", [BasicAuth({"ci": PASSWORD}), TokenAuth({"ci": PASSWORD})])
async def test_field_fault_23_a_store_that_refuses_credentials_gets_none(auth: Auth) -> None:
    async with (
        MockRegistry(auth=auth, faults=["GET blob redirect 307"]) as mock,
        mock.serve() as server,
        Transport(
            server.url, Connection(keychain=FixedKeychain({server.url.partition("://")[2]: CI}))
        ) as transport,
    ):
        repository = Registry(transport).repository("shop/api", writes=True)
        await repository.upload(CONTENT, Account())
        stream = repository.blob(LAYER, Account()).open()
        assert b"".join([chunk async for chunk in stream]) == DATA


# In no word.


def words(error: BaseException) -> str:
    """Return all that anybody could be shown of an error."""
    text = "".join(traceback.format_exception(error))
    seen: BaseException | None = error
    while seen is not None:
        text += f"{seen!r} {getattr(seen, 'hint', '')} {vars(seen)}"
        seen = seen.__cause__ or seen.__context__
    return text


def assert_silent(text: str) -> None:
    assert [secret for secret in SECRETS if secret in text] == []


def echo(request: httpx.Request) -> httpx.Response:
    """Refuse, and repeat all that came."""
    said = f"you sent {request.headers.get('Authorization')} and {request.content.decode()}"
    return httpx.Response(403, json={"errors": [{"code": said, "message": f'in "quotes": {said}'}]})


def repeat(request: httpx.Request) -> httpx.Response:
    """Refuse as a service does that took the credentials apart."""
    scheme, _, word = request.headers.get("Authorization", "Basic ").partition(" ")
    word = base64.b64decode(word).decode() if scheme == "Basic" else word
    form = parse_qs(request.content.decode(errors="replace"))
    return httpx.Response(401, text=f"<b>{word}</b> {form.get('refresh_token')}")


def warn(request: httpx.Request) -> httpx.Response:
    """Refuse, and warn of what came."""
    said = httpx.Headers({"Warning": f'299 - "you sent {request.headers.get("Authorization")}"'})
    return httpx.Response(403, headers=said)


@pytest.mark.parametrize(
    ("way", "service"),
    [
        (BASIC_WAY, httpx.Response(404)),
        (TOKEN_WAY, httpx.Response(200, json={"token": TOKEN})),
        (TOKEN_WAY, echo),
        (TOKEN_WAY, repeat),
        (TOKEN_WAY, httpx.Response(200, json={"token": f"{TOKEN} {TOKEN}"})),
        (TOKEN_WAY, httpx.Response(200, json={"token": [TOKEN]})),
        (TOKEN_WAY, httpx.Response(200, text=f'{{"token": "{TOKEN}')),
        (TOKEN_WAY, httpx.Response(302, headers={"Location": f"ftp://x/?t={TOKEN}"})),
        (TOKEN_WAY, httpx.ReadTimeout("silence")),
    ],
)
@pytest.mark.parametrize("credentials", [CI, Credentials(identity_token=IDENTITY)])
@pytest.mark.parametrize("refuse", [echo, repeat, warn])
async def test_no_error_and_no_log_repeats_a_secret(  # noqa: PLR0917  (fixtures and parameters)
    way: dict[str, str],
    service: httpx.Response | Exception | Callable[[httpx.Request], httpx.Response],
    credentials: Credentials,
    refuse: Callable[[httpx.Request], httpx.Response],
    world: respx.MockRouter,
    patience: Patience,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    if isinstance(service, httpx.Response):
        world.route(url__startswith=REALM).mock(return_value=service)
    else:
        world.route(url__startswith=REALM).mock(side_effect=service)
    wants = wanting(**way, then=httpx.Response(200))

    def registry(request: httpx.Request) -> httpx.Response:
        answer: httpx.Response = wants(request)
        return answer if answer.status_code == 401 else refuse(request)

    world.route(url__startswith=HOST).mock(side_effect=registry)
    async with connected(world, patience, credentials) as transport:
        repository = Registry(transport, patience=patience).repository("shop/api")
        with pytest.raises(RegsimError) as caught:
            await repository.upload(CONTENT, Account())
        assert_silent(repr([repository, vars(repository), transport, vars(transport)]))
    assert_silent(words(caught.value))
    assert_silent(caplog.text)


def test_no_repr_shows_a_secret() -> None:
    shown = [
        CI,
        Credentials(identity_token=IDENTITY),
        FixedKeychain({"registry.example": CI}),
        Authorization.basic(("https", "registry.example", 443), CI),  # type: ignore[arg-type]
        UploadSession(url=f"{HOST}/?{TOKEN}"),
    ]
    assert_silent(repr(shown) + "".join(map(str, shown)))


# No more than there is room for.


class Endless(httpx.AsyncByteStream):
    """A body that would never end; `given` tells how much of it was taken."""

    given = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            self.given += 1024
            yield b" " * 1024


async def test_a_token_answer_without_end_is_not_read_to_it(
    world: respx.MockRouter, patience: Patience
) -> None:
    body = Endless()
    world.get(url__startswith=REALM).mock(return_value=httpx.Response(200, stream=body))
    world.head(BLOB).mock(side_effect=wanting(**TOKEN_WAY, then=httpx.Response(404)))
    async with client(world, patience) as repository:
        with pytest.raises(AuthenticationError, match="did not answer a token request with a token"):
            await repository.has_blob(LAYER, Account())
    assert MAX_TOKEN_ANSWER <= body.given < 2 * MAX_TOKEN_ANSWER


@pytest.mark.parametrize(
    "document",
    [
        "",
        "[]",
        "[" * 30_000,
        "{}",
        '{"token": ""}',
        '{"token": 7}',
        '{"token": null, "access_token": {}}',
        json.dumps({"token": "a\r\nX-Evil: 1"}),
        json.dumps({"token": "a b"}),
        json.dumps({"token": "é"}),
    ],
)
async def test_what_is_no_token_is_taken_for_none(
    document: str, world: respx.MockRouter, patience: Patience
) -> None:
    world.get(url__startswith=REALM).respond(200, text=document)
    head = world.head(BLOB).mock(side_effect=wanting(**TOKEN_WAY, then=httpx.Response(404)))
    async with client(world, patience) as repository:
        with pytest.raises(AuthenticationError, match=r"auth\.example/token did not answer a token request"):
            await repository.has_blob(LAYER, Account())
    assert head.call_count == 1


@pytest.mark.parametrize("expires", [0, -5, 59, 1e400, "300", None, True, [], 10**400])
async def test_edge_17_a_lifetime_that_makes_no_sense_is_a_minute(
    expires: object, world: respx.MockRouter, patience: Patience
) -> None:
    service = world.get(url__startswith=REALM).respond(
        text=json.dumps({"access_token": TOKEN, "expires_in": expires})
    )
    world.head(BLOB).mock(side_effect=wanting(**TOKEN_WAY, then=httpx.Response(404)))
    async with client(world, patience) as repository:
        for _ in range(3):
            await repository.has_blob(LAYER, Account())
    assert service.call_count == 1


async def test_a_registry_that_likes_no_token_is_not_asked_for_ever(
    world: respx.MockRouter, patience: Patience
) -> None:
    service = give_tokens(world)
    challenge = f'{TOKEN_WAY["challenge"]},error="invalid_token"'
    head = world.head(BLOB).respond(401, headers={"WWW-Authenticate": challenge})
    async with client(world, patience) as repository:
        with pytest.raises(AuthenticationError):
            await repository.has_blob(LAYER, Account())
    assert service.call_count < 10
    assert head.call_count < 10


async def test_a_registry_that_always_wants_more_is_not_asked_for_ever(
    world: respx.MockRouter, patience: Patience
) -> None:
    world.get(url__startswith=REALM).mock(side_effect=numbered)
    asked = 0

    def more(_request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        scope = f'{TOKEN_WAY["challenge"]},error="insufficient_scope",scope="repository:r{asked}:pull"'
        return httpx.Response(401, headers={"WWW-Authenticate": scope})

    world.head(BLOB).mock(side_effect=more)
    async with client(world, patience) as repository:
        with pytest.raises(AuthenticationError):
            await repository.has_blob(LAYER, Account())
    assert asked < 10


async def test_services_that_a_registry_names_in_turn_are_not_all_remembered() -> None:
    async def ask(*_: object, **__: object) -> Answer:
        raise NotImplementedError

    authorizer = Authorizer("registry.example", HOST, ask)
    challenges = [Challenge("bearer", {"realm": f"{REALM}?{number}"}) for number in range(MAX_SERVICES + 1)]
    services = [authorizer.token_service(CI, each) for each in challenges]
    again = [authorizer.token_service(CI, each) for each in reversed(challenges)]
    assert [one is other for one, other in zip(reversed(services), again, strict=True)] == [
        *([True] * MAX_SERVICES),
        False,
    ]


async def test_a_scheme_that_is_not_known_is_named(world: respx.MockRouter, patience: Patience) -> None:
    world.head(BLOB).respond(401, headers={"WWW-Authenticate": "Negotiate, NTLM"})
    async with client(world, patience) as repository:
        with pytest.raises(AuthenticationError, match="offers no login that regsim knows: negotiate, ntlm"):
            await repository.has_blob(LAYER, Account())


async def test_edge_13_what_was_lacking_stands_first(world: respx.MockRouter, patience: Patience) -> None:
    service = world.get(url__startswith=REALM).mock(side_effect=numbered)
    scope = 'scope="repository:other:pull repository:shop/api:delete"'
    world.head(BLOB).mock(
        side_effect=[
            httpx.Response(401, headers={"WWW-Authenticate": TOKEN_WAY["challenge"]}),
            httpx.Response(
                401,
                headers={"WWW-Authenticate": f'{TOKEN_WAY["challenge"]},error="insufficient_scope",{scope}'},
            ),
            httpx.Response(404),
        ]
    )
    async with client(world, patience) as repository:
        assert not await repository.has_blob(LAYER, Account())
    assert [call.request.url.params.get_list("scope") for call in service.calls] == [
        ["repository:shop/api:pull"],
        ["repository:other:pull", "repository:shop/api:delete,pull"],
    ]
