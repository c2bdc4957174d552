"""Compare builders of images: `python -m tests.benchmarks.builds`, from the top of the checkout.

A context of 10,000 files and 500 MB, one COPY. regsim builds it with an empty cache, and again with a full
one; buildah copies and commits. Builders take turns. Give it a directory in memory (`--folder`, a tmpfs), or
the disk is what is measured.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks import measure
from tests.benchmarks.measure import Cost, program

if TYPE_CHECKING:
    from collections.abc import Callable

FILES = 10_000
SIZE = 50_000  # bytes of each, half of which compress


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser("python -m tests.benchmarks.builds", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="a tmpfs")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="builds-", dir=options.folder) as name:
        folder = Path(name)
        write_context(folder / "context")
        costs: dict[str, list[Cost]] = {}
        for _ in range(options.rounds):
            for compression in ("none", "gzip"):
                for job, measured in builders(folder, compression).items():
                    costs.setdefault(f"{job}, {compression}", []).append(measured())
        print("| builder | best s | median s | CPU s | peak MB |\n|---|---|---|---|---|")
        for job, found in sorted(costs.items(), key=lambda item: item[0].rpartition(",")[2]):
            seconds = [cost.seconds for cost in found]
            cells = (
                job,
                f"{min(seconds):.2f}",
                f"{statistics.median(seconds):.2f}",
                f"{min(cost.cpu for cost in found):.2f}",
                f"{max(cost.peak for cost in found):.0f}",
            )
            print(f"| {' | '.join(cells)} |")
    return 0


def write_context(place: Path) -> None:
    """Write files of which one half is words, and the other noise."""
    words = random.Random(1)
    vocabulary = [bytes(words.choices(b"etaoinshrdlu", k=words.randrange(2, 11))) for _ in range(4000)]
    for number in range(FILES):
        file = place / f"{number % 100:02}" / str(number)
        file.parent.mkdir(parents=True, exist_ok=True)
        text = b" ".join(words.choices(vocabulary, k=SIZE // 8))[: SIZE // 2]
        file.write_bytes(text.ljust(SIZE // 2) + words.randbytes(SIZE // 2))
    (place / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (place / ".dockerignore").write_text("Dockerfile\n.dockerignore\n")


def builders(folder: Path, compression: str) -> dict[str, Callable[[], Cost]]:
    """Return what is measured, by name; buildah only where it is installed."""
    environment = dict(os.environ)
    log = folder / "log"
    out, cache = folder / "out", folder / "cache"

    def regsim() -> Cost:
        command = (sys.executable, "-m", "regsim", "build", str(folder / "context"), "--quiet")
        flags = ("--tag", f"oci:{out}:x", "--cache", str(cache), "--compression", compression)
        return measure.run((*command, *flags), environment, log)

    def first() -> Cost:
        for place in (out, cache):
            shutil.rmtree(place, ignore_errors=True)
        return regsim()

    jobs: dict[str, Callable[[], Cost]] = {"regsim": first, "regsim again": regsim}
    buildah = program("buildah")
    if buildah is not None:
        jobs["buildah copy and commit"] = lambda: _buildah(buildah, folder, compression, environment)
    return jobs


def _buildah(buildah: str, folder: Path, compression: str, environment: dict[str, str]) -> Cost:
    shutil.rmtree(folder / "theirs", ignore_errors=True)
    base = (buildah, "--storage-driver=vfs", f"--root={folder / 'root'}", f"--runroot={folder / 'run'}")
    container = subprocess.run(
        (*base, "from", "scratch"), capture_output=True, text=True, check=True
    ).stdout.strip()
    copy = measure.run(
        (*base, "copy", "--quiet", container, str(folder / "context"), "/"), environment, folder / "log"
    )
    plain = "true" if compression == "none" else "false"
    flags = ("commit", "--quiet", f"--disable-compression={plain}", container, f"oci:{folder / 'theirs'}:x")
    commit = measure.run((*base, *flags), environment, folder / "log")
    subprocess.run((*base, "rm", container), capture_output=True, check=True)
    return Cost(copy.seconds + commit.seconds, copy.cpu + commit.cpu, max(copy.peak, commit.peak))


if __name__ == "__main__":
    sys.exit(main())
