"""Archives exchanged with skopeo and podman, byte for byte, both ways."""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
from typing import TYPE_CHECKING

import pytest

from tests.peers.conftest import Command, command, find_program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.peers.conftest import DockerRegistry, Layout

pytestmark = pytest.mark.peers

NAME = "localhost/shop/api:v1"


def files(archive: Path) -> dict[str, bytes]:
    """Return every file of an archive, by name."""
    found = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member)
            if member.isfile() and file is not None:
                found[member.name] = file.read()
    return found


def blobs(layout: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (layout / "blobs" / "sha256").iterdir()}


@pytest.fixture
def podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """Run podman with a storage of its own, below what a machine without privileges allows."""
    limits = 'default_ulimits = ["nofile=4096:4096","nproc=4096:4096"]'
    (tmp_path / "containers.conf").write_text(f"[containers]\n{limits}\n")
    monkeypatch.setenv("CONTAINERS_CONF", str(tmp_path / "containers.conf"))
    # It refuses a path of more than 50 characters here.
    with tempfile.TemporaryDirectory() as run:
        places = ["--root", str(tmp_path / "storage"), "--runroot", run]
        yield command(
            [find_program("podman"), "--storage-driver", "vfs", *places, "--cgroup-manager", "cgroupfs"],
            tmp_path,
        )


def test_skopeo_reads_our_oci_archive(
    regsim: Command, skopeo: Command, layout: Layout, tmp_path: Path
) -> None:
    regsim("copy", str(layout), "oci-archive:image.tar:v1")
    skopeo("copy", "oci-archive:image.tar:v1", "oci:back:v1")
    assert blobs(tmp_path / "back") == layout.blobs


def test_we_read_skopeos_oci_archive(
    regsim: Command, skopeo: Command, layout: Layout, tmp_path: Path
) -> None:
    skopeo("copy", str(layout), "oci-archive:image.tar:v1")
    regsim("copy", "oci-archive:image.tar:v1", "oci:back:v1")
    assert blobs(tmp_path / "back") == layout.blobs


def test_skopeo_reads_our_docker_archive(
    regsim: Command, skopeo: Command, layout: Layout, tmp_path: Path
) -> None:
    regsim("copy", str(layout), f"docker-archive:image.tar:{NAME}")
    skopeo("copy", f"docker-archive:image.tar:{NAME}", "dir:back")
    manifest = json.loads((tmp_path / "back" / "manifest.json").read_bytes())
    config = layout.blobs[layout.manifest["config"]["digest"].removeprefix("sha256:")]
    assert manifest["config"]["digest"] == layout.manifest["config"]["digest"]
    # skopeo unpacks layers: what it then holds is what the config says that they are.
    assert [each["digest"] for each in manifest["layers"]] == json.loads(config)["rootfs"]["diff_ids"]


def test_we_read_skopeos_docker_archive(
    regsim: Command, skopeo: Command, layout: Layout, docker_registry: DockerRegistry, tmp_path: Path
) -> None:
    skopeo("copy", str(layout), f"docker-archive:image.tar:{NAME}")
    result = json.loads(
        regsim(
            "push",
            f"docker-archive:image.tar:{NAME}",
            f"{docker_registry.host}/shop/api:v1",
            "--format",
            "json",
        )
    )
    assert result["reconciliation"]["differences"] == []
    regsim("copy", "docker-archive:image.tar", "oci:back:v1")
    held = blobs(tmp_path / "back")
    config = layout.blobs[layout.manifest["config"]["digest"].removeprefix("sha256:")]
    assert {f"sha256:{name}" for name in held} >= set(json.loads(config)["rootfs"]["diff_ids"])
    # An archive of skopeo's has links beside the layers; what they lead to is the plain tar.
    plain = [raw for name, raw in files(tmp_path / "image.tar").items() if name.endswith(".tar")]
    assert all(raw in held.values() for raw in plain)


def test_podman_loads_our_docker_archive_and_we_read_what_it_saves(
    regsim: Command, podman: Command, layout: Layout, tmp_path: Path
) -> None:
    regsim("copy", str(layout), f"docker-archive:image.tar:{NAME}")
    podman("load", "--input", "image.tar")
    config = layout.manifest["config"]["digest"].removeprefix("sha256:")
    assert json.loads(podman("image", "inspect", NAME))[0]["Id"] == config
    for kind in ("docker-archive", "oci-archive"):
        podman("save", "--format", kind, "--output", f"{kind}.tar", NAME)
        regsim("copy", f"{kind}:{kind}.tar", f"oci:{kind}:v1")
        assert config in blobs(tmp_path / kind)


def test_image_that_buildah_built_of_real_files_goes_through_both_archives(
    regsim: Command, skopeo: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUILDAH_ISOLATION", "chroot")
    storage = [
        "--storage-driver",
        "vfs",
        "--root",
        str(tmp_path / "storage"),
        "--runroot",
        str(tmp_path / "run"),
    ]
    buildah = command([find_program("buildah"), *storage], tmp_path)
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "data").write_bytes(os.urandom(300_000))
    container = buildah("from", "scratch").strip()
    buildah("copy", container, "app", "/srv")
    buildah("config", "--cmd", "/srv/data", container)
    buildah("commit", container, "oci:built:v1")
    regsim("copy", "oci:built:v1", "oci-archive:a.tar:v1")
    regsim("copy", "oci-archive:a.tar:v1", f"docker-archive:b.tar:{NAME}")
    regsim("copy", f"docker-archive:b.tar:{NAME}", "oci:back:v1")
    assert blobs(tmp_path / "back") == blobs(tmp_path / "built")
    skopeo("copy", f"docker-archive:b.tar:{NAME}", "dir:plain")
