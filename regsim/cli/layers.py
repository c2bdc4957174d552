"""`regsim layers`: what an image is made of, as it travels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from regsim.cli.addresses import parse
from regsim.cli.output import Format, check_outputs, status, write
from regsim.errors import RegsimError
from regsim.result import error_document

if TYPE_CHECKING:
    from regsim.cli.listing import Listed


def layers(
    image: str,
    /,
    *,
    format: Format = Format.TEXT,  # noqa: A002  (the flag is called --format)
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None,
    plain_http: Annotated[bool, Parameter(negative=())] = False,
    tls_verify: bool = True,
) -> None:
    """List the layers of an image, base first: digest, size, created by.

    Args:
        image: HOST[:PORT]/NAME[:TAG][@DIGEST] or oci:DIR[:TAG].
        format: text or json.
        output: print to this file instead.
        plain_http: speak plain HTTP to a registry that is not on this machine.
        tls_verify: check the registry's certificate.
    """
    try:
        images = _images(image, output=output, plain_http=plain_http, tls_verify=tls_verify)
    except RegsimError as error:
        if format is Format.JSON:
            write(json.dumps({"error": error_document(error)}, indent=2) + "\n", output)
        raise
    from regsim.cli.listing import render  # noqa: PLC0415  (helping needs no HTTP client)

    write(render(images, form=format), output)


def _images(image: str, *, output: Path | None, plain_http: bool, tls_verify: bool) -> list[Listed]:
    address = parse(image)
    check_outputs(output)
    from regsim.cli.listing import listing  # noqa: PLC0415  (helping needs no HTTP client)
    from regsim.cli.running import run  # noqa: PLC0415  (likewise)

    return run(listing(address, plain_http=plain_http, tls_verify=tls_verify, warn=status))
