"""The text report, line by line."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from regsim.core import Digest, Role, media_types
from regsim.core.ledger import Direction, Entry, Evidence, Ledger, Outcome, Tally
from regsim.core.result import CheckResult, Mode, Reconciliation, RunResult, TransferResult
from regsim.errors import NetworkError, NotFoundError
from regsim.report.text import headline, render


def entry(name: str, outcome: Outcome, evidence: Evidence | None, **fields: Any) -> Entry:
    standard = Entry(
        digest=Digest.of(name.encode()),
        size=28_000_000,
        media_type=media_types.OCI_LAYER_GZIP,
        role=Role.LAYER,
        direction=Direction.PUSH,
        outcome=outcome,
        evidence=evidence,
    )
    return replace(standard, **fields)


IMAGE = entry(
    "image",
    Outcome.TRANSFERRED,
    Evidence.UPLOAD,
    role=Role.MANIFEST,
    size=855,
    wire_sent=855,
    requests=3,
)
CONFIG = entry("config", Outcome.TRANSFERRED, Evidence.UPLOAD, role=Role.CONFIG, size=322, wire_sent=322)
BASE = entry(
    "base", Outcome.MOUNTED, Evidence.CREATED, mounted_from="library/base", created_by="ADD rootfs.tar /"
)
TOP = entry(
    "top",
    Outcome.TRANSFERRED,
    Evidence.UPLOAD,
    size=1_400_000,
    wire_sent=1_400_000,
    created_by="COPY   .\t.\n",
    requests=3,
)
WINDOWS = entry("windows", Outcome.FOREIGN, None, size=4)


def ledger_of(*entries: Entry, **fields: Any) -> Ledger:
    standard = Ledger(
        direction=Direction.PUSH,
        reference="shop/api:v2",
        sends=True,
        receives=False,
        entries=entries,
        referenced=Tally(len(entries), sum(each.size for each in entries)),
    )
    return replace(standard, **fields)


PUSH = ledger_of(IMAGE, CONFIG, BASE, TOP, WINDOWS)
MATCHED = Reconciliation(matched=True)


def lines_of(result: RunResult) -> list[str]:
    text = render(result)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    return text.splitlines()


def run(*transfers: TransferResult, **fields: Any) -> RunResult:
    standard = RunResult(transfers=transfers, reconciliation=MATCHED)
    return replace(standard, **fields)


def short(name: str) -> str:
    return Digest.of(name.encode()).short


def test_single_transfer_is_a_table_its_sums_a_total_and_one_headline() -> None:
    assert lines_of(run(TransferResult(ledger=PUSH))) == [
        "push shop/api:v2",
        "  digest         size  outcome      evidence               created by",
        f"  {short('image')}   855B  transferred  upload                 (manifest)",
        f"  {short('config')}   322B  transferred  upload                 (config)",
        f"  {short('base')}   28MB  mounted      201 from library/base  ADD rootfs.tar /",
        f"  {short('top')}  1.4MB  transferred  upload                 COPY . .",
        f"  {short('windows')}     4B  foreign                             (layer)",
        "  layers: 1 transferred (1.4MB), 1 mounted (28MB), 1 foreign (4B); sent 1,401,177 bytes",
        "",
        (
            "Total: 5 references (3 transferred, 1 mounted, 1 foreign) in 6 requests; "
            "sent 1,401,177 bytes, received 0 bytes."
        ),
        (
            "Layers: moved 1,400,000 bytes, saved 28,000,000 bytes of 29,400,004 (95.2 %); "
            "reconciled with the registry's journal."
        ),
    ]


def test_scenario_names_itself_its_question_its_steps_and_its_checks() -> None:
    result = run(
        TransferResult(ledger=PUSH, step=2, step_name="release", node="ci", image="api:v2"),
        scenario="shared-base",
        description="What does the second\nrelease move?",
        seed=7,
        checks=(
            CheckResult(expression="transferred == 1", step=2, passed=True, actual=1),
            CheckResult(expression="mounted == 2", step=2, passed=False, actual=1),
            CheckResult(expression="saved_ratio(step 2) >= 0.9", step=2, passed=True, actual=0.95),
            CheckResult(expression="saved_ratio >= 0.99", step=None, passed=False, actual=0.95),
        ),
    )
    lines = lines_of(result)
    assert lines[:4] == [
        "shared-base (wire, seed 7)",
        "What does the second release move?",
        "",
        "Step 2 release: push api:v2 to shop/api:v2, node ci",
    ]
    assert lines[-6:-2] == [
        "Check ok     step 2: transferred == 1",
        "Check FAILED step 2: mounted == 2 (found 1)",
        "Check ok     saved_ratio(step 2) >= 0.9",
        "Check FAILED saved_ratio >= 0.99 (found 0.95)",
    ]


def title(*transfers: TransferResult) -> list[str]:
    lines = lines_of(run(*transfers, scenario="cold-vs-warm", seed=1))
    return [line for line in lines if line.startswith("Step")]


def test_like_nodes_of_one_step_share_a_table() -> None:
    edges = [TransferResult(ledger=PUSH, step=3, node=f"edge-{number}") for number in range(1, 21)]
    assert title(*edges) == ["Step 3: push shop/api:v2, 20 identical nodes, edge-1 to edge-20"]
    lines = lines_of(run(*edges, scenario="cold-vs-warm"))
    assert any(line.endswith("; sent 1,401,177 bytes each") for line in lines)
    assert any(line.startswith("Total: 100 references") for line in lines)


def test_node_that_stands_for_many_says_so() -> None:
    one = TransferResult(ledger=PUSH, node="edge-1", weight=5000)
    assert title(one) == ["Step 1: push shop/api:v2, node edge-1, for 5,000 identical nodes"]
    assert title(replace(one, node=None, weight=1)) == ["Step 1: push shop/api:v2, one node"]
    assert title(replace(one, node=None)) == ["Step 1: push shop/api:v2, one node, for 5,000 identical nodes"]


@pytest.mark.parametrize(
    "other",
    [
        TransferResult(ledger=PUSH, step=2),
        TransferResult(ledger=replace(PUSH, reference="shop/api:v3")),
        TransferResult(ledger=replace(PUSH, direction=Direction.COPY)),
        TransferResult(ledger=replace(PUSH, error=NetworkError("reset"))),
        TransferResult(ledger=ledger_of(IMAGE, CONFIG, BASE, WINDOWS)),
        TransferResult(ledger=ledger_of(IMAGE, CONFIG, BASE, replace(TOP, wasted_sent=1), WINDOWS)),
        TransferResult(
            ledger=ledger_of(
                IMAGE, CONFIG, replace(BASE, outcome=Outcome.EXISTS, evidence=Evidence.HEAD), TOP, WINDOWS
            )
        ),
        TransferResult(
            ledger=ledger_of(IMAGE, CONFIG, BASE, replace(TOP, evidence=Evidence.MOUNT_REFUSED), WINDOWS)
        ),
    ],
    ids=["step", "reference", "direction", "error", "entries", "wasted", "outcome", "evidence"],
)
def test_nodes_that_differ_have_tables_of_their_own(other: TransferResult) -> None:
    assert len(title(TransferResult(ledger=PUSH), other)) == 2


def test_only_neighbours_are_grouped() -> None:
    alike = TransferResult(ledger=PUSH, node="a")
    other = TransferResult(ledger=replace(PUSH, reference="shop/api:v3"), node="b")
    assert len(title(alike, other, alike)) == 3


def test_failure_is_told_in_one_line_and_one_that_was_wanted_says_so() -> None:
    failed = replace(PUSH, error=NotFoundError("shop/api:v9\ndoes not\x1b[31m exist"))
    assert "  Failed: shop/api:v9 does not?[31m exist" in lines_of(run(TransferResult(ledger=failed)))
    wanted = TransferResult(ledger=failed, expected_error=True)
    assert "  Failed (expected): shop/api:v9 does not?[31m exist" in lines_of(run(wanted))


def test_transfer_without_entries_has_no_table() -> None:
    assert lines_of(run(TransferResult(ledger=ledger_of())))[:2] == [
        "push shop/api:v2",
        "  no layers; sent 0 bytes",
    ]


@pytest.mark.parametrize(
    ("direction", "told"),
    [
        (Direction.PUSH, "sent 1,300 bytes"),
        (Direction.PULL, "received 1 byte"),
        (Direction.COPY, "received and sent 1 and 1,300 bytes"),
    ],
)
def test_wire_bytes_are_those_of_the_direction(direction: Direction, told: str) -> None:
    moved = replace(TOP, wire_sent=1300, wire_received=1)
    lines = lines_of(run(TransferResult(ledger=ledger_of(moved, direction=direction))))
    assert lines[3].endswith(f"; {told}")


def test_wasted_bytes_are_told() -> None:
    lines = lines_of(run(TransferResult(ledger=ledger_of(replace(TOP, wasted_sent=12, wasted_received=1)))))
    assert lines[3].endswith(", 13 bytes of them wasted")
    assert lines[-2].endswith(", 13 bytes wasted.")


def test_layer_that_stands_for_a_real_one_shows_the_digest_of_that() -> None:
    stand_in = replace(TOP, recorded_digest=Digest.of(b"the real one"))
    assert lines_of(run(TransferResult(ledger=ledger_of(stand_in))))[2].startswith(
        f"  {short('the real one')}"
    )


def test_long_instruction_is_cut_and_what_could_steer_a_terminal_is_not_shown() -> None:
    long = replace(TOP, created_by="RUN \x1b[2J" + "a" * 100)
    line = lines_of(run(TransferResult(ledger=ledger_of(long))))[2]
    assert line.endswith("RUN ?[2J" + "a" * 63 + "…")


def test_nothing_is_said_by_colour_alone() -> None:
    assert "\x1b" not in render(run(TransferResult(ledger=PUSH)))


def test_differences_are_listed_and_counted() -> None:
    broken = Reconciliation(matched=False, differences=("sent, a: …", "requests, b: …"))
    lines = lines_of(run(TransferResult(ledger=PUSH), reconciliation=broken))
    assert lines[-4:-2] == ["Difference: sent, a: …", "Difference: requests, b: …"]
    assert lines[-1].endswith("; NOT reconciled: 2 differences.")


def test_what_stopped_a_run_is_told_above_the_totals() -> None:
    lines = lines_of(run(error=NetworkError("no\nconnection"), interrupted=True))
    assert lines[:2] == ["Failed: no connection", "Interrupted: this is what had been done."]
    assert lines[2] == "Total: 0 references (none) in 0 requests; sent 0 bytes, received 0 bytes."


@pytest.mark.parametrize(
    ("mode", "verb", "reconciled"),
    [
        (Mode.WIRE, "moved", "there is no journal to reconcile with"),
        (Mode.MODEL, "would move", "a model only"),
        (Mode.PLAN, "would move", "a dry run only"),
    ],
)
def test_headline_says_how_the_run_was_done(mode: Mode, verb: str, reconciled: str) -> None:
    result = RunResult(transfers=(TransferResult(ledger=PUSH),), mode=mode)
    assert headline(result) == (
        f"Layers: {verb} 1,400,000 bytes, saved 28,000,000 bytes of 29,400,004 (95.2 %); {reconciled}."
    )


def test_headline_of_nothing_saves_nothing() -> None:
    assert headline(RunResult()).startswith("Layers: moved 0 bytes, saved 0 bytes of 0 (0.0 %)")
