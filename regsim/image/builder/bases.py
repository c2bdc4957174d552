"""What a stage begins with: an image from somewhere.

Owns the value and the protocol. Must not know registries, layouts or records: whoever starts a build says
where images come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from regsim.errors import UsageError
from regsim.image.builder.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable

    from regsim.core import Descriptor, Digest, Platform
    from regsim.image.builder.listing import Listing
    from regsim.store.protocols import Content


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseLayer:
    """A layer of a base.

    Args:
        descriptor: of its blob.
        diff_id: digest of its tar, as the base's config has it.
        content: returns the blob.
        listing: what it holds, where that is known without reading it.
    """

    descriptor: Descriptor
    diff_id: Digest
    content: Callable[[], Content]
    listing: Listing | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """An image to build on, or to copy from.

    Args:
        config: its config's bytes.
        layers: base first.
    """

    config: bytes
    layers: tuple[BaseLayer, ...]


def config_of(base: Base, name: str) -> Config:
    """Return the config of an image to build on.

    Args:
        base: the image.
        name: what errors call it.

    Raises:
        ContentError: it is malformed.
        UsageError: it is one for other layers.
    """
    config = Config.of(base.config)
    if len(config.diff_ids) != len(base.layers):
        raise UsageError(
            f"{name} has {len(base.layers)} layers, and a config for {len(config.diff_ids)}",
            hint="it is no image to build on",
        )
    return config


class Bases(Protocol):
    """Finds images by the names that a Dockerfile gives them."""

    async def open(self, name: str, platform: Platform) -> Base:
        """Return the image of a name.

        Args:
            name: what stands after FROM, or in `--from=`.
            platform: which image of an index.

        Raises:
            RegsimError: there is none, or it cannot be read.
        """
