"""What can change in a registry, each change as a value and as a line of text.

Owns the names and the text of changes, which outlive the process that wrote them. Must not know where lines
are kept, nor what a change does.
"""

import json
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from mock_registry.spec import Algorithm, Digest, is_digest, is_name, is_tag

_SESSION = re.compile(r"[A-Za-z0-9_-]{1,128}")


class DamagedLineError(ValueError):
    """A line is not one that `encode` wrote."""


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """A repository got an upload session."""

    session: str
    repository: str
    algorithm: Algorithm


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """An upload session is over without a blob: cancelled, expired or failed."""

    session: str


@dataclass(frozen=True, slots=True)
class SessionCommitted:
    """What a session received has this digest, and its repository holds it. The session is over."""

    session: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class RepositoryMade:
    """There is such a repository, though it may hold nothing any more."""

    repository: str


@dataclass(frozen=True, slots=True)
class BlobLinked:
    """A repository holds a blob that was stored before."""

    repository: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class BlobUnlinked:
    """A repository holds a blob no longer."""

    repository: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class ManifestStored:
    """A repository holds a manifest, and these tags, among others perhaps, are on it."""

    repository: str
    digest: Digest
    media_type: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ManifestDeleted:
    """A repository holds a manifest no longer, nor any tag on it."""

    repository: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class TagDeleted:
    """A repository has a tag no longer."""

    repository: str
    tag: str


Change: TypeAlias = (
    SessionOpened
    | SessionEnded
    | SessionCommitted
    | RepositoryMade
    | BlobLinked
    | BlobUnlinked
    | ManifestStored
    | ManifestDeleted
    | TagDeleted
)

FREEING = (SessionEnded, BlobUnlinked, ManifestDeleted, TagDeleted)
"""Changes that give room back, or let it be given back: they must be possible on a full disk."""

_WORDS: dict[type[Change], str] = {
    SessionOpened: "session-opened",
    SessionEnded: "session-ended",
    SessionCommitted: "session-committed",
    RepositoryMade: "repository-made",
    BlobLinked: "blob-linked",
    BlobUnlinked: "blob-unlinked",
    ManifestStored: "manifest-stored",
    ManifestDeleted: "manifest-deleted",
    TagDeleted: "tag-deleted",
}
_KINDS = {word: kind for kind, word in _WORDS.items()}
_FIELDS = {kind: tuple(field.name for field in fields(kind)) for kind in _WORDS}


def encode(change: Change) -> bytes:
    """Return a change as a line: a checksum of eight hexadecimal digits, a space, a JSON object."""
    kind = type(change)
    document = {"change": _WORDS[kind]} | {name: getattr(change, name) for name in _FIELDS[kind]}
    text = json.dumps(document).encode()
    return b"%08x %b\n" % (zlib.crc32(text), text)


def decode(line: bytes) -> Change:
    """Read a line, with or without its end.

    Raises:
        DamagedLineError: The checksum does not hold, or the change is not one that a registry makes.
    """
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        raise DamagedLineError("the checksum does not hold")
    try:
        document = json.loads(text)
        change = _KINDS[document.pop("change")](**_typed(document))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DamagedLineError(f"no change that is known: {error}") from error
    return change


def _typed(document: dict[str, Any]) -> dict[str, Any]:
    """Check what will name files or be shown to clients: a line may be well-formed and still be hostile."""
    for name, value in document.items():
        if not _GOOD[name](value):
            raise ValueError(f"{name} is not valid")
    if "tags" in document:
        document["tags"] = tuple(document["tags"])
    if "algorithm" in document:
        document["algorithm"] = Algorithm(document["algorithm"])
    return document


def is_session(text: str) -> bool:
    """Tell whether ``text`` may identify a session and name its file."""
    return _SESSION.fullmatch(text) is not None


_GOOD: dict[str, Callable[[Any], bool]] = {
    "algorithm": lambda name: name in set(Algorithm),
    "digest": is_digest,
    "media_type": str.isprintable,
    "repository": is_name,
    "session": is_session,
    "tag": is_tag,
    "tags": lambda tags: all(is_tag(tag) for tag in tags),
}
