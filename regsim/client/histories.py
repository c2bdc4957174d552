"""Histories of images: what an address names, how large its layers are unpacked, and who shares them.

Owns where those answers are found. Must not know how a history is printed. No layer is moved for it unless
that is asked for: the size of a registry's layer is known if the local store has the layer.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from regsim.client.addresses import Layout
from regsim.client.ends import ArchiveSource
from regsim.client.reading import Layers, read_each
from regsim.core import Descriptor, Digest, media_types
from regsim.core.account import Account
from regsim.core.manifest import parse
from regsim.errors import NotFoundError
from regsim.image.history import ImageHistory, Line, content_size, lines_of, measured, moment
from regsim.image.layer_read import read_layer
from regsim.image.store import take_inventory
from regsim.store.memory import is_document
from regsim.synth.recorded import Record, load_record, record_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from regsim.client.images import Image
    from regsim.transfer.selection import Choice

# The layers of each image in view, by its manifest.
View = dict[Digest, frozenset[Digest]]


def recorded_history(name: str, choice: Choice) -> ImageHistory:
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
    view = {each.manifest: frozenset(_layers(each)) for each in records.values()}
    return ImageHistory(
        id=record.manifest,
        manifest=record.manifest,
        platform=record.platform,
        lines=measured(_lines(record), _layers(record), view, record.manifest),
        others=len(view.keys() - {record.manifest}),
    )


async def histories(layers: Layers, images: Sequence[Image], *, fetch: bool) -> tuple[ImageHistory, ...]:
    """Return the histories of images.

    Args:
        layers: where they are. Of a layout or an archive, all its images are in view, else only `images`.
        images: whose histories.
        fetch: whether layers of a registry are fetched to be measured, and dropped again.

    Raises:
        ContentError: a layer is damaged or hostile, or another image's manifest in view is.
    """
    view = await _view(layers, images)
    sizes = await _sizes(layers, [layer for image in images for layer in image.layers], fetch=fetch)
    return tuple(_history(image, sizes, view) for image in images)


def _history(image: Image, sizes: dict[Digest, int | None], view: View) -> ImageHistory:
    own, config = image.document.descriptor.digest, image.document.config
    return ImageHistory(
        id=config.digest if config is not None else own,
        manifest=own,
        platform=image.platform,
        lines=measured(lines_of(image.config, image.layers), sizes, view, own),
        others=len(view.keys() - {own}),
    )


def _lines(record: Record) -> list[Line]:
    lines = []
    for each in record.instructions:
        recipe, layer = each.recipe, None
        if recipe is not None and recipe.recorded is not None:
            layer = Descriptor(media_type=recipe.media_type, digest=recipe.recorded, size=recipe.size)
        created = moment(each.created)
        lines.append(
            Line(created_by=each.created_by, created=created, comment=each.comment or "", layer=layer)
        )
    return lines


def _layers(record: Record) -> dict[Digest, int | None]:
    """Return a record's layers, and how many bytes of files they hold where that is recorded."""
    layers: dict[Digest, int | None] = {}
    for each in record.instructions:
        if each.recipe is not None and each.recipe.recorded is not None:
            known = each.content_size if each.content_size is not None else each.recipe.uncompressed_size
            layers[each.recipe.recorded] = known
    return layers


async def _view(layers: Layers, images: Iterable[Image]) -> View:
    if isinstance(layers.place, Layout):
        return dict((await asyncio.to_thread(take_inventory, layers.place.directory)).manifests)
    if isinstance(layers.source, ArchiveSource):
        return await _archived(layers.source)
    return {
        image.document.descriptor.digest: frozenset(layer.digest for layer in image.layers)
        for image in images
    }


async def _archived(source: ArchiveSource) -> View:
    view: View = {}
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
                view[descriptor.digest] = frozenset(layer.digest for layer in document.layers)
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
            return content_size((await read_layer(content)).entries) if content is not None else None
        return None

    async with read_each(wanted, size) as sizes:
        return {digest: await found for digest, found in sizes.items()}
