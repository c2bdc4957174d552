"""Addresses of images as users write them: a layout, an archive, `store:REF`, or a reference to a registry.

Owns the transports' names, which are skopeo's, and where the local store is. Opens nothing.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from regsim.core import Reference
from regsim.core.reference import check_tag
from regsim.errors import UsageError

_TRANSPORT = re.compile(r"([a-z][a-z-]*):(?!\d+/)(.*)", re.DOTALL)
STORE = "store"
# Not a transport: nothing can be moved from or to a record.
RECORD = "record:"
_FOREIGN = frozenset({"dir", "docker-daemon", "containers-storage"})
# What an index.json may call an image (image-spec, annotations.md, `org.opencontainers.image.ref.name`).
_REF_NAME = re.compile(r"[A-Za-z0-9]+(?:(?:[-._:@+/]|--)[A-Za-z0-9]+)*")
_LOCAL = "oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:REPO:TAG]"


@dataclass(frozen=True, slots=True)
class Layout:
    """An OCI layout directory, and a tag in it if one was given."""

    directory: Path
    tag: str | None = None

    def __str__(self) -> str:
        return f"oci:{self.directory}" + (f":{self.tag}" if self.tag else "")


class ArchiveKind(StrEnum):
    """Whose archive it is."""

    OCI = "oci-archive"
    DOCKER = "docker-archive"


@dataclass(frozen=True, slots=True)
class Archive:
    """A tar of one of two kinds, and what an image in it is called if that was given.

    `name` is a tag in an OCI archive, and `REPO:TAG` in one of docker's.
    """

    kind: ArchiveKind
    file: Path
    name: str | None = None

    @property
    def tag(self) -> str | None:
        """The tag alone."""
        if self.name is None or self.kind is ArchiveKind.OCI:
            return self.name
        return Reference.parse(self.name).tag

    def __str__(self) -> str:
        return f"{self.kind}:{self.file}" + (f":{self.name}" if self.name else "")


Local = Layout | Archive
Address = Local | Reference


def parse(text: str) -> Address:
    """Read an address.

    Raises:
        UsageError: it is none, or of a transport that regsim does not speak.
    """
    if not text.strip():
        raise UsageError("an address is empty", hint=f"write HOST/NAME:TAG, {_LOCAL}")
    if text.startswith("docker://"):
        return Reference.parse(text.removeprefix("docker://"))
    match = _TRANSPORT.fullmatch(text)
    if match is not None and match[1] == "oci":
        return _layout(match[2])
    if match is not None and match[1] == STORE:
        return Layout(local_store(), str(Reference.parse(match[2])))
    if match is not None and match[1] in list(ArchiveKind):
        return _archive(ArchiveKind(match[1]), match[2])
    if match is not None and match[1] in _FOREIGN:
        raise UsageError(f"{match[1]}: is not supported: {text!r}", hint=f"use HOST/NAME:TAG, {_LOCAL}")
    return Reference.parse(text)


def parse_destination(text: str) -> Address:
    """Read an address that is written to, which names a tag: the digest follows from the content.

    Raises:
        UsageError: it is none.
    """
    address = parse(text)
    if isinstance(address, Reference) and address.digest is not None:
        raise UsageError(f"a destination has a tag, not a digest: {text!r}", hint="remove what follows the @")
    return address


def registries(*addresses: str) -> tuple[str, ...]:
    """Return the hosts of those addresses that are in registries, each once.

    Raises:
        UsageError: one is no address.
    """
    parsed = (parse(each) for each in addresses)
    return tuple(dict.fromkeys(each.host for each in parsed if isinstance(each, Reference)))


def local_store() -> Path:
    """Return the layout that keeps pulled images: `$REGSIM_STORE`, or `$XDG_DATA_HOME/regsim/store`."""
    if chosen := os.environ.get("REGSIM_STORE"):
        return Path(chosen)
    data = Path(os.environ.get("XDG_DATA_HOME", ""))
    # The base directory specification has relative paths ignored.
    base = data if data.is_absolute() else Path.home() / ".local" / "share"
    return base / "regsim" / "store"


def _layout(text: str) -> Layout:
    head, colon, tail = text.rpartition(":")
    directory, tag = (head, tail) if colon and "/" not in tail else (text, None)
    if not directory:
        raise UsageError("oci: names no directory", hint="write oci:DIR[:TAG]")
    return Layout(Path(directory), check_tag(tag) if tag is not None else None)


def _archive(kind: ArchiveKind, text: str) -> Archive:
    # As skopeo has it, all behind the first colon is the name: a file's name can have none.
    file, colon, name = text.partition(":")
    if not file:
        raise UsageError(f"{kind}: names no file", hint=f"write {_LOCAL}")
    if not colon:
        return Archive(kind, Path(file))
    if kind is ArchiveKind.DOCKER:
        reference = Reference.parse(name)
        if reference.digest is not None:
            raise UsageError(f"an archive of docker's has names, no digests: {text!r}", hint="write REPO:TAG")
    elif _REF_NAME.fullmatch(name) is None:
        raise UsageError(
            f"not a tag: {name!r:.160}", hint="letters and digits, and one of -._:@+/ between them"
        )
    return Archive(kind, Path(file), name)
