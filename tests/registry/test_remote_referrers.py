"""Lists of referrers: the registry's own, or the fallback tag that clients keep (edge case 52)."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import httpx
import pytest

from mock_registry import MockRegistry
from regsim.core import Descriptor, Digest, media_types
from regsim.core.account import Account
from regsim.core.manifest import encode, referrer_of
from regsim.errors import RegistryError
from regsim.registry import Connection, listing, referrers
from regsim.registry.repository import Registry
from regsim.registry.transport import Transport
from regsim.store.memory import BytesContent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import respx

    from regsim.registry.repository import Repository

pytestmark = pytest.mark.anyio

SUBJECT = Descriptor.of(b"an image", media_types.OCI_MANIFEST)
EMPTY = Descriptor.of(b"{}", media_types.OCI_EMPTY)
URL = f"http://127.0.0.1:5000/v2/shop/api/referrers/{SUBJECT.digest}"
TAG_URL = f"http://127.0.0.1:5000/v2/shop/api/manifests/{referrers.fallback_tag(SUBJECT.digest)}"
INDEX = {"Content-Type": media_types.OCI_INDEX}


def artifact(
    name: str = "a", kind: str | None = "application/x.sbom", subject: Descriptor = SUBJECT
) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        **({"artifactType": kind} if kind else {}),
        "config": EMPTY.to_json(),
        "layers": [],
        "subject": subject.to_json(),
        "annotations": {"name": name},
    }
    return encode(document)


def index(*names: str, **more: object) -> bytes:
    manifests = []
    for name in names:
        raw = artifact(name)
        described = referrer_of(Descriptor.of(raw, media_types.OCI_MANIFEST), raw)
        assert described is not None
        manifests.append(described.descriptor.to_json())
    return json.dumps(
        {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": manifests, **more}
    ).encode()


async def put(repository: Repository, raw: bytes, account: Account | None = None) -> Descriptor:
    reference = Digest.of(raw)
    return await repository.put_manifest(raw, media_types.OCI_MANIFEST, reference, account or Account())


MOCKS: dict[str, Callable[[], MockRegistry]] = {
    "registry that lists": MockRegistry,
    "registry that knows no referrers": lambda: MockRegistry(profile="distribution-2.8"),
}


@pytest.fixture
async def repositories(request: pytest.FixtureRequest) -> AsyncIterator[tuple[MockRegistry, Repository]]:
    async with (
        MOCKS[request.param]() as mock,
        Transport("127.0.0.1:5000", Connection(transport=mock.transport())) as transport,
    ):
        repository = Registry(transport).repository("shop/api")
        await repository.upload(BytesContent(EMPTY, b"{}"), Account())
        yield mock, repository


@pytest.mark.parametrize("repositories", MOCKS, indirect=True)
async def test_edge_52_what_refers_to_an_image_is_listed_whoever_keeps_the_list(
    repositories: tuple[MockRegistry, Repository],
) -> None:
    _, repository = repositories
    raws = [artifact("sbom"), artifact("signature", "application/x.signature"), artifact("plain", None)]
    for raw in raws:
        await put(repository, raw)
    found = await repository.referrers(SUBJECT.digest, Account())
    assert [each.digest for each in found] == [Digest.of(raw) for raw in raws]
    assert [each.artifact_type for each in found] == [
        "application/x.sbom",
        "application/x.signature",
        media_types.OCI_EMPTY,
    ]
    assert [each.annotations["name"] for each in found] == ["sbom", "signature", "plain"]
    only = await repository.referrers(SUBJECT.digest, Account(), "application/x.signature")
    assert [each.digest for each in only] == [Digest.of(raws[1])]
    assert await repository.referrers(Digest.of(b"other"), Account()) == ()


@pytest.mark.parametrize("repositories", MOCKS, indirect=True)
async def test_edge_52_a_tag_is_kept_only_where_the_registry_lists_nothing(
    repositories: tuple[MockRegistry, Repository],
) -> None:
    mock, repository = repositories
    account = Account()
    await put(repository, artifact(), account)
    kept = await repository.resolve(referrers.fallback_tag(SUBJECT.digest), Account())
    assert (kept is None) is (mock.profile is None)
    assert (account.requests, account.sent) == (1, len(artifact()))
    beside = [each for _, each in account.beside]
    assert sum(each.requests for each in beside) == (0 if kept is None else 3)
    assert sum(each.sent for each in beside) == (0 if kept is None else kept.size)


@pytest.mark.parametrize("repositories", ["registry that knows no referrers"], indirect=True)
async def test_edge_52_referrers_that_are_pushed_at_once_are_all_kept(
    repositories: tuple[MockRegistry, Repository],
) -> None:
    _, repository = repositories
    raws = [artifact(str(number)) for number in range(12)]
    await asyncio.gather(*(put(repository, raw) for raw in [*raws, *raws]))
    found = await repository.referrers(SUBJECT.digest, Account())
    assert sorted(each.digest for each in found) == sorted(Digest.of(raw) for raw in raws)


async def test_edge_52_what_another_client_wrote_over_is_written_again(
    registry: respx.MockRouter, repository: Repository
) -> None:
    held: list[bytes] = [
        index("theirs"),
        index("theirs", "others"),
        index("theirs", "others", "a", note="kept"),
    ]
    registry.put(url__regex=rf".*/manifests/{Digest.of(artifact())}").respond(201)
    puts = registry.put(TAG_URL).respond(201)
    registry.get(TAG_URL).mock(
        side_effect=[_answer(200, held[0]), _answer(200, held[1]), _answer(200, held[2])]
    )
    await put(repository, artifact())
    written = [json.loads(call.request.content)["manifests"] for call in puts.calls]
    assert [[each["annotations"]["name"] for each in each_time] for each_time in written] == [
        ["theirs", "a"],
        ["theirs", "others", "a"],
    ]


async def test_edge_52_a_tag_that_others_always_write_over_ends_in_an_error(
    registry: respx.MockRouter, repository: Repository
) -> None:
    registry.put(url__regex=r".*/manifests/.*").respond(201)
    registry.get(TAG_URL).respond(200, headers=INDEX, content=index("theirs"))
    with pytest.raises(RegistryError, match="written over by others"):
        await put(repository, artifact())


async def test_what_else_a_kept_list_says_stays(registry: respx.MockRouter, repository: Repository) -> None:
    registry.put(url__regex=rf".*/manifests/{Digest.of(artifact())}").respond(201)
    puts = registry.put(TAG_URL).respond(201)
    registry.get(TAG_URL).mock(
        side_effect=[_answer(200, index("b", annotations={"x": "y"})), _answer(200, index("a"))]
    )
    await put(repository, artifact())
    assert json.loads(puts.calls.last.request.content)["annotations"] == {"x": "y"}


def _answer(status: int, raw: bytes) -> httpx.Response:
    return httpx.Response(status, headers=INDEX, content=raw)


@pytest.mark.parametrize("status", [400, 404, 405, 406, 501])
async def test_edge_52_registry_that_does_not_know_the_question_is_asked_for_the_tag(
    registry: respx.MockRouter, repository: Repository, account: Account, status: int
) -> None:
    registry.get(URL).respond(status)
    registry.get(TAG_URL).respond(200, headers=INDEX, content=index("a", "b", "a"))
    assert len(await repository.referrers(SUBJECT.digest, account)) == 2


async def test_edge_52_a_page_that_is_no_index_is_no_answer(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.get(URL).respond(200, headers={"Content-Type": "text/html"}, content=b"<html>")
    registry.get(TAG_URL).respond(404)
    assert await repository.referrers(SUBJECT.digest, account) == ()


async def test_edge_52_tag_that_names_the_subject_itself_is_no_list(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    registry.get(URL).respond(404)
    registry.get(TAG_URL).respond(
        200, headers={"Content-Type": media_types.OCI_MANIFEST}, content=artifact("subject")
    )
    assert await repository.referrers(SUBJECT.digest, account) == ()


@pytest.mark.parametrize("said", [True, False], ids=["filters applied", "filters not applied"])
async def test_edge_52_filters_that_were_not_applied_are_applied_here(
    registry: respx.MockRouter, repository: Repository, account: Account, said: bool
) -> None:
    headers = {**INDEX, **({"OCI-Filters-Applied": "artifactType"} if said else {})}
    asked = registry.get(URL, params={"artifactType": "application/x.y+json"}).respond(
        200, headers=headers, content=index("a")
    )
    assert await repository.referrers(SUBJECT.digest, account, "application/x.y+json") == ()
    assert asked.calls.last.request.url.raw_path.endswith(b"?artifactType=application%2Fx.y%2Bjson")


@pytest.mark.parametrize(
    "link",
    [f"/v2/shop/api/referrers/{SUBJECT.digest}?last=a", f"{URL}?last=a", "?last=a"],
    ids=["path", "whole", "query alone"],
)
async def test_edge_51_further_pages_are_read(
    registry: respx.MockRouter, repository: Repository, account: Account, link: str
) -> None:
    registry.get(URL, params={"last": "a"}).respond(200, headers=INDEX, content=index("b"))
    registry.get(URL).respond(200, headers={**INDEX, "Link": f'<{link}>; rel="next"'}, content=index("a"))
    assert len(await repository.referrers(SUBJECT.digest, account)) == 2


async def test_pages_that_are_too_much_together_are_refused(
    registry: respx.MockRouter, repository: Repository, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = index("a")
    monkeypatch.setattr(listing, "MAX_LIST", 2 * len(page))
    link = {"Link": f'<{URL}?n=1>; rel="next"'}
    route = registry.get(url__startswith=URL).respond(200, content=page, headers={**INDEX, **link})
    with pytest.raises(RegistryError, match=f"larger than {2 * len(page)} bytes"):
        await repository.referrers(SUBJECT.digest, account)
    assert route.call_count == 3


async def test_edge_51_a_page_elsewhere_or_a_list_without_end_is_refused(
    registry: respx.MockRouter, repository: Repository, account: Account
) -> None:
    link = '<https://evil.example.com/v2/x>; rel="next"'
    registry.get(URL).respond(200, headers={**INDEX, "Link": link}, content=index("a"))
    with pytest.raises(RegistryError, match="another host"):
        await repository.referrers(SUBJECT.digest, account)
    registry.get(URL).respond(200, headers={**INDEX, "Link": f'<{URL}>; rel="next"'}, content=index("a"))
    with pytest.raises(RegistryError, match="no end"):
        await repository.referrers(SUBJECT.digest, account)


@pytest.mark.parametrize("status", [401, 403, 410])
async def test_registry_that_refuses_has_not_said_that_there_are_none(
    registry: respx.MockRouter, repository: Repository, account: Account, status: int
) -> None:
    registry.get(URL).respond(status)
    with pytest.raises(RegistryError, match=str(status)):
        await repository.referrers(SUBJECT.digest, account)


@pytest.mark.parametrize("subject", ["oops", {"digest": "x"}, {}, 3])
def test_subject_that_cannot_be_read_is_left_to_the_registry(subject: object) -> None:
    raw = json.dumps({"subject": subject}).encode()
    assert referrer_of(Descriptor.of(raw, media_types.OCI_MANIFEST), raw) is None
