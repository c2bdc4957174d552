"""Whom the client trusts beside the system's authorities, and what it shows of itself."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trustme

from regsim.core.account import Account
from regsim.errors import LocalFileError, NetworkError
from regsim.net.trust import Trust
from regsim.registry import Connection
from regsim.registry.transport import Transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def folder(tmp_path: Path, authority: trustme.CA) -> Path:
    """A folder as docker and podman have them, of a registry that wants to see a certificate."""
    path = tmp_path / "certs.d"
    path.mkdir()
    own = authority.issue_cert("client.example")
    authority.cert_pem.write_to_path(path / "ca.crt")
    own.cert_chain_pems[0].write_to_path(path / "client.cert")
    own.private_key_pem.write_to_path(path / "client.key")
    return path


@asynccontextmanager
async def asking(authority: trustme.CA) -> AsyncIterator[str]:
    """Serve an empty answer to who shows a certificate of the authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK)
        except (OSError, asyncio.IncompleteReadError):
            pass  # whoever it was, it showed nothing
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_certificate_of_our_own_is_shown_to_who_wants_to_see_one(
    authority: trustme.CA, folder: Path
) -> None:
    async with asking(authority) as url:
        async with Transport(url, Connection(trust=Trust(cert_dir=folder))) as transport:
            assert (await transport.send("GET", "/v2/", Account())).status == 200
        async with Transport(url, Connection(trust=Trust(ca_file=folder / "ca.crt"))) as transport:
            with pytest.raises(NetworkError):
                await transport.send("GET", "/v2/", Account())


def test_a_certificate_without_its_key_is_told(folder: Path) -> None:
    (folder / "client.key").unlink()
    with pytest.raises(LocalFileError, match=r"there is no .*client\.key to .*client\.cert"):
        Trust(cert_dir=folder).check()


def test_a_key_of_another_certificate_is_told(folder: Path) -> None:
    other = trustme.CA().issue_cert("client.example")
    (folder / "client.key").write_bytes(other.private_key_pem.bytes())
    with pytest.raises(LocalFileError, match=r"client\.cert does not hold a certificate whose key is beside"):
        Trust(cert_dir=folder).check()


def test_nothing_named_is_nothing_to_check() -> None:
    Trust().check()
    Trust(verify=False).check()
