"""Paging through sorted names, as tags and catalog share it (end-8b)."""

import json
from collections.abc import Iterable
from urllib.parse import quote

from mock_registry.exchange import Exchange, Refusal, Response
from mock_registry.spec import ErrorCode, Fault, parse_count


def page(exchange: Exchange, names: Iterable[str]) -> tuple[list[str], Response]:
    """Return the names that ``n`` and ``last`` ask for, and the response to put them in.

    Raises:
        Refusal: 400; ``n`` is not a number from 0.
    """
    last = exchange.parameter("last")
    found = sorted(name for name in names if last is None or name > last)  # ASCIIbetical, `last` exclusive
    count = _count(exchange)
    response = Response(200, [(b"content-type", b"application/json")])
    if count is None or count >= len(found):
        return found, response
    found = found[:count]
    if found:  # of n=0 there is no next page: a Link would lead in a circle
        path = exchange.path.decode("latin-1")
        query = f"n={count}&last={quote(found[-1], safe='')}{namespace(exchange)}"
        link = f'<{path}?{query}>; rel="next"'
        response.headers.append((b"link", link.encode("latin-1")))
    return found, response


def namespace(exchange: Exchange) -> str:
    """Return what the link to a next page needs, so that it is of the same host's content (``ns``)."""
    return "" if exchange.namespace is None else f"&ns={quote(exchange.namespace, safe='')}"


def _count(exchange: Exchange) -> int | None:
    text = exchange.parameter("n")
    if text is None:
        return None
    count = parse_count(text)
    if count is None:
        raise Refusal(400, Fault(ErrorCode.UNSUPPORTED, "n is not a number from 0", text))
    return count


def with_document(response: Response, document: dict[str, object]) -> Response:
    """Put a JSON document into a response."""
    response.body = json.dumps(document).encode()
    return response
