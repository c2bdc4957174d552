"""What a layer holds, without contents: its entries and the checksums of its files.

Owns how that is learned from a blob, kept, and read again. Must not know stages.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from regsim.image.layer_read import read_layer
from regsim.store.entry import Entry, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from regsim.store.entry import Opener
    from regsim.store.protocols import Content

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A layer's entries, in its order and without contents, and the SHA-256 of files by their paths.

    A synthetic layer has no checksums.
    """

    entries: tuple[Entry, ...]
    checksums: Mapping[bytes, str]

    @classmethod
    def of(cls, entries: Iterable[Entry], checksums: Mapping[bytes, str]) -> Listing:
        """Return the listing of entries, whose contents are dropped."""
        bare = (each if each.content is None else replace(each, content=None) for each in entries)
        return cls(entries=tuple(bare), checksums=checksums)

    @property
    def size(self) -> int:
        """Bytes of all its files, which is what a history shows."""
        return sum(entry.size for entry in self.entries if entry.kind is Kind.FILE)


async def read_listing(content: Content) -> Listing:
    """Read a layer's blob.

    Raises:
        ContentError: it is damaged, or no layer that can be understood.
        LocalFileError, NotFoundError, NetworkError, RegistryError: it cannot be read.
    """
    hashing = _Hashing()
    entries = await read_layer(content, hashing)
    checksums = {path: hasher.hexdigest() for path, hasher in hashing.hashers.items()}
    return Listing.of(entries, checksums)


class _Hashing:
    """A spool that keeps nothing but hashes."""

    def __init__(self) -> None:
        self.hashers: dict[bytes, Any] = {}

    def begin(self, entry: Entry) -> tuple[Callable[[bytes], object], Opener] | None:
        """Return what takes a file's content."""
        hasher = self.hashers[entry.path] = hashlib.sha256()
        return hasher.update, lambda: iter(())


def to_json(listing: Listing) -> bytes:
    """Write a listing."""
    entries = [
        [
            _text(each.path),
            each.kind,
            each.mode,
            each.uid,
            each.gid,
            each.mtime_ns,
            each.size,
            _text(each.link),
            {key: base64.b64encode(value).decode() for key, value in each.xattrs.items()},
            list(each.device),
            listing.checksums.get(each.path, ""),
        ]
        for each in listing.entries
    ]
    return json.dumps({"version": _VERSION, "entries": entries}, separators=(",", ":")).encode()


def from_json(raw: bytes) -> Listing | None:
    """Read a listing; None if it is malformed or of another version."""
    try:
        document = json.loads(raw)
        if document["version"] != _VERSION:
            return None
        lines = document["entries"]
        entries = tuple(_entry(line) for line in lines)
        checksums = {
            entry.path: str(line[10]) for entry, line in zip(entries, lines, strict=True) if line[10]
        }
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return Listing(entries=entries, checksums=checksums)


def _entry(line: list[Any]) -> Entry:
    path, kind, mode, uid, gid, mtime, size, link, xattrs, device = line[:10]
    return Entry(
        path=_bytes(path),
        kind=Kind(kind),
        mode=int(mode),
        uid=int(uid),
        gid=int(gid),
        mtime_ns=int(mtime),
        size=int(size),
        link=_bytes(link),
        xattrs={str(key): base64.b64decode(value) for key, value in xattrs.items()},
        device=(int(device[0]), int(device[1])),
    )


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
