from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from regsim.synth.recipe import LayerInfo, LayerPlan, LayerRecipe, plan
from regsim.synth.stand_in import stand_in
from regsim.synth.synthetic import RememberedLayers, default_folder

ROOT = Path(__file__).parents[2]


def sample(number: int) -> tuple[LayerPlan, LayerInfo]:
    planned = plan(LayerRecipe(key=str(number), size=5000))
    return planned, stand_in(planned)


def test_what_was_remembered_is_recalled_by_the_next_run(tmp_path: Path) -> None:
    planned, info = sample(1)
    assert RememberedLayers(tmp_path / "deep/cache").recall(planned) is None
    RememberedLayers(tmp_path / "deep/cache").remember(planned, info)
    assert RememberedLayers(tmp_path / "deep/cache").recall(planned) == info
    assert RememberedLayers(tmp_path / "deep/cache").recall(sample(2)[0]) is None


@pytest.mark.parametrize(
    "damage", ["cut", "emptied", "edited", "other kind", "not json", "huge", "a directory"]
)
def test_damaged_memory_counts_as_forgotten_and_is_written_anew(tmp_path: Path, damage: str) -> None:
    planned, info = sample(1)
    memory = RememberedLayers(tmp_path)
    memory.remember(planned, info)
    path = tmp_path / planned.identity
    raw = path.read_bytes()
    path.unlink()
    if damage == "a directory":
        path.mkdir()
    else:
        path.write_bytes(
            {
                "cut": raw[:-20],
                "emptied": b"",
                "edited": raw.replace(b"digest", b"x")
                .replace(b"diff_id", b"digest")
                .replace(b"x", b"diff_id"),
                "other kind": b"[1]",
                "not json": b"\xff\xfe",
                "huge": raw + b" " * 5000,
            }[damage]
        )
    assert memory.recall(planned) is None
    memory.remember(planned, info)
    assert (memory.recall(planned) == info) is (damage != "a directory")


def test_file_of_one_recipe_does_not_pass_for_another(tmp_path: Path) -> None:
    planned, info = sample(1)
    memory = RememberedLayers(tmp_path)
    memory.remember(planned, info)
    (tmp_path / planned.identity).rename(tmp_path / sample(2)[0].identity)
    assert memory.recall(sample(2)[0]) is None


def test_folder_that_cannot_be_made_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    memory = RememberedLayers(tmp_path / "file/cache")
    memory.remember(*sample(1))
    assert memory.recall(sample(1)[0]) is None


def test_memory_is_bounded_and_keeps_what_is_used(tmp_path: Path) -> None:
    memory = RememberedLayers(tmp_path, most=10)
    for number in range(10):
        planned, info = sample(number)
        memory.remember(planned, info)
        os.utime(tmp_path / planned.identity, (number, number))
    memory.recall(sample(0)[0])
    memory.remember(*sample(10))
    kept = {number for number in range(11) if memory.recall(sample(number)[0])}
    assert kept == {0, 7, 8, 9, 10}


WRITER = """
import sys
from pathlib import Path
from regsim.synth.recipe import LayerRecipe, plan
from regsim.synth.stand_in import stand_in
from regsim.synth.synthetic import RememberedLayers
memory = RememberedLayers(Path(sys.argv[1]), most=20)
for number in range(100):
    planned = plan(LayerRecipe(key=str(number), size=5000))
    memory.remember(planned, stand_in(planned))
    found = memory.recall(planned)
    assert found in (None, stand_in(planned))
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
