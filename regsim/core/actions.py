"""What `decide` asks a driver to do. Each action names content and carries the account it is charged to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regsim.core import Descriptor, Digest
    from regsim.core.account import Account
    from regsim.core.manifest import Document


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
class FetchConfig(Action):
    """Get the bytes of an image config from the source, to choose by platform. Answer: bytes."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CheckBlob(Action):
    """Does the destination hold the blob? Answer: the evidence, or None.

    `layers` are those of the blob's manifest, base first, and `layer` is its place among them, which a
    store that skips by unbroken runs needs to know; None for a config. `closely`: the registry has claimed to
    hold it, and then refused a manifest that names it; its word alone does not do any more.
    """

    layers: tuple[Digest, ...] = ()
    layer: int | None = None
    closely: bool = False

    @property
    def run(self) -> tuple[Digest, ...]:
        """The layers from the base up to this one; empty for a config."""
        return self.layers[: self.layer + 1] if self.layer is not None else ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CheckHolder(Action):
    """Does another repository of the destination's registry hold the blob? Answer: whether it is seen to."""

    repository: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mount(Action):
    """Link the blob from another repository of the destination's registry. Answer: `MountAnswer`.

    `session` is what an earlier candidate's refusal has opened.
    """

    repository: str
    session: object | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MountAnswer:
    """Whether a mount was granted (or, in a plan, `assumed`), else the upload session offered instead."""

    mounted: bool
    assumed: bool = False
    session: object | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Upload(Action):
    """Send the blob to a registry, in `session` if a refused mount has opened one.

    Answer: None, or the evidence that another client had stored it first.
    """

    session: object | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Download(Action):
    """Bring the blob into a local store."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PutManifest(Action):
    """Store a manifest, and then let `tag` name it; a registry does both at once.

    `patiently`: the registry does not see yet what it was given.
    """

    document: Document
    tag: str | None
    patiently: bool = False
