"""`regsim inspect`, `manifest`, `config`, `ls`, `catalog`, `tag` and `delete`, as a user calls them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from mock_registry import MockRegistry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mock_registry.asgi import App
    from tests.cli.conftest import Layout, Outcome, Regsim, Serve, Served


def test_manifest_and_config_are_printed_byte_for_byte(
    program: Callable[..., Outcome], regsim: Regsim, layout: Layout, registry: Served
) -> None:
    descriptor = layout.entries[0]
    regsim("push", f"{layout}:v1", f"{registry.host}/app:1")
    raw = layout.blob(descriptor["digest"]).read_bytes()
    config = layout.blob(layout.manifest(descriptor)["config"]["digest"]).read_bytes()
    for address in (f"{layout}:v1", f"{registry.host}/app:1"):
        done = program("manifest", address)
        assert (done.code, done.out, done.err) == (0, raw.decode(), "")
        assert program("config", address).out == config.decode()


def test_manifest_goes_to_a_file_byte_for_byte(regsim: Regsim, layout: Layout, tmp_path: Path) -> None:
    done = regsim("manifest", f"{layout}:v1", "--output", tmp_path / "manifest.json")
    assert (done.code, done.out) == (0, "")
    assert (tmp_path / "manifest.json").read_bytes() == layout.blob(layout.entries[0]["digest"]).read_bytes()


def labelled(layout: Layout, **config: Any) -> None:
    """Put an image with this config into a layout, as `labelled`."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": layout.add(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [],
    }
    layout.tag("labelled", layout.add(json.dumps(manifest).encode(), str(manifest["mediaType"])))


def test_inspect_tells_date_platform_labels_and_layers(regsim: Regsim, layout: Layout) -> None:
    labelled(
        layout,
        os="linux",
        architecture="arm64",
        variant="v8",
        created="2024-05-01T10:00:00Z",
        config={"Labels": {"org.example.team": "shop"}},
    )
    lines = regsim("inspect", f"{layout}:labelled").out.splitlines()
    assert lines[0] == f"{layout}:labelled"
    assert f"digest      {layout.entries[-1]['digest']}" in lines
    assert "platform    linux/arm64/v8" in lines
    assert "created     2024-05-01T10:00:00Z" in lines
    assert "label       org.example.team=shop" in lines
    assert lines[-1] == "0 layers, 0 bytes"
    assert regsim("inspect", f"{layout}:v1").out.splitlines()[-1] == "3 layers, 220,000 bytes"


def test_inspect_prints_json_for_programs(regsim: Regsim, layout: Layout) -> None:
    found = regsim("inspect", f"{layout}:v1", "--format", "json").json
    (image,) = found["images"]
    assert found["digest"] == image["digest"] == layout.entries[0]["digest"]
    assert image["platform"] == "linux/amd64"
    assert [each["size"] for each in image["layers"]] == [100_000, 20_000, 100_000]
    assert image["content_size"] == 220_000 + image["config"]["size"]
    assert (image["created"], image["labels"]) == (None, {})


def test_inspect_lets_no_label_steer_the_terminal(regsim: Regsim, layout: Layout) -> None:
    labelled(layout, created="\x1b[2Jnow", config={"Labels": {"a\nb": "\x1b]0;owned\x07"}})
    out = regsim("inspect", f"{layout}:labelled").out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "label       a\\nb=\\x1b]0;owned\\x07" in out.splitlines()


def test_an_index_is_inspected_image_by_image(regsim: Regsim, empty_layout: Layout) -> None:
    images = {each: empty_layout.add_image(None, b"shared", architecture=each) for each in ("amd64", "arm64")}
    empty_layout.add_index("multi", **images)
    lines = regsim("inspect", f"{empty_layout}:multi").out.splitlines()
    assert "images      2" in lines
    assert [line for line in lines if line.startswith("platform")] == [
        "platform    linux/amd64",
        "platform    linux/arm64",
    ]
    done = regsim("config", f"{empty_layout}:multi")
    assert done.code == 2
    assert done.errors[0].endswith(" names 2 images, and each has a config of its own")


def test_tags_and_repositories_are_listed_one_a_line_or_as_json(
    regsim: Regsim, layout: Layout, registry: Served
) -> None:
    for tag in ("v1", "v2"):
        regsim("push", f"{layout}:{tag}", f"{registry.host}/shop/api:{tag}")
    assert regsim("ls", f"{registry.host}/shop/api").out == "v1\nv2\n"
    assert regsim("ls", layout).out == "v1\nv2\n"
    assert regsim("ls", f"{registry.host}/shop/api", "--format", "json").json == {
        "repository": f"{registry.host}/shop/api",
        "tags": ["v1", "v2"],
    }
    assert regsim("catalog", registry.host).out == "shop/api\n"
    assert regsim("catalog", registry.url, "--format", "json").json["repositories"] == ["shop/api"]


def test_a_hostile_tag_list_cannot_steer_the_terminal(
    regsim: Regsim, serve: Serve, listing: Callable[[bytes], App]
) -> None:
    hostile = serve(app=listing(json.dumps({"tags": ["a\nb", "\x1b[2J"]}).encode()))
    assert regsim("ls", f"{hostile.host}/app").out == "a\\nb\n\\x1b[2J\n"


@pytest.fixture
def listing() -> Callable[[bytes], App]:
    """Return what makes an app that answers everything with the same body."""

    def make(body: bytes) -> App:
        async def app(scope: Any, _receive: Any, send: Any) -> None:
            assert scope["type"] == "http"
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": body})

        return app

    return make


def test_a_repository_without_tags_lists_none(
    regsim: Regsim, serve: Serve, listing: Callable[[bytes], App]
) -> None:
    empty = serve(app=listing(b'{"name": "app", "tags": null}'))
    assert regsim("ls", f"{empty.host}/app").out == ""
    assert regsim("ls", f"{empty.host}/app", "--format", "json").json["tags"] == []


def test_a_tag_is_set_and_deleted_again(regsim: Regsim, layout: Layout, registry: Served) -> None:
    regsim("push", f"{layout}:v1", f"{registry.host}/app:1")
    digest = layout.entries[0]["digest"]
    assert regsim("tag", f"{registry.host}/app:1", "stable").out == f"stable {digest}\n"
    assert regsim("ls", f"{registry.host}/app").out == "1\nstable\n"
    assert regsim("delete", f"{registry.host}/app:stable").out == f"deleted {registry.host}/app:stable\n"
    assert regsim("ls", f"{registry.host}/app").out == "1\n"
    assert regsim("delete", f"{registry.host}/app@{digest}", "--format", "json").json == {
        "deleted": f"{registry.host}/app@{digest}"
    }
    gone = regsim("manifest", f"{registry.host}/app:1")
    assert gone.code == 3
    assert gone.errors[0] == f"Error: {registry.host}/app:1 does not exist"


def test_what_a_registry_refuses_to_delete_is_told_in_its_words(
    regsim: Regsim, layout: Layout, serve: Serve
) -> None:
    registry = serve(MockRegistry(profile="distribution-2.8"))
    regsim("push", f"{layout}:v1", f"{registry.host}/app:1")
    done = regsim("delete", f"{registry.host}/app:1", "--format", "json")
    assert done.code == 3
    assert done.json["error"]["exit_code"] == 3
    assert "DELETE" in done.errors[0]
    assert f"{registry.host}/app@{layout.entries[0]['digest']}" in done.errors[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("ls", "127.0.0.1:1/app:v1"), "Error: tags are listed of a repository"),
        (("tag", "oci:layout:v1", "no tag"), "Error: not a tag"),
        (("delete", "oci:layout"), "Error: delete takes a tag"),
        (("catalog", "not a host"), "Error: "),
        (("inspect", "oci:"), "Error: oci: names no directory"),
    ],
)
def test_what_makes_no_sense_is_told_before_anything_is_asked(
    regsim: Regsim, words: tuple[str, ...], message: str
) -> None:
    done = regsim(*words)
    assert (done.code, done.out) == (2, "")
    assert done.errors[0].startswith(message)


@pytest.mark.usefixtures("impatient")
def test_a_registry_that_is_not_there_is_the_networks_fault(regsim: Regsim) -> None:
    assert regsim("catalog", "127.0.0.1:1").code == 4


def test_delete_has_to_be_told_which(regsim: Regsim, registry: Served) -> None:
    repository = f"{registry.host}/app"
    done = regsim("delete", repository)
    assert (done.code, len(registry.journal)) == (2, 0)
    assert done.errors == [
        f"Error: {repository} does not say what to delete",
        f"hint: name a tag or a digest, such as {repository}:latest; regsim ls {repository} lists the tags",
    ]
