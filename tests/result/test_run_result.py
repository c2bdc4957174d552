"""What a run came to: sums, the worst of all errors, and the keys of the JSON form."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest

from regsim.core import Digest, Role, media_types
from regsim.core.ledger import Direction, Entry, Evidence, Ledger, Outcome, Tally
from regsim.core.result import SCHEMA_VERSION, CheckResult, Mode, Reconciliation, RunResult, TransferResult
from regsim.errors import (
    ContentError,
    ExitCode,
    LocalFileError,
    NetworkError,
    NotFoundError,
    RegistryError,
    RegsimError,
    UsageError,
)

LAYER = Entry(
    digest=Digest.of(b"base"),
    size=100,
    media_type=media_types.OCI_LAYER_GZIP,
    role=Role.LAYER,
    direction=Direction.PUSH,
    outcome=Outcome.TRANSFERRED,
    evidence=Evidence.UPLOAD,
    wire_sent=100,
    useful_sent=100,
    requests=3,
)
LEDGER = Ledger(
    direction=Direction.PUSH,
    reference="shop/api:v1",
    sends=True,
    receives=False,
    digest=Digest.of(b"base"),
    entries=(LAYER,),
    referenced=Tally(1, 100),
    unselected=2,
    seconds=0.12345678,
)
PASSED = CheckResult(expression="transferred == 1", step=1, passed=True, actual=1)
FAILED = CheckResult(expression="transferred == 2", step=1, passed=False, actual=1)


def transfer(error: RegsimError | None = None, **fields: Any) -> TransferResult:
    return TransferResult(ledger=replace(LEDGER, error=error), **fields)


# Sums.


def test_run_adds_up_its_transfers_and_each_stands_for_as_many_nodes_as_its_weight() -> None:
    result = RunResult(transfers=(transfer(), transfer(weight=3)))
    assert result.transfers[1].summary.referenced == Tally(3, 300)
    assert result.summary.transferred == Tally(4, 400)
    assert result.summary.wire_sent == 400
    assert result.summary.layers is not None
    assert result.summary.layers.requests == 12


def test_run_without_transfers_is_empty_and_well() -> None:
    assert RunResult().summary.referenced == Tally()
    assert RunResult().exit_code is ExitCode.OK


# Exit codes.


WORST_FIRST: tuple[tuple[ExitCode, dict[str, Any]], ...] = (
    (ExitCode.INTERRUPTED, {"interrupted": True}),
    (ExitCode.BUG, {"error": RegsimError("a bug")}),
    (ExitCode.CONTENT, {"reconciliation": Reconciliation(matched=False, differences=("sent: …",))}),
    (ExitCode.LOCAL_FILES, {"transfers": (transfer(LocalFileError("disk full")),)}),
    (ExitCode.REGISTRY, {"transfers": (transfer(RegistryError("refused")),)}),
    (ExitCode.NETWORK, {"transfers": (transfer(NetworkError("reset")),)}),
    (ExitCode.CHECK_FAILED, {"checks": (PASSED, FAILED)}),
)


@pytest.mark.parametrize(("code", "fields"), WORST_FIRST, ids=lambda value: str(value)[:20])
def test_everything_that_goes_wrong_has_its_exit_code(code: ExitCode, fields: dict[str, Any]) -> None:
    assert RunResult(**fields).exit_code is code


@pytest.mark.parametrize(
    ("worse", "better"), list(combinations(WORST_FIRST, 2)), ids=lambda each: each[0].name.lower()
)
def test_worst_exit_code_wins(
    worse: tuple[ExitCode, dict[str, Any]], better: tuple[ExitCode, dict[str, Any]]
) -> None:
    (code, fields), (_, more) = worse, better
    both = {**more, **fields, "transfers": (*more.get("transfers", ()), *fields.get("transfers", ()))}
    assert RunResult(**both).exit_code is code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFoundError("gone"), ExitCode.REGISTRY),
        (ContentError("forged"), ExitCode.CONTENT),
        (UsageError("odd"), ExitCode.USAGE),
    ],
)
def test_error_of_the_run_counts_like_one_of_a_transfer(error: RegsimError, code: ExitCode) -> None:
    assert RunResult(error=error).exit_code is code
    assert RunResult(transfers=(transfer(error),)).exit_code is code


def test_error_that_was_wanted_is_none() -> None:
    wanted = transfer(NotFoundError("gone"), expected_error=True)
    assert RunResult(transfers=(wanted,)).exit_code is ExitCode.OK
    unwanted = transfer(NetworkError("reset"))
    assert RunResult(transfers=(wanted, unwanted)).exit_code is ExitCode.NETWORK


def test_errors_are_told_with_the_one_that_stopped_the_run_first() -> None:
    first, second, wanted = NetworkError("reset"), RegistryError("refused"), NotFoundError("gone")
    transfers = (transfer(), transfer(second), transfer(wanted, expected_error=True))
    assert RunResult(error=first, transfers=transfers).errors == (first, second)
    assert RunResult(transfers=transfers[:1]).errors == ()


@pytest.mark.parametrize("matched", [True, None])
def test_accounts_that_agree_or_stand_alone_are_well(matched: bool | None) -> None:
    result = RunResult(checks=(PASSED,), reconciliation=Reconciliation(matched=matched))
    assert result.exit_code is ExitCode.OK


# Accounts without a second one.


def test_ledgers_alone_are_judged_by_their_own_laws() -> None:
    assert Reconciliation.alone([LEDGER]) == Reconciliation(matched=None)
    broken = replace(LEDGER, referenced=Tally(2, 100))
    assert Reconciliation.alone([LEDGER, broken]) == Reconciliation(
        matched=False,
        differences=("push shop/api:v1: references: 2 but sum over outcomes: 1",),
    )


# JSON.


def test_result_has_every_key_of_the_format() -> None:
    result = RunResult(
        scenario="shared-base",
        description="What does the second release move?",
        seed=7,
        transfers=(transfer(step=2, step_name="release", node="edge-3", weight=4, image="api:v1"),),
        checks=(FAILED,),
        reconciliation=Reconciliation(matched=True),
    )
    document = result.to_json()
    assert document["schema_version"] == SCHEMA_VERSION == "1"
    assert (document["scenario"], document["seed"], document["mode"]) == ("shared-base", 7, "wire")
    assert document["description"] == "What does the second release move?"
    assert document["summary"] == result.summary.to_json()
    assert document["checks"] == [{"expression": "transferred == 2", "step": 1, "passed": False, "actual": 1}]
    assert document["reconciliation"] == {"matched": True, "differences": []}
    assert (document["error"], document["interrupted"]) == (None, False)
    [written] = document["transfers"]
    assert written == {
        "step": 2,
        "step_name": "release",
        "node": "edge-3",
        "weight": 4,
        "direction": "push",
        "reference": "shop/api:v1",
        "image": "api:v1",
        "digest": LEDGER.digest,
        "unselected": 2,
        "summary": (LEDGER.summary * 4).to_json(),
        "entries": [LAYER.to_json()],
        "seconds": {"measured": 0.123457},
        "error": None,
    }


def test_summary_and_entry_have_every_key_of_the_format() -> None:
    document = RunResult(transfers=(transfer(),)).to_json()
    summary = {
        "referenced",
        "transferred",
        "saved",
        "saved_ratio",
        "wire",
        "wasted_bytes",
        "overhead",
        "resumed_bytes",
        "requests",
        "retries",
        "by_outcome",
    }
    assert document["summary"].keys() == summary | {"layers"}
    assert document["summary"]["layers"].keys() == summary
    assert document["summary"]["by_outcome"].keys() == set(Outcome)
    # DESIGN 5 lists these; more may stand beside them.
    assert document["transfers"][0]["entries"][0].keys() >= {
        "digest",
        "size",
        "media_type",
        "role",
        "direction",
        "outcome",
        "evidence",
        "mounted_from",
        "wire_sent",
        "wire_received",
        "wasted",
        "resumed",
        "attempts",
        "requests",
        "created_by",
        "recorded_digest",
    }


@pytest.mark.parametrize(
    ("mode", "seconds"),
    [(Mode.WIRE, {"measured": 0.123457}), (Mode.PLAN, {"predicted": 0.123457}), (Mode.MODEL, {})],
)
def test_time_is_measured_on_the_wire_and_told_of_no_model(mode: Mode, seconds: dict[str, float]) -> None:
    [written] = RunResult(mode=mode, transfers=(transfer(),)).to_json()["transfers"]
    assert written["seconds"] == seconds


def test_errors_are_written_with_hint_and_exit_code() -> None:
    error = RegistryError("refused", hint="log in")
    written = {"message": "refused", "hint": "log in", "exit_code": 3}
    document = RunResult(error=error, transfers=(transfer(error),)).to_json()
    assert document["error"] == written
    assert document["transfers"][0]["error"] == written
    assert type(document["error"]["exit_code"]) is int
