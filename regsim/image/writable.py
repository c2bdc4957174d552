"""A container's writable layer over an image's tree: what a change leaves, and what is a layer of it.

Owns the rules of a union mount: what is below stays as it is, a changed file comes up whole, what is removed
is whited out, and a directory that was removed and recreated is opaque. Must not know where contents are
kept: it does no I/O.

Paths are followed as the kernel follows them in a container, whose root they do not leave. But nothing is
written through a link that climbs beyond the root: it means to lead elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from regsim.errors import ContentError, LocalFileError
from regsim.image.apply import Editor
from regsim.image.tree import Found, Node, resolve
from regsim.store.entry import Entry, Kind, check_path, joined, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from regsim.image.tree import Tree

_DIRECTORY_MODE = 0o755
_NOTHING: Mapping[bytes, Node] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a change goes.

    Args:
        path: without links.
        node: what is there; None for nothing.
        missing: directories above it that are to be made, from the top.
    """

    path: bytes
    node: Node | None
    missing: tuple[bytes, ...] = ()


class WritableLayer:
    """The changes to an image's files, and the files that they make.

    Args:
        below: the image's files, which stay as they are.
        name: what messages call the container.

    Attributes:
        tree: what there is now. Before the first change it is `below` itself.
    """

    def __init__(self, below: Tree, name: str) -> None:
        self.tree = below
        self._name = name
        self._below = below
        self._remade: set[bytes] = set()  # directories of this layer, beneath which nothing below shows

    def find(self, path: bytes) -> Target:
        """Return what is at a path; a link at its end is followed.

        Raises:
            LocalFileError: there is nothing.
            ContentError: there are too many links in it.
        """
        found = resolve(self.tree.root, path, follow=True)
        if found.missing:
            raise self._lacks(path)
        return Target(path=b"/".join(found.names), node=found.nodes[-1])

    def target(self, path: bytes, *, through: bool = True) -> Target:
        """Return where writing to a path leads, as `mkdir -p` and `open` would: links are followed.

        Args:
            path: of anything.
            through: whether a link at its end may lead to what is yet to be made, as only `open` has it.

        Raises:
            LocalFileError: it is below what is not a directory, or a link in it leads nowhere.
            ContentError: no file can have that path, or a link in it leads out of the tree, or too many do.
        """
        path = _checked(path)
        parent, _, name = path.rpartition(b"/")
        above = self._parent(path, parent)
        names = [*above.names, *above.missing]
        made = tuple(b"/".join(names[: len(above.names) + each + 1]) for each in range(len(above.missing)))
        child = None if made else above.nodes[-1].children.get(name)
        if child is not None and child.entry.kind is Kind.SYMLINK:
            return self._through_link(path, makes=through)
        return Target(path=check_path(b"/".join((*names, name))), node=child, missing=made)

    def put(self, target: Target, entry: Entry, now: int) -> None:
        """Put an entry at a place, and the missing directories above it.

        Args:
            target: from `target`, since when nothing has changed.
            entry: what is put; its path counts for nothing.
            now: nanoseconds since 1970.
        """
        editor = Editor(self.tree, self._below.layers)
        if target.node is None:
            self._touch(editor, (*target.missing, target.path)[0], now)
            if entry.kind is Kind.DIRECTORY:
                self._remade.add(target.path)
        for path in target.missing:
            self._remade.add(path)
            editor.add(Entry(path=path, kind=Kind.DIRECTORY, mode=_DIRECTORY_MODE, mtime_ns=now))
        editor.add(replace(entry, path=target.path))
        self.tree = editor.finish()

    def remove(self, path: bytes, now: int) -> Node:
        """Remove what is at a path, with all below it; a link at its end is removed, not followed.

        Returns:
            What was there.

        Raises:
            LocalFileError: there is nothing.
            ContentError: as for `target`.
        """
        path = _checked(path)
        found = resolve(self.tree.root, path, follow=False)
        self._check_climb(found, path)
        if found.missing:
            raise self._lacks(path)
        place = b"/".join(found.names)
        editor = Editor(self.tree, self._below.layers)
        editor.mark(Entry(path=place, kind=Kind.WHITEOUT))
        self._touch(editor, place, now)
        self.tree = editor.finish()
        self._remade = {each for each in self._remade if each != place and not each.startswith(place + b"/")}
        return found.nodes[-1]

    def changes(self) -> Iterator[Entry]:
        """Yield the entries of the layer, whiteouts and opaque directories included, in no order.

        Only what changed is compared; the rest is the same nodes as below.
        """
        pending = [(b"", self._below.root.children, self.tree.root.children)]
        while pending:
            path, before, now = pending.pop()
            for name in before.keys() - now.keys():
                yield Entry(path=joined(path, name), kind=Kind.WHITEOUT)
            for name, node in now.items():
                old = before.get(name)
                if node is old:
                    continue
                place = joined(path, name)
                if old is None or node.entry is not old.entry:
                    yield replace(node.entry, path=place)
                if node.is_directory:
                    shows = old.children if old is not None else _NOTHING
                    if shows and place in self._remade:
                        yield Entry(path=place, kind=Kind.OPAQUE)
                        shows = _NOTHING
                    pending.append((place, shows, node.children))

    def _parent(self, path: bytes, parent: bytes) -> Found:
        """Return how far the way to a path's directory leads; what is missing of it can be made."""
        found = resolve(self.tree.root, parent, follow=True)
        self._check_climb(found, path)
        if not found.nodes[-1].is_directory:
            raise LocalFileError(
                f"{named(path)} cannot be in {self._name}: {named(b'/'.join(found.names))} is not a directory"
            )
        if found.missing:
            parts = parent.split(b"/")
            there = resolve(self.tree.root, b"/".join(parts[: -len(found.missing)]), follow=True)
            if parts[-len(found.missing) :] != found.missing or there.names != found.names:
                raise self._leads_nowhere(path)
        return found

    def _through_link(self, path: bytes, *, makes: bool) -> Target:
        found = resolve(self.tree.root, path, follow=True)
        self._check_climb(found, path)
        if not found.missing:
            return Target(path=b"/".join(found.names), node=found.nodes[-1])
        if not makes or len(found.missing) > 1 or not found.nodes[-1].is_directory:
            raise self._leads_nowhere(path)
        return Target(path=check_path(b"/".join((*found.names, *found.missing))), node=None)

    def _check_climb(self, found: Found, path: bytes) -> None:
        if found.climbs:
            raise ContentError(f"{named(path)} leads out of {self._name} through a symbolic link")

    def _lacks(self, path: bytes) -> LocalFileError:
        return LocalFileError(f"there is no {named(path)} in {self._name}")

    def _leads_nowhere(self, path: bytes) -> LocalFileError:
        return LocalFileError(
            f"{named(path)} in {self._name} leads through a symbolic link to what is not there"
        )

    def _touch(self, editor: Editor, path: bytes, now: int) -> None:
        """Note that the list of names changed in which a path is. The root itself is in no layer."""
        directory = path.rpartition(b"/")[0]
        if directory:
            node = self.tree.find(directory, follow=False)
            assert node is not None  # noqa: S101  (something is, or will be, in it)
            editor.add(replace(node.entry, path=directory, mtime_ns=now))


def _checked(path: bytes) -> bytes:
    path = check_path(path.strip(b"/"))
    if not path:
        raise ContentError("the root of a container cannot be replaced or removed")
    return path


def named(path: bytes) -> str:
    """Return a path from the root of a container, as messages show it."""
    return repr("/" + shown(path.lstrip(b"/")))
