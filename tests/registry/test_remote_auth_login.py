"""Logging in at the mock registry, in every way that it knows: who asks, how often, and with what."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import aclosing, asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from mock_registry import MockRegistry, Record, Route
from mock_registry.auth import Auth, BasicAuth, Challenges, Lifetime, Right, TokenAnswer, TokenAuth
from regsim.core import Descriptor, media_types
from regsim.core.account import Account
from regsim.core.manifest import manifest_document
from regsim.errors import AuthenticationError, RegistryError
from regsim.registry import Connection
from regsim.registry.answer import Answer
from regsim.registry.login import Credentials, FixedKeychain
from regsim.registry.login.challenge import Scope
from regsim.registry.login.token_service import TokenService
from regsim.registry.repository import Registry, Repository
from regsim.registry.retry import Patience, Policy
from regsim.registry.session import UploadSession
from regsim.registry.transport import Transport
from regsim.store.memory import BytesContent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

HOST = "registry.example"
USERS = {"ci": "pass:word", "guest": "guest"}
CI = Credentials(user="ci", password="pass:word")
DATA = bytes(range(256)) * 400
LAYER = Descriptor.of(DATA, "application/vnd.oci.image.layer.v1.tar")
CONFIG = Descriptor.of(b"{}", media_types.OCI_CONFIG)
RAW = manifest_document(CONFIG, [LAYER])
MANIFEST = Descriptor.of(RAW, media_types.OCI_MANIFEST)
CONTENT = BytesContent(LAYER, DATA)


@asynccontextmanager
async def connected(
    auth: Auth | None, credentials: Credentials | None = CI, **settings: Any
) -> AsyncIterator[tuple[MockRegistry, Registry]]:
    """Yield a registry, and a client of it that knows one user and never waits."""

    async def at_once(_seconds: float) -> None:
        pass

    patience = Patience(Policy(retries=3), sleep=at_once)
    keychain = FixedKeychain({HOST: credentials} if credentials else {})
    async with (
        MockRegistry(auth=auth, **settings) as mock,
        Transport(
            HOST,
            Connection(plain_http=True, transport=mock.transport(), keychain=keychain),
            patience=patience,
        ) as transport,
    ):
        yield mock, Registry(transport, patience=patience)


def tokens(mock: MockRegistry) -> list[Record]:
    return [record for record in mock.journal if record.route is Route.TOKEN]


def scopes(record: Record) -> list[str]:
    return parse_qs(urlsplit(record.target).query).get("scope", [])


def refused(mock: MockRegistry) -> list[Record]:
    return [record for record in mock.journal if record.status in (401, 403)]


async def push(repository: Repository, account: Account) -> None:
    for content in (CONTENT, BytesContent(CONFIG, b"{}")):
        if not await repository.has_blob(content.descriptor, account):
            await repository.upload(content, account)
    await repository.put_manifest(RAW, MANIFEST.media_type, "v1", account)


def assert_agrees(mock: MockRegistry, account: Account) -> None:
    """Check the account against the journal: requests, and the bodies of both directions."""
    assert account.requests == len(mock.journal)
    sent = account.sent + account.received + account.overhead
    assert sent == sum(record.bytes_in + record.bytes_out for record in mock.journal)


async def test_nothing_is_asked_for_where_nobody_asks() -> None:
    async with connected(None) as (mock, registry):
        account = Account()
        await push(registry.repository("shop/api"), account)
        assert account.requests == 7
        assert_agrees(mock, account)


async def test_a_password_goes_with_every_request_after_the_first_challenge() -> None:
    async with connected(BasicAuth(USERS)) as (mock, registry):
        account = Account()
        await push(registry.repository("shop/api"), account)
        assert [record.status for record in refused(mock)] == [401]
        assert [record.user for record in mock.journal] == [None] + ["ci"] * 7
        assert_agrees(mock, account)


async def test_one_token_is_enough_for_a_push() -> None:
    async with connected(TokenAuth(USERS)) as (mock, registry):
        account = Account()
        await push(registry.repository("shop/api", writes=True), account)
        assert [scopes(record) for record in tokens(mock)] == [["repository:shop/api:pull,push"]]
        assert len(refused(mock)) == 1
        assert_agrees(mock, account)


async def test_who_only_reads_asks_for_no_more() -> None:
    async with connected(TokenAuth(USERS)) as (mock, registry):
        await registry.repository("shop/api").resolve("v1", Account())
        assert [scopes(record) for record in tokens(mock)] == [["repository:shop/api:pull"]]


async def test_who_reads_first_and_then_writes_asks_twice_and_is_refused_once() -> None:
    async with connected(TokenAuth(USERS)) as (mock, registry):
        await push(registry.repository("shop/api"), Account())
        assert [scopes(record) for record in tokens(mock)] == [
            ["repository:shop/api:pull"],
            ["repository:shop/api:pull,push"],
        ]
        assert len(refused(mock)) == 1


async def test_without_credentials_a_token_for_everyone_is_asked_for() -> None:
    async with connected(TokenAuth(USERS, anonymous_pull=True), None) as (mock, registry):
        assert await registry.repository("shop/api").resolve("v1", Account()) is None
        assert [(record.status, record.user) for record in tokens(mock)] == [(200, None)]
        with pytest.raises(AuthenticationError, match="401 Unauthorized") as caught:
            await push(registry.repository("shop/api"), Account())
        assert "no credentials were found" in caught.value.hint


@pytest.mark.parametrize("auth", [BasicAuth(USERS), TokenAuth(USERS)], ids=["basic", "token"])
async def test_wrong_credentials_are_one_clear_error(auth: Auth) -> None:
    wrong = Credentials(user="ci", password="wr0ng", source="a note")
    async with connected(auth, wrong) as (mock, registry):
        with pytest.raises(AuthenticationError, match="401 Unauthorized") as caught:
            await registry.repository("shop/api").resolve("v1", Account())
        assert caught.value.status == 401
        assert "a note" in caught.value.hint
        assert "wr0ng" not in f"{caught.value!r} {caught.value} {caught.value.hint}"
        assert len(mock.journal) == 2


async def test_many_at_once_share_one_token() -> None:
    async with connected(TokenAuth(USERS)) as (mock, registry):
        repository, accounts = registry.repository("shop/api"), [Account() for _ in range(30)]
        await asyncio.gather(*(repository.resolve("v1", each) for each in accounts))
        assert len(tokens(mock)) == 1
        assert len(mock.journal) == 30 * 2 + 1
        assert sum(each.requests for each in accounts) == len(mock.journal)


async def test_a_token_that_could_not_be_had_is_asked_for_again_by_who_comes_later() -> None:
    async with connected(TokenAuth(USERS), faults=["GET token first=4 status 400"]) as (mock, registry):
        repository = registry.repository("shop/api")
        outcomes = await asyncio.gather(
            *(repository.resolve("v1", Account()) for _ in range(10)), return_exceptions=True
        )
        assert {type(each) for each in outcomes} == {AuthenticationError}
        # One for all who waited; the tracebacks are each one's own.
        assert len({id(each) for each in outcomes}) == 10
        assert len(tokens(mock)) == 1
        for _ in range(3):
            with pytest.raises(AuthenticationError):
                await repository.resolve("v1", Account())
        assert await repository.resolve("v1", Account()) is None


async def test_a_token_service_that_is_busy_is_asked_again() -> None:
    auth = TokenAuth(USERS)
    async with connected(auth, faults=["GET token first=2 status 503"]) as (mock, registry):
        account = Account()
        assert await registry.repository("shop/api").resolve("v1", account) is None
        assert [record.status for record in tokens(mock)] == [503, 503, 200]
        assert_agrees(mock, account)


async def test_edge_09_a_mount_that_is_refused_for_lack_of_rights_becomes_an_upload() -> None:
    rights = [Right("ci", "shop/**")]
    auth = TokenAuth(USERS, rights=rights, challenge_mounts=True, whole_or_nothing=True)
    async with connected(auth) as (_, registry):
        repository, account = registry.repository("shop/api", writes=True), Account()
        assert await repository.mount(LAYER.digest, "other/secret", account) is None
        await repository.upload(CONTENT, account)
        assert await repository.has_blob(LAYER, account)


async def test_edge_12_a_mount_takes_one_token_for_both_repositories() -> None:
    async with connected(TokenAuth(USERS, challenge_mounts=True)) as (mock, registry):
        await registry.repository("shop/base", writes=True).upload(CONTENT, Account())
        before = len(mock.journal)
        mounted = await registry.repository("shop/api").mount(LAYER.digest, "shop/base", Account())
        assert mounted is True
        # The target's scope first: some services read no further.
        assert scopes(tokens(mock)[-1]) == ["repository:shop/api:pull,push", "repository:shop/base:pull"]
        assert len(mock.journal) == before + 2


async def test_edge_13_a_token_that_is_not_enough_is_followed_by_one_that_is() -> None:
    async with connected(TokenAuth(USERS, cancel_needs_delete=True)) as (mock, registry):
        repository, account = registry.repository("shop/api", writes=True), Account()
        session = await repository.mount(LAYER.digest, "shop/none", account)
        assert isinstance(session, UploadSession)
        await repository.cancel(session, account)
        # What the challenge named stands first, and what was held stays.
        assert scopes(tokens(mock)[-1]) == [
            "repository:shop/api:delete,pull,push",
            "repository:shop/none:pull",
        ]
        assert mock.journal.records(method="DELETE")[-1].status == 204
        assert_agrees(mock, account)


async def test_edge_13_as_the_standard_has_it_with_403() -> None:
    auth = TokenAuth(USERS, scope_status=403, cancel_needs_delete=True)
    async with connected(auth) as (mock, registry):
        repository, account = registry.repository("shop/api", writes=True), Account()
        session = await repository.mount(LAYER.digest, "shop/none", account)
        assert isinstance(session, UploadSession)
        await repository.cancel(session, account)
        assert [record.status for record in mock.journal.records(method="DELETE")] == [403, 204]


async def test_a_lasting_403_is_no_reason_to_log_in_again() -> None:
    auth = TokenAuth(USERS, rights=[Right("ci", "shop/**", "pull")], denial=403)
    async with connected(auth) as (mock, registry):
        with pytest.raises(RegistryError, match="403 Forbidden"):
            await registry.repository("shop/api", writes=True).upload(CONTENT, Account())
        assert [record.status for record in mock.journal if record.route is not Route.TOKEN] == [401, 403]


async def test_edge_14_a_401_in_the_middle_of_an_upload_sends_the_body_again() -> None:
    async with connected(TokenAuth(USERS), faults=["PUT upload nth=1 expire_tokens"]) as (mock, registry):
        repository, account = registry.repository("shop/api", writes=True), Account()
        await repository.upload(CONTENT, account)
        assert (account.sent, account.attempts) == (2 * len(DATA), 2)
        puts = mock.journal.records(method="PUT")
        assert [(put.status, put.bytes_in) for put in puts] == [(401, len(DATA)), (201, len(DATA))]
        # In the session that there is: nothing was wrong with it.
        assert puts[0].target.partition("?")[0] == puts[1].target.partition("?")[0]
        assert_agrees(mock, account)
        async with aclosing(repository.blob(LAYER, account).open()) as stream:
            assert b"".join([chunk async for chunk in stream]) == DATA


async def test_edge_14_a_copy_reads_its_source_again() -> None:
    async with (
        connected(TokenAuth(USERS), faults=["PUT upload nth=2 expire_tokens"]) as (mock, registry),
    ):
        source, account = registry.repository("shop/base", writes=True), Account()
        await source.upload(CONTENT, Account())
        target = registry.repository("shop/api", writes=True)
        await target.upload(source.blob(LAYER, account), account)
        assert (account.sent, account.received) == (2 * len(DATA), 2 * len(DATA))
        assert await target.has_blob(LAYER, Account())
        assert [record.status for record in mock.journal.records(method="PUT")] == [201, 401, 201]


async def test_edge_14_a_manifest_is_put_again() -> None:
    async with connected(TokenAuth(USERS), faults=["PUT manifest nth=1 expire_tokens"]) as (mock, registry):
        account = Account()
        await push(registry.repository("shop/api", writes=True), account)
        assert account.sent == len(DATA) + 2 + 2 * len(RAW)
        assert account.attempts == 4
        assert_agrees(mock, account)


async def test_field_fault_10_tokens_that_end_all_the_time_end_nothing() -> None:
    auth = TokenAuth(USERS, lifetime=Lifetime(requests=1))
    async with connected(auth) as (mock, registry):
        account = Account()
        await push(registry.repository("shop/api", writes=True), account)
        assert await registry.repository("shop/api").resolve("v1", account) == MANIFEST
        assert_agrees(mock, account)


async def test_field_fault_10_even_where_several_use_them_up() -> None:
    auth = TokenAuth(USERS, lifetime=Lifetime(requests=2))
    async with connected(auth) as (mock, registry):
        repository, accounts = registry.repository("shop/api"), [Account() for _ in range(6)]
        await asyncio.gather(*(repository.resolve("v1", each) for each in accounts))
        assert sum(each.requests for each in accounts) == len(mock.journal)


async def test_edge_15_a_challenge_at_the_base_alone_is_found_there_and_kept() -> None:
    auth = TokenAuth(USERS, challenges=Challenges(only_at_base=True))
    async with connected(auth, faults=["PUT manifest nth=1 expire_tokens"]) as (mock, registry):
        account = Account()
        await push(registry.repository("shop/api", writes=True), account)
        assert len(mock.journal.records(route="base")) == 1
        # The second 401, without a challenge, met one that was remembered.
        assert len(tokens(mock)) == 2
        assert_agrees(mock, account)


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("auth", [BasicAuth, TokenAuth])
async def test_edge_16_a_scheme_that_is_known_is_chosen_among_others(
    auth: type[BasicAuth | TokenAuth], joined: bool
) -> None:
    challenges = Challenges(first=("Negotiate", 'Digest realm="x, Basic", nonce="a=b"'), joined=joined)
    async with connected(auth(USERS, challenges=challenges)) as (_, registry):
        assert await registry.repository("shop/api").resolve("v1", Account()) is None


async def test_edge_16_without_a_password_a_token_is_chosen() -> None:
    auth = TokenAuth(USERS, anonymous_pull=True, basic=True)
    async with connected(auth, None) as (mock, registry):
        assert await registry.repository("shop/api").resolve("v1", Account()) is None
        assert len(tokens(mock)) == 1


@pytest.mark.parametrize(
    "answer",
    [
        TokenAnswer(names=("token",)),
        TokenAnswer(names=("access_token",)),
        TokenAnswer(expires_in=False),
        TokenAnswer(names=("access_token",), expires_in=False, issued_at=False),
        TokenAnswer(claimed_seconds=0),
        TokenAnswer(claimed_seconds=-1),
        TokenAnswer(claimed_seconds=10**30),
        TokenAnswer(clock_skew=-86_400),
        TokenAnswer(clock_skew=86_400),
    ],
)
async def test_edge_17_and_field_fault_11_a_token_is_taken_however_it_is_worded(answer: TokenAnswer) -> None:
    async with connected(TokenAuth(USERS, answer=answer)) as (mock, registry):
        account = Account()
        await push(registry.repository("shop/api", writes=True), account)
        assert len(tokens(mock)) == 1
        assert_agrees(mock, account)


async def test_a_token_that_is_about_to_end_is_replaced_before_anybody_refuses_it() -> None:
    clock, asked = [0.0], count(1)

    async def ask(method: str, url: str, *_: object, **__: object) -> Answer:
        document = {"token": f"token{next(asked)}", "expires_in": 300}
        return Answer(method=method, url=url, status=200, body=json.dumps(document).encode())

    url, scopes = "https://auth.example/token", (Scope.repository("shop/api", "pull"),)
    service = TokenService(url, "", None, ask=ask, patience=Patience(), now=lambda: clock[0])
    for at, value in ((0.0, "token1"), (294.0, "token1"), (296.0, "token2")):
        clock[0] = at
        assert (await service.token(scopes, Account())).value == value


async def test_an_identity_token_goes_by_post() -> None:
    auth = TokenAuth(USERS)
    identity = Credentials(identity_token=auth.issue_refresh_token("ci"))
    async with connected(auth, identity) as (mock, registry):
        account = Account()
        await push(registry.repository("shop/api", writes=True), account)
        assert [(record.method, record.status, record.user) for record in tokens(mock)] == [
            ("POST", 200, "ci")
        ]
        assert_agrees(mock, account)


@pytest.mark.parametrize("status", [404, 405])
async def test_edge_17_where_there_is_no_post_get_follows(status: int) -> None:
    auth = TokenAuth(USERS, post_status=status)
    both = Credentials(user="ci", password="pass:word", identity_token="good for nothing here")
    async with connected(auth, both) as (mock, registry):
        await push(registry.repository("shop/api"), Account())
        # And POST is not tried again for the second token.
        assert [(record.method, record.status) for record in tokens(mock)] == [
            ("POST", status),
            ("GET", 200),
            ("GET", 200),
        ]


async def test_an_identity_token_that_is_not_good_is_one_clear_error() -> None:
    identity = Credentials(identity_token="s3cr3t-id", source="a helper")
    async with connected(TokenAuth(USERS), identity) as (_, registry):
        with pytest.raises(AuthenticationError, match=r"no token: POST .*/token was answered 400") as caught:
            await registry.repository("shop/api").resolve("v1", Account())
        assert "s3cr3t-id" not in str(caught.value)


async def test_a_refresh_token_that_came_with_an_answer_is_used_for_the_next_one() -> None:
    auth = TokenAuth(USERS, rotate=True)
    identity = Credentials(identity_token=auth.issue_refresh_token("ci"))
    async with connected(auth, identity) as (mock, registry):
        for name in ("shop/api", "shop/web", "shop/base"):
            await registry.repository(name).resolve("v1", Account())
        # Each was good once.
        assert [(record.method, record.status) for record in tokens(mock)] == [("POST", 200)] * 3


async def test_a_refresh_token_that_ended_gives_way_to_what_the_user_has() -> None:
    auth = TokenAuth(USERS, rotate=True)
    identity = Credentials(user="ci", password="pass:word", identity_token=auth.issue_refresh_token("ci"))
    async with connected(auth, identity) as (mock, registry):
        await registry.repository("shop/api").resolve("v1", Account())
        auth.refresh_tokens.revoke_all()
        with pytest.raises(AuthenticationError):
            await registry.repository("shop/web").resolve("v1", Account())
        assert [(record.method, record.status) for record in tokens(mock)] == [
            ("POST", 200),
            ("POST", 400),
            ("POST", 400),
        ]


async def test_edge_46_credentials_of_one_port_are_not_those_of_another() -> None:
    keychain = FixedKeychain({"127.0.0.1:5000": CI, "LOCALHOST": CI})
    assert await keychain.find("127.0.0.1:5000", None) == CI
    assert await keychain.find("localhost", "shop/api") == CI
    for other in ("127.0.0.1:5001", "127.0.0.1", "localhost:5000"):
        assert await keychain.find(other, "shop/api") is None


async def test_edge_54_a_delete_asks_for_the_right_to() -> None:
    async with connected(TokenAuth(USERS)) as (mock, registry):
        repository = registry.repository("shop/api", writes=True)
        await push(repository, Account())
        account = Account()
        await repository.delete_manifest(MANIFEST.digest, account)
        assert scopes(tokens(mock)[-1]) == ["repository:shop/api:delete"]
        assert account.requests == 2
        await repository.delete_blob(LAYER.digest, account)
        assert account.requests == 3


async def test_edge_54_aborting_an_upload_takes_what_the_registry_says() -> None:
    async with connected(TokenAuth(USERS, cancel_needs_delete=False)) as (mock, registry):
        repository = registry.repository("shop/api", writes=True)
        session = await repository.mount(LAYER.digest, "shop/none", Account())
        assert isinstance(session, UploadSession)
        before = len(tokens(mock))
        await repository.cancel(session, Account())
        assert len(tokens(mock)) == before


async def test_a_registry_that_says_of_no_scope_gets_a_token_for_what_is_needed() -> None:
    async with connected(TokenAuth(USERS, challenges=Challenges(scope=False))) as (mock, registry):
        await push(registry.repository("shop/api", writes=True), Account())
        assert [scopes(record) for record in tokens(mock)] == [["repository:shop/api:pull,push"]]


async def test_a_denial_by_401_is_told_after_one_new_token() -> None:
    auth = TokenAuth(USERS, rights=[Right("ci", "shop/**", "pull")])
    async with connected(auth) as (mock, registry):
        repository = registry.repository("shop/api", writes=True)
        await repository.resolve("v1", Account())
        account = Account()
        with pytest.raises(AuthenticationError, match=re.escape("UNAUTHORIZED: not allowed")):
            await repository.upload(CONTENT, account)
        assert account.requests == 3
        assert len(tokens(mock)) == 2
