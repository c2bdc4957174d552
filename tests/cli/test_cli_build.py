"""`regsim build`, as a user calls it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Regsim, Served

DOCKERFILE = "FROM scratch\nCOPY main.go go.mod /src/\nENV A=b\nCOPY assets /assets\n"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    context = tmp_path / "context"
    (context / "assets").mkdir(parents=True)
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "main.go").write_text("package main\n")
    (context / "go.mod").write_text("module hello\n")
    (context / "assets" / "logo").write_bytes(b"logo" * 1000)
    return context


def layers(regsim: Regsim, address: str) -> list[dict[str, object]]:
    (image,) = regsim("layers", address, "--format", "json").json
    found: list[dict[str, object]] = image["layers"]
    return found


def test_the_digest_is_printed_and_each_step_told_on_standard_error(
    regsim: Regsim, context: Path, tmp_path: Path
) -> None:
    done = regsim("build", context, "-t", f"oci:{tmp_path / 'images'}:v1", "--platform", "linux/amd64")
    assert done.code == 0
    told = [line.split("] ", 1)[1] for line in done.err.splitlines() if "] " in line]
    assert told == [
        "COPY main.go go.mod /src/ # buildkit",
        "ENV A=b",
        "COPY assets /assets # buildkit",
    ]
    digest = done.out.strip()
    assert digest in regsim("inspect", f"oci:{tmp_path / 'images'}:v1").out
    assert len(layers(regsim, f"oci:{tmp_path / 'images'}:v1")) == 2


def test_json_tells_what_became_of_each_step_and_quiet_tells_nothing_else(
    regsim: Regsim, context: Path, tmp_path: Path
) -> None:
    tag = f"oci:{tmp_path / 'images'}:v1"
    words = ("build", context, "-t", tag, "--cache", tmp_path / "cache", "--format", "json", "--quiet")
    first, second = regsim(*words), regsim(*words)
    assert (first.err, second.err) == ("", "")
    outcomes = [[step["outcome"] for step in done.json["steps"]] for done in (first, second)]
    assert outcomes == [["built", "metadata", "built"], ["CACHED", "metadata", "CACHED"]]
    assert first.json["digest"] == second.json["digest"]
    stored = [(each["digest"], each["size"]) for each in layers(regsim, tag)]
    assert [(each["digest"], each["size"]) for each in second.json["layers"]] == stored
    assert [step["bytes"] for step in first.json["steps"] if step["layer"]] == [26, 4000]


def test_an_edited_source_rebuilds_from_its_copy_on(regsim: Regsim, context: Path, tmp_path: Path) -> None:
    words = ("build", context, "-t", f"oci:{tmp_path / 'images'}:v1", "--cache", tmp_path / "cache")
    regsim(*words)
    (context / "assets" / "logo").write_bytes(b"other")
    done = regsim(*words, "--format", "json")
    assert [step["outcome"] for step in done.json["steps"]] == ["CACHED", "metadata", "built"]


def test_a_base_comes_from_a_registry_and_its_layers_do_not_move_again(
    regsim: Regsim, context: Path, tmp_path: Path, registry: Served
) -> None:
    base = f"oci:{tmp_path / 'images'}:base"
    assert regsim("build", context, "-t", base).code == 0
    assert regsim("push", base, f"{registry.host}/library/base:1").code == 0
    (context / "App").write_text(f"FROM {registry.host}/library/base:1\nCOPY main.go /app/\n")
    app = f"oci:{tmp_path / 'apps'}:v1"
    assert regsim("build", context, "-f", context / "App", "-t", app).code == 0
    assert layers(regsim, app)[:2] == layers(regsim, base)
    pushed = regsim("push", app, f"{registry.host}/library/base:app", "--format", "json").json
    outcomes = [(entry["role"], entry["outcome"]) for entry in pushed["transfers"][0]["entries"]]
    assert [outcome for role, outcome in outcomes if role == "layer"] == ["exists", "exists", "transferred"]


def test_credentials_are_for_one_registry(regsim: Regsim, context: Path, tmp_path: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM oci:{tmp_path / 'images'}:base\n")
    (context / "Base").write_text("FROM scratch\nCOPY main.go /\n")
    tag = f"oci:{tmp_path / 'images'}:base"
    assert regsim("build", context, "-f", context / "Base", "-t", tag).code == 0
    done = regsim("build", context, "-t", f"oci:{tmp_path / 'x'}:v1", "--creds", "me:secret")
    assert done.code == 2
    assert "Dockerfile:1: --creds are for one registry, not for none" in done.err
    assert "secret" not in done.err


@pytest.mark.parametrize(
    ("text", "words", "code", "message"),
    [
        ("FROM scratch\nFETCH x\n", (), 2, "Dockerfile:2"),
        ("COPY a b\n", (), 2, "Dockerfile:1"),
        ("", (), 2, "Dockerfile"),
        ("FROM scratch\nRUN make\n", (), 2, "Dockerfile:2"),
        ("FROM scratch\nCOPY missing /\n", (), 5, "Dockerfile:2"),
        ("FROM oci:/nowhere:v1\n", (), 6, "/nowhere"),
        ("FROM scratch\nCOPY main.go /\n", ("--target", "second"), 2, "second"),
        ("FROM scratch\nCOPY main.go /\n", ("--platform", "vax"), 2, "vax"),
        ("FROM scratch\nCOPY main.go /\n", ("--build-arg", "A"), 2, "--build-arg 'A' has no value"),
        ("FROM scratch\nCOPY main.go /\n", ("--timestamp", "-1"), 2, "--timestamp is not a time"),
        ("FROM scratch\nCOPY main.go /\n", ("--build-arg", "A=\udcff"), 2, "is not text"),
        ("FROM scratch\nCOPY main.go /\n", ("--compression-level", "99"), 2, "99"),
        ("FROM scratch\nCOPY main.go /\n", ("-f", "/nowhere/Dockerfile"), 6, "/nowhere/Dockerfile"),
        ("FROM scratch\nCOPY main.go /\n", ("-t", "localhost/app:1"), 2, "a build goes to a layout"),
        ("FROM scratch\nCOPY main.go /\n", ("--compression", "lzma"), 2, "lzma"),
    ],
)
def test_what_cannot_be_built_is_one_clear_error_and_nothing_is_tagged(
    *,
    regsim: Regsim,
    context: Path,
    tmp_path: Path,
    text: str,
    words: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    (context / "Dockerfile").write_text(text)
    tag = () if "-t" in words else ("-t", f"oci:{tmp_path / 'images'}:v1")
    done = regsim("build", context, *tag, *words)
    assert done.code == code, done.err
    assert message in done.err
    assert "Traceback" not in done.err
    assert done.out == ""
    assert regsim("inspect", f"oci:{tmp_path / 'images'}:v1").code != 0


def test_a_time_of_the_environment_has_bounds(
    regsim: Regsim, context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1" * 5000)
    done = regsim("build", context, "-t", f"oci:{tmp_path / 'images'}:v1")
    assert (done.code, "Traceback" in done.err) == (2, False)
    assert "SOURCE_DATE_EPOCH is not a time" in done.err


def test_an_error_is_a_json_document_where_one_was_asked_for(
    regsim: Regsim, context: Path, tmp_path: Path
) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nRUN make\n")
    done = regsim("build", context, "-t", f"oci:{tmp_path / 'images'}:v1", "--format", "json")
    error = json.loads(done.out)["error"]
    assert (error["exit_code"], done.code) == (2, 2)
    assert error["message"] in done.err
