"""The page at ``/``, for people: what the registry holds, what sharing saves, what the journal adds up to.

Owns the order of the sections and what a browser is allowed. All text that clients chose (names, media types)
is cut, made legible and escaped. There is no script, and the policy allows none.

A look at the page is journalled like every other request, since the journal has all of them, and a client
that requests ``/`` by mistake should be noticed. It has its own route, and the totals on the page leave
that route out.
"""

import hashlib
import pkgutil
import re
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from itertools import islice
from string import Template

from mock_registry.asgi import Headers
from mock_registry.exchange import Exchange, Response
from mock_registry.manifest import Manifest
from mock_registry.service import Service
from mock_registry.spec import INDEXES

from .html import Html, Node, element, in_units, join, legible, short_digest, table
from .survey import Survey, Total, survey, traffic

ROWS = 500
"""Rows of one table, so that the page stays small whatever is stored."""

_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


async def get_page(service: Service, exchange: Exchange) -> Response:
    """Show what the client may read, as one page that needs nothing else."""
    template, headers = _template()
    access = exchange.access
    found = survey(service.state, access.sees)
    reader = "everyone" if access.user is None else legible(access.user)
    content = join(
        element("h1", "mock_registry"),
        element("p", "What ", element("bdi", reader), " may read of this registry.", class_="quiet"),
        element("p", _sharing(found)),
        element("h2", "Images"),
        _images(found),
        element("h2", "Layers"),
        _layers(found),
        element("h2", "Journal"),
        _journal(traffic(service.journal, access)),
        element(
            "footer",
            "Sizes are of blobs as they are stored; 1 kB is 1000 bytes. ",
            "The journal's totals leave out requests for this page.",
        ),
    )
    body = template.substitute(content=content).encode()
    return Response(200, [*headers, (b"content-type", b"text/html; charset=utf-8")], body)


@cache
def _template() -> tuple[Template, Headers]:
    """Return the page's frame, and the headers that allow its style and nothing else."""
    text = (pkgutil.get_data(__name__, "page.html") or b"").decode()
    style = "".join(_STYLE.findall(text)).encode()
    policy = b"; ".join(
        (
            b"default-src 'none'",
            b"style-src 'sha256-%b'" % b64encode(hashlib.sha256(style).digest()),
            b"img-src data:",  # the empty icon, or browsers would ask for one, and the journal would show it
            b"base-uri 'none'",
            b"form-action 'none'",
            b"frame-ancestors 'none'",
        )
    )
    headers = [
        (b"content-security-policy", policy),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"cache-control", b"no-store"),
    ]
    return Template(text), headers


def _sharing(found: Survey) -> str:
    whole = found.stored + found.saved
    if not whole:
        return "No layers are stored."
    return (
        f"Without sharing, the images would take {in_units(whole)}. Each layer is stored once: "
        f"{in_units(found.stored)} stored, {in_units(found.saved)} ({100 * found.saved / whole:.1f} %) saved."
    )


def _images(found: Survey) -> Html:
    rows = (
        (
            *_what(found, manifest),
            short_digest(manifest.digest),
            element("bdi", repository.name),
            element("bdi", legible(", ".join(tags))) if tags else "untagged",
        )
        for repository, manifest, tags in found.images()
    )
    heads = ("Size", "What", "Manifest", "Repository", "Tags")
    return table(heads, islice(rows, ROWS), found.manifests, numbers=1)


def _what(found: Survey, manifest: Manifest) -> Sequence[Node]:
    """Return the bytes of a manifest's layers that are here, and what kind it is of."""
    if manifest.media_type in INDEXES:
        return "", f"index of {len(manifest.successors):,}"
    sizes = [found.layers[digest].size for digest in dict(manifest.layers) if digest in found.layers]
    count = len(manifest.layers)
    return in_units(sum(sizes)), f"image of {count:,} {'layer' if count == 1 else 'layers'}"


def _layers(found: Survey) -> Html:
    """Return the table of layers, those that save most first."""
    rows = (
        (
            in_units(layer.saved),
            in_units(layer.size),
            f"{layer.images:,}",
            short_digest(layer.digest),
            "no image names it" if layer.media_type is None else legible(layer.media_type),
            element("bdi", legible(", ".join(layer.repositories))),
        )
        for layer in islice(found.layers.values(), ROWS)
    )
    heads = ("Saves", "Size", "Images", "Layer", "Media type", "Repositories")
    return table(heads, rows, len(found.layers), numbers=3)


def _journal(totals: dict[str, Total]) -> Html:
    """Return the journal's totals, route by route."""
    rows = (
        (*(f"{each:,}" for each in (total.requests, total.bytes_in, total.bytes_out)), route)
        for route, total in totals.items()
    )
    return table(("Requests", "Bytes in", "Bytes out", "Route"), rows, len(totals), numbers=3)
