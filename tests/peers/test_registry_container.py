"""docker-registry in a container, run by podman: started, used, held against its access log, and removed.

The image is what `registry:2` is made of, the program and a configuration, put on an empty image with the
libraries that it needs.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bcrypt
import pytest
import trustme

from regsim.client.client import Client
from regsim.errors import AuthenticationError, NetworkError
from regsim.net.trust import Trust
from regsim.registry.login import Credentials, FixedKeychain
from regsim.scenario.registry_container import Engine, registry_container

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.peers.conftest import Command, Layout

pytestmark = [pytest.mark.peers, pytest.mark.anyio]

IMAGE = "localhost/registry:test"
# What a machine allows without CAP_SYS_RESOURCE.
CONTAINERS_CONF = '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'
CONFIG = """
version: 0.1
log: {level: info, accesslog: {disabled: false}}
storage: {inmemory: {}}
http: {addr: ":5000"}
"""
CONTAINERFILE = 'FROM scratch\nCOPY root /\nENTRYPOINT ["/bin/docker-registry", "serve", "/etc/config.yml"]\n'

_ACCESS = re.compile(r'"(?P<method>[A-Z]+) (?P<path>/v2/\S+) HTTP/[\d.]+" (?P<status>\d+) (?P<body>\d+)')


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is not installed (Debian package {name})")
    return found


def make_root(root: Path) -> None:
    """Make the root directory of an image with docker-registry and all that it is linked with."""
    registry = Path(program("docker-registry"))
    linked = subprocess.run(["ldd", str(registry)], capture_output=True, text=True, check=True).stdout
    libraries = {Path(each) for each in re.findall(r"(/\S+) \(0x", linked)}
    # Its names are looked up by what the C library loads when it runs.
    libraries |= set(Path("/lib").glob("*-linux-gnu/libresolv.so.2"))
    for file in libraries:
        target = root / file.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    (root / "bin").mkdir(exist_ok=True)
    shutil.copy(registry, root / "bin" / "docker-registry")
    (root / "etc").mkdir()
    (root / "etc" / "config.yml").write_text(CONFIG)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """podman with a store of its own, which holds the image and goes with it."""
    with (
        tempfile.TemporaryDirectory(prefix="c-") as folder,  # podman wants short paths
        pytest.MonkeyPatch.context() as patch,
    ):
        home = Path(folder)
        (home / "containers.conf").write_text(CONTAINERS_CONF)
        for name in ("HOME", "TMPDIR", "XDG_RUNTIME_DIR"):
            patch.setenv(name, str(home))
        patch.setenv("CONTAINERS_CONF", str(home / "containers.conf"))
        patch.setenv("BUILDAH_ISOLATION", "chroot")
        (home / "context").mkdir()
        make_root(home / "context" / "root")
        (home / "context" / "Containerfile").write_text(CONTAINERFILE)
        store = (f"--root={home / 'root'}", f"--runroot={home / 'run'}", "--storage-driver=vfs")
        build = (program("buildah"), *store, "bud", "--quiet", "--network=none", f"--tag={IMAGE}")
        subprocess.run([*build, str(home / "context")], check=True, capture_output=True)
        shutil.rmtree(home / "context")
        flags = ("--runtime=runc", "--cgroup-manager=cgroupfs", f"--tmpdir={home / 'tmp'}")
        yield Engine((program("podman"), *store, *flags))


async def containers(engine: Engine) -> list[str]:
    said = await engine.call("ps", "--all", "--format", "{{.Names}}")
    assert said.code == 0, said.err
    return said.out.split()


async def test_a_scenario_runs_against_a_container_that_is_gone_afterwards(
    engine: Engine, regsim: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGSIM_ENGINE", shlex.join(engine.words))
    out = regsim("run", "shared-base", "--registry", f"container:{IMAGE}", "--quiet")
    assert "Check ok     step 2: exists == 2" in out
    assert await containers(engine) == []


async def test_the_ledger_is_what_the_access_log_says(engine: Engine, layout: Layout, tmp_path: Path) -> None:
    told: list[str] = []
    async with registry_container(IMAGE, engine=engine, tell=told.append) as registry, Client() as client:
        assert await containers(engine) == [registry.name]
        before = len(accesses(await registry.logs()))
        pushed = await client.push(str(layout), f"{registry.host}/shop/api:v1")
        pulled = await client.pull(f"{registry.host}/shop/api:v1", f"oci:{tmp_path / 'pulled'}:v1")
        assert await client.tags(f"{registry.host}/shop/api") == ("v1",)
        digest = pushed.transfers[0].ledger.digest
        await client.delete(f"{registry.host}/shop/api@{digest}")
        seen = accesses(await registry.logs())[before:]
    # The list of tags and the deletion belong to no transfer.
    assert seen[-2:] == [("GET", "/v2/shop/api/tags/list", 200, seen[-2][3]), (*seen[-1][:2], 202, 0)]
    moved = seen[:-2]
    assert pushed.summary.requests + pulled.summary.requests == len(moved)
    received = sum(body for method, _, status, body in moved if (method, status) == ("GET", 200))
    assert pulled.summary.wire_received + pushed.summary.wire_received == received
    written = Counter((method, status) for method, _, status, _ in moved if method in ("PUT", "POST"))
    entries = pushed.transfers[0].ledger.entries
    uploads = len({each.digest for each in entries}) - 1
    assert written == {("POST", 202): uploads, ("PUT", 201): uploads + 1}
    found = {file.name: file.read_bytes() for file in (tmp_path / "pulled" / "blobs" / "sha256").iterdir()}
    assert found == layout.blobs
    assert (await containers(engine), told) == ([], [])


def accesses(log: str) -> list[tuple[str, str, int, int]]:
    """Return method, path, status and octets of the answer's body of each request, oldest first."""
    found = [_ACCESS.search(line) for line in log.splitlines()]
    return [
        (each["method"], each["path"].partition("?")[0], int(each["status"]), int(each["body"]))
        for each in found
        if each is not None and each["path"] != "/v2/"
    ]


async def test_it_may_want_a_login_and_speak_tls(engine: Engine, layout: Layout, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    files = tmp_path / "files"
    files.mkdir()
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    (files / "chain.pem").write_bytes(b"".join(each.bytes() for each in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(files / "key.pem")
    hashed = bcrypt.hashpw(b"s3cret", bcrypt.gensalt(4)).decode().replace("$2b$", "$2y$")
    (files / "htpasswd").write_text(f"ci:{hashed}\n")
    starting = registry_container(
        IMAGE,
        environment={
            "REGISTRY_AUTH": "htpasswd",
            "REGISTRY_AUTH_HTPASSWD_REALM": "regsim",
            "REGISTRY_AUTH_HTPASSWD_PATH": "/files/htpasswd",
            "REGISTRY_HTTP_TLS_CERTIFICATE": "/files/chain.pem",
            "REGISTRY_HTTP_TLS_KEY": "/files/key.pem",
        },
        volumes={files: "/files"},
        tls=True,
        engine=engine,
        tell=lambda _: None,
    )
    async with starting as registry:
        reference = f"{registry.host}/shop/api:v1"
        trusting: dict[str, Any] = {"plain_http": False, "trust": Trust(ca_file=tmp_path / "ca.crt")}
        keychain = FixedKeychain({registry.host: Credentials.parse("ci:s3cret", source="the test")})
        async with Client(**trusting, keychain=keychain) as client:
            result = await client.push(str(layout), reference)
            assert result.reconciliation.differences == ()
            assert (await client.resolve(reference)).digest == layout.descriptor["digest"]
        async with Client(**trusting) as stranger:
            with pytest.raises(AuthenticationError):
                await stranger.resolve(reference)
        async with Client(plain_http=False, keychain=keychain) as distrustful:
            with pytest.raises(NetworkError, match="certificate"):
                await distrustful.resolve(reference)
    assert await containers(engine) == []
