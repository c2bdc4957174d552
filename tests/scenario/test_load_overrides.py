"""`--set PATH=VALUE` changes the document before it is judged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from regsim.scenario.load import parse_scenario
from tests.scenario.reading import problems

if TYPE_CHECKING:
    from regsim.scenario.schema import Scenario

TEXT = """\
seed: 1
images:
  api: {layers: [1MB]}
  api:1.2: {layers: [1MB, 2MB]}
nodes:
  ci:
  edge: {count: 2}
steps:
  - push: {image: api, to: x, node: ci}
"""


def load(*overrides: str) -> Scenario:
    return parse_scenario(TEXT, Path("s.yaml"), overrides)


def refused(*overrides: str) -> list[str]:
    return problems(TEXT, *overrides)


def sizes(scenario: Scenario, image: str) -> list[int]:
    return [layer.size for layer in scenario.images[image].layers or ()]


def test_values_are_replaced_and_added() -> None:
    scenario = load("seed=9", "nodes.edge.count=50", "name=other", "nodes.ci.client=docker")
    assert (scenario.seed, scenario.nodes["edge"].count, scenario.name) == (9, 50, "other")
    assert scenario.nodes["ci"].client == "docker"


def test_the_last_one_wins() -> None:
    assert load("seed=9", "seed=10").seed == 10


def test_keys_that_hold_dots_and_items_of_lists_can_be_reached() -> None:
    scenario = load("images.api:1.2.layers.2=5MB", "images.api.layers=[7MB, 8MB]")
    assert sizes(scenario, "api:1.2") == [1_000_000, 5_000_000]
    assert sizes(scenario, "api") == [7_000_000, 8_000_000]


def test_a_value_may_hold_an_equals_sign() -> None:
    assert load("description=a=b").description == "a=b"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("sed=9", 'unknown key "sed" — did you mean "seed"?'),
        ("seed=x", 'expected a whole number, found "x"'),
        ("seed=", "expected a whole number, found nothing"),
        ("nodes.edg.count=5", 'nothing here is called "edg" — did you mean "edge"?'),
        ("nodes.edge.cuont=5", 'unknown key "cuont" — did you mean "count"?'),
        ("images.api.layers.2=1MB", 'no item "2" in a list of 1 — items are counted from 1'),
        ("images.api.layers.0=1MB", 'no item "0" in a list of 1 — items are counted from 1'),
        ("seed.x=1", '"x" lies below a value that has no keys'),
        ("seed", "not an assignment — write PATH=VALUE, such as seed=9"),
        ("=1", "not an assignment — write PATH=VALUE, such as seed=9"),
        ("name=[", "not YAML: expected the node content, but found '<stream end>'"),
        ("name=1.10", 'a name must be text, found the number 1.10 — put it in quotes: "1.10"'),
    ],
)
def test_mistakes_are_told_at_the_option(override: str, expected: str) -> None:
    assert refused(override) == [f"--set {override}: {expected}"]


@pytest.mark.parametrize("url", ["http://me:s3cret@x:5000", "me:s3cret@x", "http://me:s3cret@[x"])
def test_a_password_in_the_url_of_a_registry_is_not_shown(url: str) -> None:
    (problem,) = refused(f"registry={url}")
    assert problem.startswith("--set registry=…@")
    assert problem.endswith("a registry's URL holds no user name or password — remove what precedes the @")


def test_mistakes_of_options_follow_those_of_the_file() -> None:
    found = problems(TEXT.replace("seed: 1", "seed: x"), "zzz=1", "aaa=1")
    assert [line.split(": ")[0] for line in found] == ["s.yaml:1:7", "--set zzz=1", "--set aaa=1"]
