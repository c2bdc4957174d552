"""`regsim ls`, `catalog`, `tag`, `delete`, `df`, `rmi` and `prune`: what is stored, and removing it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any

from cyclopts import Parameter

from regsim.cli.connecting import ASKING, Asking
from regsim.cli.output import PRINTING, Printing, printable
from regsim.cli.running import ask
from regsim.client.image_address import parse
from regsim.core import Reference
from regsim.core.quantities import exact, number, percent, size
from regsim.errors import UsageError
from regsim.image.store import Inventory, Removed
from regsim.report.table import columns


def ls(repository: str, /, *, flags: Asking = ASKING) -> None:
    """List all tags of a repository, one per line.

    Args:
        repository: HOST[:PORT]/NAME or oci:DIR.
        flags: see below.
    """
    ask(
        lambda client: client.tags(repository),
        flags,
        _lines,
        lambda tags: {"repository": repository, "tags": list(tags)},
        address=repository,
    )


def catalog(host: str, /, *, flags: Asking = ASKING) -> None:
    """List all repositories of a registry, one per line, if it offers a catalog.

    Args:
        host: HOST[:PORT], or an http or https URL of one.
        flags: see below.
    """
    ask(
        lambda client: client.catalog(host),
        flags,
        _lines,
        lambda repositories: {"registry": host, "repositories": list(repositories)},
        host=host,
    )


def tag(image: str, tag: str, /, *, flags: Asking = ASKING) -> None:
    """Give an image another tag in the same repository, without moving a layer.

    Args:
        image: HOST[:PORT]/NAME[:TAG][@DIGEST] or oci:DIR[:TAG].
        tag: the new tag.
        flags: see below.
    """
    ask(
        lambda client: client.tag(image, tag),
        flags,
        lambda found: f"{tag} {found.digest}\n",
        lambda found: {
            "tag": tag,
            "digest": found.digest,
            "media_type": found.media_type,
            "size": found.size,
        },
        address=image,
    )


def delete(image: str, /, *, flags: Asking = ASKING) -> None:
    """Delete a tag, or an image by its digest.

    A digest takes all tags of the image with it. Blobs stay until the registry collects garbage.

    Args:
        image: HOST[:PORT]/NAME:TAG, HOST[:PORT]/NAME@DIGEST or oci:DIR[:TAG].
        flags: see below.
    """
    if isinstance(parse(image), Reference) and not {":", "@"} & {*image.rpartition("/")[2]}:
        hint = f"name a tag or a digest, such as {image}:latest; regsim ls {image} lists the tags"
        raise UsageError(f"{image} does not say what to delete", hint=hint)
    ask(
        lambda client: client.delete(image),
        flags,
        lambda _: f"deleted {printable(image)}\n",
        lambda _: {"deleted": image},
        address=image,
    )


def df(store: str | None = None, /, *, flags: Printing = PRINTING) -> None:
    """Print the disk space that each stored image takes, shares with others, and would free.

    UNIQUE SIZE is what removing the image, with all its names, frees; SHARED SIZE is held by others too.

    Args:
        store: an OCI layout's directory; the local store if left out.
        flags: see below.
    """
    ask(
        lambda client: client.usage(store),
        flags,
        lambda inventory: _usage_text(inventory, flags.width),
        _usage_json,
    )


def rmi(*images: str, store: str | None = None, flags: Printing = PRINTING) -> None:
    """Remove stored images and free what no other image holds.

    Args:
        images: references as df lists them, or digests, or the first digits of one.
        store: an OCI layout's directory; the local store if left out.
        flags: see below.
    """
    if not images:
        raise UsageError("rmi removes nothing unless an image is named", hint="regsim df lists them")
    ask(lambda client: client.remove(*images, store=store), flags, _removed_text("freed"), asdict)


def prune(
    store: str | None = None,
    /,
    *,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    flags: Printing = PRINTING,
) -> None:
    """Free what no stored image holds: replaced images, and what interrupted pulls left.

    Args:
        store: an OCI layout's directory; the local store if left out.
        dry_run: free nothing, and print what would be freed.
        flags: see below.
    """
    ask(
        lambda client: client.prune(store, dry_run=dry_run),
        flags,
        _removed_text("would free" if dry_run else "freed"),
        asdict,
    )


def _lines(names: Sequence[str]) -> str:
    return "".join(f"{printable(each)}\n" for each in names)


def _usage_json(inventory: Inventory) -> dict[str, Any]:
    sharing = inventory.sharing
    return {
        "images": [
            {
                "digest": image.digest,
                "names": list(image.names),
                "layers": len(image.layers),
                "missing": image.missing,
                "size": image.size,
                "shared_size": image.size - sharing.unique(image.digest),
                "unique_size": sharing.unique(image.digest),
            }
            for image in inventory.images
        ],
        "total": {
            "images": len(inventory.images),
            "size": sharing.referenced,
            "stored": sharing.stored,
            "saved": sharing.saved,
            "unreferenced": sum(inventory.unreferenced().values()),
        },
    }


def _usage_text(inventory: Inventory, width: int | None) -> str:
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
    lines = [*columns([headings, *rows], right=frozenset({2, 3, 4}), width=width)] if rows else []
    takes = "takes" if len(rows) == 1 else "take"
    lines.append(
        f"{number(len(rows), 'image')} of {exact(sharing.referenced)} {takes} {exact(sharing.stored)}: "
        f"sharing saves {exact(sharing.saved)} ({percent(sharing.saved_ratio)})"
    )
    missing = sum(image.missing for image in inventory.images)
    if missing:
        lines.append(f"{number(missing, 'blob')} of theirs {'is' if missing == 1 else 'are'} missing")
    if unreferenced := inventory.unreferenced():
        lines.append(f"no image holds {exact(sum(unreferenced.values()))}; regsim prune frees them")
    return "".join(f"{line}\n" for line in lines)


def _removed_text(freed: str) -> Callable[[Removed], str]:
    def render(removed: Removed) -> str:
        lines = [f"untagged {printable(name)}" for name in removed.names]
        lines += [f"removed {digest}" for digest in removed.images]
        lines.append(f"{freed} {exact(removed.bytes)} in {number(removed.blobs, 'blob')}")
        return "".join(f"{line}\n" for line in lines)

    return render
