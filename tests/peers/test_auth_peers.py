"""Logging in at docker-registry (htpasswd, TLS) with what skopeo and podman have written down."""

from __future__ import annotations

import base64
import json
import ssl
import sys
from typing import TYPE_CHECKING, Any

import bcrypt
import pytest
import trustme

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.peers.conftest import Command, DockerRegistry, Layout

pytestmark = pytest.mark.peers

USER, PASSWORD = "ci", "pässwörd:1"
LOGIN = f"{USER}:{PASSWORD}"


@pytest.fixture
def trusted(tmp_path: Path) -> Path:
    """A folder with the one authority that is trusted."""
    folder = tmp_path / "trusted"
    folder.mkdir()
    return folder


@pytest.fixture
def registry(
    tmp_path: Path,
    trusted: Path,
    start_docker_registry: Callable[..., AbstractContextManager[DockerRegistry]],
) -> Iterator[DockerRegistry]:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(trusted / "ca.crt")
    chain, key, users = tmp_path / "chain.pem", tmp_path / "key.pem", tmp_path / "htpasswd"
    chain.write_bytes(b"".join(each.bytes() for each in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(key)
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode().replace("$2b$", "$2y$")
    users.write_text(f"{USER}:{hashed}\n")
    with start_docker_registry(
        auth={"htpasswd": {"realm": "regsim", "path": str(users)}},
        certificate={"certificate": str(chain), "key": str(key)},
        tls=ssl.create_default_context(cafile=trusted / "ca.crt"),
        login=f"Basic {base64.b64encode(LOGIN.encode()).decode()}",
    ) as registry:
        yield registry


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that is nobody's: what is logged in there is what a test logs in."""
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    (tmp_path / "runtime").mkdir()
    return tmp_path / "home"


def requests_of(result: str) -> int:
    document: dict[str, Any] = json.loads(result)
    assert document["reconciliation"]["differences"] == []
    return int(document["summary"]["requests"])


def test_an_image_goes_up_and_down_and_the_access_log_agrees(
    registry: DockerRegistry,
    regsim: Command,
    skopeo: Command,
    *,
    layout: Layout,
    trusted: Path,
    tmp_path: Path,
) -> None:
    reference, flags = f"{registry.host}/shop/api:v1", ("--ca-file", str(trusted / "ca.crt"))
    with registry.watch() as pushed:
        result = regsim("push", str(layout), reference, *flags, "--creds", LOGIN, "--format", "json")
    assert requests_of(result) == len(pushed)
    assert [each.status for each in pushed].count(401) == 1
    with registry.watch() as again:
        result = regsim("push", str(layout), reference, *flags, "--creds", LOGIN, "--format", "json")
    assert requests_of(result) == len(again) == 2
    with registry.watch() as mounted:
        regsim("copy", reference, f"{registry.host}/shop/web:v1", *flags, "--creds", LOGIN)
    assert [each.status for each in mounted if each.method == "POST"] == [201] * 4
    theirs = tmp_path / "theirs"
    skopeo(
        "copy",
        "--src-creds",
        LOGIN,
        "--src-cert-dir",
        str(trusted),
        f"docker://{reference}",
        f"oci:{theirs}:v1",
    )
    with registry.watch() as pulled:
        result = regsim(
            "pull", reference, f"oci:{tmp_path / 'ours'}:v1", *flags, "--creds", LOGIN, "--format", "json"
        )
    assert requests_of(result) == len(pulled)
    blobs = {file.name: file.read_bytes() for file in (tmp_path / "ours" / "blobs" / "sha256").iterdir()}
    assert blobs == layout.blobs
    assert {file.name: file.read_bytes() for file in (theirs / "blobs" / "sha256").iterdir()} == blobs


@pytest.mark.parametrize("name", ["skopeo", "podman"])
def test_who_has_logged_in_with_another_client_is_logged_in(
    name: str,
    client: Callable[[str], Command],
    registry: DockerRegistry,
    regsim: Command,
    *,
    layout: Layout,
    trusted: Path,
) -> None:
    log_in = client(name)
    log_in("login", "--cert-dir", str(trusted), "-u", USER, "-p", PASSWORD, registry.host)
    regsim("push", str(layout), f"{registry.host}/shop/api:v1", "--cert-dir", str(trusted))
    log_in("logout", registry.host)
    regsim("push", str(layout), f"{registry.host}/shop/api:v2", "--cert-dir", str(trusted), exit_code=3)


def test_a_file_that_another_client_wrote_can_be_named(
    registry: DockerRegistry,
    regsim: Command,
    skopeo: Command,
    *,
    layout: Layout,
    trusted: Path,
    tmp_path: Path,
) -> None:
    authfile = tmp_path / "auth.json"
    login = ("login", "--authfile", str(authfile), "--cert-dir", str(trusted), "-u", USER, "-p", PASSWORD)
    skopeo(*login, registry.host)
    flags = ("--cert-dir", str(trusted), "--authfile", str(authfile))
    regsim("push", str(layout), f"{registry.host}/shop/api:v1", *flags)


def test_a_credential_helper_is_asked_as_docker_does(
    registry: DockerRegistry,
    regsim: Command,
    *,
    layout: Layout,
    trusted: Path,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = tmp_path / "bin" / "docker-credential-test"
    program.parent.mkdir()
    answer = json.dumps({"ServerURL": registry.host, "Username": USER, "Secret": PASSWORD})
    program.write_text(
        f"#!{sys.executable}\nimport sys\nassert sys.argv[1:] == ['get']\n"
        f"assert sys.stdin.read() == {registry.host!r}\nprint({answer!r})\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    (home / ".docker").mkdir(parents=True)
    (home / ".docker" / "config.json").write_text(json.dumps({"credHelpers": {registry.host: "test"}}))
    regsim("push", str(layout), f"{registry.host}/shop/api:v1", "--cert-dir", str(trusted))


def test_wrong_credentials_and_unknown_certificates_end_with_their_codes(
    registry: DockerRegistry, regsim: Command, layout: Layout, trusted: Path
) -> None:
    push = ("push", str(layout), f"{registry.host}/shop/api:v1")
    regsim(*push, "--cert-dir", str(trusted), "--creds", f"{USER}:wrong", exit_code=3)
    regsim(*push, "--no-plain-http", "--creds", LOGIN, exit_code=4)
    regsim(*push, "--no-plain-http", "--insecure", "--creds", LOGIN)
