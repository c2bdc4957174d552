"""`regsim df`, `rmi` and `prune`: what stored images take, and removing some."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from regsim.cli.asking import ask
from regsim.cli.output import Format, printable
from regsim.errors import UsageError

if TYPE_CHECKING:
    from regsim.image.store import Inventory, Removed, StoredImage

Output = Annotated[Path | None, Parameter(name=("--output", "-o"))]


def df(
    store: str | None = None,
    /,
    *,
    format: Format = Format.TEXT,  # noqa: A002  (the flag is called --format)
    output: Output = None,
) -> None:
    """Tell what each stored image takes, shares with others, and would free.

    UNIQUE SIZE is what removing the image, with all its names, frees; SHARED SIZE is held by others too.

    Args:
        store: an OCI layout's directory; the local store if left out.
        format: text or json.
        output: print to this file instead.
    """
    ask(lambda client: client.usage(store), _usage, None, form=format, output=output)


def rmi(
    *images: str,
    store: str | None = None,
    format: Format = Format.TEXT,  # noqa: A002  (the flag is called --format)
    output: Output = None,
) -> None:
    """Remove stored images and free what no other image holds.

    Args:
        images: references as df lists them, or digests, or the beginnings of their digits.
        store: an OCI layout's directory; the local store if left out.
        format: text or json.
        output: print to this file instead.
    """
    if not images:
        raise UsageError("rmi removes nothing unless an image is named", hint="regsim df lists them")
    ask(lambda client: client.remove(*images, store=store), _removed, None, form=format, output=output)


def prune(
    store: str | None = None,
    /,
    *,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    format: Format = Format.TEXT,  # noqa: A002  (the flag is called --format)
    output: Output = None,
) -> None:
    """Free what no stored image holds: replaced images, leavings of interrupted pulls.

    Args:
        store: an OCI layout's directory; the local store if left out.
        dry_run: free nothing, and tell what would be freed.
        format: text or json.
        output: print to this file instead.
    """

    def render(removed: Removed, form: Format) -> str:
        return _removed(removed, form, freed="would free" if dry_run else "freed")

    ask(lambda client: client.prune(store, dry_run=dry_run), render, None, form=format, output=output)


def _usage(inventory: Inventory, form: Format) -> str:
    sharing = inventory.sharing
    if form is Format.JSON:
        document = {
            "images": [_document(image, sharing.unique(image.digest)) for image in inventory.images],
            "total": {
                "images": len(inventory.images),
                "size": sharing.referenced,
                "stored": sharing.stored,
                "saved": sharing.saved,
                "unreferenced": sum(inventory.unreferenced().values()),
            },
        }
        return json.dumps(document, indent=2) + "\n"
    return "\n".join(_table(inventory)) + "\n"


def _document(image: StoredImage, unique: int) -> dict[str, Any]:
    return {
        "digest": image.digest,
        "names": list(image.names),
        "layers": len(image.layers),
        "missing": image.missing,
        "size": image.size,
        "shared_size": image.size - unique,
        "unique_size": unique,
    }


def _table(inventory: Inventory) -> list[str]:
    from regsim.core.quantities import exact, percent, size  # noqa: PLC0415  (helping prints no table)
    from regsim.report.table import columns  # noqa: PLC0415  (likewise)

    sharing = inventory.sharing
    rows = [
        (
            printable(", ".join(image.names)) or "(by digest)",
            image.digest.short,
            size(image.size),
            size(image.size - sharing.unique(image.digest)),
            size(sharing.unique(image.digest)),
        )
        for image in inventory.images
    ]
    headings = ("IMAGE", "DIGEST", "SIZE", "SHARED SIZE", "UNIQUE SIZE")
    count = len(inventory.images)
    lines = [*columns([headings, *rows], right=frozenset({2, 3, 4}))] if rows else []
    lines.append(
        f"{count} image{'' if count == 1 else 's'} of {exact(sharing.referenced)} "
        f"take {exact(sharing.stored)}: sharing saves {exact(sharing.saved)} ({percent(sharing.saved_ratio)})"
    )
    missing = sum(image.missing for image in inventory.images)
    if missing:
        lines.append(f"{missing} blobs that they name are not here")
    if unreferenced := inventory.unreferenced():
        lines.append(f"no image holds {exact(sum(unreferenced.values()))}; regsim prune frees them")
    return lines


def _removed(removed: Removed, form: Format, *, freed: str = "freed") -> str:
    from regsim.core.quantities import exact  # noqa: PLC0415  (helping prints nothing)

    if form is Format.JSON:
        document = {
            "names": list(removed.names),
            "images": list(removed.images),
            "blobs": removed.blobs,
            "bytes": removed.bytes,
        }
        return json.dumps(document, indent=2) + "\n"
    lines = [f"untagged {printable(name)}" for name in removed.names]
    lines += [f"removed {digest}" for digest in removed.images]
    lines.append(f"{freed} {exact(removed.bytes)} in {removed.blobs} blob{'' if removed.blobs == 1 else 's'}")
    return "\n".join(lines) + "\n"
