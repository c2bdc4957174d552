"""A registry's catalog, page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from regsim.errors import RegistryError
from regsim.registry import Connection, listing
from regsim.registry.answer import Answer
from regsim.registry.listing import following
from regsim.registry.repository import Registry
from regsim.registry.transport import Transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import respx

    from regsim.core.account import Account
    from regsim.registry.retry import Patience

pytestmark = pytest.mark.anyio

HOST = "registry.example"
URL = f"https://{HOST}/v2/_catalog"


@pytest.fixture
async def asked(network: httpx.AsyncBaseTransport, patience: Patience) -> AsyncIterator[Registry]:
    async with Transport(HOST, Connection(transport=network)) as transport:
        yield Registry(transport, patience=patience)


@pytest.mark.parametrize(
    "link",
    [
        '</v2/_catalog?last=a%2Fb&n=1>; rel="next"',
        f'<{URL}?last=a%2Fb&n=1>; rel="next"',
        f"<https://{HOST}:443/v2/_catalog?last=a%2Fb&n=1>;rel=next",
    ],
    ids=["relative", "absolute", "with the port spelled out"],
)
async def test_repositories_are_read_page_by_page_wherever_link_says_so_at_the_same_host(
    registry: respx.MockRouter, asked: Registry, account: Account, link: str
) -> None:
    def page(request: httpx.Request) -> httpx.Response:
        if b"last=" in request.extensions["target"]:
            return httpx.Response(200, json={"repositories": ["c"]})
        return httpx.Response(200, json={"repositories": ["a/b"]}, headers={"Link": link})

    registry.get(url__startswith=f"https://{HOST}").mock(side_effect=page)
    assert await asked.catalog(account) == ("a/b", "c")
    assert (account.requests, account.received) == (2, 0)
    assert account.overhead > 0


async def test_a_catalog_that_goes_on_at_another_host_is_refused(
    registry: respx.MockRouter, asked: Registry, account: Account
) -> None:
    link = '<https://elsewhere.example/v2/_catalog>; rel="next"'
    registry.get(url__startswith=URL).respond(200, json={"repositories": []}, headers={"Link": link})
    with pytest.raises(RegistryError, match="another host"):
        await asked.catalog(account)
    assert account.requests == 1


def test_a_link_that_says_nothing_at_length_is_read_once() -> None:
    # Where it was read again from each of its characters, this took hours.
    answer = Answer(method="GET", url=URL, status=200, headers={"Link": "a" * 1_000_000})
    assert following(answer, "the catalog") is None


async def test_a_page_beyond_all_measure_is_refused(
    registry: respx.MockRouter, asked: Registry, account: Account
) -> None:
    registry.get(url__startswith=URL).respond(200, content=b" " * (4 * 2**20 + 1))
    with pytest.raises(RegistryError, match="larger than 4194304 bytes"):
        await asked.catalog(account)


async def test_pages_that_are_too_much_together_are_refused(
    registry: respx.MockRouter, asked: Registry, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MAX_LIST", 1000)
    link = '</v2/_catalog?last=a>; rel="next"'
    page = httpx.Response(200, json={"repositories": ["a" * 90]}, headers={"Link": link})
    route = registry.get(url__startswith=URL).mock(return_value=page)
    with pytest.raises(RegistryError, match="larger than 1000 bytes"):
        await asked.catalog(account)
    assert route.call_count == 10


async def test_a_registry_without_a_catalog_says_so_in_its_own_words(
    registry: respx.MockRouter, asked: Registry, account: Account
) -> None:
    registry.get(url__startswith=URL).respond(404, text="no such page")
    with pytest.raises(RegistryError, match="no such page"):
        await asked.catalog(account)
