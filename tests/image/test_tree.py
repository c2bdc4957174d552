"""File trees: what layers make together, and what a path leads to."""

from __future__ import annotations

import pytest

from regsim.errors import ContentError
from regsim.image.apply import Lost, apply
from regsim.image.tree import EMPTY, Tree
from regsim.store.entry import Entry, Kind, of_bytes


def directory(path: bytes, mode: int = 0o755) -> Entry:
    return Entry(path=path, kind=Kind.DIRECTORY, mode=mode)


def link(path: bytes, target: bytes) -> Entry:
    return Entry(path=path, kind=Kind.SYMLINK, link=target, mode=0o777)


def hard(path: bytes, target: bytes) -> Entry:
    return Entry(path=path, kind=Kind.HARDLINK, link=target)


def gone(path: bytes) -> Entry:
    return Entry(path=path, kind=Kind.WHITEOUT)


def opaque(path: bytes) -> Entry:
    return Entry(path=path, kind=Kind.OPAQUE)


def built(*layers: list[Entry]) -> tuple[Tree, list[Lost]]:
    tree = EMPTY
    lost: list[Lost] = []
    for layer in layers:
        tree, hidden = apply(tree, layer)
        lost += hidden
    return tree, lost


def paths(tree: Tree) -> list[bytes]:
    return [path for path, _ in tree.walk()]


def test_each_path_says_which_layer_it_comes_from() -> None:
    tree, _ = built(
        [directory(b"etc"), of_bytes(b"etc/a", b"1"), of_bytes(b"etc/b", b"1")],
        [of_bytes(b"etc/b", b"22")],
        [directory(b"etc", 0o700)],
    )
    assert [(path, node.layer) for path, node in tree.walk()] == [(b"etc", 2), (b"etc/a", 0), (b"etc/b", 1)]


def test_a_whiteout_removes_what_is_below_it_and_nothing_of_its_own_layer() -> None:
    base = [of_bytes(b"a/b/c/bar", b"old"), of_bytes(b"a/keep", b"")]
    for upper in (
        [gone(b"a/b"), of_bytes(b"a/b/c/foo", b"new")],
        [of_bytes(b"a/b/c/foo", b"new"), gone(b"a/b")],  # layer.md: whatever the order
    ):
        assert paths(built(base, upper)[0]) == [b"a", b"a/b", b"a/b/c", b"a/b/c/foo", b"a/keep"]


def test_an_opaque_directory_keeps_only_what_its_own_layer_has() -> None:
    base = [directory(b"bin", 0o711), of_bytes(b"bin/tool", b"1"), of_bytes(b"bin/sub/one", b"1")]
    tree, lost = built(base, [of_bytes(b"bin/new", b""), opaque(b"bin")])
    assert paths(tree) == [b"bin", b"bin/new"]
    assert [(each.path, each.layer, each.by) for each in lost] == [
        (b"bin/tool", 0, 1),
        (b"bin/sub/one", 0, 1),
    ]
    assert paths(built(base, [opaque(b"")])[0]) == []


def test_a_whiteout_of_nothing_changes_nothing() -> None:
    before = built([of_bytes(b"a", b"")])[0]
    after, lost = apply(before, [gone(b"b"), gone(b"a/b"), gone(b"x/y/z"), opaque(b"a"), opaque(b"q")])
    assert (paths(after), lost) == ([b"a"], ())
    assert after.root is before.root


def test_a_directory_over_a_directory_keeps_its_files_and_takes_its_attributes() -> None:
    tree, lost = built([directory(b"d"), of_bytes(b"d/a", b"1")], [directory(b"d", 0o500)])
    found = tree.find(b"d")
    assert found is not None
    assert (found.entry.mode, paths(tree), lost) == (0o500, [b"d", b"d/a"], [])


def test_anything_else_replaces_what_was_there() -> None:
    base = [of_bytes(b"d/a", b"1"), of_bytes(b"f", b"22"), link(b"l", b"d")]
    tree, lost = built(base, [of_bytes(b"d", b"now a file"), directory(b"f"), directory(b"l")])
    assert paths(tree) == [b"d", b"f", b"l"]
    assert sorted((each.path, each.size) for each in lost) == [(b"d/a", 1), (b"f", 2)]


def test_a_path_goes_through_links_below_it_as_on_a_real_system() -> None:
    tree, _ = built([of_bytes(b"usr/lib/a", b""), link(b"lib", b"usr/lib")], [of_bytes(b"lib/b", b"")])
    assert paths(tree) == [b"lib", b"usr", b"usr/lib", b"usr/lib/a", b"usr/lib/b"]
    tree, _ = built([of_bytes(b"usr/lib/a", b""), link(b"lib", b"/usr/lib")], [gone(b"lib/a")])
    assert tree.find(b"usr/lib/a") is None


@pytest.mark.parametrize("target", [b"/", b"../../../..", b"/../..", b"..", b"/proc/self/cwd/../../.."])
def test_no_link_leads_out_of_the_tree(target: bytes) -> None:
    tree, _ = built([link(b"evil", target)], [of_bytes(b"evil/etc/passwd", b"mine")])
    found = tree.find(b"evil/etc/passwd")
    assert found is not None
    assert found.entry.size == 4
    assert tree.find(b"../../evil/../evil/etc/passwd") is found


def test_links_through_links_are_followed_forty_times() -> None:
    chain = [link(b"l%d" % number, b"l%d" % (number + 1)) for number in range(39)] + [link(b"l39", b"end")]
    tree, _ = built([*chain, of_bytes(b"end/a", b"")])
    assert tree.find(b"l0/a") is not None
    tree, _ = apply(tree, [link(b"l", b"l0")])
    with pytest.raises(ContentError, match="'l/a' leads through more than 40 symbolic links"):
        tree.find(b"l/a")
    with pytest.raises(ContentError, match="more than 40 symbolic links"):
        built([link(b"loop", b"loop")], [of_bytes(b"loop/a", b"")])


def test_a_link_to_what_is_not_there_is_made_a_way_by_what_goes_through_it() -> None:
    tree, _ = built([link(b"l", b"x/y")], [of_bytes(b"l/a", b"")])
    assert paths(tree) == [b"l", b"x", b"x/y", b"x/y/a"]


def test_links_that_pile_up_directories_are_refused() -> None:
    deep = b"/".join([b"n" * 200] * 15)
    with pytest.raises(ContentError, match=r"'l/n.*' leads through links to a path of more than 4096 bytes"):
        built([directory(deep), link(b"l", deep)], [of_bytes(b"l/" + deep + b"/a", b"")])


@pytest.mark.parametrize("below", [of_bytes(b"a/b", b""), of_bytes(b"a/b/c", b""), of_bytes(b"l/b", b"")])
def test_nothing_can_be_below_a_file(below: Entry) -> None:
    with pytest.raises(ContentError, match=f"'{below.shown}' cannot be: 'a' is not a directory"):
        built([of_bytes(b"a", b""), link(b"l", b"a")], [below])


def test_a_hard_link_is_the_same_file() -> None:
    tree, lost = built([of_bytes(b"a", b"123"), hard(b"d/b", b"a")])
    assert tree.find(b"a") is tree.find(b"d/b")
    assert lost == []


def test_a_file_is_lost_with_its_last_name() -> None:
    layers = [
        [of_bytes(b"a", b"123"), hard(b"b", b"a"), hard(b"c", b"a")],
        [gone(b"a")],
        [of_bytes(b"c", b"")],
    ]
    assert built(*layers)[1] == []
    assert built(*layers, [gone(b"b")])[1] == [Lost(path=b"b", size=3, layer=0, by=3)]


def test_a_hard_link_to_nothing_is_refused() -> None:
    with pytest.raises(ContentError, match="'b' is a hard link to nothing: 'a'"):
        built([hard(b"b", b"a")])
    with pytest.raises(ContentError, match="'b' is a hard link to a directory: 'd'"):
        built([directory(b"d"), hard(b"b", b"d")])


def test_of_a_path_that_is_there_twice_the_later_one_counts() -> None:
    tree, lost = built([of_bytes(b"a", b"1"), of_bytes(b"a", b"22")])
    found = tree.find(b"a")
    assert found is not None
    assert found.entry.size == 2
    assert lost == [Lost(path=b"a", size=1, layer=0, by=0)]


def test_the_root_has_attributes_too() -> None:
    tree, _ = built([of_bytes(b"a", b"")], [directory(b"", 0o500)])
    assert (tree.root.entry.mode, tree.root.layer, paths(tree)) == (0o500, 1, [b"a"])


def test_a_layer_leaves_the_tree_below_it_as_it_was_and_shares_what_it_does_not_touch() -> None:
    base, _ = built(
        [of_bytes(b"usr/bin/%d" % number, b"") for number in range(100)] + [of_bytes(b"etc/a", b"")]
    )
    before = paths(base)
    upper, _ = apply(base, [of_bytes(b"etc/b", b""), gone(b"etc/a")])
    assert paths(base) == before
    assert upper.root.children[b"usr"] is base.root.children[b"usr"]
    assert upper.root.children[b"etc"] is not base.root.children[b"etc"]


@pytest.mark.long
def test_a_deep_tree_needs_no_deep_stack() -> None:
    tree, _ = built([directory(b"/".join([b"d"] * 2000)), of_bytes(b"/".join([b"d"] * 2000) + b"/f", b"1")])
    assert len(paths(tree)) == 2001
    assert [each.size for each in built([of_bytes(b"/".join([b"d"] * 2000), b"1")], [gone(b"d")])[1]] == [1]
