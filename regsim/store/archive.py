"""Images in an archive, read where they lie: `oci-archive` (image-spec, image-layout.md, in a tar).

Owns the reading of content out of a tar whose index is in hand. Must not know how a tar is read
(`content.tar_index`), nor docker's own files in it (`content.docker_archive`). Nothing is unpacked; the bytes
of a member are handed on as they are, and verified by whoever stores them, as those of any store.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aiofiles.threadpool import wrap

from regsim.core import Descriptor, Digest
from regsim.core.manifest import MAX_MANIFEST_SIZE, media_type_of
from regsim.errors import ContentError
from regsim.store.files import file_errors
from regsim.store.layout_index import BLOBS, INDEX, MARKER, MAX_MARKER_SIZE
from regsim.store.listing import MAX_INDEX_SIZE, Listing, check_version
from regsim.store.memory import AbsentContent
from regsim.store.protocols import CHUNK, Content
from regsim.store.tar_index import Member, TarIndex

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


@dataclass(frozen=True, slots=True)
class MemberContent:
    """Content in a file of an archive."""

    descriptor: Descriptor
    archive: TarIndex
    member: Member

    async def open(self) -> AsyncGenerator[bytes, None]:
        """Return a fresh stream of the member's bytes, in chunks of `CHUNK`.

        Raises (while iterating):
            ContentError: it has another size than the descriptor says; told before the first byte.
            LocalFileError: the archive cannot be read any more.
        """
        path, left = self.archive.path, self.member.size
        if left != self.descriptor.size:
            raise ContentError(
                f"{path}: the member {self.member.name!r} has {left} bytes, "
                f"its descriptor says {self.descriptor.size}",
                hint="the archive is damaged; write it anew",
            )
        file = self.archive.open()
        reading = wrap(file)
        try:
            with file_errors(path, "read"):
                file.seek(self.member.offset)
                # What an archive that was cut since lacks, whoever verifies the bytes misses.
                while left and (chunk := await reading.read(min(CHUNK, left))):
                    left -= len(chunk)
                    yield chunk
        finally:
            file.close()  # not in a thread: when cancelled there may be no waiting any more


class OciArchive:
    """A `Fetcher` over an OCI image layout in a tar. The tar is indexed when it is first asked.

    Args:
        path: the archive.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._opening = asyncio.Lock()
        self._index: TarIndex | None = None

    async def resolve(self, reference: str) -> Descriptor | None:
        """Return the descriptor of a manifest by tag or digest, None where it is absent.

        An empty reference means the only image of the archive.

        Raises:
            ContentError: the archive is malformed, or lists several manifests under that tag.
            LocalFileError: there is no archive, or it cannot be read.
        """
        index = await self._opened()
        return await asyncio.to_thread(self._lookup, index, reference)

    async def find(self, reference: str = "") -> Descriptor:
        """Return the manifest that a user names by tag or digest, or the only one if they name none.

        Raises:
            ContentError: as for `resolve`.
            LocalFileError: there is no archive, no such manifest, or no telling which; the hint lists
                the tags.
        """
        found = await self.resolve(reference)
        if found is None:
            raise listing(await self._opened()).missing(reference, str(self.path))
        return found

    async def documents(self) -> tuple[Descriptor, ...]:
        """Return each manifest and index that `index.json` lists.

        Raises:
            ContentError, LocalFileError: as for `resolve`.
        """
        return tuple(listing(await self._opened()).everything())

    def content(self, descriptor: Descriptor) -> Content:
        """Return what `descriptor` names; absence shows when it is opened (`NotFoundError`)."""
        member = self._index.find(place(descriptor.digest)) if self._index else None
        if self._index is None or member is None:
            return AbsentContent(descriptor, str(self.path), "it is not whole; write it anew")
        return MemberContent(descriptor, self._index, member)

    def _lookup(self, index: TarIndex, reference: str) -> Descriptor | None:
        return listing(index).lookup(reference, str(self.path), lambda digest: _unlisted(index, digest))

    async def _opened(self) -> TarIndex:
        async with self._opening:
            if self._index is None:
                self._index = await asyncio.to_thread(TarIndex.read, self.path)
            return self._index


def is_layout(index: TarIndex) -> bool:
    """Tell whether an archive holds an OCI image layout."""
    return index.find(MARKER) is not None


def listing(index: TarIndex) -> Listing:
    """Return what the `index.json` of an archive lists.

    Raises:
        ContentError: it is no archive of an OCI image layout, or malformed.
    """
    marker, raw = index.document(MARKER, MAX_MARKER_SIZE), index.document(INDEX, MAX_INDEX_SIZE)
    if marker is None or raw is None:
        lacks = MARKER if marker is None else INDEX
        other = index.find("manifest.json") is not None
        raise ContentError(
            f"{index.path} is not an archive of an OCI image layout: it has no {lacks}",
            hint=f"it looks like docker-archive:{index.path}" if other else "",
        )
    check_version(marker, f"{index.path}, {MARKER}")
    return Listing.parse(raw, f"{index.path}, {INDEX}")


def place(digest: Digest) -> str:
    """Return the name of a blob in an archive."""
    return f"{BLOBS}/{digest.algorithm}/{digest.encoded}"


def _unlisted(index: TarIndex, digest: Digest) -> Descriptor | None:
    # A manifest that an index names is a blob like others: it must say itself what it is.
    try:
        raw = index.document(place(digest), MAX_MANIFEST_SIZE)
        return Descriptor(media_type=media_type_of(raw), digest=digest, size=len(raw)) if raw else None
    except ContentError:
        return None
