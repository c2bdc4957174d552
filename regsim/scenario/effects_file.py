"""Reading a file that says what the commands of a Dockerfile leave behind.

Owns the file's place in the order of work: bytes, YAML, keys. Must not know Dockerfiles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regsim.errors import ScenarioError
from regsim.scenario.format_run import RUNS
from regsim.scenario.load import decode, read_file
from regsim.scenario.positions import Rejected, parse
from regsim.scenario.shapes import Reader

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from regsim.image.builder.effects import Effect


def load_effects(path: Path) -> Mapping[str, Effect]:
    """Read such a file: a mapping of commands to files and deletions.

    Raises:
        LocalFileError: it cannot be read.
        ScenarioError: it is invalid; every problem is told.
    """
    reader = Reader(directory=path.parent)
    effects: Mapping[str, Effect] = {}
    try:
        root = parse(decode(read_file(path), path, reader.problems), str(path), reader.problems)
        if root is not None:
            effects = RUNS.read(root, reader)
    except Rejected:
        raise ScenarioError(reader.problems.lines()) from None
    reader.problems.raise_if_any()
    return effects
