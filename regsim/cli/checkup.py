"""What `regsim doctor` looks at: this machine, and whether a push and a pull work on it.

Owns the findings. Nothing leaves the machine: the self-test meets a registry of its own on loopback.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from regsim._version import __version__
from regsim.client.address import local_store
from regsim.core import Descriptor
from regsim.core.quantities import exact, size
from regsim.core.result import Mode, RunResult
from regsim.errors import ContentError, ExitCode, LocalFileError, RegsimError, UsageError
from regsim.registry.login import AuthFiles
from regsim.scenario.images import open_images
from regsim.scenario.load import parse_scenario
from regsim.scenario.registry_container import engines
from regsim.scenario.run import run
from regsim.scenario.world import wire_world
from regsim.store.layout import LayoutStore

# A transfer opens some 32 connections and as many files, and a scenario's nodes each as many.
_FEW_FILES = 256
# A golang image has 300 MB, and a layer is written aside before it is renamed.
_LITTLE_SPACE = 10**9

_SELF_TEST = """
name: doctor
images: {base: {layers: [4MB, 100kB]}, app: {from: base, layers: [1MB]}}
nodes: {here: {}, there: {store: STORE}}
steps:
  - push: {image: base, to: "doctor/base:1", node: here}
    expect: {transferred: 2}
  - push: {image: app, to: "doctor/app:1", node: here}
    expect: {mounted: 2, transferred: 1}
  - pull: {reference: "doctor/app:1", node: there}
    expect: {transferred: 3}
"""


class State(StrEnum):
    """How a finding is to be taken."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: of the thing.
        detail: what was found, in a line.
        exit_code: what it means for the process.
    """

    name: str
    detail: str
    state: State = State.OK
    exit_code: ExitCode = ExitCode.OK

    def to_json(self) -> dict[str, str]:
        """Return the finding as `--format json` prints it."""
        return {"name": self.name, "state": self.state, "detail": self.detail}


async def findings(environment: Mapping[str, str] = os.environ) -> AsyncIterator[Finding]:
    """Look at everything, the quick things first."""
    yield Finding(
        name="regsim",
        detail=f"{__version__}, {platform.python_implementation()} {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}",
    )
    yield _limits()
    yield _space("temporary files", Path(tempfile.gettempdir()))
    yield _space("local store", local_store())
    yield await _engine(environment)
    yield _auth_files(environment)
    yield await _self_test()


def _limits() -> Finding:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = "any number of" if files == resource.RLIM_INFINITY else f"{files:,}"
    state = State.WARNING if 0 <= files < _FEW_FILES else State.OK
    return Finding(name="limits", detail=f"{_cores()} cores, {count} open files", state=state)


def _cores() -> int:
    # A container may be given fewer than the machine has; not every system tells.
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable is not None else os.cpu_count() or 1


def _space(name: str, folder: Path) -> Finding:
    try:
        # The store need not be there yet; what it will be made in is.
        there = next(each for each in (folder, *folder.parents) if each.exists())
        free = shutil.disk_usage(there).free
        writable = os.access(there, os.W_OK)
    except OSError as error:
        return Finding(name=name, detail=f"{folder}: {error.strerror}", state=State.WARNING)
    detail = f"{folder}, {size(free)} free" + ("" if writable else ", not writable")
    state = State.OK if writable and free >= _LITTLE_SPACE else State.WARNING
    return Finding(name=name, detail=detail, state=state)


async def _engine(environment: Mapping[str, str]) -> Finding:
    """Tell every engine that is there; only `--registry container` needs one."""
    said: list[str] = []
    answers = False
    try:
        found = tuple(engines(environment))
    except UsageError as error:
        return Finding(name="container engine", detail=error.message, state=State.WARNING)
    for name, engine in found:
        try:
            answer = await engine.call("info")
            said.append(f"{name} ({engine}): {'answers' if answer.code == 0 else answer.last}")
            answers = answers or answer.code == 0
        except RegsimError as error:
            said.append(f"{name}: {error.message}")
    detail = "; ".join(said) or "none is installed: regsim run --registry container needs one"
    return Finding(name="container engine", detail=detail, state=State.OK if answers else State.WARNING)


def _auth_files(environment: Mapping[str, str]) -> Finding:
    """Tell which auth files there are, and nothing of what they say."""
    try:
        found = [str(each) for each in AuthFiles(environment).paths if each.exists()]
    except OSError as error:
        detail = f"{error.filename}: {error.strerror}"
        return Finding(name="auth files", detail=detail, state=State.WARNING)
    return Finding(name="auth files", detail=", ".join(found) or "none: registries are met without a login")


async def _self_test() -> Finding:
    """Push to a registry on loopback, pull from it, hash what arrived, and compare both accounts."""
    try:
        with tempfile.TemporaryDirectory(prefix="regsim-doctor-") as folder:
            store = Path(folder) / "store"
            result = await _transfers(store)
            _check(result)
            entries = result.transfers[-1].ledger.entries
            held = LayoutStore(store, verify=True)
            for entry in entries:
                described = Descriptor(media_type=entry.media_type, digest=entry.digest, size=entry.size)
                if not await held.has(described):
                    raise ContentError(f"{entry.digest} arrived damaged")
    except RegsimError as error:
        return Finding(name="self-test", detail=error.message, state=State.FAILED, exit_code=error.exit_code)
    except OSError as error:
        failure = LocalFileError(f"no temporary directory: {error.strerror}")
        return Finding(
            name="self-test", detail=failure.message, state=State.FAILED, exit_code=failure.exit_code
        )
    moved = result.summary.wire_sent + result.summary.wire_received
    detail = f"pushed, mounted and pulled on loopback: {exact(moved)}, every digest and both accounts right"
    return Finding(name="self-test", detail=detail)


async def _transfers(store: Path) -> RunResult:
    text = _SELF_TEST.replace("STORE", json.dumps(f"oci:{store}"))
    scenario = parse_scenario(text, Path("doctor.yaml"))
    images = await open_images(scenario, generate=True, tell=_ignore)
    async with wire_world(scenario.registry, images, mode=Mode.WIRE, warn=_ignore) as world:
        return await run(scenario, world, Mode.WIRE, _ignore)


def _check(result: RunResult) -> None:
    """Raise what is wrong with the self-test.

    Raises:
        RegsimError: that.
    """
    if result.errors:
        raise result.errors[0]
    wrong = [*_failed(result), *result.reconciliation.differences]
    if wrong or result.reconciliation.matched is not True:
        raise ContentError(f"the accounts are wrong: {wrong[0] if wrong else 'they were not compared'}")


def _failed(result: RunResult) -> Iterator[str]:
    return (f"{each.expression} is {each.actual}" for each in result.checks if not each.passed)


def _ignore(_line: str) -> None:
    """Tell nobody."""
