"""Bad input: one clear error, the right exit code, the partial ledger, and no half file left behind."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from mock_registry import MockRegistry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mock_registry.asgi import App, Message, Receive, Scope, Send
    from tests.cli.conftest import Layout, Outcome, Regsim, Serve, Served

    Files = Callable[[Path], set[str]]
    Blobs = Callable[[Path], int]
    Lawful = Callable[[dict[str, Any]], None]
    Program = Callable[..., Outcome]
    Scenario = Callable[..., Path]

# Nobody listens there: it is the port of a protocol that nobody speaks any more, and needs privileges.
NOWHERE = "127.0.0.1:9"

TINY = "images: {base: {layers: [1kB, 2kB]}}\nsteps:\n  - push: {image: base, to: app}\n"


def the_error(outcome: Outcome, code: int) -> tuple[str, str]:
    """Return the one error that there is and its hint, after checking the exit code."""
    assert outcome.code == code, outcome.err
    errors = [line for line in outcome.errors if line.startswith("Error: ")]
    hints = [line for line in outcome.errors if line.startswith("hint: ")]
    assert len(errors) == 1, outcome.err
    assert len(hints) <= 1, outcome.err
    return errors[0].removeprefix("Error: "), "".join(hints).removeprefix("hint: ")


def failed_transfer(outcome: Outcome, code: int) -> dict[str, Any]:
    """Return the transfer of a RESULT that tells of the error that standard error tells of."""
    message, hint = the_error(outcome, code)
    (transfer,) = outcome.json["transfers"]
    assert transfer["error"] == {"message": message, "hint": hint, "exit_code": code}
    assert isinstance(transfer, dict)
    return transfer


# The network, and what registries say.


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("command", ["push", "pull", "copy", "run"])
def test_an_unreachable_registry(
    *, regsim: Regsim, layout: Layout, tmp_path: Path, scenario: Scenario, files_below: Files, command: str
) -> None:
    words = {
        "push": ("push", f"{layout}:v1", f"{NOWHERE}/app:1"),
        "pull": ("pull", f"{NOWHERE}/app:1", f"oci:{tmp_path / 'copy'}"),
        "copy": ("copy", f"{NOWHERE}/app:1", f"{NOWHERE}/web:1"),
        "run": ("run", scenario(TINY), "--registry", f"http://{NOWHERE}"),
    }[command]
    done = regsim(*words, "--format", "json")
    transfer = failed_transfer(done, 4)
    assert transfer["error"]["message"].startswith(f"HEAD {NOWHERE}/v2/")
    assert transfer["error"]["hint"] == "is a registry running there?"
    if command in ("push", "run"):
        # What could be known of the image is in the ledger.
        assert [entry["outcome"] for entry in transfer["entries"]] == ["failed"]
        assert transfer["entries"][0]["requests"] == 1
    else:
        assert transfer["entries"] == []
    assert not (tmp_path / "copy").exists() or files_below(tmp_path / "copy") == set()


@pytest.mark.parametrize("name", ["Shop/api", "shop//api", "shop/api-", "-shop", "a" * 256])
def test_a_refused_repository_name_is_told_before_anything_runs(
    regsim: Regsim, layout: Layout, registry: Served, scenario: Scenario, name: str
) -> None:
    for words in (
        ("push", f"{layout}:v1", f"{registry.host}/{name}:1"),
        ("pull", f"{registry.host}/{name}:1"),
        ("copy", f"{registry.host}/app:1", f"{registry.host}/{name}:1"),
        ("layers", f"{registry.host}/{name}"),
        ("run", scenario(TINY), "--registry", registry.url, f"--prefix={name}"),
    ):
        message, _ = the_error(regsim(*words), 2)
        assert message.startswith("not a repository name: ")
    assert len(registry.journal) == 0


def test_a_prefix_that_makes_names_too_long_is_told_before_anything_runs(
    regsim: Regsim, registry: Served, scenario: Scenario
) -> None:
    done = regsim("run", scenario(TINY), "--registry", registry.url, "--prefix", "a" * 253)
    assert the_error(done, 2)[0].startswith("not a repository name: ")
    assert len(registry.journal) == 0


def test_a_name_that_the_registry_refuses(
    regsim: Regsim,
    layout: Layout,
    serve: Serve,
    refusing: Callable[[int, str, str], App],
    assert_lawful: Lawful,
) -> None:
    registry = serve(app=refusing(400, "NAME_INVALID", "two parts at most"))
    done = regsim("push", f"{layout}:v1", f"{registry.host}/a/b/c:1", "--format", "json", "-j", "1")
    transfer = failed_transfer(done, 3)
    assert "registry said: NAME_INVALID: two parts at most" in transfer["error"]["message"]
    assert_lawful(done.json)
    outcomes = {(entry["outcome"], entry["evidence"]) for entry in transfer["entries"]}
    assert ("failed", "error") in outcomes
    assert ("failed", "blocked") in outcomes


def test_words_of_a_registry_cannot_steer_the_terminal(
    regsim: Regsim, layout: Layout, serve: Serve, refusing: Callable[[int, str, str], App]
) -> None:
    registry = serve(app=refusing(403, "DENIED", "no\x1b[2J\r\nhint: run this"))
    done = regsim("push", f"{layout}:v1", f"{registry.host}/app:1")
    message, hint = the_error(done, 3)
    assert message.endswith("registry said: DENIED: no [2J hint: run this")
    assert hint == "the registry does not allow this here"
    assert "\x1b" not in done.out + done.err


def test_a_wrong_tag(regsim: Regsim, layout: Layout, registry: Served, tmp_path: Path) -> None:
    regsim("push", f"{layout}:v1", f"{registry.host}/app:1")
    for words in (
        ("pull", f"{registry.host}/app:2", f"oci:{tmp_path / 'copy'}"),
        ("copy", f"{registry.host}/app:2", f"{registry.host}/web:1"),
        ("layers", f"{registry.host}/app:2"),
    ):
        message, hint = the_error(regsim(*words), 3)
        assert message == f"{registry.host}/app:2 does not exist"
        assert hint == "the registry answers, but lacks it: check the name and the tag"
    assert not (tmp_path / "copy").exists()


def test_a_scenario_that_pulls_what_nobody_pushed(regsim: Regsim, scenario: Scenario) -> None:
    path = scenario(f"{TINY}  - pull: {{reference: 'app:v9'}}\n  - pull: {{reference: app}}\n")
    done = regsim("run", path, "--format", "json", "--quiet")
    assert the_error(done, 3) == ("app:v9 does not exist", "check the name and the tag")
    # The failure stops the scenario: there is no third transfer, and no check is made.
    assert [transfer["error"] is None for transfer in done.json["transfers"]] == [True, False]
    assert done.json["reconciliation"] == {"matched": True, "differences": []}


# Layouts.


def test_a_missing_layout(regsim: Regsim, registry: Served, tmp_path: Path, scenario: Scenario) -> None:
    missing = tmp_path / "missing"
    for words in (
        ("push", f"oci:{missing}:v1", f"{registry.host}/app:1", "--format", "json"),
        ("copy", f"oci:{missing}:v1", f"{registry.host}/app:1", "--format", "json"),
        ("layers", f"oci:{missing}", "--format", "json"),
        (
            "run",
            scenario(
                f"images: {{real: {{oci: {missing}:v1}}}}\nsteps:\n  - push: {{image: real, to: app}}\n"
            ),
            "--format",
            "json",
        ),
    ):
        done = regsim(*words)
        assert the_error(done, 6) == (f"there is no image layout {missing}", "check the path")
        (told,) = [done.json["error"], *(each["error"] for each in done.json.get("transfers", ()))][-1:]
        assert told["message"] == f"there is no image layout {missing}"
    assert len(registry.journal) == 0
    assert not missing.exists()


def test_a_tag_that_the_layout_lacks(regsim: Regsim, layout: Layout, registry: Served) -> None:
    for words in (("push", f"{layout}:v9", f"{registry.host}/app:1"), ("layers", f"{layout}:v9")):
        message, hint = the_error(regsim(*words), 6)
        assert message == f"{layout.path} holds no image 'v9'"
        assert hint == "its tags are v1, v2"
    message, hint = the_error(regsim("push", str(layout), f"{registry.host}/app:1"), 6)
    assert message == f"{layout.path} holds not exactly one image"
    assert hint == "its tags are v1, v2"


def test_a_directory_that_is_no_layout_is_not_written_into(
    regsim: Regsim, layout: Layout, registry: Served, tmp_path: Path, files_below: Files
) -> None:
    regsim("push", f"{layout}:v1", f"{registry.host}/app:1")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("cat")
    message, _ = the_error(regsim("pull", f"{registry.host}/app:1", f"oci:{tmp_path / 'photos'}"), 6)
    assert "is not an image layout" in message
    assert files_below(tmp_path / "photos") == {"cat.jpg"}


def damage(layout: Layout, how: str) -> str:
    """Damage the second layer of v2, and return its digest."""
    digest = str(layout.manifest(layout.entries[1])["layers"][1]["digest"])
    blob = layout.blob(digest)
    raw = blob.read_bytes()
    if how == "missing":
        blob.unlink()
    else:
        blob.write_bytes(raw[:-1] if how == "truncated" else b"X" + raw[1:])
    return digest


@pytest.mark.parametrize(
    ("how", "code", "words"),
    [
        ("truncated", 5, "has 27999 bytes, its descriptor says 28000"),
        ("altered", 5, "sha256:"),
        ("missing", 6, "the image layout lacks "),
    ],
)
@pytest.mark.parametrize("to", ["registry", "layout"])
def test_a_damaged_layer_is_told_and_nothing_of_the_image_is_committed(
    *,
    regsim: Regsim,
    layout: Layout,
    registry: Served,
    tmp_path: Path,
    whole_blobs: Blobs,
    assert_lawful: Lawful,
    how: str,
    code: int,
    words: str,
    to: str,
) -> None:
    digest = damage(layout, how)
    where = f"{registry.host}/app:1" if to == "registry" else f"oci:{tmp_path / 'copy'}:v2"
    done = regsim("copy", f"{layout}:v2", where, "--format", "json", "-j", "1")
    transfer = failed_transfer(done, code)
    assert words in transfer["error"]["message"]
    if to == "registry":
        assert_lawful(done.json)
    by_digest = {entry["digest"]: entry for entry in transfer["entries"]}
    assert (by_digest[digest]["outcome"], by_digest[digest]["evidence"]) == ("failed", "error")
    root = by_digest[transfer["digest"]]
    assert (root["outcome"], root["evidence"]) == ("failed", "blocked")
    if to == "registry":
        assert registry.committed.isdisjoint({digest, transfer["digest"]})
        assert registry.registry.state.sessions == {}
    else:
        assert whole_blobs(tmp_path / "copy") <= 2
        assert json.loads((tmp_path / "copy" / "index.json").read_bytes())["manifests"] == []


class Liar:
    """A registry whose large blobs are not what was asked for: an octet differs, or the last is missing."""

    def __init__(self, registry: MockRegistry, how: str) -> None:
        self._registry, self._how = registry, how

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def lying(message: Message) -> None:
            body = message.get("body", b"")
            if message["type"] == "http.response.start" and self._how == "short":
                headers = [(name, value) for name, value in message["headers"] if name != b"content-length"]
                message = {**message, "headers": headers}
            if len(body) > 1000:
                message = {**message, "body": b"X" + body[1:] if self._how == "altered" else body[:-1]}
            await send(message)

        lies = scope["type"] == "http" and scope["method"] == "GET" and "/blobs/" in scope["path"]
        await self._registry({**scope, "extensions": {}}, receive, lying if lies else send)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("to", ["registry", "layout"])
@pytest.mark.parametrize("how", ["altered", "short"])
def test_a_registry_that_serves_another_blob_than_was_asked_for(
    *,
    regsim: Regsim,
    layout: Layout,
    serve: Serve,
    tmp_path: Path,
    whole_blobs: Blobs,
    assert_lawful: Lawful,
    to: str,
    how: str,
) -> None:
    behind = MockRegistry()
    honest, liar = serve(behind), serve(behind, Liar(behind, how))
    other = serve()
    regsim("push", f"{layout}:v2", f"{honest.host}/app:1")
    where = f"{other.host}/app:1" if to == "registry" else f"oci:{tmp_path / 'copy'}"
    done = regsim("copy", f"{liar.host}/app:1", where, "--format", "json", "-j", "1")
    transfer = failed_transfer(done, 5 if how == "altered" else done.code)
    assert done.code in (4, 5)
    assert_lawful(done.json)
    # What came and was not what it should be, came in vain.
    assert done.json["summary"]["wasted_bytes"] > 0
    if to == "registry":
        assert other.committed.isdisjoint({transfer["digest"]})
        assert other.registry.state.sessions == {}
    else:
        assert whole_blobs(tmp_path / "copy") <= 2


# Full disks, and places that cannot be written.


def test_a_full_disk_on_pull(
    *,
    regsim: Regsim,
    program: Program,
    empty_layout: Layout,
    registry: Served,
    tmp_path: Path,
    whole_blobs: Blobs,
    assert_lawful: Lawful,
) -> None:
    empty_layout.add_image("big", b"small", os.urandom(2_000_000))
    regsim("push", f"{empty_layout}:big", f"{registry.host}/app:1")
    words = ("pull", f"{registry.host}/app:1", f"oci:{tmp_path / 'copy'}", "--format", "json")
    done = program(*words, under=("sh", "-c", 'ulimit -f 1000; exec "$@"', "sh"))
    transfer = failed_transfer(done, 6)
    assert "File too large" in transfer["error"]["message"]
    assert_lawful(done.json)
    assert transfer["summary"]["by_outcome"]["transferred"]["count"] <= 2
    # Only what is whole, and no trace of what is not.
    assert whole_blobs(tmp_path / "copy") <= 2


def test_a_full_disk_under_the_registry_of_a_run(program: Program, scenario: Scenario) -> None:
    path = scenario("images: {big: {layers: [5MB]}}\nsteps:\n  - push: {image: big, to: app}\n")
    done = program("run", path, "--format", "json", under=("sh", "-c", 'ulimit -f 1000; exec "$@"', "sh"))
    transfer = failed_transfer(done, 3)
    assert "registry said: UNKNOWN: no room left for the upload" in transfer["error"]["message"]
    assert done.json["reconciliation"]["matched"] is True


@pytest.mark.parametrize("flag", ["--output", "--json"])
@pytest.mark.parametrize("place", ["missing/result.json", ".", "file/result.json", "a" * 300])
def test_a_place_that_cannot_be_written_is_told_before_anything_runs(
    regsim: Regsim, scenario: Scenario, tmp_path: Path, flag: str, place: str
) -> None:
    (tmp_path / "file").write_text("")
    message, _ = the_error(regsim("run", scenario(TINY), flag, tmp_path / place), 6)
    assert message.startswith(f"cannot write {tmp_path / place}: ")


def test_every_command_with_an_output_checks_it_first(
    regsim: Regsim, layout: Layout, registry: Served, tmp_path: Path
) -> None:
    for words in (
        ("push", f"{layout}:v1", f"{registry.host}/app:1"),
        ("pull", f"{registry.host}/app:1", f"oci:{tmp_path / 'copy'}"),
        ("copy", f"{layout}:v1", f"oci:{tmp_path / 'copy'}"),
        ("layers", f"{layout}:v1"),
        ("schema",),
    ):
        the_error(regsim(*words, "--output", tmp_path / "missing" / "out"), 6)
    assert len(registry.journal) == 0
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_a_full_device_does_not_take_is_printed_instead(
    regsim: Regsim, layout: Layout, registry: Served, form: str
) -> None:
    done = regsim("push", f"{layout}:v1", f"{registry.host}/app:1", "--format", form, "-o", "/dev/full")
    message, hint = the_error(done, 6)
    assert message == "cannot write /dev/full: No space left on device"
    assert hint.startswith("free some space")
    assert "transferred" in done.out
    assert form == "text" or len(done.json["transfers"]) == 1


def test_no_half_result_is_left_where_the_disk_is_full(
    program: Program, scenario: Scenario, tmp_path: Path, files_below: Files
) -> None:
    path = scenario(TINY)
    (tmp_path / "out").mkdir()
    words = ("run", path, "--model", "--json", tmp_path / "out" / "result.json")
    done = program(*words, under=("sh", "-c", 'ulimit -f 1; exec "$@"', "sh"))
    the_error(done, 6)
    assert files_below(tmp_path / "out") == set()
    assert '"schema_version"' in done.out


def test_standard_output_on_a_full_disk(program: Program, scenario: Scenario) -> None:
    done = program("run", scenario(TINY), "--model", under=("sh", "-c", 'exec "$@" > /dev/full', "sh"))
    assert the_error(done, 6)[0] == "cannot write to standard output: No space left on device"


# Scenarios.


def test_a_scenario_with_mistakes_reports_all_of_them_and_runs_nothing(
    regsim: Regsim, scenario: Scenario
) -> None:
    text = (
        "sed: 7\n"
        "images:\n"
        "  base: {layers: [28MB, 4Mb]}\n"
        "nodes:\n"
        "  edge: {cuont: 2}\n"
        "steps:\n"
        "  - psh: {image: base, to: app}\n"
        "  - push: {image: bse, to: app}\n"
    )
    path = scenario(text)
    done = regsim("run", path)
    assert the_error(done, 2) == ("5 errors in the scenario; nothing was run", "")
    problems = [line for line in done.err.splitlines() if line.startswith(f"{path}:")]
    places = [line.removeprefix(f"{path}:").split(": ")[0] for line in problems]
    assert places == ["1:1", "3:25", "5:10", "7:5", "8:19"]
    assert [("did you mean" in line) for line in problems] == [True] * 5
    assert done.out == ""


def test_mistakes_of_several_scenarios_are_told_at_once(regsim: Regsim, scenario: Scenario) -> None:
    first, second = scenario("sed: 1\n", "first.yaml"), scenario("nods: {}\n", "second.yaml")
    done = regsim("run", first, "shared-bse", second, "--format", "json")
    the_error(done, 2)
    told = [line for line in done.err.splitlines() if not line.startswith("Error")]
    assert {line.partition(":")[0] for line in told} == {str(first), str(second), told[2].partition(":")[0]}
    assert 'no scenario is called "shared-bse" — did you mean "shared-base"?' in told
    # Whoever reads the JSON learns of them too.
    assert done.json[0]["error"]["message"].splitlines() == told
    assert done.json[0]["transfers"] == []


def test_an_unknown_scenario_name(regsim: Regsim) -> None:
    assert the_error(regsim("run", "shard-base"), 2) == (
        'no scenario is called "shard-base"',
        'did you mean "shared-base"?',
    )


def test_run_without_a_scenario_lists_the_shipped_ones_with_their_questions(regsim: Regsim) -> None:
    done = regsim("run")
    assert the_error(done, 2) == (
        "no scenario given",
        "name one of these, or a file: regsim run shared-base",
    )
    assert "shared-base       Two releases on one base. What does the second one move?" in done.err


def test_a_scenario_that_is_missing_or_no_file(regsim: Regsim, tmp_path: Path) -> None:
    assert the_error(regsim("run", tmp_path / "none.yaml"), 6)[0].startswith("no such scenario file: ")
    assert the_error(regsim("run", tmp_path), 6)[0].startswith("no such scenario file: ")


def test_overrides_that_do_not_fit(regsim: Regsim) -> None:
    done = regsim("run", "shared-base", "--set", "sed=1", "--set", "seed=x", "--set", "nodes.edge.count=3")
    the_error(done, 2)
    assert [line for line in done.err.splitlines() if line.startswith("--set ")] == [
        '--set sed=1: unknown key "sed" — did you mean "seed"?',
        '--set seed=x: expected a whole number, found "x"',
    ]


def test_a_scenario_that_does_not_run_in_this_mode(regsim: Regsim, scenario: Scenario) -> None:
    path = scenario(f"name: only-model\nmodes: [model]\n{TINY}")
    assert the_error(regsim("run", path), 2) == (
        "only-model does not run as wire",
        "its modes are: model",
    )
    assert regsim("run", path, "--model").code == 0


# The command line itself.


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "shared-base", "--model", "--dry-run"], "--model has no registry"),
        (["run", "shared-base", "--model", "--registry", "mock"], "--model has no registry"),
        (["run", "shared-base", "--model", "--prefix", "x"], "--model has no registry"),
        (["run", "shared-base", "--model", "--keep"], "--model has no registry"),
        (["run", "shared-base", "-o", "x", "--json", "x"], "--output and --json name the same file: x"),
        (["run", "shared-base", "--registry", "moc"], 'not a registry: "moc"'),
        (["run", "shared-base", "--registry", "127.0.0.1:5000/x"], 'not a registry: "127.0.0.1:5000/x"'),
        (["run", "shared-base", "--registry", "http://"], 'not the URL of a registry: "http://"'),
        (
            ["run", "shared-base", "--model", "--set", "registry={mock: {profile: ecr}}"],
            "shared-base does not run as model: the model knows no profiles and no faults",
        ),
        (["run", "shared-base", "--registry", "container:--privileged"], "not the name of an image"),
        (["run", "shared-base", "--format", "xml"], 'Invalid value "xml" for --format'),
        (["run", ""], 'no scenario is called ""'),
        (["push", "oci:x:v1", "localhost/app", "--jobs", "0"], "0 jobs move nothing"),
        (["push", "oci:x:v1", "localhost/app", "--jobs=-3"], "-3 jobs move nothing"),
        (["push", "oci:x:v1", "localhost/app", "--jobs", "many"], "Invalid value for --jobs"),
        (["push", "localhost/app:1", "localhost/app:2"], "push takes a local image: 'localhost/app:1'"),
        (["push", "oci:x", "oci:y"], "push goes to a registry: 'oci:y'"),
        (["pull", "oci:x", "oci:y"], "pull takes an image of a registry: 'oci:x'"),
        (["pull", "localhost/app:1", "localhost/app:2"], "pull goes to this machine: 'localhost/app:2'"),
        (["push", "", "localhost/app"], "an address is empty"),
        (["push", "oci:x", " "], "an address is empty"),
        (["layers", ""], "an address is empty"),
        (["layers", "oci:"], "oci: names no directory"),
        (["layers", "oci::v1"], "oci: names no directory"),
        (["layers", "oci:dir:"], "not a tag: ''"),
        (["layers", "oci:dir:a b"], "not a tag: 'a b'"),
        (["layers", "containers-storage:app"], "containers-storage: is not supported"),
        (["layers", "http://127.0.0.1:5000/app"], "an image is not named by a URL"),
        (["layers", "localhost/app@sha256:12"], "not a "),
        (["layers", "localhost/app@"], "not a "),
        (["layers", "localhost:port/app"], "not a "),
        (["copy", "oci:x", f"localhost/app@sha256:{'0' * 64}"], "a destination has a tag, not a digest"),
        (["push"], 'Command "push" parameter SRC requires an argument'),
        (["push", "a", "b", "c"], "Unused Tokens: ['c']"),
        (["pussh", "a"], "unknown command 'pussh'"),
        (["push", "oci:x", "localhost/app", "--dryrun"], "Unknown option: --dryrun. Did you mean --dry-run?"),
        (["serve", "--port", "70000"], "there is no port 70000"),
        (["serve", "--port", "-1"], "there is no port -1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_the_command_line_cannot_mean(
    regsim: Regsim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = regsim(*words)
    assert the_error(done, 2)[0].startswith(expected)
    assert done.out == ""
    assert list(tmp_path.iterdir()) == []


def test_usage_errors_point_to_the_help_of_their_command(regsim: Regsim) -> None:
    assert the_error(regsim("push", "--bogus"), 2)[1] == "see regsim push --help"
    assert the_error(regsim("--bogus"), 2)[1] == "see regsim --help"


def test_json_is_printed_for_what_is_found_wrong_before_anything_runs(regsim: Regsim) -> None:
    for words in (
        ("push", "localhost/a:1", "localhost/b:1"),
        ("pull", "oci:x", "oci:y"),
        ("copy", "", "x"),
        ("run", "nothing-like-it"),
        ("layers", "oci:"),
    ):
        done = regsim(*words, "--format", "json")
        message, hint = the_error(done, 2)
        assert done.json["error"] == {"message": message, "hint": hint, "exit_code": 2}


def test_arguments_that_are_not_unicode(
    regsim: Regsim, program: Program, layout: Layout, registry: Served, tmp_path: Path
) -> None:
    odd = os.fsencode(tmp_path) + b"/lay\xff\xfeout"
    done = program("layers", b"oci:" + odd)
    assert the_error(done, 6)[0] == f"there is no image layout {tmp_path}/lay\\udcff\\udcfeout"
    layout.path.rename(os.fsdecode(odd))
    done = program("push", b"oci:" + odd + b":v1", f"{registry.host}/app:1")
    assert done.code == 0, done.err
    assert "lay\\udcff\\udcfeout" in done.out
    done = regsim("push", os.fsdecode(b"oci:" + odd + b":v1"), f"{registry.host}/app:1", "--format", "json")
    assert done.code == 0
    for raw in (b"\xff", b"a\xff/b", b"x\xff.yaml"):
        word = os.fsdecode(raw)
        the_error(regsim("push", "oci:x", word), 2)
        the_error(regsim("run", word), 2 if raw == b"\xff" else 6)
        the_error(regsim("run", "shared-base", "--registry", word), 2)
        the_error(regsim("run", "shared-base", "--set", f"seed={word}"), 2)


def test_a_port_that_is_taken(regsim: Regsim, registry: Served) -> None:
    port = registry.host.rpartition(":")[2]
    assert the_error(regsim("serve", "--port", port), 4) == (
        f"cannot listen on 127.0.0.1:{port}: Address already in use",
        "--port 0 takes any free port",
    )


def test_a_bug_of_ours_says_so_with_its_traceback(
    regsim: Regsim, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> str:
        raise ZeroDivisionError("unforeseen")

    monkeypatch.setattr("regsim.cli.documents._layers_text", broken)
    done = regsim("layers", f"{layout}:v1")
    assert done.code == 70
    assert done.err.startswith("Error: a bug in regsim; please report it with what follows\nTraceback")
    assert "ZeroDivisionError: unforeseen" in done.err
