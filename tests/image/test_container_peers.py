"""umoci and podman unpack what a container was committed to as the container had it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from regsim.image.apply import apply
from regsim.image.compression import compressor
from regsim.image.container import Container
from regsim.image.layer_read import read_layer
from regsim.image.spool import DiskSpool
from regsim.image.tree import EMPTY
from regsim.store.entry import Entry, Kind, of_bytes
from regsim.store.layout import LayoutStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from regsim.image.opened import OpenImage

    ImageOf = Callable[[list[list[Entry]], LayoutStore], Awaitable[OpenImage]]
    Snapshot = Callable[..., dict[bytes, object]]

pytestmark = [pytest.mark.peers, pytest.mark.anyio]

SECOND = 10**9
FILES = frozenset({Kind.FILE})
CONTAINERS_CONF = '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'


def directory(path: bytes, mode: int = 0o755) -> Entry:
    return Entry(path=path, kind=Kind.DIRECTORY, mode=mode, mtime_ns=SECOND)


BELOW = [
    [
        directory(b"etc"),
        of_bytes(b"etc/motd", b"hello\n", mode=0o600, mtime_ns=7 * SECOND),
        of_bytes(b"etc/group", b"root:x:0:\n", mtime_ns=8 * SECOND),
        directory(b"var"),
        directory(b"var/cache", 0o1777),
        of_bytes(b"var/cache/one", b"1"),
        directory(b"var/cache/deep"),
        of_bytes(b"var/cache/deep/two", b"22"),
        directory(b"home"),
        of_bytes(b"home/note", b"mine"),
        Entry(path=b"home/note-too", kind=Kind.HARDLINK, link=b"home/note"),
        Entry(path=b"spool", kind=Kind.SYMLINK, mode=0o777, link=b"/var", mtime_ns=SECOND),
    ],
    [of_bytes(b"var/cache/three", b"333"), directory(b"opt"), of_bytes(b"opt/old", b"x")],
]


async def changed(image: OpenImage, store: LayoutStore) -> OpenImage:
    """Do all that can be done in a container, and commit it."""
    async with Container(image, "web", clock=lambda: 1_700_000_000 * SECOND) as container:
        await container.write("etc/motd", b"replaced")
        await container.write("etc/group", b"me:x:1:\n", append=True)
        await container.change("home/note", mode=0o4755, owner=(7, 8))
        await container.remove("var/cache")
        await container.make_directory("var/cache", mode=0o700)
        await container.write("spool/cache/deep/new", b"anew", owner=(1, 2))
        await container.remove("opt/old")
        await container.remove("spool")
        await container.write("spool", b"a file where a link was")
        await container.link("link", "../etc/motd")
        await container.write("new/where/nothing/was", b"x" * 100_000)
        await container.write("Gr\u00f6\u00dfe", b"text")
        return await container.commit(store, compressor("gzip", 6))


@pytest.fixture
async def committed(tmp_path: Path, image_of: ImageOf) -> OpenImage:
    store = LayoutStore(tmp_path / "layout", create=True)
    built = await changed(await image_of(BELOW, store), store)
    await built.export(store, "v1", store)
    return built


async def expected(built: OpenImage, snapshot: Snapshot, times_of: frozenset[Kind]) -> dict[bytes, object]:
    tree = EMPTY
    with DiskSpool() as spool:
        for layer in built.layers:
            tree, _ = apply(tree, await read_layer(layer.content(), spool=spool))
        return snapshot(tree, times_of=times_of)


def run(*command: str, environment: dict[str, str] | None = None) -> str:
    program = shutil.which(command[0])
    if program is None:
        pytest.fail(f"{command[0]} is not installed (Debian package {command[0]})")
    done = subprocess.run(
        [program, *command[1:]],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


async def test_umoci_unpacks_a_committed_container(
    committed: OpenImage, tmp_path: Path, snapshot: Snapshot
) -> None:
    bundle = tmp_path / "bundle"
    await asyncio.to_thread(run, "umoci", "unpack", "--image", f"{tmp_path / 'layout'}:v1", str(bundle))
    assert snapshot(bundle / "rootfs") == await expected(committed, snapshot, frozenset(Kind))


async def test_podman_mounts_a_committed_container(
    committed: OpenImage, tmp_path: Path, snapshot: Snapshot
) -> None:
    # podman takes no place whose name has more than 50 letters.
    with TemporaryDirectory(prefix="podman-") as home:
        (Path(home) / "containers.conf").write_text(CONTAINERS_CONF)
        places = (f"--root={home}/root", f"--runroot={home}/run", f"--tmpdir={home}/scratch")
        podman = ("podman", *places, "--storage-driver=vfs", "--cgroup-manager=cgroupfs")
        environment = {"CONTAINERS_CONF": f"{home}/containers.conf", "XDG_RUNTIME_DIR": home}

        def mounted() -> dict[bytes, object]:
            image = run(*podman, "pull", "-q", f"oci:{tmp_path / 'layout'}:v1", environment=environment)
            root = Path(run(*podman, "image", "mount", image, environment=environment))
            return snapshot(root, times_of=FILES)

        assert await asyncio.to_thread(mounted) == await expected(committed, snapshot, FILES)
