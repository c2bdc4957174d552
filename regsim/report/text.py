"""The text report: a row for each entry, totals, and one headline.

A view of a result: it prints what the ledger says and computes nothing new.
"""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING

from regsim.core.ledger import Direction
from regsim.core.quantities import exact, number, percent, size
from regsim.core.result import Mode
from regsim.report.table import columns, instruction, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from regsim.core.ledger import Entry, Summary
    from regsim.core.result import CheckResult, ContainerResult, RunResult, TransferResult

_HEADINGS = ("digest", "size", "outcome", "evidence", "created by")
_RIGHT = frozenset({1})
_UNRECONCILED = {
    Mode.WIRE: "there is no journal to reconcile with",
    Mode.PLAN: "a dry run only",
    Mode.MODEL: "a model only",
}


def render(result: RunResult, *, width: int | None = None) -> str:
    """Return the report of one run, ending in a newline.

    Args:
        result: what is reported.
        width: of the terminal that tables are fitted to, in columns; None: a table has one line per row.
    """
    return "\n".join(_lines(result, width)) + "\n"


def headline(result: RunResult) -> str:
    """Return the line that says what moved, what was saved, and whether ledger and journal agree."""
    summary = result.summary.layers or result.summary
    verb = {Mode.WIRE: "moved", Mode.MODEL: "would move", Mode.PLAN: "would move"}[result.mode]
    return (
        f"Layers: {verb} {exact(summary.transferred.bytes)}, saved {exact(summary.saved.bytes)} "
        f"of {summary.referenced.bytes:,} ({percent(summary.saved_ratio)}); {_reconciled(result)}."
    )


def _lines(result: RunResult, width: int | None) -> Iterator[str]:
    if result.scenario is not None:
        yield f"{result.scenario} ({result.mode}, seed {result.seed})"
        if result.description:
            yield one_line(result.description)
        yield ""
    yield from _steps(result, width)
    yield from _checks(result)
    yield from (f"Difference: {difference}" for difference in result.reconciliation.differences)
    if result.error is not None:
        yield f"Failed: {one_line(result.error.message)}"
    if result.interrupted:
        yield "Interrupted: this is what had been done."
    yield _total(result.summary, result.mode)
    yield headline(result)
    yield from _pushed(result)


def _steps(result: RunResult, width: int | None) -> Iterator[str]:
    """Yield transfers as tables, and between them a line for each action on a container."""
    containers = list(result.containers)
    for alike in _alike(result.transfers):
        before = [each for each in containers if each.step < alike[0].step]
        yield from _containers(before)
        containers = containers[len(before) :]
        yield from _transfer(alike, result.mode, titled=result.scenario is not None, width=width)
        yield ""
    yield from _containers(containers)


def _containers(done: list[ContainerResult]) -> Iterator[str]:
    for each in done:
        name = f" {each.step_name}" if each.step_name else ""
        yield f"Step {each.step}{name}: {_action(each)}"
        if each.error is not None:
            expected = " (expected)" if each.expected_error else ""
            yield f"  Failed{expected}: {one_line(each.error.message)}"
        elif each.names is not None:
            yield f"  {one_line(', '.join(each.names) or 'nothing')}"
    if done:
        yield ""


def _action(each: ContainerResult) -> str:
    container = f"container {each.container}" + (f" on {each.node}" if each.node is not None else "")
    paths = one_line(", ".join(each.paths))
    copied = f", {exact(each.copied_up.bytes)} copied up" if each.copied_up.count else ""
    match each.action:
        case "create":
            return f"create {container} from {each.image}"
        case "commit" if each.committed is not None:
            layer = each.committed.layer
            added = (
                f"layer {layer.digest.short}, {exact(layer.size)}" if layer is not None else "no new layer"
            )
            return f"commit {container} as {each.committed.image}: {added}"
        case "write" | "remove" | "read" | "list":
            text = f"{each.action} {paths} in {container}"
        case action:
            text = f"{action} {container}"
    held = exact(each.writable.bytes)
    return text if each.action in {"rm", "read", "list"} else f"{text}; its own layer has {held}{copied}"


def _alike(transfers: Iterable[TransferResult]) -> Iterator[list[TransferResult]]:
    """Group neighbouring transfers of one step whose tables would be equal."""

    def shape(transfer: TransferResult) -> object:
        ledger = transfer.ledger
        rows = tuple(
            (each.digest, each.outcome, each.evidence, each.wasted, each.resumed, len(each.retries))
            for each in ledger.entries
        )
        return (transfer.step, ledger.direction, ledger.reference, rows, str(ledger.error))

    for _, group in groupby(transfers, key=shape):
        yield list(group)


def _transfer(alike: list[TransferResult], mode: Mode, *, titled: bool, width: int | None) -> Iterator[str]:
    first = alike[0]
    ledger = first.ledger
    if titled:
        name = f" {first.step_name}" if first.step_name else ""
        what = ledger.reference if first.image is None else f"{first.image} to {ledger.reference}"
        yield f"Step {first.step}{name}: {ledger.direction} {what}, {_who(alike)}"
    else:
        yield f"{ledger.direction} {ledger.reference}"
    rows = [_row(entry) for entry in ledger.entries]
    if rows:
        yield from columns([_HEADINGS, *rows], right=_RIGHT, width=width)
    if ledger.error is not None:
        expected = " (expected)" if first.expected_error else ""
        yield f"  Failed{expected}: {one_line(ledger.error.message)}"
    reasons = Counter(str(retry.reason) for entry in ledger.entries for retry in entry.retries)
    if reasons:
        yield f"  tried again: {', '.join(f'{reason} ({count})' for reason, count in reasons.items())}"
    each = " each" if len(alike) > 1 else ""
    summary = ledger.summary
    yield f"  {_outcomes(summary.layers or summary)}; {_wire(summary, ledger.direction, mode)}{each}"


def _who(alike: list[TransferResult]) -> str:
    nodes = [transfer.node for transfer in alike if transfer.node is not None]
    weight = sum(transfer.weight for transfer in alike)
    if weight == 1 or len(nodes) < 2:  # noqa: PLR2004  (two ends make a range)
        who = f"node {nodes[0]}" if nodes else "one node"
        return who if weight == 1 else f"{who}, for {weight:,} identical nodes"
    return f"{weight:,} identical nodes, {nodes[0]} to {nodes[-1]}"


def _row(entry: Entry) -> tuple[str, ...]:
    evidence = str(entry.evidence or "")
    if entry.mounted_from is not None:
        evidence = f"{evidence} from {entry.mounted_from}"
    shown = entry.recorded_digest or entry.digest
    origin = f"({entry.role})" if entry.created_by is None else instruction(entry.created_by)
    return (shown.short, size(entry.size), str(entry.outcome), evidence, origin)


def _outcomes(layers: Summary) -> str:
    parts = [
        f"{tally.count} {outcome} ({size(tally.bytes)})"
        for outcome, tally in layers.by_outcome.items()
        if tally.count
    ]
    return f"layers: {', '.join(parts)}" if parts else "no layers"


def _wire(summary: Summary, direction: Direction, mode: Mode) -> str:
    sent, received = _verbs(mode)
    moved = {
        Direction.PUSH: f"{sent} {exact(summary.wire_sent)}",
        Direction.PULL: f"{received} {exact(summary.wire_received)}",
        Direction.COPY: f"{received} and {sent.removeprefix('would ')} "
        f"{summary.wire_received:,} and {exact(summary.wire_sent)}",
    }[direction]
    wasted = f", {exact(summary.wasted)} of them wasted" if summary.wasted else ""
    kept = f", {exact(summary.resumed)} kept from an earlier run" if summary.resumed else ""
    return f"{moved}{wasted}{kept}"


def _verbs(mode: Mode) -> tuple[str, str]:
    return ("would send", "would receive") if mode is Mode.PLAN else ("sent", "received")


def _checks(result: RunResult) -> Iterator[str]:
    for check in result.checks:
        yield f"Check {'ok    ' if check.passed else 'FAILED'} {check_words(check)}"


def check_words(check: CheckResult) -> str:
    """Return what was checked, of which step unless it says so itself, and what was found if it failed."""
    where = "" if check.step is None or "(" in check.expression else f"step {check.step}: "
    found = "" if check.passed else f" (found {check.actual})"
    return f"{where}{check.expression}{found}"


def _total(summary: Summary, mode: Mode) -> str:
    outcomes = ", ".join(
        f"{tally.count} {outcome}" for outcome, tally in summary.by_outcome.items() if tally.count
    )
    waste = f", {exact(summary.wasted)} wasted" if summary.wasted else ""
    sent, received = _verbs(mode)
    return (
        f"Total: {number(summary.referenced.count, 'reference')} ({outcomes or 'none'}) "
        f"in {number(summary.requests, 'request')}; "
        f"{sent} {exact(summary.wire_sent)}, {received} {exact(summary.wire_received)}{waste}."
    )


def _pushed(result: RunResult) -> Iterator[str]:
    """Yield the reference, with its whole digest, of what a command has put into a registry."""
    if result.scenario is None and result.mode is Mode.WIRE and not result.errors:
        for ledger in (transfer.ledger for transfer in result.transfers):
            if ledger.sends and ledger.digest is not None:
                reference = ledger.reference.rpartition(" to ")[2]
                yield one_line(f"{reference.partition('@')[0]}@{ledger.digest}")


def _reconciled(result: RunResult) -> str:
    if result.reconciliation.matched is None:
        return _UNRECONCILED[result.mode]
    if result.reconciliation.matched:
        return "reconciled with the registry's journal"
    return f"NOT reconciled: {number(len(result.reconciliation.differences), 'difference')}"
