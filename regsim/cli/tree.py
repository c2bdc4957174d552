"""`regsim tree`: an image's files, the layer that each comes from, and what later layers hide."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from regsim.cli.asking import ask
from regsim.cli.connecting import Connecting
from regsim.cli.output import Format
from regsim.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regsim.client.client import Client
    from regsim.client.contents import ImageTree
    from regsim.image.merged import Merged, Place

_HEADINGS = ("LAYER", "MODE", "OWNER", "SIZE", "PATH")
_LAYER_HEADINGS = ("LAYER", "DIGEST", "COMPRESSED", "FILES", "SIZE", "WASTED", "CREATED BY")


def tree(
    image: str,
    path: str = "/",
    /,
    *,
    depth: int | None = None,
    format: Format = Format.TEXT,  # noqa: A002  (the flag is called --format)
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None,
    platform: Annotated[str | None, Parameter(negative=())] = None,
    connecting: Connecting | None = None,
) -> None:
    """List an image's files, the layer that each comes from, and bytes wasted by later layers.

    A layer's WASTED are bytes of its files that later layers overwrite or delete: they travel all the same.
    SIZE of a directory is that of all files below it.

    Args:
        image: HOST[:PORT]/NAME[:TAG][@DIGEST], oci:DIR[:TAG], oci-archive:FILE[:TAG],
            docker-archive:FILE[:REPO:TAG] or store:REF.
        path: list what is below this path.
        depth: list so many levels.
        format: text or json.
        output: print to this file instead.
        platform: of an index this image: OS/ARCH[/VARIANT].
        connecting: see below.
    """
    if depth is not None and depth < 1:
        raise UsageError(f"a depth of {depth} lists nothing", hint="1 or more")

    async def asked(client: Client) -> tuple[ImageTree, list[Place]]:
        from regsim.image.merged import places  # noqa: PLC0415  (helping reads no tars)
        from regsim.transfer.selection import Choice  # noqa: PLC0415  (helping needs no HTTP client)

        choice = Choice.of(*([platform] if platform is not None else []))
        found = await client.tree(image, choice=choice)
        listed = list(places(found.merged.tree, os.fsencode(path), depth))
        if not listed and path.strip("/."):
            hint = f"regsim tree {image} --depth 1 lists the top"
            raise UsageError(f"{image} has nothing at {path!r:.500}", hint=hint)
        return found, listed

    def render(answer: tuple[ImageTree, list[Place]], form: Format) -> str:
        found, listed = answer
        return _json(found, listed) if form is Format.JSON else _text(found.merged, listed)

    ask(asked, render, connecting, address=image, form=format, output=output)


def _text(merged: Merged, listed: list[Place]) -> str:
    from regsim.core.quantities import exact, percent  # noqa: PLC0415  (helping prints no table)
    from regsim.report.table import columns  # noqa: PLC0415  (likewise)

    count = len(merged.layers)
    total = f"{count} layer{'' if count == 1 else 's'} of {exact(merged.size)}"
    lines = [
        *columns([_HEADINGS, *map(_row, listed)], right=frozenset({0, 3})),
        "",
        *columns([_LAYER_HEADINGS, *_layer_rows(merged)], right=frozenset({0, 2, 3, 4, 5})),
        f"{total}, {merged.wasted:,} of them wasted: efficiency {percent(merged.efficiency)}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _row(place: Place) -> tuple[str, ...]:
    from regsim.core.quantities import size  # noqa: PLC0415  (helping prints no table)
    from regsim.store.entry import Kind, shown  # noqa: PLC0415  (helping reads no tars)

    entry = place.node.entry
    end = "/" if place.node.is_directory else ""
    if entry.kind is Kind.SYMLINK:
        end = f" -> {shown(entry.link)}"
    elif place.same_as is not None:
        end = f" = {shown(place.same_as)}"
    sized = size(place.size) if entry.kind in {Kind.FILE, Kind.DIRECTORY} and place.same_as is None else ""
    return (
        str(place.node.layer),
        _mode(place),
        f"{entry.uid}:{entry.gid}",
        sized,
        f"/{shown(place.path)}{end}",
    )


def _mode(place: Place) -> str:
    from regsim.store.entry import Kind  # noqa: PLC0415  (helping reads no tars)

    types = {
        Kind.FILE: stat.S_IFREG,
        Kind.DIRECTORY: stat.S_IFDIR,
        Kind.SYMLINK: stat.S_IFLNK,
        Kind.CHAR: stat.S_IFCHR,
        Kind.BLOCK: stat.S_IFBLK,
        Kind.FIFO: stat.S_IFIFO,
    }
    return stat.filemode(types[place.node.entry.kind] | place.node.entry.mode)


def _layer_rows(merged: Merged) -> Iterator[tuple[str, ...]]:
    from regsim.core.quantities import size  # noqa: PLC0415  (helping prints no table)
    from regsim.report.table import instruction  # noqa: PLC0415  (likewise)

    for number, layer in enumerate(merged.layers):
        yield (
            str(number),
            layer.layer.descriptor.digest.short,
            size(layer.layer.descriptor.size),
            f"{layer.files:,}",
            size(layer.size),
            size(layer.wasted),
            instruction(layer.layer.created_by or ""),
        )


def _json(found: ImageTree, listed: list[Place]) -> str:
    from regsim.store.entry import shown  # noqa: PLC0415  (helping reads no tars)

    merged, image = found.merged, found.image
    document = {
        "digest": image.digest,
        "platform": str(image.platform) if image.platform else None,
        "size": merged.size,
        "wasted": merged.wasted,
        "efficiency": merged.efficiency,
        "layers": [
            {
                "layer": number,
                "digest": layer.layer.descriptor.digest,
                "compressed_size": layer.layer.descriptor.size,
                "files": layer.files,
                "size": layer.size,
                "wasted": layer.wasted,
                "created_by": layer.layer.created_by,
            }
            for number, layer in enumerate(merged.layers)
        ],
        "lost": [
            {"path": f"/{shown(lost.path)}", "size": lost.size, "layer": lost.layer, "by": lost.by}
            for lost in merged.lost
        ],
        "tree": [_document(place) for place in listed],
    }
    return json.dumps(document, indent=2) + "\n"


def _document(place: Place) -> dict[str, Any]:
    from regsim.store.entry import shown  # noqa: PLC0415  (helping reads no tars)

    entry = place.node.entry
    document: dict[str, Any] = {
        "path": f"/{shown(place.path)}",
        "kind": str(entry.kind),
        "layer": place.node.layer,
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "mtime": entry.mtime_ns // 10**9,
        "size": place.size,
    }
    if entry.link:
        document["link"] = shown(entry.link)
    if place.same_as is not None:
        document["same_as"] = f"/{shown(place.same_as)}"
    return document
