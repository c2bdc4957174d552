"""Finding a scenario: a file, or the name of one that regsim ships.

Owns where shipped scenarios are. Must not know what a scenario says, but for its description.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from regsim.core.suggest import closest, did_you_mean
from regsim.errors import LocalFileError, UsageError
from regsim.scenario.load import read_file
from regsim.scenario.yaml_document import Problems, Rejected, parse, scalar_at

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
    path = Path(name_or_path)
    if path.suffix not in _SUFFIXES and path.name == name_or_path:
        shipped = _directory() / f"{name_or_path}.yaml"
        if _is_file(shipped):
            return shipped
    if _is_file(path):
        return path
    names = _names()
    if path.suffix in _SUFFIXES or path.name != name_or_path:
        match = closest(path.stem, names)
        hint = f'did you mean the scenario "{match}"?' if match else "give a file, or the name of a scenario"
        raise LocalFileError(f"no such scenario file: {name_or_path}", hint=hint)
    raise UsageError(f'no scenario is called "{name_or_path}"', hint=did_you_mean(name_or_path, names))


def shipped() -> list[Shipped]:
    """Return the scenarios that regsim ships, by name, with the question that each one answers."""
    directory = _directory()
    paths = [directory / f"{name}.yaml" for name in _names()]
    return [Shipped(path.stem, _description(path), path) for path in paths]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # A name that is too long for the file system is the name of no file.
        return False


def _names() -> list[str]:
    return sorted(path.stem for path in _directory().glob("*.yaml"))


def _directory() -> Path:
    package = Path(__file__).parent.parent
    installed = package / "_scenarios"
    # In a checkout they lie at the top, where a reader looks for them.
    return installed if installed.is_dir() else package.parent / "scenarios"


def _description(path: Path) -> str:
    problems = Problems()
    try:
        root = parse(read_file(path).decode(errors="replace"), str(path), problems)
    except Rejected:
        return ""
    return str(scalar_at(root, "description") or "")
