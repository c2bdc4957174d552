"""`regsim doctor`: this machine, and whether a push and a pull work on it.

Owns the findings. Nothing leaves the machine: the self-test uses a registry of its own on loopback.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from regsim._version import __version__
from regsim.cli.output import (
    PRINTING,
    Format,
    Printing,
    check_outputs,
    ignore,
    printable,
    write,
    write_json,
)
from regsim.cli.running import run as run_to_end
from regsim.client.image_address import local_store
from regsim.core import Descriptor
from regsim.core.quantities import exact, size
from regsim.core.result import Mode, RunResult
from regsim.errors import ContentError, ExitCode, LocalFileError, RegsimError, UsageError, worst
from regsim.registry.login import AuthFiles
from regsim.scenario.images import open_images
from regsim.scenario.load import parse_scenario
from regsim.scenario.registry_container import engines
from regsim.scenario.run import run
from regsim.scenario.wire_world import wire_world
from regsim.store.layout import LayoutStore
from regsim.store.relay import hand_all
from regsim.store.verify import Verifier

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
    """How serious a finding is."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check.

    Attributes:
        name: of what was checked.
        detail: what was found, in a line.
        exit_code: that it gives the process.
    """

    name: str
    detail: str
    state: State = State.OK
    exit_code: ExitCode = ExitCode.OK

    def to_json(self) -> dict[str, str]:
        """Return the finding as `--format json` prints it."""
        return {"name": self.name, "state": self.state, "detail": self.detail}


def doctor(*, printing: Printing = PRINTING) -> ExitCode:
    """Check this machine, and test a push and a pull on loopback.

    Args:
        printing: see below.
    """
    check_outputs(printing.output)

    async def look() -> list[Finding]:
        return [each async for each in findings()]

    found = run_to_end(look())
    code = worst(*(each.exit_code for each in found))
    if printing.format is Format.JSON:
        document = {"findings": [each.to_json() for each in found], "exit_code": int(code)}
        write_json(document, printing.output)
    else:
        lines = (f"{each.state:<8} {each.name}: {printable(each.detail)}\n" for each in found)
        write("".join(lines), printing.output)
    return code


async def findings(environment: Mapping[str, str] = os.environ) -> AsyncIterator[Finding]:
    """Check everything, the quick checks first."""
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
    count = "unlimited" if files == resource.RLIM_INFINITY else f"{files:,}"
    state = State.WARNING if 0 <= files < _FEW_FILES else State.OK
    return Finding(name="limits", detail=f"{_cores()} cores, {count} open files", state=state)


def _cores() -> int:
    # A container may have fewer than the machine; not every system says.
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable is not None else os.cpu_count() or 1


def _space(name: str, folder: Path) -> Finding:
    try:
        # The store may not exist yet; its nearest parent does.
        there = next(each for each in (folder, *folder.parents) if each.exists())
        free = shutil.disk_usage(there).free
        writable = os.access(there, os.W_OK)
    except OSError as error:
        return Finding(name=name, detail=f"{folder}: {error.strerror}", state=State.WARNING)
    detail = f"{folder}, {size(free)} free" + ("" if writable else ", not writable")
    state = State.OK if writable and free >= _LITTLE_SPACE else State.WARNING
    return Finding(name=name, detail=detail, state=state)


async def _engine(environment: Mapping[str, str]) -> Finding:
    """List the engines that are installed; only `--registry container` needs one."""
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
    detail = "; ".join(said) or "no engine is installed; only regsim run --registry container needs one"
    return Finding(name="container engine", detail=detail, state=State.OK if answers else State.WARNING)


def _auth_files(environment: Mapping[str, str]) -> Finding:
    """List the auth files, and nothing of their contents."""
    try:
        found = [str(each) for each in AuthFiles(environment).paths if each.exists()]
    except OSError as error:
        detail = f"{error.filename}: {error.strerror}"
        return Finding(name="auth files", detail=detail, state=State.WARNING)
    return Finding(
        name="auth files", detail=", ".join(found) or "none; registries are asked without credentials"
    )


async def _self_test() -> Finding:
    """Push to a registry on loopback, pull from it, hash what arrived, and compare ledger and journal."""
    try:
        with tempfile.TemporaryDirectory(prefix="regsim-doctor-") as folder:
            store = Path(folder) / "store"
            result = await _transfers(store)
            _check(result)
            entries = result.transfers[-1].ledger.entries
            held = LayoutStore(store)
            for entry in entries:
                described = Descriptor(media_type=entry.media_type, digest=entry.digest, size=entry.size)
                verifier = Verifier(described)
                await hand_all(held.content(described), [verifier.update])
                verifier.finish()
    except RegsimError as error:
        return Finding(name="self-test", detail=error.message, state=State.FAILED, exit_code=error.exit_code)
    except OSError as error:
        failure = LocalFileError(f"no temporary directory: {error.strerror}")
        return Finding(
            name="self-test", detail=failure.message, state=State.FAILED, exit_code=failure.exit_code
        )
    moved = result.summary.wire_sent + result.summary.wire_received
    detail = (
        f"pushed, mounted and pulled on loopback: {exact(moved)}, every digest and both accounts are right"
    )
    return Finding(name="self-test", detail=detail)


async def _transfers(store: Path) -> RunResult:
    text = _SELF_TEST.replace("STORE", json.dumps(f"oci:{store}"))
    scenario = parse_scenario(text, Path("doctor.yaml"))
    images = await open_images(scenario, generate=True, tell=ignore)
    async with wire_world(scenario.registry, images, mode=Mode.WIRE, warn=ignore) as world:
        return await run(scenario, world, Mode.WIRE, ignore)


def _check(result: RunResult) -> None:
    if result.errors:
        raise result.errors[0]
    failed = [f"{each.expression} is {each.actual}" for each in result.checks if not each.passed]
    wrong = [*failed, *result.reconciliation.differences]
    if wrong or result.reconciliation.matched is not True:
        raise ContentError(f"the accounts are wrong: {wrong[0] if wrong else 'they were not compared'}")
