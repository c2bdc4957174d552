"""Blobs that came in part: kept, hashed again, gone on with, and never believed."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from regsim.core import Descriptor, media_types
from regsim.errors import ContentError, NetworkError
from regsim.store.layout import LayoutStore
from regsim.store.memory import BytesContent
from regsim.store.partial import LONGEST, MOST, PARTIAL, Arrival
from regsim.store.relay import hand_in_thread, streamed
from regsim.store.verify import read_all

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from regsim.store.protocols import Taker

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
DATA = os.urandom(5 * MIB + 17)
LAYER = Descriptor.of(DATA, media_types.OCI_LAYER_GZIP)


@dataclass
class Breaking:
    """Content that breaks off at a byte, and tells where it was opened."""

    at: int | None
    data: bytes = DATA
    descriptor: Descriptor = LAYER
    error: type[Exception] = NetworkError
    opened: list[int] = field(default_factory=list)

    def open(self) -> AsyncGenerator[bytes, None]:
        return streamed(self.pour)

    async def pour(self, *takers: Taker, offset: int = 0) -> None:
        self.opened.append(offset)
        end = len(self.data) if self.at is None else self.at
        for start in range(offset, end, MIB):
            await hand_in_thread(self.data[start : min(start + MIB, end)], takers)
        if self.at is not None:
            raise self.error("gone")


def parts(path: Path) -> list[Path]:
    return sorted(path.glob(".regsim-*"))


async def broken_off(path: Path, at: int, data: bytes = DATA) -> None:
    with pytest.raises(NetworkError):
        await LayoutStore(path, create=True).put(Breaking(at, data))


async def test_a_blob_that_broke_off_goes_on_where_it_was(tmp_path: Path) -> None:
    await broken_off(tmp_path, 3 * MIB)
    rest = Breaking(None)
    store = LayoutStore(tmp_path)
    assert await store.put(rest) == 3 * MIB
    assert rest.opened == [3 * MIB]
    assert await read_all(store.content(LAYER), limit=LAYER.size) == DATA
    assert parts(tmp_path) == []


async def test_it_may_break_off_again_and_again(tmp_path: Path) -> None:
    for end in (2, 3, 5):
        await broken_off(tmp_path, end * MIB)
    assert await LayoutStore(tmp_path).put(Breaking(None)) == 5 * MIB


async def test_what_was_kept_and_is_wrong_comes_again(tmp_path: Path) -> None:
    await broken_off(tmp_path, 3 * MIB, bytes(len(DATA)))
    rest = Breaking(None)
    store = LayoutStore(tmp_path)
    assert await store.put(rest) == 0
    assert rest.opened == [3 * MIB, 0]
    assert await read_all(store.content(LAYER), limit=LAYER.size) == DATA


async def test_what_turned_out_wrong_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(ContentError):
        await LayoutStore(tmp_path, create=True).put(Breaking(None, bytes(len(DATA))))
    assert parts(tmp_path) == []


@pytest.mark.parametrize("size", [LAYER.size, LAYER.size + 1])
async def test_a_part_that_is_no_part_is_not_believed(tmp_path: Path, size: int) -> None:
    await broken_off(tmp_path, 3 * MIB)
    parts(tmp_path)[0].write_bytes(bytes(size))
    store = LayoutStore(tmp_path)
    assert await store.put(Breaking(None)) == 0
    assert await read_all(store.content(LAYER), limit=LAYER.size) == DATA


async def test_a_part_that_is_the_whole_needs_nothing_more(tmp_path: Path) -> None:
    await broken_off(tmp_path, 3 * MIB)
    parts(tmp_path)[0].write_bytes(DATA)
    store, rest = LayoutStore(tmp_path), Breaking(None)
    assert (await store.put(rest), rest.opened) == (LAYER.size, [])
    assert await read_all(store.content(LAYER), limit=LAYER.size) == DATA


@pytest.mark.parametrize("kind", ["directory", "link", "pipe"])
async def test_something_else_in_its_place_is_left_alone(tmp_path: Path, kind: str) -> None:
    await broken_off(tmp_path, 3 * MIB)
    place, other = parts(tmp_path)[0], tmp_path.parent / f"{tmp_path.name}-other"
    place.unlink()
    other.write_bytes(b"precious")
    if kind == "directory":
        place.mkdir()
    elif kind == "link":
        place.symlink_to(other)
    else:
        os.mkfifo(place)
    assert await LayoutStore(tmp_path).put(Breaking(None)) == 0
    assert other.read_bytes() == b"precious"


async def test_a_small_beginning_is_not_worth_keeping(tmp_path: Path) -> None:
    await broken_off(tmp_path, MIB - 1)
    assert parts(tmp_path) == []


async def test_content_that_starts_from_the_first_byte_only_is_not_kept(tmp_path: Path) -> None:
    class Plain:
        descriptor = LAYER

        async def open(self) -> AsyncGenerator[bytes, None]:
            yield DATA[: 3 * MIB]
            raise NetworkError("gone")

    with pytest.raises(NetworkError):
        await LayoutStore(tmp_path, create=True).put(Plain())
    assert parts(tmp_path) == []


async def test_two_who_bring_the_same_blob_do_not_write_into_one_file(tmp_path: Path) -> None:
    await broken_off(tmp_path, 3 * MIB)
    first = Arrival(tmp_path, Breaking(None))
    store = LayoutStore(tmp_path)
    second = Breaking(None)
    assert await store.put(second) == 0
    assert second.opened == [0]
    first.discard()
    assert await read_all(store.content(LAYER), limit=LAYER.size) == DATA


async def test_parts_are_bounded_in_number_and_in_age(tmp_path: Path) -> None:
    await LayoutStore(tmp_path, create=True).put(BytesContent(Descriptor.of(b"x", "text/plain"), b"x"))
    for number in range(MOST + 5):
        (tmp_path / f"{PARTIAL}sha256-{number:02}").write_bytes(b"part")
        os.utime(tmp_path / f"{PARTIAL}sha256-{number:02}", (2e9 + number, 2e9 + number))
    old = tmp_path / f"{PARTIAL}sha256-old"
    old.write_bytes(b"part")
    os.utime(old, (1, 1))
    await LayoutStore(tmp_path).put(BytesContent(Descriptor.of(b"y", "text/plain"), b"y"))
    kept = [int(path.name.rpartition("-")[2]) for path in parts(tmp_path)]
    assert kept == list(range(5, MOST + 5))
    assert LONGEST > 24 * 3600
