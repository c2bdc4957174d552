from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from regsim.core import Digest, Platform, parse_config
from regsim.errors import UsageError
from regsim.store.verify import read_all
from regsim.synth import recorded
from regsim.synth.images import ImageSource
from regsim.synth.recipe import plan
from regsim.synth.recorded import Record, load_record, record_names, records_folder
from regsim.synth.stand_in import StandIns

if TYPE_CHECKING:
    from pathlib import Path

    from regsim.synth.recipe import LayerRecipe

pytestmark = pytest.mark.anyio

ARM = "golang-1.23.4-bookworm-arm64"
OLD = "golang-1.23.3-bookworm-amd64"
DECEMBER = "golang-1.23.4-bookworm-amd64-2024-12"
JANUARY = "golang-1.23.4-bookworm-amd64-2025-01"
NODE = "node-22.13.0-bookworm-amd64"
PYTHON = "python-3.13.1-bookworm-amd64"


def layers(record: Record) -> dict[Digest, int]:
    recipes = [line.recipe for line in record.instructions if line.recipe is not None]
    return {recipe.recorded: recipe.size for recipe in recipes if recipe.recorded is not None}


def shared_bytes(one: str, other: str) -> int:
    first, second = layers(load_record(one)), layers(load_record(other))
    return sum(size for digest, size in second.items() if digest in first)


def document(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((records_folder() / f"{name}.json").read_bytes())
    return found


def test_there_are_ten_records_and_each_can_be_loaded_and_planned() -> None:
    assert len(record_names()) == 10
    for name in record_names():
        record = load_record(name)
        assert record.name == name
        assert record.size == document(name)["total_size"]
        assert all(datetime.fromisoformat(line.created) for line in record.instructions if line.created)
        for line in record.instructions:
            if line.recipe is not None:
                assert plan(line.recipe).recipe.size == line.recipe.size


def test_same_recorded_digest_means_the_same_recipe_in_every_record() -> None:
    recipes: dict[Digest | None, set[LayerRecipe]] = {}
    for name in record_names():
        for line in load_record(name).instructions:
            if line.recipe is not None:
                recipes.setdefault(line.recipe.recorded, set()).add(line.recipe)
    assert all(len(each) == 1 for each in recipes.values())


def test_layer_of_a_record_keeps_its_identity() -> None:
    """Digests are remembered by identity; `test_synthetic_layers` holds the bytes that follow from one."""
    first = load_record(ARM).instructions[0].recipe
    assert first is not None
    assert first.key == f"recorded {first.recorded}"
    assert first.identity == "0727c1494c7b5e7bcc3c0d68680511861095b1aa6499af6a47da951e0437a9ca"


def test_upgrade_moves_what_the_question_says() -> None:
    record = load_record(DECEMBER)
    assert record.size == 303_114_489
    assert record.size - shared_bytes(OLD, DECEMBER) == 166_359_863


def test_rebuilt_base_shares_the_toolchain_and_the_empty_layer() -> None:
    assert load_record(JANUARY).size == 303_310_601
    assert load_record(JANUARY).size - shared_bytes(DECEMBER, JANUARY) == 229_263_120


def test_base_alignment_shares_three_layers_or_none() -> None:
    assert shared_bytes(JANUARY, NODE) == 136_937_285
    assert shared_bytes(JANUARY, PYTHON) == 0


def test_record_tells_where_it_is_from() -> None:
    record, told = load_record(ARM), document(ARM)
    assert record.platform == Platform("linux", "arm64", "v8")
    assert record.manifest.startswith("sha256:b9ab02ec")
    assert (told["record"], told["image"], told["licence"]) == (1, "golang:1.23.4-bookworm", "Apache-2.0")
    assert "repo-info" in told["source"]


def test_history_has_the_empty_layers_in_their_place() -> None:
    lines = [(line.created_by.split("=")[0], line.recipe is None) for line in load_record(ARM).instructions]
    assert lines[4:8] == [
        ("ENV GOLANG_VERSION", True),
        ("ENV GOTOOLCHAIN", True),
        ("ENV GOPATH", True),
        ("ENV PATH", True),
    ]
    assert [empty for _, empty in lines].count(False) == 7


def test_known_uncompressed_sizes_are_kept() -> None:
    recipes = [line.recipe for line in load_record(ARM).instructions if line.recipe is not None]
    sizes = [recipe.uncompressed_size for recipe in recipes]
    assert sizes == [139_000_000, 47_800_000, 183_000_000, 239_000_000, 235_000_000, None, None]


def test_layer_of_directories_alone_is_made_up_without_files() -> None:
    empty = [line for line in load_record(ARM).instructions if line.content_size == 0]
    assert [line.created_by.split()[0] for line in empty] == ["RUN", "WORKDIR"]
    assert [plan(line.recipe).files for line in empty if line.recipe is not None] == [(), ()]


async def test_image_of_a_record_has_its_dates_and_comments() -> None:
    source = ImageSource([load_record(ARM).image_recipe("golang")], StandIns())
    made = await source.image("golang")
    assert made.config is not None
    config = parse_config(await read_all(source.content(made.config), limit=made.config.size))
    first, last = config.history[0], config.history[-1]
    assert (first.created, first.comment) == ("2023-05-10T23:29:59Z", "debuerreotype 0.15")
    assert (last.created, last.comment) == ("2024-12-03T19:01:46Z", "buildkit.dockerfile.v0")


def test_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="no record named") as caught:
        load_record("golang-1.23.4-bookworm-amd65")
    assert 'did you mean "golang-1.23.4-bookworm-a' in caught.value.hint


def test_name_without_its_build_is_answered_with_the_builds() -> None:
    with pytest.raises(UsageError) as caught:
        load_record("golang-1.23.4-bookworm-amd64")
    assert caught.value.hint == f'did you mean "{DECEMBER}" or "{JANUARY}"?'


@pytest.mark.parametrize(
    "name", ["", "../records/x", "/etc/passwd", "a/b", "A", ".", "x\0y", "nothing like it"]
)
def test_name_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no record named"):
        load_record(name)


def test_installed_records_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "regsim/_scenarios/records"
    (tmp_path / "scenarios/records").mkdir(parents=True)
    monkeypatch.setattr(recorded, "_PACKAGE", tmp_path / "regsim")
    assert records_folder() == tmp_path / "scenarios/records"
    installed.mkdir(parents=True)
    assert records_folder() == installed
