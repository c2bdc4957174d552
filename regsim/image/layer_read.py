"""From a layer's blob to its entries (image-spec, layer.md), also of layers that other tools made.

Owns what a tar member's name means in a layer, and the bounds on what is read. Must not know trees.

Layers are hostile. What cannot be understood in one way only is refused, and the error names the file: a path
that climbs out with `..`, a whiteout of a directory's parent, names that no file system takes. What every
reader understands alike is contained: `/etc/passwd` is `etc/passwd`, and of a path that is there twice the
later entry counts. Nothing here touches a file system.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from regsim.core import Descriptor, Digest
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
    from regsim.store.protocols import Content

# AUFS, docker's first union file system, kept notes of its own in files of these names.
_AUFS_PREFIX = b".wh..wh."
_PIECE = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is read of a layer before it is refused.

    Args:
        entries: how many.
        metadata: bytes of all names, links and extended attributes.
        unpacked: bytes of the tar that are never too many.
        ratio: beyond `unpacked`, how many times its blob's size a tar may have.
    """

    entries: int = 1_000_000
    metadata: int = 512 * 1024 * 1024
    unpacked: int = 4 * 1024 * 1024 * 1024
    ratio: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFiles:
    """What a layer says.

    Args:
        descriptor: of its blob.
        diff_id: digest of its tar.
        uncompressed_size: bytes of its tar.
        entries: in the tar's order.
    """

    descriptor: Descriptor
    diff_id: Digest
    uncompressed_size: int
    entries: tuple[Entry, ...]

    @property
    def content_size(self) -> int:
        """Bytes of its files, which docker calls a layer's size; of a path that is there twice, the later."""
        sizes = {
            entry.path: entry.size if entry.kind is Kind.FILE else 0
            for entry in self.entries
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
        descriptor: of the blob.
        limits: beyond which it is refused.
        spool: keeps files' content; None for a listing, whose entries have none.
    """

    def __init__(self, descriptor: Descriptor, limits: Limits, spool: Spool | None = None) -> None:
        self._descriptor = descriptor
        self._name = f"layer {descriptor.digest.short}"
        self._limits = limits
        self._most = max(limits.unpacked, limits.ratio * descriptor.size)
        self._spool = spool
        self._bytes = Decompressor(self._name)
        self._tar = TarReader(self._name, self._begin)
        self._hash = hashlib.sha256()
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

    def finish(self) -> LayerFiles:
        """Return what was read.

        Raises:
            ContentError: it is cut short.
        """
        self._flush()
        self._bytes.finish()
        self._tar.finish()
        return LayerFiles(
            descriptor=self._descriptor,
            diff_id=Digest(f"sha256:{self._hash.hexdigest()}"),
            uncompressed_size=self._size,
            entries=tuple(self._entries),
        )

    def _flush(self) -> None:
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces, self._pieces_size = [], 0
        self._hash.update(data)
        self._tar.feed(data)
        self._size += len(data)
        if self._size > self._most:
            raise ContentError(
                f"{self._name} has {self._descriptor.size} bytes and unpacks to more than {self._most}",
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
        if len(self._entries) > self._limits.entries or self._metadata > self._limits.metadata:
            raise ContentError(
                f"{self._name} has more than {self._limits.entries} entries, "
                f"or more than {self._limits.metadata} bytes of names and attributes",
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


async def read_layer(
    content: Content, limits: Limits | None = None, spool: Spool | None = None
) -> LayerFiles:
    """Read a layer from anywhere, verified. It is unpacked in a thread, and so is what `spool` does.

    Raises:
        ContentError: it is not what its descriptor names, or as for `LayerReader`.
        LocalFileError, NotFoundError, NetworkError, RegistryError: it cannot be read.
    """
    reader, verifier = (
        LayerReader(content.descriptor, limits or Limits(), spool),
        Verifier(content.descriptor),
    )
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
