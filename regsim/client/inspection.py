"""What an address names, read without its layers: manifests, configs, and descriptors of layers.

Owns the walk through indexes, within bounds, and the values that describe what was found. Must not know how
they are printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regsim.core import Document, ImageConfig, Role, media_types, parse_config
from regsim.core.account import Account
from regsim.core.config import MAX_CONFIG_SIZE
from regsim.core.graph import MAX_DEPTH, MAX_REFERENCES
from regsim.core.image import Image
from regsim.core.manifest import parse
from regsim.core.selection import Selection
from regsim.errors import ContentError, LocalFileError, NotFoundError, RegsimError, UsageError
from regsim.store.memory import BytesContent
from regsim.store.verify import read_all
from regsim.transfer.ends import select

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regsim.core import Descriptor
    from regsim.core.selection import Choice
    from regsim.transfer.ends import Source

_IN_HINT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What an address names.

    Attributes:
        descriptor: media type, digest and size in bytes of the manifest or index itself.
        images: the image, or those of an index in its order, nested ones included.
    """

    descriptor: Descriptor
    images: tuple[Image, ...]


async def inspect(source: Source, root: Descriptor) -> Inspection:
    """Read what `root` names: every manifest below it, and every config.

    Raises:
        ContentError: a document cannot be used, or there are more of them than any image has.
    """
    found = await documents(source, root)
    images = [Image.of(each, await _image_config(source, each)) for each in found if not _is_index(each)]
    return Inspection(descriptor=found[0].descriptor, images=tuple(images))


async def chosen(source: Source, root: Descriptor, choice: Choice, name: str) -> tuple[Image, ...]:
    """Return the images of `root` that a choice keeps; `name` is what errors call it.

    Raises:
        NotFoundError: there is no image for a platform that was chosen.
        ContentError: as from `inspect`.
    """
    selection = Selection(root)
    await select(source, selection, choice, name)
    found = (await inspect(source, selection.root)).images
    return tuple(each for each in found if selection.kept is None or each.digest in selection.kept)


async def only_config(source: Source, root: Descriptor, name: str) -> BytesContent:
    """Return the config of the only image of `root`, with its exact bytes, verified.

    Raises:
        UsageError: there are several images.
        ContentError: there is no config, or it is not what its descriptor says, or too large.
    """
    images = [Image.of(each) for each in await documents(source, root) if not _is_index(each)]
    config = only(images, name, "config", "name one by its digest").config
    if config is None:
        raise ContentError(f"{name} has no config")
    return BytesContent(config, await _read_config(source, config))


def only(images: Sequence[Image], name: str, what: str, hint: str) -> Image:
    """Return the only image that is not an attestation.

    Args:
        images: that an address names.
        name: the address.
        what: each image has one of its own.
        hint: how to choose one.

    Raises:
        UsageError: there are several, or none.
    """
    real = [each for each in images if each.platform is None or each.platform.os != "unknown"] or [*images]
    if len(real) != 1:
        names = ", ".join(f"{each.platform or 'unknown'}: {each.digest}" for each in real[:_IN_HINT])
        raise UsageError(
            f"{name} names {len(real)} images, and each has a {what} of its own",
            hint=f"{hint}: {names}" if names else "",
        )
    return real[0]


async def documents(source: Source, root: Descriptor, *, absent_ok: bool = False) -> list[Document]:
    """Return `root`, and all manifests and indexes below it, depth first.

    Args:
        source: where they are.
        root: a manifest or an index.
        absent_ok: leave out what is not there, as often in layouts and archives.

    Raises:
        ContentError: a document cannot be used, or there are more of them than any image has.
        NotFoundError, LocalFileError: one is not there.
    """
    found: list[Document] = []
    pending = [(root, 0)]
    while pending:
        descriptor, depth = pending.pop()
        try:
            document = parse(descriptor, await source.manifest(descriptor, Account()))
        except (NotFoundError, LocalFileError):
            if not absent_ok:
                raise
            continue
        found.append(document)
        if _is_index(document):
            if depth >= MAX_DEPTH or len(found) + len(document.successors) > MAX_REFERENCES:
                raise ContentError(f"index {descriptor.digest.short} names more than any image does")
            children = [child.descriptor for child in document.successors if child.role is not Role.LAYER]
            pending += [(child, depth + 1) for child in reversed(children)]
    return found


def _is_index(document: Document) -> bool:
    return media_types.is_index(document.descriptor.media_type)


async def _read_config(source: Source, config: Descriptor) -> bytes:
    """Return a config's exact bytes, verified, if there are not more than `MAX_CONFIG_SIZE`."""
    return await read_all(source.content(config, Account()), limit=MAX_CONFIG_SIZE)


async def _image_config(source: Source, document: Document) -> ImageConfig | None:
    config = document.config
    if config is None or config.media_type not in media_types.CONFIGS:
        return None
    try:
        return parse_config(await _read_config(source, config))
    except RegsimError:
        return None  # layers can be listed without a history
