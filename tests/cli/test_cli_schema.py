"""`regsim schema` and `regsim check`, as a user calls them."""

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


def test_check_runs_nothing_and_prints_every_mistake_of_all_files(regsim: Regsim, tmp_path: Path) -> None:
    good, bad, worse = (tmp_path / name for name in ("good.yaml", "bad.yaml", "worse.yaml"))
    good.write_text("registry: http://127.0.0.1:9\nmodes: [plan]\nsteps:\n  - pull: {reference: x}\n")
    bad.write_text("sed: 1\nsteps:\n  - pull: {reference: x, nod: y}\n")
    worse.write_text("steps: []\n")
    done = regsim("check", good, "golang-upgrade", "--set", "seed=4")
    assert (done.code, done.out, done.err) == (0, f"{good}: valid\ngolang-upgrade: valid\n", "")
    done = regsim("check", good, bad, worse)
    assert (done.code, done.out) == (2, "")
    for mistake in (f"{bad}:1:1: ", f"{bad}:3:26: ", f"{worse}:1:8: "):
        assert mistake in done.err
    done = regsim("check", good, "--set", "seed=x")
    assert done.code == 2
    assert '--set seed=x: expected a whole number, found "x"' in done.err
    assert regsim("check").code == 2
