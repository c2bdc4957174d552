"""Images in archives, written and read: OCI's, and docker's of today and of before."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import os
import tarfile
import threading
import tracemalloc
from contextlib import aclosing, closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regsim.core import Descriptor, Digest, Reference, media_types
from regsim.core.manifest import index_document, manifest_document, parse
from regsim.errors import ContentError, LocalFileError, NotFoundError, RegsimError
from regsim.store import docker_archive, layout_index
from regsim.store.archive import OciArchive
from regsim.store.archive_writer import ArchiveWriter, DockerArchiveWriter
from regsim.store.docker_archive import DockerArchive
from regsim.store.files import ASIDE
from regsim.store.layout import LayoutStore
from regsim.store.memory import BytesContent
from regsim.store.node import MemoryStore
from regsim.store.verify import read_all, verified

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from regsim.store.protocols import Content, Fetcher, Store

pytestmark = pytest.mark.anyio

NAME = Reference.parse("127.0.0.1:5000/shop/api:v1")
LAYERS = [b"plain layer" * 100, gzip.compress(b"packed layer" * 1000, mtime=0), b""]


@dataclass(frozen=True)
class Image:
    manifest: Descriptor
    blobs: tuple[tuple[Descriptor, bytes], ...]  # the manifest first, then the config

    @property
    def raw(self) -> bytes:
        return self.blobs[0][1]

    @property
    def large(self) -> tuple[Descriptor, bytes]:
        return next(each for each in self.blobs if each[0].size > 1000)


def image(layers: list[bytes] = LAYERS, algorithm: str = "sha256") -> Image:
    def described(raw: bytes, media_type: str) -> Descriptor:
        return replace(Descriptor.of(raw, media_type), digest=Digest.of(raw, algorithm))

    plain = [gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw for raw in layers]
    config = json.dumps(
        {
            "os": "linux",
            "architecture": "amd64",
            "rootfs": {"type": "layers", "diff_ids": [Digest.of(raw) for raw in plain]},
        }
    ).encode()
    descriptors = [
        described(raw, media_types.OCI_LAYER_GZIP if raw[:2] == b"\x1f\x8b" else media_types.OCI_LAYER)
        for raw in layers
    ]
    named = described(config, media_types.OCI_CONFIG)
    manifest = manifest_document(named, descriptors)
    root = described(manifest, media_types.OCI_MANIFEST)
    return Image(root, ((root, manifest), (named, config), *zip(descriptors, layers, strict=True)))


async def put(store: Store, made: Image, tag: str = "v1") -> None:
    await asyncio.gather(*(store.put(BytesContent(*each)) for each in reversed(made.blobs[1:])))
    await store.put(BytesContent(made.manifest, made.raw))
    await store.tag(made.manifest, tag)


async def write(writer: ArchiveWriter, made: Image, tag: str = "v1") -> bytes:
    with closing(writer):
        await put(writer, made, tag)
        await writer.commit()
    return writer.archive.read_bytes()


async def everything(content: Content) -> bytes:
    async with aclosing(verified(content)) as stream:
        return b"".join([chunk async for chunk in stream])


def tar(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return made.getvalue()


def inside(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def members(raw: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        return {
            each.name: (archive.extractfile(each) or io.BytesIO()).read() for each in archive if each.isfile()
        }


WRITERS: dict[str, Callable[[Path], ArchiveWriter]] = {
    "OCI": ArchiveWriter,
    "docker": lambda path: DockerArchiveWriter(path, NAME),
}
# How each archive is read, and by what name the image is found in it.
READERS: dict[str, tuple[str, Callable[[Path], OciArchive], str]] = {
    "OCI": ("OCI", OciArchive, "v1"),
    "docker": ("docker", DockerArchive, "127.0.0.1:5000/shop/api:v1"),
    "docker as OCI": ("docker", OciArchive, "v1"),
}


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize(("kind", "reader", "name"), READERS.values(), ids=READERS)
async def test_what_was_written_is_read_byte_for_byte(
    tmp_path: Path, kind: str, reader: Callable[[Path], OciArchive], name: str, algorithm: str
) -> None:
    made = image(algorithm=algorithm)
    await write(WRITERS[kind](tmp_path / "image.tar"), made)
    archive = reader(tmp_path / "image.tar")
    assert await archive.resolve(name) == await archive.find() == made.manifest
    for descriptor, raw in made.blobs:
        assert await everything(archive.content(descriptor)) == raw
    assert await read_all(archive.content(made.manifest), limit=10_000) == made.raw


@pytest.mark.parametrize(("kind", "reader", "name"), READERS.values(), ids=READERS)
async def test_readers_answer_as_any_fetcher_does(
    tmp_path: Path, kind: str, reader: Callable[[Path], OciArchive], name: str
) -> None:
    made = image()
    await write(WRITERS[kind](tmp_path / "image.tar"), made)
    archive: Fetcher = reader(tmp_path / "image.tar")
    assert await archive.resolve(f"{name}9") is None
    assert await archive.resolve(name) is not None
    absent = Descriptor.of(b"absent", media_types.OCI_LAYER)
    with pytest.raises(NotFoundError, match=absent.digest):
        await everything(archive.content(absent))
    layer, raw = made.large
    content = archive.content(layer)
    assert await everything(content) == await everything(content) == raw
    with pytest.raises(ContentError, match="descriptor says 7"):
        await everything(archive.content(replace(layer, size=7)))


@pytest.mark.parametrize("kind", WRITERS)
async def test_same_image_makes_the_same_archive(tmp_path: Path, kind: str) -> None:
    once = await write(WRITERS[kind](tmp_path / "a.tar"), image())
    again = await write(WRITERS[kind](tmp_path / "b.tar"), image())
    assert once == again
    assert len(once) % 10_240 == 0


@pytest.mark.parametrize("kind", WRITERS)
async def test_archive_is_sorted_and_has_no_times_and_owners(tmp_path: Path, kind: str) -> None:
    raw = await write(WRITERS[kind](tmp_path / "a.tar"), image())
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        found = archive.getmembers()
    assert all(
        (each.mtime, each.uid, each.gid, each.uname, each.gname) == (0, 0, 0, "", "") for each in found
    )
    blobs = [each.name for each in found if each.name.startswith("blobs/")]
    assert blobs == sorted(blobs)
    assert [each.name for each in found][:2] == ["oci-layout", "index.json"]


@pytest.mark.parametrize("kind", WRITERS)
async def test_archive_that_stood_there_stays_until_the_new_one_is_whole(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(b"old")
    with closing(WRITERS[kind](path)) as writer:
        await put(writer, image())
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"old"
    assert inside(tmp_path) == {"image.tar"}
    await write(WRITERS[kind](path), image())
    assert path.read_bytes() != b"old"
    assert inside(tmp_path) == {"image.tar"}


async def test_what_a_killed_writer_left_is_deleted_by_the_next_but_not_a_living_ones(tmp_path: Path) -> None:
    dead = tmp_path / f"{ASIDE}dead.d"
    (dead / "blobs").mkdir(parents=True)
    with closing(ArchiveWriter(tmp_path / "a.tar")) as living:
        await put(living, image())
        await write(ArchiveWriter(tmp_path / "b.tar"), image())
        assert not dead.exists()
        await living.commit()
    assert inside(tmp_path) == {"a.tar", "b.tar"}


async def test_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(LocalFileError, match="nowhere"):
        await write(ArchiveWriter(tmp_path / "nowhere" / "a.tar"), image())
    (tmp_path / "folder").mkdir()
    with pytest.raises(LocalFileError, match="regular file"):
        await write(ArchiveWriter(tmp_path / "folder"), image())


async def test_writing_and_reading_cost_no_memory_for_large_layers(tmp_path: Path) -> None:
    size = 96 * 1024 * 1024

    class Zeros:
        hashed = hashlib.sha256(bytes(size)).hexdigest()
        descriptor = Descriptor(
            media_type=media_types.OCI_LAYER, digest=Digest(f"sha256:{hashed}"), size=size
        )

        async def open(self) -> AsyncGenerator[bytes, None]:
            for _ in range(size // 2**20):
                yield bytes(2**20)

    made, layer = image([]), Zeros()
    tracemalloc.start()
    try:
        with closing(ArchiveWriter(tmp_path / "a.tar")) as writer:
            await writer.put(layer)
            await put(writer, made)
            await writer.commit()
        archive = OciArchive(tmp_path / "a.tar")
        await archive.find()
        target = LayoutStore(tmp_path / "layout", create=True)
        await target.put(archive.content(layer.descriptor))
        assert tracemalloc.get_traced_memory()[1] < size / 8
    finally:
        tracemalloc.stop()


# Docker's own form.


async def test_docker_archive_says_what_docker_save_says(tmp_path: Path) -> None:
    made = image()
    found = members(await write(DockerArchiveWriter(tmp_path / "a.tar", NAME), made))
    _, config, *layers = [descriptor for descriptor, _ in made.blobs]
    assert json.loads(found["manifest.json"]) == [
        {
            "Config": f"blobs/sha256/{config.digest.encoded}",
            "RepoTags": ["127.0.0.1:5000/shop/api:v1"],
            "Layers": [f"blobs/sha256/{layer.digest.encoded}" for layer in layers],
        }
    ]
    (entry,) = json.loads(found["index.json"])["manifests"]
    assert entry["annotations"] == {
        "org.opencontainers.image.ref.name": "v1",
        "io.containerd.image.name": "127.0.0.1:5000/shop/api:v1",
    }


async def test_docker_archive_without_a_name_has_none(tmp_path: Path) -> None:
    made = image()
    raw = await write(DockerArchiveWriter(tmp_path / "a.tar"), made, tag=made.manifest.digest)
    assert json.loads(members(raw)["manifest.json"])[0]["RepoTags"] is None
    assert await DockerArchive(tmp_path / "a.tar").find() == made.manifest


async def test_docker_archive_takes_images_alone(tmp_path: Path) -> None:
    made = image()
    raw = index_document([made.manifest])
    with (
        closing(DockerArchiveWriter(tmp_path / "a.tar")) as writer,
        pytest.raises(ContentError, match="one image") as caught,
    ):
        await writer.put(BytesContent(Descriptor.of(raw, media_types.OCI_INDEX), raw))
    assert "--platform" in caught.value.hint
    empty = Descriptor.of(b"{}", media_types.OCI_EMPTY)
    artifact = manifest_document(empty, [])
    root = Descriptor.of(artifact, media_types.OCI_MANIFEST)
    with pytest.raises(ContentError, match="not an image"):
        await write(DockerArchiveWriter(tmp_path / "a.tar"), Image(root, ((root, artifact), (empty, b"{}"))))
    assert inside(tmp_path) == set()


def legacy(
    layers: list[bytes], *, names: list[str] | None = None, diff_ids: list[str] | None = None, **more: Any
) -> dict[str, bytes]:
    """Return the files of an archive as docker wrote them before it had layouts."""
    plain = [gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw for raw in layers]
    config = json.dumps(
        {"os": "linux", "rootfs": {"diff_ids": diff_ids or [Digest.of(raw) for raw in plain]}}
    ).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    places = [f"{number}/layer.tar" for number in range(len(layers))]
    entry = {"Config": name, "RepoTags": names, "Layers": places, **more}
    return {
        name: config,
        **dict(zip(places, layers, strict=True)),
        "manifest.json": json.dumps([entry]).encode(),
        "repositories": b"{}",
    }


@pytest.fixture
def docker(tmp_path: Path) -> Callable[..., DockerArchive]:
    def write(files: dict[str, bytes], links: dict[str, str] | None = None) -> DockerArchive:
        (tmp_path / "saved.tar").write_bytes(tar(files, links))
        return DockerArchive(tmp_path / "saved.tar")

    return write


async def test_edge_37_layers_of_an_old_archive_go_by_their_diff_ids(
    docker: Callable[..., DockerArchive],
) -> None:
    layers = [b"base" * 1000, b"", b"top"]
    archive = docker(legacy(layers, names=["busybox:1"]))
    descriptor = await archive.find("docker.io/library/busybox:1")
    document = parse(descriptor, await read_all(archive.content(descriptor), limit=10_000))
    assert [layer.digest for layer in document.layers] == [Digest.of(raw) for raw in layers]
    assert {layer.media_type for layer in document.layers} == {media_types.OCI_LAYER}
    assert [await everything(archive.content(each)) for each in document.layers] == layers
    assert document.config is not None
    assert await everything(archive.content(document.config))


async def test_edge_37_packed_layers_of_an_old_archive_go_by_their_own_digests(
    docker: Callable[..., DockerArchive],
) -> None:
    packed = gzip.compress(b"base" * 1000) + gzip.compress(b"and a second part")
    archive = docker(legacy([packed]))
    descriptor = await archive.find()
    document = parse(descriptor, await read_all(archive.content(descriptor), limit=10_000))
    assert document.layers == (Descriptor.of(packed, media_types.OCI_LAYER_GZIP),)
    assert await everything(archive.content(document.layers[0])) == packed


async def test_old_archive_resolves_to_the_same_manifest_each_time(
    docker: Callable[..., DockerArchive],
) -> None:
    first = await docker(legacy([b"x"])).find()
    again = docker(legacy([b"x"]))
    assert await again.find() == first == await again.resolve(first.digest)


async def test_layer_that_is_a_link_to_another_is_that_one(docker: Callable[..., DockerArchive]) -> None:
    files = legacy([b"same", b"same"])
    del files["1/layer.tar"]
    archive = docker(files, {"1/layer.tar": "../0/layer.tar"})
    descriptor = await archive.find()
    document = parse(descriptor, await read_all(archive.content(descriptor), limit=10_000))
    assert [await everything(archive.content(each)) for each in document.layers] == [b"same", b"same"]


async def test_one_of_several_images_is_chosen_by_its_name(docker: Callable[..., DockerArchive]) -> None:
    files: dict[str, bytes] = {}
    entries = []
    for name in ("shop/a:1", "shop/b:1"):
        these = legacy([name.encode()], names=[name])
        entries += json.loads(these["manifest.json"])
        entries[-1]["Layers"] = [f"{name[5]}.tar"]
        these[f"{name[5]}.tar"] = these.pop("0/layer.tar")
        files |= these
    files["manifest.json"] = json.dumps(entries).encode()
    archive = docker(files)
    assert await archive.find("shop/a:1") != await archive.find("shop/b:1")
    for missing in ("", "shop/c:1"):
        with pytest.raises(LocalFileError) as caught:
            await archive.find(missing)
        assert caught.value.hint == "its tags are shop/a:1, shop/b:1"


def changed(**more: bytes) -> dict[str, bytes]:
    return {**legacy([b"layer"]), **{name.replace("_", "."): raw for name, raw in more.items()}}


BAD: dict[str, tuple[dict[str, bytes], str]] = {
    "no manifest.json": ({"a": b"x"}, r"no manifest\.json"),
    "no JSON": (changed(manifest_json=b"{"), "not JSON"),
    "deep JSON": (changed(manifest_json=b"[" * 100_000), "not JSON"),
    "no list": (changed(manifest_json=b"{}"), "not a list"),
    "entry of another shape": (changed(manifest_json=b"[3]"), "no Config"),
    "layers of another shape": (legacy([b"x"], Layers=[3]), "RepoTags and Layers"),
    "too many layers": (legacy([b"x"], Layers=["0/layer.tar"] * 501), "RepoTags and Layers"),
    "config not there": (legacy([b"x"], Config="gone.json"), r"gone\.json"),
    "config outside": (legacy([b"x"], Config="../../etc/passwd"), "etc/passwd"),
    "layer not there": (legacy([b"x"], Layers=["gone.tar"]), r"gone\.tar"),
    "layer outside": (legacy([b"x"], Layers=["/dev/zero"]), "/dev/zero"),
    "fewer layers than diff IDs": (legacy([b"x"], Layers=[]), "0 layers"),
    "diff ID that is none": (legacy([b"x"], diff_ids=["sha256:oops"]), "diff_ids"),
    "packed layer of another diff ID": (
        legacy([gzip.compress(b"x")], diff_ids=[Digest.of(b"y")]),
        "does not unpack to",
    ),
    "zstd": (legacy([b"\x28\xb5\x2f\xfd" + b"x" * 50]), "zstd"),
}


@pytest.mark.parametrize(("files", "words"), BAD.values(), ids=BAD)
async def test_bad_docker_archive_is_refused(
    docker: Callable[..., DockerArchive], files: dict[str, bytes], words: str
) -> None:
    with pytest.raises(ContentError, match=words):
        await docker(files).find()


@pytest.mark.parametrize(
    ("damage", "words"),
    [(lambda raw: raw[:-2], "unpack"), (lambda raw: raw + b"rubbish", "not whole gzip")],
    ids=["cut", "rubbish behind"],
)
async def test_packed_layer_that_is_not_whole_is_refused(
    docker: Callable[..., DockerArchive], damage: Callable[[bytes], bytes], words: str
) -> None:
    files = legacy([gzip.compress(b"x")])
    files["0/layer.tar"] = damage(files["0/layer.tar"])
    with pytest.raises(ContentError, match=words):
        await docker(files).find()


async def test_config_that_is_not_what_its_name_says_is_refused(docker: Callable[..., DockerArchive]) -> None:
    files = legacy([b"x"])
    name = next(iter(files))
    files[name] += b" "
    with pytest.raises(ContentError, match="other bytes than its name"):
        await docker(files).find()


async def test_bomb_is_refused_before_it_is_unpacked(
    docker: Callable[..., DockerArchive], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_archive, "FREE", 100_000)
    archive = docker(legacy([gzip.compress(bytes(10_000_000))]))
    with pytest.raises(ContentError, match="unpacks to more than"):
        await archive.find()


async def test_layer_with_other_bytes_than_its_diff_id_is_never_stored(
    docker: Callable[..., DockerArchive],
) -> None:
    archive = docker(legacy([b"x"], diff_ids=[Digest.of(b"y")]))
    descriptor = await archive.find()
    document = parse(descriptor, await read_all(archive.content(descriptor), limit=10_000))
    store = MemoryStore()
    with pytest.raises(ContentError, match="names other bytes"):
        await store.put(archive.content(document.layers[0]))
    assert not await store.has(document.layers[0])


async def test_layout_whose_manifest_has_other_bytes_is_refused(tmp_path: Path) -> None:
    made = image()
    found = members(await write(DockerArchiveWriter(tmp_path / "a.tar", NAME), made))
    found[f"blobs/sha256/{made.manifest.digest.encoded}"] += b" "
    (tmp_path / "b.tar").write_bytes(tar(found))
    with pytest.raises(ContentError, match="other bytes than its name"):
        await DockerArchive(tmp_path / "b.tar").find()


@pytest.mark.parametrize(
    ("reader", "other"), [(OciArchive, "docker-archive:"), (DockerArchive, "oci-archive:")]
)
async def test_archive_of_the_other_kind_is_pointed_out(
    tmp_path: Path, reader: Callable[[Path], OciArchive], other: str
) -> None:
    path = tmp_path / "a.tar"
    if reader is OciArchive:
        path.write_bytes(tar(legacy([b"x"])))
    else:
        await write(ArchiveWriter(path), image())
    with pytest.raises(ContentError) as caught:
        await reader(path).find()
    assert f"{other}{path}" in caught.value.hint


async def test_archive_that_goes_away_or_is_cut_is_told(tmp_path: Path) -> None:
    path, made = tmp_path / "a.tar", image()
    await write(ArchiveWriter(path), made)
    archive = OciArchive(path)
    await archive.find()
    layer, _ = made.large
    os.truncate(path, 2000)
    with pytest.raises(ContentError):
        await everything(archive.content(layer))
    path.unlink()
    with pytest.raises(LocalFileError, match="there is no archive"):
        await everything(archive.content(layer))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=80)
@given(
    st.fixed_dictionaries({"Config": json_values, "RepoTags": json_values, "Layers": json_values}),
    json_values,
)
async def test_any_manifest_json_is_used_or_refused(
    tmp_path_factory: pytest.TempPathFactory, entry: dict[str, Any], index: object
) -> None:
    path = tmp_path_factory.mktemp("archive") / "a.tar"
    path.write_bytes(
        tar(
            {
                "manifest.json": json.dumps([entry]).encode(),
                "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
                "index.json": json.dumps(index).encode(),
            }
        )
    )
    for reader in (DockerArchive, OciArchive):
        with pytest.raises(RegsimError):
            await reader(path).find()


async def test_what_is_cancelled_while_it_makes_a_place_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, begun, goes_on, made = layout_index.create, *(threading.Event() for _ in range(3))

    def slowly(root: Path) -> None:
        begun.set()
        goes_on.wait(10)
        create(root)
        made.set()

    monkeypatch.setattr(layout_index, "create", slowly)
    writer = ArchiveWriter(tmp_path / "a.tar")
    putting = asyncio.create_task(
        writer.put(BytesContent(Descriptor.of(b"data", media_types.OCI_LAYER), b"data"))
    )
    await asyncio.to_thread(begun.wait, 10)
    putting.cancel()
    asyncio.get_running_loop().call_soon(goes_on.set)
    with pytest.raises(asyncio.CancelledError):
        await putting
    writer.close()
    await asyncio.to_thread(made.wait, 10)
    assert await asyncio.to_thread(lambda: list(tmp_path.iterdir())) == []
