"""Addresses of images as users write them: `oci:DIR[:TAG]`, `store:REF`, or a reference to a registry.

Owns the transports' names, which are skopeo's, and where the local store is. Opens nothing.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from regsim.errors import UsageError
from regsim.oci import Reference
from regsim.oci.reference import check_tag

_TRANSPORT = re.compile(r"([a-z][a-z-]*):(?!\d+/)(.*)", re.DOTALL)
STORE = "store"
_LATER = frozenset({"oci-archive", "docker-archive", "dir", "docker-daemon", "containers-storage"})


@dataclass(frozen=True, slots=True)
class Layout:
    """An OCI layout directory, and a tag in it if one was given."""

    directory: Path
    tag: str | None = None

    def __str__(self) -> str:
        return f"oci:{self.directory}" + (f":{self.tag}" if self.tag else "")


Address = Layout | Reference


def parse(text: str) -> Address:
    """Read an address.

    Raises:
        UsageError: it is none, or of a transport that regsim does not speak.
    """
    if not text.strip():
        raise UsageError("an address is empty", hint="write HOST/NAME:TAG or oci:DIR[:TAG]")
    if text.startswith("docker://"):
        return Reference.parse(text.removeprefix("docker://"))
    match = _TRANSPORT.fullmatch(text)
    if match is not None and match[1] == "oci":
        return _layout(match[2])
    if match is not None and match[1] == STORE:
        return Layout(local_store(), str(Reference.parse(match[2])))
    if match is not None and match[1] in _LATER:
        raise UsageError(f"{match[1]}: is not supported: {text!r}", hint="use oci:DIR[:TAG] or HOST/NAME:TAG")
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
