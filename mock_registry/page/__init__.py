"""The page at ``/``, for people: what the registry holds, what sharing saves, what the journal adds up to.

Owns the order of the sections and what a browser is allowed. All text that clients chose (names, media types,
annotations, what a config says) is cut, made legible and escaped. There is no script, and the policy lets
none run.

A look at the page is journalled like every other request, since the journal is an account of all of them and
a client that asks for ``/`` by mistake should be found out. It has a route of its own, so that it can be told
apart, and the totals on the page leave that route out.
"""

import hashlib
import pkgutil
import re
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from string import Template

from mock_registry.access import Access
from mock_registry.asgi import Headers
from mock_registry.exchange import Exchange, Response
from mock_registry.service import Service

from .html import (
    NOTHING,
    TEXT,
    Html,
    Node,
    anchor,
    and_more,
    as_table,
    counted,
    element,
    in_units,
    join,
    legible,
    short_digest,
    some_names,
)
from .images import Images
from .survey import Layer, Survey, Total, Traffic, survey, traffic

LAYERS = 500
"""Layers that are listed."""

_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


async def get_page(service: Service, exchange: Exchange) -> Response:
    """Show what the client may read, as one page that needs nothing else."""
    template, headers = _template()
    body = template.substitute(content=_content(service, exchange.access)).encode()
    return Response(200, [*headers, (b"content-type", b"text/html; charset=utf-8")], body)


@cache
def _template() -> tuple[Template, Headers]:
    """Return the page's frame, and the headers that allow its style and nothing else."""
    octets = pkgutil.get_data(__name__, "page.html") or b""
    text = octets.decode()
    style = "".join(_STYLE.findall(text)).encode()
    allowed = b64encode(hashlib.sha256(style).digest())
    policy = b"; ".join(
        (
            b"default-src 'none'",
            b"style-src 'sha256-%b'" % allowed,
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


def _content(service: Service, access: Access) -> Html:
    """Return all that is in the body. There is no pause in it, so that nothing changes meanwhile."""
    found = survey(service.state, access.sees)
    reader = "everyone" if access.user is None else legible(access.user, TEXT)
    return join(
        element(
            "header",
            element("h1", "mock_registry"),
            element("p", "What ", element("bdi", reader), " may read of this registry.", class_="quiet"),
        ),
        element(
            "main",
            _figures(found),
            _sharing(found),
            element("h2", "Repositories"),
            Images(service.state, found).section(),
            element("h2", "Layers"),
            _layers(found),
            element("h2", "Journal"),
            _journal(traffic(service.journal, access)),
        ),
        element(
            "footer",
            "Sizes are of blobs as they are stored; 1 kB is 1000 bytes. ",
            "The journal's totals leave out requests for this page.",
        ),
    )


def _figures(found: Survey) -> Html:
    """Return the six figures at the top."""
    tags = sum(len(repository.tags) for repository in found.repositories)
    manifests = sum(len(repository.manifests) for repository in found.repositories)
    figures = [
        ("Repositories", f"{len(found.repositories):,}", None),
        ("Tags", f"{tags:,}", None),
        ("Manifests", f"{manifests:,}", None),
        ("Layers", f"{len(found.layers):,}", None),
        ("Stored", in_units(found.stored), None),
        ("Sharing saves", in_units(found.saved), "main"),
    ]
    return element(
        "dl",
        *(
            element("div", element("dt", name), element("dd", value), class_=kind)
            for name, value, kind in figures
        ),
        class_="figures",
    )


def _sharing(found: Survey) -> Html | None:
    """Return what sharing saves, if anything is stored."""
    whole = found.stored + found.saved
    if not whole:
        return None
    share = 100 * found.saved / whole
    bar = element(
        "svg",
        element("rect", class_="all", width=100, height=12),
        element("rect", class_="part", width=f"{share:.2f}", height=12),
        class_="bar",
        viewBox="0 0 100 12",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{share:.1f} % saved",
    )
    told = (
        f"Without sharing, the images would take {in_units(whole)}. Each layer is stored once: "
        f"{in_units(found.stored)} stored, {in_units(found.saved)} ({share:.1f} %) saved."
    )
    return element("div", element("p", told), bar, class_="card")


def _layers(found: Survey) -> Html:
    """Return the table of layers, those that save most first."""
    if not found.layers:
        return element("p", "No layers.", class_="card none")
    shown = list(found.layers.values())[:LAYERS]
    heads = ("Saves", "Size", "Images", "Layer", "Media type", "Repositories")
    table = as_table(
        heads, map(_layer_row, shown), numbers=range(3), anchors=[anchor(each.digest) for each in shown]
    )
    return element("div", table, and_more(len(found.layers) - len(shown), "layer", "layers"), class_="card")


def _layer_row(layer: Layer) -> Sequence[Node]:
    unnamed = element("span", "no image names it", class_="none")
    return (
        in_units(layer.saved) if layer.saved else NOTHING,
        in_units(layer.size),
        f"{layer.images:,}",
        short_digest(layer.digest),
        unnamed if layer.media_type is None else legible(layer.media_type, TEXT),
        some_names(layer.repositories),
    )


def _journal(told: Traffic) -> Html:
    """Return the journal's totals, route by route."""
    heads = ("Route", "Requests", "Bytes in", "Bytes out", "4xx, 5xx", "Incomplete", "Faults")
    rows = [_total_row(total, route) for route, total in told.routes.items()]
    table = as_table(heads, rows, numbers=range(1, 7), last=_total_row(told.whole, "all"))
    older = f"{counted(told.older, 'older record is', 'older records are')} not counted."
    return element("div", table, element("p", older, class_="quiet") if told.older else None, class_="card")


def _total_row(total: Total, name: str) -> Sequence[Node]:
    odd = (total.refused, total.incomplete, total.faults)
    return (
        name,
        f"{total.requests:,}",
        f"{total.bytes_in:,}",
        f"{total.bytes_out:,}",
        *(element("span", f"{each:,}", class_="alarm" if each else "none") for each in odd),
    )
