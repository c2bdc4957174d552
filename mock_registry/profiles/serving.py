"""Quirks of pulling blobs: ranges as Go's HTTP server reads them, or as nobody else does; no isolation.

Owns answers of blob endpoints that differ in substance.
"""

import re

from mock_registry.exchange import Exchange, Response, Stretch
from mock_registry.faults.answers import put, refuse
from mock_registry.service import Handler, Service
from mock_registry.spec import Unsatisfiable, is_digest, resolve_byte_range

from .quirk import Wrapper
from .wording import text

_OK, _PARTIAL, _UNSATISFIED, _ABSENT = 200, 206, 416, 404
_BOUNDARY = b"52c98a0d144d127a3520d8465e81418e"
_MOST = 1 << 20
"""Octets of several ranges that are served at once: they are put together in memory."""

_TWO_NUMBERS = re.compile(r"bytes=([+-]?0*[0-9]{1,18})-([+-]?0*[0-9]{1,18})(?![0-9])")


def go_ranges(*, several: bool = False, broken: bool = False) -> Wrapper:
    """Return the quirk of how Go's HTTP server answers ranges that it cannot serve, and others.

    Args:
        several: Serve several ranges as multipart/byteranges; else the whole blob.
        broken: Leave the blob's Content-Length in a 416, whose body is shorter.
    """

    async def wrapper(service: Service, exchange: Exchange, handle: Handler) -> Response:
        response = await handle(service, exchange)
        asked = exchange.header(b"range")
        if asked is None or exchange.method != "GET" or response.status not in (_OK, _PARTIAL, _UNSATISFIED):
            return response
        blob = service.state.blob(exchange.repository, exchange.digest or "")
        if blob is None:
            return response
        if "," in asked and asked.startswith("bytes="):
            return _parts(response, asked, blob.size) if several else response
        if response.status == _PARTIAL:
            return response
        return _unsatisfied(asked, blob.size, broken=broken)

    return wrapper


def _unsatisfied(asked: str, size: int, *, broken: bool) -> Response:
    match = re.fullmatch(r"bytes=([0-9]{1,18})-([0-9]{0,18})", asked.strip())
    beyond = match is not None and int(match[1]) >= size and (not match[2] or int(match[2]) >= int(match[1]))
    response = text(_UNSATISFIED, "invalid range: failed to overlap\n" if beyond else "invalid range\n")
    if beyond:
        put(response, b"content-range", b"bytes */%d" % size)
    if broken and size > response.length:
        put(response, b"content-length", b"%d" % size)
        response.measured = False
    return response


def _parts(response: Response, asked: str, size: int) -> Response:
    """Serve several ranges, if they are small enough; else all."""
    texts = asked.removeprefix("bytes=").split(",")
    try:
        ranges = [resolve_byte_range(f"bytes={each.strip()}", size) for each in texts]
    except Unsatisfiable:
        return response
    wanted = [each for each in ranges if each is not None]
    if not isinstance(response.body, Stretch) or sum(count for _, count in wanted) > _MOST:
        return response
    body = b""
    with response.body.blob.open() as reader:
        for offset, count in wanted:
            last = offset + count - 1
            head = f"Content-Range: bytes {offset}-{last}/{size}\r\nContent-Type: application/octet-stream"
            body += b"--" + _BOUNDARY + b"\r\n" + head.encode() + b"\r\n\r\n"
            body += reader.read(offset, count) + b"\r\n"
    response.status = _PARTIAL
    response.body = body + b"--" + _BOUNDARY + b"--\r\n"
    put(response, b"content-type", b"multipart/byteranges; boundary=" + _BOUNDARY)
    return response


async def ranges_of_two_numbers(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Understand ``bytes=a-b`` alone, and serve even what makes no sense."""
    asked = exchange.header(b"range")
    if asked is None or exchange.method != "GET":
        return await handle(service, exchange)
    exchange.headers = [each for each in exchange.headers if each[0] != b"range"]
    response = await handle(service, exchange)
    if response.status != _OK or not isinstance(response.body, Stretch):
        return response
    match = _TWO_NUMBERS.match(asked)
    size = response.body.count
    if match is None or int(match[1]) < 0 or int(match[2]) + 1 > size:
        return refuse(_UNSATISFIED, error="BLOB_UNKNOWN")
    first, last = int(match[1]), int(match[2])
    count = last - first + 1
    put(response, b"content-range", b"bytes %d-%d/%d" % (first, last, size))
    response.status = _PARTIAL
    response.body = Stretch(response.body.blob, first, count if count > 0 else size - first)
    return response


async def one_store_for_all(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Look for a blob in every repository, and delete it from all."""
    digest = exchange.address.last or ""
    if not is_digest(digest) or not digest.startswith("sha256:"):
        return refuse(400, error="NAME_INVALID")
    holders = service.state.holders(digest)
    if exchange.method == "DELETE":
        for holder in holders:
            await service.state.unlink_blob(holder, digest)
        return Response(202) if holders else refuse(500, error="INTERNAL_SERVER_ERROR")
    asked, exchange.repository = exchange.repository, next(iter(holders), exchange.repository)
    try:
        return await handle(service, exchange)
    finally:
        exchange.repository = asked


async def deletes_of_nothing(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Accept the delete of a blob that is not there."""
    response = await handle(service, exchange)
    return Response(202) if exchange.method == "DELETE" and response.status == _ABSENT else response
