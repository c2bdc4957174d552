"""`regsim referrers`: what refers to an image, such as its signatures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from regsim.cli.asking import ask
from regsim.cli.connecting import Connecting
from regsim.cli.output import Format, printable

if TYPE_CHECKING:
    from regsim.core import Descriptor


def referrers(
    image: str,
    /,
    *,
    artifact_type: str | None = None,
    format: Format = Format.TEXT,  # noqa: A002  (the flag is called --format)
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None,
    connecting: Connecting | None = None,
) -> None:
    """List what refers to an image, such as signatures: digest, size, artifact type.

    Args:
        image: HOST[:PORT]/NAME[:TAG][@DIGEST], oci:DIR[:TAG] or oci-archive:FILE[:TAG].
        artifact_type: only those of this type.
        format: text or json.
        output: print to this file instead.
        connecting: see below.
    """

    def render(found: tuple[Descriptor, ...], form: Format) -> str:
        if form is Format.JSON:
            document = {"reference": image, "referrers": [_document(each) for each in found]}
            return json.dumps(document, indent=2) + "\n"
        return "".join(f"{line}\n" for line in _table(found))

    ask(
        lambda client: client.referrers(image, artifact_type=artifact_type),
        render,
        connecting,
        address=image,
        form=format,
        output=output,
    )


def _table(found: tuple[Descriptor, ...]) -> list[str]:
    from regsim.core.quantities import size  # noqa: PLC0415  (helping prints no table)
    from regsim.report.table import columns  # noqa: PLC0415  (likewise)

    if not found:
        return ["nothing refers to it"]
    # The whole digest: by it they are pulled. The type is the maker's word.
    rows = [(each.digest, size(each.size), printable(each.artifact_type or "")) for each in found]
    return list(columns([("digest", "size", "artifact type"), *rows], right=frozenset({1})))


def _document(descriptor: Descriptor) -> dict[str, Any]:
    return {
        "digest": descriptor.digest,
        "media_type": descriptor.media_type,
        "size": descriptor.size,
        "artifact_type": descriptor.artifact_type,
        "annotations": dict(descriptor.annotations),
    }
