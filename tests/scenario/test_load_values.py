"""A file that is right becomes values, with every default filled in."""

from __future__ import annotations

from pathlib import Path

import pytest

from regsim.core import Platform
from regsim.core.holdings import SkipRule
from regsim.core.result import Mode
from regsim.scenario.checks import Selector
from regsim.scenario.load import parse_scenario
from regsim.scenario.schema import Client, Login, MockSpec, NodeSpec, RegistrySpec, Scenario
from regsim.scenario.schema_image import ImageSpec, LayerFormat, LayerSpec, Layout, PlatformImage
from regsim.scenario.schema_step import Copy, Delete, Place, Pull, Push, Tag

EVERYTHING = """\
name: everything
description: |
  What can be written?
seed: 7
images:
  base: {layers: [28MB, 4096]}
  api:v1:
    from: base
    layers:
      - {size: 1MB, created_by: "COPY . .", ratio: 2.5, files: {app/main: 3kB, app/data: 10}}
      - {size: 2MiB, media_type: tar, files: 12}
  app: {platforms: {linux/amd64: {layers: [1MB]}, linux/arm64/v8: {from: base, layers: []}}}
  go: {record: golang-1.23.4-bookworm-arm64}
  mine: {oci: "./layout:latest"}
  other: {oci: /srv/layout}
nodes:
  ci:
  edge: {count: 20, client: docker}
  fast: {client: docker, skip: blob, parallel: 9, store: "oci:./kept"}
steps:
  - push: {image: "api:v1", to: shop/api, node: ci}
    name: first push
    expect: {transferred: 3, saved_ratio: ">= 90%", transferred_bytes: "< 5MB"}
  - pull: {reference: "shop/api:latest", node: edge}
  - copy: {from: shop/api, to: "live/api:v1", node: ci}
  - tag: {reference: "live/api:v1", tag: stable}
  - delete: {reference: "live/api:v2"}
    expect: {error: MANIFEST_UNKNOWN}
checks:
  - saved_ratio(step first push) >= 0.5
  - exists( step 2 )==0
  - wire_sent(shop/api) > 0
  - requests < 100
modes: [wire, model]
"""


def load(text: str) -> Scenario:
    return parse_scenario(text, Path("dir/s.yaml"))


@pytest.fixture(scope="module")
def everything() -> Scenario:
    return load(EVERYTHING)


def test_what_is_left_out_has_a_default() -> None:
    scenario = load("steps:\n  - pull: {reference: x}\n")
    assert scenario.name == "s"
    assert (scenario.description, scenario.seed, scenario.registry) == ("", 0, RegistrySpec(mock=MockSpec()))
    assert scenario.nodes == {"node": NodeSpec(name="node")}
    assert scenario.nodes["node"].members() == ("node",)
    assert scenario.modes == (Mode.WIRE, Mode.MODEL, Mode.PLAN)
    [step] = scenario.steps
    assert step.action == Pull(reference=Place(repository="x", tag="latest"), node="node")
    assert (step.number, step.name) == (1, None)
    assert (step.expect.comparisons, step.expect.error) == ((), None)


def test_images(everything: Scenario) -> None:
    images = everything.images
    assert images["base"] == ImageSpec(name="base", layers=(LayerSpec(size=28_000_000), LayerSpec(size=4096)))
    assert images["api:v1"] == ImageSpec(
        name="api:v1",
        base="base",
        layers=(
            LayerSpec(
                size=1_000_000, created_by="COPY . .", ratio=2.5, files={"app/main": 3000, "app/data": 10}
            ),
            LayerSpec(size=2 * 2**20, media_type=LayerFormat.TAR, files=12),
        ),
    )
    assert images["go"] == ImageSpec(name="go", record="golang-1.23.4-bookworm-arm64")
    assert images["mine"] == ImageSpec(name="mine", oci=Layout(Path("dir/layout"), "latest"))
    assert images["other"] == ImageSpec(name="other", oci=Layout(Path("/srv/layout")))


def test_an_index_keeps_the_order_of_its_platforms(everything: Scenario) -> None:
    platforms = everything.images["app"].platforms
    assert platforms is not None
    arm = Platform("linux", "arm64", "v8")
    assert [*platforms] == [Platform("linux", "amd64"), arm]
    assert platforms[arm] == PlatformImage(layers=(), base="base")


def test_a_client_sets_the_skip_rule_and_parallel_unless_they_are_written(everything: Scenario) -> None:
    edge, fast = everything.nodes["edge"], everything.nodes["fast"]
    assert (edge.client, edge.skip, edge.parallel) == (Client.DOCKER, SkipRule.CHAIN, 3)
    assert (len(edge.members()), edge.members()[0], edge.members()[-1]) == (20, "edge-1", "edge-20")
    assert (fast.skip, fast.parallel, fast.store) == (SkipRule.BLOB, 9, Path("dir/kept"))
    assert everything.nodes["ci"] == NodeSpec(name="ci")


def test_steps_have_numbers_nodes_and_tags(everything: Scenario) -> None:
    latest = Place(repository="shop/api", tag="latest")
    live = Place(repository="live/api", tag="v1")
    assert [step.action for step in everything.steps] == [
        Push(image="api:v1", to=latest, node="ci"),
        Pull(reference=latest, node="edge"),
        Copy(source=latest, to=live, node="ci"),
        Tag(reference=live, tag="stable"),
        Delete(reference=Place(repository="live/api", tag="v2")),
    ]
    assert [step.number for step in everything.steps] == [1, 2, 3, 4, 5]


def test_expectations_keep_their_order_and_say_what_was_written(everything: Scenario) -> None:
    first, *_, last = everything.steps
    assert [comparison.text for comparison in first.expect.comparisons] == [
        "transferred == 3",
        "saved_ratio >= 90%",
        "transferred_bytes < 5MB",
    ]
    assert last.expect.error == "MANIFEST_UNKNOWN"


def test_checks_name_steps_by_number_and_references_in_full(everything: Scenario) -> None:
    assert [check.selector for check in everything.checks] == [
        Selector(step=1),
        Selector(step=2),
        Selector(image="shop/api:latest"),
        Selector(),
    ]
    assert everything.checks[0].text == "saved_ratio(step first push) >= 0.5"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("mock", RegistrySpec(mock=MockSpec())),
        ("{mock: {}}", RegistrySpec(mock=MockSpec())),
        ("{mock: }", RegistrySpec(mock=MockSpec())),
        ("{mock: {auth: token}}", RegistrySpec(mock=MockSpec(auth=Login.TOKEN))),
        ("http://127.0.0.1:5000/", RegistrySpec(url="http://127.0.0.1:5000")),
        ("https://registry.example", RegistrySpec(url="https://registry.example")),
        ('"127.0.0.1:5000"', RegistrySpec(url="http://127.0.0.1:5000")),
        ("localhost", RegistrySpec(url="http://localhost")),
        ('"registry.example:5000"', RegistrySpec(url="https://registry.example:5000")),
        ('{container: "registry:3"}', RegistrySpec(container="registry:3")),
        ("container", RegistrySpec(container="registry:2")),
    ],
)
def test_registries(written: str, expected: RegistrySpec) -> None:
    scenario = load(f"registry: {written}\nsteps:\n  - pull: {{reference: x}}\n")
    assert scenario.registry == expected


def test_aliases_repeat_what_an_anchor_names() -> None:
    text = (
        "images:\n  a: {layers: &layers [1MB]}\n  b: {layers: *layers}\nsteps:\n  - push: {image: a, to: x}\n"
    )
    scenario = load(text)
    assert scenario.images["b"] == ImageSpec(name="b", layers=(LayerSpec(size=1_000_000),))
