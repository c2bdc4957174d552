"""What `regsim layers` prints: the layers of each image that an address names."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from regsim.cli.addresses import Address, Layout
from regsim.cli.ends import Ends
from regsim.cli.output import Format
from regsim.content.verify import read_all
from regsim.errors import ContentError, RegsimError
from regsim.oci import Descriptor, Document, ImageConfig, Role, media_types, parse_config
from regsim.oci.config import MAX_CONFIG_SIZE
from regsim.oci.manifest import parse
from regsim.remote.account import Account
from regsim.report.quantities import exact, size
from regsim.report.table import columns, instruction
from regsim.transfer.ends import Source
from regsim.transfer.graph import MAX_DEPTH, MAX_REFERENCES


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One image: its manifest, and for each layer, base first, the instruction that made it."""

    document: Document
    platform: str | None
    created_by: tuple[str | None, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the image as `--format json` prints it."""
        return {
            "digest": str(self.document.descriptor.digest),
            "platform": self.platform,
            "layers": [
                {
                    "digest": str(layer.digest),
                    "size": layer.size,
                    "media_type": layer.media_type,
                    "created_by": created_by,
                }
                for layer, created_by in zip(self.document.layers, self.created_by, strict=True)
            ],
        }


async def listing(
    address: Address, *, plain_http: bool, tls_verify: bool, warn: Callable[[str], None]
) -> list[Listed]:
    """Read an image's manifest and config, or those of every image in an index.

    Raises:
        NotFoundError, LocalFileError: it does not exist.
        ContentError: a document cannot be used.
    """
    async with AsyncExitStack() as stack:
        ends = Ends(stack=stack, plain_http=plain_http, tls_verify=tls_verify, warn=warn)
        source = await ends.source(address)
        wanted = (address.tag or "") if isinstance(address, Layout) else address.target
        root = await source.resolve(wanted, Account())
        return await _images(source, root) if root is not None else []


async def _images(source: Source, root: Descriptor) -> list[Listed]:
    found: list[Listed] = []
    pending, seen = [(root, 0)], 0
    while pending:
        descriptor, depth = pending.pop()
        seen += 1
        document = parse(descriptor, await source.manifest(descriptor, Account()))
        if not media_types.is_index(descriptor.media_type):
            found.append(await _image(source, document))
            continue
        if depth >= MAX_DEPTH or seen + len(document.successors) > MAX_REFERENCES:
            raise ContentError(f"index {descriptor.digest.short} names more than any image does")
        children = [child.descriptor for child in document.successors if child.role is not Role.LAYER]
        pending.extend((child, depth + 1) for child in reversed(children))
    return found


async def _image(source: Source, document: Document) -> Listed:
    config = await _config(source, document)
    count = len(document.layers)
    # What an index says of a platform stands above what a config says of itself.
    platform = document.descriptor.platform or (config.platform if config and config.platform.os else None)
    return Listed(
        document=document,
        platform=str(platform) if platform else None,
        created_by=config.created_by(count) if config else (None,) * count,
    )


async def _config(source: Source, document: Document) -> ImageConfig | None:
    config = document.config
    if config is None or config.media_type not in media_types.CONFIGS:
        return None
    try:
        return parse_config(await read_all(source.content(config, Account()), limit=MAX_CONFIG_SIZE))
    except RegsimError:
        return None  # the layers can be listed without their history


def render(images: list[Listed], *, form: Format) -> str:
    """Write the images as a table each, or as one JSON array."""
    if form is Format.JSON:
        return json.dumps([image.to_json() for image in images], indent=2) + "\n"
    return "\n".join(_table(image) for image in images)


def _table(image: Listed) -> str:
    layers = image.document.layers
    rows = [
        (layer.digest.short, size(layer.size), instruction(created_by or ""))
        for layer, created_by in zip(layers, image.created_by, strict=True)
    ]
    platform = f" ({image.platform})" if image.platform else ""
    lines = [
        f"{image.document.descriptor.digest}{platform}",
        *columns([("digest", "size", "created by"), *rows], right=frozenset({1})),
        f"{len(layers)} layer{'' if len(layers) == 1 else 's'}, {exact(sum(layer.size for layer in layers))}",
    ]
    return "\n".join(lines) + "\n"
