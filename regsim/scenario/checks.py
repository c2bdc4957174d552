"""What a scenario expects: the words that can be measured, how they are compared, and the verdicts.

Owns the grammar `METRIC[(step N | step NAME | image)] OP NUMBER[unit]`, which is parsed and never evaluated
as code, and the vocabulary of metrics. Must not know how a scenario runs: figures are read from results.
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from regsim.core.ledger import EMPTY, Outcome
from regsim.core.quantities import AMOUNT_PATTERN, UNITS, parse_size, split_amount
from regsim.core.result import CheckResult
from regsim.core.suggest import did_you_mean
from regsim.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from regsim.core.ledger import Summary
    from regsim.core.result import ContainerResult, TransferResult

Number: TypeAlias = int | float


class Kind(StrEnum):
    """What a metric's number counts, which decides the units that it may be compared with."""

    COUNT = "count"
    BYTES = "bytes"
    RATIO = "ratio"


# Everything that can be checked, and what it means.
METRICS: dict[str, tuple[Kind, str]] = {
    "referenced": (Kind.COUNT, "layers that the images name, a layer named twice counted twice"),
    "transferred": (Kind.COUNT, "layers moved"),
    "exists": (Kind.COUNT, "layers that the destination had"),
    "mounted": (Kind.COUNT, "layers linked from another repository of the registry"),
    "joined": (Kind.COUNT, "layers moved or mounted by an earlier reference of the same transfer"),
    "inlined": (Kind.COUNT, "layers whose data stood in the descriptor"),
    "foreign": (Kind.COUNT, "layers that may not be distributed and stay where they are"),
    "failed": (Kind.COUNT, "layers that did not arrive"),
    "referenced_bytes": (Kind.BYTES, "bytes of all layers named"),
    "transferred_bytes": (Kind.BYTES, "bytes of layers moved"),
    "saved_bytes": (Kind.BYTES, "bytes of layers that existed, were mounted or joined"),
    "saved_ratio": (Kind.RATIO, "saved_bytes / referenced_bytes, 0 to 1 (or 0% to 100%)"),
    "wire_sent": (Kind.BYTES, "body bytes of uploads and manifest PUTs, configs and manifests included"),
    "wire_received": (Kind.BYTES, "body bytes of blob and manifest GETs, configs included"),
    "wasted_bytes": (Kind.BYTES, "body bytes sent or received that were of no use"),
    "overhead": (Kind.BYTES, "all other body bytes: errors, tokens, lists"),
    "requests": (Kind.COUNT, "HTTP requests"),
    "writable_bytes": (Kind.BYTES, "bytes of all files in a container's own layer after the step"),
    "copied_up_bytes": (Kind.BYTES, "bytes of the image's files that a container step copied up, whole"),
}

# What is measured of containers; all else is measured of transfers.
OF_CONTAINERS = frozenset({"writable_bytes", "copied_up_bytes"})

_OPERATORS: dict[str, Callable[[Number, Number], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_MISTYPED = {"=": "==", "===": "==", "=>": ">=", "=<": "<=", "<>": "!=", "!": "!="}


class Selector(NamedTuple):
    """Which transfers or container steps are measured: all, or those of one step or one image.

    `step` is a number, counted from 1, or a name; `image` is the name of an image, or a reference.
    """

    step: int | str | None = None
    image: str | None = None

    def selects(self, done: TransferResult | ContainerResult, *images: str | None) -> bool:
        """Tell whether a result is one of those; `images` are the names that its image goes by."""
        if self.step is not None:
            return self.step in (done.step, done.step_name)
        return self.image is None or self.image in images


ALL = Selector()


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A figure compared with a number: an entry of `checks`, or a metric of `expect`.

    `text` is the condition as written. In `expect` all transfers of the step are meant.
    """

    metric: str
    operator: str
    value: Number
    text: str
    selector: Selector = ALL

    def holds(self, actual: Number | None) -> bool:
        """Tell whether a measured figure passes; one that could not be measured does not."""
        return actual is not None and _OPERATORS[self.operator](actual, self.value)

    def check(self, step: int | None, actuals: Sequence[Number | None]) -> CheckResult:
        """Return the verdict over some figures, which must all pass; the first one that fails is shown."""
        failing = [actual for actual in actuals if not self.holds(actual)]
        shown = next(iter([*failing, *actuals]), None)
        return CheckResult(
            expression=self.text, step=step, passed=bool(actuals) and not failing, actual=shown
        )


_CONDITION = re.compile(
    r"\s*(?P<metric>[^\s(<>=!]+)\s*(?:\((?P<selector>[^()]*)\))?(?P<comparison>\s*[<>=!].*)"
)
_COMPARISON = re.compile(r"\s*(?P<operator>[<>=!]+)?\s*(?P<amount>\S.*?)\s*")
_STEP = re.compile(r"step\s+(?P<step>\S.*)")

_OPERATOR = "(?:==|!=|>=|<=|>|<)"
_AMOUNT = rf"\s*{AMOUNT_PATTERN} ?(?:{'|'.join(UNITS)}|%)?\s*$"
COMPARISON_PATTERN = rf"^\s*{_OPERATOR}?{_AMOUNT}"
CONDITION_PATTERN = rf"^\s*(?:{'|'.join(METRICS)})\s*(?:\([^()]+\))?\s*{_OPERATOR}{_AMOUNT}"


def parse_comparison(metric: str, text: str) -> Condition:
    """Read `[OP] NUMBER[unit]` for a metric; without an operator it is `==`.

    Raises:
        UsageError: it does not parse, or the unit does not fit the metric.
    """
    match = _COMPARISON.fullmatch(text)
    if match is None:
        raise UsageError(f'no comparison: "{text[:60]}"', hint='write a number, or such as ">= 3"')
    word = match["operator"] or "=="
    if word not in _OPERATORS:
        meant = _MISTYPED.get(word)
        hint = f'did you mean "{meant}"?' if meant else "known: " + " ".join(_OPERATORS)
        raise UsageError(f'no such comparison: "{word[:20]}"', hint=hint)
    value = _parse_number(metric, match["amount"])
    return Condition(metric=metric, operator=word, value=value, text=f"{metric} {word} {match['amount']}")


def _parse_number(metric: str, text: str) -> Number:
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
        hint = f'did you mean "{wanted}"?' if wanted in METRICS else "write a plain number"
        raise UsageError(f'{metric} is a count and has no unit, found "{unit[:20]}"', hint=hint)
    if number.denominator != 1:
        raise UsageError(f"{metric} is a count of whole things", hint="write a whole number")
    return int(number)


def parse_condition(text: str) -> Condition:
    """Read `METRIC[(step N | step NAME | image)] OP NUMBER[unit]`.

    Raises:
        UsageError: it does not parse, or names no metric.
    """
    match = _CONDITION.fullmatch(text)
    if match is None:
        hint = 'such as "saved_ratio(step 2) >= 0.9"'
        raise UsageError(f'not a check: "{text[:80]}"', hint=hint)
    metric = match["metric"]
    if metric not in METRICS:
        raise UsageError(f'no such metric: "{metric[:60]}"', hint=did_you_mean(metric, METRICS))
    selector = ALL if match["selector"] is None else _parse_selector(match["selector"].strip())
    comparison = parse_comparison(metric, match["comparison"])
    return replace(comparison, text=" ".join(text.split()), selector=selector)


def _parse_selector(text: str) -> Selector:
    if not text:
        hint = 'write "step 2", a step\'s name, or an image'
        raise UsageError("nothing between the parentheses", hint=hint)
    match = _STEP.fullmatch(text)
    if match is None:
        return Selector(image=text)
    word = match["step"]
    return Selector(step=int(word) if word.isdecimal() and len(word) < 10 else word)  # noqa: PLR2004


# --- the figures of a run -------------------------------------------------------------------------------

# By metric, from a summary of layers and one of everything; other metrics are counts of outcomes.
_FIGURES: dict[str, Callable[[Summary, Summary], Number]] = {
    "referenced": lambda layers, _: layers.referenced.count,
    "referenced_bytes": lambda layers, _: layers.referenced.bytes,
    "transferred_bytes": lambda layers, _: layers.transferred.bytes,
    "saved_bytes": lambda layers, _: layers.saved.bytes,
    "saved_ratio": lambda layers, _: layers.saved_ratio,
    "wire_sent": lambda _, everything: everything.wire_sent,
    "wire_received": lambda _, everything: everything.wire_received,
    "wasted_bytes": lambda _, everything: everything.wasted,
    "overhead": lambda _, everything: everything.overhead,
    "requests": lambda _, everything: everything.requests,
}


def figure(summary: Summary, metric: str) -> Number:
    """Return one figure of a summary: counts, sizes and ratios over layers, the rest over everything."""
    layers = summary.layers or EMPTY
    if metric in _FIGURES:
        return _FIGURES[metric](layers, summary)
    return layers.by_outcome[Outcome(metric)].count


def of_containers(done: Sequence[ContainerResult], metric: str) -> int:
    """Return a figure over steps: the sum of what each copied up, or what each container holds in the end."""
    if metric == "copied_up_bytes":
        return sum(each.copied_up.bytes for each in done)
    return sum({each.container: each.writable.bytes for each in done}.values())


def evaluate(
    condition: Condition, transfers: Sequence[TransferResult], containers: Sequence[ContainerResult]
) -> CheckResult:
    """Return the verdict of one check over a run; if it selects nothing, nothing was measured."""
    metric, selector = condition.metric, condition.selector
    if metric in OF_CONTAINERS:
        done = [each for each in containers if selector.selects(each, each.image)]
        actual: Number | None = of_containers(done, metric) if done else None
    else:
        chosen = [each for each in transfers if selector.selects(each, each.image, each.ledger.reference)]
        actual = figure(sum((each.summary for each in chosen), EMPTY), metric) if chosen else None
    return condition.check(selector.step if isinstance(selector.step, int) else None, [actual])
