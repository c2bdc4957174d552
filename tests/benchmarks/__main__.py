"""Compare clients of registries: `python -m tests.benchmarks`, from the top of the checkout.

Registries themselves are compared by `python -m tests.benchmarks.registries`.

Each round starts a fresh registry for each client in turn, pushes an image to it, pushes it again, and
pulls it. Give it a directory in memory (`--folder`, a tmpfs), or the disk is what is measured.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections import defaultdict
from dataclasses import replace
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

_STARTS: dict[str, tuple[Start, bool]] = {
    "docker-registry": (servers.docker_registry, False),
    "docker-registry-tls": (partial(servers.docker_registry, tls=True), True),
    "mock": (servers.mock, False),
}
_BASELINE = "skopeo"
_COLUMNS = ("image", "job", "client", "best s", "median s", "x skopeo", "MB/s", "CPU s", "peak MB")


def main() -> int:
    """Measure and print."""
    options = _parse()
    found = [each for each in clients.installed() if not options.clients or each.name in options.clients]
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.folder) as scratch:
        layouts = {name: write_layout(options.folder, WORKLOADS[name]) for name in options.images}
        for registry in options.registries:
            start, tls = _STARTS[registry]
            _say(f"\n{registry}\n\n{_line(_COLUMNS)}\n{_line(['---'] * len(_COLUMNS))}")
            for name, layout in layouts.items():
                costs = _measure(found, layout, start, Path(scratch), rounds=options.rounds, tls=tls)
                for row in _rows(WORKLOADS[name], costs):
                    _say(_line(row))
        for name, layout in layouts.items():
            _print_limits(WORKLOADS[name], layout, options.rounds)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="a tmpfs")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each (default: %(default)s)")
    parser.add_argument("--images", nargs="*", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--registries", nargs="*", choices=_STARTS, default=["docker-registry", "mock"])
    parser.add_argument("--clients", nargs="*", default=[], help="all that are installed, if left out")
    return parser.parse_args()


Costs = dict[str, dict[str, list["Cost"]]]


def _measure(
    found: list[Client], layout: Path, start: Start, scratch: Path, *, rounds: int, tls: bool
) -> Costs:
    """Return the costs by job and client. Clients take turns, so that all see the same noise."""
    costs: Costs = defaultdict(lambda: defaultdict(list))
    size = sum(path.stat().st_size for path in blobs_of(layout))
    for number in range(rounds):
        turn = number % len(found)
        for client in (*found[turn:], *found[:turn]):
            home = scratch / "home"
            home.mkdir()
            try:
                for job, cost in _round(client, layout, start, home, size=size, tls=tls):
                    costs[job][client.name].append(cost)
            finally:
                shutil.rmtree(home)
    return costs


def _round(
    client: Client, layout: Path, start: Start, home: Path, *, size: int, tls: bool
) -> Iterator[tuple[str, Cost]]:
    task = Task(layout=layout, target=home / "pulled", host="", tls=tls, home=home)

    def run(command: Command) -> Cost:
        measure.warm(home, size + size // 4)
        return measure.run(command, _environment(home), home / "client.log")

    if client.prepare is not None:
        run(client.prepare(task))
    (home / "server").mkdir()
    with start(home / "server") as registry:
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


def _rows(workload: Workload, costs: Costs) -> Iterator[list[str]]:
    for job, by_client in costs.items():
        baseline = by_client.get(_BASELINE)
        for client, runs in by_client.items():
            seconds = [run.seconds for run in runs]
            best, median = min(seconds), statistics.median(seconds)
            ratio = f"{median / statistics.median(run.seconds for run in baseline):.2f}" if baseline else "-"
            speed = "-" if job == "push again" else f"{workload.total / 1e6 / best:.0f}"
            cpu, peak = min(run.cpu for run in runs), max(run.peak for run in runs)
            figures = [f"{best:.3f}", f"{median:.3f}", ratio, speed, f"{cpu:.2f}", f"{peak:.0f}"]
            yield [workload.name, job, client, *figures]


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
