"""Quirks of how things are said: statuses, codes, locations, pages of text.

Owns answers that differ in form alone.
"""

from collections.abc import Mapping

from mock_registry.exchange import Exchange, Response
from mock_registry.faults.answers import drop, header_of, put, refuse
from mock_registry.faults.fault import error_codes
from mock_registry.handlers.discovery import get_base
from mock_registry.service import Handler, Service

from .quirk import Wrapper

_PLAIN = b"text/plain; charset=utf-8"
_OK, _CREATED, _ACCEPTED, _NO_CONTENT = 200, 201, 202, 204
_REFUSED = 400


def text(status: int, body: str) -> Response:
    """Return an answer in plain text, as Go's HTTP server gives it."""
    return Response(status, [(b"content-type", _PLAIN)], body.encode())


def not_found() -> Response:
    """Return what Go's HTTP server says of a path that nobody serves."""
    return text(404, "404 page not found\n")


def say(response: Response) -> str:
    """Return status and error code of a response, such as ``404 BLOB_UNKNOWN``."""
    return " ".join([str(response.status), *error_codes(response)[:1]])


def reword(words: Mapping[str, str], *, keep: tuple[bytes, ...] = ()) -> Wrapper:
    """Return a quirk that refuses in other words.

    Args:
        words: By what is said here, such as ``404 BLOB_UNKNOWN``, what is said there; a status alone stands
            for an answer without a body.
        keep: Headers that stay.
    """

    async def wrapper(service: Service, exchange: Exchange, handle: Handler) -> Response:
        response = await handle(service, exchange)
        other = words.get(say(response))
        if other is None:
            return response
        kept = [(name, value) for name, value in response.headers if name in keep]
        status, _, error = other.partition(" ")
        if error == "page":
            return not_found()
        return refuse(int(status), form="json" if error else "empty", error=error or None, headers=kept)

    return wrapper


def without(*names: bytes, statuses: tuple[int, ...] | None = None) -> Wrapper:
    """Return a quirk that leaves headers out."""

    async def wrapper(service: Service, exchange: Exchange, handle: Handler) -> Response:
        response = await handle(service, exchange)
        if statuses is None or response.status in statuses:
            drop(response, *names)
        return response

    return wrapper


def with_header(name: bytes, value: bytes, *, statuses: tuple[int, ...]) -> Wrapper:
    """Return a quirk that adds a header."""

    async def wrapper(service: Service, exchange: Exchange, handle: Handler) -> Response:
        response = await handle(service, exchange)
        if response.status in statuses:
            put(response, name, value)
        return response

    return wrapper


def with_status(given: int, status: int) -> Wrapper:
    """Return a quirk that tells another status of success."""

    async def wrapper(service: Service, exchange: Exchange, handle: Handler) -> Response:
        response = await handle(service, exchange)
        if response.status == given:
            response.status = status
        return response

    return wrapper


async def absolute_locations(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Tell locations with scheme and host, as the client named them."""
    response = await handle(service, exchange)
    location = header_of(response, b"location")
    if location is not None and response.status in (_CREATED, _ACCEPTED, _NO_CONTENT):
        host = exchange.header(b"host") or "registry"
        put(response, b"location", f"{exchange.scheme}://{host}{location}".encode("latin-1"))
    return response


async def redirect_to_slash(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Redirect to the path with a slash at its end."""
    if exchange.path.endswith(b"/"):
        return await handle(service, exchange)
    return Response(301, [(b"location", exchange.path + b"/")])


async def any_method(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Answer ``/v2/`` whatever the method."""
    if exchange.method in ("GET", "HEAD"):
        return await handle(service, exchange)
    return await get_base(service, exchange)


async def empty_base(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Answer ``/v2/`` with headers alone."""
    response = await handle(service, exchange)
    if response.status == _OK:
        response.body = b""
        drop(response, b"content-type")
    return response


async def pages_for_paths(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Answer a path that cannot be with a page, not with an error of the registry."""
    response = await handle(service, exchange)
    return not_found() if say(response) in ("404 UNSUPPORTED", "400 NAME_INVALID") else response


async def charset_in_errors(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Tell the charset of JSON errors."""
    response = await handle(service, exchange)
    if response.status >= _REFUSED and header_of(response, b"content-type") == "application/json":
        put(response, b"content-type", b"application/json; charset=utf-8")
    return response


async def errors_as_text(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Tell JSON errors as plain text, which is what Go takes a body for whose type nobody told."""
    response = await handle(service, exchange)
    if response.status >= _REFUSED and header_of(response, b"content-type") == "application/json":
        put(response, b"content-type", _PLAIN)
    return response


def only_method(allow: bytes) -> Wrapper:
    """Return a quirk that names fewer methods in a 405, and says it in plain text."""

    async def wrapper(service: Service, exchange: Exchange, handle: Handler) -> Response:
        response = await handle(service, exchange)
        if say(response) != "405 UNSUPPORTED" or header_of(response, b"allow") is None:
            return response
        response = text(405, "Method not allowed\n")
        put(response, b"allow", allow)
        return response

    return wrapper
