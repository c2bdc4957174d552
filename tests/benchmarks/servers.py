"""Registries to move images to and from, each a fresh process that keeps its content below a directory."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.benchmarks.measure import program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    Start = Callable[[Path], AbstractContextManager["Started"]]

_DEADLINE = 20.0
_POLL = 0.01


@dataclass(frozen=True, slots=True)
class Started:
    """A registry that runs: its `host:port`, and the process's number."""

    host: str
    process: int


@contextmanager
def docker_registry(home: Path, *, tls: bool = False) -> Iterator[Started]:
    """Run Debian's docker-registry.

    Raises:
        RuntimeError: it is not installed, or does not start.
    """
    found = program("docker-registry")
    if found is None:
        raise RuntimeError("docker-registry is not installed (Debian package docker-registry)")
    http: dict[str, object] = {"addr": f"{own_address() if tls else '127.0.0.1'}:0"}
    if tls:
        http["tls"] = make_certificate(home)
    config = {
        "version": 0.1,
        "log": {"level": "info", "accesslog": {"disabled": True}},
        "http": http,
        "storage": {"filesystem": {"rootdirectory": str(home / "data")}},
    }
    (home / "config.yml").write_text(json.dumps(config))
    log = home / "registry.log"
    with _process([found, "serve", str(home / "config.yml")], log, os.environ) as process:
        yield Started(_wait_for(log, re.compile(r"listening on ([^\s,\"]+)")), process)


@contextmanager
def mock(home: Path, *, directory: bool = False, faults: Sequence[str] = ()) -> Iterator[Started]:
    """Run the mock registry, with its content in memory and spooled, or in a directory that it keeps."""
    log = home / "mock.log"
    command = [sys.executable, "-m", "mock_registry", "--port", "0", "--log", "none"]
    if directory:
        command += ["--dir", str(home / "data")]
    for fault in faults:
        command += ["--fault", fault]
    with _process(command, log, {**os.environ, "TMPDIR": str(home)}) as process:
        yield Started(_wait_for(log, re.compile(r"http://(\S+)\n")), process)


@contextmanager
def _process(command: list[str], log: Path, environment: dict[str, str] | os._Environ[str]) -> Iterator[int]:
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=dict(environment)
        ) as process,
    ):
        try:
            yield process.pid
        finally:
            process.terminate()


def _wait_for(log: Path, pattern: re.Pattern[str]) -> str:
    end = time.monotonic() + _DEADLINE
    while (found := pattern.search(log.read_text())) is None:
        if time.monotonic() > end:
            raise RuntimeError(f"no registry came up: {log.read_text()}")
        time.sleep(_POLL)
    return found[1]


def own_address() -> str:
    """Return an address of this machine that is not loopback, for which clients use TLS unasked.

    Raises:
        OSError: it has none.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # nothing is sent: this only chooses a route
        address: str = probe.getsockname()[0]
        return address


def make_certificate(home: Path) -> dict[str, str]:
    """Make a self-signed certificate with openssl.

    Raises:
        RuntimeError: openssl is not installed.
    """
    found = program("openssl")
    if found is None:
        raise RuntimeError("openssl is not installed (Debian package openssl)")
    certificate, key = str(home / "certificate.pem"), str(home / "key.pem")
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    whose = ["-days", "2", "-subj", "/CN=benchmark", "-addext", f"subjectAltName=IP:{own_address()}"]
    subprocess.run(
        [found, "req", "-x509", *kind, *whose, "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    return {"certificate": certificate, "key": key}
