"""Programs that push and pull, each as its users would run it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.benchmarks.measure import program
from tests.benchmarks.workloads import TAG, config_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

REPOSITORY = "bench/app"


@dataclass(frozen=True, slots=True)
class Task:
    """What a client is to do.

    Attributes:
        layout: the directory of the image to push.
        target: a directory to pull into, which does not exist yet.
        host: of the registry.
        tls: whether it speaks TLS, with a certificate that nobody trusts.
        home: a directory for whatever else a program keeps.
    """

    layout: Path
    target: Path
    host: str
    tls: bool
    home: Path

    @property
    def reference(self) -> str:
        """The image in the registry."""
        return f"{self.host}/{REPOSITORY}:1"

    @property
    def scheme(self) -> str:
        """How the registry is spoken to."""
        return "https" if self.tls else "http"


Command = list[str]


@dataclass(frozen=True, slots=True)
class Client:
    """A program: its name in the table, and the commands that push, pull, and come before a first push."""

    name: str
    push: Callable[[Task], Command]
    pull: Callable[[Task], Command]
    prepare: Callable[[Task], Command] | None = None


def installed() -> list[Client]:
    """Return the clients that can be run here, regsim first.

    oras and python-dxf are looked for in the Python that REGSIM_PEERS_PYTHON names, or else in this one.
    """
    found = [_regsim()]
    for name, make in {"skopeo": _skopeo, "podman": _podman}.items():
        path = program(name)
        if path is not None:
            found.append(make(path))
    python = os.environ.get("REGSIM_PEERS_PYTHON", sys.executable)
    for library, wrap in {"oras": _oras, "dxf": _dxf}.items():
        if (
            subprocess.run([python, "-c", f"import {library}"], capture_output=True, check=False).returncode
            == 0
        ):
            found.append(wrap(python))
    return found


def _regsim() -> Client:
    def run(task: Task, job: str, source: str, destination: str) -> Command:
        trust = ["--no-tls-verify"] if task.tls else []
        options = ["--quiet", "--format", "json", *trust]
        return [sys.executable, "-m", "regsim", job, source, destination, *options]

    return Client(
        "regsim",
        push=lambda task: run(task, "push", f"oci:{task.layout}:{TAG}", task.reference),
        pull=lambda task: run(task, "pull", task.reference, f"oci:{task.target}:{TAG}"),
    )


def _skopeo(path: str) -> Client:
    run = [path, "--insecure-policy", "copy", "--quiet", "--preserve-digests"]
    into, out_of = "--dest-tls-verify=false", "--src-tls-verify=false"
    return Client(
        "skopeo",
        push=lambda task: [*run, into, f"oci:{task.layout}:{TAG}", f"docker://{task.reference}"],
        pull=lambda task: [*run, out_of, f"docker://{task.reference}", f"oci:{task.target}:{TAG}"],
    )


def _podman(path: str) -> Client:
    """Return podman, which unpacks what it pulls and packs what it pushes: more work than the others do."""

    def run(storage: Path, job: str) -> Command:
        places = ["--root", str(storage / "root"), "--runroot", str(storage / "run")]
        return [path, "--storage-driver", "overlay", *places, job, "--quiet"]

    def push(task: Task) -> Command:
        image = config_of(task.layout)  # what podman calls the image that it has read
        return [*run(task.home, "push"), "--tls-verify=false", image, f"docker://{task.reference}"]

    def pull(task: Task) -> Command:
        return [*run(task.target, "pull"), "--tls-verify=false", f"docker://{task.reference}"]

    return Client("podman", push, pull, lambda task: [*run(task.home, "pull"), f"oci:{task.layout}:{TAG}"])


def _oras(python: str) -> Client:
    def run(task: Task, job: str, folder: Path) -> Command:
        module = [python, "-m", "tests.benchmarks.oras_client"]
        return [*module, job, str(folder), task.scheme, task.reference]

    return Client(
        "oras (PyPI)",
        push=lambda task: run(task, "push", task.layout),
        pull=lambda task: run(task, "pull", task.target),
    )


def _dxf(python: str) -> Client:
    def run(task: Task, job: str, folder: Path) -> Command:
        module = [python, "-m", "tests.benchmarks.dxf_client"]
        return [*module, job, str(folder), task.scheme, task.host, REPOSITORY]

    return Client(
        "python-dxf",
        push=lambda task: run(task, "push", task.layout),
        pull=lambda task: run(task, "pull", task.target),
    )
