"""Measure pulls over several connections: `python -m tests.benchmarks.ranges`, from the top of the checkout.

A mock registry holds one layer of 128 MiB. It gives each connection a limited rate, and then as much as it
takes. In each round, regsim pulls the image with 1, 2, 4 and 16 ranges in turn: whole processes, start and
end included. Ratios are of the best runs, to those of one stream. It takes a minute.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks import measure, servers
from tests.benchmarks.clients import REPOSITORY
from tests.benchmarks.workloads import TAG, Workload, write_layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.benchmarks.measure import Cost

_WORKLOAD = Workload("1 x 128 MiB", 1, 128 * 1024**2)
_COUNTS = (1, 2, 4, 16)
_COLUMNS = ("each connection", "ranges", "best s", "median s", "x 1 range", "MB/s", "CPU s", "peak MB")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser("python -m tests.benchmarks.ranges", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="a tmpfs")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each (default: %(default)s)")
    parser.add_argument("--rate", default="20MB/s", help="that a connection gets (default: %(default)s)")
    options = parser.parse_args()
    layout = write_layout(options.folder, _WORKLOAD)
    _say(f"{measure.machine()}\n\n{_line(_COLUMNS)}\n{_line(['---'] * len(_COLUMNS))}")
    for title, faults in {options.rate: [f"GET blob throttle {options.rate}"], "unlimited": []}.items():
        with tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.folder) as scratch:
            costs = _measure(layout, Path(scratch), faults, options.rounds)
        best = {count: min(each.seconds for each in found) for count, found in costs.items()}
        for count, found in costs.items():
            figures = (
                f"{best[count]:.2f}",
                f"{statistics.median(each.seconds for each in found):.2f}",
                f"{best[count] / best[1]:.2f}",
                f"{_WORKLOAD.total / best[count] / 1e6:.0f}",
                f"{min(each.cpu for each in found):.2f}",
                f"{max(each.peak for each in found):.0f}",
            )
            _say(_line((title, str(count), *figures)))
    _say(f"\n{measure.machine()}")
    return 0


def _measure(layout: Path, scratch: Path, faults: Sequence[str], rounds: int) -> dict[int, list[Cost]]:
    """Return the costs by the number of ranges, which take turns, so that all see the same noise."""
    costs: dict[int, list[Cost]] = {count: [] for count in _COUNTS}
    environment = {"HOME": str(scratch), "PATH": ""}
    with servers.mock(scratch, faults=faults) as registry:
        image = f"{registry.host}/{REPOSITORY}:1"
        command = [sys.executable, "-m", "regsim"]
        quiet = ["--quiet", "--format", "json"]
        log = scratch / "regsim.log"
        measure.run([*command, "push", f"oci:{layout}:{TAG}", image, *quiet], environment, log)
        for _ in range(rounds):
            for count, found in costs.items():
                target = scratch / "pulled"
                pull = [*command, "pull", image, f"oci:{target}", "--ranges", str(count), *quiet]
                found.append(measure.run(pull, environment, log))
                shutil.rmtree(target)
    return costs


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
