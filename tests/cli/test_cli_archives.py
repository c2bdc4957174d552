"""Archives and platforms, as a user names them."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from regsim.client.image_address import Local, parse
from regsim.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Layout, Outcome, Regsim, Served

    Files = Callable[[Path], set[str]]
    Lawful = Callable[[dict[str, Any]], None]


def blobs(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {
            each.name: (tar.extractfile(each) or io.BytesIO()).read()
            for each in tar
            if each.isfile() and each.name.startswith("blobs/")
        }


def transfer(outcome: Outcome) -> dict[str, Any]:
    (only,) = outcome.json["transfers"]
    assert isinstance(only, dict)
    return only


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_image_goes_through_an_archive_unchanged(
    regsim: Regsim, layout: Layout, registry: Served, tmp_path: Path, *, kind: str, assert_lawful: Lawful
) -> None:
    archive = f"{kind}:{tmp_path}/image.tar"
    steps = [
        ("push", f"{layout}:v1", f"{registry.host}/shop/api:1"),
        ("pull", f"{registry.host}/shop/api:1", archive),
        ("push", archive, f"{registry.host}/shop/other:1"),
        ("copy", archive, f"oci:{tmp_path}/back:v1"),
    ]
    digests = set()
    for step in steps:
        done = regsim(*step, "--format", "json")
        assert done.code == 0, done.err
        if step[0] != "copy":
            assert_lawful(done.json)
        digests.add(transfer(done)["digest"])
    assert len(digests) == 1
    back, wanted = tmp_path / "back" / "blobs" / "sha256", blobs(tmp_path / "image.tar")
    assert {f"blobs/sha256/{path.name}": path.read_bytes() for path in back.iterdir()} == wanted


def test_docker_archive_is_named_after_where_it_came_from(
    regsim: Regsim, layout: Layout, registry: Served, tmp_path: Path
) -> None:
    regsim("push", f"{layout}:v1", f"{registry.host}/shop/api:1")
    regsim("pull", f"{registry.host}/shop/api:1", f"docker-archive:{tmp_path}/a.tar")
    regsim("pull", f"{registry.host}/shop/api:1", f"docker-archive:{tmp_path}/b.tar:busybox")
    names = []
    for name in ("a.tar", "b.tar"):
        with tarfile.open(tmp_path / name) as tar:
            file = tar.extractfile("manifest.json")
            assert file is not None
            names += json.load(file)[0]["RepoTags"]
    assert names == [f"{registry.host}/shop/api:1", "busybox:latest"]
    assert regsim("layers", f"docker-archive:{tmp_path}/b.tar:docker.io/library/busybox").code == 0


def test_same_pull_writes_the_same_archive_and_a_dry_run_none(
    regsim: Regsim, layout: Layout, registry: Served, tmp_path: Path, files_below: Files
) -> None:
    regsim("push", f"{layout}:v1", f"{registry.host}/shop/api:1")
    folder = tmp_path / "archives"
    folder.mkdir()
    done = regsim("pull", f"{registry.host}/shop/api:1", f"oci-archive:{folder}/a.tar", "--dry-run")
    assert done.code == 0
    assert files_below(folder) == set()
    for name in ("a.tar", "b.tar"):
        assert regsim("pull", f"{registry.host}/shop/api:1", f"oci-archive:{folder}/{name}").code == 0
    assert files_below(folder) == {"a.tar", "b.tar"}
    assert (folder / "a.tar").read_bytes() == (folder / "b.tar").read_bytes()


def test_failed_transfer_leaves_the_archive_of_before(
    regsim: Regsim, layout: Layout, tmp_path: Path, files_below: Files
) -> None:
    descriptor = layout.add_image("broken", b"layer")
    layout.blob(layout.manifest(descriptor)["layers"][0]["digest"]).write_bytes(b"other")
    folder = tmp_path / "archives"
    folder.mkdir()
    (folder / "a.tar").write_bytes(b"before")
    done = regsim("copy", f"{layout}:broken", f"oci-archive:{folder}/a.tar")
    assert done.code == 5
    assert files_below(folder) == {"a.tar"}
    assert (folder / "a.tar").read_bytes() == b"before"


def test_archive_that_cannot_be_written_is_told(regsim: Regsim, layout: Layout, tmp_path: Path) -> None:
    for place in (tmp_path / "nowhere" / "a.tar", tmp_path):
        done = regsim("copy", f"{layout}:v1", f"oci-archive:{place}")
        assert done.code == 6
        assert str(place) in done.errors[0]


def hostile(path: Path, name: str) -> None:
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo(name)
        info.type = tarfile.CHRTYPE
        tar.addfile(info)


def test_hostile_archive_is_refused_with_the_name_of_its_member(
    regsim: Regsim, registry: Served, tmp_path: Path
) -> None:
    hostile(tmp_path / "a.tar", "blobs/device")
    for kind in ("oci-archive", "docker-archive"):
        done = regsim("push", f"{kind}:{tmp_path}/a.tar", f"{registry.host}/shop/api:1")
        assert done.code == 5
        assert "'blobs/device' is a device" in done.errors[0]
    assert registry.journal.bytes_in() == 0


def test_packed_archive_is_refused_with_what_to_do(regsim: Regsim, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(bytes(10_240)))
    done = regsim("layers", f"oci-archive:{tmp_path}/a.tar.gz")
    assert done.code == 5
    assert done.errors[1] == f"hint: decompress it first: gunzip {tmp_path}/a.tar.gz"


def test_absent_archive_and_absent_image_are_local_errors(
    regsim: Regsim, layout: Layout, tmp_path: Path
) -> None:
    assert regsim("layers", f"oci-archive:{tmp_path}/absent.tar").code == 6
    regsim("copy", f"{layout}:v1", f"oci-archive:{tmp_path}/a.tar:v1")
    done = regsim("layers", f"oci-archive:{tmp_path}/a.tar:v9")
    assert done.code == 6
    assert done.errors[1] == "hint: its tags are v1"


@pytest.mark.parametrize(
    ("text", "file", "name"),
    [
        ("oci-archive:a.tar", "a.tar", None),
        ("oci-archive:/x/a.tar:v1", "/x/a.tar", "v1"),
        ("oci-archive:a.tar:localhost/shop/api:v1", "a.tar", "localhost/shop/api:v1"),
        ("docker-archive:a.tar", "a.tar", None),
        ("docker-archive:a.tar:busybox", "a.tar", "busybox"),
        ("docker-archive:./a.tar:127.0.0.1:5000/shop/api:v1", "a.tar", "127.0.0.1:5000/shop/api:v1"),
    ],
)
def test_archives_are_spelled_as_skopeo_spells_them(text: str, file: str, name: str | None) -> None:
    address = parse(text)
    assert isinstance(address, Local)
    assert (str(address.path), address.name) == (file, name)


@pytest.mark.parametrize(
    "text",
    [
        "oci-archive:",
        "oci-archive::v1",
        "docker-archive:",
        "oci-archive:a.tar:",
        "oci-archive:a.tar:..",
        "oci-archive:a.tar:a b",
        "docker-archive:a.tar:",
        "docker-archive:a.tar:Upper",
        "docker-archive:a.tar:a@sha256:" + "0" * 64,
        "dir:somewhere",
    ],
)
def test_text_that_names_no_archive_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse(text)


@pytest.mark.parametrize("command", [("tag", "v2"), ("delete",)])
def test_archive_is_not_changed_in_place(
    regsim: Regsim, layout: Layout, tmp_path: Path, command: tuple[str, ...]
) -> None:
    regsim("copy", f"{layout}:v1", f"oci-archive:{tmp_path}/a.tar:v1")
    done = regsim(command[0], f"oci-archive:{tmp_path}/a.tar:v1", *command[1:])
    assert done.code == 2
    assert "an archive cannot be changed" in done.errors[0]


@pytest.fixture
def index(layout: Layout) -> dict[str, Any]:
    images = {
        name: layout.add_image(None, b"base" * 1000, name.encode(), architecture=name)
        for name in ("amd64", "arm64", "s390x")
    }
    layout.add_index("multi", **images)
    return images


@pytest.mark.parametrize("dry_run", [False, True], ids=["push", "dry run"])
def test_platform_pushes_that_image_and_counts_the_others(
    regsim: Regsim,
    layout: Layout,
    registry: Served,
    *,
    index: dict[str, Any],
    dry_run: bool,
    assert_lawful: Lawful,
) -> None:
    flags = ["--dry-run"] if dry_run else []
    done = regsim(
        "push",
        f"{layout}:multi",
        f"{registry.host}/a:1",
        "--platform",
        "linux/aarch64",
        "--format",
        "json",
        *flags,
    )
    assert done.code == 0, done.err
    assert_lawful(done.json)
    moved = transfer(done)
    assert (moved["digest"], moved["unselected"]) == (index["arm64"]["digest"], 2)
    assert [each["role"] for each in moved["entries"]] == ["manifest", "config", "layer", "layer"]


@pytest.mark.parametrize(
    "flags",
    [
        ("--platform", "linux/amd64,linux/s390x"),
        ("--platform", "linux/amd64", "--platform", "linux/s390x"),
    ],
    ids=["with commas", "each by itself"],
)
def test_several_platforms_keep_the_index(
    regsim: Regsim, layout: Layout, tmp_path: Path, index: dict[str, Any], flags: tuple[str, ...]
) -> None:
    done = regsim("copy", *flags, f"{layout}:multi", f"oci-archive:{tmp_path}/a.tar", "--format", "json")
    assert done.code == 0, done.err
    assert transfer(done)["unselected"] == 1
    manifests = [each["digest"] for each in transfer(done)["entries"] if each["role"] == "manifest"]
    assert manifests == [index["amd64"]["digest"], index["s390x"]["digest"]]
    assert f"blobs/sha256/{index['arm64']['digest'][7:]}" not in blobs(tmp_path / "a.tar")


def test_layers_of_one_platform(regsim: Regsim, layout: Layout, index: dict[str, Any]) -> None:
    done = regsim("layers", f"{layout}:multi", "--platform", "linux/s390x", "--format", "json")
    assert [image["digest"] for image in done.json] == [index["s390x"]["digest"]]


@pytest.mark.usefixtures("index")
def test_docker_archive_of_an_index_wants_a_platform_before_anything_moves(
    regsim: Regsim, layout: Layout, tmp_path: Path
) -> None:
    for flags in ((), ("--platform", "linux/amd64,linux/arm64"), ("--platform", "linux/amd64", "--sparse")):
        done = regsim("copy", f"{layout}:multi", f"docker-archive:{tmp_path}/a.tar", *flags)
        assert done.code == 2
        assert "--platform" in done.errors[1]
    assert (
        regsim(
            "copy", f"{layout}:multi", f"docker-archive:{tmp_path}/a.tar", "--platform", "linux/amd64"
        ).code
        == 0
    )


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (("--platform", "linux/mips"), 3, "has no image for linux/mips"),
        (("--platform", "linux"), 2, "not a platform: 'linux'"),
        (("--sparse",), 2, "--sparse"),
    ],
)
def test_platform_that_cannot_be_had_is_told(
    regsim: Regsim, layout: Layout, tmp_path: Path, *, flags: tuple[str, ...], code: int, words: str
) -> None:
    done = regsim("copy", f"{layout}:multi", f"oci:{tmp_path}/out:v1", *flags)
    assert done.code == code
    assert words in done.errors[0]
    assert not (tmp_path / "out").exists()
