"""regsim, docker-registry and skopeo exchange an image, and nobody changes a byte of it."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.peers.conftest import Access, Command, DockerRegistry, Layout

pytestmark = pytest.mark.peers


def ledger(result: str) -> dict[str, Any]:
    """Return the one transfer of a printed RESULT."""
    (transfer,) = json.loads(result)["transfers"]
    assert isinstance(transfer, dict)
    return transfer


def outcomes(transfer: dict[str, Any], role: str = "layer") -> list[str]:
    """Return the outcomes of the entries of one role, in order."""
    return [entry["outcome"] for entry in transfer["entries"] if entry["role"] == role]


def assert_same_image(copy: Layout, original: Layout) -> None:
    """Byte-identical: every blob, the manifest's digest, the index's entry, the layout's version."""
    assert copy.descriptor == original.descriptor
    assert copy.blobs == original.blobs
    assert copy.version == original.version


def told(transfer: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a plan has to foretell of each entry."""
    keys = (
        "digest",
        "size",
        "role",
        "outcome",
        "evidence",
        "mounted_from",
        "wire_sent",
        "wire_received",
        "wasted",
    )
    return [{key: entry[key] for key in keys} for entry in transfer["entries"]]


def uploads(accesses: list[Access]) -> list[Access]:
    """Return the requests that could carry a blob's bytes."""
    return [access for access in accesses if access.method in ("PATCH", "PUT") and "/uploads/" in access.path]


def test_skopeo_pulls_byte_for_byte_what_regsim_pushed(
    regsim: Command, skopeo: Command, docker_registry: DockerRegistry, layout: Layout, tmp_path: Path
) -> None:
    pushed = ledger(regsim("push", str(layout), f"{docker_registry.host}/app:1", "--format", "json"))
    assert outcomes(pushed) == ["transferred", "transferred", "joined", "transferred"]
    assert pushed["digest"] == layout.descriptor["digest"]

    copy = type(layout)(tmp_path / "by-skopeo", "latest")
    source = f"docker://{docker_registry.host}/app:1"
    skopeo("copy", "--preserve-digests", "--src-tls-verify=false", source, str(copy))
    assert_same_image(copy, layout)


def test_regsim_pulls_byte_for_byte_what_skopeo_pushed(
    regsim: Command, skopeo: Command, docker_registry: DockerRegistry, layout: Layout, tmp_path: Path
) -> None:
    destination = f"docker://{docker_registry.host}/app:1"
    skopeo("copy", "--preserve-digests", "--dest-tls-verify=false", str(layout), destination)

    copy = type(layout)(tmp_path / "by-regsim", "latest")
    pulled = ledger(regsim("pull", f"{docker_registry.host}/app:1", str(copy), "--format", "json"))
    assert outcomes(pulled) == ["transferred", "transferred", "joined", "transferred"]
    assert_same_image(copy, layout)


def test_pull_counts_the_bytes_that_docker_registry_says_it_sent(
    regsim: Command, docker_registry: DockerRegistry, layout: Layout, tmp_path: Path
) -> None:
    regsim("push", str(layout), f"{docker_registry.host}/app:1")
    with docker_registry.watch() as accesses:
        result = regsim(
            "pull", f"{docker_registry.host}/app:1", f"oci:{tmp_path / 'copy'}", "--format", "json"
        )
    summary, entries = json.loads(result)["summary"], ledger(result)["entries"]
    assert summary["requests"] == len(accesses)
    assert summary["wire"]["sent"] == 0
    assert summary["wasted_bytes"] == 0
    for entry in entries:
        names = {entry["digest"], "1"} if entry["role"] == "manifest" else {entry["digest"]}
        about = [access for access in accesses if access.path.rpartition("/")[2] in names]
        given = sum(access.body for access in about if access.method == "GET")
        if entry["outcome"] == "joined":
            assert (entry["requests"], entry["wire_received"]) == (0, 0)
        else:
            assert (entry["requests"], entry["wire_received"]) == (len(about), given)


def test_second_pull_moves_nothing(
    regsim: Command, docker_registry: DockerRegistry, layout: Layout, tmp_path: Path
) -> None:
    regsim("push", str(layout), f"{docker_registry.host}/app:1")
    pull = ("pull", f"{docker_registry.host}/app:1", f"oci:{tmp_path / 'copy'}", "--format", "json")
    regsim(*pull)
    with docker_registry.watch() as accesses:
        again = regsim(*pull)
    assert {access.key for access in accesses} == {("HEAD", "manifests", 200)}
    assert {entry["outcome"] for entry in ledger(again)["entries"]} == {"exists"}
    assert json.loads(again)["summary"]["wire"] == {"sent": 0, "received": 0}


def test_index_with_all_its_images_goes_through_skopeo_and_back(
    regsim: Command, skopeo: Command, docker_registry: DockerRegistry, multi_platform: Layout, tmp_path: Path
) -> None:
    by_regsim, by_skopeo = f"{docker_registry.host}/by-regsim:1", f"{docker_registry.host}/by-skopeo:1"
    pushed = ledger(regsim("push", str(multi_platform), by_regsim, "--format", "json"))
    assert outcomes(pushed) == ["transferred", "transferred", "joined", "transferred"]
    assert outcomes(pushed, "index") == ["transferred"]
    copy = type(multi_platform)(tmp_path / "from-regsim", "latest")
    every = ("copy", "--all", "--preserve-digests")
    skopeo(*every, "--src-tls-verify=false", f"docker://{by_regsim}", str(copy))
    assert_same_image(copy, multi_platform)

    skopeo(*every, "--dest-tls-verify=false", str(multi_platform), f"docker://{by_skopeo}")
    copy = type(multi_platform)(tmp_path / "from-skopeo", "latest")
    pulled = ledger(regsim("pull", by_skopeo, str(copy), "--format", "json"))
    assert outcomes(pulled) == ["transferred", "transferred", "joined", "transferred"]
    assert_same_image(copy, multi_platform)


def test_push_asks_for_every_blob_before_it_sends_one(
    regsim: Command, docker_registry: DockerRegistry, layout: Layout
) -> None:
    with docker_registry.watch() as accesses:
        result = regsim("push", str(layout), f"{docker_registry.host}/app:1", "--format", "json")
    assert json.loads(result)["summary"]["requests"] == len(accesses)
    blobs = {layout.manifest["config"]["digest"], *(layer["digest"] for layer in layout.manifest["layers"])}
    asked: set[str] = set()
    for access in accesses:
        last = access.path.rpartition("/")[2]
        if access.method == "HEAD" and last in blobs:
            asked.add(last)
        if access.method == "PUT" and "digest=" in access.path:
            digest = access.path.partition("digest=")[2].partition("&")[0].replace("%3A", ":")
            assert digest in asked, accesses
    assert asked == blobs


def test_pushing_the_same_image_again_costs_one_manifest_head(
    regsim: Command, docker_registry: DockerRegistry, layout: Layout
) -> None:
    push = ("push", str(layout), f"{docker_registry.host}/app:1", "--format", "json")
    regsim(*push)
    with docker_registry.watch() as accesses:
        again = regsim(*push)
    assert [access.key for access in accesses] == [("HEAD", "manifests", 200)]
    assert {entry["outcome"] for entry in ledger(again)["entries"]} == {"exists"}
    assert {entry["evidence"] for entry in ledger(again)["entries"][1:]} == {"manifest"}
    assert json.loads(again)["summary"]["wire"] == {"sent": 0, "received": 0}
    assert json.loads(again)["summary"]["transferred"] == {"count": 0, "bytes": 0}


def test_push_to_another_repository_mounts_what_the_first_push_left(
    regsim: Command, docker_registry: DockerRegistry, layout: Layout
) -> None:
    regsim("push", str(layout), f"{docker_registry.host}/shop/api:1")
    with docker_registry.watch() as accesses:
        result = regsim("push", str(layout), f"{docker_registry.host}/shop/web:1", "--format", "json")
    transfer = ledger(result)
    assert outcomes(transfer) == ["mounted", "mounted", "joined", "mounted"]
    mounted = [entry for entry in transfer["entries"] if entry["outcome"] == "mounted"]
    assert {(entry["evidence"], entry["mounted_from"]) for entry in mounted} == {("201", "shop/api")}
    assert Counter(access.key for access in accesses)["POST", "uploads", 201] == len(mounted)
    assert uploads(accesses) == []
    summary = json.loads(result)["summary"]
    assert summary["requests"] == len(accesses)
    assert summary["wire"]["sent"] == layout.descriptor["size"]


def test_copy_between_repositories_mounts_and_changes_nothing(
    regsim: Command, skopeo: Command, docker_registry: DockerRegistry, layout: Layout, tmp_path: Path
) -> None:
    source, destination = f"{docker_registry.host}/app:1", f"{docker_registry.host}/team/app:2"
    regsim("push", str(layout), source)
    with docker_registry.watch() as accesses:
        result = regsim("copy", source, destination, "--format", "json")
    transfer = ledger(result)
    assert json.loads(result)["summary"]["requests"] == len(accesses)
    assert outcomes(transfer) == ["mounted", "mounted", "joined", "mounted"]
    assert {entry["mounted_from"] for entry in transfer["entries"]} == {"app", None}

    copy = type(layout)(tmp_path / "copy", "latest")
    skopeo("copy", "--preserve-digests", "--src-tls-verify=false", f"docker://{destination}", str(copy))
    assert_same_image(copy, layout)


def test_dry_run_writes_nothing_and_foretells_the_push(
    regsim: Command, docker_registry: DockerRegistry, layout: Layout
) -> None:
    push = ("push", str(layout), f"{docker_registry.host}/app:1", "--format", "json")
    with docker_registry.watch() as accesses:
        plan = ledger(regsim(*push, "--dry-run"))
    assert {access.method for access in accesses} <= {"HEAD", "GET"}
    assert docker_registry.ask("GET", "/v2/app/tags/list")[0] == 404
    done = ledger(regsim(*push))
    assert told(plan) == told(done)


def test_dry_run_brings_nothing_and_foretells_the_pull(
    regsim: Command, docker_registry: DockerRegistry, layout: Layout, tmp_path: Path
) -> None:
    regsim("push", str(layout), f"{docker_registry.host}/app:1")
    pull = ("pull", f"{docker_registry.host}/app:1", f"oci:{tmp_path / 'copy'}", "--format", "json")
    with docker_registry.watch() as accesses:
        plan = ledger(regsim(*pull, "--dry-run"))
    # The config alone is read, for what it says of the layers.
    blobs = [access.path.rpartition("/")[2] for access in accesses if "/blobs/" in access.path]
    assert blobs == [layout.manifest["config"]["digest"]]
    assert not (tmp_path / "copy").exists()
    done = ledger(regsim(*pull))
    assert told(plan) == told(done)


def test_dry_run_foretells_a_push_of_which_most_is_there(
    regsim: Command, docker_registry: DockerRegistry, layout: Layout, multi_platform: Layout
) -> None:
    regsim("push", str(multi_platform), f"{docker_registry.host}/shop:1")
    push = ("push", str(layout), f"{docker_registry.host}/shop:2", "--format", "json")
    plan = ledger(regsim(*push, "--dry-run"))
    assert told(plan) == told(ledger(regsim(*push)))
    again = ("push", str(multi_platform), f"{docker_registry.host}/shop:3", "--format", "json")
    plan = ledger(regsim(*again, "--dry-run"))
    assert outcomes(plan) == ["exists", "exists", "exists", "exists"]
    assert told(plan) == told(ledger(regsim(*again)))


def test_a_layer_that_the_registry_lost_is_sent_again(
    regsim: Command, docker_registry: DockerRegistry, layout: Layout
) -> None:
    regsim("push", str(layout), f"{docker_registry.host}/app:1")
    lost = layout.manifest["layers"][1]["digest"]
    assert docker_registry.ask("DELETE", f"/v2/app/manifests/{layout.descriptor['digest']}")[0] == 202
    assert docker_registry.ask("DELETE", f"/v2/app/blobs/{lost}")[0] == 202
    again = ledger(regsim("push", str(layout), f"{docker_registry.host}/app:1", "--format", "json"))
    assert outcomes(again) == ["exists", "transferred", "exists", "exists"]
    assert outcomes(again, "manifest") == ["transferred"]
