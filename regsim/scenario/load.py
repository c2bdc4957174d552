"""Reading a scenario file: every mistake at once, each with its line and column.

Owns the order of the work: bytes, YAML, overrides, keys, names, and then values. Must not know how a
scenario runs, nor open anything but the file itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from regsim.errors import LocalFileError, ScenarioError
from regsim.scenario.checks import ImageSelector, StepSelector
from regsim.scenario.format import SCENARIO
from regsim.scenario.names import check_names
from regsim.scenario.overrides import apply_overrides
from regsim.scenario.positions import Entries, Position, Problems, Rejected, parse
from regsim.scenario.schema import (
    DEFAULT_NODE,
    Copy,
    InContainer,
    NodeSpec,
    Place,
    Pull,
    Push,
    Scenario,
)
from regsim.scenario.schema_container import Commit, Create
from regsim.scenario.shapes import Reader
from regsim.synth.recorded import record_names

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from regsim.scenario.checks import Condition
    from regsim.scenario.schema import Action, Step
from regsim.scenario.shapes import Fields

MAX_FILE = 1024 * 1024


def load_scenario(path: Path, overrides: Sequence[str] = ()) -> Scenario:
    """Read a scenario file.

    Args:
        path: the file; relative paths in it relate to its directory.
        overrides: `PATH=VALUE` each, as after `--set`.

    Raises:
        LocalFileError: the file cannot be read, or the records are not installed.
        ScenarioError: it is invalid; every problem is told.
    """
    return parse_scenario(read_file(path), path, overrides)


def parse_scenario(
    data: bytes | str,
    path: Path,
    overrides: Sequence[str] = (),
    *,
    records: Callable[[], Collection[str]] = record_names,
) -> Scenario:
    """Read a scenario from the contents of its file.

    Args:
        data: the contents.
        path: where they come from, for positions and for relative paths.
        overrides: `PATH=VALUE` each, as after `--set`.
        records: returns the names of recorded images.

    Raises:
        ScenarioError: it is invalid; every problem is told.
        LocalFileError: the records are not installed.
    """
    reader = Reader(directory=path.parent)
    problems = reader.problems
    try:
        root = parse(decode(data, path, problems), str(path), problems)
        if root is None:
            problems.reject(
                Position(0, 1, 1, str(path)), "the file is empty", 'a scenario has at least "steps"'
            )
        if not isinstance(root, Entries):
            reader.wrong(root, "a scenario: a mapping with steps")
    except Rejected:
        raise ScenarioError(problems.lines()) from None
    root = apply_overrides(root, overrides, problems)
    fields = _read_keys(root, reader)
    check_names(root, reader, records)
    problems.raise_if_any()
    return _scenario(fields, path)


def read_file(path: Path) -> bytes:
    """Return the contents of a scenario file, or its first bytes where it is too large to be one.

    Raises:
        LocalFileError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            # One byte more than allowed tells a file that is too large from one that just fits.
            return file.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise LocalFileError(f"cannot read the scenario {path}: {reason}") from error


def decode(data: bytes | str, path: Path, problems: Problems) -> str:
    """Return a file's contents as text.

    Raises:
        Rejected: it is too large, or no UTF-8, which is noted.
    """
    if len(data) > MAX_FILE:
        problems.reject(Position(0, 1, 1, str(path)), "larger than 1 MiB, which no scenario is")
    if isinstance(data, str):
        return data
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        head = data[: error.start].decode("utf-8-sig", errors="replace")
        where = Position(0, head.count("\n") + 1, len(head) - head.rfind("\n"), str(path))
        byte = data[error.start]
        problems.reject(where, f"not UTF-8: byte 0x{byte:02x}", "save the file as UTF-8")


def _read_keys(root: Entries, reader: Reader) -> Fields:
    try:
        return SCENARIO.read(root, reader)
    except Rejected:
        return {}


def _scenario(fields: Fields, path: Path) -> Scenario:
    fields = {"name": path.stem, **fields}
    nodes: Mapping[str, NodeSpec] = fields.get("nodes") or {DEFAULT_NODE: NodeSpec(name=DEFAULT_NODE)}
    only = next(iter(nodes))
    steps = tuple(
        replace(step, number=number, action=_with_node(step.action, only))
        for number, step in enumerate(fields["steps"], start=1)
    )
    doings = (step.action.doing for step in steps if isinstance(step.action, InContainer))
    images = {*fields.get("images", {}), *(each.image for each in doings if isinstance(each, Commit))}
    checks = tuple(_resolved(check, steps, images) for check in fields.get("checks", ()))
    return Scenario(**{**fields, "nodes": nodes, "steps": steps, "checks": checks, "path": path})


def _with_node(action: Action, only: str) -> Action:
    if isinstance(action, Push | Pull | Copy) and not action.node:
        return replace(action, node=only)
    if isinstance(action, InContainer) and isinstance(action.doing, Create) and not action.doing.node:
        return replace(action, doing=replace(action.doing, node=only))
    return action


def _resolved(check: Condition, steps: tuple[Step, ...], images: Collection[str]) -> Condition:
    """Return the check with its step by number, and a reference in the form that results have."""
    match check.selector:
        case StepSelector(str(name)):
            number = next(step.number for step in steps if step.name == name)
            return replace(check, selector=StepSelector(number))
        case ImageSelector(image) if image not in images:
            return replace(check, selector=ImageSelector(str(Place.parse(image))))
    return check
