"""Ctrl-C and SIGTERM in the middle of the work: exit code 130, the ledger so far, and no half file.

The registry holds a request up until the test is over, so that the signal always finds the program at the
same place.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from mock_registry import MockRegistry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mock_registry.asgi import Receive, Scope, Send
    from tests.cli.conftest import Gate, Layout, Regsim, Running, Serve, Served
    from tests.conftest import FakeEngine

    Blobs = Callable[[Path], int]
    Lawful = Callable[[dict[str, Any]], None]
    Start = Callable[..., Running]
    Scenario = Callable[..., Path]

pytestmark = pytest.mark.long

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda each: each.name)
BIG = b"big " * 750_000


@pytest.fixture
def layout(empty_layout: Layout) -> Layout:
    empty_layout.add_image("v1", b"small", BIG)
    return empty_layout


def outcomes(transfer: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(entry["outcome"], entry["evidence"]) for entry in transfer["entries"]]


@SIGNALS
def test_push_interrupted_while_a_blob_is_under_way(
    *, start: Start, layout: Layout, serve: Serve, gate: type[Gate], assert_lawful: Lawful, number: int
) -> None:
    behind = MockRegistry()
    big = layout.manifest(layout.entries[0])["layers"][1]["digest"]
    held = gate(behind, "PUT", f"digest={big}", after=1_000_000)
    registry = serve(behind, held)
    program = start("push", f"{layout}:v1", f"{registry.host}/app:1", "--format", "json", "-j", "1")
    held.wait_for("PUT")
    program.signal(number)
    done = program.finish()
    assert done.code == 130
    assert done.errors == []
    assert done.err.splitlines()[-1] == "interrupted; the report says what had been done"
    result = done.json
    assert result["interrupted"] is True
    assert_lawful(result)
    (transfer,) = result["transfers"]
    assert outcomes(transfer)[0] == ("failed", "blocked")
    entry = transfer["entries"][-1]
    assert (entry["digest"], entry["outcome"], entry["evidence"]) == (big, "failed", "cancelled")
    assert entry["wasted_sent"] == entry["wire_sent"] >= 1_000_000
    assert transfer["digest"] not in registry.committed
    assert behind.state.sessions == {}


@SIGNALS
def test_pull_interrupted_while_a_blob_is_under_way(
    *,
    start: Start,
    regsim: Regsim,
    layout: Layout,
    serve: Serve,
    gate: type[Gate],
    tmp_path: Path,
    whole_blobs: Blobs,
    assert_lawful: Lawful,
    number: int,
) -> None:
    behind = MockRegistry()
    big = layout.manifest(layout.entries[0])["layers"][1]["digest"]
    held = gate(behind, "GET", f"/blobs/{big}", after=1_500_000)
    registry = serve(behind, held)
    regsim("push", f"{layout}:v1", f"{registry.host}/app:1")
    program = start("pull", f"{registry.host}/app:1", f"oci:{tmp_path / 'copy'}", "--format", "json")
    held.wait_for("GET")
    program.signal(number)
    done = program.finish()
    assert done.code == 130
    assert done.errors == []
    assert_lawful(done.json)
    (transfer,) = done.json["transfers"]
    entry = transfer["entries"][-1]
    assert (entry["outcome"], entry["evidence"]) == ("failed", "cancelled")
    assert 0 <= entry["wasted_received"] == entry["wire_received"] <= 1_500_000
    # What came of the blob is kept under a name of its own, where nobody takes it for content.
    kept = list((tmp_path / "copy").glob(".regsim-partial-*"))
    assert [path.stat().st_size for path in kept] in ([], [entry["wire_received"]])
    for path in kept:
        path.rename(tmp_path / path.name)
    whole_blobs(tmp_path / "copy")
    for path in kept:
        (tmp_path / path.name).rename(path)
    # The next pull finds what is whole, and finishes the work.
    again = regsim("pull", f"{serve(behind).host}/app:1", f"oci:{tmp_path / 'copy'}", "--format", "json")
    assert again.code == 0
    resumed = again.json["transfers"][0]["entries"][-1]["resumed"]
    assert resumed == (entry["wire_received"] if kept else 0)
    assert whole_blobs(tmp_path / "copy") == 4


@pytest.mark.parametrize("form", ["text", "json"])
@SIGNALS
def test_run_interrupted_in_its_second_step(
    *,
    start: Start,
    serve: Serve,
    gate: type[Gate],
    scenario: Callable[..., Path],
    assert_lawful: Lawful,
    number: int,
    form: str,
) -> None:
    behind = MockRegistry()
    held = gate(behind, "GET", "/blobs/", after=500)
    registry = serve(behind, held)
    path = scenario(
        "images: {base: {layers: [50kB, 2kB]}}\n"
        "nodes: {ci: {}, edge: {count: 3}}\n"
        "steps:\n"
        "  - push: {image: base, to: app, node: ci}\n"
        "  - pull: {reference: app, node: edge}\n"
        "  - pull: {reference: app, node: ci}\n"
        "checks: [transferred >= 1]\n"
    )
    program = start("run", path, path, "--registry", registry.url, "--format", form)
    held.wait_for("GET", 3)
    program.signal(number)
    done = program.finish()
    assert done.code == 130
    assert done.errors == []
    if form == "text":
        assert "Step 1: push base to app:latest" in done.out
        assert "Interrupted: this is what had been done." in done.out.splitlines()
        assert "Step 3" not in done.out
        return
    # Two were asked for, so it stays an array; the second never began.
    (result,) = done.json
    assert result["interrupted"] is True
    assert_lawful(result)
    steps = [(transfer["step"], transfer["node"]) for transfer in result["transfers"]]
    assert steps == [(1, "ci"), (2, "edge-1"), (2, "edge-2"), (2, "edge-3")]
    assert {outcome for outcome, _ in outcomes(result["transfers"][0])} == {"transferred"}
    assert result["checks"] == []
    # What had been pushed to a registry that is not ours is deleted all the same.
    assert "left behind" not in done.err
    deleted = [record for record in registry.journal if record.method == "DELETE"]
    assert {record.status for record in deleted} == {202}
    assert len(deleted) == 4


def test_run_interrupted_while_its_registry_is_its_own(start: Start, scenario: Scenario) -> None:
    path = scenario("images: {a: {layers: [100GB]}}\nsteps:\n  - push: {image: a, to: app}\n")
    program = start("run", path, "--format", "json")
    # The layer is being made, which takes a minute: nothing has been transferred yet.
    assert program.process.stderr is not None
    assert program.process.stderr.readline() == "making a\n"
    program.signal(signal.SIGINT)
    done = program.finish()
    assert done.code == 130
    assert done.errors == []
    assert (done.json["interrupted"], done.json["transfers"]) == (True, [])


@SIGNALS
def test_model_that_is_interrupted_keeps_what_it_has(
    *, start: Start, scenario: Scenario, assert_lawful: Lawful, number: int
) -> None:
    pulls = "  - pull: {reference: app, node: edge}\n" * 5_000
    path = scenario(
        "images: {a: {layers: [50kB, 2kB]}}\nnodes: {ci: {}, edge: {count: 3}}\n"
        "steps:\n  - push: {image: a, to: app, node: ci}\n" + pulls
    )
    program = start("run", path, "--model", "--format", "json")
    assert program.process.stderr is not None
    while program.process.stderr.readline() != "step 3 of 5001: pull app:latest on edge\n":
        pass
    program.signal(number)
    done = program.finish()
    assert done.code == 130
    assert done.errors == []
    assert done.json["interrupted"] is True
    assert_lawful(done.json)
    assert 4 <= len(done.json["transfers"]) < 15_001


@SIGNALS
def test_a_second_signal_ends_the_program_at_once(
    start: Start, layout: Layout, serve: Serve, gate: type[Gate], number: int
) -> None:
    behind = MockRegistry()
    # Whoever is interrupted cancels the upload session, and that too is held up.
    held = gate(behind, "PUT|DELETE", "/blobs/uploads/", after=0)
    registry = serve(behind, held)
    program = start("push", f"{layout}:v1", f"{registry.host}/app:1", "-j", "1")
    held.wait_for("PUT")
    program.signal(number)
    held.wait_for("DELETE")
    program.signal(number)
    done = program.finish()
    assert done.code == -number
    assert "Traceback" not in done.err


def test_layers_interrupted_has_nothing_to_tell(
    start: Start, regsim: Regsim, layout: Layout, serve: Serve, gate: type[Gate]
) -> None:
    behind = MockRegistry()
    held = gate(behind, "HEAD", "/manifests/v2")
    registry = serve(behind, held)
    regsim("push", f"{layout}:v1", f"{registry.host}/app:1")
    program = start("layers", f"{registry.host}/app:v2")
    held.wait_for("HEAD")
    program.signal(signal.SIGINT)
    done = program.finish()
    assert (done.code, done.out, done.err) == (130, "", "interrupted\n")


def test_a_program_that_was_started_to_ignore_ctrl_c_goes_on(
    start: Start, layout: Layout, serve: Serve
) -> None:
    behind, started = MockRegistry(), threading.Event()
    programs: list[Running] = []

    async def interrupting(scope: Scope, receive: Receive, send: Send) -> None:
        started.wait()
        programs[0].signal(signal.SIGINT)
        await behind(scope, receive, send)

    registry = serve(behind, interrupting)
    push = ("push", f"{layout}:v1", f"{registry.host}/app:1", "--quiet")
    # As a shell starts what is to run in the background, and nohup what is to outlive it.
    programs.append(start(*push, under=("sh", "-c", 'trap "" INT; exec "$@"', "sh")))
    started.set()
    assert programs[0].finish().code == 0


def test_an_interrupt_between_commands_is_pythons_again(
    regsim: Regsim, layout: Layout, registry: Served
) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    regsim("push", f"{layout}:v1", f"{registry.host}/app:1")
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


@SIGNALS
def test_a_registry_container_is_removed_on_an_interrupt(
    *, start: Start, engine: FakeEngine, number: int
) -> None:
    environment = f"REGSIM_ENGINE={engine.command}"
    program = start(
        "run", "shared-base", "--registry", "container", "--format", "json", under=["env", environment]
    )
    line = ""
    assert program.process.stderr is not None
    while "step 1" not in line:
        line = program.process.stderr.readline()
        assert line, "it has ended"
    assert len(engine.containers()) == 1
    program.signal(number)
    done = program.finish()
    assert (done.code, done.errors) == (130, [])
    assert done.json["interrupted"] is True
    assert engine.containers() == []
