"""`regsim referrers` and `regsim copy --referrers`, as a user calls them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Layout, Regsim, Served

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture
def signed(layout: Layout) -> str:
    """Put a signature of the image `v1` into the layout, and return its digest."""
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": "application/x.\x1b[1msignature",
        "config": layout.add(b"{}", "application/vnd.oci.empty.v1+json"),
        "layers": [],
        "subject": layout.entries[0],
    }
    descriptor = layout.add(json.dumps(document).encode(), MANIFEST)
    layout.tag("signature", descriptor)
    return str(descriptor["digest"])


def test_what_refers_to_an_image_is_copied_along_and_listed(
    regsim: Regsim, layout: Layout, registry: Served, signed: str
) -> None:
    to = f"{registry.host}/app:1"
    done = regsim("copy", f"{layout}:v1", to, "--referrers", "--format", "json")
    assert [each["digest"] for each in done.json["transfers"]] == [layout.entries[0]["digest"], signed]
    assert done.json["transfers"][1]["reference"].endswith(f"{registry.host}/app@{signed}")
    for place in (to, f"{layout}:v1"):
        listed = regsim("referrers", place)
        assert listed.out.splitlines()[0].split() == ["digest", "size", "artifact", "type"]
        assert listed.out.splitlines()[1].split()[0] == signed
        assert "\x1b" not in listed.out
    (found,) = regsim("referrers", to, "--format", "json").json["referrers"]
    assert (found["digest"], found["artifact_type"]) == (signed, "application/x.\x1b[1msignature")
    assert regsim("referrers", to, "--artifact-type", "other").out == "nothing refers to it\n"


def test_a_copy_tells_the_ledger_of_each(
    regsim: Regsim, layout: Layout, registry: Served, signed: str
) -> None:
    done = regsim("copy", f"{layout}:v1", f"{registry.host}/app:1", "--referrers")
    titles = [line for line in done.out.splitlines() if line.startswith("push ")]
    assert len(titles) == 2
    assert titles[1].endswith(f"{registry.host}/app@{signed}")


def test_what_cannot_be_kept_is_told_before_anything_is_done(
    regsim: Regsim, layout: Layout, signed: str
) -> None:
    done = regsim("copy", f"{layout}:v1", "docker-archive:x.tar:a:1", "--referrers")
    assert (done.code, done.err.splitlines()[0]) == (
        2,
        "Error: a docker-archive holds nothing that refers to an image: 'docker-archive:x.tar:a:1'",
    )
    assert signed not in done.out
