"""A container against a real directory, in which the same is done, and the image committed from it."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regsim.errors import RegsimError
from regsim.image.apply import apply
from regsim.image.compression import compressor
from regsim.image.container import Container
from regsim.image.layer_read import Spool, read_layer
from regsim.image.spool import DiskSpool
from regsim.image.tree import EMPTY, Tree
from regsim.store.entry import Entry, Kind, of_bytes
from regsim.store.layout import LayoutStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from regsim.image.opened import OpenImage, OpenLayer

    ImageOf = Callable[[list[list[Entry]], LayoutStore], Awaitable[OpenImage]]
    Snapshot = Callable[..., dict[bytes, Any]]

names = st.sampled_from(["a", "b", "c", "to-a", "to-gone", "up"])
paths = st.lists(names, min_size=1, max_size=3).map("/".join)

# What the image has: all links lead to what is, or could be, within the tree.
BELOW = [
    [
        Entry(path=b"a", kind=Kind.DIRECTORY, mode=0o755),
        of_bytes(b"a/a", b"1"),
        of_bytes(b"a/b", b"22"),
        Entry(path=b"a/c", kind=Kind.DIRECTORY, mode=0o700),
        of_bytes(b"a/c/a", b"333", mode=0o640),
        Entry(path=b"a/up", kind=Kind.SYMLINK, mode=0o777, link=b"../b"),
    ],
    [
        Entry(path=b"b", kind=Kind.DIRECTORY, mode=0o755),
        of_bytes(b"b/a", b"55555"),
        Entry(path=b"b/to-a", kind=Kind.SYMLINK, mode=0o777, link=b"../a/a"),
        Entry(path=b"to-a", kind=Kind.SYMLINK, mode=0o777, link=b"a"),
        Entry(path=b"to-gone", kind=Kind.SYMLINK, mode=0o777, link=b"c/gone"),
    ],
]


@dataclass(frozen=True)
class Operation:
    """Something done to a container and to a directory alike."""

    verb: str
    path: str
    data: bytes = b""
    mode: int = 0o644

    async def to_container(self, container: Container) -> bool:
        try:
            match self.verb:
                case "write":
                    await container.write(self.path, self.data, mode=self.mode)
                case "append":
                    await container.write(self.path, self.data, append=True)
                case "remove":
                    await container.remove(self.path)
                case "mkdir":
                    await container.make_directory(self.path)
                case _:
                    await container.change(self.path, mode=self.mode | 0o700)
        except RegsimError:
            return False
        return True

    def to_directory(self, root: Path) -> bool:
        path = root / self.path
        try:
            match self.verb:
                case "write" | "append":
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with path.open("wb" if self.verb == "write" else "ab") as file:
                        file.write(self.data)
                    if self.verb == "write":
                        path.chmod(self.mode)
                case "remove" if path.is_symlink() or not path.is_dir():
                    path.unlink()
                case "remove":
                    shutil.rmtree(path)
                case "mkdir":
                    path.mkdir(parents=True, exist_ok=True)
                case _:
                    path.chmod(self.mode | 0o700)
        except OSError:
            return False
        return True


operations = st.lists(
    st.builds(
        Operation,
        st.sampled_from(["write", "write", "append", "remove", "remove", "mkdir", "mkdir", "chmod"]),
        paths,
        st.binary(max_size=4),
        st.sampled_from([0o644, 0o600, 0o755]),
    ),
    max_size=14,
)


async def unpacked(layers: tuple[OpenLayer, ...], spool: Spool) -> Tree:
    tree = EMPTY
    for layer in layers:
        tree, _ = apply(tree, await read_layer(layer.content(), spool=spool))
    return tree


async def files_of(container: Container) -> dict[bytes, bytes]:
    """Return what the container says that its files hold."""
    return {
        path: b"".join([chunk async for chunk in container.read(path)])
        for path, node in container.tree.walk()
        if node.entry.kind is Kind.FILE
    }


def plain(seen: dict[bytes, Any]) -> dict[bytes, Any]:
    """Leave out who owns a file, and its time: a directory of ours is ours, and of now."""
    return {path: each._replace(owner=(0, 0), time=None) for path, each in seen.items()}


def contentless(seen: dict[bytes, Any]) -> dict[bytes, Any]:
    return {path: each._replace(content=b"") for path, each in seen.items()}


async def check(done: list[Operation], image_of: ImageOf, snapshot: Snapshot, folder: Path) -> None:
    store = LayoutStore(folder / "store", create=True)
    image = await image_of(BELOW, store)
    root = folder / "root"
    root.mkdir()
    write_out(image, root)
    async with Container(image, "web", clock=lambda: 0) as container:
        for number, operation in enumerate(done):
            ours, theirs = await operation.to_container(container), operation.to_directory(root)
            assert ours == theirs, (number, operation)
        with DiskSpool() as spool:
            built = await container.commit(store, compressor("none"))
            committed = snapshot(await unpacked(built.layers, spool))
        merged = snapshot(container.tree)
        assert plain(committed) == plain(snapshot(root))
        assert await files_of(container) == {
            path: each.content for path, each in committed.items() if each.kind is Kind.FILE
        }
        # Of the image's files a tree has no contents; they were read just now.
        assert contentless(merged) == contentless(committed)


def write_out(image: OpenImage, root: Path) -> None:
    contents = {each.path: each.content for layer in BELOW for each in layer}
    for path, node in image.files.tree.walk():
        place, entry = root / os.fsdecode(path), node.entry
        match entry.kind:
            case Kind.DIRECTORY:
                place.mkdir(mode=entry.mode)
            case Kind.SYMLINK:
                place.symlink_to(os.fsdecode(entry.link))
            case _:
                content = contents[path]
                assert content is not None
                place.write_bytes(b"".join(content()))
                place.chmod(entry.mode)


def run(done: list[Operation], image_of: ImageOf, snapshot: Snapshot) -> None:
    umask = os.umask(0o022)
    try:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(check(done, image_of, snapshot, Path(folder)))
    finally:
        os.umask(umask)


@given(operations)
@settings(max_examples=60, deadline=None)
def test_a_container_and_its_commit_are_what_a_plain_directory_would_be(
    image_of: ImageOf, snapshot: Snapshot, done: list[Operation]
) -> None:
    run(done, image_of, snapshot)


@pytest.mark.soak
@given(operations)
@settings(max_examples=5_000, deadline=None)
def test_five_thousand_containers_and_their_commits_are_what_plain_directories_would_be(
    image_of: ImageOf, snapshot: Snapshot, done: list[Operation]
) -> None:
    run(done, image_of, snapshot)
