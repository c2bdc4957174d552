"""A file tree against a real directory, to which tar and rm apply the same layers."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regsim.errors import ContentError
from regsim.image.apply import apply
from regsim.image.compression import compressor
from regsim.image.layer_write import arrange, write_layer
from regsim.image.tree import EMPTY
from regsim.store.entry import Entry, Kind, of_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    Snapshot = Callable[..., dict[bytes, object]]

if shutil.which("tar") is None:  # pragma: no cover  (every system that runs the suite has it)
    pytest.skip("tar is not installed", allow_module_level=True)

# tar sets a directory's time when it is done, where what is put in it later changes it again.
FILES = frozenset({Kind.FILE})
MARKERS = {Kind.WHITEOUT, Kind.OPAQUE}
paths = st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=1, max_size=3).map(b"/".join)
times = st.integers(0, 2**31).map(lambda seconds: seconds * 10**9)


@st.composite
def an_entry(draw: st.DrawFn) -> Entry:
    path = draw(paths)
    kind = draw(
        st.sampled_from([Kind.FILE, Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.HARDLINK, *MARKERS])
    )
    match kind:
        case Kind.FILE:
            mode = draw(st.sampled_from([0o644, 0o600, 0o4755, 0o444]))
            return of_bytes(path, draw(st.binary(max_size=5)), mode=mode, mtime_ns=draw(times))
        case Kind.DIRECTORY:
            mode = draw(st.sampled_from([0o755, 0o700, 0o1777]))
            return Entry(path=path, kind=kind, mode=mode, mtime_ns=draw(times))
        case Kind.SYMLINK | Kind.HARDLINK:
            return Entry(path=path, kind=kind, link=draw(paths))
        case _:
            return Entry(path=path, kind=kind)


layers = st.lists(st.lists(an_entry(), max_size=6), min_size=1, max_size=4)


def apply_for_real(entries: list[Entry], root: Path) -> bool:
    """Apply a layer to a real directory. False if tar says that it cannot."""
    for entry in entries:
        if entry.kind in MARKERS:
            _mark(entry, root)
        else:
            _make_way(entry, root / os.fsdecode(entry.path))
    chunks: list[bytes] = []
    write_layer((each for each in entries if each.kind not in MARKERS), compressor("none"), chunks.append)
    done = subprocess.run(
        ["tar", "--extract", "--same-permissions", "--directory", root],
        input=b"".join(chunks),
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def _make_way(entry: Entry, path: Path) -> None:
    """Remove what stands where an entry goes, as layer.md asks and tar does not always."""
    both = entry.kind is Kind.DIRECTORY and path.is_dir() and not path.is_symlink()
    if os.path.lexists(path) and not both:
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _mark(entry: Entry, root: Path) -> None:
    where = root / os.fsdecode(entry.path if entry.kind is Kind.OPAQUE else entry.parent)
    try:
        victims = list(where.iterdir()) if entry.kind is Kind.OPAQUE else [where / os.fsdecode(entry.name)]
        for victim in victims:
            _remove(victim)
    except (FileNotFoundError, NotADirectoryError, OSError):
        return


def check(changes: list[list[Entry]], snapshot: Snapshot) -> None:
    tree = EMPTY
    umask = os.umask(0o022)
    try:
        with tempfile.TemporaryDirectory() as folder:
            for entries in changes:
                try:
                    ordered = arrange(entries)
                    tree, _ = apply(tree, ordered)
                except ContentError:
                    return
                if not apply_for_real(ordered, Path(folder)):
                    # Through a link to nothing tar finds no way where layers' readers make one.
                    assert any(node.entry.kind is Kind.SYMLINK for _, node in tree.walk())
                    return
                assert snapshot(tree, times_of=FILES) == snapshot(Path(folder), times_of=FILES)
    finally:
        os.umask(umask)


@given(layers)
@settings(max_examples=60, deadline=None)
def test_layers_make_the_tree_that_a_plain_directory_has(
    snapshot: Snapshot, changes: list[list[Entry]]
) -> None:
    check(changes, snapshot)


@pytest.mark.soak
@given(layers)
@settings(max_examples=10_000, deadline=None)
def test_ten_thousand_runs_of_layers_make_the_tree_that_a_plain_directory_has(
    snapshot: Snapshot, changes: list[list[Entry]]
) -> None:
    check(changes, snapshot)
