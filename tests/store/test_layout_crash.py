"""A layout survives what happens to processes and disks: complete or absent, and never a broken index."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from regsim.core import Descriptor, media_types
from regsim.errors import LocalFileError
from regsim.store.layout import LayoutStore
from regsim.store.memory import BytesContent
from regsim.store.verify import read_all

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
DATA = b"0123456789abcdef" * 200_000  # more than three chunks
LAYER = Descriptor.of(DATA, media_types.OCI_LAYER_GZIP)
MANIFEST = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}'

# Runs in a process of its own, says where it is, and waits there to be killed.
WRITER = """
import asyncio, sys
from pathlib import Path
from regsim.store import files, layout_index
from regsim.store.layout import LayoutStore
from regsim.store.memory import BytesContent
from regsim.core import Descriptor, media_types

path, stop = sys.argv[1:]
data = b"0123456789abcdef" * 200_000
manifest = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}'

def reach(point):
    if point == stop:
        print(point, flush=True)
        sys.stdin.read()

class Slow(BytesContent):
    async def open(self):
        size = 300_000
        for start in range(0, len(self.data), size):
            reach(f"chunk {start // size}")
            yield self.data[start : start + size]
        reach("last chunk")

commit = files.AsideFile.commit
def stopping(self, target, *, durable):
    reach(f"before {target.name[:12]}")
    commit(self, target, durable=durable)
    reach(f"after {target.name[:12]}")
files.AsideFile.commit = stopping

async def main():
    store = LayoutStore(path, create=True)
    await store.put(Slow(Descriptor.of(data, media_types.OCI_LAYER_GZIP), data))
    content = BytesContent(Descriptor.of(manifest, media_types.OCI_MANIFEST), manifest)
    await store.put(content)
    for number in range(3):
        await store.tag(content.descriptor, f"v{number}")
    reach("end")

asyncio.run(main())
"""

POINTS = [
    "chunk 0",
    "chunk 5",
    "last chunk",
    f"before {LAYER.digest.short}",
    f"after {LAYER.digest.short}",
    "before index.json",
    "after index.json",
    "end",
]


@contextmanager
def writer(path: Path, stop: str) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WRITER, str(path), stop]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def kill_at(path: Path, stop: str) -> None:
    with writer(path, stop) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == stop
        process.kill()
        assert process.wait() == -signal.SIGKILL


def leftovers(path: Path) -> list[Path]:
    return list(path.glob(".regsim-*"))


@pytest.mark.parametrize("point", POINTS)
async def test_killed_writer_leaves_each_blob_complete_or_absent(tmp_path: Path, point: str) -> None:
    kill_at(tmp_path, point)
    store = LayoutStore(tmp_path, create=True)
    complete = POINTS.index(point) > POINTS.index(f"before {LAYER.digest.short}")
    assert await store.has(LAYER) is complete
    if complete:
        assert await read_all(store.content(LAYER), limit=LAYER.size) == DATA
    assert json.loads((tmp_path / "index.json").read_bytes())["schemaVersion"] == 2
    expected = {"after index.json": ("v0",), "end": ("v0", "v1", "v2")}.get(point, ())
    assert await store.tags() == expected


@pytest.mark.parametrize("point", POINTS)
async def test_work_goes_on_after_a_killed_writer(tmp_path: Path, point: str) -> None:
    kill_at(tmp_path, point)
    store = LayoutStore(tmp_path, create=True)
    await store.put(BytesContent(LAYER, DATA))
    manifest = Descriptor.of(MANIFEST, media_types.OCI_MANIFEST)
    await store.put(BytesContent(manifest, MANIFEST))
    await store.tag(manifest, "v9")
    assert leftovers(tmp_path) == []
    assert await store.resolve("v9") == manifest
    assert await read_all(store.content(LAYER), limit=LAYER.size) == DATA


async def test_file_of_a_living_writer_in_another_process_is_not_swept(tmp_path: Path) -> None:
    with writer(tmp_path, "chunk 5") as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "chunk 5"
        before = leftovers(tmp_path)
        manifest = Descriptor.of(MANIFEST, media_types.OCI_MANIFEST)
        await LayoutStore(tmp_path, create=True).put(BytesContent(manifest, MANIFEST))
        assert leftovers(tmp_path) == before != []


TAGGER = """
import asyncio, sys
from regsim.store.layout import LayoutStore
from regsim.store.memory import BytesContent
from regsim.core import Descriptor, media_types

async def main(path, name):
    store = LayoutStore(path, create=True)
    raw = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}'
    content = BytesContent(Descriptor.of(raw, media_types.OCI_MANIFEST), raw)
    await store.put(content)
    for number in range(25):
        await store.tag(content.descriptor, f"{name}-{number:02}")

asyncio.run(main(*sys.argv[1:]))
"""


async def test_tags_of_two_processes_at_once_are_all_kept(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen([sys.executable, "-c", TAGGER, str(tmp_path), name], env=environment)  # noqa: ASYNC220
        for name in "ab"
    ]
    assert [process.wait() for process in processes] == [0, 0]
    expected = tuple(f"{name}-{number:02}" for name in "ab" for number in range(25))
    assert await LayoutStore(tmp_path).tags() == expected


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let writes beyond `size` bytes of a file fail, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("limit", [0, 1000, 1_500_000, len(DATA) - 1])
async def test_full_disk_is_one_clear_error_and_leaves_no_half_file(tmp_path: Path, limit: int) -> None:
    store = LayoutStore(tmp_path, create=True)
    manifest = Descriptor.of(MANIFEST, media_types.OCI_MANIFEST)
    await store.put(BytesContent(manifest, MANIFEST))
    with file_size_limit(limit), pytest.raises(LocalFileError) as caught:
        await store.put(BytesContent(LAYER, DATA))
    assert str(tmp_path / "blobs/sha256" / LAYER.digest.encoded) in caught.value.message
    assert caught.value.hint
    assert leftovers(tmp_path) == []
    assert not await store.has(LAYER)


async def test_full_disk_leaves_the_index_as_it_was(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path, create=True)
    manifest = Descriptor.of(MANIFEST, media_types.OCI_MANIFEST)
    await store.put(BytesContent(manifest, MANIFEST))
    await store.tag(manifest, "v1")
    with file_size_limit(100), pytest.raises(LocalFileError, match=r"index\.json"):
        await store.tag(manifest, "v2")
    assert await store.tags() == ("v1",)
    assert leftovers(tmp_path) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a directory on a file system of one mebibyte, where this machine lets us have one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


async def test_really_full_disk_says_that_there_is_no_space(small_disk: Path) -> None:
    store = LayoutStore(small_disk / "layout", create=True)
    with pytest.raises(LocalFileError, match="No space left on device") as caught:
        await store.put(BytesContent(LAYER, DATA))
    assert "free some space" in caught.value.hint
    assert leftovers(store.path) == []
