"""What a scenario expects: the words that can be measured, how they are compared, and the verdicts.

Owns the grammar `METRIC[(step N | step NAME | image)] OP NUMBER[unit]`, which is parsed and never evaluated
as code, and the vocabulary of metrics. Must not know where figures come from: they are read through
`Figures`, which the runner fills from a result.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, TypeAlias

from regsim.core.ledger import EMPTY, Outcome
from regsim.core.quantities import AMOUNT_PATTERN, UNITS, parse_size, split_amount
from regsim.core.result import CheckResult
from regsim.core.suggest import did_you_mean
from regsim.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from regsim.core.ledger import Summary
    from regsim.core.result import ContainerResult, TransferResult

Number: TypeAlias = int | float


class Kind(StrEnum):
    """What a metric's number counts, which decides the units that it may be compared with."""

    COUNT = "count"
    BYTES = "bytes"
    RATIO = "ratio"


class Metric(StrEnum):
    """Everything that can be checked. `METRICS` says what each one means."""

    REFERENCED = "referenced"
    TRANSFERRED = "transferred"
    EXISTS = "exists"
    MOUNTED = "mounted"
    JOINED = "joined"
    INLINED = "inlined"
    FOREIGN = "foreign"
    FAILED = "failed"
    REFERENCED_BYTES = "referenced_bytes"
    TRANSFERRED_BYTES = "transferred_bytes"
    SAVED_BYTES = "saved_bytes"
    SAVED_RATIO = "saved_ratio"
    WIRE_SENT = "wire_sent"
    WIRE_RECEIVED = "wire_received"
    WASTED_BYTES = "wasted_bytes"
    OVERHEAD = "overhead"
    REQUESTS = "requests"
    WRITABLE_BYTES = "writable_bytes"
    COPIED_UP_BYTES = "copied_up_bytes"


# What is measured of containers; all else is measured of transfers.
OF_CONTAINERS = frozenset({Metric.WRITABLE_BYTES, Metric.COPIED_UP_BYTES})

METRICS: dict[Metric, tuple[Kind, str]] = {
    Metric.REFERENCED: (Kind.COUNT, "layers that the images name, a layer named twice counted twice"),
    Metric.TRANSFERRED: (Kind.COUNT, "layers moved"),
    Metric.EXISTS: (Kind.COUNT, "layers that the destination had"),
    Metric.MOUNTED: (Kind.COUNT, "layers linked from another repository of the registry"),
    Metric.JOINED: (Kind.COUNT, "layers moved or mounted by an earlier reference of the same transfer"),
    Metric.INLINED: (Kind.COUNT, "layers whose data stood in the descriptor"),
    Metric.FOREIGN: (Kind.COUNT, "layers that may not be distributed and stay where they are"),
    Metric.FAILED: (Kind.COUNT, "layers that did not arrive"),
    Metric.REFERENCED_BYTES: (Kind.BYTES, "bytes of all layers named"),
    Metric.TRANSFERRED_BYTES: (Kind.BYTES, "bytes of layers moved"),
    Metric.SAVED_BYTES: (Kind.BYTES, "bytes of layers that existed, were mounted or joined"),
    Metric.SAVED_RATIO: (Kind.RATIO, "saved_bytes / referenced_bytes, 0 to 1 (or 0% to 100%)"),
    Metric.WIRE_SENT: (Kind.BYTES, "body bytes of uploads and manifest PUTs, configs and manifests included"),
    Metric.WIRE_RECEIVED: (Kind.BYTES, "body bytes of blob and manifest GETs, configs included"),
    Metric.WASTED_BYTES: (Kind.BYTES, "body bytes sent or received that were of no use"),
    Metric.OVERHEAD: (Kind.BYTES, "all other body bytes: errors, tokens, lists"),
    Metric.REQUESTS: (Kind.COUNT, "HTTP requests"),
    Metric.WRITABLE_BYTES: (Kind.BYTES, "bytes of all files in a container's own layer after the step"),
    Metric.COPIED_UP_BYTES: (Kind.BYTES, "bytes of the image's files that a container step copied up, whole"),
}


class Operator(StrEnum):
    """How two numbers are compared."""

    EQUAL = "=="
    NOT_EQUAL = "!="
    AT_LEAST = ">="
    AT_MOST = "<="
    MORE = ">"
    LESS = "<"

    def holds(self, left: Number, right: Number) -> bool:
        """Tell whether the comparison is true."""
        match self:
            case Operator.EQUAL:
                return left == right
            case Operator.NOT_EQUAL:
                return left != right
            case Operator.AT_LEAST:
                return left >= right
            case Operator.AT_MOST:
                return left <= right
            case Operator.MORE:
                return left > right
            case Operator.LESS:
                return left < right


@dataclass(frozen=True, slots=True)
class StepSelector:
    """The transfers of one step: its number, counted from 1, or its name."""

    step: int | str

    def __str__(self) -> str:
        return f"step {self.step}"


@dataclass(frozen=True, slots=True)
class ImageSelector:
    """The transfers whose image name or reference is this."""

    image: str

    def __str__(self) -> str:
        return self.image


Selector: TypeAlias = StepSelector | ImageSelector


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One figure compared with a number. `text` is the comparison as written."""

    metric: Metric
    operator: Operator
    value: Number
    text: str

    def holds(self, actual: Number | None) -> bool:
        """Tell whether a measured figure passes; one that could not be measured does not."""
        return actual is not None and self.operator.holds(actual, self.value)

    def check(self, step: int, actuals: Iterable[Number | None]) -> CheckResult:
        """Return the verdict over the figures of a step, one for each of its nodes.

        The first figure that fails is the one shown.
        """
        figures = list(actuals)
        failing = [actual for actual in figures if not self.holds(actual)]
        shown = (failing or figures or [None])[0]
        return CheckResult(
            expression=self.text, step=step, passed=bool(figures) and not failing, actual=shown
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A parsed entry of `checks`. `text` is the expression as written."""

    text: str
    selector: Selector | None
    comparison: Comparison

    @property
    def metric(self) -> Metric:
        """What is measured."""
        return self.comparison.metric


class Figures(Protocol):
    """What was measured. A result is one."""

    def metric(self, metric: Metric, selector: Selector | None) -> Number | None:
        """Return a figure over the selected transfers (all of them for None); None where there are none."""


_CONDITION = re.compile(
    r"\s*(?P<metric>[^\s(<>=!]+)\s*(?:\((?P<selector>[^()]*)\))?(?P<comparison>\s*[<>=!].*)"
)
_COMPARISON = re.compile(r"\s*(?P<operator>[<>=!]+)?\s*(?P<amount>\S.*?)\s*")
_STEP = re.compile(r"step\s+(?P<step>\S.*)")

_MISTYPED = {"=": "==", "===": "==", "=>": ">=", "=<": "<=", "<>": "!=", "!": "!="}

_UNIT_WORDS = "|".join(UNITS)
COMPARISON_PATTERN = rf"^\s*(?:==|!=|>=|<=|>|<)?\s*{AMOUNT_PATTERN} ?(?:{_UNIT_WORDS}|%)?\s*$"
CONDITION_PATTERN = (
    rf"^\s*(?:{'|'.join(Metric)})\s*(?:\([^()]+\))?\s*(?:==|!=|>=|<=|>|<)\s*"
    rf"{AMOUNT_PATTERN} ?(?:{_UNIT_WORDS}|%)?\s*$"
)


def parse_metric(word: str) -> Metric:
    """Return the metric that `word` names.

    Raises:
        UsageError: there is no metric of that name.
    """
    try:
        return Metric(word)
    except ValueError:
        raise UsageError(f'no such metric: "{word[:60]}"', hint=did_you_mean(word, Metric)) from None


def parse_comparison(metric: Metric, text: str) -> Comparison:
    """Read `[OP] NUMBER[unit]` for a metric; without an operator it is `==`.

    Raises:
        UsageError: it does not parse, or the unit does not fit the metric.
    """
    match = _COMPARISON.fullmatch(text)
    if match is None:
        raise UsageError(f'no comparison: "{text[:60]}"', hint='write a number, or such as ">= 3"')
    word = match["operator"] or "=="
    try:
        operator = Operator(word)
    except ValueError:
        meant = _MISTYPED.get(word)
        hint = f'did you mean "{meant}"?' if meant else "known: " + " ".join(Operator)
        raise UsageError(f'no such comparison: "{word[:20]}"', hint=hint) from None
    value = _parse_number(metric, match["amount"])
    return Comparison(
        metric=metric, operator=operator, value=value, text=f"{metric} {operator} {match['amount']}"
    )


def _parse_number(metric: Metric, text: str) -> Number:
    kind = METRICS[metric][0]
    if kind is Kind.BYTES:
        return parse_size(text)
    number, unit = split_amount(text)
    if kind is Kind.RATIO:
        if unit not in ("", "%"):
            raise UsageError(f"{metric} is a ratio, not an amount of {unit}", hint="write 0.9 or 90%")
        ratio = number / 100 if unit else number
        if ratio > 1:
            raise UsageError(f"{metric} is never above 1", hint="write 0.9 or 90%")
        return float(ratio)
    if unit:
        wanted = f"{metric}_bytes"
        hint = f'did you mean "{wanted}"?' if wanted in set(Metric) else "write a plain number"
        raise UsageError(f'{metric} is a count and has no unit, found "{unit[:20]}"', hint=hint)
    if number.denominator != 1:
        raise UsageError(f"{metric} is a count of whole things", hint="write a whole number")
    return int(number)


def _parse_selector(text: str) -> Selector:
    text = text.strip()
    match = _STEP.fullmatch(text)
    if match is not None:
        word = match["step"].strip()
        return StepSelector(int(word) if word.isdecimal() and len(word) < 10 else word)  # noqa: PLR2004
    if not text:
        raise UsageError(
            "nothing between the parentheses", hint='write "step 2", a step\'s name, or an image'
        )
    return ImageSelector(text)


def parse_condition(text: str) -> Condition:
    """Read `METRIC[(step N | step NAME | image)] OP NUMBER[unit]`.

    Raises:
        UsageError: it does not parse, or names no metric.
    """
    match = _CONDITION.fullmatch(text)
    if match is None:
        hint = 'such as "saved_ratio(step 2) >= 0.9"'
        raise UsageError(f'not a check: "{text[:80]}"', hint=hint)
    metric = parse_metric(match["metric"])
    selector = None if match["selector"] is None else _parse_selector(match["selector"])
    comparison = parse_comparison(metric, match["comparison"])
    return Condition(text=" ".join(text.split()), selector=selector, comparison=comparison)


def evaluate(condition: Condition, figures: Figures) -> CheckResult:
    """Return the verdict of one check over what was measured."""
    actual = figures.metric(condition.metric, condition.selector)
    selector = condition.selector
    step = selector.step if isinstance(selector, StepSelector) and isinstance(selector.step, int) else None
    return CheckResult(
        expression=condition.text, step=step, passed=condition.comparison.holds(actual), actual=actual
    )


# --- the figures of a run -------------------------------------------------------------------------------

_OVER_LAYERS: dict[Metric, Callable[[Summary], Number]] = {
    Metric.REFERENCED: lambda layers: layers.referenced.count,
    Metric.REFERENCED_BYTES: lambda layers: layers.referenced.bytes,
    Metric.TRANSFERRED_BYTES: lambda layers: layers.transferred.bytes,
    Metric.SAVED_BYTES: lambda layers: layers.saved.bytes,
    Metric.SAVED_RATIO: lambda layers: layers.saved_ratio,
}
_OVER_ALL: dict[Metric, Callable[[Summary], Number]] = {
    Metric.WIRE_SENT: lambda summary: summary.wire_sent,
    Metric.WIRE_RECEIVED: lambda summary: summary.wire_received,
    Metric.WASTED_BYTES: lambda summary: summary.wasted,
    Metric.OVERHEAD: lambda summary: summary.overhead,
    Metric.REQUESTS: lambda summary: summary.requests,
}


def figure(summary: Summary, metric: Metric) -> Number:
    """Return one figure of a summary: counts, sizes and ratios over layers, the rest over everything."""
    if metric in _OVER_ALL:
        return _OVER_ALL[metric](summary)
    layers = summary.layers or EMPTY
    if metric in _OVER_LAYERS:
        return _OVER_LAYERS[metric](layers)
    return layers.by_outcome[Outcome(metric.value)].count


@dataclass(frozen=True, slots=True)
class RunFigures:
    """The figures of a run's transfers and containers (`checks.Figures`)."""

    transfers: Sequence[TransferResult]
    containers: Sequence[ContainerResult] = ()

    def metric(self, metric: Metric, selector: Selector | None) -> Number | None:
        """Return a figure over the selected transfers or container steps, None where there are none."""
        if metric in OF_CONTAINERS:
            done = [each for each in self.containers if _selects_container(selector, each)]
            return of_containers(done, metric) if done else None
        chosen = [transfer.summary for transfer in self.transfers if _selects(selector, transfer)]
        return figure(sum(chosen, EMPTY), metric) if chosen else None


def of_containers(done: Sequence[ContainerResult], metric: Metric) -> int:
    """Return a figure over steps: the sum of what each copied up, or what each container holds in the end."""
    if metric is Metric.COPIED_UP_BYTES:
        return sum(each.copied_up.bytes for each in done)
    return sum({each.container: each.writable.bytes for each in done}.values())


def _selects_container(selector: Selector | None, done: ContainerResult) -> bool:
    match selector:
        case StepSelector(step):
            return step in (done.step, done.step_name)
        case ImageSelector(image):
            return image == done.image
    return True


def _selects(selector: Selector | None, transfer: TransferResult) -> bool:
    match selector:
        case StepSelector(step):
            return step in (transfer.step, transfer.step_name)
        case ImageSelector(image):
            return image in (transfer.image, transfer.ledger.reference)
    return True
