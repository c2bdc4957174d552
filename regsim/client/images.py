"""What an address names, read without moving a layer: its manifests, configs and layers.

Owns the walk through indexes, within bounds, and the values that tell what was found. Must not know how they
are printed.
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
from regsim.errors import ContentError, RegsimError
from regsim.store.verify import read_all

if TYPE_CHECKING:
    from regsim.core import Descriptor
    from regsim.transfer.ends import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What an address names.

    Attributes:
        document: the manifest or index itself.
        images: the image, or those of an index in its order, nested ones included.
    """

    document: Document
    images: tuple[Image, ...]

    @property
    def descriptor(self) -> Descriptor:
        """Media type, digest and size in bytes of the manifest or index."""
        return self.document.descriptor


async def inspect(source: Source, root: Descriptor) -> Inspection:
    """Read what `root` names: every manifest below it, and every config.

    Raises:
        ContentError: a document cannot be used, or there are more of them than any image has.
    """
    found: list[Image] = []
    documents: list[Document] = []
    pending, seen = [(root, 0)], 0
    while pending:
        descriptor, depth = pending.pop()
        seen += 1
        document = parse(descriptor, await source.manifest(descriptor, Account()))
        documents.append(document)
        if not media_types.is_index(descriptor.media_type):
            found.append(Image.of(document, await _image_config(source, document)))
            continue
        if depth >= MAX_DEPTH or seen + len(document.successors) > MAX_REFERENCES:
            raise ContentError(f"index {descriptor.digest.short} names more than any image does")
        children = [child.descriptor for child in document.successors if child.role is not Role.LAYER]
        pending.extend((child, depth + 1) for child in reversed(children))
    return Inspection(document=documents[0], images=tuple(found))


async def read_config(source: Source, config: Descriptor) -> bytes:
    """Return a config's exact bytes, verified.

    Raises:
        ContentError: it is not what its descriptor says, or larger than `MAX_CONFIG_SIZE`.
    """
    return await read_all(source.content(config, Account()), limit=MAX_CONFIG_SIZE)


async def _image_config(source: Source, document: Document) -> ImageConfig | None:
    config = document.config
    if config is None or config.media_type not in media_types.CONFIGS:
        return None
    try:
        return parse_config(await read_config(source, config))
    except RegsimError:
        return None  # the layers can be told without their history
