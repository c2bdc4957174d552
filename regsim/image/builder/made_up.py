"""Made-up and recorded images as bases.

Owns two things that such images do not have of their own: what their layers hold is known without making
them, and how a container of theirs starts is read from the instructions in their history. Must not know
scenarios.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from regsim.core import Digest
from regsim.core.config import MAX_CONFIG_SIZE
from regsim.core.manifest import encode
from regsim.errors import RegsimError, UsageError
from regsim.image.builder.bases import Base, BaseLayer
from regsim.image.builder.config import Config
from regsim.image.builder.listing import Listing
from regsim.image.builder.metadata import change
from regsim.image.dockerfile.instructions import Text
from regsim.image.dockerfile.reading import read_trigger
from regsim.store.entry import Entry, Kind
from regsim.store.verify import read_all
from regsim.synth.layer_plan import plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from regsim.core import Descriptor
    from regsim.store.protocols import Content
    from regsim.synth.images import ImageSource
    from regsim.synth.recipe import LayerRecipe

# What an instruction in a history says of how a container starts, in words that a Dockerfile has too.
_METADATA = re.compile(
    r"(?:/bin/sh -c #\(nop\)\s+)?(?P<text>(?:ENV|WORKDIR|USER|CMD|ENTRYPOINT|EXPOSE)\s.*)", re.DOTALL
)
_WORDS = re.compile(r'"\s+"')


async def base_of(source: ImageSource, key: str) -> Base:
    """Return a made-up image as something to build on.

    Args:
        source: where it is made.
        key: what it is called there.

    Raises:
        UsageError: there is no such image, or a layer cannot be made.
    """
    made = await source.image(key)
    recipes = [line.recipe for line in source.recipe_of(key).instructions if line.recipe is not None]
    if made.config is None:
        raise UsageError(f"{key} has no config", hint="it is no image to build on")
    raw = await read_all(source.content(made.config), limit=MAX_CONFIG_SIZE)
    layers = (
        BaseLayer(
            descriptor=layer.descriptor,
            diff_id=Digest(diff_id),
            content=_content(source, layer.descriptor),
            listing=_listing(recipe),
        )
        for layer, diff_id, recipe in zip(made.layers, Config.of(raw).diff_ids, recipes, strict=True)
    )
    return Base(config=_configured(raw), layers=tuple(layers))


def _content(source: ImageSource, descriptor: Descriptor) -> Callable[[], Content]:
    return lambda: source.content(descriptor)


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
