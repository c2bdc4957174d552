"""Image layouts as other tools write them, as accidents leave them, and as we change them."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import os
import threading
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from regsim.core import Descriptor, Digest, media_types
from regsim.errors import ContentError, LocalFileError
from regsim.store import files, layout_index
from regsim.store.layout import LayoutStore
from regsim.store.layout_index import ref_name
from regsim.store.memory import BytesContent
from regsim.store.verify import read_all

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.anyio

REF_NAME = "org.opencontainers.image.ref.name"


def manifest(name: str = "a", *, media_type: str | None = media_types.OCI_MANIFEST) -> BytesContent:
    document: dict[str, Any] = {"schemaVersion": 2, "annotations": {"name": name}}
    if media_type:
        document["mediaType"] = media_type
    raw = json.dumps(document).encode()
    return BytesContent(Descriptor.of(raw, media_types.OCI_MANIFEST), raw)


LAYER = BytesContent(Descriptor.of(b"some layer", media_types.OCI_LAYER_GZIP), b"some layer")


def write_layout(root: Path, entries: list[dict[str, Any]], *blobs: bytes) -> LayoutStore:
    """Write a layout as skopeo does, which knows nothing of us."""
    (root / "blobs/sha256").mkdir(parents=True)
    (root / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    for blob in blobs:
        (root / "blobs/sha256" / Digest.of(blob).encoded).write_bytes(blob)
    return LayoutStore(root)


def entry(content: BytesContent, tag: str | None = None, **more: Any) -> dict[str, Any]:
    annotations = {REF_NAME: tag} if tag else {"io.example": "kept"}
    return {**content.descriptor.to_json(), "annotations": annotations, **more}


def index_of(store: LayoutStore) -> dict[str, Any]:
    index: dict[str, Any] = json.loads((store.path / "index.json").read_bytes())
    return index


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def tags_of(store: LayoutStore) -> list[str | None]:
    return [ref_name(value) for value in index_of(store)["manifests"]]


async def put_and_tag(store: LayoutStore, name: str, tag: str) -> Descriptor:
    content = manifest(name)
    await store.put(content)
    await store.tag(content.descriptor, tag)
    return content.descriptor


# --- reading


async def test_foreign_layout_resolves_by_tag_and_digest(tmp_path: Path) -> None:
    store = write_layout(
        tmp_path,
        [entry(manifest("a"), "one"), entry(manifest("b"), "two")],
        manifest("a").data,
        manifest("b").data,
    )
    assert await store.resolve("two") == manifest("b").descriptor
    assert await store.resolve(manifest("a").descriptor.digest) == manifest("a").descriptor
    assert await store.tags() == ("one", "two")


@pytest.mark.parametrize("tag", ["docker.io/library/golang:1.23", "app:1", "with space", "ünïcode"])
async def test_tags_need_not_follow_a_registry_grammar(tmp_path: Path, tag: str) -> None:
    store = write_layout(tmp_path, [entry(manifest(), tag)], manifest().data)
    assert await store.resolve(tag) == manifest().descriptor


@pytest.mark.parametrize("tag", [None, "v1"])
async def test_only_image_is_found_without_a_tag(tmp_path: Path, tag: str | None) -> None:
    store = write_layout(tmp_path, [entry(manifest(), tag), entry(manifest(), "also")], manifest().data)
    assert await store.find() == await store.resolve("") == manifest().descriptor


async def test_no_telling_which_of_several_images(tmp_path: Path) -> None:
    store = write_layout(tmp_path, [entry(manifest("a"), "one"), entry(manifest("b"), "two")])
    assert await store.resolve("") is None
    with pytest.raises(LocalFileError, match="not exactly one image") as caught:
        await store.find()
    assert caught.value.hint == "its tags are one, two"


async def test_missing_tag_is_answered_with_the_tags(tmp_path: Path) -> None:
    store = write_layout(tmp_path, [entry(manifest(), f"v{number:02}") for number in range(30)])
    assert await store.resolve("v99") is None
    with pytest.raises(LocalFileError, match="no image 'v99'") as caught:
        await store.find("v99")
    assert caught.value.hint.startswith("its tags are v00, v01, ")
    assert caught.value.hint.endswith(" and 10 more")


async def test_layout_without_images_says_that_it_has_no_tags(tmp_path: Path) -> None:
    with pytest.raises(LocalFileError) as caught:
        await write_layout(tmp_path, []).find("v1")
    assert caught.value.hint == "it has no tags"


async def test_tag_that_lists_two_manifests_is_refused(tmp_path: Path) -> None:
    store = write_layout(tmp_path, [entry(manifest("a"), "v1"), entry(manifest("b"), "v1")])
    with pytest.raises(ContentError, match="lists 2 manifests as 'v1'"):
        await store.resolve("v1")


async def test_manifest_that_only_an_index_names_resolves_by_digest(tmp_path: Path) -> None:
    store = write_layout(tmp_path, [], manifest().data, manifest("b", media_type=None).data)
    assert await store.resolve(manifest().descriptor.digest) == manifest().descriptor
    assert await store.resolve(manifest("b", media_type=None).descriptor.digest) is None


async def test_listed_manifest_whose_file_is_missing_is_absent(tmp_path: Path) -> None:
    store = write_layout(tmp_path, [entry(manifest(), "v1")])
    assert await store.resolve("v1") is None
    assert await store.find("v1") == manifest().descriptor
    with pytest.raises(LocalFileError, match=r"lacks .*/blobs/sha256/") as caught:
        await read_all(store.content(manifest().descriptor), limit=1000)
    assert caught.value.hint


async def test_entry_that_cannot_be_read_concerns_only_those_who_ask_for_it(tmp_path: Path) -> None:
    bad = {"mediaType": "x", "digest": "blake3:00", "annotations": {REF_NAME: "bad"}}
    store = write_layout(tmp_path, [bad, 7, entry(manifest(), "v1")], manifest().data)  # type: ignore[list-item]
    assert await store.resolve("v1") == manifest().descriptor
    with pytest.raises(ContentError, match=r"manifests\[0\]"):
        await store.resolve("bad")


@pytest.mark.parametrize("found", [b"some laye", b"some layer!"])
async def test_file_of_another_size_is_absent_and_replaced(tmp_path: Path, found: bytes) -> None:
    store = write_layout(tmp_path, [], b"some layer")
    place = tmp_path / "blobs/sha256" / LAYER.descriptor.digest.encoded
    place.write_bytes(found)
    assert not await store.has(LAYER.descriptor)
    with pytest.raises(ContentError, match=f"has {len(found)} bytes, its descriptor says 10"):
        await read_all(store.content(LAYER.descriptor), limit=100)
    await store.put(LAYER)
    assert place.read_bytes() == b"some layer"


async def test_file_of_other_bytes_counts_as_present_until_read(tmp_path: Path) -> None:
    store = write_layout(tmp_path, [], b"some layer")
    (tmp_path / "blobs/sha256" / LAYER.descriptor.digest.encoded).write_bytes(b"some laser")
    assert await store.has(LAYER.descriptor)
    with pytest.raises(ContentError, match="names other bytes"):
        await read_all(store.content(LAYER.descriptor), limit=100)


async def test_link_in_place_of_a_blob_is_refused(tmp_path: Path) -> None:
    store = write_layout(tmp_path / "layout", [])
    (tmp_path / "secret").write_bytes(b"some layer")
    (store.path / "blobs/sha256" / LAYER.descriptor.digest.encoded).symlink_to(tmp_path / "secret")
    with pytest.raises(LocalFileError, match="symbolic link"):
        await store.has(LAYER.descriptor)
    with pytest.raises(LocalFileError, match="symbolic link"):
        await read_all(store.content(LAYER.descriptor), limit=100)


async def test_pipe_in_place_of_a_blob_is_refused_without_waiting(tmp_path: Path) -> None:
    store = write_layout(tmp_path, [])
    os.mkfifo(tmp_path / "blobs/sha256" / LAYER.descriptor.digest.encoded)
    with pytest.raises(LocalFileError, match="not a regular file"):
        await store.has(LAYER.descriptor)


async def test_pipe_in_place_of_the_index_is_refused_without_waiting(tmp_path: Path) -> None:
    store = write_layout(tmp_path, [])
    (tmp_path / "index.json").unlink()
    os.mkfifo(tmp_path / "index.json")
    with pytest.raises(LocalFileError, match="not a regular file"):
        await store.resolve("v1")


async def test_directory_in_place_of_a_blob_is_refused(tmp_path: Path) -> None:
    store = write_layout(tmp_path, [])
    (tmp_path / "blobs/sha256" / LAYER.descriptor.digest.encoded).mkdir()
    with pytest.raises(LocalFileError):
        await store.has(LAYER.descriptor)
    with pytest.raises(LocalFileError, match="cannot write"):
        await store.put(LAYER)


@pytest.mark.parametrize(
    "marker",
    [
        "",
        "nothing",
        "[]",
        "{}",
        '{"imageLayoutVersion":2}',
        '{"imageLayoutVersion":"2.0.0"}',
        "[" * 60_000,
        " " * 70_000,
    ],
)
async def test_malformed_marker_is_refused(tmp_path: Path, marker: str) -> None:
    store = write_layout(tmp_path, [])
    (tmp_path / "oci-layout").write_text(marker)
    with pytest.raises(ContentError, match="oci-layout"):
        await store.resolve("v1")
    with pytest.raises(ContentError, match="oci-layout"):
        await LayoutStore(tmp_path, create=True).put(LAYER)


@pytest.mark.parametrize(
    "index",
    [
        "",
        "[]",
        "{}",
        '{"manifests":{}}',
        '{"manifests":null}',
        '{"manifests":[],"annotations":{"a":"\\ud800"}}',
        "\x00",
        "[" * 100_000,
    ],
)
async def test_malformed_index_is_refused_and_left_alone(tmp_path: Path, index: str) -> None:
    store = write_layout(tmp_path, [], manifest().data)
    (tmp_path / "index.json").write_text(index)
    with pytest.raises(ContentError, match=r"index\.json"):
        await store.resolve("v1")
    with pytest.raises(ContentError, match=r"index\.json"):
        await store.tag(manifest().descriptor, "v1")
    assert (tmp_path / "index.json").read_text() == index


async def test_huge_index_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout_index, "MAX_INDEX_SIZE", 1000)
    store = write_layout(tmp_path, [entry(manifest(), f"v{number}") for number in range(10)])
    with pytest.raises(ContentError, match="more than 1000 bytes"):
        await store.resolve("v1")


async def test_missing_index_is_a_missing_file(tmp_path: Path) -> None:
    store = write_layout(tmp_path, [])
    (tmp_path / "index.json").unlink()
    with pytest.raises(LocalFileError, match=r"no index\.json"):
        await store.resolve("v1")


async def test_missing_layout_is_an_error_for_a_source(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path / "missing")
    for asking in (store.resolve("v1"), store.find("v1"), store.tags(), store.put(LAYER)):
        with pytest.raises(LocalFileError, match="no image layout"):
            await asking
    assert not (tmp_path / "missing").exists()


async def test_directory_that_is_no_layout_is_an_error_for_a_source(tmp_path: Path) -> None:
    with pytest.raises(LocalFileError, match="is not an image layout: it has no oci-layout"):
        await LayoutStore(tmp_path).find("v1")


# --- writing


async def test_missing_layout_is_an_empty_destination_until_written(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path / "deep/layout", create=True)
    assert await store.resolve("v1") is None
    assert not await store.has(LAYER.descriptor)
    assert await store.tags() == ()
    with pytest.raises(LocalFileError, match="no image 'v1'"):
        await store.find("v1")
    assert names(tmp_path) == []
    await store.put(LAYER)
    assert await store.has(LAYER.descriptor)


async def test_written_layout_is_what_the_specification_says(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path / "layout", create=True)
    await store.put(LAYER)
    descriptor = await put_and_tag(store, "a", "v1")
    assert json.loads((store.path / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert index_of(store) == {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": [{**descriptor.to_json(), "annotations": {REF_NAME: "v1"}}],
    }
    found = sorted(str(path.relative_to(store.path)) for path in store.path.rglob("*") if path.is_file())
    blobs = sorted(f"blobs/sha256/{each.digest.encoded}" for each in (LAYER.descriptor, descriptor))
    assert found == [*blobs, "index.json", "oci-layout"]


async def test_what_is_not_ours_in_the_index_stays(tmp_path: Path) -> None:
    other = entry(manifest("other"), "other", platform={"os": "linux", "architecture": "amd64"}, unknown=[1])
    store = write_layout(tmp_path, [other])
    index = {**index_of(store), "annotations": {"a": "b"}}
    (tmp_path / "index.json").write_text(json.dumps(index))
    descriptor = await put_and_tag(store, "a", "v1")
    expected = {**descriptor.to_json(), "annotations": {REF_NAME: "v1"}}
    assert index_of(store) == {**index, "manifests": [other, expected]}


async def test_tagging_twice_changes_nothing(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path, create=True)
    await put_and_tag(store, "a", "v1")
    before = (tmp_path / "index.json").stat()
    await put_and_tag(store, "a", "v1")
    assert (tmp_path / "index.json").stat().st_ino == before.st_ino


async def test_tag_takes_the_place_of_all_that_had_it(tmp_path: Path) -> None:
    store = write_layout(tmp_path, [entry(manifest("x"), "v1"), entry(manifest("y"), "v1")])
    await put_and_tag(store, "a", "v1")
    assert tags_of(store) == ["v1"]
    assert await store.resolve("v1") == manifest("a").descriptor


async def test_untagged_entry_gets_its_tag_and_keeps_others(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path, create=True)
    descriptor = await put_and_tag(store, "a", manifest("a").descriptor.digest)
    assert tags_of(store) == [None]
    await store.tag(descriptor, "v1")
    await store.tag(descriptor, "v2")
    await store.tag(descriptor, descriptor.digest)
    assert tags_of(store) == ["v1", "v2"]


async def test_directory_with_other_things_is_not_made_a_layout(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(LocalFileError, match=r"holds 'precious\.txt'") as caught:
        await LayoutStore(tmp_path, create=True).put(LAYER)
    assert caught.value.hint == "choose a new or empty directory"
    assert names(tmp_path) == ["precious.txt"]


async def test_file_in_place_of_the_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "layout").write_text("a file")
    with pytest.raises(LocalFileError):
        await LayoutStore(tmp_path / "layout", create=True).put(LAYER)
    with pytest.raises(LocalFileError):
        await LayoutStore(tmp_path / "layout").resolve("v1")


async def test_refused_content_leaves_no_file(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path, create=True)
    with pytest.raises(ContentError):
        await store.put(BytesContent(LAYER.descriptor, b"some laser"))
    assert names(tmp_path) == ["index.json", "oci-layout"]


async def test_cancelled_put_leaves_no_file(tmp_path: Path) -> None:
    reached = asyncio.Event()

    class Stalling(BytesContent):
        async def open(self) -> AsyncGenerator[bytes, None]:
            yield b"some "
            reached.set()
            await asyncio.Event().wait()

    store = LayoutStore(tmp_path, create=True)
    task = asyncio.create_task(store.put(Stalling(LAYER.descriptor, b"")))
    await reached.wait()
    assert len([name for name in names(tmp_path) if name.startswith(files.ASIDE)]) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert names(tmp_path) == ["index.json", "oci-layout"]


async def test_leftovers_of_dead_writers_are_swept_and_living_ones_spared(tmp_path: Path) -> None:
    store = write_layout(tmp_path, [])
    dead = tmp_path / f"{files.ASIDE}dead"
    dead.write_bytes(b"half a layer")
    living = files.AsideFile(tmp_path)
    await store.put(LAYER)
    assert not dead.exists()
    living.commit(tmp_path / "whole", durable=False)
    assert (tmp_path / "whole").exists()


async def test_many_small_chunks_and_one_large_arrive_whole(tmp_path: Path) -> None:
    data = os.urandom(3 * 1024 * 1024 + 7)

    class Uneven(BytesContent):
        async def open(self) -> AsyncGenerator[bytes, None]:
            cuts = [0, 1, 1, 1000, 70_000, 1_500_000, len(data) - 1, len(data)]
            for start, end in itertools.pairwise(cuts):
                yield data[start:end]

    store = LayoutStore(tmp_path, create=True)
    descriptor = Descriptor.of(data, media_types.OCI_LAYER_GZIP)
    await store.put(Uneven(descriptor, b""))
    assert await read_all(store.content(descriptor), limit=len(data)) == data


async def test_concurrent_tags_of_two_stores_lose_no_entry(tmp_path: Path) -> None:
    stores = [LayoutStore(tmp_path, create=True) for _ in range(2)]
    await stores[0].put(manifest())
    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(stores[number % 2].tag(manifest().descriptor, f"v{number:02}"))
    assert await stores[0].tags() == tuple(f"v{number:02}" for number in range(20))


async def test_lock_that_is_never_given_up_ends_in_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_LOCK_SECONDS", 0.0)
    store = LayoutStore(tmp_path, create=True)
    await store.put(manifest())
    with files.locked(tmp_path / "oci-layout"), pytest.raises(LocalFileError, match="cannot lock"):
        await store.tag(manifest().descriptor, "v1")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
async def test_unwritable_layout_is_an_error(tmp_path: Path) -> None:
    store = write_layout(tmp_path, [])
    os.chmod(tmp_path, 0o500)  # noqa: PTH101  (a call to the system, not worth a thread)
    with pytest.raises(LocalFileError, match="Permission denied") as caught:
        await store.put(LAYER)
    assert "permissions" in caught.value.hint


async def test_layout_whose_name_is_too_long_is_told(tmp_path: Path) -> None:
    with pytest.raises(LocalFileError, match="name too long"):
        async with LayoutStore(tmp_path / ("x" * 300), create=True).in_use():
            pass


async def test_a_stream_that_is_cancelled_closes_its_file_only_when_no_thread_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, release = threading.Event(), threading.Event()
    was_closed: list[bool] = []

    class HeldUp(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            begun.set()
            release.wait(60)
            was_closed.append(self.closed)
            return super().read(size) or b""

    monkeypatch.setattr("regsim.store.layout.open_regular", lambda path: HeldUp(path, "rb"))
    store = LayoutStore(tmp_path, create=True)
    await store.put(LAYER)

    async def read() -> None:
        async with aclosing(store.content(LAYER.descriptor).open()) as stream:
            await anext(stream)

    reading = asyncio.create_task(read())
    await asyncio.to_thread(begun.wait)
    reading.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert was_closed == [False]
