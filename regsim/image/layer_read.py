"""From a layer's blob to its entries (image-spec, layer.md), also of layers that other tools made.

Owns what a tar member's name means in a layer, and the bounds on what is read. Must not know trees.

Layers are hostile. What cannot be understood in one way only is refused, and the error names the file: a path
that climbs out with `..`, a whiteout of a directory's parent, names that no file system takes. What every
reader understands alike is contained: `/etc/passwd` is `etc/passwd`, and of a path that is there twice the
later entry counts. Nothing here touches a file system.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from regsim.errors import ContentError
from regsim.image.compression import Decompressor
from regsim.store.entry import (
    MARKERS,
    MAX_NAME,
    MAX_PATH,
    OPAQUE_NAME,
    WHITEOUT_PREFIX,
    Entry,
    Kind,
    Opener,
    joined,
    normal,
    shown,
)
from regsim.store.relay import hand_all
from regsim.store.tar_read import Member, Take, TarReader
from regsim.store.verify import Verifier

if TYPE_CHECKING:
    from collections.abc import Iterable

    from regsim.store.protocols import Content

# AUFS, docker's first union file system, kept notes of its own in files of these names.
_AUFS_PREFIX = b".wh..wh."
_PIECE = 64 * 1024


# What is read of a layer before it is refused: entries; bytes of all names, links and extended attributes;
# bytes of the tar that are never too many; beyond those, how many times its blob's size a tar may have.
MAX_ENTRIES = 1_000_000
MAX_METADATA = 512 * 1024 * 1024
MAX_UNPACKED = 4 * 1024 * 1024 * 1024
MAX_RATIO = 200


def content_size(entries: Iterable[Entry]) -> int:
    """Return the bytes of a layer's files, which docker calls its size.

    Of a path that is there twice, the later entry counts.
    """
    sizes = {
        entry.path: entry.size if entry.kind is Kind.FILE else 0
        for entry in entries
        if entry.kind not in MARKERS
    }
    return sum(sizes.values())


class Spool(Protocol):
    """Keeps files' content while a layer streams by."""

    def begin(self, entry: Entry) -> tuple[Take, Opener] | None:
        """Return what takes a file's content and what reads it back; None to discard it."""


class LayerReader:
    """Reads a layer whose blob is pushed in. Nothing is verified: `read_layer` does that.

    Args:
        name: what errors call it.
        size: bytes of the blob.
        spool: keeps files' content; None for a listing, whose entries have none.
    """

    def __init__(self, name: str, size: int, spool: Spool | None = None) -> None:
        self._name = name
        self._blob_size = size
        self._most = max(MAX_UNPACKED, MAX_RATIO * size)
        self._spool = spool
        self._bytes = Decompressor(name)
        self._tar = TarReader(name, self._begin)
        self._size = 0
        self._metadata = 0
        self._entries: list[Entry] = []
        self._pieces: list[bytes] = []
        self._pieces_size = 0

    def feed(self, data: bytes) -> None:
        """Take in more of the blob.

        Raises:
            ContentError: it is damaged, beyond the limits, or has an entry that no layer may have.
        """
        for piece in self._bytes.feed(data):
            self._pieces.append(piece)
            self._pieces_size += len(piece)
            if self._pieces_size >= _PIECE:
                self._flush()

    def finish(self) -> tuple[Entry, ...]:
        """Return its entries, in the tar's order.

        Raises:
            ContentError: it is cut short.
        """
        self._flush()
        self._bytes.finish()
        self._tar.finish()
        return tuple(self._entries)

    def _flush(self) -> None:
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces, self._pieces_size = [], 0
        self._tar.feed(data)
        self._size += len(data)
        if self._size > self._most:
            raise ContentError(
                f"{self._name} has {self._blob_size} bytes and unpacks to more than {self._most}",
                hint="it may be a decompression bomb" + self._where(),
            )

    def _begin(self, member: Member) -> Take | None:
        entry = entry_of(member, self._name)
        if entry is None:
            return None
        take = None
        if self._spool is not None and entry.kind is Kind.FILE:
            kept = self._spool.begin(entry)
            if kept is not None:
                take, opener = kept
                entry = replace(entry, content=opener)
        self._entries.append(entry)
        self._metadata += len(entry.path) + len(entry.link)
        self._metadata += sum(len(key) + len(value) for key, value in entry.xattrs.items())
        if len(self._entries) > MAX_ENTRIES or self._metadata > MAX_METADATA:
            raise ContentError(
                f"{self._name} has more than {MAX_ENTRIES} entries, "
                f"or more than {MAX_METADATA} bytes of names and attributes",
                hint="it may be meant to exhaust memory" + self._where(),
            )
        return take

    def _where(self) -> str:
        return f"; {self._entries[-1].shown!r} is where reading stopped" if self._entries else ""


def entry_of(member: Member, name: str) -> Entry | None:
    """Return what a member of a tar means in a layer; None for what has no meaning in one.

    Args:
        member: as it was read.
        name: what errors call the layer.

    Raises:
        ContentError: no layer may have it.
    """
    path = _path(member.name, name)
    parent, _, last = path.rpartition(b"/")
    if path.startswith(_AUFS_PREFIX) and path != OPAQUE_NAME:
        return None
    if parent.startswith(WHITEOUT_PREFIX) or b"/" + WHITEOUT_PREFIX in parent:
        raise _refused(name, member.name, "lies below what deletes a file")
    if last.startswith(WHITEOUT_PREFIX):
        return _marker(member, parent, last, name)
    if not path and member.kind is not Kind.DIRECTORY:
        raise _refused(name, member.name, "would replace the root directory")
    link = member.link
    if member.kind is Kind.HARDLINK:
        link = _path(member.link, name)
    elif member.kind is Kind.SYMLINK:
        _check_link(member, name)
    return Entry(
        path=path,
        kind=member.kind,
        mode=member.mode,
        uid=member.uid,
        gid=member.gid,
        mtime_ns=member.mtime_ns,
        size=member.size,
        link=link,
        xattrs=member.xattrs,
        device=member.device,
    )


async def read_layer(content: Content, spool: Spool | None = None) -> tuple[Entry, ...]:
    """Return a layer's entries, in the tar's order, verified.

    It is unpacked in a thread, in which `spool` is called too.

    Raises:
        ContentError: it is not what its descriptor names, or as for `LayerReader`.
        LocalFileError, NotFoundError, NetworkError, RegistryError: it cannot be read.
    """
    descriptor = content.descriptor
    reader = LayerReader(f"layer {descriptor.digest.short}", descriptor.size, spool)
    verifier = Verifier(descriptor)
    await hand_all(content, (verifier.update, lambda piece: reader.feed(bytes(piece))))
    verifier.finish()
    return reader.finish()


def _path(raw: bytes, name: str) -> bytes:
    """Return a path of a tar without what does not change its meaning: `./`, `/` at its ends, `a/../`."""
    if len(raw) > MAX_PATH:
        raise _refused(name, raw, f"has a path of more than {MAX_PATH} bytes")
    if b"\0" in raw:
        raise _refused(name, raw, "has a NUL in its path")
    path = normal(raw)
    if path is None:
        raise _refused(name, raw, "climbs out of the tree")
    if any(len(part) > MAX_NAME for part in path.split(b"/")):
        raise _refused(name, raw, f"has a name of more than {MAX_NAME} bytes")
    return path


def _marker(member: Member, parent: bytes, last: bytes, name: str) -> Entry:
    if last == OPAQUE_NAME:
        return Entry(path=parent, kind=Kind.OPAQUE)
    removed = last[len(WHITEOUT_PREFIX) :]
    if removed in {b"", b".", b".."} or removed.startswith(WHITEOUT_PREFIX):
        raise _refused(name, member.name, "would delete something other than a file in its directory")
    return Entry(path=joined(parent, removed), kind=Kind.WHITEOUT)


def _check_link(member: Member, name: str) -> None:
    if not 0 < len(member.link) <= MAX_PATH or b"\0" in member.link:
        raise _refused(name, member.name, f"is a symbolic link to nothing, or to more than {MAX_PATH} bytes")


def _refused(name: str, path: bytes, why: str) -> ContentError:
    return ContentError(f"{name}: {shown(path[:MAX_PATH])!r} {why}", hint="the layer is malformed or hostile")
