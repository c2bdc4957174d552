"""The figures of a run, by the words that checks and expectations use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regsim.core.ledger import EMPTY, Outcome
from regsim.scenario.checks import OF_CONTAINERS, ImageSelector, Metric, StepSelector

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from regsim.core.ledger import Summary
    from regsim.core.result import ContainerResult, TransferResult
    from regsim.scenario.checks import Number, Selector


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
