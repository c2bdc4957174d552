"""Histories of images: what an address names, how large its layers are unpacked, and who shares them.

Owns where those answers are found. Must not know how a history is printed. No layer is moved for it unless
that is asked for: the size of a registry's layer is known if the local store has the layer.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regsim.client.addresses import Layout
from regsim.client.ends import ArchiveSource
from regsim.client.reading import Layers, read_each
from regsim.core import Descriptor, Digest, media_types
from regsim.core.account import Account
from regsim.core.image import Image, Sharing, share
from regsim.core.manifest import parse
from regsim.errors import NotFoundError
from regsim.image.layer_read import read_layer
from regsim.image.store import take_inventory
from regsim.store.memory import is_document
from regsim.synth.recorded import load_record, record_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from regsim.transfer.selection import Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Histories:
    """The histories of images, and which of their layers other images share.

    Attributes:
        images: with the content sizes of layers where they are known.
        view: all images in view, these among them.
    """

    images: tuple[Image, ...]
    view: Sharing


def recorded_history(name: str, choice: Choice) -> Histories:
    """Return the history of a recorded image, with all records in view.

    Raises:
        UsageError: there is no such record; the hint says which are like it.
        NotFoundError: it is for another platform than was chosen.
    """
    records = {each: load_record(each) for each in record_names()}
    record = records.get(name) or load_record(name)
    if choice.platforms and not any(record.platform.satisfies(each) for each in choice.platforms):
        raise NotFoundError(
            f"record {name} has no image for {choice.platforms[0]}", hint=f"it has {record.platform}"
        )
    return Histories(images=(record.real,), view=share(each.real for each in records.values()))


async def histories(layers: Layers, images: Sequence[Image], *, fetch: bool) -> Histories:
    """Return the histories of images.

    Args:
        layers: where they are. Of a layout or an archive, all its images are in view, else only `images`.
        images: whose histories.
        fetch: whether layers of a registry are fetched to be measured, and dropped again.

    Raises:
        ContentError: a layer is damaged or hostile, or another image's manifest in view is.
    """
    view = share(await _view(layers, images))
    wanted = [layer.descriptor for image in images for layer in image.layers]
    sizes = await _sizes(layers, wanted, fetch=fetch)
    return Histories(images=tuple(image.measured(sizes) for image in images), view=view)


async def _view(layers: Layers, images: Sequence[Image]) -> Sequence[Image]:
    if isinstance(layers.place, Layout):
        return (await asyncio.to_thread(take_inventory, layers.place.directory)).manifests
    if isinstance(layers.source, ArchiveSource):
        return await _archived(layers.source)
    return images


async def _archived(source: ArchiveSource) -> list[Image]:
    view: list[Image] = []
    pending, seen = list(await source.documents()), set[Digest]()
    while pending:
        descriptor = pending.pop()
        if descriptor.digest in seen or not is_document(descriptor):
            continue
        seen.add(descriptor.digest)
        with suppress(NotFoundError):  # of an index, an archive often has one image
            document = parse(descriptor, await source.manifest(descriptor, Account()))
            if media_types.is_index(descriptor.media_type):
                pending += [each.descriptor for each in document.successors]
            else:
                view.append(Image.of(document))
    return view


async def _sizes(layers: Layers, wanted: Iterable[Descriptor], *, fetch: bool) -> dict[Digest, int | None]:
    """Return how many bytes of files each layer holds; None where that cannot be told from here."""

    async def size(layer: Descriptor) -> int | None:
        if layer.media_type not in media_types.LAYERS:
            return None
        content = await layers.at_hand(layer)
        if content is None and fetch and layers.remote and not media_types.is_foreign(layer.media_type):
            content = layers.fetched(layer)
        with suppress(NotFoundError):
            return (await read_layer(content)).content_size if content is not None else None
        return None

    async with read_each(wanted, size) as sizes:
        return {digest: await found for digest, found in sizes.items()}
