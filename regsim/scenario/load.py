"""Reading a scenario file: every mistake at once, each with its line and column.

Owns the order of the work: bytes, YAML, overrides, keys, names, and then values. Must not know how a
scenario runs, nor open anything but the file itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from pydantic import TypeAdapter

from regsim.errors import LocalFileError, ScenarioError
from regsim.scenario.checks import ImageSelector, StepSelector
from regsim.scenario.fields import Reader, describe
from regsim.scenario.names import DEFAULT_NODE, check_names
from regsim.scenario.overrides import apply_overrides
from regsim.scenario.schema import NodeSpec, Scenario
from regsim.scenario.schema_container import Commit
from regsim.scenario.schema_image import EffectSpec, Runs
from regsim.scenario.schema_step import Place
from regsim.scenario.yaml_document import Entries, Position, Problems, Rejected, parse
from regsim.synth.recorded import record_names

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from regsim.image.builder.effects import Effect
    from regsim.scenario.checks import Condition
    from regsim.scenario.fields import Mapped
    from regsim.scenario.schema_step import Step

M = TypeVar("M", bound="Mapped")

MAX_FILE = 1024 * 1024

_SCENARIO = TypeAdapter(Scenario)
_RUNS: TypeAdapter[dict[str, EffectSpec]] = TypeAdapter(Runs)


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
            problems.reject(root.where, f"expected a scenario: a mapping with steps, found {describe(root)}")
    except Rejected:
        raise ScenarioError(problems.lines()) from None
    root = apply_overrides(root, overrides, problems)
    scenario = reader.read(_SCENARIO, root)
    check_names(root, reader, records)
    problems.raise_if_any()
    if scenario is None:
        raise AssertionError("a scenario was refused, and nothing says why")
    return _completed(scenario, path)


def load_effects(path: Path) -> Mapping[str, Effect]:
    """Read a file that says what the commands of a Dockerfile leave behind.

    Raises:
        LocalFileError: it cannot be read.
        ScenarioError: it is invalid; every problem is told.
    """
    reader = Reader(directory=path.parent)
    effects: dict[str, EffectSpec] | None = {}
    try:
        root = parse(decode(read_file(path), path, reader.problems), str(path), reader.problems)
    except Rejected:
        raise ScenarioError(reader.problems.lines()) from None
    if root is not None:
        effects = reader.read(_RUNS, root)
    reader.problems.raise_if_any()
    return {command: left.effect() for command, left in (effects or {}).items()}


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


def _completed(scenario: Scenario, path: Path) -> Scenario:
    """Return the scenario with names, numbers and default nodes filled in, and its checks in full."""
    nodes = scenario.nodes or {DEFAULT_NODE: NodeSpec()}
    steps = tuple(
        _numbered(step, number, next(iter(nodes))) for number, step in enumerate(scenario.steps, start=1)
    )
    doings = (step.container.doing for step in steps if step.container is not None)
    images = {*scenario.images, *(each.image for each in doings if isinstance(each, Commit))}
    return scenario.model_copy(
        update={
            "path": path,
            "name": scenario.name or path.stem,
            "images": _named(scenario.images),
            "nodes": _named(nodes),
            "steps": steps,
            "checks": tuple(_resolved(check, steps, images) for check in scenario.checks),
        }
    )


def _named(specs: Mapping[str, M]) -> dict[str, M]:
    return {name: spec.model_copy(update={"name": name}) for name, spec in specs.items()}


def _numbered(step: Step, number: int, node: str) -> Step:
    """Return the step with its number, and the only node where it names none."""
    for key in ("push", "pull", "copy_"):
        action = getattr(step, key)
        if action is not None and not action.node:
            step = step.model_copy(update={key: action.model_copy(update={"node": node})})
    if step.container is not None and step.container.create is not None and not step.container.create.node:
        create = step.container.create.model_copy(update={"node": node})
        step = step.model_copy(update={"container": step.container.model_copy(update={"create": create})})
    return step.model_copy(update={"number": number})


def _resolved(check: Condition, steps: tuple[Step, ...], images: Collection[str]) -> Condition:
    """Return the check with its step by number, and a reference in the form that results have."""
    match check.selector:
        case StepSelector(str(name)):
            number = next(step.number for step in steps if step.name == name)
            return replace(check, selector=StepSelector(number))
        case ImageSelector(image) if image not in images:
            return replace(check, selector=ImageSelector(str(Place.parse(image))))
    return check
