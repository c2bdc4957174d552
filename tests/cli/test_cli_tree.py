"""`regsim tree`, as a user calls it."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Layout, Regsim, Served

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def tar(*members: tuple[str, bytes | str | None], mode: int = 0o644) -> bytes:
    """Return a layer of files with content, symbolic links with a target, and directories with neither."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", errors="surrogateescape") as file:
        for name, what in members:
            info = tarfile.TarInfo(name)
            info.mode = mode
            if what is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(what, str):
                info.type, info.linkname, info.mode = tarfile.SYMTYPE, what, 0o777
            data = what if isinstance(what, bytes) else b""
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return out.getvalue()


BASE = tar(("etc", None), ("etc/motd", b"x" * 1500), ("usr/bin/old", b"y" * 300), ("bin", "usr/bin"))
OWN = tar(("etc/motd", b"z" * 20), ("usr/bin/.wh.old", b""), ("usr/bin/new", b"n" * 7), mode=0o4755)


@pytest.fixture
def image(empty_layout: Layout) -> str:
    empty_layout.add_image("v1", BASE, OWN)
    return f"{empty_layout}:v1"


def test_each_file_is_listed_with_its_layer_and_each_layer_with_what_is_wasted_of_it(
    regsim: Regsim, image: str, registry: Served
) -> None:
    done = regsim("tree", image)
    assert (done.code, done.err) == (0, "")
    rows = done.out.splitlines()
    assert rows[0].split() == ["LAYER", "MODE", "OWNER", "SIZE", "PATH"]
    assert [row.split(maxsplit=4) for row in rows[1:7] if "->" not in row] == [
        ["0", "drwxr-xr-x", "0:0", "20B", "/etc/"],
        ["1", "-rwsr-xr-x", "0:0", "20B", "/etc/motd"],
        ["0", "drwxr-xr-x", "0:0", "7B", "/usr/"],
        ["0", "drwxr-xr-x", "0:0", "7B", "/usr/bin/"],
        ["1", "-rwsr-xr-x", "0:0", "7B", "/usr/bin/new"],
    ]
    assert rows[1].split() == ["0", "lrwxrwxrwx", "0:0", "/bin", "->", "usr/bin"]
    assert [row.split()[3:6] for row in rows[9:11]] == [["2", "1.8kB", "1.8kB"], ["2", "27B", "0B"]]
    assert rows[-1] == "2 layers of 1,827 bytes, 1,800 of them wasted: efficiency 1.5 %"
    regsim("push", image, f"{registry.host}/shop:v1")
    assert regsim("tree", f"{registry.host}/shop:v1").out == done.out


def test_json_has_the_same_figures_and_each_file_that_is_hidden(regsim: Regsim, image: str) -> None:
    document = regsim("tree", image, "--format", "json").json
    assert (document["size"], document["wasted"], document["efficiency"]) == (1827, 1800, 1 - 1800 / 1827)
    assert sorted((each["path"], each["size"], each["layer"], each["by"]) for each in document["lost"]) == [
        ("/etc/motd", 1500, 0, 1),
        ("/usr/bin/old", 300, 0, 1),
    ]
    assert [(each["layer"], each["size"], each["wasted"]) for each in document["layers"]] == [
        (0, 1800, 1800),
        (1, 27, 0),
    ]
    (new,) = [each for each in document["tree"] if each["path"] == "/usr/bin/new"]
    assert (new["kind"], new["layer"], new["mode"], new["size"]) == ("file", 1, "4755", 7)
    assert document["tree"][0]["link"] == "usr/bin"


def test_path_and_depth_limit_the_listing(regsim: Regsim, image: str) -> None:
    def paths(*arguments: str) -> list[str]:
        return [each["path"] for each in regsim("tree", image, *arguments, "--format", "json").json["tree"]]

    assert paths("--depth", "1") == ["/bin", "/etc", "/usr"]
    assert paths("/usr", "--depth", "1") == ["/usr", "/usr/bin"]
    assert paths("bin") == ["/bin", "/bin/new"]
    assert paths("/etc/motd") == ["/etc/motd"]
    done = regsim("tree", image, "/usr/bin/old", "--format", "json")
    assert (done.code, "has nothing at '/usr/bin/old'" in done.errors[0]) == (2, True)
    assert done.json["error"]["message"] == done.errors[0].removeprefix("Error: ")
    assert regsim("tree", image, "--depth", "0").code == 2


def test_of_an_index_one_image_is_chosen_and_attestations_are_none(
    regsim: Regsim, empty_layout: Layout
) -> None:
    images = {
        name: empty_layout.add_image(None, BASE, tar((name, b"1")), architecture=name)
        for name in ("amd64", "arm64")
    }
    empty_layout.add_index("multi", **images)
    done = regsim("tree", f"{empty_layout}:multi")
    assert done.code == 2
    assert done.errors[1].startswith("hint: choose one by --platform, or by its digest: linux/amd64: sha256:")
    document = regsim("tree", f"{empty_layout}:multi", "--platform", "linux/arm64", "--format", "json").json
    assert document["tree"][0]["path"] == "/arm64"
    attestation = empty_layout.add_image(None, b"{}")
    entries = [
        {**images["amd64"], "platform": {"os": "linux", "architecture": "amd64"}},
        {**attestation, "platform": {"os": "unknown", "architecture": "unknown"}},
    ]
    media_type = "application/vnd.oci.image.index.v1+json"
    index = {"schemaVersion": 2, "mediaType": media_type, "manifests": entries}
    empty_layout.tag("attested", empty_layout.add(json.dumps(index).encode(), media_type))
    assert regsim("tree", f"{empty_layout}:attested", "--format", "json").json["platform"] == "linux/amd64"


def test_names_cannot_steer_the_terminal(regsim: Regsim, empty_layout: Layout) -> None:
    nasty = "a\x1b[2J\nb\udcff"
    empty_layout.add_image("v1", tar((f"{nasty}/f", b"1"), ("link", "\x1b[31m"), (f"{nasty}/g", b"22")))
    empty_layout.add_image("v2", tar((f"{nasty}/f", b"1")), tar((f"{nasty}/.wh.f", b"")))
    for tag in ("v1", "v2"):
        for form in ("text", "json"):
            out = regsim("tree", f"{empty_layout}:{tag}", "--format", form).out
            assert "\x1b" not in out
            assert all(line.isprintable() for line in out.splitlines())
    rows = regsim("tree", f"{empty_layout}:v1").out.splitlines()
    assert rows[1].endswith(r"/a\x1b[2J\x0ab\xff/")
    assert rows[4].endswith(r"/link -> \x1b[31m")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../outside", "climbs out of the tree"),
        ("a/.wh...", "would delete something other than a file in its directory"),
        ("x" * 256, "has a name of more than 255 bytes"),
    ],
)
def test_a_hostile_layer_is_refused_and_the_file_named(
    regsim: Regsim, empty_layout: Layout, name: str, words: str
) -> None:
    empty_layout.add_image("v1", BASE, tar((name, b"1")))
    done = regsim("tree", f"{empty_layout}:v1")
    assert done.code == 5
    assert name in done.errors[0]
    assert words in done.errors[0]
    assert regsim("history", f"{empty_layout}:v1").errors == done.errors


def test_links_do_not_lead_out_of_the_tree(regsim: Regsim, empty_layout: Layout) -> None:
    empty_layout.add_image("v1", tar(("out", "/../../etc")), tar(("out/passwd", b"mine")))
    document = regsim("tree", f"{empty_layout}:v1", "--format", "json").json
    assert [each["path"] for each in document["tree"]] == ["/etc", "/etc/passwd", "/out"]


def test_what_has_no_files_is_told_from_an_image(regsim: Regsim, empty_layout: Layout) -> None:
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": empty_layout.add(b"{}", "application/vnd.oci.empty.v1+json"),
        "layers": [empty_layout.add(b"words", "text/plain")],
    }
    empty_layout.tag("artifact", empty_layout.add(json.dumps(manifest).encode(), MANIFEST))
    done = regsim("tree", f"{empty_layout}:artifact")
    assert done.code == 2
    assert "is no image of files" in done.errors[0]


@pytest.mark.parametrize("command", ["inspect", "layers", "tree", "push"])
def test_a_record_is_not_taken_for_an_image_of_a_registry(regsim: Regsim, command: str) -> None:
    to = ["127.0.0.1:1/app:1"] if command == "push" else []
    done = regsim(command, "record:golang-1.23.4-bookworm-arm64", *to)
    assert done.code == 2
    assert done.errors[1].startswith("hint: regsim history and FROM take records")


def test_a_missing_layer_is_an_error_and_not_an_empty_one(regsim: Regsim, empty_layout: Layout) -> None:
    descriptor = empty_layout.add_image("v1", BASE, OWN)
    lost = empty_layout.blob(empty_layout.manifest(descriptor)["layers"][0]["digest"])
    lost.unlink()
    done = regsim("tree", f"{empty_layout}:v1")
    assert (done.code, str(lost) in done.errors[0]) == (6, True)
