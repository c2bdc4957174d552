"""Editors, the reader and the documentation know the same keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft7Validator
from ruamel.yaml import YAML

from regsim.errors import ScenarioError
from regsim.scenario.load import parse_scenario
from regsim.scenario.schema import json_schema
from tests.scenario.key_tables import key_tables

if TYPE_CHECKING:
    from collections.abc import Iterator

SCENARIOS = Path(__file__).parents[2] / "scenarios"
SHIPPED = sorted(SCENARIOS.glob("*.yaml"))


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for value in schema.values():
            yield from objects(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from objects(value)


def valid(text: str) -> bool:
    document = json.loads(json.dumps(YAML(typ="safe", pure=True).load(text)))
    return Draft7Validator(json_schema()).is_valid(document)


def test_the_shipped_schema_is_the_generated_one() -> None:
    shipped = (SCENARIOS / "scenario.schema.json").read_text()
    assert shipped == json.dumps(json_schema(), indent=2) + "\n"


def test_the_gallery_holds_the_generated_tables() -> None:
    assert key_tables() in (SCENARIOS / "README.md").read_text()


def test_every_shipped_scenario_is_in_the_gallery() -> None:
    gallery = (SCENARIOS / "README.md").read_text()
    for path in SHIPPED:
        assert f"[`{path.stem}`]({path.name})" in gallery


def test_the_schema_is_draft_07_and_describes_every_key() -> None:
    schema = json_schema()
    Draft7Validator.check_schema(schema)
    found = list(objects(schema))
    assert len(found) > 10
    for part in found:
        assert part["additionalProperties"] is False
        for key in part["properties"].values():
            assert key["description"].endswith(".")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_scenarios_follow_the_schema_and_name_it_for_editors(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# yaml-language-server: $schema=./scenario.schema.json\n")
    assert valid(text)


IMAGES = "images: {a: {layers: [1MB]}}\n"


@pytest.mark.parametrize(
    "text",
    [
        "steps: []\n",
        "steps:\n  - pull: {reference: 3}\n",
        "steps:\n  - pull: {}\n",
        "steps:\n  - {pull: {reference: x}, push: {image: a, to: x}}\n" + IMAGES,
        "steps:\n  - pull: {reference: x, nod: y}\n",
        "steps:\n  - {pull: {reference: x}, expect: {transferred: [1]}}\n",
        "steps:\n  - pull: {reference: x}\nimages: {a: {layers: [1mb]}}\n",
        "steps:\n  - pull: {reference: x}\nimages: {a: {layers: [1MB], record: x}}\n",
        "steps:\n  - pull: {reference: x}\nnodes: {a: {count: 0}}\n",
        "steps:\n  - pull: {reference: x}\nmodes: [wired]\n",
        'steps:\n  - pull: {reference: x}\nchecks: ["saved => 3"]\n',
        "steps:\n  - pull: {reference: x}\nregistry: {mock: {profile: nosuch}}\n",
        "steps:\n  - pull: {reference: x}\nregistry: {mock: {faults: base cut}}\n",
        "steps:\n  - container: {}\n",
        "steps:\n  - container: {stop: {name: web}}\n",
        "steps:\n  - container: {create: {name: web}}\n" + IMAGES,
        "steps:\n  - container: {read: {name: web, path: x}, stop: web}\n",
        "steps:\n  - {container: {read: {name: web, path: x}}, expect: {file: there}}\n",
    ],
)
def test_editors_and_the_reader_refuse_alike(text: str) -> None:
    assert not valid(text)
    with pytest.raises(ScenarioError):
        parse_scenario(text, Path("s.yaml"))
