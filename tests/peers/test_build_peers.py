"""Other programs accept what `regsim build` makes: skopeo copies it, umoci unpacks it, podman runs it."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.peers

DOCKERFILE = """FROM scratch AS build
COPY . /src
RUN make
FROM scratch
COPY --from=build /src/busybox /bin/
COPY --from=build /out /lib/out
WORKDIR /data
COPY --chown=7:8 --chmod=640 <<EOF note
hello from a heredoc
EOF
COPY links /data/
ENV GREETING=hi
CMD ["/bin/busybox", "cat", "/data/note"]
"""
CONTAINERS_CONF = '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is not installed (Debian package {name})")
    return found


def run(*command: str, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        command,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


@pytest.fixture
def context(tmp_path: Path) -> Path:
    place = tmp_path / "context"
    place.mkdir()
    shutil.copy(busybox(), place / "busybox")
    (place / "busybox").chmod(0o755)
    (place / "links").mkdir()
    (place / "links" / "link").symlink_to("note")
    (place / "Dockerfile").write_text(DOCKERFILE)
    (place / "Dockerfile.run.yaml").write_text("make: {files: {out: {size: 300kB, mode: 0600}}}\n")
    return place


def busybox() -> Path:
    """Return a program that needs no libraries (Debian package busybox-static)."""
    return Path(program("busybox"))


def build(context: Path, out: Path, compression: str) -> str:
    flags = ("--quiet", "--compression", compression)
    return run(sys.executable, "-m", "regsim", "build", str(context), "-t", f"oci:{out}:v1", *flags).strip()


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_skopeo_copies_a_built_image_and_reads_its_config(
    context: Path, tmp_path: Path, compression: str
) -> None:
    digest = build(context, tmp_path / "image", compression)
    source = f"oci:{tmp_path / 'image'}:v1"
    run(program("skopeo"), "copy", "--quiet", "--preserve-digests", source, f"oci:{tmp_path / 'copy'}:v1")
    index = json.loads((tmp_path / "copy" / "index.json").read_text())
    assert [each["digest"] for each in index["manifests"]] == [digest]
    config = json.loads(run(program("skopeo"), "inspect", "--config", source))
    assert config["config"]["WorkingDir"] == "/data"
    assert [line["created_by"] for line in config["history"]][2:4] == [
        "WORKDIR /data",
        "COPY --chown=7:8 --chmod=640 <<EOF note # buildkit",
    ]


@pytest.mark.parametrize("compression", ["none", "gzip"])  # umoci of Debian 12 reads no zstd
def test_umoci_unpacks_the_files_that_were_built(context: Path, tmp_path: Path, compression: str) -> None:
    build(context, tmp_path / "image", compression)
    run(program("umoci"), "unpack", "--image", f"{tmp_path / 'image'}:v1", str(tmp_path / "bundle"))
    root = tmp_path / "bundle" / "rootfs"
    note = (root / "data" / "note").stat()
    assert (root / "data" / "note").read_text() == "hello from a heredoc\n"
    assert (note.st_uid, note.st_gid, stat.S_IMODE(note.st_mode), note.st_mtime) == (7, 8, 0o640, 0)
    assert (root / "data" / "link").readlink() == Path("note")
    assert (root / "bin" / "busybox").read_bytes() == busybox().read_bytes()
    assert (root / "lib" / "out").stat().st_size == 300_000


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_podman_runs_the_program_that_was_built(context: Path, tmp_path: Path, compression: str) -> None:
    build(context, tmp_path / "image", compression)
    # podman takes no place whose name has more than 50 letters.
    with TemporaryDirectory(prefix="podman-") as home:
        (Path(home) / "containers.conf").write_text(CONTAINERS_CONF)
        store = (
            f"--root={home}/root",
            f"--runroot={home}/run",
            f"--tmpdir={home}/scratch",
            "--storage-driver=vfs",
        )
        podman = (program("podman"), *store, "--runtime=runc", "--cgroup-manager=cgroupfs")
        environment = {"CONTAINERS_CONF": f"{home}/containers.conf", "XDG_RUNTIME_DIR": home}
        image = run(
            *podman, "pull", "--quiet", f"oci:{tmp_path / 'image'}:v1", environment=environment
        ).strip()
        said = run(*podman, "run", "--rm", "--network=host", image, environment=environment)
    assert said == "hello from a heredoc\n"
