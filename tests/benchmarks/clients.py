"""Programs that push and pull, each as its users would run it."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.benchmarks.measure import program
from tests.benchmarks.workloads import TAG

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Command = list[str]
REPOSITORY = "bench/app"


@dataclass(frozen=True, slots=True)
class Client:
    """How a program is run.

    Attributes:
        name: as the table has it.
        push: from a layout's directory to `host`, over TLS or not.
        pull: from `host` into a directory that does not exist yet.
        prepare: what has to be run before the first push, with the layout's directory and a home.
    """

    name: str
    push: Callable[[Path, str, bool], Command]
    pull: Callable[[Path, str, bool], Command]
    prepare: Callable[[Path], Command] | None = None


def installed() -> list[Client]:
    """Return the clients that can be run here, regsim first."""
    makers = {"skopeo": _skopeo, "podman": _podman, "oras": _oras}
    found = [_regsim()]
    for name, make in makers.items():
        path = program(name)
        if path is not None:
            found.append(make(path))
    if importlib.util.find_spec("dxf") is not None:
        found.append(_dxf())
    return found


def _regsim() -> Client:
    run = [sys.executable, "-m", "regsim"]
    quiet = ["--quiet", "--format", "json"]

    def verify(tls: bool) -> Command:
        return ["--no-tls-verify"] if tls else []

    return Client(
        "regsim",
        lambda layout, host, tls: [
            *run,
            "push",
            f"oci:{layout}:{TAG}",
            f"{host}/{REPOSITORY}:1",
            *quiet,
            *verify(tls),
        ],
        lambda target, host, tls: [
            *run,
            "pull",
            f"{host}/{REPOSITORY}:1",
            f"oci:{target}:{TAG}",
            *quiet,
            *verify(tls),
        ],
    )


def _skopeo(path: str) -> Client:
    run = [path, "--insecure-policy", "copy", "--quiet", "--preserve-digests"]
    return Client(
        "skopeo",
        lambda layout, host, _: [
            *run,
            "--dest-tls-verify=false",
            f"oci:{layout}:{TAG}",
            f"docker://{host}/{REPOSITORY}:1",
        ],
        lambda target, host, _: [
            *run,
            "--src-tls-verify=false",
            f"docker://{host}/{REPOSITORY}:1",
            f"oci:{target}:{TAG}",
        ],
    )


def _podman(path: str) -> Client:
    # Its own storage, below the home that each run is given, so that nothing of the user's is touched.
    run = [path, "--storage-driver", "vfs"]
    return Client(
        "podman",
        lambda _, host, __: [
            *run,
            "push",
            "--quiet",
            "--tls-verify=false",
            "localhost/bench:1",
            f"docker://{host}/{REPOSITORY}:1",
        ],
        lambda target, host, _: [
            *run,
            "--root",
            f"{target}/root",
            "--runroot",
            f"{target}/run",
            "pull",
            "--quiet",
            "--tls-verify=false",
            f"docker://{host}/{REPOSITORY}:1",
        ],
        lambda layout: [*run, "load"] if layout.is_file() else [*run, "pull", f"oci:{layout}:{TAG}"],
    )


def _oras(path: str) -> Client:
    def verify(side: str, tls: bool) -> str:
        return f"--{side}-insecure" if tls else f"--{side}-plain-http"

    return Client(
        "oras",
        lambda layout, host, tls: [
            path,
            "cp",
            "--no-tty",
            verify("to", tls),
            "--from-oci-layout",
            f"{layout}:{TAG}",
            f"{host}/{REPOSITORY}:1",
        ],
        lambda target, host, tls: [
            path,
            "cp",
            "--no-tty",
            verify("from", tls),
            f"{host}/{REPOSITORY}:1",
            "--to-oci-layout",
            f"{target}:{TAG}",
        ],
    )


def _dxf() -> Client:
    run = [sys.executable, "-m", "tests.benchmarks.dxf_client"]

    def scheme(tls: bool) -> str:
        return "https" if tls else "http"

    return Client(
        "python-dxf",
        lambda layout, host, tls: [*run, "push", str(layout), scheme(tls), host, REPOSITORY],
        lambda target, host, tls: [*run, "pull", str(target), scheme(tls), host, REPOSITORY],
    )
