"""Bytes that are handed on in threads: all of them, in order, to everyone, and never after the end."""

from __future__ import annotations

import asyncio
import random
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from regsim.core import Descriptor, media_types
from regsim.errors import ContentError, LocalFileError
from regsim.store.layout import FileContent, LayoutStore
from regsim.store.memory import BytesContent
from regsim.store.protocols import CHUNK, Pourable

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio
DATA = random.Random(3).randbytes(10 * CHUNK + 7)  # beyond what one thread alone is used for


@dataclass
class Taken:
    """A taker that keeps what it is handed."""

    data: bytearray = field(default_factory=bytearray)
    threads: set[int] = field(default_factory=set)

    def __call__(self, piece: memoryview) -> None:
        self.data += piece
        self.threads.add(threading.get_ident())


def a_file(path: Path, data: bytes = DATA) -> FileContent:
    place = path / "blob"
    place.write_bytes(data)
    return FileContent(Descriptor.of(data, media_types.OCI_LAYER), place)


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, len(DATA)])
async def test_every_taker_is_handed_the_whole_file_in_order_and_in_a_thread(
    tmp_path: Path, size: int
) -> None:
    one, two = Taken(), Taken()
    content = a_file(tmp_path, DATA[:size])
    assert isinstance(content, Pourable)
    for _ in range(2):
        await content.pour(one, two)
    assert one.data == two.data == DATA[:size] * 2
    assert threading.get_ident() not in one.threads | two.threads


async def test_a_lone_large_file_has_a_second_thread_and_others_have_not(tmp_path: Path) -> None:
    content = a_file(tmp_path)
    taken = [(Taken(), Taken()) for _ in range(4)]
    await content.pour(*taken[0])
    assert taken[0][0].threads.isdisjoint(taken[0][1].threads)
    begun, go = threading.Event(), threading.Event()

    def hold(_: memoryview) -> None:
        begun.set()
        go.wait(5)

    first = asyncio.create_task(content.pour(hold))
    await asyncio.to_thread(begun.wait, 5)
    await asyncio.gather(*(content.pour(*pair) for pair in taken[1:]))
    go.set()
    await first
    assert all(one.threads == two.threads for one, two in taken[1:])
    assert all(each.data == DATA for pair in taken for each in pair)


@pytest.mark.parametrize("which", [0, 1])
async def test_what_a_taker_raises_ends_it_and_is_raised(tmp_path: Path, which: int) -> None:
    def full(_: memoryview) -> None:
        raise LocalFileError("disk full")

    takers: list[Taken] = [Taken(), Taken()]
    content = a_file(tmp_path)
    with pytest.raises(LocalFileError, match="disk full"):
        await content.pour(*takers[:which], full, *takers[which + 1 :])
    assert len(takers[1 - which].data) < len(DATA)


async def test_a_pour_that_is_cancelled_ends_with_its_thread(tmp_path: Path) -> None:
    reached, go = asyncio.Event(), threading.Event()
    loop, one = asyncio.get_running_loop(), Taken()

    def hold(_: memoryview) -> None:
        loop.call_soon_threadsafe(reached.set)
        go.wait(5)

    task = asyncio.create_task(a_file(tmp_path).pour(one, hold))
    await reached.wait()
    task.cancel()
    loop.call_later(0.05, go.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert go.is_set()  # it waited for its thread, which may use the file
    assert len(one.data) < len(DATA)


async def test_a_file_that_becomes_shorter_meanwhile_is_damaged(tmp_path: Path) -> None:
    content = a_file(tmp_path)

    def cut(_: memoryview) -> None:
        content.path.write_bytes(DATA[:CHUNK])

    with pytest.raises(ContentError, match="became shorter"):
        await content.pour(cut)


async def test_a_file_of_another_size_or_none_at_all_is_not_poured(tmp_path: Path) -> None:
    content, one = a_file(tmp_path), Taken()
    content.path.write_bytes(b"other")
    with pytest.raises(ContentError):
        await content.pour(one)
    content.path.unlink()
    with pytest.raises(LocalFileError):
        await content.pour(one)
    assert not one.data


async def test_from_layout_to_layout_a_large_file_is_copied_whole(tmp_path: Path) -> None:
    content = BytesContent(Descriptor.of(DATA, media_types.OCI_LAYER), DATA)
    one, two = (LayoutStore(tmp_path / name, create=True) for name in "ab")
    await one.put(content)
    await two.put(one.content(content.descriptor))
    copy = two.content(content.descriptor)
    assert isinstance(copy, FileContent)
    assert copy.path.read_bytes() == DATA
    copy.path.write_bytes(DATA[:-1] + b"x")
    with pytest.raises(ContentError):
        await one.put(copy)
    assert await one.has(content.descriptor)
