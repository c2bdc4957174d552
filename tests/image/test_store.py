"""A store of images: what sharing saves, and removing exactly what nobody else holds."""

from __future__ import annotations

import json
import multiprocessing
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regsim.core import Descriptor, media_types
from regsim.core.manifest import index_document, manifest_document
from regsim.errors import ContentError, LocalFileError
from regsim.image import store as store_module
from regsim.image.store import prune, remove, take_inventory
from regsim.store.layout import LayoutStore
from regsim.store.memory import BytesContent
from regsim.store.partial import PARTIAL

if TYPE_CHECKING:
    from collections.abc import Iterable

pytestmark = pytest.mark.anyio

LAYERS = [bytes([number]) * (number + 1) * 10 for number in range(8)]
IMAGES = st.lists(st.lists(st.integers(0, 7), min_size=1, max_size=5, unique=True), min_size=1, max_size=6)


def blob(root: Path, raw: bytes, media_type: str) -> Descriptor:
    """Write a blob as any tool does."""
    descriptor = Descriptor.of(raw, media_type)
    place = root / "blobs" / "sha256" / descriptor.digest.encoded
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(raw)
    return descriptor


def image(root: Path, layers: Iterable[int], config: bytes = b"{}") -> Descriptor:
    described = blob(root, config, media_types.OCI_CONFIG)
    raw = manifest_document(described, [blob(root, LAYERS[each], media_types.OCI_LAYER) for each in layers])
    return blob(root, raw, media_types.OCI_MANIFEST)


def listing(root: Path, entries: Iterable[tuple[str | None, Descriptor]]) -> None:
    (root / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    manifests = []
    for tag, descriptor in entries:
        value = descriptor.to_json()
        if tag is not None:
            value["annotations"] = {"org.opencontainers.image.ref.name": tag}
        manifests.append(value)
    (root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": manifests}))


def on_disk(root: Path) -> int:
    return sum(file.stat().st_size for file in (root / "blobs").rglob("*") if file.is_file())


@given(IMAGES)
@settings(max_examples=40, deadline=None)
def test_unique_size_is_what_removing_an_image_frees(images: list[list[int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        listing(root, [(f"i{number}", image(root, layers)) for number, layers in enumerate(images)])
        before = take_inventory(root)
        assert before.sharing.stored == on_disk(root) == sum(before.blobs.values())
        victim = random.Random(len(images)).choice(before.images)
        removed = remove(root, list(victim.names))
        assert removed.bytes == before.sharing.unique(victim.digest)
        assert on_disk(root) == sum(before.blobs.values()) - removed.bytes
        after = take_inventory(root)
        assert after.unreferenced() == {}
        assert {each.digest: each.blobs for each in after.images} == {
            each.digest: each.blobs for each in before.images if each.digest != victim.digest
        }
        remove(root, [name for each in after.images for name in each.names])
        assert on_disk(root) == 0


def test_two_names_of_one_image_take_no_more_than_one_and_the_last_one_frees_it(tmp_path: Path) -> None:
    top = image(tmp_path, [1, 2])
    listing(tmp_path, [("a", top), ("b", top)])
    (stored,) = take_inventory(tmp_path).images
    assert stored.names == ("a", "b")
    first = remove(tmp_path, ["a"])
    assert (first.names, first.images, first.bytes) == (("a",), (), 0)
    second = remove(tmp_path, ["b"])
    assert (second.names, second.images, on_disk(tmp_path)) == (("b",), (top.digest,), 0)


def test_an_index_holds_what_its_images_hold(tmp_path: Path) -> None:
    arm, amd = image(tmp_path, [1, 2], b'{"arm": 1}'), image(tmp_path, [1, 3], b'{"amd": 1}')
    absent = Descriptor.of(b"another platform's", media_types.OCI_MANIFEST)
    index = blob(tmp_path, index_document([arm, amd, absent]), media_types.OCI_INDEX)
    listing(tmp_path, [("both", index), ("arm", arm)])
    both, alone = take_inventory(tmp_path).images
    assert (both.missing, alone.missing) == (1, 0)
    assert both.size == on_disk(tmp_path)
    assert take_inventory(tmp_path).sharing.unique(alone.digest) == 0
    remove(tmp_path, ["both"])
    assert on_disk(tmp_path) == alone.size


def test_an_image_is_named_by_tag_reference_digest_or_its_first_digits(tmp_path: Path) -> None:
    for wanted in ("docker.io/library/a:latest", "a", "sha256:…", "…"):
        top = image(tmp_path, [1])
        listing(tmp_path, [("docker.io/library/a:latest", top)])
        text = wanted.replace("sha256:…", top.digest).replace("…", top.digest.encoded[:8])
        assert remove(tmp_path, [text]).images == (top.digest,)


def test_nothing_is_removed_unless_all_are_found(tmp_path: Path) -> None:
    listing(tmp_path, [("a", image(tmp_path, [1]))])
    with pytest.raises(LocalFileError, match="holds no image 'b'") as caught:
        remove(tmp_path, ["a", "b"])
    assert caught.value.hint == "there are a"
    assert len(take_inventory(tmp_path).images) == 1


def test_pruning_frees_only_what_no_image_holds(tmp_path: Path) -> None:
    listing(tmp_path, [("a", image(tmp_path, [1, 2])), (None, image(tmp_path, [3]))])
    held = on_disk(tmp_path)
    image(tmp_path, [1, 4])
    (tmp_path / "blobs" / "sha256" / "note.txt").write_text("somebody's")
    lost = on_disk(tmp_path) - held - len("somebody's")
    assert prune(tmp_path, dry_run=True).bytes == lost
    assert on_disk(tmp_path) == held + lost + len("somebody's")
    assert prune(tmp_path).bytes == lost
    assert prune(tmp_path).bytes == 0
    assert on_disk(tmp_path) == held + len("somebody's")


def test_pruning_frees_what_an_interrupted_pull_left_of_a_blob(tmp_path: Path) -> None:
    listing(tmp_path, [("a", image(tmp_path, [1, 2]))])
    part = tmp_path / f"{PARTIAL}sha256-{'a' * 64}"
    part.write_bytes(b"x" * 5000)
    expected = prune(tmp_path, dry_run=True)
    assert (expected.blobs, expected.bytes, part.exists()) == (1, 5000, True)
    assert prune(tmp_path) == expected
    assert not part.exists()


@pytest.mark.parametrize("linked", ["blobs", "blobs/sha256"])
def test_nothing_is_removed_through_a_link_to_the_blobs_of_another_layout(
    tmp_path: Path, linked: str
) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    listing_of = image(mine, [1, 2])
    listing(mine, [("a", listing_of)])
    place = other / linked
    place.parent.mkdir(parents=True)
    place.symlink_to(mine / linked)
    listing(other, [("b", listing_of)])
    before = on_disk(mine)
    with pytest.raises(LocalFileError, match="is a symbolic link"):
        remove(other, ["b"])
    with pytest.raises(LocalFileError, match="is a symbolic link"):
        prune(other)
    assert on_disk(mine) == before
    assert len(take_inventory(other).images) == 1


def test_what_an_unknown_manifest_names_is_held(tmp_path: Path) -> None:
    kept = blob(tmp_path, b"some content", "application/x")
    top = blob(tmp_path, json.dumps({"things": [kept.digest]}).encode(), "application/vnd.unknown+json")
    listing(tmp_path, [("a", top)])
    assert take_inventory(tmp_path).unreferenced() == {}
    prune(tmp_path)
    assert take_inventory(tmp_path).images[0].digest == top.digest


def test_a_damaged_manifest_stops_whoever_would_remove_by_guessing(tmp_path: Path) -> None:
    good, bad = image(tmp_path, [1]), image(tmp_path, [2])
    listing(tmp_path, [("good", good), ("bad", bad)])
    place = tmp_path / "blobs" / "sha256" / bad.digest.encoded
    place.write_bytes(place.read_bytes()[::-1])
    before = on_disk(tmp_path)
    with pytest.raises(ContentError, match="is not what its name says"):
        prune(tmp_path)
    with pytest.raises(ContentError, match="is not what its name says"):
        remove(tmp_path, ["good"])
    assert on_disk(tmp_path) == before
    remove(tmp_path, ["bad"])
    assert prune(tmp_path).bytes == 0
    assert on_disk(tmp_path) == take_inventory(tmp_path).images[0].size


def test_a_store_that_is_not_there_holds_nothing_and_a_folder_is_no_store(tmp_path: Path) -> None:
    assert take_inventory(tmp_path / "none").images == ()
    assert prune(tmp_path / "none").bytes == 0
    with pytest.raises(LocalFileError, match="there are no images in"):
        remove(tmp_path / "none", ["a"])
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalFileError, match="is not an image layout"):
        take_inventory(tmp_path)


async def test_nothing_is_removed_while_a_pull_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_PATIENCE", 0.0)
    root = tmp_path / "store"
    layout = LayoutStore(root, create=True)
    layer = Descriptor.of(b"layer", media_types.OCI_LAYER)
    async with layout.in_use():
        await layout.put(BytesContent(layer, b"layer"))  # which no manifest names yet
        with pytest.raises(LocalFileError, match="is in use: another process is writing"):
            prune(root)
        async with LayoutStore(root).in_use():
            assert await layout.has(layer)  # pulls do not keep each other out
    assert prune(root).blobs == 1
    assert not await layout.has(layer)


def _remove_and_die(root: str, deletions: int) -> None:
    """Remove an image, and die with some blobs deleted."""
    import os  # noqa: PLC0415  (in a process of its own)

    unlink, left = Path.unlink, [deletions]

    def dying(self: Path, missing_ok: bool = False) -> None:
        if "blobs" in self.parts:
            if not left[0]:
                os._exit(9)
            left[0] -= 1
        unlink(self, missing_ok)

    Path.unlink = dying  # type: ignore[method-assign]
    remove(Path(root), ["a"])


@pytest.mark.parametrize("deletions", [0, 1, 2])
def test_a_crash_while_removing_loses_no_other_image_and_prune_finds_the_rest(
    deletions: int, tmp_path: Path
) -> None:
    listing(tmp_path, [("a", image(tmp_path, [1, 2, 3])), ("b", image(tmp_path, [1, 4]))])
    process = multiprocessing.get_context("spawn").Process(
        target=_remove_and_die, args=(str(tmp_path), deletions)
    )
    process.start()
    process.join(60)
    assert process.exitcode == 9
    (left,) = take_inventory(tmp_path).images
    assert (left.names, left.missing) == (("b",), 0)
    assert prune(tmp_path).blobs == 3 - deletions
    assert on_disk(tmp_path) == left.size
