"""`regsim layers`: what an image is made of, as it travels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from regsim.cli.addresses import parse
from regsim.cli.output import Format, write
from regsim.cli.running import run


def layers(
    image: str,
    *,
    format: Format = Format.TEXT,  # noqa: A002  (the flag is called --format)
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None,
    plain_http: bool = False,
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
    from regsim.cli.listing import listing, render  # noqa: PLC0415  (helping needs no HTTP client)

    images = run(listing(parse(image), plain_http=plain_http, tls_verify=tls_verify))
    write(render(images, form=format), output)
