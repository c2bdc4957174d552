"""Layers made by hand, for tests: any member, however wrong."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import pytest

from regsim.core import Platform
from regsim.image.builder.config import Config
from regsim.image.compression import compressor
from regsim.image.layer_read import LayerReader
from regsim.image.opened import OpenImage, OpenLayer, write_open
from regsim.image.tree import Tree
from regsim.store.entry import Entry, Kind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from regsim.image.layer_read import Spool
    from regsim.store.layout import LayoutStore


class Raw(NamedTuple):
    """A member of a tar, as anybody may write one."""

    name: str
    type: bytes = tarfile.REGTYPE
    data: bytes = b""
    link: str = ""
    mode: int = 0o644
    pax: dict[str, str] = {}  # noqa: RUF012  (never changed)


def _tar(members: Iterable[Raw], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, errors="surrogateescape") as file:
        for member in members:
            info = tarfile.TarInfo(member.name)
            info.type, info.linkname, info.mode = member.type, member.link, member.mode
            info.size, info.pax_headers = len(member.data), member.pax
            file.addfile(info, io.BytesIO(member.data))
    return out.getvalue()


def _read(blob: bytes, *, spool: Spool | None = None, step: int = 1 << 20) -> tuple[Entry, ...]:
    reader = LayerReader("layer 0123456789ab", len(blob), spool)
    for start in range(0, len(blob), step):
        reader.feed(blob[start : start + step])
    return reader.finish()


class Seen(NamedTuple):
    """What is at a path, as far as it can be told both of a tree and of a real directory."""

    kind: Kind
    mode: int
    owner: tuple[int, int]
    time: int | None
    target: bytes
    content: bytes
    xattrs: tuple[tuple[str, bytes], ...]
    device: tuple[int, int]
    first_name: bytes


def _of_directory(root: Path, times_of: frozenset[Kind]) -> dict[bytes, Seen]:
    found: dict[bytes, Seen] = {}
    first: dict[int, bytes] = {}
    for path in sorted(root.rglob("*"), key=lambda each: os.fsencode(each).split(b"/")):
        status = path.lstat()
        kind = next(kind for is_one, kind in _KINDS if is_one(status.st_mode))
        name = os.fsencode(path.relative_to(root))
        found[name] = Seen(
            kind=kind,
            mode=0o777 if kind is Kind.SYMLINK else stat.S_IMODE(status.st_mode),
            owner=(status.st_uid, status.st_gid),
            time=int(status.st_mtime) if kind in times_of else None,
            target=os.fsencode(path.readlink()) if kind is Kind.SYMLINK else b"",
            content=path.read_bytes() if kind is Kind.FILE else b"",
            xattrs=tuple(
                (each, os.getxattr(path, each, follow_symlinks=False))
                for each in sorted(os.listxattr(path, follow_symlinks=False))
            ),
            device=(os.major(status.st_rdev), os.minor(status.st_rdev)),
            first_name=name if kind is Kind.DIRECTORY else first.setdefault(status.st_ino, name),
        )
    return found


_KINDS = (
    (stat.S_ISREG, Kind.FILE),
    (stat.S_ISDIR, Kind.DIRECTORY),
    (stat.S_ISLNK, Kind.SYMLINK),
    (stat.S_ISCHR, Kind.CHAR),
    (stat.S_ISBLK, Kind.BLOCK),
    (stat.S_ISFIFO, Kind.FIFO),
)


def _of_tree(tree: Tree, times_of: frozenset[Kind]) -> dict[bytes, Seen]:
    found: dict[bytes, Seen] = {}
    first: dict[int, bytes] = {}
    for path, node in sorted(tree.walk(), key=lambda each: each[0].split(b"/")):
        entry = node.entry
        found[path] = Seen(
            kind=entry.kind,
            mode=0o777 if entry.kind is Kind.SYMLINK else entry.mode,
            owner=(entry.uid, entry.gid),
            time=entry.mtime_ns // 10**9 if entry.kind in times_of else None,
            target=entry.link,
            content=b"".join(entry.content()) if entry.content is not None else b"",
            xattrs=tuple(sorted(entry.xattrs.items())),
            device=entry.device,
            first_name=path if node.is_directory else first.setdefault(id(node), path),
        )
    return found


@pytest.fixture(scope="session")
def snapshot() -> Callable[..., dict[bytes, Seen]]:
    """Say what is in a tree, or in a real directory, in the same words.

    Times are whole seconds, and only those of `times_of`: who writes into a directory changes its time.
    """

    def take(place: Tree | Path, *, times_of: frozenset[Kind] = frozenset(Kind)) -> dict[bytes, Seen]:
        return _of_tree(place, times_of) if isinstance(place, Tree) else _of_directory(place, times_of)

    return take


async def _image_of(layers: list[list[Entry]], store: LayoutStore) -> OpenImage:
    config = Config.empty(Platform("linux", "arm64"))
    config.config = {"Cmd": ["./main", "-v"]}
    made: list[OpenLayer] = []
    for number, entries in enumerate(layers):
        layer = await write_open(store, entries, compressor("none"), {})
        layer = layer if number % 2 else replace(layer, known=None)
        config.add(f"RUN {number}", 0, diff_id=layer.diff_id)
        made.append(layer)
    image = OpenImage(name="app", raw=config.raw(0), layers=tuple(made))
    await image.read()
    return image


@pytest.fixture(scope="session")
def image_of() -> Callable[[list[list[Entry]], LayoutStore], Awaitable[OpenImage]]:
    """Write layers into a layout, and return their image; what every other one holds, it must read."""
    return _image_of


@pytest.fixture
def tar() -> Callable[..., bytes]:
    """Write a tar of raw members."""
    return _tar


@pytest.fixture
def read() -> Callable[..., tuple[Entry, ...]]:
    """Read a layer's blob, pushed in pieces of `step` bytes."""
    return _read


@pytest.fixture
def raw() -> type[Raw]:
    """A member of a tar, as anybody may write one."""
    return Raw
