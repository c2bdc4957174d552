"""`regsim inspect`, `manifest` and `config`: what an image says of itself, without moving a layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from regsim.cli.asking import ask
from regsim.cli.connecting import Connecting
from regsim.cli.layers import layer_documents, layer_table
from regsim.cli.output import Format, printable

if TYPE_CHECKING:
    from regsim.client.inspection import Inspection
    from regsim.core import Descriptor
    from regsim.core.image import Image
    from regsim.store.memory import BytesContent

Output = Annotated[Path | None, Parameter(name=("--output", "-o"))]


def inspect(
    image: str,
    /,
    *,
    format: Format = Format.TEXT,  # noqa: A002  (the flag is called --format)
    output: Output = None,
    connecting: Connecting | None = None,
) -> None:
    """Tell what an image is: digest, platforms, date, labels, layers with their sizes.

    Args:
        image: HOST[:PORT]/NAME[:TAG][@DIGEST] or oci:DIR[:TAG].
        format: text or json.
        output: print to this file instead.
        connecting: see below.
    """

    def render(found: Inspection, form: Format) -> str:
        return _json(image, found) if form is Format.JSON else _text(image, found)

    ask(lambda client: client.inspect(image), render, connecting, address=image, form=format, output=output)


def manifest(image: str, /, *, output: Output = None, connecting: Connecting | None = None) -> None:
    """Print a manifest or index, byte for byte, once its digest is verified.

    Args:
        image: HOST[:PORT]/NAME[:TAG][@DIGEST] or oci:DIR[:TAG].
        output: print to this file instead.
        connecting: see below.
    """
    ask(lambda client: client.manifest(image), _octets, connecting, address=image, output=output)


def config(image: str, /, *, output: Output = None, connecting: Connecting | None = None) -> None:
    """Print an image's config, byte for byte, once its digest is verified.

    Args:
        image: HOST[:PORT]/NAME[:TAG][@DIGEST] or oci:DIR[:TAG].
        output: print to this file instead.
        connecting: see below.
    """
    ask(lambda client: client.config(image), _octets, connecting, address=image, output=output)


def _octets(content: BytesContent, _form: Format) -> bytes:
    return content.data


def _json(image: str, found: Inspection) -> str:
    document = {
        "reference": image,
        **_descriptor(found.descriptor),
        "images": [
            {
                **_descriptor(each.manifest),
                "platform": str(each.platform) if each.platform else None,
                "created": each.created,
                "labels": dict(each.labels),
                "config": _descriptor(each.config) if each.config else None,
                "layers": layer_documents(each),
                "content_size": each.size,
            }
            for each in found.images
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def _descriptor(descriptor: Descriptor) -> dict[str, Any]:
    return {"digest": descriptor.digest, "media_type": descriptor.media_type, "size": descriptor.size}


def _text(image: str, found: Inspection) -> str:
    lines = [printable(image), *_facts(found.descriptor)]
    if found.images and found.images[0].digest == found.descriptor.digest:
        return "\n".join([*lines, *_image(found.images[0])]) + "\n"
    lines.append(f"images      {len(found.images)}")
    for each in found.images:
        lines += ["", *_facts(each.manifest), *_image(each)]
    return "\n".join(lines) + "\n"


def _facts(descriptor: Descriptor) -> list[str]:
    from regsim.core.quantities import exact  # noqa: PLC0415  (helping prints no facts)

    return [
        f"digest      {descriptor.digest}",
        f"media type  {printable(descriptor.media_type)}",
        f"size        {exact(descriptor.size)}",
    ]


def _image(image: Image) -> list[str]:
    lines = [f"platform    {printable(str(image.platform))}"] if image.platform else []
    if image.created:
        lines.append(f"created     {printable(image.created)}")
    if image.config is not None:
        lines.append(f"config      {image.config.digest}")
    lines += [f"label       {printable(key)}={printable(value)}" for key, value in image.labels.items()]
    return [*lines, *layer_table(image)]
