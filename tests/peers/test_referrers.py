"""A signed image goes through docker-registry, which keeps no lists of referrers, and comes back whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.peers.conftest import MANIFEST, add_blob, add_document

if TYPE_CHECKING:
    from pathlib import Path

    from tests.peers.conftest import Command, DockerRegistry, Layout

pytestmark = pytest.mark.peers


def sign(layout: Layout) -> dict[str, Any]:
    """Put a signature of the layout's image beside it, listed without a tag."""
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": "application/x.signature",
        "config": add_blob(layout.path, b"{}", "application/vnd.oci.empty.v1+json"),
        "layers": [add_blob(layout.path, b"signed", "application/octet-stream")],
        "subject": {key: layout.descriptor[key] for key in ("mediaType", "digest", "size")},
    }
    signature = add_document(layout.path, document, MANIFEST)
    index = json.loads((layout.path / "index.json").read_bytes())
    index["manifests"].append(signature)
    (layout.path / "index.json").write_text(json.dumps(index))
    return signature


def test_a_signature_is_copied_along_and_skopeo_finds_it_where_clients_keep_such_lists(
    regsim: Command, skopeo: Command, docker_registry: DockerRegistry, layout: Layout, tmp_path: Path
) -> None:
    image, signature = layout.descriptor["digest"], sign(layout)["digest"]
    there = f"{docker_registry.host}/app"
    up = json.loads(regsim("copy", str(layout), f"{there}:1", "--referrers", "--format", "json"))
    assert [each["digest"] for each in up["transfers"]] == [image, signature]

    tag = image.replace(":", "-")
    listed = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{there}:{tag}"))
    assert [each["digest"] for each in listed["manifests"]] == [signature]

    across = f"{docker_registry.host}/signed"
    regsim("copy", f"{there}:1", f"{across}:1", "--referrers")
    copy = type(layout)(tmp_path / "copy", "latest")
    regsim("copy", f"{across}:1", str(copy), "--referrers")
    assert copy.blobs == layout.blobs
    for place in (f"{there}:1", f"{across}@{image}", str(copy)):
        (found,) = json.loads(regsim("referrers", place, "--format", "json"))["referrers"]
        assert (found["digest"], found["artifact_type"]) == (signature, "application/x.signature")
