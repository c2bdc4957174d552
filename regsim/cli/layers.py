"""`regsim layers`: what an image is made of, as it travels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from regsim.cli.asking import ask
from regsim.cli.connecting import Connecting
from regsim.cli.output import Format, printable

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from regsim.client.client import Client
    from regsim.core.image import Image


def layers(
    image: str,
    /,
    *,
    format: Format = Format.TEXT,  # noqa: A002  (the flag is called --format)
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None,
    platform: Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)] = (),
    connecting: Connecting | None = None,
) -> None:
    """List the layers of an image, base first: digest, size, created by.

    Args:
        image: HOST[:PORT]/NAME[:TAG][@DIGEST], oci:DIR[:TAG], oci-archive:FILE[:TAG] or
            docker-archive:FILE[:REPO:TAG].
        format: text or json.
        output: print to this file instead.
        platform: of an index only this image: OS/ARCH[/VARIANT]; several with commas between.
        connecting: see below.
    """

    def render(images: tuple[Image, ...], form: Format) -> str:
        if form is Format.JSON:
            return json.dumps([_document(image) for image in images], indent=2) + "\n"
        return "\n".join(table(image) for image in images)

    def chosen(client: Client) -> Awaitable[tuple[Image, ...]]:
        from regsim.transfer.selection import Choice  # noqa: PLC0415  (helping needs no HTTP client)

        return client.layers(image, choice=Choice.of(*platform))

    ask(chosen, render, connecting, address=image, form=format, output=output)


def table(image: Image) -> str:
    """Return an image's digest and platform, and its layers below them."""
    platform = f" ({image.platform})" if image.platform else ""
    return "\n".join([printable(f"{image.digest}{platform}"), *layer_table(image)]) + "\n"


def layer_table(image: Image) -> list[str]:
    """Return an image's layers as lines of a table, and their sum."""
    from regsim.core.quantities import exact, size  # noqa: PLC0415  (helping prints no table)
    from regsim.report.table import columns, instruction  # noqa: PLC0415  (likewise)

    rows = [
        (each.descriptor.digest.short, size(each.descriptor.size), instruction(each.created_by or ""))
        for each in image.layers
    ]
    count, total = len(image.layers), sum(each.descriptor.size for each in image.layers)
    return [
        *columns([("digest", "size", "created by"), *rows], right=frozenset({1})),
        f"{count} layer{'' if count == 1 else 's'}, {exact(total)}",
    ]


def layer_documents(image: Image) -> list[dict[str, Any]]:
    """Return an image's layers as JSON has them, base first."""
    return [
        {
            "digest": each.descriptor.digest,
            "size": each.descriptor.size,
            "media_type": each.descriptor.media_type,
            "created_by": each.created_by,
        }
        for each in image.layers
    ]


def _document(image: Image) -> dict[str, Any]:
    return {
        "digest": image.digest,
        "platform": str(image.platform) if image.platform else None,
        "layers": layer_documents(image),
    }
