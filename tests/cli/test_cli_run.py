"""`regsim run`, as a user calls it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from mock_registry import Journal, MockRegistry, Record
from regsim.core.account import Account
from regsim.core.work import entries
from regsim.registry.repository import Repository
from regsim.transfer.model import ModelTransfer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from regsim.core.ledger import Ledger
    from tests.cli.conftest import Layout, Outcome, Regsim, Serve, Served

    Scenario = Callable[..., Path]

SMALL = """\
name: small
description: Two releases on one base. What does the second one move?
seed: 3
images:
  base: {layers: [20kB, 4kB]}
  api:v1: {from: base, layers: [{size: 1kB, created_by: "COPY . ."}]}
  api:v2: {from: base, layers: [2kB]}
nodes:
  ci: {}
  edge: {count: 2}
steps:
  - push: {image: "api:v1", to: "shop/api:v1", node: ci}
    expect: {transferred: 3}
  - name: second
    push: {image: "api:v2", to: "shop/api:v2", node: ci}
    expect: {transferred: 1, exists: 2}
  - pull: {reference: "shop/api:v2", node: edge}
checks:
  - saved_bytes(step second) == 24kB
  - wasted_bytes == 0
"""


def outcomes(result: dict[str, Any]) -> list[list[tuple[str, str]]]:
    return [
        [(entry["digest"], entry["outcome"]) for entry in each["entries"]] for each in result["transfers"]
    ]


def test_run_reports_every_step_its_checks_and_the_reconciliation(regsim: Regsim, scenario: Scenario) -> None:
    done = regsim("run", scenario(SMALL))
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[:3] == [
        "small (wire, seed 3)",
        "Two releases on one base. What does the second one move?",
        "",
    ]
    assert "Step 1: push api:v1 to shop/api:v1, node ci" in lines
    assert "Step 2 second: push api:v2 to shop/api:v2, node ci" in lines
    assert "Step 3: pull shop/api:v2, 2 identical nodes, edge-1 to edge-2" in lines
    # An expectation is told with its step; a check that names its step itself is not told it twice.
    assert [line for line in lines if line.startswith("Check")] == [
        "Check ok     step 1: transferred == 3",
        "Check ok     step 2: transferred == 1",
        "Check ok     step 2: exists == 2",
        "Check ok     saved_bytes(step second) == 24kB",
        "Check ok     wasted_bytes == 0",
    ]
    assert lines[-1].endswith("reconciled with the registry's journal.")
    assert [line for line in done.err.splitlines() if line.startswith("step")] == [
        "step 1 of 3: push api:v1 to shop/api:v1",
        "step 2 of 3: push api:v2 to shop/api:v2",
        "step 3 of 3: pull shop/api:v2 on edge",
    ]


def test_json_carries_the_whole_result(regsim: Regsim, scenario: Scenario) -> None:
    result = regsim("run", scenario(SMALL), "--format", "json", "-q").json
    assert result["schema_version"] == "1"
    assert (result["scenario"], result["seed"], result["mode"]) == ("small", 3, "wire")
    assert result["description"] == "Two releases on one base. What does the second one move?"
    assert [transfer["node"] for transfer in result["transfers"]] == ["ci", "ci", "edge-1", "edge-2"]
    assert [transfer["step_name"] for transfer in result["transfers"]] == [None, "second", None, None]
    assert all(check["passed"] for check in result["checks"])
    assert result["reconciliation"] == {"matched": True, "differences": []}


def test_the_modes_say_what_they_are_and_agree(regsim: Regsim, scenario: Scenario) -> None:
    path = scenario(SMALL)
    wire, plan, model = (
        regsim("run", path, *flags, "--format", "json", "-q").json
        for flags in ((), ("--dry-run",), ("--model",))
    )
    assert (wire["mode"], plan["mode"], model["mode"]) == ("wire", "plan", "model")
    assert outcomes(plan) == outcomes(wire)
    assert [[outcome for _, outcome in each] for each in outcomes(model)] == [
        [outcome for _, outcome in each] for each in outcomes(wire)
    ]
    assert plan["reconciliation"]["matched"] is None
    text = regsim("run", path, "--model", "-q").out
    assert text.splitlines()[-1].startswith("Layers: would move ")
    assert text.splitlines()[-1].endswith("; a model only.")


def test_names_and_files_may_be_mixed_and_several_make_an_array(
    regsim: Regsim, scenario: Scenario, tmp_path: Path
) -> None:
    other = scenario(SMALL.replace("name: small", "name: other"), "other.yml")
    done = regsim("run", "golang-upgrade", scenario(SMALL), other, "--model", "--json", tmp_path / "all.json")
    assert done.code == 0
    assert [line for line in done.out.splitlines() if "(model, seed" in line] == [
        "golang-upgrade (model, seed 0)",
        "small (model, seed 3)",
        "other (model, seed 3)",
    ]
    results = json.loads((tmp_path / "all.json").read_text())
    assert [result["scenario"] for result in results] == ["golang-upgrade", "small", "other"]


def test_a_failure_of_one_scenario_does_not_hide_the_others_and_the_worst_code_wins(
    regsim: Regsim, scenario: Scenario
) -> None:
    failing = scenario(SMALL.replace("name: small", "name: failing").replace("== 24kB", "== 25kB"), "1.yaml")
    absent = scenario("name: absent\nsteps:\n  - pull: {reference: nothing}\n", "2.yaml")
    done = regsim("run", failing, absent, scenario(SMALL), "--format", "json", "-q")
    assert done.code == 3
    assert [result["scenario"] for result in done.json] == ["failing", "absent", "small"]
    assert done.errors == [
        "Error: failing: 1 of 5 checks failed: saved_bytes(step second) == 25kB (found 24000)",
        "Error: absent: nothing:latest does not exist",
        "hint: check the name and the tag",
    ]


def test_an_expectation_that_fails_is_told_with_what_was_found(regsim: Regsim, scenario: Scenario) -> None:
    done = regsim("run", scenario(SMALL), "--set", "steps.1.expect.transferred=4", "-q")
    assert done.code == 1
    assert "Check FAILED step 1: transferred == 4 (found 3)" in done.out.splitlines()
    assert done.errors == ["Error: 1 of 5 checks failed: step 1: transferred == 4 (found 3)"]


def test_set_takes_several_values_before_and_behind_the_scenario(regsim: Regsim, scenario: Scenario) -> None:
    path = scenario(SMALL)
    words = ("--set", "seed=9", path, "--set", "nodes.edge.count=4", "--set", "images.base.layers=[9kB, 3kB]")
    done = regsim("run", *words, "--set", "checks=[]", "--model", "--format", "json")
    assert done.code == 0
    assert done.json["seed"] == 9
    assert [each["node"] for each in done.json["transfers"]][2:] == ["edge-1", "edge-2", "edge-3", "edge-4"]
    assert [entry["size"] for entry in done.json["transfers"][0]["entries"]][2:] == [9000, 3000, 1000]


def test_output_and_json_go_to_files_of_their_own(regsim: Regsim, scenario: Scenario, tmp_path: Path) -> None:
    text, document = tmp_path / "report.txt", tmp_path / "result.json"
    document.write_text("what stood there before")
    done = regsim("run", scenario(SMALL), "--model", "-q", "--output", text, "--json", document)
    assert (done.code, done.out, done.err) == (0, "", "")
    assert text.read_text().startswith("small (model, seed 3)\n")
    assert json.loads(document.read_text())["scenario"] == "small"
    # Nothing that was written aside is left, and a link is followed rather than replaced.
    (tmp_path / "link.json").symlink_to(document)
    assert regsim("run", scenario(SMALL), "--model", "-q", "--json", tmp_path / "link.json").code == 0
    assert (tmp_path / "link.json").is_symlink()
    assert {path.name for path in tmp_path.iterdir() if path.name != "cache"} == {
        "scenario.yaml",
        "report.txt",
        "result.json",
        "link.json",
    }


# Registries that are running already.


def test_a_running_registry_is_left_as_it_was_found(
    regsim: Regsim, scenario: Scenario, registry: Served, layout: Layout
) -> None:
    regsim("push", f"{layout}:v1", f"{registry.host}/shop/api:v1")
    for _ in range(2):
        done = regsim("run", scenario(SMALL), "--registry", registry.url, "--format", "json")
        assert done.code == 0
        assert done.json["reconciliation"]["matched"] is None
        assert "left behind" not in done.err
    state = registry.registry.state
    held = {name: (len(each.manifests), len(each.blobs)) for name, each in state.repositories.items()}
    assert held.pop("shop/api") == (1, 3)
    assert set(held.values()) == {(0, 0)}
    # Each run had a prefix of its own.
    assert len(held) == 2
    assert all(name.startswith("regsim-") and name.endswith("/shop/api") for name in held)


def test_keep_leaves_what_was_pushed_below_the_prefix(
    regsim: Regsim, scenario: Scenario, registry: Served
) -> None:
    words = ("run", scenario(SMALL), "--registry", registry.url, "--prefix", "try/one", "--format", "json")
    first = regsim(*words, "--keep")
    assert first.code == 0
    assert regsim("layers", f"{registry.host}/try/one/shop/api:v2").code == 0
    # Nothing is new to the second one, which therefore has nothing to delete.
    second = regsim(*words)
    assert {outcome for _, outcome in outcomes(second.json)[0]} == {"exists"}
    assert second.code == 1
    assert regsim("layers", f"{registry.host}/try/one/shop/api:v2").code == 0


def test_a_new_tag_on_what_was_there_is_all_that_is_deleted(
    regsim: Regsim, scenario: Scenario, registry: Served
) -> None:
    words = ("--registry", registry.url, "--prefix", "try", "--set", "checks=[]", "--format", "json")
    regsim("run", scenario(SMALL), *words, "--keep")
    text = SMALL.replace("shop/api:v1", "shop/api:other").replace("shop/api:v2", "shop/api:another")
    done = regsim("run", scenario(text.replace("expect: {transferred: 3}", "")), *words)
    assert [entry["outcome"] for entry in done.json["transfers"][0]["entries"]][:2] == [
        "transferred",
        "exists",
    ]
    assert "left behind" not in done.err
    assert regsim("layers", f"{registry.host}/try/shop/api:v1").code == 0
    assert regsim("layers", f"{registry.host}/try/shop/api:other").code == 3


def test_what_a_registry_does_not_let_be_deleted_is_told(
    regsim: Regsim, scenario: Scenario, serve: Serve
) -> None:
    registry = serve(MockRegistry(delete=False))
    done = regsim("run", scenario(SMALL), "--registry", registry.url)
    assert done.code == 0
    assert done.err.splitlines()[-1].startswith("left behind in regsim-")
    assert "405" in done.err.splitlines()[-1]


def test_a_dry_run_against_a_running_registry_only_asks(
    regsim: Regsim, scenario: Scenario, registry: Served
) -> None:
    done = regsim("run", scenario(SMALL), "--registry", registry.url, "--dry-run", "--format", "json")
    assert done.code == 0
    assert done.json["mode"] == "plan"
    assert {record.method for record in registry.journal} <= {"HEAD", "GET"}
    assert registry.registry.repositories == ()


def test_mock_may_be_said_aloud_and_take_a_prefix(regsim: Regsim, scenario: Scenario) -> None:
    done = regsim("run", scenario(SMALL), "--registry", "mock", "--prefix", "a/b", "--format", "json")
    assert done.code == 0
    assert done.json["reconciliation"]["matched"] is True


# Negative controls: accounts that do not agree.


def run_with(monkeypatch: pytest.MonkeyPatch, journal: type[Journal]) -> None:
    """Let the registry of a run keep another journal."""
    monkeypatch.setattr(
        "regsim.scenario.wire_world.MockRegistry", lambda **_: MockRegistry(journal=journal())
    )


def altered(record: Record, **changes: Any) -> Record:
    return Record(**{name: getattr(record, name) for name in record.__slots__} | changes)


class Miscounting(Journal):
    """Counts one octet too many of the first blob that it is given."""

    done = False

    def append(self, record: Record) -> None:
        if record.method == "PUT" and record.bytes_in > 10_000 and not self.done:
            self.done = True
            record = altered(record, bytes_in=record.bytes_in + 1)
        super().append(record)


class Forgetful(Journal):
    """Does not note the first question about a blob."""

    done = False

    def append(self, record: Record) -> None:
        if record.method == "HEAD" and record.route == "blob" and not self.done:
            self.done = True
        else:
            super().append(record)


def assert_difference(done: Outcome, words: Iterable[str]) -> None:
    """Check that the run ends in 5, and that the difference is named everywhere."""
    assert done.code == 5
    (error,) = [line for line in done.errors if line.startswith("Error: ")]
    assert error.startswith("Error: the accounts do not agree: ")
    result = done.json
    assert result["reconciliation"]["matched"] is False
    assert all(word in " ".join(result["reconciliation"]["differences"]) for word in words)
    assert result["reconciliation"]["differences"][0] in error


def test_a_registry_that_miscounts_one_octet_is_found_out(
    regsim: Regsim, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_with(monkeypatch, Miscounting)
    path = scenario(SMALL)
    assert_difference(
        regsim("run", path, "--format", "json"), ["sent, sha256:", "ledger 20,000 bytes, journal 20,001"]
    )
    text = regsim("run", path, "-q")
    assert text.out.splitlines()[-1].endswith("; NOT reconciled: 1 difference.")
    assert any(line.startswith("Difference: sent, sha256:") for line in text.out.splitlines())


def test_a_registry_that_forgets_a_request_is_found_out(
    regsim: Regsim, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_with(monkeypatch, Forgetful)
    assert_difference(regsim("run", scenario(SMALL), "--format", "json"), ["requests, in all: "])


def test_a_client_that_hides_a_retry_is_found_out(
    regsim: Regsim, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Repository.has_blob
    hidden: list[Account] = []

    async def asking_twice(conversation: Any, descriptor: Any, account: Account, **more: Any) -> bool:
        if not hidden:
            hidden.append(Account())
            await ask(conversation, descriptor, hidden[0], **more)
        return await ask(conversation, descriptor, account, **more)

    monkeypatch.setattr(Repository, "has_blob", asking_twice)
    assert_difference(regsim("run", scenario(SMALL), "--format", "json"), ["requests, in all: "])
    assert [account.requests for account in hidden] == [1]


@pytest.mark.parametrize("flag", [None, "--model", "--dry-run"])
def test_an_entry_dropped_from_the_ledger_is_found_out_in_every_mode(
    regsim: Regsim, scenario: Scenario, monkeypatch: pytest.MonkeyPatch, flag: str | None
) -> None:
    def dropping(*arguments: Any, **more: Any) -> Any:
        return entries(*arguments, **more)[:-1]

    def dropping_of_model(transfer: ModelTransfer) -> Ledger:
        ledger = run(transfer)
        return replace(ledger, entries=ledger.entries[:-1])

    run = ModelTransfer.run
    monkeypatch.setattr("regsim.transfer.copy.entries", dropping)
    monkeypatch.setattr("regsim.transfer.model.ModelTransfer.run", dropping_of_model)
    path = scenario("images: {base: {layers: [20kB, 4kB]}}\nsteps:\n  - push: {image: base, to: app}\n")
    done = regsim("run", path, *filter(None, [flag]), "--format", "json")
    assert_difference(done, ["references: 4 but sum over outcomes: 3"])


def test_an_entry_dropped_from_a_push_is_found_out_without_a_second_account(
    regsim: Regsim, layout: Layout, registry: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regsim.transfer.copy.entries", lambda *each, **more: entries(*each, **more)[1:])
    done = regsim("push", f"{layout}:v1", f"{registry.host}/app:1", "--format", "json")
    assert_difference(done, ["references: 5 but sum over outcomes: 4"])
