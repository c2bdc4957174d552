"""Containers: an image's files, and a writable layer over them that is lost with the container.

Owns the life of a container and what each change costs. Must not know registries or scenarios, and runs no
program: the caller writes what a program would write.

Several containers on one image share its files: a container holds only what it changed, on disk.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from regsim.core.ledger import Tally
from regsim.errors import LocalFileError, UsageError
from regsim.image.opened import OpenImage, write_open
from regsim.image.spool import Held, HeldFiles
from regsim.image.writable import WritableLayer, named
from regsim.store.entry import PERMISSIONS, Entry, Kind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    from regsim.image.compression import Compressor
    from regsim.image.tree import Node, Tree
    from regsim.image.writable import Target
    from regsim.store.entry import Opener
    from regsim.store.layout import LayoutStore

_FILE_MODE = 0o644
_DIRECTORY_MODE = 0o755
_LINK_MODE = 0o777


class State(StrEnum):
    """Where a container is in its life."""

    RUNNING = "running"
    STOPPED = "stopped"
    REMOVED = "removed"


class Container:
    """A container, which runs as soon as it is made, as after `docker run`.

    Paths are relative to its root, as text or bytes; a leading `/` changes nothing. Links are followed and
    parents made, and nothing ever leaves the root. A change that fails leaves all files as they were. As a
    context manager it removes itself in the end.

    Args:
        image: what it is made from; its layers have been read (`OpenImage.read`).
        name: what messages call it.
        clock: returns nanoseconds since 1970, such as `time.time_ns`.

    Attributes:
        state: its state.
        copied_up: files of the image that were copied whole because a part of them, or their mode or owner,
            changed; every time counts.
    """

    def __init__(self, image: OpenImage, name: str, *, clock: Callable[[], int]) -> None:
        self.image = image
        self.name = name
        self.state = State.RUNNING
        self.copied_up = Tally()
        self._clock = clock
        self._layer = WritableLayer(image.files.tree, f"container {name}")
        self._held = HeldFiles()
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.rm(force=True)

    @property
    def tree(self) -> Tree:
        """All files as the container sees them."""
        self._check_there()
        return self._layer.tree

    def changes(self) -> tuple[Entry, ...]:
        """Return the content of the writable layer as entries of a layer, in no order."""
        self._check_there()
        return tuple(self._layer.changes())

    @property
    def size(self) -> Tally:
        """The files of the writable layer, and their bytes."""
        files = [entry.size for entry in self.changes() if entry.kind is Kind.FILE]
        return Tally(len(files), sum(files))

    async def write(
        self,
        path: str | bytes,
        data: bytes | Iterable[bytes],
        *,
        append: bool = False,
        mode: int | None = None,
        owner: tuple[int, int] | None = None,
    ) -> None:
        """Write a file, in place of what it held or after it.

        Args:
            path: of a file, or where one is to be.
            data: in chunks of any size, which are taken in a worker thread.
            append: keep what it holds; a file of the image is copied up.
            mode: permission bits; None to keep them, 0644 of a new file.
            owner: numbers of user and group; None to keep them, root's of a new file.

        Raises:
            UsageError: the container does not run.
            LocalFileError: something other than a file is there, it is below a file or a broken link, or it
                cannot be written to disk.
            ContentError: the path is not valid, or leads out of the tree.
        """
        async with self._lock:
            target, now = self._target(path), self._clock()
            before = target.node.entry if target.node is not None else None
            if before is not None and before.kind is not Kind.FILE:
                raise self._other(target, "a file")
            chunks: Iterable[bytes] = (data,) if isinstance(data, bytes) else data
            held = await self._come_up(target) if append and target.node is not None else None
            kept = await self._held.keep(chunks, after=held)
            entry = before or Entry(path=target.path, kind=Kind.FILE, mode=_FILE_MODE)
            entry = replace(entry, size=kept.size, content=kept, mtime_ns=now)
            self._layer.put(target, _changed(entry, mode, owner), now)
            if target.node is not None and not append:
                await self._held.discard(_contents(target.node))

    async def make_directory(self, path: str | bytes, *, mode: int = _DIRECTORY_MODE) -> None:
        """Make a directory; one that exists stays as it is. Raises what `write` raises."""
        async with self._lock:
            target, now = self._target(path, through=False), self._clock()
            if target.node is None:
                entry = Entry(path=target.path, kind=Kind.DIRECTORY, mode=mode & PERMISSIONS, mtime_ns=now)
                self._layer.put(target, entry, now)
            elif not target.node.is_directory:
                raise self._other(target, "a directory")

    async def link(self, path: str | bytes, to: str | bytes) -> None:
        """Make a symbolic link at a free path. Raises what `write` raises."""
        async with self._lock:
            target, now = self._target(path, through=False), self._clock()
            if target.node is not None:
                raise LocalFileError(f"{named(target.path)} in container {self.name} is there already")
            entry = Entry(path=target.path, kind=Kind.SYMLINK, mode=_LINK_MODE, link=_raw(to), mtime_ns=now)
            self._layer.put(target, entry, now)

    async def change(
        self, path: str | bytes, *, mode: int | None = None, owner: tuple[int, int] | None = None
    ) -> None:
        """Change a mode or an owner, which copies a file of the image up, whole.

        Raises:
            LocalFileError: nothing is there, or it cannot be written to disk.
            UsageError, ContentError: as from `write`.
        """
        async with self._lock:
            target = self._target(path)
            if target.node is None:
                raise LocalFileError(f"there is no {named(_raw(path))} in container {self.name}")
            entry = _changed(target.node.entry, mode, owner)
            if entry.kind is Kind.FILE:
                entry = replace(entry, content=await self._come_up(target))
            self._layer.put(target, entry, self._clock())

    async def remove(self, path: str | bytes) -> None:
        """Remove a file, a link or a directory with all in it.

        Raises:
            LocalFileError: nothing is there.
            UsageError, ContentError: as from `write`.
        """
        async with self._lock:
            self._check_running()
            await self._held.discard(_contents(self._layer.remove(_raw(path), self._clock())))

    async def read(self, path: str | bytes) -> AsyncGenerator[bytes, None]:
        """Return a fresh stream of a file's bytes, in chunks of at most about 1 MiB.

        A file of the image is read from its layer's blob, which is read to its end.

        Raises (while iterating):
            LocalFileError: there is no such file, or it is something else.
            UsageError: the container does not run.
            ContentError, NotFoundError, NetworkError, RegistryError: its layer cannot be read.
        """
        self._check_running()
        target = self._layer.find(_raw(path))
        if _node(target).entry.kind is not Kind.FILE:
            raise self._other(target, "a file")
        with ExitStack() as stack:
            chunks = (await self._opener(target, stack))()
            while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
                yield chunk

    def list(self, path: str | bytes = b"") -> tuple[Entry, ...]:
        """Return what is in a directory, sorted by name, each with its whole path.

        Raises:
            LocalFileError: there is no such directory.
            UsageError: the container does not run.
        """
        self._check_running()
        target = self._layer.find(_raw(path))
        node = _node(target)
        if not node.is_directory:
            raise self._other(target, "a directory")
        prefix = target.path + b"/" if target.path else b""
        return tuple(replace(node.children[name].entry, path=prefix + name) for name in sorted(node.children))

    def exists(self, path: str | bytes) -> bool:
        """Return whether a path exists; a link to a missing file does not."""
        self._check_running()
        return self._layer.tree.find(_raw(path)) is not None

    def stop(self) -> None:
        """Stop it: its layer stays, and can be neither changed nor read. Stopping twice is harmless.

        Raises:
            UsageError: it was removed.
        """
        self._check_there()
        self.state = State.STOPPED

    def start(self) -> None:
        """Start it again, with the files that it had. Starting twice is harmless.

        Raises:
            UsageError: it was removed.
        """
        self._check_there()
        self.state = State.RUNNING

    async def rm(self, *, force: bool = False) -> None:
        """Remove it, and lose its layer.

        Args:
            force: also if it is running or was removed.

        Raises:
            UsageError: it runs, or it was removed.
        """
        if not force:
            self._check_there()
            if self.state is State.RUNNING:
                raise UsageError(f"container {self.name} is running", hint="stop it first")
        async with self._lock:
            self.state = State.REMOVED
            await self._held.close()

    async def commit(self, store: LayoutStore, compressor: Compressor, *, message: str = "") -> OpenImage:
        """Return an image of what the container holds now, running or stopped: one layer more, or none.

        The layer is written into `store`; `OpenImage.export` puts the whole image there. The same
        changes at the same time of the clock give the same image.

        Args:
            store: takes the layer.
            compressor: what the layer goes through.
            message: a comment for the history, whose line is the command that the container runs.

        Raises:
            UsageError: the container was removed.
            LocalFileError: the layer cannot be written.
        """
        async with self._lock:
            config, layers = self.image.settings(), [*self.image.layers]
            line = " ".join(config.config.get("Cmd") or ())
            timestamp = self._clock() // 10**9
            diff_id = None
            if changes := self.changes():
                layers.append(await write_open(store, changes, compressor, {}))
                diff_id = layers[-1].diff_id
            config.add(line, timestamp, diff_id=diff_id, comment=message)
            return OpenImage(name=self.name, raw=config.raw(timestamp), layers=tuple(layers))

    def _check_there(self) -> None:
        if self.state is State.REMOVED:
            raise UsageError(f"container {self.name} was removed", hint="its layer is lost with it")

    def _check_running(self) -> None:
        self._check_there()
        if self.state is not State.RUNNING:
            raise UsageError(f"container {self.name} is {self.state}", hint="start it first")

    def _other(self, target: Target, wanted: str) -> LocalFileError:
        kind = _node(target).entry.kind
        return LocalFileError(f"{named(target.path)} in container {self.name} is a {kind}, not {wanted}")

    def _target(self, path: str | bytes, *, through: bool = True) -> Target:
        self._check_running()
        return self._layer.target(_raw(path), through=through)

    async def _come_up(self, target: Target) -> Held:
        """Return the content of a file that is there, copied into the writable layer unless it is in it."""
        content = _node(target).entry.content
        if isinstance(content, Held):
            return content
        with ExitStack() as stack:
            held = await self._held.keep((await self._opener(target, stack))())
        self.copied_up += Tally(1, held.size)
        return held

    async def _opener(self, target: Target, stack: ExitStack) -> Opener:
        """Return what reads a file that is there. A file below is at the same path in the image."""
        node = _node(target)
        if node.entry.content is not None:
            return node.entry.content
        entry = replace(node.entry, path=target.path)
        return (await self.image.files.contents([entry], stack))[target.path]


def _changed(entry: Entry, mode: int | None, owner: tuple[int, int] | None) -> Entry:
    uid, gid = owner or (entry.uid, entry.gid)
    return replace(entry, mode=entry.mode if mode is None else mode & PERMISSIONS, uid=uid, gid=gid)


def _contents(node: Node) -> list[Held]:
    """Return the contents on disk of a file, or of all that is in a directory."""
    pending, found = [node], []
    while pending:
        each = pending.pop()
        pending += each.children.values()
        if isinstance(each.entry.content, Held):
            found.append(each.entry.content)
    return found


def _node(target: Target) -> Node:
    assert target.node is not None  # noqa: S101  (the callers have checked)
    return target.node


def _raw(path: str | bytes) -> bytes:
    return path.encode("utf-8", "surrogateescape") if isinstance(path, str) else path
