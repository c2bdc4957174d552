"""Through a proxy: the same transfers and accounts, and its credentials for nobody but itself."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from mock_registry import MockRegistry
from regsim.client.client import Client
from regsim.core.account import Account
from regsim.core.ledger import violations
from regsim.errors import NetworkError, RegistryError, RegsimError, UsageError
from regsim.net.address import Proxy
from regsim.net.trust import Trust
from regsim.registry import Connection
from regsim.registry.transport import Transport
from regsim.scenario.reconcile import reconcile
from tests.client.proxying import SECRETS, proxying

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from regsim.core.result import RunResult
    from tests.client.conftest import Make

pytestmark = pytest.mark.anyio
BOTH = pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
LAYER = bytes(range(256)) * 20_000


@asynccontextmanager
async def connected(
    mock: MockRegistry, proxy: str, *, tls: bool, ranges: int = 1
) -> AsyncIterator[tuple[Client, str]]:
    """Open a client that goes through a proxy; yield it and the host of the registry."""
    async with mock.serve(tls="self-signed" if tls else None) as server:
        trust = Trust(ca_file=server.ca) if tls else Trust()
        async with Client(plain_http=not tls, trust=trust, proxy=proxy, ranges=ranges) as client:
            yield client, server.url.partition("://")[2]


def agreed(mock: MockRegistry, *results: RunResult) -> bool:
    """Tell whether the ledgers keep their laws and agree with the journal."""
    ledgers = [transfer.ledger for result in results for transfer in result.transfers]
    return [violations(each) for each in ledgers] == [[]] * len(ledgers) and not reconcile(
        ledgers, mock.journal
    ).differences


@BOTH
@pytest.mark.parametrize("login", [False, True])
async def test_an_image_is_pushed_and_pulled_through_a_proxy(
    tls: bool, login: bool, make: Make, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    image = await make("v1", LAYER, b"small")
    async with MockRegistry() as mock, proxying(login=login) as proxy:
        async with connected(mock, proxy.url, tls=tls) as (client, host):
            pushed = await client.push(f"oci:{place}:v1", f"{host}/shop/api:v1")
            pulled = await client.pull(f"{host}/shop/api:v1", f"oci:{place}-pulled")
            await mock.settled()
        assert (await client.resolve(f"oci:{place}-pulled:v1")).digest == image.digest
        assert agreed(mock, pushed, pulled)
        assert (pushed.summary.wasted, pulled.summary.wasted) == (0, 0)
        if tls:
            assert set(proxy.lines) == {f"CONNECT {host} HTTP/1.1"}
            assert {first[0] for first in proxy.inside} == {0x16}  # a TLS handshake
        else:
            assert len(proxy.lines) == len(mock.journal)
            assert all(f" http://{host}/v2/" in line for line in proxy.lines)
    assert [each for each in SECRETS if each in caplog.text] == []


async def test_large_blobs_come_through_a_proxy_over_several_connections(
    make: Make, place: Path, tmp_path: Path
) -> None:
    await make("v1", bytes(33 * 1024 * 1024))
    async with MockRegistry() as mock, proxying() as proxy:
        async with connected(mock, proxy.url, tls=True, ranges=4) as (client, host):
            pushed = await client.push(f"oci:{place}:v1", f"{host}/shop/api:v1")
            pulled = await client.pull(f"{host}/shop/api:v1", f"oci:{tmp_path / 'pulled'}")
            await mock.settled()
        assert agreed(mock, pushed, pulled)
        got = mock.journal.records(method="GET", route="blob")
        assert [record.status for record in got].count(206) == 17


@BOTH
async def test_targets_go_through_a_proxy_byte_for_byte(tls: bool) -> None:
    target = "/v2/shop/api/blobs/uploads/x?_s=a%3D%3D&x=a%2Fb+c~%7e%C3"
    async with (
        MockRegistry() as mock,
        proxying() as proxy,
        mock.serve(tls="self-signed" if tls else None) as server,
    ):
        trust = Trust(ca_file=server.ca) if tls else Trust()
        async with Transport(server.url, Connection(trust=trust, proxy=Proxy.parse(proxy.url))) as transport:
            await transport.send("GET", target, Account())
        assert [record.target for record in mock.journal] == [target]


@BOTH
async def test_a_proxy_that_wants_credentials_says_so_and_is_not_asked_again(tls: bool) -> None:
    async with MockRegistry() as mock, proxying(login=True) as proxy:
        wrong = f"http://teller:P4SS@127.0.0.1:{proxy.port}"
        async with connected(mock, wrong, tls=tls) as (client, host):
            with pytest.raises(RegistryError, match="407") as caught:
                await client.tags(f"{host}/shop/api")
        assert "--proxy" in caught.value.hint
        assert len(proxy.lines) == 1
        assert [each for each in SECRETS if each in repr(caught.value) + str(caught.value)] == []
        assert len(mock.journal) == 0


@pytest.mark.long
async def test_a_proxy_without_a_way_to_the_registry_is_asked_again() -> None:
    refusal = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
    async with MockRegistry() as mock, proxying(refuses=refusal) as proxy:
        async with connected(mock, proxy.url, tls=True) as (client, host):
            with pytest.raises(NetworkError, match="the proxy answered 502"):
                await client.tags(f"{host}/shop/api")
        assert len(proxy.lines) == 4


@pytest.mark.long
async def test_a_proxy_that_is_not_there_is_told_without_its_credentials() -> None:
    async with (
        MockRegistry() as mock,
        connected(mock, "http://teller:P4SS@127.0.0.1:1", tls=False) as (
            client,
            host,
        ),
    ):
        with pytest.raises(NetworkError, match="no connection") as caught:
            await client.tags(f"{host}/shop/api")
        shown = "".join((repr(caught.value), str(caught.value), caught.value.hint, repr(client)))
    assert "P4SS" not in shown
    assert caught.value.hint == "is http://127.0.0.1:1 a proxy that is running?"


async def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with MockRegistry() as mock, mock.serve() as server, proxying() as proxy, Client() as client:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        with pytest.raises(RegsimError):
            await client.tags(f"{server.url.partition('://')[2]}/shop/api")
        assert (len(mock.journal), proxy.lines) == (1, [])


@pytest.mark.parametrize(
    "url",
    [
        "",
        "P4SS",
        "socks5://u:P4SS@h",
        "http://u:P4SS@q@h",
        "u:P4SS@h:1",
        "http:/u:P4SS@h",
        "http://u:P4SS",
        "http://u:P4SS@",
        "http://u:P4SS@h:99999",
        "http://u:P4SS@h/x",
        "http://u:P4SS@h\n",
    ],
)
def test_what_is_no_proxy_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(UsageError, match="the proxy is not given as") as caught:
        Client(proxy=url)
    assert "P4SS" not in str(caught.value) + caught.value.hint


def test_an_address_that_no_host_can_have_is_refused_without_its_credentials() -> None:
    with pytest.raises(UsageError, match=r"http://999\.1\.1\.1") as caught:
        Transport("registry.example", Connection(proxy=Proxy.parse("http://u:P4SS@999.1.1.1")))
    assert "P4SS" not in str(caught.value)


def test_a_proxy_shows_no_credentials() -> None:
    assert repr(Proxy.parse("https://u:P4SS@[::1]:9/")) == "Proxy(name='https://[::1]:9')"
