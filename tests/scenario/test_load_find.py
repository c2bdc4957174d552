"""A scenario is found by its path or by the name under which regsim ships it."""

from __future__ import annotations

from pathlib import Path

import pytest

from regsim.errors import LocalFileError, UsageError
from regsim.scenario.load import find_scenario, load_scenario, shipped


def test_a_shipped_scenario_is_found_by_name() -> None:
    path = find_scenario("golang-upgrade")
    assert load_scenario(path).name == "golang-upgrade"


def test_a_file_is_found_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("steps: []")
    assert find_scenario(str(path)) == path
    monkeypatch.chdir(tmp_path)
    assert find_scenario("mine.yaml") == Path("mine.yaml")


def test_a_mistyped_name_is_told_with_the_name_that_was_meant(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        find_scenario("golang-upgrad")
    assert caught.value.hint == 'did you mean "golang-upgrade"?'
    with pytest.raises(LocalFileError) as missing:
        find_scenario(str(tmp_path / "shared-bas.yaml"))
    assert missing.value.hint == 'did you mean the scenario "shared-base"?'


@pytest.mark.parametrize("word", ["", "..", "x" * 5000, "a\0b", "é"])
def test_what_can_be_no_scenario_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="no scenario is called"):
        find_scenario(word)


def test_every_shipped_scenario_asks_a_question() -> None:
    scenarios = shipped()
    assert {scenario.name for scenario in scenarios} >= {
        "base-alignment",
        "cold-vs-warm",
        "cross-repo-mount",
        "golang-upgrade",
        "rebuilt-base",
        "shared-base",
    }
    for scenario in scenarios:
        loaded = load_scenario(scenario.path)
        assert (loaded.name, loaded.description) == (scenario.name, scenario.description)
        assert scenario.description.endswith("?")
        assert loaded.checks
        assert any(step.expect.comparisons for step in loaded.steps)
