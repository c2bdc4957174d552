"""An OCI image layout in a directory, as a store (image-spec, image-layout.md).

Owns reading and writing the blobs of a layout, its own or another tool's. Must not know registries.
What is there is complete: each blob is written aside, hashed on the way, and renamed when it is right.

Blobs are not flushed to the disk one by one: killing the process loses nothing that was stored, and what a
power cut tears is found by its size, or by its hash on reading.
`index.json` is always flushed, since no hash protects it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from regsim.core.manifest import MAX_MANIFEST_SIZE
from regsim.errors import ContentError, LocalFileError
from regsim.store import layout_index
from regsim.store.files import AsideFile, file_errors, in_use, open_regular, read_bounded, regular_size, sweep
from regsim.store.layout_index import Listed, Listing
from regsim.store.partial import Arrival, tidy
from regsim.store.protocols import CHUNK
from regsim.store.relay import Relay, Threads, finished, hand_all, in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from io import FileIO

    from regsim.core import Descriptor, Digest
    from regsim.store.protocols import Content, Taker


_THREADS = Threads(16, "regsim-file")  # more than any transfer uses at once


@dataclass(frozen=True, slots=True)
class FileContent:
    """Content in a file at its place in a layout. It pours.

    Attributes:
        descriptor: what the file must turn out to hold.
        path: of the file.
    """

    descriptor: Descriptor
    path: Path

    async def open(self) -> AsyncGenerator[bytes, None]:
        """Return a fresh stream of the file's bytes, in chunks of `CHUNK`.

        Raises (while iterating):
            LocalFileError: the file is missing, not a regular one, or cannot be read.
            ContentError: it has another size than the descriptor says; raised before the first byte.
        """
        from aiofiles.threadpool import wrap  # noqa: PLC0415  (5 ms; what is large is poured)

        file, left = self._open(), self.descriptor.size
        try:
            reading = wrap(file)
            while left:
                read = asyncio.ensure_future(reading.read(min(CHUNK, left)))
                with file_errors(self.path, "read"):
                    await finished(read)  # also if this is cancelled: no file is closed under a thread
                piece = read.result() or self._too_short()
                left -= len(piece)
                yield piece
        finally:
            file.close()

    async def pour(self, *takers: Taker, offset: int = 0) -> None:
        """Hand the file's bytes from `offset` on to `takers`, in threads; see `Pourable`.

        Raises:
            LocalFileError, ContentError: as from `open`.
            Exception: what a taker raised.
        """
        file = self._open()
        try:
            file.seek(offset, os.SEEK_CUR)
            relay = Relay(partial(self._fill, file), self.descriptor.size - offset, takers)
            await _THREADS.run(relay, relay.stop)
        finally:
            file.close()

    def _fill(self, file: FileIO, buffer: memoryview) -> int:
        with file_errors(self.path, "read"):
            count = file.readinto(buffer)
        return count or self._too_short()

    def _too_short(self) -> NoReturn:
        raise ContentError(f"{self.path} became shorter while it was read")

    def _open(self) -> FileIO:
        size = regular_size(self.path)
        if size is not None and size != self.descriptor.size:
            raise ContentError(
                f"{self.path} has {size} bytes, its descriptor says {self.descriptor.size}",
                hint="the image layout is damaged; write that image again",
            )
        try:
            return open_regular(self.path)
        except FileNotFoundError as error:
            raise LocalFileError(
                f"the image layout lacks {self.path}", hint="it is not whole; write that image again"
            ) from error


class LayoutStore(Listed):
    """A `Store` over an OCI image layout.

    Args:
        path: the layout's directory.
        create: for a destination: a directory that is missing or empty counts as an empty layout, and the
            first write makes it one. Without it, it is an error.
    """

    def __init__(self, path: Path | str, *, create: bool = False) -> None:
        self.path = Path(path)
        self._create = create
        self._prepared = False
        self._using: ExitStack | None = None
        self._locked = False
        # Threads are few, and one that waits for the lock of index.json must not keep others from working.
        self._alone = asyncio.Lock()

    async def resolve(self, reference: str) -> Descriptor | None:
        """Return the descriptor of a manifest by tag or digest, None if it is absent.

        An empty reference means the only image. A manifest that `index.json` lists but whose file is missing
        is absent. Raises what `Listed.resolve` raises.
        """
        found = await super().resolve(reference)
        return found if found is not None and await self.has(found) else None

    def content(self, descriptor: Descriptor) -> Content:
        """Return what `descriptor` names; absence shows when it is opened (`LocalFileError`)."""
        return FileContent(descriptor, self._place(descriptor.digest))

    async def has(self, descriptor: Descriptor) -> bool:
        """Return whether the content is present, with the descriptor's size. It is not hashed.

        Raises:
            LocalFileError: something other than a regular file is at its place.
        """
        return await asyncio.to_thread(regular_size, self._place(descriptor.digest)) == descriptor.size

    async def put(self, content: Content) -> int:
        """Store verified content under its digest, in place of a file that is there.

        The part of a large blob that arrived before an interruption is kept beside the others, and continued
        by the next put of it, in any process.

        Returns:
            Bytes that an earlier put had left.

        Raises:
            ContentError: the bytes are not what the descriptor says; nothing was stored.
            LocalFileError: they could not be written; nothing was stored.
        """
        await self._prepare()
        place = self._place(content.descriptor.digest)
        with file_errors(place, "write"):
            arrival = await in_thread(partial(Arrival, self.path, content), lost=Arrival.discard)
        try:
            try:
                await self._take(content, arrival, place)
            except ContentError:
                if not arrival.kept:
                    raise
                # It may be what was kept that was wrong.
                arrival.restart()
                await self._take(content, arrival, place)
            await in_thread(partial(self._commit, arrival.file, place))
        except LocalFileError:
            arrival.discard(keep=False)  # a disk that is full has no room for parts
            raise
        finally:
            arrival.discard()
        return arrival.kept

    async def _take(self, content: Content, arrival: Arrival, place: Path) -> None:
        def write(piece: memoryview) -> None:
            with file_errors(place, "write"):
                arrival.file.write(piece)

        if not arrival.whole:
            await hand_all(content, (arrival.verifier.update, write), arrival.kept)
            arrival.verifier.finish()

    @asynccontextmanager
    async def in_use(self) -> AsyncGenerator[None, None]:
        """Keep what is here, and what is written meanwhile, from being removed as part of no image.

        A transfer writes blobs before the manifest that names them, so it uses the layout from the first
        question to the tag. A layout that does not exist yet is in use once it is made.

        Raises:
            LocalFileError: another process had it for itself for 30 s.
        """
        with ExitStack() as self._using:
            with file_errors(self.path, "read"):
                there = self.path.is_dir()
            if there:
                await in_thread(self._use)
            yield
        self._using, self._locked = None, False

    async def ingest(self, write: Callable[[Callable[[bytes], object]], Descriptor]) -> Descriptor:
        """Store content whose digest is known only when it has been written, and return its descriptor.

        Args:
            write: runs in a worker thread; hands the bytes on to what it is given, hashes them, and says
                what they are. What it raises stores nothing.

        Raises:
            LocalFileError: the bytes could not be written; nothing was stored.
        """
        await self._prepare()
        with file_errors(self.path, "write"):
            aside = AsideFile(self.path)

        stopped = threading.Event()

        def take(data: bytes) -> None:
            if stopped.is_set():
                raise InterruptedError
            with file_errors(self.path, "write"):
                aside.write(data)

        try:
            descriptor = await in_thread(partial(write, take), stop=stopped.set)
            await in_thread(partial(self._commit, aside, self._place(descriptor.digest)))
        finally:
            aside.discard()
        return descriptor

    async def link(self, descriptor: Descriptor, other: LayoutStore) -> bool:
        """Take over a blob of another layout as a hard link: no byte is read or copied.

        Returns:
            Whether it is here now; False where the other layout lacks it or file systems cannot do so.

        Raises:
            LocalFileError: this layout cannot be written.
        """
        await self._prepare()
        return await other.has(descriptor) and await in_thread(partial(self._link, descriptor, other))

    async def tag(self, descriptor: Descriptor, tag: str) -> None:
        """Tag a manifest that is present; the manifest's own digest lists it without a tag.

        Raises:
            ContentError: `index.json` is malformed.
            LocalFileError: the manifest is not here, or `index.json` cannot be written.
        """
        if not await self.has(descriptor):
            raise LocalFileError(
                f"{self.path} cannot tag {descriptor.digest} as {tag!r}: it does not hold that manifest"
            )
        await self._prepare()
        async with self._alone:
            await in_thread(partial(layout_index.set_tag, self.path, descriptor, tag))

    async def untag(self, reference: str) -> None:
        """Remove a tag from the list, or by digest a manifest with all its tags; blobs stay.

        Raises:
            ContentError: `index.json` is malformed.
            LocalFileError: there is no layout or no such tag, or `index.json` cannot be written.
        """
        found = await self.find(reference)
        async with self._alone:
            await in_thread(partial(layout_index.remove, self.path, found.digest, reference))

    def _commit(self, aside: AsideFile, place: Path) -> None:
        with file_errors(place, "write"):
            place.parent.mkdir(parents=True, exist_ok=True)
            aside.commit(place, durable=False)

    def _link(self, descriptor: Descriptor, other: LayoutStore) -> bool:
        place = self._place(descriptor.digest)
        with file_errors(place, "write"):
            place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(other._place(descriptor.digest), place)
        except OSError:
            return regular_size(place) == descriptor.size
        return True

    def _place(self, digest: Digest) -> Path:
        return self.path / layout_index.BLOBS / digest.algorithm / digest.encoded

    async def _prepare(self) -> None:
        async with self._alone:
            if not self._prepared:
                await in_thread(self._make_ready)
                self._prepared = True

    def _make_ready(self) -> None:
        if self._create:
            layout_index.create(self.path)
            self._use()
        else:
            self._exists()
        sweep(self.path)
        tidy(self.path)

    def _use(self) -> None:
        if self._using is not None and not self._locked:
            self._using.enter_context(in_use(self.path, alone=False))
            self._locked = True

    def _exists(self) -> bool:
        if layout_index.check_marker(self.path):
            return True
        if self._create:
            return False
        if not self.path.is_dir():
            raise LocalFileError(f"there is no image layout {self.path}", hint="check the path")
        raise LocalFileError(
            f"{self.path} is not an image layout: it has no {layout_index.MARKER} file",
            hint="name the directory that holds index.json and blobs",
        )

    def _listing(self) -> Listing:
        if self._exists():
            return layout_index.read_index(self.path)
        return Listing(str(self.path), {"manifests": []})

    def _manifest(self, digest: Digest) -> bytes | None:
        size = regular_size(self._place(digest))
        return read_bounded(self._place(digest), MAX_MANIFEST_SIZE) if size is not None else None
