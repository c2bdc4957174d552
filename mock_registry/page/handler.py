"""The page at ``/``, for people: what the registry holds, what sharing saves, what the journal adds up to.

Owns the order of the sections and what a browser is allowed. Whatever clients chose (names, media types,
annotations, what a config says) is a stranger's text: cut, made legible and escaped. There is no script, and
the policy lets none run.

A look at the page is journalled like every other request, since the journal is an account of all of them and
a client that asks for ``/`` by mistake should be found out. It has a route of its own, so that it can be told
apart, and the totals on the page leave that route out.
"""

import hashlib
import pkgutil
import re
from base64 import b64encode
from functools import cache
from string import Template

from mock_registry.access import Access
from mock_registry.asgi import Headers
from mock_registry.exchange import Exchange, Response
from mock_registry.service import Service

from .images import Images
from .markup import Html, element, join, legible
from .pieces import TEXT
from .survey import survey, traffic
from .totals import figures_of, journal_of, layers_of, sharing_of

_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


async def get_page(service: Service, exchange: Exchange) -> Response:
    """Show what whoever asks may read, as one page that needs nothing else."""
    template, headers = _template()
    body = template.substitute(content=_content(service, exchange.access)).encode()
    return Response(200, [*headers, (b"content-type", b"text/html; charset=utf-8")], body)


@cache
def _template() -> tuple[Template, Headers]:
    """Return the page's frame, and the headers that allow its style and nothing else."""
    octets = pkgutil.get_data(__package__, "page.html") or b""
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
            figures_of(found),
            sharing_of(found),
            element("h2", "Repositories"),
            Images(service.state, found).section(),
            element("h2", "Layers"),
            layers_of(found),
            element("h2", "Journal"),
            journal_of(traffic(service.journal, access)),
        ),
        element(
            "footer",
            "Sizes are of blobs as they are stored; 1 kB is 1000 bytes. ",
            "The journal's totals leave out requests for this page.",
        ),
    )
