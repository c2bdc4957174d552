"""What reading a scenario finds wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from regsim.errors import ExitCode, ScenarioError
from regsim.scenario.load import parse_scenario

if TYPE_CHECKING:
    from collections.abc import Collection


def problems(text: str | bytes, *overrides: str, records: Collection[str] = ()) -> list[str]:
    """Return the problems of a scenario called s.yaml, which must have some."""
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(text, Path("s.yaml"), overrides, records=lambda: records)
    assert caught.value.exit_code is ExitCode.USAGE
    return caught.value.problems
