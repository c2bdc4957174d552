"""The page at ``/``, for people: what the registry holds, what sharing saves, what the journal adds up to.

Owns the order of the sections and what a browser is allowed. All text that clients chose (names, media types,
annotations, what a config says) is cut, made legible and escaped. There is no script, and the policy lets
none run.

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
from string import Template

from mock_registry.access import Access
from mock_registry.asgi import Headers
from mock_registry.exchange import Exchange, Response
from mock_registry.service import Service

from . import html
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


def _content(service: Service, access: Access) -> html.Html:
    """Return all that is in the body. There is no pause in it, so that nothing changes meanwhile."""
    found = survey(service.state, access.sees)
    reader = "everyone" if access.user is None else html.legible(access.user, html.TEXT)
    return html.join(
        html.element(
            "header",
            html.element("h1", "mock_registry"),
            html.element(
                "p", "What ", html.element("bdi", reader), " may read of this registry.", class_="quiet"
            ),
        ),
        html.element(
            "main",
            _figures(found),
            _sharing(found),
            html.element("h2", "Repositories"),
            Images(service.state, found).section(),
            html.element("h2", "Layers"),
            _layers(found),
            html.element("h2", "Journal"),
            _journal(traffic(service.journal, access)),
        ),
        html.element(
            "footer",
            "Sizes are of blobs as they are stored; 1 kB is 1000 bytes. ",
            "The journal's totals leave out requests for this page.",
        ),
    )


def _figures(found: Survey) -> html.Html:
    """Return the six figures at the top."""
    tags = sum(len(repository.tags) for repository in found.repositories)
    manifests = sum(len(repository.manifests) for repository in found.repositories)
    figures = [
        ("Repositories", f"{len(found.repositories):,}", None),
        ("Tags", f"{tags:,}", None),
        ("Manifests", f"{manifests:,}", None),
        ("Layers", f"{len(found.layers):,}", None),
        ("Stored", html.in_units(found.stored), None),
        ("Sharing saves", html.in_units(found.saved), "main"),
    ]
    return html.element(
        "dl",
        *(
            html.element("div", html.element("dt", name), html.element("dd", value), class_=kind)
            for name, value, kind in figures
        ),
        class_="figures",
    )


def _sharing(found: Survey) -> html.Html | None:
    """Return what sharing saves, if anything is stored."""
    whole = found.stored + found.saved
    if not whole:
        return None
    share = 100 * found.saved / whole
    bar = html.element(
        "svg",
        html.element("rect", class_="all", width=100, height=12),
        html.element("rect", class_="part", width=f"{share:.2f}", height=12),
        class_="bar",
        viewBox="0 0 100 12",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{share:.1f} % saved",
    )
    told = (
        f"Without sharing, the images would take {html.in_units(whole)}. Each layer is stored once: "
        f"{html.in_units(found.stored)} stored, {html.in_units(found.saved)} ({share:.1f} %) saved."
    )
    return html.element("div", html.element("p", told), bar, class_="card")


def _layers(found: Survey) -> html.Html:
    """Return the table of layers, those that save most first."""
    if not found.layers:
        return html.element("p", "No layers.", class_="card none")
    shown = list(found.layers.values())[:LAYERS]
    heads = ("Saves", "Size", "Images", "Layer", "Media type", "Repositories")
    table = html.as_table(
        heads, map(_layer_row, shown), numbers=range(3), anchors=[html.anchor(each.digest) for each in shown]
    )
    return html.element(
        "div", table, html.and_more(len(found.layers) - len(shown), "layer", "layers"), class_="card"
    )


def _layer_row(layer: Layer) -> Sequence[html.Node]:
    unnamed = html.element("span", "no image names it", class_="none")
    return (
        html.in_units(layer.saved) if layer.saved else html.NOTHING,
        html.in_units(layer.size),
        f"{layer.images:,}",
        html.short_digest(layer.digest),
        unnamed if layer.media_type is None else html.legible(layer.media_type, html.TEXT),
        html.some_names(layer.repositories),
    )


def _journal(told: Traffic) -> html.Html:
    """Return the journal's totals, route by route."""
    heads = ("Route", "Requests", "Bytes in", "Bytes out", "4xx, 5xx", "Incomplete", "Faults")
    rows = [_total_row(total, route) for route, total in told.routes.items()]
    table = html.as_table(heads, rows, numbers=range(1, 7), last=_total_row(told.whole, "all"))
    older = f"{html.counted(told.older, 'older record is', 'older records are')} not counted."
    return html.element(
        "div", table, html.element("p", older, class_="quiet") if told.older else None, class_="card"
    )


def _total_row(total: Total, name: str) -> Sequence[html.Node]:
    odd = (total.refused, total.incomplete, total.faults)
    return (
        name,
        f"{total.requests:,}",
        f"{total.bytes_in:,}",
        f"{total.bytes_out:,}",
        *(html.element("span", f"{each:,}", class_="alarm" if each else "none") for each in odd),
    )
