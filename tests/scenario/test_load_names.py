"""Names that a scenario uses are defined in it, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from regsim.scenario.load import parse_scenario
from tests.scenario.reading import problems

STEPS = "steps:\n  - {name: first, push: {image: a, to: 'shop/a:v1'}}\n  - pull: {reference: shop/a:v1}\n"
IMAGES = "images:\n  a: {layers: [1MB]}\n"


def test_an_image_with_a_mistake_in_it_is_defined_all_the_same() -> None:
    assert problems(IMAGES.replace("1MB", "1mB") + STEPS) == [
        's.yaml:2:16: unknown unit of size: "mB" — did you mean "MB"?'
    ]


def test_an_image_built_from_itself_is_told_once_with_the_way_round() -> None:
    images = "images:\n  a: {from: b, layers: []}\n  b: {from: c, layers: []}\n  c: {from: a, layers: []}\n"
    assert problems(images + STEPS) == ['s.yaml:2:13: "a" is built from itself: a from b from c from a']
    images = "images:\n  a: {from: a, layers: []}\n"
    assert problems(images + STEPS) == ['s.yaml:2:13: "a" is built from itself: a from a']


def test_nothing_is_built_from_an_index_or_from_a_layout() -> None:
    images = IMAGES + (
        "  real: {oci: ./layout}\n"
        "  index: {platforms: {linux/amd64: {layers: [1MB]}}}\n"
        "  b: {from: real, layers: []}\n"
        "  c: {from: index, layers: []}\n"
    )
    hint = "which nothing can be built from yet — name an image made of layers, or a record"
    assert problems(images + STEPS) == [
        f's.yaml:5:13: "real" is real content, {hint}',
        f's.yaml:6:13: "index" is an index, {hint}',
    ]


def test_records_must_exist() -> None:
    images = IMAGES + "  go: {record: golang-1.23}\n"
    records = frozenset({"golang-1.23.3", "redis-7"})
    assert problems(images + STEPS, records=records) == [
        's.yaml:3:16: no record "golang-1.23" — did you mean "golang-1.23.3"?'
    ]


def test_with_several_nodes_a_step_says_which() -> None:
    nodes = "nodes:\n  ci:\n  edge: {count: 2}\n"
    hint = 'several nodes, and no "node" here says which one — write one of ci, edge'
    assert problems(IMAGES + nodes + STEPS) == [f"s.yaml:7:25: {hint}", f"s.yaml:8:11: {hint}"]


def test_nodes_and_steps_have_names_of_their_own() -> None:
    text = IMAGES + (
        "nodes:\n  edge: {count: 3}\n  edge-3: {}\n  edge-4: {}\n"
        "steps:\n"
        "  - {name: go, pull: {reference: x, node: edge}}\n"
        "  - {name: go, pull: {reference: x, node: edge}}\n"
    )
    assert problems(text) == [
        's.yaml:5:3: "edge-3" is also one of the 3 nodes of "edge" — rename one of them',
        's.yaml:9:12: another step is called "go" already',
    ]


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        ("exists(step 3) == 1", "no step 3 — steps are counted from 1 to 2"),
        ("exists(step 0) == 1", "no step 0 — steps are counted from 1 to 2"),
        ("exists(step frist) == 1", 'no step "frist" — did you mean "first"?'),
        ("exists(b) == 1", 'no image or reference "b" — known: a, shop/a:v1, step first'),
        ("exists(shop/a:v2) == 1", 'no image or reference "shop/a:v2" — did you mean "shop/a:v1"?'),
    ],
)
def test_checks_select_what_there_is(check: str, expected: str) -> None:
    assert problems(f"{IMAGES}{STEPS}checks: ['{check}']\n") == [f"s.yaml:6:10: {expected}"]


def test_a_long_chain_of_bases_is_read_and_a_long_circle_is_told_in_short() -> None:
    lines = [f"  i{number}: {{from: i{number - 1}, layers: [1kB]}}\n" for number in range(1, 1500)]
    images = f"images:\n  i0: {{layers: [1kB]}}\n{''.join(lines)}"
    steps = "steps:\n  - push: {image: i1499, to: x}\n"
    scenario = parse_scenario(images + steps, Path("s.yaml"))
    assert len(scenario.images) == 1500
    circle = images.replace("i0: {layers", "i0: {from: i1499, layers")
    [problem] = problems(circle + steps)
    assert problem.startswith('s.yaml:2:14: "i0" is built from itself: i0 from i1499 from i1498 from ')
    assert problem.endswith("from i1491 from … from i0")
