"""`regsim layers`, as a user calls it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Layout, Regsim, Served

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@pytest.mark.parametrize("where", ["layout", "registry"])
def test_layers_are_listed_base_first_with_what_made_them(
    regsim: Regsim, layout: Layout, registry: Served, where: str
) -> None:
    regsim("push", f"{layout}:v1", f"{registry.host}/app:1")
    address = f"{layout}:v1" if where == "layout" else f"{registry.host}/app:1"
    descriptor = layout.entries[0]
    layers = layout.manifest(descriptor)["layers"]
    done = regsim("layers", address)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == f"{descriptor['digest']} (linux/amd64)"
    assert lines[1].split() == ["digest", "size", "created", "by"]
    assert [line.split() for line in lines[2:5]] == [
        [layer["digest"].removeprefix("sha256:")[:12], size, "COPY", f"part{number}", "/"]
        for number, (layer, size) in enumerate(zip(layers, ["100kB", "20kB", "100kB"], strict=True))
    ]
    assert lines[5] == "3 layers, 220,000 bytes"
    (image,) = regsim("layers", address, "--format", "json").json
    assert image["digest"] == descriptor["digest"]
    assert image["platform"] == "linux/amd64"
    assert [(each["digest"], each["size"], each["created_by"]) for each in image["layers"]] == [
        (layer["digest"], layer["size"], f"COPY part{number} /") for number, layer in enumerate(layers)
    ]


def test_an_index_lists_every_platform_and_a_digest_one_of_them(
    regsim: Regsim, empty_layout: Layout, registry: Served
) -> None:
    images = {
        name: empty_layout.add_image(None, b"shared", name.encode(), architecture=name)
        for name in ("amd64", "arm64")
    }
    empty_layout.add_index("multi", **images)
    regsim("push", f"{empty_layout}:multi", f"{registry.host}/app:1")
    listed = regsim("layers", f"{registry.host}/app:1", "--format", "json").json
    assert [image["platform"] for image in listed] == ["linux/amd64", "linux/arm64"]
    text = regsim("layers", f"{empty_layout}:multi").out
    assert text.count("2 layers, 11 bytes\n") == 2
    (one,) = regsim("layers", f"{registry.host}/app@{images['arm64']['digest']}", "--format", "json").json
    assert one["platform"] == "linux/arm64"


def test_what_has_no_image_config_is_listed_without_history(regsim: Regsim, empty_layout: Layout) -> None:
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": empty_layout.add(b"{}", "application/vnd.oci.empty.v1+json"),
        "layers": [empty_layout.add(b"words", "text/plain")],
    }
    empty_layout.tag("artifact", empty_layout.add(json.dumps(manifest).encode(), OCI_MANIFEST))
    done = regsim("layers", f"{empty_layout}:artifact")
    assert done.out.splitlines()[0] == empty_layout.entries[0]["digest"]
    assert done.out.splitlines()[-1] == "1 layer, 5 bytes"


def test_a_layer_whose_config_is_lost_is_listed_all_the_same(regsim: Regsim, layout: Layout) -> None:
    layout.blob(layout.manifest(layout.entries[1])["config"]["digest"]).unlink()
    done = regsim("layers", f"{layout}:v2", "--format", "json")
    assert done.code == 0
    assert [each["created_by"] for each in done.json[0]["layers"]] == [None, None]


def test_an_index_without_end_is_refused(regsim: Regsim, empty_layout: Layout) -> None:
    inner = empty_layout.add_image(None, b"x")
    for _ in range(18):
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [inner]}
        inner = empty_layout.add(json.dumps(document).encode(), OCI_INDEX)
    empty_layout.tag("deep", inner)
    done = regsim("layers", f"{empty_layout}:deep")
    assert done.code == 5
    assert done.errors[0].startswith("Error: index ")


def test_instructions_cannot_steer_the_terminal(regsim: Regsim, empty_layout: Layout) -> None:
    config = {
        "os": "linux",
        "architecture": "amd64",
        "history": [{"created_by": "RUN \x1b[2J\nrm " + "x" * 99}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": empty_layout.add(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [empty_layout.add(b"layer", "application/vnd.oci.image.layer.v1.tar")],
    }
    empty_layout.tag("odd", empty_layout.add(json.dumps(manifest).encode(), OCI_MANIFEST))
    done = regsim("layers", f"{empty_layout}:odd")
    row = done.out.splitlines()[2]
    assert "RUN ?[2J rm xxx" in row
    assert row.endswith("x…")


def test_layers_can_be_written_to_a_file(regsim: Regsim, layout: Layout, tmp_path: Path) -> None:
    done = regsim("layers", f"{layout}:v2", "-o", tmp_path / "layers.txt")
    assert (done.code, done.out) == (0, "")
    assert (tmp_path / "layers.txt").read_text() == regsim("layers", f"{layout}:v2").out
