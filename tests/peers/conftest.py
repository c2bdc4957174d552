"""Real peers as processes: Debian's docker-registry and skopeo, and regsim's own command line.

A missing program fails the test: whoever asks for `-m peers` wants them met.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

DEADLINE = 20.0
POLL = 0.02

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
INDEX = "application/vnd.oci.image.index.v1+json"
LARGE = 400 * 2**20

_ACCESS = re.compile(r'"(?P<method>[A-Z]+) (?P<path>\S+) HTTP/[\d.]+" (?P<status>\d+) (?P<body>\d+)')


def find_program(name: str) -> str:
    """Return where `name` is, or fail the test."""
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is not installed (Debian package {name})")
    return found


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Ask `true` again and again until it says so, or fail at the deadline."""
    end = time.monotonic() + DEADLINE
    while not true():
        if time.monotonic() > end:
            pytest.fail(f"waited {DEADLINE:g} s for {what}")
        time.sleep(POLL)


@dataclass(frozen=True, slots=True)
class Access:
    """One line of docker-registry's access log. `body` is octets of the answer's body."""

    method: str
    path: str
    status: int
    body: int

    @property
    def key(self) -> tuple[str, str, int]:
        """What was asked and how it was answered, without the host, the digest or the query."""
        path = self.path.partition("?")[0]
        kind = next(kind for kind in ("manifests", "uploads", "blobs", "") if f"/{kind}" in path)
        return self.method, kind, self.status


@dataclass(slots=True, kw_only=True)
class DockerRegistry:
    """A docker-registry on a loopback port, what it says it was asked, and where it keeps its content.

    Behind TLS, `tls` is by what it is trusted; `login` is the `Authorization` that it wants, if it wants one.
    """

    host: str
    access_log: Path
    data: Path
    process: subprocess.Popen[bytes]
    tls: ssl.SSLContext | None = None
    login: str = ""

    @property
    def url(self) -> str:
        """The address as `--registry` takes it."""
        return f"http://{self.host}"

    def accesses(self) -> list[Access]:
        """Return every request that it has answered so far, oldest first."""
        return [
            Access(found["method"], found["path"], int(found["status"]), int(found["body"]))
            for line in self.access_log.read_text().splitlines(keepends=True)
            if line.endswith("\n") and (found := _ACCESS.search(line))
        ]

    @contextmanager
    def watch(self) -> Iterator[list[Access]]:
        """Yield a list that holds, after the block, the requests that were made in it."""
        before = self._mark()
        seen: list[Access] = []
        yield seen
        seen += self.accesses()[before : self._mark() - 1]

    def _mark(self) -> int:
        """Return the log's length once it lacks nothing: lines follow answers, so ours comes last."""
        marker = f"/v2/watch/manifests/{len(self.accesses())}"
        self.ask("GET", marker)
        wait_until(
            lambda: self.accesses()[-1:] != [] and self.accesses()[-1].path == marker, "the access log"
        )
        return len(self.accesses())

    def kill(self) -> None:
        """End it at once, whatever it is doing."""
        self.process.kill()
        self.process.wait(DEADLINE)

    def ask(self, method: str, path: str) -> tuple[int, bytes]:
        """Send one request and return the answer's status and body."""
        connection = http.client.HTTPConnection(self.host, timeout=DEADLINE)
        if self.tls is not None:
            connection = http.client.HTTPSConnection(self.host, timeout=DEADLINE, context=self.tls)
        headers = {"Accept": f"{MANIFEST}, {INDEX}"}
        if self.login:
            headers["Authorization"] = self.login
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture
def docker_registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    """Run Debian's docker-registry (the program inside `registry:2`) with an empty file-system storage."""
    with running_docker_registry(tmp_path / "docker-registry") as registry:
        yield registry


@contextmanager
def running_docker_registry(
    home: Path,
    *,
    auth: dict[str, Any] | None = None,
    certificate: dict[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    login: str = "",
) -> Iterator[DockerRegistry]:
    """Run docker-registry in a folder of its own until the block ends.

    Args:
        home: is made.
        auth: its section of the configuration; None lets everyone in.
        certificate: the files of its certificate and key; None is plain HTTP.
        tls: by what it is trusted then.
        login: the `Authorization` that `ask` uses.
    """
    program = find_program("docker-registry")
    home.mkdir()
    config: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "info", "accesslog": {"disabled": False}},
        "storage": {"filesystem": {"rootdirectory": str(home / "data")}, "delete": {"enabled": True}},
        "http": {"addr": "127.0.0.1:0", "secret": "regsim"},
    }
    if auth is not None:
        config["auth"] = auth
    if certificate is not None:
        config["http"]["tls"] = certificate
    (home / "config.yml").write_text(json.dumps(config))  # JSON is YAML too
    with (
        (home / "access.log").open("wb") as access,
        (home / "registry.log").open("wb") as log,
        subprocess.Popen(
            [program, "serve", str(home / "config.yml")],
            stdin=subprocess.DEVNULL,
            stdout=access,
            stderr=log,
            cwd=home,
            env={"PATH": os.environ["PATH"]},
        ) as process,
    ):
        try:
            host = _listening_address(process, home / "registry.log")
            registry = DockerRegistry(
                host=host,
                access_log=home / "access.log",
                data=home / "data",
                process=process,
                tls=tls,
                login=login,
            )
            wait_until(lambda: registry.ask("GET", "/v2/")[0] == http.HTTPStatus.OK, "docker-registry")
            yield registry
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                process.kill()
            shutil.rmtree(home / "data", ignore_errors=True)


def _listening_address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait for the port that docker-registry chose for itself: nobody else can take it in between."""

    def said() -> bool:
        if process.poll() is not None:
            pytest.fail(f"docker-registry ended with {process.returncode}: {log.read_text()}")
        return "listening on " in log.read_text()

    wait_until(said, "docker-registry to listen")
    found = re.search(r"listening on (127\.0\.0\.1:\d+)", log.read_text())
    assert found is not None, log.read_text()
    return found[1]


class Command(Protocol):
    """Run a program with these arguments, expect this exit code, return its standard output."""

    def __call__(self, *arguments: str, exit_code: int = 0) -> str: ...


def command(prefix: list[str], cwd: Path) -> Command:
    """Return a runner of `prefix` in `cwd`."""

    def run(*arguments: str, exit_code: int = 0) -> str:
        done = subprocess.run(
            [*prefix, *arguments],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        shown = f"{' '.join([*prefix, *arguments])}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == exit_code, f"exit {done.returncode}: {shown}"
        return done.stdout

    return run


@pytest.fixture
def start_docker_registry(tmp_path: Path) -> Callable[..., AbstractContextManager[DockerRegistry]]:
    """Return what runs a docker-registry with settings of a test's own."""
    return partial(running_docker_registry, tmp_path / "docker-registry")


@pytest.fixture
def client(tmp_path: Path) -> Callable[[str], Command]:
    """Return what runs a program by its name."""
    return lambda name: command([find_program(name)], tmp_path)


@pytest.fixture
def skopeo(tmp_path: Path) -> Command:
    """Run skopeo, as its users do."""
    return command([find_program("skopeo"), "--insecure-policy"], tmp_path)


@pytest.fixture
def regsim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run regsim's command line as a process, with a cache of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return command([sys.executable, "-m", "regsim"], tmp_path)


@dataclass(frozen=True, slots=True)
class Layout:
    """An OCI image layout on disk and the image that was put into it."""

    path: Path
    tag: str

    def __str__(self) -> str:
        """The layout as regsim and skopeo both spell it."""
        return f"oci:{self.path}:{self.tag}"

    @property
    def descriptor(self) -> dict[str, Any]:
        """The index's entry for the tag: what names the image's bytes, without names beside it."""
        entries = json.loads((self.path / "index.json").read_bytes())["manifests"]
        assert len(entries) == 1, entries
        return {key: entries[0][key] for key in ("mediaType", "digest", "size")}

    @property
    def manifest(self) -> dict[str, Any]:
        """The image's manifest."""
        document: dict[str, Any] = json.loads(self.blobs[self.descriptor["digest"].removeprefix("sha256:")])
        return document

    @property
    def blobs(self) -> dict[str, bytes]:
        """Every file under `blobs/sha256`, by name."""
        return {file.name: file.read_bytes() for file in (self.path / "blobs" / "sha256").iterdir()}

    @property
    def version(self) -> dict[str, Any]:
        """The layout's own version file."""
        document: dict[str, Any] = json.loads((self.path / "oci-layout").read_bytes())
        return document


def make_layer(name: str, size: int) -> tuple[bytes, bytes]:
    """Return a tar of one file of `size` seeded random bytes and one directory, plain and gzipped."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        folder = tarfile.TarInfo("srv")
        folder.type = tarfile.DIRTYPE
        folder.mode = 0o755
        archive.addfile(folder)
        file = tarfile.TarInfo(f"srv/{name}")
        file.size = size
        archive.addfile(file, io.BytesIO(random.Random(name).randbytes(size)))
    return plain.getvalue(), gzip.compress(plain.getvalue(), mtime=0)


def add_blob(root: Path, content: bytes, media_type: str) -> dict[str, Any]:
    """Write a blob into a layout and return its descriptor."""
    encoded = hashlib.sha256(content).hexdigest()
    (root / "blobs" / "sha256" / encoded).write_bytes(content)
    return {"mediaType": media_type, "digest": f"sha256:{encoded}", "size": len(content)}


def add_document(root: Path, document: dict[str, Any], media_type: str) -> dict[str, Any]:
    """Write a JSON document into a layout and return its descriptor."""
    return add_blob(root, json.dumps(document, separators=(",", ":")).encode(), media_type)


def add_image(root: Path, layers: list[tuple[str, int]], architecture: str = "amd64") -> dict[str, Any]:
    """Write an image into a layout and return its manifest's descriptor.

    Args:
        root: the layout.
        layers: base first, each a name that its bytes are a function of, and the size of its one file.
        architecture: what the config says.
    """
    made = [make_layer(name, size) for name, size in layers]
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Cmd": ["/srv"]},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(plain).hexdigest()}" for plain, _ in made],
        },
        "history": [{"created_by": f"COPY {name} /srv"} for name, _ in layers],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": add_document(root, config, CONFIG),
        "layers": [add_blob(root, packed, LAYER) for _, packed in made],
    }
    return add_document(root, manifest, MANIFEST)


def begin_layout(root: Path) -> None:
    """Make an empty layout by hand, as the specification says it, with nobody's library."""
    (root / "blobs" / "sha256").mkdir(parents=True)
    (root / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))


def finish_layout(root: Path, descriptor: dict[str, Any]) -> Layout:
    """Name the one image of a layout."""
    tag = "latest"
    named = {**descriptor, "annotations": {"org.opencontainers.image.ref.name": tag}}
    (root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    return Layout(root, tag)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An image of four layers, of which the third is the first again."""
    root = tmp_path / "layout"
    begin_layout(root)
    layers = [("base", 700_000), ("tools", 300_000), ("base", 700_000), ("app", 4_000)]
    return finish_layout(root, add_image(root, layers))


@pytest.fixture
def multi_platform(tmp_path: Path) -> Layout:
    """An index over two images that have a layer in common."""
    root = tmp_path / "multi-platform"
    begin_layout(root)
    manifests = [
        {
            **add_image(root, [("data", 500_000), (f"app-{architecture}", 3_000)], architecture),
            "platform": {"architecture": architecture, "os": "linux"},
        }
        for architecture in ("amd64", "arm64")
    ]
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
    return finish_layout(root, add_document(root, index, INDEX))


@pytest.fixture
def large(tmp_path: Path) -> Layout:
    """An image of one layer that takes a while to move: an empty tar, which is nothing but zeros."""
    root = tmp_path / "large"
    begin_layout(root)
    hashed = hashlib.sha256()
    for _ in range(LARGE // 2**20):
        hashed.update(bytes(2**20))
    with (root / "blobs" / "sha256" / hashed.hexdigest()).open("wb") as file:
        file.truncate(LARGE)
    digest = f"sha256:{hashed.hexdigest()}"
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest]}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": add_document(root, config, CONFIG),
        "layers": [{"mediaType": LAYER.removesuffix("+gzip"), "digest": digest, "size": LARGE}],
    }
    return finish_layout(root, add_document(root, manifest, MANIFEST))
