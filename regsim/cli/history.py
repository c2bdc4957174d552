"""`regsim history` and `tree`: what each instruction of an image added, and the files of its layers."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from regsim.cli.connecting import ASKING, Asking
from regsim.cli.documents import identity, title
from regsim.cli.output import Platforms, printable
from regsim.cli.running import ask
from regsim.client.image_address import RECORD
from regsim.core.image import moment
from regsim.core.quantities import age, exact, number, percent, size
from regsim.core.selection import Choice
from regsim.errors import UsageError
from regsim.image.merged import places
from regsim.report.table import columns, instruction
from regsim.store.entry import Kind, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regsim.client.client import Client
    from regsim.client.contents import Histories, ImageTree
    from regsim.core import History
    from regsim.core.image import Image, Layer, Sharing
    from regsim.image.merged import Merged, Place

_HEADINGS = ("IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT", "COMPRESSED", "SHARED BY")
# As docker's command line does: letters of an instruction, a column's least width, and the gap after it.
_INSTRUCTION = 45
_COLUMN, _GAP = 10, 3
# An earlier date was set for reproducibility, such as 1970, and says nothing.
_FIRST_DATE = datetime(2000, 1, 1, tzinfo=UTC)
_UNKNOWN = "-"

_TREE_HEADINGS = ("LAYER", "MODE", "OWNER", "SIZE", "PATH")
_LAYER_HEADINGS = ("LAYER", "DIGEST", "COMPRESSED", "FILES", "SIZE", "WASTED", "CREATED BY")
_TYPES = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.CHAR: stat.S_IFCHR,
    Kind.BLOCK: stat.S_IFBLK,
    Kind.FIFO: stat.S_IFIFO,
}


def history(
    image: str,
    /,
    *,
    no_trunc: Annotated[bool, Parameter(negative=())] = False,
    human: bool = True,
    sizes: Annotated[bool, Parameter(negative=())] = False,
    platform: Platforms = (),
    flags: Asking = ASKING,
) -> None:
    """Print an image's history as docker does, with each layer's compressed size and sharing.

    The newest line comes first. SIZE is the files' bytes, COMPRESSED what is transferred, SHARED BY how many
    other images of the layout or archive, or of all records, have the layer. The first five columns are
    docker's.

    Args:
        image: HOST[:PORT]/NAME[:TAG][@DIGEST], oci:DIR[:TAG], oci-archive:FILE[:TAG],
            docker-archive:FILE[:REPO:TAG], store:REF or record:NAME.
        no_trunc: do not shorten digests and instructions.
        human: sizes in readable units, and how long ago instead of dates.
        sizes: fetch layers that the local store lacks, to print SIZE; they are not kept.
        platform: of an index only this image: OS/ARCH[/VARIANT]; several with commas between.
        flags: see below.
    """
    now = datetime.now(UTC)

    def render(found: Histories) -> str:
        tables = [
            history_table(each, found.view, full=no_trunc, human=human, now=now) for each in found.images
        ]
        if len(tables) == 1:
            return tables[0]
        return "\n".join(f"{title(each)}\n{table}" for each, table in zip(found.images, tables, strict=True))

    ask(
        lambda client: client.history(image, choice=Choice.of(*platform), sizes=sizes),
        flags,
        render,
        lambda found: [_history_json(each, found.view) for each in found.images],
        address=None if image.startswith(RECORD) else image,
    )


def tree(
    image: str,
    path: str = "/",
    /,
    *,
    depth: int | None = None,
    platform: Annotated[str | None, Parameter(negative=())] = None,
    flags: Asking = ASKING,
) -> None:
    """List an image's files, the layer that each comes from, and bytes wasted by later layers.

    A layer's WASTED are bytes of its files that later layers overwrite or delete: they are transferred all
    the same. SIZE of a directory is that of all files below it.

    Args:
        image: HOST[:PORT]/NAME[:TAG][@DIGEST], oci:DIR[:TAG], oci-archive:FILE[:TAG],
            docker-archive:FILE[:REPO:TAG] or store:REF.
        path: list what is below this path.
        depth: list this many levels.
        platform: of an index this image: OS/ARCH[/VARIANT].
        flags: see below.
    """
    if depth is not None and depth < 1:
        raise UsageError(f"--depth {depth} lists nothing", hint="write 1 or more")

    async def asked(client: Client) -> tuple[ImageTree, list[Place]]:
        choice = Choice.of(*([platform] if platform is not None else []))
        found = await client.tree(image, choice=choice)
        listed = list(places(found.merged.tree, os.fsencode(path), depth))
        if not listed and path.strip("/."):
            hint = f"regsim tree {image} --depth 1 lists the top"
            raise UsageError(f"{image} has nothing at {path!r:.500}", hint=hint)
        return found, listed

    ask(asked, flags, lambda answer: _tree_text(*answer, flags.width), _tree_json, address=image)


def history_table(image: Image, view: Sharing, *, full: bool, human: bool, now: datetime) -> str:
    """Return a history as docker prints it, with two more columns.

    Args:
        image: whose history.
        view: the images that may share its layers.
        full: with whole digests and instructions.
        human: with readable sizes, and ages in place of dates.
        now: what ages are counted from.
    """
    headings = _HEADINGS if human else (_HEADINGS[0], "CREATED AT", *_HEADINGS[2:])
    others = f" of {view.others(image.digest)}" if human else ""
    rows: list[tuple[str, ...]] = []
    for line, layer in reversed(image.lines):
        created_by = printable(line.created_by.replace("\t", " "))
        if not full and len(created_by) > _INSTRUCTION:
            created_by = f"{created_by[: _INSTRUCTION - 1]}…"
        shared = view.others(image.digest, layer.descriptor.digest) if layer is not None else None
        row = (
            image.id if full else image.id.short,
            _created(moment(line.created), human=human, now=now),
            created_by,
            _size(layer.content_size if layer is not None else 0, human=human),
            printable(line.comment or ""),
            _size(layer.descriptor.size if layer is not None else 0, human=human),
            f"{shared}{others}" if shared is not None else _UNKNOWN,
        )
        rows.append(("<missing>", *row[1:]) if rows else row)
    widths = [max(_COLUMN, max(map(len, column)) + _GAP) for column in zip(headings, *rows, strict=True)]
    padded = ("".join(map(str.ljust, row, widths)).rstrip() for row in (headings, *rows))
    return "".join(f"{row}\n" for row in padded)


def _created(created: datetime | None, *, human: bool, now: datetime) -> str:
    if created is None:
        return "N/A"
    if not human:
        return _date(created)
    return f"{age((now - created).total_seconds())} ago" if created > _FIRST_DATE else "N/A"


def _date(time: datetime) -> str:
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")


def _size(count: int | None, *, human: bool) -> str:
    if count is None:
        return _UNKNOWN
    return size(count) if human else str(count)


def _history_json(image: Image, view: Sharing) -> dict[str, Any]:
    return {
        "id": image.id,
        **identity(image),
        "other_images": view.others(image.digest),
        "history": [_line_json(line, layer, image, view) for line, layer in reversed(image.lines)],
    }


def _line_json(line: History, layer: Layer | None, image: Image, view: Sharing) -> dict[str, Any]:
    created = moment(line.created)
    return {
        "created": _date(created) if created is not None else None,
        "created_by": line.created_by,
        "comment": line.comment or "",
        "empty_layer": layer is None,
        "size": layer.content_size if layer is not None else 0,
        "digest": layer.descriptor.digest if layer is not None else None,
        "media_type": layer.descriptor.media_type if layer is not None else None,
        "compressed_size": layer.descriptor.size if layer is not None else 0,
        "shared_by": view.others(image.digest, layer.descriptor.digest) if layer is not None else None,
    }


def _tree_text(found: ImageTree, listed: list[Place], width: int | None) -> str:
    merged = found.merged
    total = f"{number(len(merged.layers), 'layer')} of {exact(merged.size)}"
    lines = [
        *columns([_TREE_HEADINGS, *map(_place_row, listed)], right=frozenset({0, 3}), width=width),
        "",
        *columns([_LAYER_HEADINGS, *_layer_rows(merged)], right=frozenset({0, 2, 3, 4, 5}), width=width),
        f"{total}, {merged.wasted:,} of them wasted: efficiency {percent(merged.efficiency)}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _place_row(place: Place) -> tuple[str, ...]:
    entry = place.node.entry
    end = "/" if place.node.is_directory else ""
    if entry.kind is Kind.SYMLINK:
        end = f" -> {shown(entry.link)}"
    elif place.same_as is not None:
        end = f" = {shown(place.same_as)}"
    sized = size(place.size) if entry.kind in {Kind.FILE, Kind.DIRECTORY} and place.same_as is None else ""
    return (
        str(place.node.layer),
        stat.filemode(_TYPES[entry.kind] | entry.mode),
        f"{entry.uid}:{entry.gid}",
        sized,
        f"/{shown(place.path)}{end}",
    )


def _layer_rows(merged: Merged) -> Iterator[tuple[str, ...]]:
    for index, layer in enumerate(merged.layers):
        yield (
            str(index),
            layer.layer.descriptor.digest.short,
            size(layer.layer.descriptor.size),
            f"{layer.files:,}",
            size(layer.size),
            size(layer.wasted),
            instruction(layer.layer.created_by or ""),
        )


def _tree_json(answer: tuple[ImageTree, list[Place]]) -> dict[str, Any]:
    found, listed = answer
    merged, image = found.merged, found.image
    return {
        **identity(image),
        "size": merged.size,
        "wasted": merged.wasted,
        "efficiency": merged.efficiency,
        "layers": [
            {
                "layer": index,
                "digest": layer.layer.descriptor.digest,
                "compressed_size": layer.layer.descriptor.size,
                "files": layer.files,
                "size": layer.size,
                "wasted": layer.wasted,
                "created_by": layer.layer.created_by,
            }
            for index, layer in enumerate(merged.layers)
        ],
        "lost": [
            {"path": f"/{shown(lost.path)}", "size": lost.size, "layer": lost.layer, "by": lost.by}
            for lost in merged.lost
        ],
        "tree": [_place_json(place) for place in listed],
    }


def _place_json(place: Place) -> dict[str, Any]:
    entry = place.node.entry
    found: dict[str, Any] = {
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
        found["link"] = shown(entry.link)
    if place.same_as is not None:
        found["same_as"] = f"/{shown(place.same_as)}"
    return found
