"""File trees of images: reading the layers that an address names, and applying them in order.

Owns the choice of the one image whose tree it is. Must not know how a tree is printed. Nothing is stored:
what comes from a registry streams by.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regsim.client.reading import Layers, read_each
from regsim.core import media_types
from regsim.errors import UsageError
from regsim.image.layer_read import read_layer
from regsim.image.merged import Merged, Merging

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regsim.core import Descriptor
    from regsim.core.image import Image
    from regsim.store.entry import Entry

_IN_HINT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTree:
    """An image and its files.

    Attributes:
        image: whose they are.
        merged: the tree, and what became of each layer.
    """

    image: Image
    merged: Merged


async def tree(layers: Layers, images: Sequence[Image], name: str) -> ImageTree:
    """Return the files of the only image among some.

    Args:
        layers: where its layers are.
        images: what an address names; those for no platform, such as attestations, are left out.
        name: the address, as errors call it.

    Raises:
        UsageError: there are several images, or one without layers of files.
        ContentError: a layer is damaged or hostile, which names the file; or they do not fit together.
        LocalFileError, NotFoundError: a layer is missing.
    """
    image = _only(images, name)
    layers_of_image = [layer.descriptor for layer in image.layers]
    others = [layer for layer in layers_of_image if layer.media_type not in media_types.LAYERS]
    if others:
        raise UsageError(
            f"{name} is no image of files: layer {others[0].digest.short} is {others[0].media_type!r:.120}"
        )

    async def read(layer: Descriptor) -> tuple[Entry, ...]:
        content = await layers.at_hand(layer) or layers.fetched(layer)
        return (await read_layer(content)).entries

    merging = Merging()
    async with read_each(layers_of_image, read) as entries:
        for layer in image.layers:
            await asyncio.to_thread(merging.add, layer, await entries[layer.descriptor.digest])
    return ImageTree(image=image, merged=merging.finish())


def _only(images: Sequence[Image], name: str) -> Image:
    real = [each for each in images if each.platform is None or each.platform.os != "unknown"] or [*images]
    if len(real) != 1:
        platforms = ", ".join(str(each.platform or each.digest) for each in real[:_IN_HINT])
        raise UsageError(
            f"{name} names {len(real)} images, and each has a tree of its own",
            hint=f"choose one by --platform, or by its digest: {platforms}" if real else "",
        )
    return real[0]
