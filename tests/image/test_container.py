"""A container's writable layer: what it hides, what it costs, what is left of it."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from regsim.core import Descriptor, ImageConfig, Platform, config_document, media_types
from regsim.core.image import Image, Layer
from regsim.core.ledger import Tally
from regsim.errors import ContentError, LocalFileError, RegsimError, UsageError
from regsim.image.apply import apply
from regsim.image.compression import compressor
from regsim.image.container import Container, State
from regsim.image.layer_read import read_layer
from regsim.image.opened import OpenImage
from regsim.image.tree import EMPTY, Tree
from regsim.store.entry import Entry, Kind, of_bytes
from regsim.store.layout import LayoutStore
from regsim.store.memory import BytesContent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    ImageOf = Callable[[list[list[Entry]], LayoutStore], Awaitable[OpenImage]]

pytestmark = pytest.mark.anyio

SECOND = 10**9
NOW = 1_700_000_000 * SECOND


def directory(path: bytes) -> Entry:
    return Entry(path=path, kind=Kind.DIRECTORY, mode=0o755)


def link(path: bytes, to: bytes) -> Entry:
    return Entry(path=path, kind=Kind.SYMLINK, mode=0o777, link=to)


BELOW = [
    [
        directory(b"etc"),
        of_bytes(b"etc/motd", b"hello\n", mode=0o600),
        of_bytes(b"etc/passwd", b"root:x:0:0::/root:/bin/sh\n"),
        directory(b"var"),
        directory(b"var/cache"),
        of_bytes(b"var/cache/one", b"1"),
        of_bytes(b"var/cache/two", b"22"),
        link(b"log", b"/var/log"),
        link(b"cache", b"var/cache"),
        link(b"escape", b"../../outside"),
        link(b"loop", b"loop"),
        of_bytes(b"twin", b"both"),
        Entry(path=b"twin-too", kind=Kind.HARDLINK, link=b"twin"),
    ],
    [of_bytes(b"etc/motd", b"hello again\n", mode=0o640), Entry(path=b"var/cache/two", kind=Kind.WHITEOUT)],
]


@dataclass
class Clock:
    now: int = NOW
    step: int = 0

    def __call__(self) -> int:
        self.now += self.step
        return self.now


@dataclass
class Workshop:
    """Makes images and containers in a directory of its own."""

    store: LayoutStore
    image_of: ImageOf
    clock: Clock = field(default_factory=Clock)
    made: list[Container] = field(default_factory=list)

    async def image(self, layers: list[list[Entry]]) -> OpenImage:
        return await self.image_of(layers, self.store)

    def run(self, image: OpenImage, name: str = "web") -> Container:
        self.made.append(Container(image, name, clock=self.clock))
        return self.made[-1]


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image_of: ImageOf) -> Workshop:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    return Workshop(LayoutStore(tmp_path / "store", create=True), image_of)


async def content(container: Container, path: str) -> bytes:
    return b"".join([chunk async for chunk in container.read(path)])


def kinds(container: Container) -> dict[bytes, Kind]:
    return {entry.path: entry.kind for entry in container.changes() if entry.kind is not Kind.DIRECTORY}


def below_scratch(tmp_path: Path) -> list[int]:
    return sorted(each.stat().st_size for each in (tmp_path / "scratch").rglob("*") if each.is_file())


async def tree_of(built: OpenImage) -> Tree:
    tree = EMPTY
    for layer in built.layers:
        tree, _ = apply(tree, await read_layer(layer.content()))
    return tree


async def test_a_new_container_holds_nothing_of_its_own_and_shares_the_image_with_others(
    workshop: Workshop,
) -> None:
    image = await workshop.image(BELOW)
    first, second = workshop.run(image, "first"), workshop.run(image, "second")
    assert first.tree is second.tree is image.files.tree
    assert first.size == Tally()
    await first.write("etc/new", b"x")
    assert first.tree.root.children[b"var"] is second.tree.root.children[b"var"]
    assert second.tree is image.files.tree
    assert not second.exists("etc/new")


async def test_what_is_written_is_read_and_what_is_below_stays_as_it_is(workshop: Workshop) -> None:
    image = await workshop.image(BELOW)
    first, second = workshop.run(image, "first"), workshop.run(image, "second")
    await first.write("/etc/motd", b"changed")
    assert await content(first, "etc/motd") == b"changed"
    assert await content(second, "etc/motd") == b"hello again\n"
    assert [each.mode for each in first.list("etc") if each.path == b"etc/motd"] == [0o640]
    assert [each.path for each in second.list("/etc/")] == [b"etc/motd", b"etc/passwd"]


async def test_replacing_a_file_copies_nothing_and_a_part_or_a_mode_copies_it_whole(
    workshop: Workshop,
) -> None:
    container = workshop.run(await workshop.image(BELOW))
    await container.write("etc/motd", b"short")
    assert (container.size, container.copied_up) == (Tally(1, 5), Tally())
    await container.write("etc/passwd", b"me:x:1:1::/:/bin/sh\n", append=True)
    assert await content(container, "etc/passwd") == b"root:x:0:0::/root:/bin/sh\nme:x:1:1::/:/bin/sh\n"
    assert (container.size, container.copied_up) == (Tally(2, 5 + 46), Tally(1, 26))
    await container.change("var/cache/one", mode=0o4755, owner=(7, 8))
    assert (container.size, container.copied_up) == (Tally(3, 5 + 46 + 1), Tally(2, 27))
    [entry] = [each for each in container.changes() if each.path == b"var/cache/one"]
    assert (entry.mode, entry.uid, entry.gid, entry.mtime_ns) == (0o4755, 7, 8, 0)
    # What is up already does not come up again.
    await container.change("var/cache/one", mode=0o644)
    await container.write("etc/passwd", b"!", append=True)
    assert container.copied_up == Tally(2, 27)
    assert await content(container, "var/cache/one") == b"1"


async def test_a_directorys_mode_costs_no_bytes(workshop: Workshop) -> None:
    container = workshop.run(await workshop.image(BELOW))
    await container.change("var/cache", mode=0o700)
    assert (container.size, container.copied_up) == (Tally(), Tally())
    assert [(each.path, each.mode) for each in container.changes()] == [(b"var/cache", 0o700)]
    assert await content(container, "var/cache/one") == b"1"


async def test_a_file_with_two_names_is_two_files_once_one_is_changed(workshop: Workshop) -> None:
    container = workshop.run(await workshop.image(BELOW))
    await container.write("twin-too", b"!", append=True)
    assert await content(container, "twin-too") == b"both!"
    assert await content(container, "twin") == b"both"
    assert kinds(container) == {b"twin-too": Kind.FILE}


async def test_what_is_removed_is_whited_out_and_what_was_only_here_leaves_nothing(
    workshop: Workshop,
) -> None:
    container = workshop.run(await workshop.image(BELOW))
    await container.write("new/deep/file", b"x")
    await container.remove("new")
    await container.remove("etc/motd")
    await container.remove("log")
    assert kinds(container) == {b"etc/motd": Kind.WHITEOUT, b"log": Kind.WHITEOUT}
    with pytest.raises(LocalFileError, match="there is no '/etc/motd' in container web"):
        await content(container, "etc/motd")
    assert [each.path for each in container.list("etc")] == [b"etc/passwd"]


async def test_a_directory_that_was_removed_and_made_anew_is_opaque(workshop: Workshop) -> None:
    container = workshop.run(await workshop.image(BELOW))
    await container.remove("var/cache")
    assert kinds(container) == {b"var/cache": Kind.WHITEOUT}
    await container.write("var/cache/three", b"333")
    assert kinds(container) == {b"var/cache": Kind.OPAQUE, b"var/cache/three": Kind.FILE}
    assert [each.path for each in container.list("cache")] == [b"var/cache/three"]
    await container.change("var/cache", mode=0o711)
    assert kinds(container) == {b"var/cache": Kind.OPAQUE, b"var/cache/three": Kind.FILE}
    await container.remove("var/cache")
    assert kinds(container) == {b"var/cache": Kind.WHITEOUT}
    await container.write("var/cache", b"a file now")
    assert kinds(container) == {b"var/cache": Kind.FILE}


async def test_links_are_followed_within_the_root_and_a_link_itself_is_removed(workshop: Workshop) -> None:
    container = workshop.run(await workshop.image(BELOW))
    await container.write("cache/one", b"through")
    assert await content(container, "/var/cache/one") == b"through"
    await container.make_directory("var/log")
    await container.write("log/today", b"x")
    assert await content(container, "../../var/log/today") == b"x"
    await container.remove("cache")
    assert await content(container, "var/cache/one") == b"through"
    await container.link("current", "/var/log/today")
    assert await content(container, "current") == b"x"
    await container.write("current", b"y")
    assert await content(container, "var/log/today") == b"y"
    await container.link("dangling", "var/tomorrow")
    for refused in (container.make_directory("dangling"), container.link("dangling", "x")):
        with pytest.raises(LocalFileError, match="to what is not there"):
            await refused
    await container.write("dangling", b"made")
    assert await content(container, "var/tomorrow") == b"made"


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("../etc/passwd", ContentError, "no part may be empty, '.' or '..'"),
        ("a/../../b", ContentError, "no part may be empty, '.' or '..'"),
        ("escape", ContentError, "'/escape' leads out of container web through a symbolic link"),
        ("escape/file", ContentError, "'/escape/file' leads out of container web through a symbolic link"),
        ("loop", ContentError, "leads through more than 40 symbolic links"),
        ("log/file", LocalFileError, "'/log/file' in container web leads through a symbolic link to what"),
        ("log", LocalFileError, None),
        ("etc/motd/file", LocalFileError, "'/etc/motd/file' cannot be in container web: '/etc/motd' is no"),
        ("etc/.wh.motd", ContentError, "mean deletion in a layer"),
        ("n" * 256, ContentError, "a name has at most 255 bytes"),
        ("nul\0", ContentError, "it has a NUL"),
        ("/", ContentError, "the root of a container cannot be replaced or removed"),
        ("etc", LocalFileError, "'/etc' in container web is a directory, not a file"),
    ],
)
async def test_a_path_that_cannot_be_written_is_one_error_and_changes_nothing(
    workshop: Workshop, path: str, error: type[RegsimError], words: str | None
) -> None:
    container = workshop.run(await workshop.image(BELOW))
    if words is None:  # a link to what is not there, in a directory that is there: as for open(2)
        await container.write(path, b"x")
        assert await content(container, "var/log") == b"x"
        return
    with pytest.raises(error) as raised:
        await container.write(path, b"x")
    assert words in raised.value.message
    assert container.changes() == ()


@pytest.mark.parametrize("path", ["etc/none", "none/etc", "etc/motd/none", "log", "etc"])
async def test_reading_what_is_no_file_is_one_error(workshop: Workshop, path: str) -> None:
    container = workshop.run(await workshop.image(BELOW))
    with pytest.raises(LocalFileError, match=f"'/{path}'"):
        await content(container, path)


async def test_other_mistakes_are_one_error_each(workshop: Workshop) -> None:
    container = workshop.run(await workshop.image(BELOW))
    with pytest.raises(LocalFileError, match="is a file, not a directory"):
        container.list("etc/motd")
    with pytest.raises(LocalFileError, match="is a file, not a directory"):
        await container.make_directory("etc/motd")
    with pytest.raises(LocalFileError, match="is there already"):
        await container.link("etc/motd", "x")
    with pytest.raises(LocalFileError, match="there is no '/none'"):
        await container.remove("none")
    with pytest.raises(LocalFileError, match="there is no '/none'"):
        await container.change("none", mode=0o600)
    with pytest.raises(ContentError, match="leads out of"):
        await container.remove("escape/x")
    assert container.changes() == ()


async def test_a_stopped_container_keeps_its_layer_and_a_removed_one_loses_it(
    workshop: Workshop, tmp_path: Path
) -> None:
    container = workshop.run(await workshop.image(BELOW))
    await container.write("note", b"kept")
    with pytest.raises(UsageError, match="container web is running"):
        await container.rm()
    container.stop()
    container.stop()
    for refused in (container.write("note", b"x"), content(container, "note"), container.remove("note")):
        with pytest.raises(UsageError, match="container web is stopped"):
            await refused
    container.start()
    assert await content(container, "note") == b"kept"
    container.stop()
    await container.rm()
    assert (container.state, below_scratch(tmp_path)) == (State.REMOVED, [])
    for use in (container.start, container.stop, container.changes):
        with pytest.raises(UsageError, match="container web was removed"):
            use()
    with pytest.raises(UsageError, match="container web was removed"):
        await container.rm()


async def test_what_is_replaced_or_removed_leaves_the_disk_at_once(
    workshop: Workshop, tmp_path: Path
) -> None:
    async with workshop.run(await workshop.image(BELOW)) as container:
        await container.write("a/b/one", b"x" * 1000)
        await container.write("a/b/one", b"x" * 10)
        await container.write("a/b/one", b"x" * 5, append=True)
        await container.write("a/two", b"y" * 7)
        assert below_scratch(tmp_path) == [7, 15]
        await container.remove("a/b")
        assert below_scratch(tmp_path) == [7]
    assert list((tmp_path / "scratch").iterdir()) == []


async def test_a_write_that_fails_leaves_the_file_as_it_was(workshop: Workshop) -> None:
    def breaking() -> Iterator[bytes]:
        yield b"some"
        raise LocalFileError("the source broke off")

    async with workshop.run(await workshop.image(BELOW)) as container:
        await container.write("own", b"mine")
        await container.write("empty", b"")
        for path, append in (("own", True), ("own", False), ("empty", True), ("fresh/new", False)):
            with pytest.raises(LocalFileError, match="broke off"):
                await container.write(path, breaking(), append=append)
        assert await content(container, "own") == b"mine"
        assert await content(container, "empty") == b""
        assert not container.exists("fresh")
        await container.write("own", b"!", append=True)
        assert await content(container, "own") == b"mine!"


async def test_memory_does_not_grow_with_the_size_of_a_file(workshop: Workshop) -> None:
    megabyte = b"x" * 2**20
    image = await workshop.image([[of_bytes(b"large", megabyte * 64)]])
    async with workshop.run(image) as container:
        tracemalloc.start()
        await container.write("written", (megabyte for _ in range(64)))
        await container.write("large", b"!", append=True)
        async for _ in container.read("large"):
            pass
        await container.commit(workshop.store, compressor("gzip", 6))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert container.size == Tally(2, 2 * 64 * 2**20 + 1)
    assert peak < 16 * 2**20


def history(built: OpenImage) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = json.loads(built.config.data)["history"]
    return lines


async def test_a_commit_adds_one_layer_with_the_changes_and_its_line_in_the_history(
    workshop: Workshop,
) -> None:
    image = await workshop.image(BELOW)
    container = workshop.run(image)
    await container.write("etc/motd", b"mine")
    await container.remove("var/cache")
    await container.make_directory("var/cache")
    container.stop()
    built = await container.commit(workshop.store, compressor("gzip", 6), message="saved")
    assert [each.descriptor for each in built.layers[:-1]] == [each.descriptor for each in image.layers]
    assert len(built.layers) == 3
    document = json.loads(built.config.data)
    assert document["rootfs"]["diff_ids"] == [each.diff_id for each in built.layers]
    assert document["created"] == "2023-11-14T22:13:20Z"
    assert document["config"] == {"Cmd": ["./main", "-v"]}
    assert history(built)[2:] == [
        {"created": "2023-11-14T22:13:20Z", "created_by": "./main -v", "comment": "saved"}
    ]
    container.start()
    assert (await tree_of(built)).root == container.tree.root


async def test_a_commit_of_nothing_has_no_layer_of_its_own(workshop: Workshop) -> None:
    image = await workshop.image(BELOW)
    built = await workshop.run(image).commit(workshop.store, compressor("none"))
    assert [each.descriptor for each in built.layers] == [each.descriptor for each in image.layers]
    assert history(built)[2:] == [
        {"created": "2023-11-14T22:13:20Z", "created_by": "./main -v", "empty_layer": True}
    ]


async def test_the_same_changes_at_the_same_time_give_the_same_image(workshop: Workshop) -> None:
    image = await workshop.image(BELOW)
    first, second, later = (workshop.run(image, name) for name in ("first", "second", "later"))
    await first.write("b", b"2")
    await first.write("a/c", b"1")
    await second.write("a/c", b"something else")
    await second.write("a/c", b"1")
    await second.write("gone", b"x")
    await second.remove("gone")
    await second.write("b", b"2")
    one = await first.commit(workshop.store, compressor("gzip", 6))
    two = await second.commit(workshop.store, compressor("gzip", 6))
    assert one.manifest.descriptor == two.manifest.descriptor
    workshop.clock.now += SECOND
    await later.write("b", b"2")
    await later.write("a/c", b"1")
    three = await later.commit(workshop.store, compressor("gzip", 6))
    assert three.layers[-1].descriptor != one.layers[-1].descriptor


@pytest.mark.parametrize("name", ["none", "gzip", "zstd"])
async def test_a_container_on_a_committed_image_has_what_was_committed(workshop: Workshop, name: str) -> None:
    first = workshop.run(await workshop.image(BELOW))
    await first.write("etc/motd", b"kept")
    built = await first.commit(workshop.store, compressor(name))
    await built.read()
    second = workshop.run(built, "committed")
    assert await content(second, "etc/motd") == b"kept"
    assert await content(second, "var/cache/one") == b"1"
    await second.remove("etc/motd")
    again = await second.commit(workshop.store, compressor(name))
    assert len(again.layers) == 4
    assert b"etc/motd" not in dict((await tree_of(again)).walk())


async def test_a_committed_image_can_be_put_into_a_layout_under_a_tag(
    workshop: Workshop, tmp_path: Path
) -> None:
    container = workshop.run(await workshop.image(BELOW))
    await container.write("x", b"x")
    built = await container.commit(workshop.store, compressor("gzip", 6))
    other = LayoutStore(tmp_path / "other", create=True)
    await built.export(other, "v1", workshop.store)
    assert await other.find("v1") == built.manifest.descriptor
    assert [await other.has(each.descriptor) for each in built.layers] == [True] * 3


async def test_an_image_whose_config_is_for_other_layers_is_refused() -> None:
    raw = config_document(ImageConfig(platform=Platform("linux", "arm64"), history=(), diff_ids=()))
    config = BytesContent(Descriptor.of(raw, media_types.OCI_CONFIG), raw)
    image = Image(
        manifest=Descriptor.of(b"", media_types.OCI_MANIFEST),
        config=config.descriptor,
        layers=(Layer(descriptor=Descriptor.of(b"", media_types.OCI_LAYER)),),
    )
    with pytest.raises(UsageError, match="app has 1 layers, and a config for 0"):
        await OpenImage.of(image, lambda _: config, "app")
