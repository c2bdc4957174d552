"""TLS of the project's own sockets: whom it trusts, what it tells, what it makes of an end without words."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from regsim.core.account import Account
from regsim.errors import NetworkError
from regsim.net import Timeouts
from regsim.net.trust import Trust
from regsim.registry import Connection
from regsim.registry.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tests.registry.conftest import Link, Peer

    Serve = Callable[..., AbstractAsyncContextManager[Peer]]

pytestmark = pytest.mark.anyio
BOTH = pytest.mark.parametrize("link", ["sockets, TLS", "httpx, TLS"], indirect=True)
OWN = pytest.mark.parametrize("link", ["sockets, TLS"], indirect=True)

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
ABC = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"


async def get(transport: Transport) -> bytes:
    return (await transport.send("GET", "/v2/", Account())).body


@BOTH
async def test_a_certificate_of_ssl_cert_file_is_trusted(link: Link, serve: Serve) -> None:
    async with serve(ABC) as peer, link.transport(peer) as transport:
        assert await get(transport) == b"abc"


@OWN
async def test_a_certificate_in_ssl_cert_dir_is_trusted(
    serve: Serve, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    found = ssl.create_default_context(cafile=certificate).get_ca_certs()
    assert found
    # OpenSSL looks names up by a hash of the subject, which for the test's certificate is this.
    process = await asyncio.create_subprocess_exec(
        "openssl", "x509", "-hash", "-noout", "-in", certificate, stdout=asyncio.subprocess.PIPE
    )
    name, _ = await process.communicate()
    (tmp_path / f"{name.decode().strip()}.0").symlink_to(certificate)
    async with serve(ABC) as peer, Transport(peer.url) as transport:
        assert await get(transport) == b"abc"


@OWN
async def test_an_unknown_certificate_is_not_trusted_unless_asked_for(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    async with serve(ABC) as peer:
        async with Transport(peer.url) as transport:
            with pytest.raises(NetworkError, match="the certificate is not trusted") as caught:
                await get(transport)
        assert "SSL_CERT_FILE" in caught.value.hint
        async with Transport(peer.url, Connection(trust=Trust(verify=False))) as transport:
            assert await get(transport) == b"abc"
    assert len(peer.requests) == 1


@OWN
async def test_a_certificate_for_somebody_else_is_not_trusted(listen: Serve) -> None:
    async def unheard(reader: Reader, _: Writer) -> None:
        await reader.read()

    async with listen(unheard, address="127.0.0.2") as peer, Transport(peer.url) as transport:
        with pytest.raises(NetworkError, match=r"the certificate is not trusted.*127\.0\.0\.2"):
            await get(transport)


@BOTH
async def test_the_peer_is_told_whom_we_want_and_that_we_speak_http_1(link: Link, serve: Serve) -> None:
    told: list[str | None] = []
    assert link.tls is not None
    link.tls.sni_callback = lambda _, name, __: told.append(name)
    link.tls.set_alpn_protocols(["h2", "http/1.1"])
    chosen: list[Any] = []

    async def note(_: Reader, writer: Writer) -> None:
        chosen.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        writer.write(ABC)

    async with serve(note) as peer:
        for peer.name in ("localhost", "127.0.0.1"):
            async with link.transport(peer) as transport:
                assert await get(transport) == b"abc"
    assert told == ["localhost", None]  # an address is no name to tell (RFC 6066, 3)
    assert chosen == ["http/1.1", "http/1.1"]


@BOTH
async def test_silence_instead_of_tls_ends_with_the_time_to_connect(link: Link) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        network = link.network()
        asked = httpx.Request("GET", url, extensions={"timeout": {"connect": 0.05}})
        with pytest.raises(httpx.ConnectTimeout):
            await network.handle_async_request(asked)
        async with Transport(url, Connection(timeouts=Timeouts(connect=0.05))) as transport:
            with pytest.raises(NetworkError, match="no connection in time"):
                await get(transport)
        await network.aclose()


@OWN
async def test_a_body_without_length_that_ends_without_farewell_may_have_been_cut(serve: Serve) -> None:
    # Anybody on the way can end a TCP connection; only the peer can end TLS (RFC 8446, 6.1).
    async def vanish(_: Reader, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nabc")
        await writer.drain()
        writer.transport.abort()

    async def farewell(_: Reader, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nabc")

    async with serve(vanish, farewell) as peer, Transport(peer.url) as transport:
        with pytest.raises(NetworkError, match="broke"):
            await get(transport)
        assert await get(transport) == b"abc"


@pytest.mark.parametrize("link", ["sockets", "sockets, TLS"], indirect=True)
async def test_tls_is_set_up_once_and_only_where_it_is_spoken(
    link: Link, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    create = httpx.create_ssl_context

    def counting(**options: Any) -> ssl.SSLContext:
        made.append(options)
        return create(**options)

    monkeypatch.setattr(httpx, "create_ssl_context", counting)
    async with serve(ABC) as peer, Transport(peer.url, Connection(trust=Trust(verify=False))) as transport:
        for _ in range(3):
            assert await get(transport) == b"abc"
    assert peer.connections == 3
    assert made == ([] if link.tls is None else [{"verify": False, "trust_env": True}])
