from __future__ import annotations

import asyncio
import gzip
import hashlib
import threading
from typing import TYPE_CHECKING

import pytest

from regsim.core import media_types
from regsim.store.verify import read_all
from regsim.synth import synthetic
from regsim.synth.recipe import LayerRecipe, plan
from regsim.synth.stand_in import stand_in
from regsim.synth.synthetic import LayerForge, SyntheticLayer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from regsim.synth.gzipframe import Hashing
    from regsim.synth.recipe import LayerPlan

pytestmark = pytest.mark.anyio

RECIPE = LayerRecipe(key="some key", size=2_500_000, ratio=1.5, files=3)
PLAN = plan(RECIPE)


@pytest.fixture
def makings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows with each layer being made."""
    made: list[str] = []
    original = synthetic.generate

    def counting(planned: LayerPlan, hasher: Hashing | None = None) -> Iterator[bytes]:
        made.append(planned.identity)
        return original(planned, hasher)

    monkeypatch.setattr(synthetic, "generate", counting)
    return made


async def test_digests_are_those_of_the_bytes() -> None:
    info = await LayerForge().layer(PLAN)
    content = SyntheticLayer(RECIPE, info.descriptor)
    raw = await read_all(content, limit=RECIPE.size)
    tar = gzip.decompress(raw)
    assert info.descriptor.media_type == media_types.OCI_LAYER_GZIP
    assert info.descriptor.size == len(raw) == RECIPE.size
    assert info.diff_id == f"sha256:{hashlib.sha256(tar).hexdigest()}"
    assert info.uncompressed_size == len(tar) == 3_750_000


async def test_content_opens_again_from_the_first_byte() -> None:
    info = await LayerForge().layer(PLAN)
    content = SyntheticLayer(RECIPE, info.descriptor)
    assert await read_all(content, limit=RECIPE.size) == await read_all(content, limit=RECIPE.size)


async def test_diff_id_of_a_plain_tar_is_its_digest() -> None:
    info = await LayerForge().layer(plan(LayerRecipe(key="k", size=5000, media_type=media_types.OCI_LAYER)))
    assert info.diff_id == info.descriptor.digest
    assert info.uncompressed_size == 5000


async def test_equal_recipes_are_made_once_even_at_the_same_time(makings: list[str]) -> None:
    forge = LayerForge()
    infos = await asyncio.gather(*(forge.layer(PLAN) for _ in range(5)))
    assert len(set(map(repr, infos))) == 1
    assert makings == [RECIPE.identity]


async def test_remembered_layer_is_not_made(makings: list[str], tmp_path: Path) -> None:
    first = await LayerForge(tmp_path).layer(PLAN)
    second = await LayerForge(tmp_path).layer(PLAN)
    assert first == second
    assert makings == [RECIPE.identity]


async def test_cancelled_making_asks_its_thread_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    started, stopped = threading.Event(), threading.Event()

    def endless(planned: LayerPlan, hasher: Hashing | None = None) -> Iterator[bytes]:  # noqa: ARG001
        try:
            while True:
                started.set()
                yield b"x"
        finally:
            stopped.set()

    monkeypatch.setattr(synthetic, "generate", endless)
    task = asyncio.create_task(LayerForge().layer(PLAN))
    await asyncio.to_thread(started.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(stopped.wait, 10)


async def test_stand_in_has_the_shape_but_not_the_digests_of_the_layer() -> None:
    made, other = await LayerForge().layer(PLAN), stand_in(PLAN)
    assert (other.descriptor.size, other.descriptor.media_type, other.uncompressed_size) == (
        made.descriptor.size,
        made.descriptor.media_type,
        made.uncompressed_size,
    )
    assert len(other.descriptor.digest) == len(made.descriptor.digest)
    assert len({made.descriptor.digest, made.diff_id, other.descriptor.digest, other.diff_id}) == 4
    assert other == stand_in(PLAN) != stand_in(plan(RECIPE.of_size(RECIPE.size + 1)))


def test_plan_is_the_same_each_time() -> None:
    assert plan(RECIPE) == plan(RECIPE)
