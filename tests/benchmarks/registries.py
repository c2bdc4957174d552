"""Compare the mock registry with Debian's docker-registry: `python -m tests.benchmarks.registries`.

Needs docker-registry, curl and wrk. Give it a directory in memory (`--folder`, a tmpfs), or the disk is what
is measured. Each round starts a fresh registry of each kind in turn, pushes a large blob with curl, pulls it,
and loads small blobs and manifests with wrk; then it holds connections that do nothing, loads others beside
them, and asks how much memory the registry has needed at most. Ratios are of the best rounds, which noise of
the machine touches least.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import random
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.benchmarks import measure, servers
from tests.benchmarks.workloads import CONFIG, LAYER, MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.benchmarks.servers import Start, Started

_STARTS: dict[str, Start] = {
    "mock": partial(servers.mock, directory=True),
    "docker-registry": servers.docker_registry,
}
_OURS, _THEIRS = _STARTS
_IN_MEMORY = "mock, in memory"
_NAME = "bench/app"
_SMALL = 20_000
_MIB = 1 << 20
_DEADLINE = 60.0


@dataclass(frozen=True, slots=True)
class Job:
    """What is measured.

    Attributes:
        title: In the table.
        unit: Of the figures.
        target: Least ratio to docker-registry's figure, or the figure's own bound; None is no target.
        rate: More is better; else less.
    """

    title: str
    unit: str
    target: float | None = None
    rate: bool = False


_PUT = Job("PUT of the large blob, verified", "s", 3.0)
_GET = Job("GET of the large blob", "s", 1.0)
_BLOBS = Job("GET of 20 kB blobs, 16 connections", "/s", 8.0, rate=True)
_MANIFESTS = Job("GET of manifests, 16 connections", "/s", 8.0, rate=True)
_HELD = Job("GET of 20 kB blobs, 200 connections beside 1,000 idle ones", "/s", rate=True)
_MEMORY = Job("memory at its peak, after all this", "MB")
_MEMORY_LIMIT = 120.0

Figures = dict[Job, dict[str, list[float]]]


def main() -> int:
    """Measure and print."""
    options = _parse()
    _allow_many_files()
    starts = dict(_STARTS)
    if options.memory:
        starts[_IN_MEMORY] = servers.mock
    figures: Figures = defaultdict(lambda: defaultdict(list))
    print(measure.machine())
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.folder) as scratch:
        large = _Content.write(Path(scratch) / "large", options.size * _MIB)
        for number in range(options.rounds):
            order = list(starts)[number % len(starts) :] + list(starts)[: number % len(starts)]
            for name in order:
                home = Path(scratch) / "home"
                home.mkdir()
                with starts[name](home) as registry:
                    for job, figure in _round(registry, large, home, options.seconds):
                        figures[job][name].append(figure)
                shutil.rmtree(home)
            sys.stderr.write(f"round {number + 1} of {options.rounds}\n")
    _print(figures, list(starts), options.rounds)
    print(f"\n{measure.machine()}")
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.registries", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="a tmpfs")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=3, help="that wrk runs (default: %(default)s)")
    parser.add_argument("--size", type=int, default=512, help="MiB of the large blob (default: %(default)s)")
    parser.add_argument("--memory", action="store_true", help="measure the mock without a directory too")
    return parser.parse_args()


def _allow_many_files() -> None:
    """Let this process and what it starts hold more sockets than shells allow."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@dataclass(frozen=True, slots=True)
class _Content:
    """A blob in a file."""

    path: Path
    size: int
    digest: str

    @classmethod
    def write(cls, path: Path, size: int) -> _Content:
        """Write seeded random bytes."""
        chance, hasher = random.Random(size), hashlib.sha256()
        with path.open("wb") as file:
            for start in range(0, size, _MIB):
                piece = chance.randbytes(min(_MIB, size - start))
                hasher.update(piece)
                file.write(piece)
        return cls(path, size, f"sha256:{hasher.hexdigest()}")


def _round(registry: Started, large: _Content, home: Path, seconds: int) -> Iterator[tuple[Job, float]]:
    peer = _Peer(registry.host)
    curl = [_program("curl"), "--silent", "--show-error", "--fail", "--output", "/dev/null"]

    def run(*words: str) -> float:
        return measure.run([*curl, *words], {}, home / "curl.log").seconds

    measure.warm(home, large.size + large.size // 4)
    yield _PUT, run("--upload-file", str(large.path), peer.place(large.digest))
    yield _GET, run(f"http://{registry.host}/v2/{_NAME}/blobs/{large.digest}")
    blob, manifest = peer.push_image(random.Random(1).randbytes(_SMALL))
    yield _BLOBS, _load(blob, 16, seconds)
    yield _MANIFESTS, _load(manifest, 16, seconds)
    with ExitStack() as stack:
        idle = [stack.enter_context(_Idle(registry.host)) for _ in range(1000)]
        yield _HELD, _load(blob, 200, seconds)
        for connection in idle:
            connection.ask()
    yield _MEMORY, _peak(registry.process)


class _Peer:
    """What has to be asked of a registry before something can be measured."""

    def __init__(self, host: str) -> None:
        self._host = host

    def place(self, digest: str) -> str:
        """Open an upload session and return the URL to put the blob to."""
        answer = self._ask("POST", f"/v2/{_NAME}/blobs/uploads/")
        location = answer["location"]
        url = location if location.startswith("http") else f"http://{self._host}{location}"
        return f"{url}{'&' if '?' in url else '?'}digest={digest}"

    def push_image(self, layer: bytes) -> tuple[str, str]:
        """Push an image of one layer; return the URLs of the layer and of the manifest, by its tag."""
        described = []
        for content, kind in ((b"{}", CONFIG), (layer, LAYER)):
            digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
            self._ask("PUT", self.place(digest).partition(self._host)[2], content)
            described.append({"mediaType": kind, "digest": digest, "size": len(content)})
        config, *layers = described
        document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
        path = f"/v2/{_NAME}/manifests/1"
        self._ask("PUT", path, json.dumps(document).encode(), {"Content-Type": MANIFEST})
        return f"http://{self._host}/v2/{_NAME}/blobs/{digest}", f"http://{self._host}{path}"

    def _ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> http.client.HTTPMessage:
        connection = http.client.HTTPConnection(self._host, timeout=_DEADLINE)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise RuntimeError(f"{method} {path}: {answer.status} {said!r}")
        return answer.headers


class _Idle:
    """A connection that is kept open, and shows when asked that it still serves."""

    def __init__(self, host: str) -> None:
        name, port = host.rsplit(":", 1)
        self._socket = socket.create_connection((name, int(port)), timeout=_DEADLINE)

    def __enter__(self) -> Self:
        self.ask()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self) -> None:
        """Send a request and read its answer.

        Raises:
            RuntimeError: The registry has given the connection up.
        """
        self._socket.sendall(b"HEAD /v2/ HTTP/1.1\r\nHost: registry\r\n\r\n")
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            piece = self._socket.recv(4096)
            if not piece:
                raise RuntimeError("an idle connection was closed")
            answer += piece


def _load(url: str, connections: int, seconds: int) -> float:
    """Return the answers per second that wrk gets."""
    load = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", f"{_DEADLINE:.0f}s"]
    command = [_program("wrk"), *load, "-H", f"Accept: {MANIFEST}", url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rate = re.search(r"Requests/sec:\s*([\d.]+)", said)
    if rate is None or re.search(r"Non-2xx|Socket errors", said):
        raise RuntimeError(f"{' '.join(command)}: {said}")
    return float(rate[1])


def _peak(process: int) -> float:
    """Return the most memory that a process has had, in MB."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def _program(name: str) -> str:
    found = measure.program(name)
    if found is None:
        raise RuntimeError(f"{name} is not installed (Debian package {name})")
    return found


def _print(figures: Figures, names: list[str], rounds: int) -> None:
    others = [name for name in names if name not in (_OURS, _THEIRS)]
    columns = ["median (best)", _OURS, *others, _THEIRS, "ratio", "target"]
    print(f"{rounds} rounds\n\n{_line(columns)}\n{_line(['---'] * len(columns))}")
    for job, found in figures.items():
        cells = [_cell(job, found[name]) for name in (_OURS, *others, _THEIRS)]
        print(_line([job.title, *cells, f"{_ratio(job, found):.2f}x", _target(job, found)]))


def _cell(job: Job, measured: list[float]) -> str:
    digits = {"s": ".2f", "/s": ",.0f", "MB": ".0f"}[job.unit]
    if job is _MEMORY:
        return f"{max(measured):{digits}} {job.unit}"
    best: Callable[[list[float]], float] = max if job.rate else min
    return f"{statistics.median(measured):{digits}} {job.unit} ({best(measured):{digits}})"


def _ratio(job: Job, found: Mapping[str, list[float]]) -> float:
    """Return how many times better ours is."""
    if job.rate:
        return max(found[_OURS]) / max(found[_THEIRS])
    return min(found[_THEIRS]) / min(found[_OURS])


def _target(job: Job, found: Mapping[str, list[float]]) -> str:
    if job is _MEMORY:
        return f"< {_MEMORY_LIMIT:.0f} MB: {_verdict(max(found[_OURS]) < _MEMORY_LIMIT)}"
    if job.target is None:
        return "none: held" if job is _HELD else ""
    return f"{job.target:g}x: {_verdict(_ratio(job, found) >= job.target)}"


def _verdict(met: bool) -> str:
    return "met" if met else "missed"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
