"""Addresses of images as users write them: a layout, an archive, `store:REF`, or a reference to a registry.

Owns the names of the transports, which are skopeo's, and the place of the local store. Opens nothing.
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
_STORE = "store"
# Not an image that can be moved: a recorded image has no bytes.
RECORD = "record:"
_UNSUPPORTED = frozenset({"dir", "docker-daemon", "containers-storage"})
# What an index.json may call an image (image-spec, annotations.md, `org.opencontainers.image.ref.name`).
_REF_NAME = re.compile(r"[A-Za-z0-9]+(?:(?:[-._:@+/]|--)[A-Za-z0-9]+)*")
_FORMS = "oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:REPO:TAG]"


class Kind(StrEnum):
    """How images are kept in a directory or file."""

    LAYOUT = "oci"
    OCI_ARCHIVE = "oci-archive"
    DOCKER_ARCHIVE = "docker-archive"


@dataclass(frozen=True, slots=True)
class Local:
    """An image on this machine, in an OCI layout directory or in an archive.

    Attributes:
        kind: layout, or which form of archive.
        path: the directory or file.
        name: the image's tag; `REPO:TAG` in an archive of docker's form. None: the only image.
    """

    kind: Kind
    path: Path
    name: str | None = None

    @property
    def is_archive(self) -> bool:
        """Whether this is a file, which is written as a whole."""
        return self.kind is not Kind.LAYOUT

    @property
    def tag(self) -> str | None:
        """The tag alone."""
        docker = self.kind is Kind.DOCKER_ARCHIVE
        return Reference.parse(self.name).tag if docker and self.name is not None else self.name

    @property
    def target(self) -> str:
        """What to look for there: a name or digest, or nothing for the only image."""
        return self.name or ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.path}" + (f":{self.name}" if self.name else "")


Address = Local | Reference


def parse(text: str) -> Address:
    """Read an address.

    Raises:
        UsageError: it is not an address, or has a transport that regsim does not support.
    """
    if not text.strip():
        raise UsageError("an address is empty", hint=f"write HOST/NAME:TAG, {_FORMS}")
    if text.startswith(("http://", "https://")):
        raise UsageError(f"an image is not named by a URL: {text!r}", hint="leave out what is before HOST")
    if text.startswith("docker://"):
        return Reference.parse(text.removeprefix("docker://"))
    match = _TRANSPORT.fullmatch(text)
    transport, rest = match.groups() if match is not None else ("", "")
    if transport == _STORE:
        return Local(Kind.LAYOUT, local_store(), str(Reference.parse(rest)))
    if transport in list(Kind):
        return _local(Kind(transport), rest)
    if text.startswith(RECORD):
        hint = "regsim history and FROM take records; in a scenario, record: makes an image of one"
        raise UsageError(f"a record is not an image with files: {text!r:.200}", hint=hint)
    if transport in _UNSUPPORTED:
        raise UsageError(f"{transport}: is not supported: {text!r}", hint=f"use HOST/NAME:TAG, {_FORMS}")
    return Reference.parse(text)


def parse_destination(text: str) -> Address:
    """Read an address that is written to. It names no digest, which follows from the content.

    Raises:
        UsageError: as from `parse`, or it has a digest.
    """
    address = parse(text)
    if isinstance(address, Reference) and address.digest is not None:
        raise UsageError(f"a destination has a tag, not a digest: {text!r}", hint="remove what follows the @")
    return address


def registries(*addresses: str) -> tuple[str, ...]:
    """Return the hosts of those addresses that are in registries, each once.

    Raises:
        UsageError: as from `parse`.
    """
    parsed = (parse(each) for each in addresses)
    return tuple(dict.fromkeys(each.host for each in parsed if isinstance(each, Reference)))


def local_store() -> Path:
    """Return the layout that keeps pulled images: `$REGSIM_STORE`, or `$XDG_DATA_HOME/regsim/store`."""
    if chosen := os.environ.get("REGSIM_STORE"):
        return Path(chosen)
    data = Path(os.environ.get("XDG_DATA_HOME", ""))
    # The XDG base directory specification says to ignore relative paths.
    base = data if data.is_absolute() else Path.home() / ".local" / "share"
    return base / "regsim" / "store"


def _local(kind: Kind, text: str) -> Local:
    if kind is Kind.LAYOUT:
        path, colon, name = text.rpartition(":")
        if not colon or "/" in name:
            path, name, colon = text, "", ""
    else:
        # As in skopeo, the name begins at the first colon: the file's name has none.
        path, colon, name = text.partition(":")
    if not path:
        thing = "file" if kind is not Kind.LAYOUT else "directory"
        raise UsageError(f"{kind}: names no {thing}", hint=f"write {_FORMS}")
    if colon:
        _check_name(kind, name)
    return Local(kind, Path(path), name if colon else None)


def _check_name(kind: Kind, name: str) -> None:
    if kind is Kind.LAYOUT:
        check_tag(name)
    elif kind is Kind.DOCKER_ARCHIVE:
        if Reference.parse(name).digest is not None:
            raise UsageError(f"a docker-archive has names, not digests: {name!r}", hint="write REPO:TAG")
    elif _REF_NAME.fullmatch(name) is None:
        raise UsageError(
            f"not a tag: {name!r:.160}", hint="letters and digits, and one of -._:@+/ between them"
        )
