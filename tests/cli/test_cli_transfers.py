"""`regsim push`, `pull` and `copy`, as a user calls them."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from regsim.registry.holders import Holders
from regsim.transfer.ends import LocalDestination, RegistryDestination

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Layout, Outcome, Regsim, Serve, Served

    Files = Callable[[Path], set[str]]
    Blobs = Callable[[Path], int]
    Lawful = Callable[[dict[str, Any]], None]


def entries(outcome: Outcome) -> list[dict[str, Any]]:
    """Return the entries of the one transfer of a printed RESULT."""
    (transfer,) = outcome.json["transfers"]
    return list(transfer["entries"])


def told(outcome: Outcome, *keys: str) -> list[tuple[Any, ...]]:
    return [tuple(entry[key] for key in keys) for entry in entries(outcome)]


def foretold(outcome: Outcome) -> list[dict[str, Any]]:
    """Return what a plan must tell as the transfer does; only a mount is not tried."""
    untold = {"requests", "overhead", "attempts"}
    return [
        {key: value for key, value in entry.items() if key not in untold}
        | {"evidence": {"201": "assumed"}.get(entry["evidence"], entry["evidence"])}
        for entry in entries(outcome)
    ]


def test_push_tells_every_reference_in_manifest_order_and_why_it_moved(
    regsim: Regsim, layout: Layout, registry: Served, assert_lawful: Lawful
) -> None:
    done = regsim("push", f"{layout}:v1", f"{registry.host}/shop/api:1", "--format", "json")
    assert done.code == 0
    assert told(done, "role", "outcome", "evidence", "created_by") == [
        ("manifest", "transferred", "upload", None),
        ("config", "transferred", "upload", None),
        ("layer", "transferred", "upload", "COPY part0 /"),
        ("layer", "transferred", "upload", "COPY part1 /"),
        ("layer", "joined", None, "COPY part0 /"),
    ]
    assert_lawful(done.json)
    assert done.json["scenario"] is None
    assert done.json["reconciliation"]["matched"] is None
    assert done.json["summary"]["wire"]["sent"] == registry.journal.bytes_in()


def test_text_and_json_are_printed_to_standard_output_and_progress_to_standard_error(
    regsim: Regsim, layout: Layout, registry: Served
) -> None:
    done = regsim("push", f"{layout}:v1", f"{registry.host}/app:1")
    assert done.out.splitlines()[0] == f"push {layout}:v1 to {registry.host}/app:1"
    assert "COPY part1 /" in done.out
    assert "there is no journal to reconcile with" in done.out
    assert sum(line.startswith("uploaded ") for line in done.err.splitlines()) == 3
    assert done.err.splitlines()[-1].startswith("stored manifest ")
    quiet = regsim("push", f"{layout}:v2", f"{registry.host}/app:1", "--quiet")
    assert (quiet.code, quiet.err) == (0, "")


def test_the_result_is_printed_to_a_file_instead(
    regsim: Regsim, layout: Layout, registry: Served, tmp_path: Path
) -> None:
    printed = regsim("push", f"{layout}:v1", f"{registry.host}/app:1", "-o", tmp_path / "push.txt", "-q")
    assert (printed.code, printed.out) == (0, "")
    assert (tmp_path / "push.txt").read_text().startswith("push oci:")


def test_push_again_costs_one_question_and_another_tag_one_manifest(
    regsim: Regsim, layout: Layout, registry: Served
) -> None:
    push = ("push", f"{layout}:v1", f"{registry.host}/app:1", "--format", "json")
    regsim(*push)
    before = len(registry.journal)
    again = regsim(*push)
    assert {outcome for (outcome,) in told(again, "outcome")} == {"exists"}
    assert [(record.method, record.status) for record in registry.journal[before:]] == [("HEAD", 200)]
    tagged = regsim("push", f"{layout}:v1", f"{registry.host}/app:2", "--format", "json")
    assert told(tagged, "outcome", "evidence")[:2] == [("transferred", "upload"), ("exists", "manifest")]


def test_push_of_a_sibling_image_sends_only_what_is_new(
    regsim: Regsim, layout: Layout, registry: Served
) -> None:
    regsim("push", f"{layout}:v1", f"{registry.host}/app:1")
    done = regsim("push", f"{layout}:v2", f"{registry.host}/app:2", "--format", "json")
    assert told(done, "role", "outcome", "evidence") == [
        ("manifest", "transferred", "upload"),
        ("config", "transferred", "upload"),
        ("layer", "exists", "head"),
        ("layer", "transferred", "upload"),
    ]


def test_push_to_another_repository_mounts_what_an_earlier_command_left(
    regsim: Regsim, layout: Layout, registry: Served
) -> None:
    regsim("push", f"{layout}:v1", f"{registry.host}/shop/api:1")
    done = regsim("push", f"{layout}:v1", f"{registry.host}/shop/web:1", "--format", "json")
    assert told(done, "outcome", "evidence", "mounted_from") == [
        ("transferred", "upload", None),
        ("mounted", "201", "shop/api"),
        ("mounted", "201", "shop/api"),
        ("mounted", "201", "shop/api"),
        ("joined", None, None),
    ]


def test_a_stale_mount_candidate_costs_one_question(
    regsim: Regsim, layout: Layout, registry: Served, own_cache: Path
) -> None:
    holders = Holders(own_cache / "regsim" / "holders")
    (_, entry) = (layout.entries[0], layout.manifest(layout.entries[1]))
    holders.add(registry.host, "gone/away", [layer["digest"] for layer in entry["layers"]])
    done = regsim("push", f"{layout}:v2", f"{registry.host}/app:2", "--format", "json")
    assert told(done, "outcome", "evidence")[2:] == [("transferred", "upload")] * 2
    assert told(done, "requests")[2:] == [(4,)] * 2


def test_the_index_of_holders_is_read_once_a_transfer(
    regsim: Regsim, layout: Layout, registry: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    regsim("push", f"{layout}:v1", f"{registry.host}/shop/api:1")
    reads: list[str] = []
    read = Holders.read

    def counted(holders: Holders, host: str) -> dict[str, list[str]]:
        reads.append(host)
        return read(holders, host)

    monkeypatch.setattr(Holders, "read", counted)
    done = regsim("push", f"{layout}:v1", f"{registry.host}/shop/web:1", "--format", "json")
    assert [outcome for (outcome,) in told(done, "outcome")].count("mounted") == 3
    # Once to decide, and once more to add what is known now to what others have added meanwhile.
    assert len(reads) == 2


def test_pull_brings_an_image_byte_for_byte_and_the_next_one_without_what_is_there(
    *,
    regsim: Regsim,
    layout: Layout,
    registry: Served,
    tmp_path: Path,
    files_below: Files,
    assert_lawful: Lawful,
) -> None:
    for tag in ("v1", "v2"):
        regsim("push", f"{layout}:{tag}", f"{registry.host}/app:{tag}")
    copy = f"oci:{tmp_path / 'new' / 'copy'}"
    done = regsim("pull", f"{registry.host}/app:v1", copy, "--format", "json")
    assert done.code == 0
    assert told(done, "outcome", "evidence", "created_by")[1:] == [
        ("transferred", "download", None),
        ("transferred", "download", "COPY part0 /"),
        ("transferred", "download", "COPY part1 /"),
        ("joined", None, "COPY part0 /"),
    ]
    assert_lawful(done.json)
    done = regsim("pull", f"{registry.host}/app:v2", copy, "--format", "json")
    assert told(done, "outcome", "evidence")[2:] == [("exists", "local"), ("transferred", "download")]
    assert files_below(tmp_path / "new" / "copy") == files_below(layout.path)
    for name in files_below(layout.path) - {"index.json", "oci-layout"}:
        assert (tmp_path / "new" / "copy" / name).read_bytes() == (layout.path / name).read_bytes()
    listed = regsim("layers", f"{copy}:v2", "--format", "json")
    assert listed.json[0]["digest"] == layout.entries[1]["digest"]


def test_pull_without_destination_goes_to_the_local_store(
    regsim: Regsim, layout: Layout, registry: Served, tmp_path: Path, whole_blobs: Blobs
) -> None:
    regsim("push", f"{layout}:v2", f"{registry.host}/app:v2")
    assert regsim("pull", f"{registry.host}/app:v2").code == 0
    store = tmp_path / "data" / "regsim" / "store"
    assert whole_blobs(store) == 4
    again = regsim("pull", f"{registry.host}/app:v2", "--format", "json")
    assert {outcome for (outcome,) in told(again, "outcome")} == {"exists"}


@pytest.mark.parametrize("command", ["pull", "copy"])
def test_what_is_fetched_by_digest_or_without_a_tag_is_listed_in_the_layout_all_the_same(
    *, regsim: Regsim, layout: Layout, empty_layout: Layout, registry: Served, tmp_path: Path, command: str
) -> None:
    digest = layout.entries[1]["digest"]
    if command == "pull":
        regsim("push", f"{layout}:v2", f"{registry.host}/app:v2")
        done = regsim("pull", f"{registry.host}/app@{digest}", f"oci:{tmp_path / 'copy'}")
    else:
        del empty_layout.entries[0]
        del empty_layout.entries[0]["annotations"]
        empty_layout.list()
        done = regsim("copy", str(layout), f"oci:{tmp_path / 'copy'}")
    assert done.code == 0
    listed = regsim("layers", f"oci:{tmp_path / 'copy'}", "--format", "json")
    assert [image["digest"] for image in listed.json] == [digest]


def test_copy_within_a_registry_mounts_and_between_registries_moves_once_each_way(
    regsim: Regsim, layout: Layout, serve: Serve, assert_lawful: Lawful
) -> None:
    here, there = serve(), serve()
    regsim("push", f"{layout}:v1", f"{here.host}/app:1")
    promoted = regsim("copy", f"{here.host}/app:1", f"{here.host}/release/app:1", "--format", "json")
    assert [outcome for (outcome,) in told(promoted, "outcome")] == [
        "transferred",
        "mounted",
        "mounted",
        "mounted",
        "joined",
    ]
    moved = regsim("copy", f"{here.host}/app:1", f"{there.host}/app:1", "--format", "json")
    assert moved.code == 0
    assert_lawful(moved.json)
    wire = moved.json["summary"]["wire"]
    assert wire["sent"] == wire["received"] == there.journal.bytes_in()
    assert there.committed == here.committed


def test_copy_between_layouts_stores_without_a_wire(
    regsim: Regsim, layout: Layout, tmp_path: Path, whole_blobs: Blobs
) -> None:
    done = regsim("copy", f"{layout}:v1", f"oci:{tmp_path / 'copy'}:other", "--format", "json")
    assert told(done, "outcome", "evidence")[1] == ("transferred", "stored")
    assert done.json["summary"]["wire"] == {"sent": 0, "received": 0}
    assert whole_blobs(tmp_path / "copy") == 4
    assert regsim("layers", f"oci:{tmp_path / 'copy'}:other").code == 0


def test_an_index_moves_with_all_its_platforms(
    regsim: Regsim, empty_layout: Layout, registry: Served, tmp_path: Path, whole_blobs: Blobs
) -> None:
    images = {
        arch: empty_layout.add_image(None, b"shared", arch.encode(), architecture=arch)
        for arch in ("amd64", "arm64")
    }
    empty_layout.add_index("multi", **images)
    pushed = regsim("push", f"{empty_layout}:multi", f"{registry.host}/app:1", "--format", "json")
    roles = [role for (role,) in told(pushed, "role")]
    assert roles == ["index", *(["manifest", "config", "layer", "layer"] * 2)]
    pulled = regsim("pull", f"{registry.host}/app:1", f"oci:{tmp_path / 'copy'}", "--format", "json")
    assert pulled.code == 0
    assert told(pulled, "digest", "role") == told(pushed, "digest", "role")
    assert whole_blobs(tmp_path / "copy") == 8


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "way", ["push", "push again", "push beside", "pull", "pull again", "copy", "copy away"]
)
def test_dry_run_writes_nothing_and_tells_what_the_transfer_then_tells(
    *, regsim: Regsim, layout: Layout, serve: Serve, tmp_path: Path, way: str, form: str
) -> None:
    here, there = serve(), serve()
    regsim("push", f"{layout}:v1", f"{here.host}/app:1")
    copy = tmp_path / "copy"
    if way == "pull again":
        regsim("pull", f"{here.host}/app:1", f"oci:{copy}:other")
    command = {
        "push": ("push", f"{layout}:v1", f"{there.host}/app:1"),
        "push again": ("push", f"{layout}:v2", f"{here.host}/app:2"),
        "push beside": ("push", f"{layout}:v2", f"{here.host}/web:2"),
        "pull": ("pull", f"{here.host}/app:1", f"oci:{copy}"),
        "pull again": ("pull", f"{here.host}/app:1", f"oci:{copy}"),
        "copy": ("copy", f"{here.host}/app:1", f"{here.host}/web:1"),
        "copy away": ("copy", f"{here.host}/app:1", f"{there.host}/web:1"),
    }[way]
    before = len(here.journal)
    plan = regsim(*command, "--format", form, "--dry-run", "--quiet")
    asked = [*here.journal[before:], *there.journal]
    assert {record.method for record in asked} <= {"HEAD", "GET"}
    assert way == "pull again" or not copy.exists()
    done = regsim(*command, "--format", form, "--quiet")
    assert plan.code == done.code == 0
    if form == "json":
        assert plan.json["mode"] == "plan"
        assert foretold(plan) == foretold(done)
        assert plan.json["summary"]["wire"] == done.json["summary"]["wire"]
        assert plan.json["summary"]["by_outcome"] == done.json["summary"]["by_outcome"]
    else:
        # The table, whose columns may be wider for a longer word, and what moved, in another mood.
        assert "would " in plan.out
        words = {"201": "assumed", "would send": "sent", "would receive and send": "received and sent"}
        rows = []
        for text in (plan.out, done.out):
            for word, other in {**words, "would receive": "received"}.items():
                text = text.replace(word, other)  # noqa: PLW2901  (word by word)
            table, _, _ = text.partition("\nTotal: ")
            rows.append([line.split() for line in table.splitlines()])
        assert rows[0] == rows[1]
        assert "would move" in plan.out
        assert "moved" in done.out


def test_jobs_may_be_one(regsim: Regsim, layout: Layout, registry: Served) -> None:
    done = regsim("push", f"{layout}:v1", f"{registry.host}/app:1", "-j", "1", "--format", "json")
    assert done.code == 0
    uploads = [record for record in registry.journal if record.method == "PUT" and "uploads" in record.target]
    assert all(one.ended and one.ended <= two.started for one, two in pairwise(uploads))


def test_docker_transport_names_a_registry(regsim: Regsim, layout: Layout, registry: Served) -> None:
    assert regsim("push", f"{layout}:v1", f"docker://{registry.host}/app:1").code == 0
    assert regsim("layers", f"docker://{registry.host}/app:1").code == 0


def test_foreign_layers_stay_where_they_are(
    regsim: Regsim, empty_layout: Layout, serve: Serve, whole_blobs: Blobs, tmp_path: Path
) -> None:
    # The URL leads to another registry, where everybody may read.
    registry, elsewhere = serve(), serve()
    empty_layout.add_image("held", b"windows " * 5000)
    regsim("push", f"{empty_layout}:held", f"{elsewhere.host}/held:1")
    asked = len(elsewhere.journal)
    manifest = empty_layout.manifest(empty_layout.entries[-1])
    (base,) = manifest["layers"]
    url = f"http://{elsewhere.host}/v2/held/blobs/{base['digest']}"
    base |= {"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar", "urls": [url]}
    raw = json.dumps(manifest).encode()
    empty_layout.tag("windows", empty_layout.add(raw, manifest["mediaType"]))
    ref = f"{registry.host}/windows:1"
    pushed = regsim("push", f"{empty_layout}:windows", ref, "--format", "json")
    assert told(pushed, "outcome", "evidence")[-1] == ("foreign", None)
    pulled = regsim("pull", ref, f"oci:{tmp_path / 'pulled'}", "--format", "json")
    assert told(pulled, "outcome", "evidence")[-1] == ("foreign", None)
    assert whole_blobs(tmp_path / "pulled") == 2
    assert len(elsewhere.journal) == asked


def test_a_client_that_counts_octets_that_were_not_moved_ends_with_exit_code_5_at_any_registry(
    regsim: Regsim, layout: Layout, registry: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overcount(end: Any, count: str) -> None:
        put = end.put

        async def overcounting(self: Any, content: Any, session: Any, account: Any) -> Any:
            found = await put(self, content, session, account)
            setattr(account, count, getattr(account, count) + 1000)
            return found

        monkeypatch.setattr(end, "put", overcounting)

    overcount(RegistryDestination, "sent")
    overcount(LocalDestination, "received")
    pushed = regsim("push", f"{layout}:v1", f"{registry.host}/app:1", "--format", "json")
    pulled = regsim("pull", f"{registry.host}/app:1", f"oci:{tmp_path}/there", "--format", "json")
    for done, side in ((pushed, "sent"), (pulled, "received")):
        assert done.code == 5
        assert done.json["reconciliation"]["matched"] is False
        assert sum(f": {side}: " in line for line in done.json["reconciliation"]["differences"]) == 3


def test_a_push_ends_with_the_reference_and_its_whole_digest(
    regsim: Regsim, layout: Layout, registry: Served, tmp_path: Path
) -> None:
    digest = layout.entries[0]["digest"]
    target = f"{registry.host}/app:1"
    for command in (("push", f"{layout}:v1"), ("copy", f"{layout}:v1")):
        assert regsim(*command, target).out.splitlines()[-1] == f"{target}@{digest}"
    assert regsim("push", f"{layout}:v1", target, "--dry-run").out.splitlines()[-1].startswith("Layers: ")
    pulled = regsim("pull", target, f"oci:{tmp_path / 'copy'}")
    assert pulled.out.splitlines()[-1].startswith("Layers: ")
    assert regsim("pull", f"{target}@{digest}", f"oci:{tmp_path / 'other'}").code == 0


def test_one_request_is_one_request(regsim: Regsim, layout: Layout, registry: Served) -> None:
    regsim("push", f"{layout}:v1", f"{registry.host}/app:1")
    again = regsim("push", f"{layout}:v1", f"{registry.host}/app:1")
    assert " in 1 request; " in again.out


def test_a_transfer_that_failed_before_its_image_was_read_prints_its_error_alone(
    regsim: Regsim, layout: Layout, registry: Served, tmp_path: Path
) -> None:
    failed = regsim("pull", f"{registry.host}/app:none", f"oci:{tmp_path / 'pulled'}")
    assert (failed.code, failed.out) == (3, "")
    assert failed.errors[0].startswith(f"Error: {registry.host}/app:none does not exist")
    failed = regsim("push", f"{layout}:none", f"{registry.host}/app:1", "--format", "json")
    assert failed.json["transfers"][0]["error"]["exit_code"] == failed.code
