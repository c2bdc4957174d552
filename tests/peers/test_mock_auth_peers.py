"""Real clients log in to the mock registry, by password and by token, in the clear and over TLS.

Each pushes, pulls, lists and deletes, and what comes back is compared byte for byte. A missing program fails
its tests: whoever asks for `-m peers` wants it met. The Python clients run in the interpreter that
REGSIM_PEERS_PYTHON names, or else in this one.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.parse
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.peers.conftest import Layout

pytestmark = pytest.mark.peers

DEADLINE = 120.0
USER, PASSWORD = "ci", "pässwörd:1"
REPOSITORY = "team/app"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
AUTH = ("none", "basic", "token")
# Each client meets each way to log in twice: in the clear with content in memory, over TLS with it on disk.
PLAIN = [pytest.param((auth, False), id=f"{auth}-plain-memory") for auth in AUTH]
TLS = [pytest.param((auth, True), id=f"{auth}-tls-directory") for auth in AUTH]


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is not installed (Debian package {name})")
    return found


def python_with(module: str, package: str) -> str:
    """Return an interpreter that has the module, or fail the test."""
    python = os.environ.get("REGSIM_PEERS_PYTHON", sys.executable)
    found = subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False)
    if found.returncode:
        pytest.fail(
            f"{package} is not installed for {python}: pip install {package}, "
            "or name a Python that has it in REGSIM_PEERS_PYTHON"
        )
    return python


@dataclass(slots=True, kw_only=True)
class Served:
    """A mock registry as a process of its own, and a home for its clients."""

    auth: str
    url: str
    ca: Path | None
    log: Path
    home: Path
    _token: str = field(default="", repr=False)

    @property
    def host(self) -> str:
        return self.url.partition("://")[2]

    @property
    def login(self) -> list[str]:
        return [] if self.auth == "none" else ["--username", USER, "--password", PASSWORD]

    def verify(self, prefix: str = "") -> list[str]:
        """Return the options by which skopeo, podman and buildah reach this registry."""
        if self.ca is None:
            return [f"--{prefix}tls-verify=false"]
        return [f"--{prefix}cert-dir={self.ca.parent}"]

    def run(self, *command: str, exit_code: int | None = 0) -> str:
        """Run a program in its own home; return what it says on standard output.

        Args:
            command: The program and its arguments.
            exit_code: What must come of it; `None` is any failure.
        """
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.home),
            "REGISTRY_AUTH_FILE": str(self.home / "auth.json"),
            "LANG": "C.UTF-8",
            "NO_PROXY": "*",
        }
        done = subprocess.run(
            command,
            cwd=self.home,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        shown = f"exit {done.returncode}: {' '.join(command)}\n{done.stdout}\n{done.stderr}"
        assert (done.returncode != 0) if exit_code is None else (done.returncode == exit_code), shown
        assert PASSWORD not in done.stdout + done.stderr
        return done.stdout

    def journal(self, **wanted: object) -> list[dict[str, Any]]:
        """Return the registry's records that agree, so far."""
        lines = self.log.read_text().splitlines(keepends=True)
        records: list[dict[str, Any]] = [json.loads(line) for line in lines if line.endswith("\n")]
        return [each for each in records if all(each[name] == value for name, value in wanted.items())]

    def get(self, path: str, accept: str = MANIFEST) -> bytes:
        """Read from the registry with nobody's help."""
        status, body = self._ask("GET", path, {"Accept": accept, **self._credentials()})
        assert status == http.HTTPStatus.OK, body
        return body

    def blob(self, digest: str, repository: str = REPOSITORY) -> bytes:
        content = self.get(f"/v2/{repository}/blobs/{digest}")
        assert f"sha256:{hashlib.sha256(content).hexdigest()}" == digest
        return content

    def _credentials(self) -> dict[str, str]:
        if self.auth == "none":
            return {}
        basic = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.auth == "basic":
            return {"Authorization": basic}
        if not self._token:
            scopes = [f"repository:{name}:pull" for name in (REPOSITORY, "team/other")]
            query = urllib.parse.urlencode({"scope": " ".join(scopes)})
            _, body = self._ask("GET", f"/token?{query}", {"Authorization": basic})
            self._token = json.loads(body)["token"]
        return {"Authorization": f"Bearer {self._token}"}

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        connection = (
            http.client.HTTPConnection(self.host, timeout=DEADLINE)
            if self.ca is None
            else http.client.HTTPSConnection(
                self.host, timeout=DEADLINE, context=ssl.create_default_context(cafile=self.ca)
            )
        )
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@contextmanager
def serving(home: Path, auth: str, *options: str, tls: bool) -> Iterator[Served]:
    log = home / "journal"
    command = [
        sys.executable,
        "-m",
        "mock_registry",
        "--port=0",
        "--log=json",
        "--journal-limit=10",
        *options,
    ]
    if auth != "none":
        command += ["--auth", auth, "--user", f"{USER}:{PASSWORD}"]
    if tls:
        command += ["--tls", "self-signed"]
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            assert url, log.read_text()
            ca = Path(process.stdout.readline().strip()) if tls else None
            yield Served(auth=auth, url=url, ca=ca, log=log, home=home)
        finally:
            process.terminate()


@pytest.fixture(params=[*PLAIN, *TLS])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    auth, tls = request.param
    storage = ["--dir", str(tmp_path / "registry")] if tls else []
    with serving(tmp_path, auth, *storage, tls=tls) as served:
        yield served


@pytest.fixture
def short() -> Iterator[str]:
    """A folder whose path is as short as podman wants it."""
    with tempfile.TemporaryDirectory(prefix="p-") as folder:
        yield folder


def assert_users(served: Served) -> None:
    """All that was granted but the first look was granted to the user, and no password was written down."""
    granted = [
        record for record in served.journal() if record["status"] < 400 and record["repository"] is not None
    ]
    assert granted
    assert {record["user"] for record in granted} == {None if served.auth == "none" else USER}
    assert bool(served.journal(route="token")) is (served.auth == "token")
    assert PASSWORD not in served.log.read_text()
    assert urllib.parse.quote(PASSWORD) not in served.log.read_text()


def assert_same_image(copy: Path, original: Layout) -> None:
    """Byte-identical: every blob, and the manifest's digest."""
    found = {file.name: file.read_bytes() for file in (copy / "blobs" / "sha256").iterdir()}
    assert found == original.blobs
    [entry] = json.loads((copy / "index.json").read_bytes())["manifests"]
    assert entry["digest"] == original.descriptor["digest"]


def test_skopeo_logs_in_pushes_mounts_lists_pulls_and_deletes(served: Served, layout: Layout) -> None:
    run = [program("skopeo"), "--insecure-policy"]
    image = f"docker://{served.host}/{REPOSITORY}:v1"
    if served.auth != "none":
        wrong = ["--username", USER, "--password", "wrong"]
        served.run(*run, "login", *served.verify(), *wrong, served.host, exit_code=None)
        served.run(*run, "copy", *served.verify("dest-"), str(layout), image, exit_code=None)
        served.run(*run, "login", *served.verify(), *served.login, served.host)
    served.run(*run, "copy", *served.verify("dest-"), str(layout), image)
    manifest = layout.blobs[layout.descriptor["digest"].removeprefix("sha256:")]
    assert served.get(f"/v2/{REPOSITORY}/manifests/v1") == manifest
    assert json.loads(served.run(*run, "list-tags", *served.verify(), image.rpartition(":")[0]))["Tags"] == [
        "v1"
    ]
    assert served.run(*run, "inspect", "--raw", *served.verify(), image).encode() == manifest
    served.run(*run, "copy", *served.verify("src-"), image, f"oci:{served.home / 'copy'}:latest")
    assert_same_image(served.home / "copy", layout)
    other = f"docker://{served.host}/team/other:v1"
    served.run(*run, "copy", *served.verify("dest-"), str(layout), other)
    assert served.journal(repository="team/other", mounted_from=REPOSITORY, status=201)
    assert served.get("/v2/team/other/manifests/v1") == manifest
    served.run(*run, "delete", *served.verify(), image)
    served.run(*run, "inspect", "--raw", *served.verify(), image, exit_code=None)
    assert_users(served)


@pytest.mark.parametrize("auth", ["basic", "token"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_skopeo_without_a_login_pulls_what_everyone_may_pull_and_pushes_nothing(
    tmp_path: Path, layout: Layout, auth: str, *, tls: bool
) -> None:
    with serving(tmp_path, auth, "--anonymous-pull", tls=tls) as served:
        run = [program("skopeo"), "--insecure-policy"]
        image = f"docker://{served.host}/{REPOSITORY}:v1"
        credentials = ["--dest-creds", f"{USER}:{PASSWORD}"]
        served.run(*run, "copy", *served.verify("dest-"), *credentials, str(layout), image)
        served.run(*run, "copy", *served.verify("src-"), image, f"oci:{tmp_path / 'copy'}:latest")
        assert_same_image(tmp_path / "copy", layout)
        assert {each["user"] for each in served.journal(route="blob", method="GET", status=200)} == {None}
        served.run(*run, "copy", *served.verify("dest-"), str(layout), image, exit_code=None)


def test_skopeo_is_told_that_a_repository_is_not_its_own(tmp_path: Path, layout: Layout) -> None:
    for auth in ("basic", "token"):
        home = tmp_path / auth
        home.mkdir()
        with serving(home, auth, "--right", f"{USER}=team/*:pull,push", tls=False) as served:
            run = [program("skopeo"), "--insecure-policy"]
            credentials = [*served.verify("dest-"), "--dest-creds", f"{USER}:{PASSWORD}", str(layout)]
            served.run(*run, "copy", *credentials, f"docker://{served.host}/{REPOSITORY}:v1")
            served.run(*run, "copy", *credentials, f"docker://{served.host}/secret/app:v1", exit_code=None)
            assert not [each for each in served.journal(repository="secret/app") if each["status"] < 400]


@pytest.mark.parametrize("name", ["podman", "buildah"])
def test_podman_and_buildah_log_in_push_and_pull_the_same_image(
    served: Served, layout: Layout, name: str, short: str
) -> None:
    (served.home / "auth.json").write_text("{}")  # buildah asks for it even where nobody logs in
    policy = served.home / "policy.json"
    policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))

    def run(store: str, *words: str, exit_code: int | None = 0) -> str:
        storage = [f"--root={served.home / store}", f"--runroot={short}/{store}"]
        return served.run(program(name), "--storage-driver=vfs", *storage, *words, exit_code=exit_code)

    signed = f"--signature-policy={policy}"
    image = f"docker://{served.host}/{REPOSITORY}:v1"
    identifier = run("one", "pull", "--quiet", signed, f"oci:{layout.path}:{layout.tag}").strip()
    if served.auth != "none":
        run("one", "push", "--quiet", signed, *served.verify(), identifier, image, exit_code=None)
        wrong = ["--username", USER, "--password", "wrong"]
        run("one", "login", *served.verify(), *wrong, served.host, exit_code=None)
        run("one", "login", *served.verify(), *served.login, served.host)
    digests = served.home / "digest"
    run("one", "push", "--quiet", signed, *served.verify(), f"--digestfile={digests}", identifier, image)
    manifest = served.get(f"/v2/{REPOSITORY}/manifests/v1")
    assert f"sha256:{hashlib.sha256(manifest).hexdigest()}" == digests.read_text()
    document = json.loads(manifest)
    # The config tells the digests of the unpacked layers: if it is the same, so are the files.
    config = layout.blobs[layout.manifest["config"]["digest"].removeprefix("sha256:")]
    assert json.loads(served.blob(document["config"]["digest"]))["rootfs"] == json.loads(config)["rootfs"]
    for layer in document["layers"]:
        assert len(served.blob(layer["digest"])) == layer["size"]
    assert run("two", "pull", "--quiet", signed, *served.verify(), image).strip() == identifier
    assert_users(served)


def curl(served: Served, *words: str, exit_code: int | None = 0) -> str:
    trust = ["--cacert", str(served.ca)] if served.ca else []
    return served.run(
        program("curl"), "--silent", "--show-error", "--fail-with-body", *trust, *words, exit_code=exit_code
    )


def test_curl_pushes_pulls_lists_and_deletes_with_a_password_or_a_token(served: Served) -> None:
    file = served.home / "content"
    content = os.urandom(3_000_000)
    file.write_bytes(content)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    user = ["--user", f"{USER}:{PASSWORD}"]
    proof = user if served.auth == "basic" else []
    if served.auth != "none":
        curl(served, f"{served.url}/v2/", exit_code=22)
    if served.auth == "token":
        scope = f"repository:{REPOSITORY}:pull,push,delete"
        form = [
            "grant_type=password",
            "client_id=curl",
            f"username={USER}",
            f"password={PASSWORD}",
            f"scope={scope}",
        ]
        words = [word for each in form for word in ("--data-urlencode", each)]
        by_post = json.loads(curl(served, *words, f"{served.url}/token"))
        by_get = json.loads(
            curl(served, *user, "--get", "--data-urlencode", f"scope={scope}", f"{served.url}/token")
        )
        assert by_post["scope"] == scope
        proof = ["--header", f"Authorization: Bearer {by_get['token']}"]
    uploads = f"{served.url}/v2/{REPOSITORY}/blobs/uploads/"
    curl(served, *proof, "--data-binary", f"@{file}", f"{uploads}?digest={digest}")
    blob = f"{served.url}/v2/{REPOSITORY}/blobs/{digest}"
    curl(served, *proof, "--output", "copy", blob)
    assert (served.home / "copy").read_bytes() == content
    curl(served, *proof, "--head", blob)
    assert json.loads(curl(served, *proof, f"{served.url}/v2/{REPOSITORY}/tags/list"))["tags"] == []
    curl(served, *proof, "--request", "DELETE", blob)
    curl(served, *proof, "--head", blob, exit_code=22)
    # A body that is refused while it is sent: the answer arrives all the same.
    if served.auth != "none":
        answer = curl(served, "--data-binary", f"@{file}", f"{uploads}?digest={digest}", exit_code=22)
        assert json.loads(answer)["errors"][0]["code"] == "UNAUTHORIZED"
    assert_users(served)


ORAS = """
import sys, os
import oras.provider
from oras.auth.utils import authHeader
host, scheme, ca, auth, user, password = sys.argv[1:]
client = oras.provider.Registry(
    host, insecure=scheme == "http", tls_verify=ca or True, auth_backend="basic" if auth == "none" else auth
)
if auth != "none":
    client.auth.set_basic_auth(user, password)
if auth == "token":
    # oras keeps its first token, which is for reading, and asks for another one after a 403 alone.
    wanted = {"realm": f"{scheme}://{host}/token", "scope": "repository:team/app:pull,push,delete"}
    client.auth.set_token_auth(client.auth.request_token(authHeader(wanted)))
target = f"{host}/team/app:v1"
client.push(files=["content.bin"], target=target)
assert client.get_tags(f"{host}/team/app") == ["v1"], client.get_tags(target)
[pulled] = client.pull(target=target, outdir="pulled")
assert open(pulled, "rb").read() == open("content.bin", "rb").read()
assert client.delete_tag(target, "v1")
"""


def test_oras_pushes_lists_pulls_and_deletes(served: Served) -> None:
    python = python_with("oras", "oras")
    content = os.urandom(300_000)
    (served.home / "content.bin").write_bytes(content)
    scheme = served.url.partition(":")[0]
    served.run(python, "-c", ORAS, served.host, scheme, str(served.ca or ""), served.auth, USER, PASSWORD)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert served.blob(digest) == content
    assert served.journal(route="manifest", method="DELETE", status=202)
    assert_users(served)


DXF = """
import sys, hashlib
from dxf import DXF, DXFBase
host, scheme, ca, auth, user, password = sys.argv[1:]
def log_in(client, response):
    client.authenticate(user, password, response=response)
settings = {"insecure": scheme == "http", "tlsverify": ca or True, "auth": None if auth == "none" else log_in}
client = DXF(host, "team/app", **settings)
digest = client.push_blob("content.bin")
client.set_alias("v1", digest)
assert client.list_aliases() == ["v1"]
assert client.get_alias("v1") == [digest]
content, size = client.pull_blob(digest, size=True)
got = b"".join(content)
assert got == open("content.bin", "rb").read() and len(got) == size
assert DXFBase(host, **settings).list_repos() == ["team/app"]
client.del_blob(digest)
"""


# dxf gives no password to a registry without TLS.
@pytest.mark.parametrize("served", [PLAIN[0], *TLS], indirect=True)
def test_dxf_pushes_lists_pulls_and_deletes(served: Served) -> None:
    python = python_with("dxf", "python-dxf")
    content = os.urandom(300_000)
    (served.home / "content.bin").write_bytes(content)
    scheme = served.url.partition(":")[0]
    served.run(python, "-c", DXF, served.host, scheme, str(served.ca or ""), served.auth, USER, PASSWORD)
    assert served.journal(route="blob", method="DELETE", status=202)
    assert served.journal(route="catalog", status=200)
    assert_users(served)
