"""The trees that umoci unpacks from our layers, whiteouts, owners, times, links and attributes included."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from regsim.core import Descriptor, ImageConfig, Platform, config_document, media_types
from regsim.core.manifest import manifest_document
from regsim.image.apply import apply
from regsim.image.compression import compressor
from regsim.image.layer_write import write_layer
from regsim.image.tree import EMPTY
from regsim.store.entry import Entry, Kind, of_bytes
from regsim.store.layout import LayoutStore
from regsim.store.memory import BytesContent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regsim.image.layer_write import Sink
    from regsim.synth.recipe import LayerInfo

pytestmark = [pytest.mark.peers, pytest.mark.anyio]

SECOND = 10**9


def directory(path: bytes, **more: int) -> Entry:
    return Entry(
        path=path, kind=Kind.DIRECTORY, mode=more.get("mode", 0o755), mtime_ns=more.get("time", 1) * SECOND
    )


def file(path: bytes, data: bytes, **more: int) -> Entry:
    return of_bytes(path, data, mode=more.get("mode", 0o644), mtime_ns=more.get("time", 1) * SECOND)


LAYERS: list[list[Entry]] = [
    [
        directory(b"etc", time=1_700_000_000),
        file(b"etc/motd", b"hello\n", time=1_600_000_000),
        file(b"etc/shadow", b"secret", mode=0o600),
        directory(b"usr"),
        directory(b"usr/lib"),
        file(b"usr/lib/libc", b"\x7fELF" * 1000, mode=0o755),
        Entry(path=b"lib", kind=Kind.SYMLINK, mode=0o777, link=b"usr/lib", mtime_ns=5 * SECOND),
        Entry(path=b"usr/lib/libc.so", kind=Kind.HARDLINK, link=b"usr/lib/libc"),
        Entry(
            path=b"usr/lib/absolute", kind=Kind.SYMLINK, mode=0o777, link=b"/etc/motd", mtime_ns=7 * SECOND
        ),
        directory(b"tmp", mode=0o1777),
        directory(b"tmp/old", time=8),
        file(b"tmp/old/one", b"1"),
        file(b"tmp/old/two", b"2"),
        Entry(path=b"tmp/fifo", kind=Kind.FIFO, mode=0o600, mtime_ns=SECOND),
        directory(b"home"),
        directory(b"home/user", mode=0o2750),
        Entry(
            path=b"home/user/.profile",
            kind=Kind.FILE,
            uid=1000,
            gid=1001,
            mtime_ns=1_500_000_000 * SECOND + 123_000_000,
            size=3,
            content=lambda: iter((b"PS1",)),
            xattrs={"user.note": b"\0\xff=\n"},
        ),
        file(b"n" * 255, b"long name"),
        *(directory(b"/".join([b"d" * 100] * depth)) for depth in range(1, 8)),
        file(b"/".join([b"d" * 100] * 8), b"long path"),
        directory("Größe".encode()),
        file("Größe/日本".encode(), b"text"),
        file(b"not-\xff\xfe-text", b"bytes"),
    ],
    [
        Entry(path=b"etc/motd", kind=Kind.WHITEOUT),
        Entry(path=b"tmp/old", kind=Kind.OPAQUE),
        directory(b"tmp/old", time=9),
        file(b"tmp/old/three", b"3"),
        file(b"lib/through-link", b"in usr/lib"),
        file(b"usr/lib/libc", b"new"),  # the other name keeps the old content
        directory(b"etc", mode=0o700, time=1_700_000_001),
    ],
    [
        Entry(path=b"home", kind=Kind.WHITEOUT),
        file(b"tmp/old", b"a file where a directory was"),
        directory(b"lib", time=3),  # a directory where a link was
        file(b"lib/own", b"x"),
        Entry(path=b"usr/lib/absolute", kind=Kind.WHITEOUT),
    ],
]


async def layout_of(layers: list[list[Entry]], place: Path, by: str) -> LayoutStore:
    layout = LayoutStore(place, create=True)
    infos: list[LayerInfo] = []

    for entries in layers:

        def write(sink: Sink, entries: list[Entry] = entries) -> Descriptor:
            infos.append(write_layer(entries, compressor(by), sink))
            return infos[-1].descriptor

        await layout.ingest(write)
    config = config_document(
        ImageConfig(
            platform=Platform("linux", "amd64"), history=(), diff_ids=tuple(each.diff_id for each in infos)
        )
    )
    described = Descriptor.of(config, media_types.OCI_CONFIG)
    await layout.put(BytesContent(described, config))
    manifest = manifest_document(described, [each.descriptor for each in infos])
    top = Descriptor.of(manifest, media_types.OCI_MANIFEST)
    await layout.put(BytesContent(top, manifest))
    await layout.tag(top, "latest")
    return layout


def unpack(place: Path) -> Path:
    program = shutil.which("umoci")
    if program is None:
        pytest.fail("umoci is not installed (Debian package umoci)")
    bundle = place.with_name("bundle")
    subprocess.run([program, "unpack", "--image", f"{place}:latest", bundle], check=True, capture_output=True)
    return bundle / "rootfs"


@pytest.mark.parametrize("depth", [1, 2, 3])
async def test_umoci_unpacks_the_tree_that_we_say_the_layers_make(
    depth: int, tmp_path: Path, snapshot: Callable[..., dict[bytes, object]]
) -> None:
    await layout_of(LAYERS[:depth], tmp_path / "layout", "gzip")
    tree = EMPTY
    for entries in LAYERS[:depth]:
        tree, _ = apply(tree, entries)
    assert snapshot(await asyncio.to_thread(unpack, tmp_path / "layout")) == snapshot(tree)
