"""The ledger's sums and its laws, each with a control that breaks it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from regsim.core import Digest, Role, media_types
from regsim.core.account import Account, Retry
from regsim.core.ledger import (
    EMPTY,
    Direction,
    Entry,
    Evidence,
    Ledger,
    Outcome,
    Summary,
    Tally,
    summarise,
    violations,
)
from regsim.errors import NetworkError
from tests.transfer.shop import lawful

FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"


def entry(name: str = "base", **fields: Any) -> Entry:
    """Return a layer of 100 bytes that was uploaded, but for what `fields` say."""
    standard = Entry(
        digest=Digest.of(name.encode()),
        size=100,
        media_type=media_types.OCI_LAYER_GZIP,
        role=Role.LAYER,
        direction=Direction.PUSH,
        outcome=Outcome.TRANSFERRED,
        evidence=Evidence.UPLOAD,
        wire_sent=100,
        requests=3,
        attempts=1,
    )
    return lawful(replace(standard, **fields))


def without_cost(name: str, outcome: Outcome, evidence: Evidence | None = None, **fields: Any) -> Entry:
    return entry(name, outcome=outcome, evidence=evidence, wire_sent=0, requests=0, attempts=0, **fields)


MANIFEST = entry("image", role=Role.MANIFEST, media_type=media_types.OCI_MANIFEST, size=500, wire_sent=500)
NAME = f"layer {Digest.of(b'base').short}"
ENTRIES = (
    MANIFEST,
    without_cost("config", Outcome.EXISTS, Evidence.HEAD, role=Role.CONFIG, size=10),
    entry("base"),
    without_cost("base", Outcome.JOINED),
    without_cost("mounted", Outcome.MOUNTED, Evidence.CREATED, mounted_from="library/base", size=7),
    without_cost("windows", Outcome.FOREIGN, media_type=FOREIGN, size=5000),
    entry("retried", wire_sent=160, wasted_sent=60, overhead=17),
)


def changed(one: Entry, **fields: Any) -> Entry:
    return lawful(replace(one, **fields))


def push_of(*entries: Entry, **fields: Any) -> Ledger:
    referenced = Tally(len(entries), sum(each.size for each in entries))
    standard = Ledger(
        direction=Direction.PUSH,
        reference="shop/api:v1",
        sends=True,
        receives=False,
        entries=entries,
        referenced=referenced,
    )
    return replace(standard, **fields)


# Sums.


@pytest.mark.parametrize(
    ("from_registry", "to_registry", "direction"),
    [(False, True, "push"), (True, False, "pull"), (True, True, "copy"), (False, False, "copy")],
)
def test_direction_is_told_by_which_ends_are_registries(
    from_registry: bool, to_registry: bool, direction: str
) -> None:
    assert Direction.between(from_registry=from_registry, to_registry=to_registry) == direction


def test_summary_adds_up_counts_and_bytes_by_outcome() -> None:
    summary = summarise(ENTRIES)
    assert summary.by_outcome == {
        Outcome.TRANSFERRED: Tally(3, 700),
        Outcome.EXISTS: Tally(1, 10),
        Outcome.MOUNTED: Tally(1, 7),
        Outcome.JOINED: Tally(1, 100),
        Outcome.INLINED: Tally(),
        Outcome.FOREIGN: Tally(1, 5000),
        Outcome.FAILED: Tally(),
    }
    assert summary.referenced == Tally(7, 5817)
    assert summary.transferred == Tally(3, 700)
    assert summary.saved == Tally(3, 117)
    assert summary.saved_ratio == 117 / 5817
    assert (summary.wire_sent, summary.wire_received, summary.wasted) == (760, 0, 60)
    assert (summary.requests, summary.overhead) == (9, 17)


def test_summary_has_the_same_sums_over_layers_alone() -> None:
    layers = summarise(ENTRIES).layers
    assert layers is not None
    assert layers.referenced == Tally(5, 5307)
    assert layers.saved == Tally(2, 107)
    assert layers.wire_sent == 260
    assert layers.layers is None


def test_nothing_referenced_is_nothing_saved() -> None:
    assert EMPTY.saved_ratio == 0.0
    assert EMPTY.referenced == Tally()


def test_summary_of_outcomes_alone_costs_nothing() -> None:
    assert replace(EMPTY, layers=None) == Summary(by_outcome=EMPTY.by_outcome)


def test_summaries_add_up_and_are_multiplied_by_the_nodes_that_they_stand_for() -> None:
    one, other = summarise(ENTRIES[:3]), summarise(ENTRIES[3:])
    assert one + other == summarise(ENTRIES)
    assert one * 3 == one + one + one
    assert (EMPTY + one).layers == one.layers


def test_layers_are_only_added_where_both_have_them() -> None:
    bare = replace(summarise(ENTRIES), layers=None)
    assert (bare + summarise(ENTRIES)).layers is None
    assert (summarise(ENTRIES) + bare).layers is None
    assert (bare * 2).layers is None


def test_ledger_without_entries_still_tells_what_resolving_cost() -> None:
    resolving = Account(requests=2, received=40, overhead=9)
    summary = push_of(resolving=resolving).summary
    assert (summary.requests, summary.wire_received, summary.wasted, summary.overhead) == (2, 40, 40, 9)
    assert push_of(*ENTRIES).summary == summarise(ENTRIES)


def test_what_resolving_cost_is_added_to_what_the_entries_did() -> None:
    received = entry("x", wire_received=5, wasted_received=5)
    summary = push_of(received, resolving=Account(requests=2, received=40, overhead=9)).summary
    assert (summary.requests, summary.wire_received, summary.wasted, summary.overhead) == (5, 45, 45, 9)


# JSON.


def test_entry_is_written_with_the_keys_of_the_format() -> None:
    document = entry(wasted_sent=2, wasted_received=3, created_by="RUN make").to_json()
    assert document == {
        "digest": str(Digest.of(b"base")),
        "size": 100,
        "media_type": media_types.OCI_LAYER_GZIP,
        "role": "layer",
        "direction": "push",
        "outcome": "transferred",
        "evidence": "upload",
        "mounted_from": None,
        "wire_sent": 100,
        "wire_received": 0,
        "wasted": 5,
        "wasted_sent": 2,
        "wasted_received": 3,
        "overhead": 0,
        "resumed": 0,
        "attempts": 1,
        "requests": 3,
        "retries": [],
        "losses": [{"reason": "failed", "wasted": 5}],
        "created_by": "RUN make",
        "recorded_digest": None,
    }


def test_summary_is_written_with_the_keys_of_the_format() -> None:
    document = summarise(ENTRIES).to_json()
    layers = document.pop("layers")
    assert document == {
        "referenced": {"count": 7, "bytes": 5817},
        "transferred": {"count": 3, "bytes": 700},
        "saved": {"count": 3, "bytes": 117},
        "saved_ratio": 0.020113,
        "wire": {"sent": 760, "received": 0},
        "wasted_bytes": 60,
        "overhead": 17,
        "resumed_bytes": 0,
        "requests": 9,
        "retries": 0,
        "by_outcome": {
            "transferred": {"count": 3, "bytes": 700},
            "exists": {"count": 1, "bytes": 10},
            "mounted": {"count": 1, "bytes": 7},
            "joined": {"count": 1, "bytes": 100},
            "inlined": {"count": 0, "bytes": 0},
            "foreign": {"count": 1, "bytes": 5000},
            "failed": {"count": 0, "bytes": 0},
        },
    }
    assert layers.keys() == document.keys()
    assert layers["referenced"] == {"count": 5, "bytes": 5307}


def test_summary_of_layers_has_no_layers_of_its_own() -> None:
    summary: Summary = summarise(ENTRIES)
    assert summary.layers is not None
    assert "layers" not in summary.layers.to_json()


# Laws.


def test_lawful_ledger_has_no_violations() -> None:
    assert violations(push_of(*ENTRIES)) == []
    assert violations(push_of()) == []


def test_lost_entry_is_found_by_count_and_by_bytes() -> None:
    ledger = push_of(*ENTRIES)
    for position in range(len(ENTRIES)):
        rest = ENTRIES[:position] + ENTRIES[position + 1 :]
        found = violations(replace(ledger, entries=rest))
        assert "references: 7 but sum over outcomes: 6" in found
        missing = 5817 - ENTRIES[position].size
        assert f"referenced bytes: 5,817 but sum over outcomes: {missing:,}" in found


def test_push_sends_the_sizes_of_what_it_transfers_and_what_it_wastes() -> None:
    short = entry(wire_sent=99)
    assert violations(push_of(short)) == [f"{NAME}: sent: 99 but useful + wasted: 100"]
    wasteful = entry(wire_sent=150, wasted_sent=50)
    assert violations(push_of(wasteful)) == []
    resumed = entry(wire_sent=30, resumed=70)
    assert violations(push_of(resumed)) == []


def test_pull_receives_the_sizes_of_what_it_transfers_and_what_it_wastes() -> None:
    pulled = entry(direction=Direction.PULL, evidence=Evidence.DOWNLOAD, wire_sent=0, wire_received=100)
    ledger = push_of(pulled, direction=Direction.PULL, sends=False, receives=True)
    assert violations(ledger) == []
    wrong = replace(pulled, wire_received=101)
    assert violations(replace(ledger, entries=(wrong,))) == [
        f"{NAME}: received: 101 but useful + wasted: 100"
    ]


def test_copy_obeys_the_law_on_both_sides() -> None:
    copied = entry(direction=Direction.COPY, wire_received=100)
    ledger = push_of(copied, direction=Direction.COPY, sends=True, receives=True)
    assert violations(ledger) == []
    for side in ("wire_sent", "wire_received"):
        wrong = changed(copied, **{side: 0})
        assert violations(replace(ledger, entries=(wrong,))) == [
            f"{NAME}: {side.removeprefix('wire_')}: 0 but useful + wasted: 100"
        ]


def test_what_a_push_reads_from_a_registry_is_wasted() -> None:
    assert violations(push_of(entry(wire_received=1, wasted_received=1))) == []
    assert violations(push_of(entry(wire_received=1))) == [f"{NAME}: received: 1 but useful + wasted: 0"]


@pytest.mark.parametrize("side", ["sent", "received"])
@pytest.mark.parametrize("error", [1, -1])
def test_useful_octets_are_those_of_what_is_transferred(side: str, error: int) -> None:
    copied = entry(direction=Direction.COPY, wire_received=100)
    moved: dict[str, Any] = {f"wire_{side}": 100 + error, f"useful_{side}": 100 + error}
    wrong = push_of(replace(copied, **moved), direction=Direction.COPY, receives=True)
    assert violations(wrong) == [f"{NAME}: useful {side}: {100 + error} but transferred - resumed: 100"]


def test_nothing_is_useful_on_the_side_of_a_store() -> None:
    read = replace(entry(wire_received=100), useful_received=100)
    assert violations(push_of(read)) == [f"{NAME}: useful received: 100 but transferred - resumed: 0"]


def test_wasted_octets_are_those_that_retries_and_losses_give_a_reason_for() -> None:
    retried = entry(wire_sent=150, wasted_sent=50, retries=(Retry("503", wasted=30),))
    assert violations(push_of(retried)) == []
    silent = replace(retried, losses=())
    assert violations(push_of(silent)) == [f"{NAME}: wasted: 50 but retries and losses: 30"]


@pytest.mark.parametrize("figure", ["wasted_sent", "wasted_received", "resumed"])
def test_no_figure_is_below_zero(figure: str) -> None:
    name = Digest.of(b"base").short
    assert f"layer {name}: {figure} is -5" in violations(push_of(changed(entry(), **{figure: -5})))


EVIDENCE_OF: dict[Outcome, set[str | None]] = {
    Outcome.TRANSFERRED: {"upload", "download", "stored", "mount-refused"},
    Outcome.EXISTS: {"head", "manifest", "local", "chain"},
    Outcome.MOUNTED: {"201", "assumed"},
    Outcome.JOINED: {None},
    Outcome.INLINED: {None},
    Outcome.FOREIGN: {None},
    Outcome.FAILED: {"error", "blocked", "cancelled"},
}


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("evidence", [*Evidence, None])
def test_each_outcome_is_known_by_evidence_of_its_own(outcome: Outcome, evidence: Evidence | None) -> None:
    name = Digest.of(b"base").short
    broken = f"layer {name}: {outcome} by {evidence}" in violations(
        push_of(entry(outcome=outcome, evidence=evidence))
    )
    assert broken is (evidence not in EVIDENCE_OF[outcome])


def test_mounted_says_where_from_and_nothing_else_does() -> None:
    name = Digest.of(b"base").short
    nowhere = without_cost("base", Outcome.MOUNTED, Evidence.CREATED)
    assert violations(push_of(nowhere)) == [f"layer {name}: mounted from None"]
    somewhere = entry(mounted_from="library/base")
    assert violations(push_of(somewhere)) == [f"layer {name}: transferred from library/base"]


def test_foreign_is_what_its_media_type_says() -> None:
    name = Digest.of(b"base").short
    claimed = without_cost("base", Outcome.FOREIGN)
    assert violations(push_of(claimed)) == [
        f"layer {name}: foreign, though it is {media_types.OCI_LAYER_GZIP}"
    ]
    moved = entry(media_type=FOREIGN)
    assert violations(push_of(moved)) == [f"layer {name}: transferred, though it is {FOREIGN}"]


def test_joined_needs_something_to_join() -> None:
    name = Digest.of(b"base").short
    alone = without_cost("base", Outcome.JOINED)
    assert violations(push_of(alone)) == [f"layer {name}: joined, and no reference before it"]


@pytest.mark.parametrize(
    "first",
    [
        entry("base"),
        without_cost("base", Outcome.MOUNTED, Evidence.CREATED, mounted_from="library/base"),
    ],
)
def test_later_reference_joins_what_was_moved(first: Entry) -> None:
    assert violations(push_of(first, without_cost("base", Outcome.JOINED))) == []
    found = violations(push_of(first, without_cost("base", Outcome.EXISTS, Evidence.HEAD)))
    assert found == [f"layer {Digest.of(b'base').short}: exists behind {first.outcome}"]


def test_later_reference_repeats_what_was_not_moved() -> None:
    first = without_cost("base", Outcome.EXISTS, Evidence.HEAD)
    assert violations(push_of(first, first)) == []
    found = violations(push_of(first, without_cost("base", Outcome.JOINED)))
    assert found == [f"layer {Digest.of(b'base').short}: joined behind exists"]


@pytest.mark.parametrize("cost", ["requests", "overhead"])
def test_later_reference_costs_nothing(cost: str) -> None:
    later = changed(without_cost("base", Outcome.JOINED), **{cost: 1})
    name = Digest.of(b"base").short
    assert violations(push_of(entry(), later)) == [f"layer {name}: a later reference, and yet it has costs"]


def test_later_reference_moves_no_bytes() -> None:
    for cost in ("sent", "received"):
        later = changed(without_cost("base", Outcome.JOINED), **{f"wire_{cost}": 1, f"wasted_{cost}": 1})
        assert len(violations(push_of(entry(), later))) == 1


def test_config_and_layer_of_one_digest_are_one_blob_and_a_manifest_is_not() -> None:
    config = entry(role=Role.CONFIG, media_type=media_types.OCI_CONFIG)
    assert violations(push_of(config, without_cost("base", Outcome.JOINED))) == []
    manifest = entry(role=Role.MANIFEST, media_type=media_types.OCI_MANIFEST)
    assert violations(push_of(manifest, entry())) == []
    assert len(violations(push_of(config, entry()))) == 2


def test_foreign_reference_is_nobody_elses_first_one() -> None:
    foreign = without_cost("base", Outcome.FOREIGN, media_type=FOREIGN)
    assert violations(push_of(foreign, entry(), foreign, without_cost("base", Outcome.JOINED))) == []


def test_failed_ledger_obeys_the_laws_too() -> None:
    failed = entry(outcome=Outcome.FAILED, evidence=Evidence.ERROR, wire_sent=30, wasted_sent=30)
    assert violations(push_of(failed, error=NetworkError("the connection broke"))) == []
