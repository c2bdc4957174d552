"""Compare clients of registries: `python -m tests.benchmarks`, from the top of the checkout.

Registries themselves are compared by `python -m tests.benchmarks.registries`.

Each round starts a fresh registry for each client in turn, pushes an image to it, pushes it again, and
pulls it. regsim and skopeo, whose ratio has targets, take part in every round, the others in the first.
Whole processes are measured, start and end included: wall-clock seconds, CPU seconds, the peak of memory.
Ratios are of the best runs, which noise of the machine touches least.

Give it a directory in memory (`--folder`, a tmpfs), or the disk is what is measured. oras and python-dxf are
looked for in the Python that REGSIM_PEERS_PYTHON names. On two quiet cores it takes five minutes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks import clients, measure, servers
from tests.benchmarks.clients import Task
from tests.benchmarks.workloads import WORKLOADS, blobs_of, write_layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmarks.clients import Client, Command
    from tests.benchmarks.measure import Cost
    from tests.benchmarks.servers import Start
    from tests.benchmarks.workloads import Workload


@dataclass(frozen=True, slots=True)
class _Place:
    """A registry to measure against.

    Attributes:
        start: starts it.
        tls: it speaks TLS.
        images: that are moved there.
        spared: clients that are not measured there.
    """

    start: Start
    tls: bool = False
    images: frozenset[str] = frozenset(WORKLOADS)
    spared: frozenset[str] = frozenset()


_PLACES = {
    "docker-registry": _Place(servers.docker_registry),
    "docker-registry-tls": _Place(
        partial(servers.docker_registry, tls=True),
        tls=True,
        images=frozenset({"large"}),
        spared=frozenset({"podman"}),  # what takes it so long is not TLS
    ),
    "mock": _Place(servers.mock),
}
_BASELINE = "skopeo"
_EVERY_ROUND = frozenset({"regsim", _BASELINE})
_COLUMNS = ("image", "job", "client", "best s", "median s", "x skopeo", "MB/s", "CPU s", "peak MB", "target")
# Of regsim's best time to skopeo's, against docker-registry.
_TARGETS = {
    ("large", "push"): 0.75,
    ("large", "pull"): 0.4,
    ("many", "push"): 0.5,
    ("many", "pull"): 0.65,
    ("small", "push"): 0.25,
    ("small", "push again"): 0.06,
}
_NOTHING_TO_MOVE = 0.15  # seconds, of the image of one layer
_MEMORY = 100.0  # MB


def main() -> int:
    """Measure and print."""
    options = _parse()
    found = [each for each in clients.installed() if not options.clients or each.name in options.clients]
    _say(measure.machine())
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.folder) as scratch:
        layouts = {name: write_layout(options.folder, WORKLOADS[name]) for name in options.images}
        for name in options.registries:
            place = _PLACES[name]
            taking = [client for client in found if client.name not in place.spared]
            _say(f"\n{name}\n\n{_line(_COLUMNS)}\n{_line(['---'] * len(_COLUMNS))}")
            for image, layout in layouts.items():
                if image in place.images:
                    costs = _measure(taking, layout, place, Path(scratch), rounds=options.rounds)
                    for row in _rows(image, costs, judged=name == "docker-registry"):
                        _say(_line(row))
        for name, layout in layouts.items():
            _print_limits(WORKLOADS[name], layout, options.rounds)
    _say(f"\n{measure.machine()}")
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="a tmpfs")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each (default: %(default)s)")
    parser.add_argument("--images", nargs="*", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--registries", nargs="*", choices=_PLACES, default=list(_PLACES))
    parser.add_argument("--clients", nargs="*", default=[], help="all that are installed, if left out")
    return parser.parse_args()


Costs = dict[str, dict[str, list["Cost"]]]


def _measure(found: list[Client], layout: Path, place: _Place, scratch: Path, *, rounds: int) -> Costs:
    """Return the costs by job and client. Clients take turns, so that all see the same noise."""
    costs: Costs = defaultdict(lambda: defaultdict(list))
    size = sum(path.stat().st_size for path in blobs_of(layout))
    for number in range(rounds):
        turn = [each for each in found if number == 0 or each.name in _EVERY_ROUND]
        first = number % len(turn)
        for client in (*turn[first:], *turn[:first]):
            home = scratch / "home"
            home.mkdir()
            try:
                for job, cost in _round(client, layout, place, home, size=size):
                    costs[job][client.name].append(cost)
            finally:
                shutil.rmtree(home)
    return costs


def _round(
    client: Client, layout: Path, place: _Place, home: Path, *, size: int
) -> Iterator[tuple[str, Cost]]:
    task = Task(layout=layout, target=home / "pulled", host="", tls=place.tls, home=home)

    def run(command: Command) -> Cost:
        measure.warm(home, size + size // 4)
        return measure.run(command, _environment(home), home / "client.log")

    if client.prepare is not None:
        run(client.prepare(task))
    (home / "server").mkdir()
    with place.start(home / "server") as registry:
        task = replace(task, host=registry.host)
        yield "push", run(client.push(task))
        yield "push again", run(client.push(task))
        yield "pull", run(client.pull(task))


def _environment(home: Path) -> dict[str, str]:
    """Return an environment whose caches and settings are below `home`."""
    folders = {f"XDG_{each}_HOME": str(home / each) for each in ("CACHE", "CONFIG", "DATA")}
    return {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home), **folders} | {
        name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ
    }


def _rows(image: str, costs: Costs, *, judged: bool) -> Iterator[list[str]]:
    workload = WORKLOADS[image]
    for job, by_client in costs.items():
        baseline = by_client.get(_BASELINE)
        for client, runs in by_client.items():
            seconds = [run.seconds for run in runs]
            best, median = min(seconds), statistics.median(seconds)
            ratio = best / min(run.seconds for run in baseline) if baseline else None
            speed = "-" if job == "push again" else f"{workload.total / 1e6 / best:.0f}"
            cpu, peak = min(run.cpu for run in runs), max(run.peak for run in runs)
            told = "-" if ratio is None else f"{ratio:.2f}"
            figures = [f"{best:.3f}", f"{median:.3f}", told, speed, f"{cpu:.2f}", f"{peak:.0f}"]
            target = _target(image, job, best, ratio, peak) if judged and client == "regsim" else ""
            yield [workload.name, job, client, *figures, target]


def _target(image: str, job: str, seconds: float, ratio: float | None, peak: float) -> str:
    """Say which targets there are, and whether they were met."""
    bounds = [(f"{_MEMORY:.0f} MB", peak < _MEMORY)]
    wanted = _TARGETS.get((image, job))
    if wanted is not None and ratio is not None:
        bounds.append((f"{wanted}x", ratio <= wanted))
    if (image, job) == ("large", "push again"):
        bounds.append((f"{_NOTHING_TO_MOVE} s", seconds <= _NOTHING_TO_MOVE))
    return ", ".join(f"{words}: {'met' if met else 'missed'}" for words, met in bounds)


def _print_limits(workload: Workload, layout: Path, rounds: int) -> None:
    hashing = min(measure.hash_files(blobs_of(layout)) for _ in range(rounds))
    copying = min(measure.copy_over_loopback(workload.total) for _ in range(rounds))
    _say(f"\nThis machine, {workload.name}: SHA-256 {hashing:.3f} s, a copy over loopback {copying:.3f} s")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
