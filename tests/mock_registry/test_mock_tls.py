"""The registry over TLS: certificates, and what they are good for."""

from __future__ import annotations

import asyncio
import hashlib
import random
import ssl
import stat
import sys
from typing import TYPE_CHECKING

import httpx
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from mock_registry import MockRegistry
from mock_registry.auth import TokenAuth
from mock_registry.errors import MissingPackageError
from mock_registry.tls import SELF_SIGNED, Certificate, CertificateError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority, a certificate of it, and another one with its key."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for name in ("server", "other"):
        leaf = authority.issue_cert("127.0.0.1")
        leaf.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        leaf.private_key_pem.write_to_path(folder / f"{name}.key")
    key = load_pem_private_key((folder / "server.key").read_bytes(), None)
    form = (Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"s3cret"))
    (folder / "locked.key").write_bytes(key.private_bytes(*form))
    return folder


def trusting(ca: Path | str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca)


async def ping(url: str, ca: Path) -> int:
    async with httpx.AsyncClient(verify=trusting(ca), trust_env=False) as http:
        return (await http.get(f"{url}/v2/")).status_code


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
async def test_a_certificate_made_on_the_spot_is_good_for_the_loopback_names(name: str) -> None:
    async with MockRegistry().serve(tls=SELF_SIGNED) as server:
        assert server.ca is not None
        _, writer = await asyncio.open_connection(
            "127.0.0.1", server.port, ssl=trusting(server.ca), server_hostname=name
        )
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() is None
        writer.close()
        await writer.wait_closed()


async def test_it_is_good_for_the_name_that_is_served_but_for_no_other() -> None:
    async with MockRegistry().serve("::1", tls=SELF_SIGNED) as server:
        assert server.ca is not None
        assert server.url.startswith("https://[::1]:")
        assert await ping(server.url, server.ca) == 200
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await asyncio.open_connection(
                "::1", server.port, ssl=trusting(server.ca), server_hostname="registry.example"
            )


async def test_a_client_that_offers_http_2_too_gets_http_1() -> None:
    async with MockRegistry().serve(tls=SELF_SIGNED) as server:
        assert server.ca is not None
        context = trusting(server.ca)
        context.set_alpn_protocols(["h2", "http/1.1"])
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        writer.close()
        await writer.wait_closed()


async def test_a_client_that_does_not_know_the_authority_refuses_and_nobody_else_notices() -> None:
    registry = MockRegistry()
    async with registry.serve(tls=SELF_SIGNED) as server:
        assert server.ca is not None
        async with httpx.AsyncClient(trust_env=False) as http:
            with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
                await http.get(f"{server.url}/v2/")
        assert len(registry.journal) == 0
        assert await ping(server.url, server.ca) == 200


async def test_content_goes_in_and_out_unchanged_and_is_counted_without_what_tls_adds() -> None:
    registry = MockRegistry()
    content = random.Random(7).randbytes(9 << 20)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    async with registry.serve(tls=SELF_SIGNED) as server:
        assert server.ca is not None
        async with httpx.AsyncClient(
            base_url=server.url, verify=trusting(server.ca), trust_env=False
        ) as http:
            answer = await http.post("/v2/app/blobs/uploads/", params={"digest": digest}, content=content)
            assert answer.status_code == 201
            answer = await http.get(f"/v2/app/blobs/{digest}")
            assert answer.content == content
            answer = await http.get(f"/v2/app/blobs/{digest}", headers={"range": "bytes=5-8388612"})
            assert answer.content == content[5:8388613]
    assert [record.bytes_in for record in registry.journal] == [9 << 20, 0, 0]
    assert [record.bytes_out for record in registry.journal] == [0, 9 << 20, 8 << 20]
    assert all(record.complete for record in registry.journal)


async def test_the_files_last_as_long_as_the_server_and_are_nobody_else_s() -> None:
    async with MockRegistry().serve(tls=SELF_SIGNED) as server:
        assert server.ca is not None
        folder = server.ca.parent
        assert [file.name for file in folder.iterdir()] == ["ca.crt"]
        assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
        assert b"PRIVATE" not in server.ca.read_bytes()
    assert not folder.parent.exists()


async def test_every_server_makes_an_authority_of_its_own() -> None:
    async with MockRegistry().serve(tls=SELF_SIGNED) as one, MockRegistry().serve(tls=SELF_SIGNED) as two:
        assert one.ca is not None
        with pytest.raises(httpx.ConnectError):
            await ping(two.url, one.ca)


async def test_files_that_are_given_are_used_and_left_alone(files: Path) -> None:
    certificate = Certificate(files / "server.pem", files / "server.key", files / "ca.pem")
    async with MockRegistry().serve(tls=certificate) as server:
        assert server.ca == files / "ca.pem"
        assert await ping(server.url, server.ca) == 200
    assert (files / "server.key").exists()


async def test_without_an_authority_s_file_the_certificate_stands_for_itself(files: Path) -> None:
    certificate = Certificate.parse(f"{files / 'server.pem'},{files / 'server.key'}")
    async with MockRegistry().serve(tls=certificate) as server:
        assert server.ca == files / "server.pem"


async def test_plain_http_has_no_authority() -> None:
    async with MockRegistry().serve() as server:
        assert (server.scheme, server.ca) == ("http", None)


@pytest.mark.parametrize(
    ("certificate", "key", "reason"),
    [
        ("server.pem", "other.key", "KEY_VALUES_MISMATCH"),
        ("server.key", "server.pem", "no certificate with its key"),
        ("server.pem", "locked.key", "the key has a password"),
    ],
)
async def test_files_that_are_no_certificate_with_its_key_are_named(
    files: Path, certificate: str, key: str, reason: str
) -> None:
    with pytest.raises(CertificateError, match=reason):
        async with MockRegistry().serve(tls=Certificate(files / certificate, files / key)):
            pass


async def test_a_file_that_is_not_there_is_named(files: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.key"):
        async with MockRegistry().serve(tls=Certificate(files / "server.pem", files / "nothing.key")):
            pass


async def test_without_trustme_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(MissingPackageError, match="made on the spot needs the package trustme: pip install"):
        async with MockRegistry().serve(tls=SELF_SIGNED):
            pass


@pytest.mark.parametrize("text", ["", "selfsigned", "cert.pem", "cert.pem,", ",key.pem"])
def test_words_that_name_no_certificate_are_an_error(text: str) -> None:
    with pytest.raises(CertificateError, match="neither self-signed nor CERT,KEY"):
        Certificate.parse(text)


async def test_anything_else_than_words_and_files_is_an_error() -> None:
    with pytest.raises(CertificateError, match="neither a Certificate nor 'self-signed': 'yes'"):
        async with MockRegistry().serve(tls="yes"):
            pass


@pytest.mark.parametrize("second_origin", [False, True])
async def test_the_realm_of_tokens_is_https_too(*, second_origin: bool) -> None:
    auth = TokenAuth({"ci": "s3cret"}, second_origin=second_origin)
    async with MockRegistry(auth=auth).serve(tls=SELF_SIGNED) as server:
        assert server.ca is not None
        async with httpx.AsyncClient(
            base_url=server.url, verify=trusting(server.ca), trust_env=False
        ) as http:
            realm = (await http.get("/v2/")).headers["www-authenticate"].split('"')[1]
            assert realm.startswith("https://127.0.0.1:")
            assert realm.startswith(server.url) is not second_origin
            assert (await http.get(realm, auth=("ci", "s3cret"))).status_code == 200
