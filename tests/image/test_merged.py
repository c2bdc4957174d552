"""The account of an image's bytes: what each layer brings, what of it is left, and what is hidden."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regsim.core import Descriptor, media_types
from regsim.core.image import Layer
from regsim.errors import ContentError
from regsim.image.apply import apply
from regsim.image.merged import Merged, Merging, places
from regsim.image.tree import EMPTY, Tree
from regsim.store.entry import Entry, Kind, of_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LAYER = Layer(descriptor=Descriptor.of(b"layer", media_types.OCI_LAYER))


def merge(layers: Iterable[Sequence[Entry]]) -> Merged:
    merging = Merging()
    for entries in layers:
        merging.add(LAYER, entries)
    return merging.finish()


def gone(path: bytes) -> Entry:
    return Entry(path=path, kind=Kind.WHITEOUT)


def test_what_is_overwritten_deleted_or_emptied_above_is_wasted_in_the_layer_that_brought_it() -> None:
    merged = merge(
        [
            [of_bytes(b"a/kept", b"1"), of_bytes(b"a/changed", b"22"), of_bytes(b"a/deleted", b"333")],
            [of_bytes(b"a/changed", b"4444"), gone(b"a/deleted"), of_bytes(b"b/x", b"55555")],
            [Entry(path=b"b", kind=Kind.OPAQUE), of_bytes(b"b/y", b"666666")],
        ]
    )
    assert [(each.files, each.size, each.wasted) for each in merged.layers] == [
        (3, 6, 5),
        (2, 9, 5),
        (1, 6, 0),
    ]
    assert [(each.path, each.size, each.layer, each.by) for each in merged.lost] == [
        (b"a/deleted", 3, 0, 1),
        (b"a/changed", 2, 0, 1),
        (b"b/x", 5, 1, 2),
    ]
    assert (merged.size, merged.wasted, merged.efficiency) == (21, 10, 11 / 21)


def test_an_image_without_files_wastes_nothing() -> None:
    assert merge([]).efficiency == merge([[Entry(path=b"d", kind=Kind.DIRECTORY)]]).efficiency == 1.0


def test_a_file_of_two_names_is_wasted_when_both_are_gone() -> None:
    base = [of_bytes(b"one", b"123"), Entry(path=b"two", kind=Kind.HARDLINK, link=b"one")]
    assert merge([base, [gone(b"one")]]).wasted == 0
    assert merge([base, [gone(b"one")], [gone(b"two")]]).wasted == 3


def listed(tree: Tree, below: bytes = b"", depth: int | None = None) -> list[tuple[bytes, int, int]]:
    return [(each.path, each.depth, each.size) for each in places(tree, below, depth)]


@pytest.fixture
def tree() -> Tree:
    return merge(
        [
            [of_bytes(b"usr/bin/go", b"1234"), of_bytes(b"usr/lib/x/y", b"12"), of_bytes(b"etc/motd", b"1")],
            [
                Entry(path=b"usr/bin/gofmt", kind=Kind.HARDLINK, link=b"usr/bin/go"),
                Entry(path=b"bin", kind=Kind.SYMLINK, link=b"usr/bin"),
            ],
        ]
    ).tree


def test_a_directory_has_the_size_of_all_that_is_below_it_each_file_once(tree: Tree) -> None:
    assert listed(tree) == [
        (b"bin", 1, 0),
        (b"etc", 1, 1),
        (b"etc/motd", 2, 1),
        (b"usr", 1, 6),
        (b"usr/bin", 2, 4),
        (b"usr/bin/go", 3, 4),
        (b"usr/bin/gofmt", 3, 0),
        (b"usr/lib", 2, 2),
        (b"usr/lib/x", 3, 2),
        (b"usr/lib/x/y", 4, 2),
    ]
    (linked,) = [each for each in places(tree) if each.same_as is not None]
    assert (linked.path, linked.same_as, linked.node.layer) == (b"usr/bin/gofmt", b"usr/bin/go", 0)


def test_depth_limits_what_is_listed_and_not_what_is_counted(tree: Tree) -> None:
    assert listed(tree, depth=1) == [(b"bin", 1, 0), (b"etc", 1, 1), (b"usr", 1, 6)]
    assert listed(tree, b"usr", 1) == [(b"usr", 0, 6), (b"usr/bin", 1, 4), (b"usr/lib", 1, 2)]


def test_listing_begins_at_a_path_through_links_and_however_it_is_written(tree: Tree) -> None:
    assert listed(tree, b"/bin/") == [(b"bin", 0, 4), (b"bin/go", 1, 4), (b"bin/gofmt", 1, 0)]
    assert listed(tree, b"/usr//./lib/x") == [(b"usr/lib/x", 0, 2), (b"usr/lib/x/y", 1, 2)]
    assert listed(tree, b"etc/motd") == [(b"etc/motd", 0, 1)]
    assert listed(tree, b"../..") == listed(tree)
    assert listed(tree, b"usr/none") == listed(tree, b"etc/motd/x") == []


names = st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=1, max_size=3).map(b"/".join)


@st.composite
def an_entry(draw: st.DrawFn) -> Entry:
    path, kind = draw(names), draw(st.sampled_from([Kind.FILE, *Kind]))
    if kind is Kind.FILE:
        return of_bytes(path, bytes(draw(st.integers(0, 9))))
    return Entry(path=path, kind=kind, link=draw(names) if kind in {Kind.SYMLINK, Kind.HARDLINK} else b"")


@given(st.lists(st.lists(an_entry(), max_size=8), max_size=5))
@settings(max_examples=300, deadline=None)
def test_every_byte_that_a_layer_brings_is_in_the_tree_or_wasted(layers: list[list[Entry]]) -> None:
    applied, lost, whole = EMPTY, 0, []
    for entries in layers:
        with suppress(ContentError):  # one that cannot be applied is left out
            applied, hidden = apply(applied, entries)
            lost += sum(each.size for each in hidden)
            whole.append(entries)
    merged = merge(whole)
    files = {id(node): node for _, node in merged.tree.walk() if node.entry.kind is Kind.FILE}
    for number, layer in enumerate(merged.layers):
        left = sum(node.entry.size for node in files.values() if node.layer == number)
        assert layer.size == left + layer.wasted
    assert merged.wasted == lost
    assert [path for path, _ in merged.tree.walk()] == [path for path, _ in applied.walk()]
    everything = list(places(merged.tree))
    assert merged.size - merged.wasted == sum(each.size for each in everything if each.depth == 1)
    below = {each.path: each.size for each in everything}
    for each in everything:
        if each.node.is_directory:
            children = [each.path + b"/" + name for name in each.node.children]
            assert each.size == sum(below[child] for child in children)
