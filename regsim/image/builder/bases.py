"""Images that a build begins with: how they are found by name, and synthetic ones among them.

Owns the protocol, and two things that synthetic and recorded images lack: what their layers hold is known
without making them, and how a container of theirs starts is read from the instructions in their history. Must
not know registries, layouts or scenarios.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from regsim.core.manifest import encode
from regsim.errors import RegsimError
from regsim.image.builder.config import Config, change
from regsim.image.builder.dockerfile import read_trigger
from regsim.image.builder.instructions import Text
from regsim.image.listing import Listing
from regsim.image.opened import OpenImage
from regsim.store.entry import Entry, Kind
from regsim.synth.recipe import plan

if TYPE_CHECKING:
    from regsim.core import Platform
    from regsim.synth.images import ImageSource
    from regsim.synth.recipe import LayerRecipe

# What an instruction in a history says of how a container starts, in words that a Dockerfile has too.
_METADATA = re.compile(
    r"(?:/bin/sh -c #\(nop\)\s+)?(?P<text>(?:ENV|WORKDIR|USER|CMD|ENTRYPOINT|EXPOSE)\s.*)", re.DOTALL
)
_WORDS = re.compile(r'"\s+"')


class Bases(Protocol):
    """Finds images by the names that a Dockerfile gives them."""

    async def open(self, name: str, platform: Platform) -> OpenImage:
        """Return the image of a name.

        Args:
            name: what stands after FROM, or in `--from=`.
            platform: which image of an index.

        Raises:
            RegsimError: there is no such image, or it cannot be read.
        """


async def base_of(source: ImageSource, key: str) -> OpenImage:
    """Return a synthetic or recorded image as something to build on.

    Args:
        source: where it is made.
        key: what it is called there.

    Raises:
        UsageError: there is no such image, or a layer cannot be made.
    """
    made = await source.image(key)
    image = await OpenImage.of(made, source.content, key)
    recipes = [line.recipe for line in source.recipe_of(key).instructions if line.recipe is not None]
    layers = (
        replace(layer, known=_listing(recipe)) for layer, recipe in zip(image.layers, recipes, strict=True)
    )
    return replace(image, raw=_configured(image.raw), layers=tuple(layers))


def _listing(recipe: LayerRecipe) -> Listing:
    entries = (Entry(path=file.path, kind=Kind.FILE, size=file.size) for file in plan(recipe).files)
    return Listing(entries=tuple(entries), checksums={})


def _configured(raw: bytes) -> bytes:
    """Return a config with what its history says of how a container starts."""
    config = Config.of(raw)
    for line in config.history:
        match = _METADATA.fullmatch(str(line.get("created_by", "")))
        if match is None:
            continue
        try:
            instruction = read_trigger(_WORDS.sub('", "', match["text"]), "history")
            if isinstance(instruction, Text) and instruction.name == "WORKDIR":
                config.config["WorkingDir"] = config.absolute(instruction.value)
            else:
                change(config, instruction, str, str.split, has_cmd=False)
        except RegsimError:
            continue  # a history is free text, and says only what it says
    document = {
        **config.document,
        "config": config.config,
        "rootfs": {"type": "layers", "diff_ids": config.diff_ids},
        "history": config.history,
    }
    return encode(document)
