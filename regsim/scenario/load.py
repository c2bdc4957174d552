"""Reading a scenario file: every mistake at once, each with its line and column.

Owns the order of the work: finding the file, bytes, YAML, `--set`, keys, names, and then values. Must not
know how a scenario runs, nor open anything but the file itself.

The path of `--set PATH=VALUE` is keys joined by dots, where a key may itself hold dots
(`images.api:1.2.layers`); items of lists are counted from 1, as steps are. What comes out is judged like what
the file says.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import TypeAdapter

from regsim.core.suggest import closest, did_you_mean
from regsim.errors import LocalFileError, ScenarioError, UsageError
from regsim.scenario.checks import Selector
from regsim.scenario.names import DEFAULT_NODE, check_names
from regsim.scenario.reader import Reader, describe
from regsim.scenario.schema import NodeSpec, Scenario
from regsim.scenario.schema_container import Commit
from regsim.scenario.schema_image import EffectSpec, Runs
from regsim.scenario.schema_step import Place
from regsim.scenario.yaml_document import (
    Entries,
    Items,
    Position,
    Problems,
    Rejected,
    Scalar,
    YamlNode,
    parse,
    scalar_at,
)
from regsim.synth.recorded import record_names, records_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from regsim.image.builder.effects import Effect
    from regsim.scenario.checks import Condition
    from regsim.scenario.schema_step import Step

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
        ScenarioError: it is invalid; every problem is reported.
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
        ScenarioError: it is invalid; every problem is reported.
        LocalFileError: the records are not installed.
    """
    reader = Reader(directory=path.parent)
    problems = reader.problems
    root = _root(data, path, problems)
    if root is None:
        problems.add(Position(0, 1, 1, str(path)), "the file is empty", 'a scenario has at least "steps"')
    elif not isinstance(root, Entries):
        problems.add(root.where, f"expected a scenario: a mapping with steps, found {describe(root)}")
    if not isinstance(root, Entries):
        raise ScenarioError(problems.lines())
    root = apply_overrides(root, overrides, problems)
    nodes = root.get("nodes")
    reader.nodes = tuple(nodes) if isinstance(nodes, Entries) and nodes else (DEFAULT_NODE,)
    scenario = reader.read(_SCENARIO, root)
    check_names(root, reader, records)
    if problems.noted or scenario is None:
        raise ScenarioError(problems.lines())
    return _completed(scenario, path)


def load_effects(path: Path) -> Mapping[str, Effect]:
    """Read a file that says what the commands of a Dockerfile leave behind.

    Raises:
        LocalFileError: it cannot be read.
        ScenarioError: it is invalid; every problem is reported.
    """
    reader = Reader(directory=path.parent)
    root = _root(read_file(path), path, reader.problems)
    effects = reader.read(_RUNS, root) if root is not None else None
    if reader.problems.noted:
        raise ScenarioError(reader.problems.lines())
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


def _root(data: bytes | str, path: Path, problems: Problems) -> YamlNode | None:
    """Return a file's document; None if it is empty.

    Raises:
        ScenarioError: it is too large, or neither UTF-8 nor YAML.
    """
    start = Position(0, 1, 1, str(path))
    try:
        if len(data) > MAX_FILE:
            problems.reject(start, "larger than 1 MiB, which no scenario is")
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        return parse(text, str(path), problems)
    except UnicodeDecodeError as error:
        head = error.object[: error.start].decode("utf-8-sig", errors="replace")
        where = replace(start, line=head.count("\n") + 1, column=len(head) - head.rfind("\n"))
        byte = error.object[error.start]
        problems.add(where, f"not UTF-8: byte 0x{byte:02x}", "save the file as UTF-8")
    except Rejected:
        pass
    raise ScenarioError(problems.lines())


def _completed(scenario: Scenario, path: Path) -> Scenario:
    """Return the scenario with names, numbers and default nodes filled in, and its checks in full."""
    nodes = scenario.nodes or {DEFAULT_NODE: NodeSpec()}
    numbered = enumerate(scenario.steps, start=1)
    steps = tuple(step.model_copy(update={"number": number}) for number, step in numbered)
    doings = (step.container.doing for step in steps if step.container is not None)
    images = {*scenario.images, *(each.image for each in doings if isinstance(each, Commit))}
    named = {name: spec.model_copy(update={"name": name}) for name, spec in scenario.images.items()}
    return scenario.model_copy(
        update={
            "path": path,
            "name": scenario.name or path.stem,
            "images": named,
            "nodes": {name: spec.model_copy(update={"name": name}) for name, spec in nodes.items()},
            "steps": steps,
            "checks": tuple(_resolved(check, steps, images) for check in scenario.checks),
        }
    )


def _resolved(check: Condition, steps: tuple[Step, ...], images: Collection[str]) -> Condition:
    """Return the check with its step by number, and a reference in the form that results have."""
    match check.selector:
        case Selector(step=str(name)):
            number = next(step.number for step in steps if step.name == name)
            return replace(check, selector=Selector(step=number))
        case Selector(image=str(image)) if image not in images:
            return replace(check, selector=Selector(image=str(Place.parse(image))))
    return check


# --- finding a file -------------------------------------------------------------------------------------

_SUFFIXES = (".yaml", ".yml")


class Shipped(NamedTuple):
    """A scenario that regsim ships."""

    name: str
    description: str
    path: Path


def find_scenario(name_or_path: str) -> Path:
    """Return the file that a user means.

    What has a directory or a suffix in it is a path. A mere word is a shipped scenario, or else a file of
    that name.

    Raises:
        UsageError: it is no path, and no shipped scenario is called that.
        LocalFileError: there is no such file.
    """
    path, names = Path(name_or_path), _shipped()
    is_name = path.suffix not in _SUFFIXES and path.name == name_or_path
    if is_name and name_or_path in names:
        return names[name_or_path]
    if os.path.isfile(path):  # noqa: PTH113  (Path.is_file raises where a name is too long)
        return path
    if is_name:
        raise UsageError(f'no scenario is called "{name_or_path}"', hint=did_you_mean(name_or_path, names))
    match = closest(path.stem, names)
    hint = f'did you mean the scenario "{match}"?' if match else "give a file, or the name of a scenario"
    raise LocalFileError(f"no such scenario file: {name_or_path}", hint=hint)


def shipped() -> list[Shipped]:
    """Return the scenarios that regsim ships, by name, with the question that each one answers."""
    found: list[Shipped] = []
    for name, path in _shipped().items():
        description = scalar_at(_root(read_file(path), path, Problems()), "description")
        found.append(Shipped(name, str(description or ""), path))
    return found


def _shipped() -> dict[str, Path]:
    # Records lie in a folder below the scenarios.
    return {path.stem: path for path in sorted(records_folder().parent.glob("*.yaml"))}


# --- --set PATH=VALUE -----------------------------------------------------------------------------------

_MAX_LENGTH = 10_000


def apply_overrides(root: Entries, assignments: Sequence[str], problems: Problems) -> Entries:
    """Return the document with every assignment made, in order.

    Args:
        root: the document.
        assignments: `PATH=VALUE` each; the value is read as YAML.
        problems: where mistakes are noted, under the position `--set PATH=VALUE`.
    """
    for rank, assignment in enumerate(assignments, start=1):
        try:
            changed = _assign(root, assignment, rank, problems)
        except Rejected:
            continue
        root = changed if isinstance(changed, Entries) else root
    return root


def _assign(root: Entries, assignment: str, rank: int, problems: Problems) -> YamlNode:
    # What precedes an @ in the URL of a registry may be a password.
    shown = re.sub(r"(?s)^(\s*registry\s*=).*@", r"\1…@", assignment)
    shown = "".join(char if char.isprintable() else " " for char in shown[:200])
    where = Position(rank, 1, 1, f"--set {shown}")
    path, equals, value = assignment.partition("=")
    if not equals or not path.strip():
        problems.reject(where, "not an assignment", "write PATH=VALUE, such as seed=9")
    if len(assignment) > _MAX_LENGTH:
        problems.reject(where, f"longer than {_MAX_LENGTH:,} characters")
    node = parse(value, where.source, problems, rank=rank)
    if node is None:
        node = Scalar("", where)
    return _set_at(root, path.strip(), node, where, problems)


def _set_at(parent: YamlNode, path: str, value: YamlNode, where: Position, problems: Problems) -> YamlNode:
    if isinstance(parent, Items):
        return _set_item(parent, path, value, where, problems)
    if isinstance(parent, Scalar):
        if not parent.is_null:
            problems.reject(where, f'"{path}" lies below a value that has no keys')
        parent = Entries((), where)
    known = [key for key in parent if path == key or path.startswith(f"{key}.")]
    if not known:
        first, dot, _ = path.partition(".")
        if dot:
            problems.reject(where, f'nothing here is called "{first}"', did_you_mean(first, parent))
        # Whether the key may be there at all is judged with the rest of the document.
        return Entries([*parent.written(), (Scalar(path, where, quoted=True), value)], parent.where)
    # The longest key wins, so that keys that hold dots can be reached.
    name = max(known, key=len)
    rest = path[len(name) + 1 :]
    entries: list[tuple[Scalar, YamlNode]] = []
    for key, old in parent.written():
        if key != name:
            entries.append((key, old))
        elif rest:
            entries.append((key, _set_at(old, rest, value, where, problems)))
        else:
            entries.append((Scalar(key, where, quoted=key.quoted), value))
    return Entries(entries, parent.where)


def _set_item(parent: Items, path: str, value: YamlNode, where: Position, problems: Problems) -> YamlNode:
    first, _, rest = path.partition(".")
    number = int(first) if first.isdecimal() and len(first) < 10 else 0  # noqa: PLR2004
    if not 1 <= number <= len(parent):
        count = len(parent)
        problems.reject(where, f'no item "{first}" in a list of {count}', "items are counted from 1")
    items = list(parent)
    items[number - 1] = _set_at(items[number - 1], rest, value, where, problems) if rest else value
    return Items(items, parent.where)
