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
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from regsim._version import __version__
from regsim.cli.output import PRINTING, Printing, check_outputs, ignore, printable, write, write_json
from regsim.cli.running import run as run_to_end
from regsim.client.image_address import local_store
from regsim.core import Descriptor
from regsim.core.quantities import exact, size
from regsim.core.result import Mode
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

State = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        name: of what was checked.
        detail: what was found, in a line.
        state: how serious it is.
        exit_code: that it gives the process.
    """

    name: str
    detail: str
    state: State = "ok"
    exit_code: ExitCode = ExitCode.OK


def doctor(*, printing: Printing = PRINTING) -> ExitCode:
    """Check this machine, and test a push and a pull on loopback.

    Args:
        printing: see below.
    """
    check_outputs(printing.output)
    found = run_to_end(_findings())
    code = worst(*(each.exit_code for each in found))
    if printing.format == "json":
        findings = [{"name": each.name, "state": each.state, "detail": each.detail} for each in found]
        write_json({"findings": findings, "exit_code": int(code)}, printing.output)
    else:
        lines = (f"{each.state:<8} {each.name}: {printable(each.detail)}\n" for each in found)
        write("".join(lines), printing.output)
    return code


async def _findings() -> list[Finding]:
    """Check everything, the quick checks first."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return [
        Finding("regsim", f"{__version__}, {python}, {platform.system()} {platform.machine()}"),
        _limits(),
        _space("temporary files", Path(tempfile.gettempdir())),
        _space("local store", local_store()),
        await _engine(),
        _auth_files(),
        await _self_test(),
    ]


def _limits() -> Finding:
    # A container may have fewer cores than the machine; not every system says.
    usable = getattr(os, "sched_getaffinity", None)
    cores = len(usable(0)) if usable is not None else os.cpu_count() or 1
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = "unlimited" if files == resource.RLIM_INFINITY else f"{files:,}"
    state: State = "warning" if 0 <= files < _FEW_FILES else "ok"
    return Finding("limits", f"{cores} cores, {count} open files", state)


def _space(name: str, folder: Path) -> Finding:
    try:
        # The store may not exist yet; its nearest parent does.
        there = next(each for each in (folder, *folder.parents) if each.exists())
        free = shutil.disk_usage(there).free
        writable = os.access(there, os.W_OK)
    except OSError as error:
        return Finding(name, f"{folder}: {error.strerror}", "warning")
    detail = f"{folder}, {size(free)} free" + ("" if writable else ", not writable")
    return Finding(name, detail, "ok" if writable and free >= _LITTLE_SPACE else "warning")


async def _engine() -> Finding:
    """List the engines that are installed; only `--registry container` needs one."""
    said: list[str] = []
    state: State = "warning"
    try:
        for name, engine in engines():
            try:
                answer = await engine.call("info")
            except RegsimError as error:
                said.append(f"{name}: {error.message}")
                continue
            said.append(f"{name} ({engine}): {'answers' if answer.code == 0 else answer.last}")
            state = "ok" if answer.code == 0 else state
    except UsageError as error:
        said.append(error.message)
    detail = "; ".join(said) or "no engine is installed; only regsim run --registry container needs one"
    return Finding("container engine", detail, state)


def _auth_files() -> Finding:
    """List the auth files, and nothing of their contents."""
    try:
        found = [str(each) for each in AuthFiles(os.environ).paths if each.exists()]
    except OSError as error:
        return Finding("auth files", f"{error.filename}: {error.strerror}", "warning")
    return Finding("auth files", ", ".join(found) or "none; registries are asked without credentials")


async def _self_test() -> Finding:
    """Push to a registry on loopback, pull from it, hash what arrived, and compare ledger and journal."""
    try:
        with tempfile.TemporaryDirectory(prefix="regsim-doctor-") as folder:
            moved = await _transfer(Path(folder) / "store")
    except (RegsimError, OSError) as error:
        failure = (
            error
            if isinstance(error, RegsimError)
            else LocalFileError(f"no temporary directory: {error.strerror}")
        )
        return Finding("self-test", failure.message, "failed", failure.exit_code)
    return Finding(
        "self-test",
        f"pushed, mounted and pulled on loopback: {exact(moved)}, every digest and both accounts are right",
    )


async def _transfer(store: Path) -> int:
    """Run the self-test with a store that is pulled into, and return the bytes that it moved.

    Raises:
        RegsimError: it failed, or something about it is wrong.
    """
    text = _SELF_TEST.replace("STORE", json.dumps(f"oci:{store}"))
    scenario = parse_scenario(text, Path("doctor.yaml"))
    images = await open_images(scenario, generate=True, tell=ignore)
    async with wire_world(scenario.registry, images, mode=Mode.WIRE, warn=ignore) as world:
        result = await run(scenario, world, Mode.WIRE, ignore)
    if result.errors:
        raise result.errors[0]
    wrong = [f"{each.expression} is {each.actual}" for each in result.checks if not each.passed]
    wrong += result.reconciliation.differences
    if wrong or result.reconciliation.matched is not True:
        raise ContentError(f"the accounts are wrong: {wrong[0] if wrong else 'they were not compared'}")
    held = LayoutStore(store)
    for entry in result.transfers[-1].ledger.entries:
        described = Descriptor(media_type=entry.media_type, digest=entry.digest, size=entry.size)
        verifier = Verifier(described)
        await hand_all(held.content(described), [verifier.update])
        verifier.finish()
    return result.summary.wire_sent + result.summary.wire_received
