"""`regsim schema`, as a user calls it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import pytest

from regsim.scenario.load import shipped

if TYPE_CHECKING:
    from tests.cli.conftest import Regsim

SHIPPED = Path(__file__).parents[2] / "scenarios" / "scenario.schema.json"


def test_schema_is_the_shipped_file_and_a_schema(regsim: Regsim, tmp_path: Path) -> None:
    done = regsim("schema")
    assert (done.code, done.err) == (0, "")
    assert done.out == SHIPPED.read_text()
    jsonschema.Draft7Validator.check_schema(done.json)
    assert regsim("schema", "--output", tmp_path / "schema.json").out == ""
    assert (tmp_path / "schema.json").read_text() == done.out


def test_schema_refuses_what_is_no_scenario(regsim: Regsim) -> None:
    validator = jsonschema.Draft7Validator(regsim("schema").json)
    assert not validator.is_valid({"step": []})
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({"steps": [{"psh": {}}]})
    assert len(shipped()) >= 6
