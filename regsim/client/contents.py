"""What is in the layers of images: histories with sizes and sharing, and file trees.

Owns where a layer is read from, how many are read at once, and which images are in view. Must not know how a
history or tree is printed. Nothing is stored: what comes from a registry streams by.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from regsim.client.image_address import Address, Local, local_store
from regsim.client.inspection import chosen, documents, only
from regsim.client.opener import LocalImages
from regsim.core import Descriptor, Digest, media_types
from regsim.core.account import Account
from regsim.core.image import Image, Sharing, share
from regsim.errors import NotFoundError, UsageError
from regsim.image.layer_read import content_size, read_layer
from regsim.image.merged import Merged, Merging
from regsim.store.layout import LayoutStore
from regsim.store.memory import is_document
from regsim.synth.recorded import load_record, record_names

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from regsim.client.opener import Readable
    from regsim.core.selection import Choice
    from regsim.store.entry import Entry
    from regsim.store.protocols import Content

T = TypeVar("T")

# Layers that are unpacked at the same time: more would only use more memory.
_AT_ONCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Histories:
    """The histories of images, and which of their layers other images share.

    Attributes:
        images: with the content sizes of layers where they are known.
        view: all images in view, these among them.
    """

    images: tuple[Image, ...]
    view: Sharing


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTree:
    """An image and its files.

    Attributes:
        image: the image.
        merged: the tree, and what became of each layer.
    """

    image: Image
    merged: Merged


async def tree(source: Readable, place: Address, root: Descriptor, choice: Choice) -> ImageTree:
    """Return the files of an image.

    Args:
        source: where the image is.
        place: its address. A registry's layers are read from the local store if they are there.
        root: what the address names.
        choice: which image of an index; attestations and others without a platform are left out.

    Raises:
        UsageError: there are several images, or one without layers of files.
        ContentError: a layer is damaged or hostile, which names the file; or layers do not fit together.
        LocalFileError, NotFoundError: a layer is missing.
    """
    image = only(
        await chosen(source, root, choice, str(place)),
        str(place),
        "tree",
        "choose one by --platform, or by its digest",
    )
    described = [layer.descriptor for layer in image.layers]
    others = [layer for layer in described if layer.media_type not in media_types.LAYERS]
    if others:
        raise UsageError(
            f"{place} is no image of files: layer {others[0].digest.short} is {others[0].media_type!r:.120}"
        )

    async def read(layer: Descriptor) -> tuple[Entry, ...]:
        content = await _near(source, place, layer) or source.content(layer, Account())
        return await read_layer(content)

    merging, entries = Merging(), await _each(described, read)
    for layer in image.layers:
        await asyncio.to_thread(merging.add, layer, entries[layer.descriptor.digest])
    return ImageTree(image=image, merged=merging.finish())


async def histories(
    source: Readable, place: Address, root: Descriptor, choice: Choice, *, fetch: bool
) -> Histories:
    """Return the histories of images.

    Args:
        source: where they are.
        place: their address. All images of a layout or an archive are in view, else those chosen alone.
        root: what the address names.
        choice: which images of an index.
        fetch: whether layers of a registry that are not in the local store are fetched to be measured.

    Raises:
        ContentError: a layer is damaged or hostile, or another image's manifest in view is.
    """
    images = await chosen(source, root, choice, str(place))
    view = share(await _view(source) if isinstance(source, LocalImages) else images)

    async def size(layer: Descriptor) -> int | None:
        if layer.media_type not in media_types.LAYERS:
            return None
        content = await _near(source, place, layer)
        if content is None and fetch and source.remote and not media_types.is_foreign(layer.media_type):
            content = source.content(layer, Account())
        with suppress(NotFoundError):
            return content_size(await read_layer(content)) if content is not None else None
        return None

    sizes = await _each((layer.descriptor for image in images for layer in image.layers), size)
    return Histories(images=tuple(image.measured(sizes) for image in images), view=view)


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


async def _near(source: Readable, place: Address, layer: Descriptor) -> Content | None:
    """Return a layer that can be read without a request.

    One that an archive lacks shows when it is opened (`NotFoundError`).
    """
    if isinstance(place, Local) and place.is_archive:
        return source.content(layer, Account())
    store = LayoutStore(place.path if isinstance(place, Local) else local_store())
    return store.content(layer) if await store.has(layer) else None


async def _each(layers: Iterable[Descriptor], read: Callable[[Descriptor], Awaitable[T]]) -> dict[Digest, T]:
    """Read layers, each once and some at a time, and return what was read by their digests."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(layer: Descriptor) -> T:
        async with gate:
            return await read(layer)

    distinct = {layer.digest: layer for layer in layers}
    tasks = [asyncio.create_task(one(layer)) for layer in distinct.values()]
    try:
        return dict(zip(distinct, await asyncio.gather(*tasks), strict=True))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _view(source: LocalImages) -> list[Image]:
    """Return the images of a layout or an archive, as far as their manifests are there."""
    listed = [each for each in await source.documents() if is_document(each)]
    found = [each for root in listed for each in await documents(source, root, absent_ok=True)]
    return [Image.of(each) for each in found if not media_types.is_index(each.descriptor.media_type)]
