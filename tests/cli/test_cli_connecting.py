"""How commands get at registries: with whose credentials and certificates, and what is never printed."""

from __future__ import annotations

import base64
import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mock_registry import MockRegistry
from mock_registry.auth import BasicAuth, TokenAuth
from regsim.cli.connecting import Connecting
from regsim.client.client import Client
from regsim.registry.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Layout, Outcome, Regsim, Running, Serve, Served

    Start = Callable[..., Running]

USERS = {"ci": "P4SS:W0RD", "other": "0THER"}
LOGIN = "ci:P4SS:W0RD"
SECRETS = ("P4SS", "0THER", base64.b64encode(LOGIN.encode()).decode())
BOTH = pytest.mark.parametrize("auth", [BasicAuth, TokenAuth])


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let nobody's own credentials be found."""
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    return tmp_path / "home"


def store(path: Path, host: str, login: str = LOGIN) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    auth = base64.b64encode(login.encode()).decode()
    path.write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    return path


def silent(outcome: Outcome) -> Outcome:
    """Return an outcome that says no secret."""
    assert [each for each in SECRETS if each in outcome.out + outcome.err] == []
    return outcome


def users(registry: Served) -> set[str | None]:
    """Return who was let in."""
    return {record.user for record in registry.journal if record.status != 401}


@BOTH
def test_creds_are_for_every_command(
    regsim: Regsim, serve: Serve, layout: Layout, tmp_path: Path, auth: type[BasicAuth | TokenAuth]
) -> None:
    registry = serve(MockRegistry(auth=auth(USERS)))
    host = registry.host
    for arguments in (
        ("push", f"oci:{layout.path}:v1", f"{host}/shop/api:v1"),
        ("layers", f"{host}/shop/api:v1"),
        ("copy", f"{host}/shop/api:v1", f"{host}/shop/web:v1"),
        ("pull", f"{host}/shop/web:v1", f"oci:{tmp_path / 'pulled'}:v1"),
        ("push", f"oci:{layout.path}:v2", f"{host}/shop/api:v2", "--dry-run"),
        ("inspect", f"{host}/shop/api:v1"),
        ("manifest", f"{host}/shop/api:v1"),
        ("config", f"{host}/shop/api:v1"),
        ("ls", f"{host}/shop/api"),
        ("catalog", host),
        ("catalog", registry.url),
        ("tag", f"{host}/shop/api:v1", "stable"),
        ("delete", f"{host}/shop/api:stable"),
    ):
        outcome = silent(regsim(*arguments, "--creds", LOGIN))
        assert (outcome.code, outcome.errors) == (0, [])
        assert regsim(*arguments).code == 3
    assert users(registry) == {"ci"}


@BOTH
def test_wrong_creds_are_one_error_that_does_not_repeat_them(
    regsim: Regsim, serve: Serve, layout: Layout, auth: type[BasicAuth | TokenAuth]
) -> None:
    registry = serve(MockRegistry(auth=auth({"ci": "something else"})))
    to = f"{registry.host}/shop/api:v1"
    for form in ("text", "json"):
        outcome = silent(regsim("push", f"oci:{layout.path}:v1", to, "--creds", LOGIN, "--format", form))
        assert outcome.code == 3
        assert "401 Unauthorized" in outcome.errors[0]
        assert outcome.errors[1] == (
            "hint: the credentials of 'ci' came from the command line; are they right, and may they do this?"
        )
    document = json.loads(outcome.out)
    assert "401" in json.dumps(document)


def test_without_credentials_the_error_says_where_they_could_come_from(
    regsim: Regsim, serve: Serve, layout: Layout
) -> None:
    registry = serve(MockRegistry(auth=BasicAuth(USERS)))
    outcome = regsim("push", f"oci:{layout.path}:v1", f"{registry.host}/shop/api:v1")
    assert outcome.code == 3
    assert outcome.errors[1] == (
        "hint: no credentials were found: use --creds, or log in with docker, podman or skopeo"
    )


def test_authfile_goes_before_what_is_in_the_home_directory(
    regsim: Regsim, serve: Serve, layout: Layout, home: Path, tmp_path: Path
) -> None:
    registry = serve(MockRegistry(auth=BasicAuth(USERS)))
    push = ("push", f"oci:{layout.path}:v1", f"{registry.host}/shop/api:v1", "--dry-run")
    store(home / ".docker" / "config.json", registry.host)
    assert silent(regsim(*push)).code == 0
    assert users(registry) == {"ci"}
    authfile = store(tmp_path / "auth.json", registry.host, "other:0THER")
    assert silent(regsim(*push, "--authfile", authfile)).code == 0
    assert users(registry) == {"ci", "other"}


def test_an_authfile_that_is_missing_is_told_before_anything_runs(
    regsim: Regsim, layout: Layout, tmp_path: Path, serve: Serve
) -> None:
    registry = serve()
    outcome = regsim(
        "push", f"oci:{layout.path}:v1", f"{registry.host}/a:v1", "--authfile", tmp_path / "none"
    )
    assert (outcome.code, outcome.errors[:1]) == (6, [f"Error: there is no auth file {tmp_path / 'none'}"])
    assert len(registry.journal) == 0


def test_an_auth_file_that_is_broken_is_told_and_not_repeated(
    regsim: Regsim, serve: Serve, layout: Layout, home: Path
) -> None:
    registry = serve(MockRegistry(auth=BasicAuth(USERS)))
    path = store(home / ".docker" / "config.json", registry.host)
    path.write_text(path.read_text()[:-3] + "P4SS")
    outcome = silent(regsim("push", f"oci:{layout.path}:v1", f"{registry.host}/shop/api:v1"))
    assert outcome.code == 6
    assert outcome.errors == [f"Error: the auth file {path} cannot be used: it is not JSON"]


def test_creds_are_for_one_registry_alone(regsim: Regsim, serve: Serve, layout: Layout) -> None:
    one, other = serve(), serve()
    source, destination = f"{one.host}/a:v1", f"{other.host}/a:v1"
    outcome = silent(regsim("copy", source, destination, "--creds", LOGIN))
    assert outcome.code == 2
    assert outcome.errors[0].startswith("Error: --creds are for one registry, not for 127.0.0.1:")
    local = silent(regsim("copy", f"oci:{layout.path}:v1", f"oci:{layout.path}:v3", "--creds", LOGIN))
    assert local.errors[0] == "Error: --creds are for one registry, not for none"
    assert len(one.journal) == len(other.journal) == 0


def test_each_end_of_a_copy_has_credentials_of_its_own(regsim: Regsim, serve: Serve, layout: Layout) -> None:
    one, other = serve(MockRegistry(auth=BasicAuth(USERS))), serve(MockRegistry(auth=TokenAuth(USERS)))
    source, destination = f"{one.host}/a:v1", f"{other.host}/a:v1"
    assert regsim("push", f"oci:{layout.path}:v1", source, "--creds", LOGIN).code == 0
    outcome = silent(regsim("copy", source, destination, "--src-creds", LOGIN, "--dest-creds", "other:0THER"))
    assert (outcome.code, outcome.errors) == (0, [])
    assert (users(one), users(other)) == ({"ci"}, {"other"})
    assert regsim("copy", source, destination, "--src-creds", LOGIN).code == 3


@pytest.mark.parametrize("creds", ["", ":", "ci:", ":P4SS", ":P4SS:W0RD"])
def test_creds_that_are_none_are_not_repeated(regsim: Regsim, layout: Layout, creds: str) -> None:
    outcome = silent(regsim("push", f"oci:{layout.path}:v1", "127.0.0.1:1/a:v1", "--creds", creds))
    assert outcome.code == 2
    assert outcome.errors == ["Error: the command line is not USER:PASSWORD"]


def test_a_password_that_is_left_out_needs_a_terminal(
    program: Callable[..., Outcome], layout: Layout
) -> None:
    outcome = program("push", f"oci:{layout.path}:v1", "127.0.0.1:1/a:v1", "--creds", "ci")
    assert outcome.code == 2
    assert outcome.errors[0].startswith("Error: credentials without a password, and there is no terminal")


def test_a_password_that_is_left_out_is_asked_for_and_not_shown(
    serve: Serve, layout: Layout, tmp_path: Path
) -> None:
    registry = serve(MockRegistry(auth=BasicAuth(USERS)))
    ours, theirs = pty.openpty()
    to = f"{registry.host}/shop/api:v1"
    words = [sys.executable, "-m", "regsim", "push", f"oci:{layout.path}:v1", to, "--creds", "ci"]
    with subprocess.Popen(
        words, stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path, start_new_session=True
    ) as process:
        os.close(theirs)
        shown = b""
        while b"Password of ci: " not in shown:
            shown += os.read(ours, 1024)
        os.write(ours, b"P4SS:W0RD\n")
        with suppress(OSError):  # how a terminal says that the other side is gone
            while piece := os.read(ours, 1024):
                shown += piece
        assert process.wait() == 0
    os.close(ours)
    assert b"P4SS" not in shown
    assert users(registry) == {"ci"}


SCENARIO = """
name: tried
description: One push.
registry: URL
images: {app: {layers: [10kB]}}
nodes: {ci: {}}
steps: [{push: {image: app, to: shop/api, node: ci}, expect: {transferred: 1}}]
"""


def test_a_scenario_runs_with_the_same_credentials(
    regsim: Regsim, serve: Serve, scenario: Callable[..., Path], home: Path
) -> None:
    registry = serve(MockRegistry(auth=TokenAuth(USERS)))
    path = scenario(SCENARIO.replace("URL", "mock"))
    run = ("run", path, "--registry", registry.url)
    assert regsim(*run).code == 3
    outcome = silent(regsim(*run, "--creds", LOGIN))
    assert (outcome.code, outcome.errors) == (0, [])
    named = regsim("run", scenario(SCENARIO.replace("URL", registry.url)), "--creds", LOGIN)
    assert (named.code, named.errors) == (0, [])
    store(home / ".docker" / "config.json", registry.host)
    assert regsim(*run).code == 0
    # And what was pushed has been deleted again, by who may.
    deletes = [(each.user, each.status) for each in registry.journal.records(method="DELETE")]
    assert set(deletes) == {(None, 401), ("ci", 202)}


def test_the_mock_registry_takes_no_creds(regsim: Regsim, scenario: Callable[..., Path]) -> None:
    outcome = silent(regsim("run", scenario(SCENARIO.replace("URL", "mock")), "--creds", LOGIN))
    assert outcome.code == 2
    assert outcome.errors[0] == "Error: --creds are for one registry, not for none"


# Certificates.


@pytest.fixture
def secure(start: Start) -> tuple[str, Path]:
    """A registry behind TLS on this machine, and the file that it is trusted by."""
    server = start("serve", "--port", "0", "--tls", "self-signed", "--auth", "basic", "--user", LOGIN)
    url, ca = server.line(), Path(server.line())
    return url.removeprefix("https://"), ca


@pytest.mark.long
def test_a_certificate_is_checked_and_by_whom_can_be_told(
    regsim: Regsim, layout: Layout, secure: tuple[str, Path]
) -> None:
    host, ca = secure
    push = ("push", f"oci:{layout.path}:v1", f"{host}/shop/api:v1", "--creds", LOGIN)
    untrusted = silent(regsim(*push, "--no-plain-http"))
    assert untrusted.code == 4
    assert "the certificate is not trusted" in untrusted.errors[0]
    assert untrusted.errors[1].startswith("hint: --ca-file")
    for flags in (
        ("--ca-file", ca),
        ("--cert-dir", ca.parent),
        ("--no-plain-http", "--insecure"),
        ("--no-plain-http", "--no-tls-verify"),
        ("--no-plain-http", "--tls-verify=false"),
    ):
        outcome = silent(regsim(*push, *flags))
        assert (outcome.code, outcome.errors) == (0, []), flags


def test_files_that_are_no_certificates_are_told_before_anything_runs(
    regsim: Regsim, layout: Layout, tmp_path: Path
) -> None:
    junk = tmp_path / "junk.crt"
    junk.write_text("P4SS")
    for flags, complaint in (
        (("--ca-file", junk), f"{junk} does not hold certificates"),
        (("--ca-file", tmp_path / "none"), f"cannot read {tmp_path / 'none'}: No such file or directory"),
        (("--cert-dir", tmp_path), f"{junk} does not hold certificates"),
        (("--cert-dir", tmp_path / "none"), f"cannot read {tmp_path / 'none'}: No such file or directory"),
    ):
        outcome = silent(regsim("push", f"oci:{layout.path}:v1", "127.0.0.1:1/a:v1", *flags))
        assert (outcome.code, outcome.errors[0]) == (6, f"Error: {complaint}")


def test_connecting_tells_no_secret() -> None:
    connecting = Connecting(creds=LOGIN)
    assert "P4SS" not in repr(connecting)
    assert "P4SS" not in str(connecting)
    assert "P4SS" not in repr(vars(Client.over(connecting.connection("127.0.0.1:5000"))))


def test_plain_http_is_for_this_machine_and_for_who_asks() -> None:
    def base(host: str, **flags: Any) -> str:
        return Transport(host, Connecting(**flags).connection()).base

    assert base("registry.example:5000") == "https://registry.example:5000"
    assert base("registry.example:5000", plain_http=True) == "http://registry.example:5000"
    assert base("127.0.0.1:5000") == "http://127.0.0.1:5000"
    assert base("127.0.0.1:5000", plain_http=False) == "https://127.0.0.1:5000"
    assert base("https://127.0.0.1:5000") == "https://127.0.0.1:5000"
    assert base("docker.io", plain_http=False) == "https://registry-1.docker.io"


def test_two_users_of_one_registry_are_one_too_many(regsim: Regsim) -> None:
    one, other = "127.0.0.1:1/a:v1", "127.0.0.1:1/b:v1"
    outcome = silent(regsim("copy", one, other, "--src-creds", LOGIN, "--dest-creds", "other:0THER"))
    assert (outcome.code, outcome.errors[0]) == (2, "Error: two users of 127.0.0.1:1 at once")
    outcome = silent(regsim("copy", one, "oci:pulled", "--dest-creds", LOGIN))
    assert outcome.code == 2
    assert outcome.errors[0] == "Error: --dest-creds are for a registry, not for 'oci:pulled'"


def test_every_way_to_a_registry_leads_through_the_proxy_that_was_asked_for(home: Path) -> None:
    del home
    connecting = Connecting(proxy="http://ci:P4SS@proxy.example:3128")
    connection = connecting.connection("registry.example")
    assert connection.proxy is not None
    assert connection.proxy.name == "http://proxy.example:3128"
    assert "P4SS" not in repr(connecting) + repr(connection)


@pytest.mark.parametrize(
    ("proxy", "code", "said"),
    [
        ("http://ci:P4SS@127.0.0.1:1", 4, "is http://127.0.0.1:1 a proxy that is running?"),
        ("ftp://ci:P4SS@127.0.0.1", 2, "the proxy is not given as http://"),
    ],
)
def test_the_password_of_a_proxy_is_never_printed(regsim: Regsim, proxy: str, code: int, said: str) -> None:
    outcome = silent(regsim("ls", "registry.example/shop/api", "--proxy", proxy))
    assert outcome.code == code
    assert said in outcome.err
