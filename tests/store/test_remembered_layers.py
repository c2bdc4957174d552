from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from regsim.synth.recipe import LayerRecipe
from regsim.synth.synthetic import LayerInfo, RememberedLayers, default_folder, stand_in

ROOT = Path(__file__).parents[2]


def sample(number: int) -> tuple[str, LayerInfo]:
    recipe = LayerRecipe(key=str(number), size=5000)
    return recipe.identity, stand_in(recipe)


def test_what_was_remembered_is_recalled_by_the_next_run(tmp_path: Path) -> None:
    identity, info = sample(1)
    assert RememberedLayers(tmp_path / "deep/cache").recall(identity) is None
    RememberedLayers(tmp_path / "deep/cache").remember(identity, info)
    assert RememberedLayers(tmp_path / "deep/cache").recall(identity) == info
    assert RememberedLayers(tmp_path / "deep/cache").recall(sample(2)[0]) is None


@pytest.mark.parametrize(
    "damage", ["cut", "emptied", "edited", "other kind", "not json", "huge", "a directory"]
)
def test_damaged_memory_counts_as_forgotten_and_is_written_anew(tmp_path: Path, damage: str) -> None:
    identity, info = sample(1)
    memory = RememberedLayers(tmp_path)
    memory.remember(identity, info)
    path = tmp_path / identity
    raw = path.read_bytes()
    path.unlink()
    if damage == "a directory":
        path.mkdir()
    else:
        path.write_bytes(
            {
                "cut": raw[:-20],
                "emptied": b"",
                "edited": raw.replace(b"5000", b"5001"),
                "other kind": b"[1]",
                "not json": b"\xff\xfe",
                "huge": raw + b" " * 5000,
            }[damage]
        )
    assert memory.recall(identity) is None
    memory.remember(identity, info)
    assert (memory.recall(identity) == info) is (damage != "a directory")


def test_file_of_one_recipe_does_not_pass_for_another(tmp_path: Path) -> None:
    identity, info = sample(1)
    memory = RememberedLayers(tmp_path)
    memory.remember(identity, info)
    (tmp_path / identity).rename(tmp_path / sample(2)[0])
    assert memory.recall(sample(2)[0]) is None


def test_folder_that_cannot_be_made_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    memory = RememberedLayers(tmp_path / "file/cache")
    memory.remember(*sample(1))
    assert memory.recall(sample(1)[0]) is None


def test_memory_is_bounded_and_keeps_what_is_used(tmp_path: Path) -> None:
    memory = RememberedLayers(tmp_path, most=10)
    for number in range(10):
        identity, info = sample(number)
        memory.remember(identity, info)
        os.utime(tmp_path / identity, (number, number))
    memory.recall(sample(0)[0])
    memory.remember(*sample(10))
    kept = {number for number in range(11) if memory.recall(sample(number)[0])}
    assert kept == {0, 7, 8, 9, 10}


WRITER = """
import sys
from pathlib import Path
from regsim.synth.recipe import LayerRecipe
from regsim.synth.synthetic import RememberedLayers
from regsim.synth.synthetic import stand_in
memory = RememberedLayers(Path(sys.argv[1]), most=20)
for number in range(100):
    recipe = LayerRecipe(key=str(number), size=5000)
    memory.remember(recipe.identity, stand_in(recipe))
    found = memory.recall(recipe.identity)
    assert found in (None, stand_in(recipe))
"""


def test_concurrent_processes_do_not_disturb_each_other(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], env=environment) for _ in range(2)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    assert len(list(tmp_path.iterdir())) <= 20


def test_folder_follows_the_xdg_specification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_folder() == tmp_path / ".cache/regsim/layers"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_folder() == tmp_path / ".cache/regsim/layers"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    assert default_folder() == tmp_path / "mine/regsim/layers"
