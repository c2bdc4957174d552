"""Storage that outlives the process: one copy of each digest, and the changes of the state, in a directory.

Owns the order of steps by which the directory is right after a kill at any moment. Must not know what the
changes mean, nor who may see which content.
"""

import asyncio
import contextlib
import itertools
import logging
import os
from collections.abc import Collection, Iterable
from pathlib import Path

from mock_registry.spec import Algorithm, Digest

from .changelog import ChangeLog, DamagedLogError
from .changes import Change, SessionCommitted, SessionEnded, SessionOpened, is_session
from .directory_barrier import Barrier
from .directory_blob import DirectoryBlob, Inspection
from .directory_cache import Cache
from .directory_place import DirectoryError, Place, look, names, open_file, unlink
from .directory_seal import Seals
from .directory_upload import LARGE, DirectoryUpload
from .hops import Hops
from .protocol import NO_ROOM, StorageFull
from .spool import write_all

_log = logging.getLogger(__name__)

_ASIDE = (".manifest-", ".linked-", ".freed-")
"""How files in the folder of uploads are called that are none: ours to remove at a start."""

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_WASTE = 1000
"""Lines of changes that are kept in vain before the file is rewritten, beside as many as are needed."""


class DirectoryStorage:
    """Storage in a directory that survives ``kill -9`` at any moment.

    Opens and locks the directory at once. The registry that is given this storage closes it; entered again,
    it opens the directory again.

    Args:
        path: The directory, made if it is missing.
        durable: Flush to the disk before anything is acknowledged. A killed process needs none of that, a
            machine that loses its power does.

    Raises:
        DirectoryError: The directory holds what no registry put there, or its changes are damaged.
        DirectoryInUseError: Another registry has it.
        OSError: It cannot be made or opened.
    """

    def __init__(self, path: str | os.PathLike[str], *, durable: bool = False) -> None:
        self.path = Path(path)
        self.durable = durable
        self.hops = Hops()
        self.seals = Seals(durable=durable)
        self.inspection = Inspection(self.seals, self.hops)
        self.cache = Cache()
        self._place: Place | None = None
        self._number = itertools.count()
        self._freeing: set[asyncio.Future[None]] = set()
        self.reopen()

    @property
    def place(self) -> Place:
        """The open directory.

        Raises:
            RuntimeError: It is closed.
        """
        if self._place is None:
            raise RuntimeError(f"the storage in {self.path} is closed")
        return self._place

    @property
    def used(self) -> int:
        """Octets taken by content, manifests among it, and by open uploads."""
        place = self.place
        return sum(
            found.st_size
            for folder in (*place.blobs.values(), place.uploads)
            for name in names(folder)
            if (found := look(name, folder)) is not None
        )

    # Opening

    def reopen(self) -> bool:
        """Open and lock the directory, if it is not open."""
        if self._place is not None:
            return False
        with contextlib.ExitStack() as stack:
            place = Place(self.path)
            stack.callback(place.close)
            try:
                changes = ChangeLog(place.top)
                stack.callback(changes.close)
                self._recalled = changes.read()
            except DamagedLogError as error:
                raise DirectoryError(f"{self.path}: {error}") from error
            changes.replenish()
            if self.durable:
                place.flush()
            self.barrier = Barrier(place, changes, self.hops, durable=self.durable)
            self._changes, self._place = changes, place
            stack.pop_all()
        return True

    def recall(self) -> list[Change]:
        """Return the changes that the directory holds, having finished commits that a kill interrupted."""
        changes, self._recalled = self._recalled, []
        committed: dict[str, Digest] = {}
        for change in changes:
            if isinstance(change, SessionCommitted):
                committed[change.session] = change.digest
            elif isinstance(change, SessionOpened | SessionEnded):
                committed.pop(change.session, None)
        uploads = self.place.uploads
        for name in names(uploads):
            if name in committed and look(name, uploads) is not None:
                blob, folder = self.place.blob(committed[name])
                os.rename(name, blob, src_dir_fd=uploads, dst_dir_fd=folder)
        return changes

    def resume_upload(self, session: str, algorithm: Algorithm) -> DirectoryUpload:
        """Go on where an earlier process stopped: at the end of what is in the file."""
        found = look(session, self.place.uploads)
        return DirectoryUpload(self, session, algorithm, size=0 if found is None else found.st_size)

    def sweep(self, digests: Collection[Digest], sessions: Collection[str]) -> None:
        """Remove what a killed process had begun, or had not yet removed. Names of no kind of ours stay."""
        place = self.place
        for digest in place.digests():
            if digest not in digests:
                unlink(*place.blob(digest))
        for name in names(place.uploads):
            if name not in sessions and (is_session(name) or name.startswith(_ASIDE)):
                unlink(name, place.uploads)

    # Content

    async def open_upload(self, session: str, algorithm: Algorithm) -> DirectoryUpload:
        """Begin an upload. Its file is made with its first octets."""
        if not is_session(session):
            raise ValueError(f"not fit to name a file: {session!r}")
        return DirectoryUpload(self, session, algorithm)

    def find(self, digest: Digest) -> DirectoryBlob | None:
        """Return the content with this digest, if there is a file of its name."""
        found = look(*self.place.blob(digest))
        return None if found is None else DirectoryBlob(self, digest, found)

    def take(self, session: str, digest: Digest, stat: os.stat_result) -> DirectoryBlob:
        """Make an upload the content of its digest. It is that from the moment when the change is written.

        Args:
            session: Names the upload's file.
            digest: Of the file, which is marked as verified.
            stat: Of the file.

        Raises:
            StorageFull: The change could not be written down.
            OSError: The file could not be moved.
        """
        place = self.place
        self.record(SessionCommitted(session, digest))
        self._spare(digest)
        if self.durable:
            # The session's file has to be there until the change is on the disk, or a loss of power in
            # between would leave an open session without its octets.
            linked = f".linked-{session}"
            os.link(session, linked, src_dir_fd=place.uploads, dst_dir_fd=place.uploads)
            self._move(linked, digest)
            self.barrier.afterwards(lambda: unlink(session, place.uploads))
        else:
            self._move(session, digest)
        if not self.seals.judge(digest, stat):  # a file system that cannot keep such times
            stat = os.stat(place.blob(digest)[0], dir_fd=place.blob(digest)[1], follow_symlinks=False)
            self.seals.learn(digest, stat, intact=True)
        return DirectoryBlob(self, digest, stat)

    def _move(self, name: str, digest: Digest) -> None:
        place = self.place
        blob, folder = place.blob(digest)
        os.rename(name, blob, src_dir_fd=place.uploads, dst_dir_fd=folder)
        self.seals.forget(digest)

    def _spare(self, digest: Digest) -> None:
        """Let a large copy that is about to be replaced be freed in a thread, not by the move itself."""
        place = self.place
        name, folder = place.blob(digest)
        found = look(name, folder)
        if found is not None and found.st_size >= LARGE:
            freed = f".freed-{next(self._number)}"
            with contextlib.suppress(OSError):  # without links, the move takes longer
                os.link(name, freed, src_dir_fd=folder, dst_dir_fd=place.uploads, follow_symlinks=False)
                self._free(freed)

    def keep_manifest(self, digest: Digest, content: bytes) -> None:
        """Write a manifest aside and move it to its place, over a copy that may be damaged."""
        uploads = self.place.uploads
        name = f".manifest-{next(self._number)}"
        try:
            descriptor = os.open(name, _CREATE, 0o600, dir_fd=uploads)
            try:
                write_all(descriptor, [content])
                os.utime(descriptor, ns=self.seals.times(digest, len(content)))
            except OSError:
                os.close(descriptor)
                raise
            self.barrier.flush_later(descriptor)
            self._move(name, digest)
        except OSError as error:
            unlink(name, uploads)
            if error.errno in NO_ROOM:
                raise StorageFull(error.errno, "no room left for the manifest") from error
            raise

    def read_manifest(self, digest: Digest) -> bytes:
        """Return what is in a digest's file."""
        with os.fdopen(open_file(*self.place.blob(digest)), "rb", buffering=0) as file:
            return file.readall()

    def remove(self, digest: Digest) -> None:
        """Take content out of its place, at once, and free it, in a thread if it is large."""
        place = self.place
        name, folder = place.blob(digest)
        found = look(name, folder)
        self.seals.forget(digest)
        if found is None or found.st_size < LARGE:
            unlink(name, folder)
            return
        freed = f".freed-{next(self._number)}"
        os.rename(name, freed, src_dir_fd=folder, dst_dir_fd=place.uploads)
        self._free(freed)

    def _free(self, name: str) -> None:
        uploads = self.place.uploads
        freeing = self.hops.start(lambda: unlink(name, uploads))
        self._freeing.add(freeing)
        freeing.add_done_callback(self._freeing.discard)

    # Changes

    def record(self, change: Change) -> None:
        """Write a change down. From here on it has happened, whatever becomes of the process."""
        self.barrier.note()
        self._changes.append(change)

    async def sync(self) -> None:
        """Wait until what was removed is free and, if that is promised, until all is on the disk."""
        if self._freeing:
            await asyncio.wait(set(self._freeing))
        self._changes.replenish()
        await self.barrier.wait()

    def shorten(self, changes: Iterable[Change], count: int) -> None:
        """Rewrite the changes when most of them are of the past."""
        if self._changes.lines <= 2 * count + _WASTE or self.barrier.flushing:
            return
        try:
            self._changes.rewrite(changes)
        except OSError as error:
            _log.warning("%s: the changes could not be rewritten: %s", self.path, error)

    def publish(self, index: bytes) -> None:
        """Show other programs an OCI layout. Nothing of ours depends on it."""
        try:
            if self._place is not None:
                self._place.publish(index)
        except OSError as error:
            _log.warning("%s: the index could not be written: %s", self.path, error)

    async def aclose(self) -> None:
        """Let go of the directory, all of it as it is."""
        if self._place is None:
            return
        try:
            await self.inspection.finished()
            await self.sync()
        except OSError as error:
            _log.warning("%s: not all is on the disk: %s", self.path, error)
        place, self._place = self._place, None
        self.barrier.close()
        self._changes.close()
        self.hops.close()
        place.close()
