"""An image as containers see it: its config, its layers, and the files that they make together.

Owns reading it once for all containers on it. Must not know containers or where images come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from regsim.image.builder.bases import config_of
from regsim.image.builder.config import Config
from regsim.image.builder.layers import Files, StageLayer, stage_layer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from regsim.image.builder.bases import Base
    from regsim.image.builder.builder import Built


@dataclass(frozen=True, slots=True)
class ContainerImage:
    """An image that containers are created from.

    Args:
        name: what messages call it.
        config: its config.
        layers: base first.
        files: what they make together.
    """

    name: str
    config: Config
    layers: tuple[StageLayer, ...]
    files: Files

    @classmethod
    async def open(cls, base: Base, name: str) -> Self:
        """Return an image from anywhere. Layers whose listing is not known are read.

        Raises:
            UsageError: its config is one for other layers.
            ContentError: a layer or the config is damaged or malformed.
            LocalFileError, NotFoundError, NetworkError, RegistryError: a layer cannot be read.
        """
        return await cls._of(name, config_of(base, name), [stage_layer(layer) for layer in base.layers])

    @classmethod
    async def of(cls, built: Built, name: str) -> Self:
        """Return an image that was built or committed; raises what `open` raises."""
        return await cls._of(name, Config.of(built.config.data), built.layers)

    @classmethod
    async def _of(cls, name: str, config: Config, layers: Iterable[StageLayer]) -> Self:
        layers = tuple(layers)
        files = Files(name)
        await files.grow(layers)
        return cls(name, config, layers, files)
