"""The mock registry's container image: built from the Containerfile, run, pushed to and pulled from.

No hub is asked for a base: one is made of the Python that these tests run under, with the libraries that it
needs, on an empty image. The Containerfile is built as it stands, with that base as its argument and without
a network; the base has the packages too, so that pip finds nothing to download.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.peers.conftest import Command, Layout

pytestmark = pytest.mark.peers

CHECKOUT = Path(__file__).parents[2]
DEADLINE = 120.0
BASE, IMAGE = "localhost/python:test", "localhost/mock-registry:test"
PACKAGES = ("pip", "httptools", "bcrypt", "trustme")
NOT_NEEDED = ("EXTERNALLY-MANAGED", "__pycache__", "config-*", "ensurepip", "idlelib", "test", "tkinter")
# What a machine allows without CAP_SYS_RESOURCE.
CONTAINERS_CONF = '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'


@dataclass(frozen=True, slots=True)
class Engine:
    """buildah and podman, with a store of their own that goes with them."""

    home: Path

    def command(self, program: str, *words: str) -> list[str]:
        """Return the command line of one of them."""
        found = shutil.which(program)
        if found is None:
            pytest.fail(f"{program} is not installed (Debian package {program})")
        store = [f"--root={self.home / 'root'}", f"--runroot={self.home / 'run'}", "--storage-driver=vfs"]
        if program == "podman":
            store += ["--runtime=runc", "--cgroup-manager=cgroupfs", f"--tmpdir={self.home / 'tmp'}"]
        return [found, *store, *words]

    @property
    def environment(self) -> dict[str, str]:
        """What they are told of this machine."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TMPDIR": str(self.home),
            "XDG_RUNTIME_DIR": str(self.home),
            "CONTAINERS_CONF": str(self.home / "containers.conf"),
            "BUILDAH_ISOLATION": "chroot",
        }

    def run(self, program: str, *words: str) -> str:
        """Run one of them, expect it to work, and return what it prints."""
        done = subprocess.run(
            self.command(program, *words),
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 0, f"{program} {' '.join(words)}: {done.stdout}\n{done.stderr}"
        return done.stdout

    @contextmanager
    def serve(self, *options: str, volume: str | None = None) -> Iterator[Container]:
        """Run the image on a free port of this machine, and stop it gracefully.

        Args:
            options: Of the registry.
            volume: What is mounted at `/data`.
        """
        name = f"registry-{len(list(self.home.glob('*.log')))}"
        log = self.home / f"{name}.log"
        mounts = [] if volume is None else [f"--volume={volume}:/data"]
        words = ["run", "--rm", f"--name={name}", "--network=host", *mounts, IMAGE, "--port=0", *options]
        with (
            log.open("wb") as errors,
            subprocess.Popen(
                self.command("podman", *words),
                cwd=self.home,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            ) as process,
        ):
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url, log.read_text()
            try:
                yield Container(url.replace("0.0.0.0", "127.0.0.1"), log)  # noqa: S104 (where it listens)
            finally:
                self.run("podman", "stop", f"--time={DEADLINE:.0f}", name)
            assert process.wait(DEADLINE) == 0, log.read_text()


@dataclass(frozen=True, slots=True)
class Container:
    """A registry that runs in a container."""

    url: str
    log: Path

    @property
    def host(self) -> str:
        return self.url.partition("://")[2]


def libraries(files: Iterable[Path]) -> set[Path]:
    """Return the shared libraries that programs and extension modules need, the loader among them."""
    found: set[Path] = set()
    for file in files:
        said = subprocess.run(["ldd", str(file)], capture_output=True, text=True, check=False).stdout
        found |= {Path(path) for path in re.findall(r"(/\S+) \(0x", said)}
    return found


def copy_python(root: Path) -> None:
    """Make a root directory of this Python, its libraries and the packages that the image wants."""
    python = Path(sys.executable).resolve()
    standard = Path(sysconfig.get_path("stdlib"))
    ask = [str(python), "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip())
    ignore = shutil.ignore_patterns(*NOT_NEEDED, "site-packages", "dist-packages")
    shutil.copytree(standard, below(root, standard), ignore=ignore, ignore_dangling_symlinks=True)
    copy(root, python)
    for name in distributions(PACKAGES):
        for file in importlib.metadata.files(name) or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                source, target = Path(str(file.locate())), below(root, packages) / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
    for library in libraries([python, *root.rglob("*.so")]):
        copy(root, library)
    (root / "bin").mkdir(exist_ok=True)
    (root / "bin" / "python3").symlink_to(python)
    (root / "tmp").mkdir(mode=0o777)
    (root / "tmp").chmod(0o1777)


def distributions(names: Iterable[str]) -> set[str]:
    """Return distributions with all that they require here."""
    found: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name in found:
            continue
        try:
            required = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # asked for on other systems, or by an extra
        found.add(name)
        pending += [re.split(r"[^\w.-]", each, maxsplit=1)[0] for each in required if "extra ==" not in each]
    return found


def below(root: Path, path: Path) -> Path:
    """Return where a path of this machine is in the root directory."""
    return root / path.relative_to("/")


def copy(root: Path, file: Path) -> None:
    target = below(root, file)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, target)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Engines whose store holds the image."""
    with tempfile.TemporaryDirectory(prefix="c-") as folder:  # podman wants short paths
        engine = Engine(Path(folder))
        (engine.home / "containers.conf").write_text(CONTAINERS_CONF)
        base = engine.home / "base"
        copy_python(base)
        (engine.home / "Containerfile").write_text("FROM scratch\nCOPY base /\n")
        build = ("buildah", "bud", "--network=none")
        engine.run(*build, f"--tag={BASE}", "-f", "Containerfile", str(engine.home))
        shutil.rmtree(base)
        recipe = str(CHECKOUT / "Containerfile")
        argument = f"--build-arg=BASE={BASE}"
        engine.run(*build, f"--tag={IMAGE}", argument, "-f", recipe, str(CHECKOUT))
        yield engine


def assert_same_image(copied: Path, original: Layout) -> None:
    found = {file.name: file.read_bytes() for file in (copied / "blobs" / "sha256").iterdir()}
    assert found == original.blobs
    [entry] = json.loads((copied / "index.json").read_bytes())["manifests"]
    assert entry["digest"] == original.descriptor["digest"]


def test_the_container_serves_what_skopeo_pushes_and_pulls(
    engine: Engine, skopeo: Command, layout: Layout, tmp_path: Path
) -> None:
    with engine.serve() as container:
        image = f"docker://{container.host}/team/app:v1"
        skopeo("copy", "--dest-tls-verify=false", str(layout), image)
        skopeo("copy", "--src-tls-verify=false", image, f"oci:{tmp_path / 'copy'}:latest")
    assert_same_image(tmp_path / "copy", layout)
    assert "201 PUT /v2/team/app/manifests/v1 " in container.log.read_text()


def test_the_container_keeps_its_directory_in_a_volume_and_is_not_root(
    engine: Engine, skopeo: Command, layout: Layout, tmp_path: Path
) -> None:
    with engine.serve("--dir=/data", volume="kept") as container:
        skopeo("copy", "--dest-tls-verify=false", str(layout), f"docker://{container.host}/team/app:v1")
    kept = Path(engine.run("podman", "volume", "inspect", "--format={{.Mountpoint}}", "kept").strip())
    assert {file.stat().st_uid for file in kept.rglob("*")} == {1000}
    with engine.serve("--dir=/data", volume="kept") as container:
        image = f"docker://{container.host}/team/app:v1"
        skopeo("copy", "--src-tls-verify=false", image, f"oci:{tmp_path / 'copy'}:latest")
    assert_same_image(tmp_path / "copy", layout)


def test_the_container_takes_options_and_has_what_tls_and_passwords_need(
    engine: Engine, skopeo: Command, layout: Layout
) -> None:
    with engine.serve("--tls=self-signed", "--auth=basic", "--user=ci:s3cret") as container:
        assert container.url.startswith("https://")
        image = f"docker://{container.host}/team/app:v1"
        skopeo("copy", "--dest-tls-verify=false", str(layout), image, exit_code=1)
        skopeo("copy", "--dest-tls-verify=false", "--dest-creds=ci:s3cret", str(layout), image)
