"""`regsim inspect`, `manifest`, `config`, `layers` and `referrers`: an image without its layers' contents."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

from regsim.cli.connecting import ASKING, CONNECTING, Asking, Connecting
from regsim.cli.output import Output, Platforms, printable
from regsim.cli.running import ask
from regsim.core.quantities import exact, number, size
from regsim.core.selection import Choice
from regsim.report.table import columns, instruction

if TYPE_CHECKING:
    from regsim.client.inspection import Inspection
    from regsim.core import Descriptor
    from regsim.core.image import Image


def inspect(image: str, /, *, flags: Asking = ASKING) -> None:
    """Print an image's digest, platforms, date, labels, and layers with their sizes.

    Args:
        image: HOST[:PORT]/NAME[:TAG][@DIGEST] or oci:DIR[:TAG].
        flags: see below.
    """
    ask(
        lambda client: client.inspect(image),
        flags,
        lambda found: _inspection_text(image, found, flags.width),
        lambda found: _inspection_json(image, found),
        address=image,
    )


def manifest(image: str, /, *, output: Output = None, connecting: Connecting = CONNECTING) -> None:
    """Print a manifest or index, byte for byte, after verifying its digest.

    Args:
        image: HOST[:PORT]/NAME[:TAG][@DIGEST] or oci:DIR[:TAG].
        output: print to this file instead.
        connecting: see below.
    """
    ask(
        lambda client: client.manifest(image),
        Asking(output=output, **vars(connecting)),
        attrgetter("data"),
        address=image,
    )


def config(image: str, /, *, output: Output = None, connecting: Connecting = CONNECTING) -> None:
    """Print an image's config, byte for byte, after verifying its digest.

    Args:
        image: HOST[:PORT]/NAME[:TAG][@DIGEST] or oci:DIR[:TAG].
        output: print to this file instead.
        connecting: see below.
    """
    ask(
        lambda client: client.config(image),
        Asking(output=output, **vars(connecting)),
        attrgetter("data"),
        address=image,
    )


def layers(image: str, /, *, platform: Platforms = (), flags: Asking = ASKING) -> None:
    """List the layers of an image, base first: digest, size, created by.

    Args:
        image: HOST[:PORT]/NAME[:TAG][@DIGEST], oci:DIR[:TAG], oci-archive:FILE[:TAG] or
            docker-archive:FILE[:REPO:TAG].
        platform: of an index only this image: OS/ARCH[/VARIANT]; several with commas between.
        flags: see below.
    """
    ask(
        lambda client: client.layers(image, choice=Choice.of(*platform)),
        flags,
        lambda images: "\n".join(_layers_text(each, flags.width) for each in images),
        lambda images: [{**identity(each), **_layers_of(each)} for each in images],
        address=image,
    )


def referrers(image: str, /, *, artifact_type: str | None = None, flags: Asking = ASKING) -> None:
    """List what refers to an image, such as signatures: digest, size, artifact type.

    Args:
        image: HOST[:PORT]/NAME[:TAG][@DIGEST], oci:DIR[:TAG] or oci-archive:FILE[:TAG].
        artifact_type: only those of this type.
        flags: see below.
    """
    ask(
        lambda client: client.referrers(image, artifact_type=artifact_type),
        flags,
        lambda found: _referrers_text(found, flags.width),
        lambda found: {
            "reference": image,
            "referrers": [
                {
                    **_descriptor(each),
                    "artifact_type": each.artifact_type,
                    "annotations": {**each.annotations},
                }
                for each in found
            ],
        },
        address=image,
    )


def _inspection_json(image: str, found: Inspection) -> dict[str, Any]:
    return {
        "reference": image,
        **_descriptor(found.descriptor),
        "images": [
            {
                **_descriptor(each.manifest),
                **identity(each),
                "created": each.created,
                "labels": dict(each.labels),
                "config": _descriptor(each.config) if each.config else None,
                **_layers_of(each),
                "content_size": each.size,
            }
            for each in found.images
        ],
    }


def _descriptor(descriptor: Descriptor) -> dict[str, Any]:
    return {"digest": descriptor.digest, "media_type": descriptor.media_type, "size": descriptor.size}


def _inspection_text(image: str, found: Inspection, width: int | None) -> str:
    lines = [printable(image), *_facts(found.descriptor)]
    if found.images and found.images[0].digest == found.descriptor.digest:
        return "\n".join([*lines, *_image(found.images[0], width)]) + "\n"
    lines.append(f"images      {len(found.images)}")
    for each in found.images:
        lines += ["", *_facts(each.manifest), *_image(each, width)]
    return "\n".join(lines) + "\n"


def _facts(descriptor: Descriptor) -> list[str]:
    return [
        f"digest      {descriptor.digest}",
        f"media type  {printable(descriptor.media_type)}",
        f"size        {exact(descriptor.size)}",
    ]


def _image(image: Image, width: int | None) -> list[str]:
    lines = [f"platform    {printable(str(image.platform))}"] if image.platform else []
    if image.created:
        lines.append(f"created     {printable(image.created)}")
    if image.config is not None:
        lines.append(f"config      {image.config.digest}")
    lines += [f"label       {printable(key)}={printable(value)}" for key, value in image.labels.items()]
    return [*lines, *_layer_table(image, width)]


def identity(image: Image) -> dict[str, Any]:
    """Return the digest and the platform of an image as JSON."""
    return {"digest": image.digest, "platform": str(image.platform) if image.platform else None}


def title(image: Image) -> str:
    """Return the digest and the platform of an image in words."""
    return printable(f"{image.digest} ({image.platform})" if image.platform else image.digest)


def _layers_text(image: Image, width: int | None) -> str:
    return "".join(f"{line}\n" for line in [title(image), *_layer_table(image, width)])


def _layer_table(image: Image, width: int | None) -> list[str]:
    rows = [
        (each.descriptor.digest.short, size(each.descriptor.size), instruction(each.created_by or ""))
        for each in image.layers
    ]
    return [
        *columns([("digest", "size", "created by"), *rows], right=frozenset({1}), width=width),
        f"{number(len(rows), 'layer')}, {exact(sum(each.descriptor.size for each in image.layers))}",
    ]


def _layers_of(image: Image) -> dict[str, Any]:
    return {
        "layers": [{**_descriptor(each.descriptor), "created_by": each.created_by} for each in image.layers]
    }


def _referrers_text(found: tuple[Descriptor, ...], width: int | None) -> str:
    if not found:
        return "nothing refers to it\n"
    # The whole digest, by which a referrer is pulled.
    rows = [(each.digest, size(each.size), printable(each.artifact_type or "")) for each in found]
    table = columns([("digest", "size", "artifact type"), *rows], right=frozenset({1}), width=width)
    return "".join(f"{line}\n" for line in table)
