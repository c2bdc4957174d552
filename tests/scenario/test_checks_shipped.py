"""The answers of the shipped scenarios follow from their layers by plain arithmetic.

A naive account with sets, which shares nothing with the transfer machine: what `expect` and `checks` say in
the files is held against it, so that no figure stands there by guess.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import pytest

from regsim.core.holdings import SkipRule
from regsim.scenario.images import open_images
from regsim.scenario.load import Shipped, load_scenario, shipped
from regsim.scenario.schema_container import Commit, Create, InContainer, Presence, Read, Write
from regsim.scenario.schema_step import Copy, Place, Pull, Push, Step
from regsim.synth.recorded import load_record

if TYPE_CHECKING:
    from pathlib import Path

    from regsim.scenario.checks import Number, Selector
    from regsim.scenario.schema import NodeSpec, Scenario
    from regsim.scenario.schema_container import Doing
    from regsim.scenario.schema_image import FileSpec


class Layer(NamedTuple):
    identity: object
    size: int


class Account(NamedTuple):
    step: int
    names: tuple[str, ...]
    outcomes: tuple[tuple[str, int], ...]


def figure(accounts: list[Account], metric: str) -> Number:
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for account in accounts:
        for outcome, size in account.outcomes:
            for name in {outcome, "referenced", "saved" if outcome != "transferred" else outcome}:
                counts[name] += 1
                sizes[name] += size
    if metric == "saved_ratio":
        return sizes["saved"] / sizes["referenced"]
    word = metric.removesuffix("_bytes")
    return sizes[word] if metric.endswith("_bytes") else counts[word]


def size_of(file: FileSpec) -> int:
    return len(file.content) if file.content is not None else file.size


@dataclass
class Box:
    """A container that is two mappings of paths to sizes: the image's files, and its own."""

    image: str
    below: dict[bytes, int]
    own: dict[bytes, int] = field(default_factory=dict)
    copied: int = 0

    def files(self) -> dict[bytes, int]:
        return {**self.below, **self.own}

    def do(self, doing: Doing) -> None:
        self.copied = 0
        if not isinstance(doing, Write):
            return
        self.own.update({path: size_of(file) for path, file in doing.files.items()})
        for path, file in doing.append.items():
            if path not in self.own:
                self.own[path] = self.below[path]
                self.copied += self.below[path]
            self.own[path] += size_of(file)

    def figure(self, metric: str) -> int:
        return self.copied if metric == "copied_up_bytes" else sum(self.own.values())


@dataclass
class Naive:
    """A registry and nodes that are sets of layers."""

    scenario: Scenario
    tags: dict[str, list[Layer]] = field(default_factory=dict)
    repositories: dict[str, set[Layer]] = field(default_factory=lambda: defaultdict(set))
    held: dict[str, set[Layer]] = field(default_factory=lambda: defaultdict(set))
    runs: dict[str, set[tuple[Layer, ...]]] = field(default_factory=lambda: defaultdict(set))
    accounts: list[Account] = field(default_factory=list)
    built: dict[str, list[Layer]] = field(default_factory=dict)
    boxes: dict[str, Box] = field(default_factory=dict)
    files: dict[str, dict[bytes, int]] = field(default_factory=dict)

    def layers(self, name: str) -> list[Layer]:
        image = self.scenario.images.get(name)
        if image is not None and image.record is not None:
            recipes = [line.recipe for line in load_record(image.record).instructions]
            return [Layer(recipe.recorded, recipe.size) for recipe in recipes if recipe is not None]
        if image is None or image.layers is None:
            return self.built[name]
        own = [Layer((name, index), spec.size) for index, spec in enumerate(image.layers)]
        return (self.layers(image.base) if image.base else []) + own

    def run(self, step: Step) -> list[Account]:
        match step.action:
            case Push(image=image, to=to):
                done = [Account(step.number, (image, str(to)), self.send(self.layers(image), to))]
            case Copy(source=source, to=to):
                done = [Account(step.number, (str(to),), self.send(self.tags[str(source)], to))]
            case Pull(reference=reference, node=node):
                spec = self.scenario.nodes[node]
                layers = self.tags[str(reference)]
                outcomes = [self.fetch(layers, spec, member) for member in spec.members()]
                done = [Account(step.number, (str(reference),), each) for each in outcomes]
            case InContainer(doing=Commit(name=name, image=image)):
                # What a compressor makes of an empty file no arithmetic foretells; it is less than 200 bytes.
                self.built[image] = [*self.layers(self.boxes[name].image), Layer((image, "committed"), 199)]
                self.files[image] = self.boxes[name].files()
                done = []
            case InContainer(doing=Create(name=name, image=image)):
                self.boxes[name] = Box(image, self.files_of(image))
                done = []
            case InContainer(doing=doing):
                self.boxes[doing.name].do(doing)
                done = []
            case action:
                pytest.fail(f"no account of {action}")
        self.accounts += done
        return done

    def files_of(self, image: str) -> dict[bytes, int]:
        """Return what the image's RUNs are said to leave, with sizes."""
        spec = self.scenario.images.get(image)
        if spec is None or spec.dockerfile is None:
            return self.files[image]
        return {path: size_of(file) for effect in spec.run.values() for path, file in effect.files.items()}

    def send(self, layers: list[Layer], to: Place) -> tuple[tuple[str, int], ...]:
        here = self.repositories[to.repository]
        elsewhere = set().union(*self.repositories.values()) - here
        words = [
            "exists" if layer in here else "mounted" if layer in elsewhere else "transferred"
            for layer in layers
        ]
        here.update(layers)
        self.tags[str(to)] = layers
        return tuple((word, layer.size) for word, layer in zip(words, layers, strict=True))

    def fetch(self, layers: list[Layer], spec: NodeSpec, member: str) -> tuple[tuple[str, int], ...]:
        held, runs = self.held[member], self.runs[member]
        chains = [tuple(layers[: end + 1]) for end in range(len(layers))]
        if spec.skip is SkipRule.CHAIN:
            skipped = [chain in runs for chain in chains]
        else:
            skipped = [layer in held for layer in layers]
        held.update(layers)
        runs.update(chains)
        words = ["exists" if skip else "transferred" for skip in skipped]
        return tuple((word, layer.size) for word, layer in zip(words, layers, strict=True))

    def metric(self, metric: str, selector: Selector) -> Number | None:
        if metric == "wasted_bytes":
            return 0
        chosen = [
            account
            for account in self.accounts
            if selector.step in (None, account.step) and selector.image in (None, *account.names)
        ]
        return figure(chosen, metric) if chosen else None


async def built(scenario: Scenario, scratch: Path) -> dict[str, list[Layer]]:
    """Return the layers of what is built from Dockerfiles: no arithmetic foretells a compressor's output."""
    images = await open_images(scenario, generate=False, tell=lambda _: None, scratch=scratch)
    found: dict[str, list[Layer]] = {}
    for name, spec in scenario.images.items():
        if spec.dockerfile is not None:
            (document,) = images.manifests[name].manifests.values()
            found[name] = [Layer(each.digest, each.size) for each in document.layers]
    return found


@pytest.mark.parametrize("entry", shipped(), ids=lambda entry: entry.name)
def test_every_expected_figure_follows_from_the_layers(entry: Shipped, tmp_path: Path) -> None:
    scenario = load_scenario(entry.path)
    naive = Naive(scenario, built=asyncio.run(built(scenario, tmp_path)))
    for step in scenario.steps:
        accounts = naive.run(step)
        if isinstance(step.action, InContainer):
            box = naive.boxes[step.action.doing.name]
            figures = {each.metric: box.figure(each.metric) for each in step.expect.comparisons}
            assert all(each.holds(figures[each.metric]) for each in step.expect.comparisons)
            if isinstance(step.action.doing, Read):
                there = step.action.doing.path in box.files()
                assert (step.expect.file is Presence.PRESENT) is there
            continue
        for comparison in step.expect.comparisons:
            verdict = comparison.check(step.number, [figure([each], comparison.metric) for each in accounts])
            assert verdict.passed, verdict
    for check in scenario.checks:
        verdict = check.check(None, [naive.metric(check.metric, check.selector)])
        assert verdict.passed, verdict


def test_the_naive_account_can_fail() -> None:
    [entry] = [entry for entry in shipped() if entry.name == "golang-upgrade"]
    scenario = load_scenario(entry.path, ["steps.4.expect.transferred_bytes=166359864"])
    naive = Naive(scenario)
    accounts = [naive.run(step) for step in scenario.steps][-1]
    [comparison] = [
        each for each in scenario.steps[-1].expect.comparisons if each.metric == "transferred_bytes"
    ]
    verdict = comparison.check(4, [figure([each], comparison.metric) for each in accounts])
    assert (verdict.passed, verdict.actual) == (False, 166_359_863)
