"""`regsim history`: the table of `docker history`, what travels of it, and who shares it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from regsim.cli.asking import ask
from regsim.cli.connecting import Connecting
from regsim.cli.output import Format, printable
from regsim.core.image import moment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Sequence

    from regsim.client.client import Client
    from regsim.client.contents import Histories
    from regsim.core import History
    from regsim.core.image import Image, Layer, Sharing

_HEADINGS = ("IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT", "COMPRESSED", "SHARED BY")
# What docker's command line does: so many letters of an instruction, so wide a column at least, such gaps.
_INSTRUCTION = 45
_COLUMN, _GAP = 10, 3
# Before this, a date is one that somebody set to tell nothing, such as 1970.
_FIRST_DATE = datetime(2000, 1, 1, tzinfo=UTC)
_UNKNOWN = "-"


def history(
    image: str,
    /,
    *,
    no_trunc: Annotated[bool, Parameter(negative=())] = False,
    human: bool = True,
    sizes: Annotated[bool, Parameter(negative=())] = False,
    format: Format = Format.TEXT,  # noqa: A002  (the flag is called --format)
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None,
    platform: Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)] = (),
    connecting: Connecting | None = None,
) -> None:
    """Print an image's history as docker does, with what travels of each layer and who shares it.

    The newest line comes first. SIZE is the files' bytes, COMPRESSED what travels, SHARED BY how many other
    images in view have the layer: of the layout or archive, or of all records. The first five columns are
    docker's.

    Args:
        image: HOST[:PORT]/NAME[:TAG][@DIGEST], oci:DIR[:TAG], oci-archive:FILE[:TAG],
            docker-archive:FILE[:REPO:TAG], store:REF or record:NAME.
        no_trunc: do not shorten digests and instructions.
        human: sizes in readable units, and how long ago instead of dates.
        sizes: fetch layers from the registry to tell SIZE, if the local store lacks them; they are not kept.
        format: text or json.
        output: print to this file instead.
        platform: of an index only this image: OS/ARCH[/VARIANT]; several with commas between.
        connecting: see below.
    """

    def asked(client: Client) -> Awaitable[Histories]:
        from regsim.transfer.selection import Choice  # noqa: PLC0415  (helping needs no HTTP client)

        return client.history(image, choice=Choice.of(*platform), sizes=sizes)

    from regsim.client.address import RECORD  # noqa: PLC0415  (helping needs no addresses)

    render = partial(_render, full=no_trunc, human=human, now=datetime.now(UTC))
    address = None if image.startswith(RECORD) else image
    ask(asked, render, connecting, address=address, form=format, output=output)


def _render(found: Histories, form: Format, *, full: bool, human: bool, now: datetime) -> str:
    images, view = found.images, found.view
    if form is Format.JSON:
        return json.dumps([_document(image, view) for image in images], indent=2) + "\n"
    tables = (table(image, view, full=full, human=human, now=now) for image in images)
    if len(images) == 1:
        return next(tables)
    return "\n".join(f"{_title(image)}\n{each}" for image, each in zip(images, tables, strict=True))


def table(image: Image, view: Sharing, *, full: bool, human: bool, now: datetime) -> str:
    """Return a history as docker prints it, with two more columns.

    Args:
        image: whose.
        view: the images in view, which may share its layers.
        full: with whole digests and instructions.
        human: with readable sizes, and ages in place of dates.
        now: what ages are counted from.
    """
    headings = _HEADINGS if human else (_HEADINGS[0], "CREATED AT", *_HEADINGS[2:])
    rows = [
        _row(line, layer, _shared(image, layer, view, human=human), full=full, human=human, now=now)
        for line, layer in reversed(image.lines)
    ]
    if rows:
        rows[0] = (image.id if full else image.id.short, *rows[0][1:])
    return "".join(f"{line}\n" for line in _columns([headings, *rows]))


def _row(
    line: History, layer: Layer | None, shared: str, *, full: bool, human: bool, now: datetime
) -> tuple[str, ...]:
    created_by = printable(line.created_by.replace("\t", " "))
    if not full and len(created_by) > _INSTRUCTION:
        created_by = f"{created_by[: _INSTRUCTION - 1]}…"
    return (
        "<missing>",
        _created(moment(line.created), human=human, now=now),
        created_by,
        _size(layer.content_size if layer is not None else 0, human=human),
        printable(line.comment or ""),
        _size(layer.descriptor.size if layer is not None else 0, human=human),
        shared,
    )


def _shared(image: Image, layer: Layer | None, view: Sharing, *, human: bool) -> str:
    if layer is None:
        return _UNKNOWN
    shared = view.others(image.digest, layer.descriptor.digest)
    return f"{shared} of {view.others(image.digest)}" if human else str(shared)


def _created(created: datetime | None, *, human: bool, now: datetime) -> str:
    from regsim.core.quantities import age  # noqa: PLC0415  (helping prints no table)

    if created is None:
        return "N/A"
    if not human:
        return _date(created)
    return f"{age((now - created).total_seconds())} ago" if created > _FIRST_DATE else "N/A"


def _date(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _size(count: int | None, *, human: bool) -> str:
    from regsim.core.quantities import size  # noqa: PLC0415  (helping prints no table)

    if count is None:
        return _UNKNOWN
    return size(count) if human else str(count)


def _columns(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(_COLUMN, max(map(len, column)) + _GAP) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _title(image: Image) -> str:
    return printable(f"{image.digest} ({image.platform})" if image.platform else image.digest)


def _document(image: Image, view: Sharing) -> dict[str, Any]:
    return {
        "id": image.id,
        "digest": image.digest,
        "platform": str(image.platform) if image.platform else None,
        "other_images": view.others(image.digest),
        "history": [_line(line, layer, image, view) for line, layer in reversed(image.lines)],
    }


def _line(line: History, layer: Layer | None, image: Image, view: Sharing) -> dict[str, Any]:
    created = moment(line.created)
    document = {
        "created": _date(created) if created is not None else None,
        "created_by": line.created_by,
        "comment": line.comment or "",
        "empty_layer": layer is None,
    }
    if layer is None:
        return {
            **document,
            "size": 0,
            "digest": None,
            "media_type": None,
            "compressed_size": 0,
            "shared_by": None,
        }
    return {
        **document,
        "size": layer.content_size,
        "digest": layer.descriptor.digest,
        "media_type": layer.descriptor.media_type,
        "compressed_size": layer.descriptor.size,
        "shared_by": view.others(image.digest, layer.descriptor.digest),
    }
