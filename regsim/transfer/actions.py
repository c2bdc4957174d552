"""What the machine asks for. Each action names content, and carries the account that its cost goes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regsim.oci import Descriptor, Digest
    from regsim.oci.manifest import Document
    from regsim.remote.account import Account


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Action:
    """One piece of work. Actions are told apart by identity; each is answered exactly once."""

    descriptor: Descriptor
    account: Account


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CheckManifest(Action):
    """Which digest does `reference` (a tag or a digest) name at the destination? Answer: it, or None."""

    reference: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FetchManifest(Action):
    """Get the exact bytes of a manifest, from the destination if it holds them already. Answer: bytes."""

    from_destination: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CheckBlob(Action):
    """Does the destination hold the blob? Answer: the evidence, or None.

    `layers` are those of the blob's manifest, base first, and `layer` is its place among them, which a
    store that skips by unbroken runs needs to know; None for a config.
    """

    layers: tuple[Digest, ...] = ()
    layer: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mount(Action):
    """Link the blob from another repository of the destination's registry. Answer: `MountAnswer`."""

    repository: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MountAnswer:
    """Whether a mount was granted (or, in a plan, `assumed`), else the upload session offered instead."""

    mounted: bool
    assumed: bool = False
    session: object | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Upload(Action):
    """Send the blob to a registry, in `session` if a refused mount has opened one."""

    session: object | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Download(Action):
    """Bring the blob into a local store."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PutManifest(Action):
    """Store a manifest, and then let `tag` name it; a registry does both at once."""

    document: Document
    tag: str | None
