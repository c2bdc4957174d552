"""`regsim history`, as a user calls it."""

from __future__ import annotations

import asyncio
import io
import json
import re
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from regsim.cli.history import history_table
from regsim.client.client import Client

if TYPE_CHECKING:
    from regsim.client.contents import Histories
    from tests.cli.conftest import Layout, Regsim, Served

BUILDS = Path(__file__).parents[2] / "scenarios" / "builds"
GOLANG = "record:golang-1.23.4-bookworm-arm64"
BUILT = datetime(2024, 12, 6, 20, tzinfo=UTC)
# `docker history hello-world-go`, as the article prints it.
ARTICLE = """\
IMAGE          CREATED          CREATED BY                                      SIZE      COMMENT
a3c62afdbe9d   12 seconds ago   CMD ["./main"]                                  0B        buildkit.dockerfile.v0
<missing>      12 seconds ago   EXPOSE map[8080/tcp:{}]                         0B        buildkit.dockerfile.v0
<missing>      12 seconds ago   RUN /bin/sh -c go build -o main main.go # bu…   81MB      buildkit.dockerfile.v0
<missing>      16 seconds ago   COPY . . # buildkit                             322B      buildkit.dockerfile.v0
<missing>      3 days ago       WORKDIR /go                                     0B        buildkit.dockerfile.v0
<missing>      3 days ago       RUN /bin/sh -c mkdir -p "$GOPATH/src" "$GOPA…   0B        buildkit.dockerfile.v0
<missing>      3 days ago       COPY /target/ / # buildkit                      235MB     buildkit.dockerfile.v0
<missing>      3 days ago       ENV PATH=/go/bin:/usr/local/go/bin:/usr/loca…   0B        buildkit.dockerfile.v0
<missing>      3 days ago       ENV GOPATH=/go                                  0B        buildkit.dockerfile.v0
<missing>      3 days ago       ENV GOTOOLCHAIN=local                           0B        buildkit.dockerfile.v0
<missing>      3 days ago       ENV GOLANG_VERSION=1.23.4                       0B        buildkit.dockerfile.v0
<missing>      3 days ago       RUN /bin/sh -c set -eux;  apt-get update;  a…   239MB     buildkit.dockerfile.v0
<missing>      11 months ago    RUN /bin/sh -c set -eux;  apt-get update;  a…   183MB     buildkit.dockerfile.v0
<missing>      19 months ago    RUN /bin/sh -c set -eux;  apt-get update;  a…   47.8MB    buildkit.dockerfile.v0
<missing>      19 months ago    # debian.sh --arch 'arm64' out/ 'bookworm' '…   139MB     debuerreotype 0.15
""".splitlines()  # noqa: E501  (its columns are as wide as they are)


def history(address: str) -> Histories:
    async def asked() -> Histories:
        async with Client() as client:
            return await client.history(address)

    return asyncio.run(asked())


def printed(address: str, now: datetime) -> list[str]:
    found = history(address)
    (image,) = found.images
    return history_table(image, found.view, full=False, human=True, now=now).splitlines()


@pytest.mark.long
def test_the_articles_image_is_built_and_its_history_is_the_articles_to_the_letter(
    regsim: Regsim, tmp_path: Path
) -> None:
    left = "go build -o main main.go: {files: {go/main: {size: 81MB, ratio: 2, mode: 0755}}}\n"
    (tmp_path / "left.yaml").write_text(left)
    image = f"oci:{tmp_path / 'built'}:v1"
    given = ("--build-context", f"golang={GOLANG}", "--run", tmp_path / "left.yaml")
    flags = ("--platform", "linux/arm64", "--timestamp", int(BUILT.timestamp()))
    done = regsim("build", BUILDS / "hello-world-go" / "v1", "-t", image, *given, *flags)
    assert done.code == 0, done.err
    rows = printed(image, BUILT + timedelta(seconds=12))
    assert len(rows) == len(ARTICLE) == 16
    # All that is built here is built at one moment, and has a digest of its own.
    expected = [
        line.replace("16 seconds", "12 seconds").replace("a3c62afdbe9d", rows[1][:12]) for line in ARTICLE
    ]
    assert [row[: len(line)] for row, line in zip(rows, expected, strict=True)] == expected


def cells(row: str) -> list[str]:
    return re.split(r" {3,}", row)


def test_a_record_has_the_articles_rows_and_what_docker_does_not_show(regsim: Regsim) -> None:
    rows = [cells(row) for row in printed(GOLANG, BUILT)[1:]]
    assert [row[1:5] for row in rows] == [cells(row)[1:] for row in ARTICLE[5:]]
    assert [row[5:] for row in rows] == [
        ["32B", "7 of 9"],
        ["126B", "0 of 9"],
        ["70.7MB", "0 of 9"],
        *[["0B", "-"]] * 4,
        ["86.4MB", "0 of 9"],
        ["64.4MB", "0 of 9"],
        ["23.6MB", "0 of 9"],
        ["48.3MB", "0 of 9"],
    ]
    (found,) = regsim("history", GOLANG, "--format", "json").json
    sizes = [line["size"] for line in found["history"] if not line["empty_layer"]]
    assert sizes == [0, 0, 235_000_000, 239_000_000, 183_000_000, 47_800_000, 139_000_000]
    assert (found["other_images"], found["platform"]) == (9, "linux/arm64/v8")
    assert found["history"][-1]["created"] == "2023-05-10T23:29:59Z"
    assert sum(line["compressed_size"] for line in found["history"]) == 293_306_278


def test_a_record_that_there_is_not_is_answered_with_those_like_it(regsim: Regsim) -> None:
    done = regsim("history", "record:golang-1.23.4")
    assert done.code == 2
    assert done.errors[0] == "Error: no record named 'golang-1.23.4'"
    assert 'did you mean "golang-1.23.4-bookworm' in done.errors[1]


def test_a_record_is_for_its_platform_alone(regsim: Regsim) -> None:
    assert regsim("history", GOLANG, "--platform", "linux/arm64").code == 0
    done = regsim("history", GOLANG, "--platform", "linux/amd64")
    assert (done.code, done.errors[1]) == (3, "hint: it has linux/arm64/v8")


def tar(**files: int) -> bytes:
    """Return a layer of files of these sizes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        for name, size in files.items():
            info = tarfile.TarInfo(name)
            info.size = size
            file.addfile(info, io.BytesIO(bytes(size)))
    return out.getvalue()


BASE, OWN, NEW = tar(base=700_000), tar(own=20, other=2), tar(new=1234)


@pytest.fixture
def shop(empty_layout: Layout) -> Layout:
    """A layout of two images on one base."""
    empty_layout.add_image("v1", BASE, OWN)
    empty_layout.add_image("v2", BASE, NEW)
    return empty_layout


def lines(document: Any) -> list[tuple[Any, ...]]:
    (image,) = document
    keys = ("created_by", "size", "compressed_size", "shared_by")
    return [tuple(line[key] for key in keys) for line in image["history"]]


@pytest.mark.parametrize("kind", ["oci", "oci-archive", "docker-archive"])
def test_size_is_the_files_of_a_layer_and_sharing_is_counted_in_what_holds_the_image(
    regsim: Regsim, shop: Layout, tmp_path: Path, kind: str
) -> None:
    address = f"{shop}:v2"
    others = 1
    if kind != "oci":
        address, others = f"{kind}:{tmp_path / 'image.tar'}", 0  # what is written there is one image
        assert regsim("copy", f"{shop}:v2", address).code == 0
    document = regsim("history", address, "--format", "json").json
    assert lines(document) == [
        ("COPY part1 /", 1234, len(NEW), 0),
        ("COPY part0 /", 700_000, len(BASE), others),
    ]
    assert document[0]["other_images"] == others
    assert document[0]["id"] == shop.manifest(shop.entries[1])["config"]["digest"]


def test_sharing_is_counted_in_all_images_of_an_archive(regsim: Regsim, shop: Layout, tmp_path: Path) -> None:
    for kind in ("oci", "docker"):
        with tarfile.open(tmp_path / f"{kind}.tar", "w") as archive:
            for name in ("oci-layout", "index.json", "blobs"):
                archive.add(shop.path / name, name)
            saved = [
                {
                    "Config": place(shop.manifest(entry)["config"]),
                    "RepoTags": [f"shop:{entry['annotations']['org.opencontainers.image.ref.name']}"],
                    "Layers": [place(layer) for layer in shop.manifest(entry)["layers"]],
                }
                for entry in shop.entries
            ]
            raw = json.dumps(saved).encode()
            info = tarfile.TarInfo("manifest.json")
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    expected = regsim("history", f"{shop}:v2", "--format", "json").json
    assert lines(expected)[1][3] == 1
    assert regsim("history", f"oci-archive:{tmp_path}/oci.tar:v2", "--format", "json").json == expected
    assert (
        regsim("history", f"docker-archive:{tmp_path}/docker.tar:shop:v2", "--format", "json").json
        == expected
    )


def place(descriptor: dict[str, Any]) -> str:
    return f"blobs/sha256/{descriptor['digest'].removeprefix('sha256:')}"


def test_a_registry_is_asked_for_no_layer_unless_its_size_is_wanted(
    regsim: Regsim, shop: Layout, registry: Served
) -> None:
    regsim("push", f"{shop}:v1", f"{registry.host}/shop:v1")
    before = len(registry.journal)
    rows = regsim("history", f"{registry.host}/shop:v1").out.splitlines()
    assert [cells(row)[3:] for row in rows[1:]] == [["-", "10.2kB", "0 of 0"], ["-", "707kB", "0 of 0"]]
    layers = {each["digest"] for each in shop.manifest(shop.entries[0])["layers"]}
    assert not layers & {record.digest for record in registry.journal[before:]}
    rows = regsim("history", f"{registry.host}/shop:v1", "--sizes").out.splitlines()
    assert [cells(row)[3] for row in rows[1:]] == ["22B", "700kB"]


def test_what_the_local_store_holds_is_not_fetched_to_be_measured(
    regsim: Regsim, shop: Layout, registry: Served
) -> None:
    reference = f"{registry.host}/shop:v1"
    regsim("push", f"{shop}:v1", reference)
    regsim("pull", reference)
    before = len(registry.journal)
    rows = regsim("history", reference, "--sizes").out.splitlines()
    assert [cells(row)[3] for row in rows[1:]] == ["22B", "700kB"]
    layers = {each["digest"] for each in shop.manifest(shop.entries[0])["layers"]}
    assert not layers & {record.digest for record in registry.journal[before:]}
    assert regsim("history", f"store:{reference}").out.splitlines()[1:] == rows[1:]


def test_an_index_has_a_history_for_each_platform_and_shows_what_they_share(
    regsim: Regsim, empty_layout: Layout, registry: Served
) -> None:
    images = {
        name: empty_layout.add_image(None, BASE, tar(**{name: 5}), architecture=name)
        for name in ("amd64", "arm64")
    }
    empty_layout.add_index("multi", **images)
    regsim("push", f"{empty_layout}:multi", f"{registry.host}/app:1")
    for address in (f"{empty_layout}:multi", f"{registry.host}/app:1"):
        rows = regsim("history", address).out.splitlines()
        assert [row for row in rows if row.startswith("sha256:")] == [
            f"{image['digest']} (linux/{name})" for name, image in images.items()
        ]
        assert [cells(row)[-1] for row in rows if row.startswith("<missing>")] == ["1 of 1", "1 of 1"]
        (one,) = regsim("history", address, "--platform", "linux/arm64", "--format", "json").json
        assert one["digest"] == images["arm64"]["digest"]


def test_exact_figures_whole_digests_and_dates_are_printed_where_they_are_wanted(
    regsim: Regsim, empty_layout: Layout
) -> None:
    long = "RUN " + "x" * 60 + "\t\x1b[2J"
    dated = [{"created": "2024-01-09T02:14:25.123456789+01:00", "created_by": long, "comment": "by\nhand"}]
    config = {"os": "linux", "architecture": "amd64", "history": dated}
    described = empty_layout.add(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json")
    layer = empty_layout.add(BASE, "application/vnd.oci.image.layer.v1.tar")
    manifest = {"schemaVersion": 2, "config": described, "layers": [layer]}
    media_type = "application/vnd.oci.image.manifest.v1+json"
    empty_layout.tag("v1", empty_layout.add(json.dumps(manifest).encode(), media_type))
    heading, row = regsim("history", f"{empty_layout}:v1", "--no-trunc", "--no-human").out.splitlines()
    assert cells(heading)[:3] == ["IMAGE", "CREATED AT", "CREATED BY"]
    assert cells(row) == [
        described["digest"],
        "2024-01-09T01:14:25Z",
        "RUN " + "x" * 60 + r" \x1b[2J",
        "700000",
        r"by\nhand",
        str(len(BASE)),
        "0",
    ]
    short = cells(regsim("history", f"{empty_layout}:v1").out.splitlines()[1])
    assert (short[0], short[2]) == (described["digest"].removeprefix("sha256:")[:12], f"RUN {'x' * 40}…")


def test_a_date_that_says_nothing_is_not_shown_as_an_age(regsim: Regsim, empty_layout: Layout) -> None:
    history = [
        {"created": when, "created_by": "RUN x"} for when in ("1970-01-01T00:00:00Z", "soon", "2024-01-09")
    ]
    config = {"os": "linux", "architecture": "amd64", "history": [*history, {"created_by": "RUN y"}]}
    described = empty_layout.add(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json")
    layers = [empty_layout.add(BASE, "application/vnd.oci.image.layer.v1.tar")] * 4
    manifest = {"schemaVersion": 2, "config": described, "layers": layers}
    media_type = "application/vnd.oci.image.manifest.v1+json"
    empty_layout.tag("v1", empty_layout.add(json.dumps(manifest).encode(), media_type))
    rows = regsim("history", f"{empty_layout}:v1").out.splitlines()
    assert [cells(row)[1] for row in rows[1:]] == ["N/A"] * 4


def test_layers_without_history_or_files_to_measure_have_a_line_all_the_same(
    regsim: Regsim, empty_layout: Layout
) -> None:
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": empty_layout.add(b"{}", "application/vnd.oci.empty.v1+json"),
        "layers": [
            empty_layout.add(b"words", "text/plain"),
            empty_layout.add(BASE, "application/vnd.oci.image.layer.v1.tar"),
        ],
    }
    empty_layout.tag("artifact", empty_layout.add(json.dumps(manifest).encode(), manifest["mediaType"]))
    empty_layout.blob(manifest["layers"][1]["digest"]).unlink()
    document = regsim("history", f"{empty_layout}:artifact", "--format", "json").json
    assert lines(document) == [("", None, len(BASE), 0), ("", None, 5, 0)]


def test_a_damaged_layer_is_told_by_its_name(regsim: Regsim, shop: Layout) -> None:
    layer = shop.manifest(shop.entries[0])["layers"][0]["digest"]
    shop.blob(layer).write_bytes(BASE[:-1] + b"x")
    done = regsim("history", f"{shop}:v1")
    assert done.code == 5
    assert layer in done.errors[0]
