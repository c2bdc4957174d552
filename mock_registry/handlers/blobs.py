"""Pulling and deleting blobs (end-2, end-10)."""

from mock_registry.exchange import Exchange, Refusal, Response, Stretch
from mock_registry.service import Service
from mock_registry.spec import Digest, ErrorCode, Fault, Unsatisfiable, is_digest, resolve_byte_range
from mock_registry.storage.protocol import Blob


def digest_in_path(exchange: Exchange) -> Digest:
    """Return the digest that ends the path.

    Raises:
        Refusal: 400; the path does not end in a digest.
    """
    digest = exchange.address.last or ""
    if not is_digest(digest):
        fault = Fault(ErrorCode.DIGEST_INVALID, "the path does not end in a sha256 or sha512 digest", digest)
        raise Refusal(400, fault)
    exchange.digest = digest
    return digest


async def _find(service: Service, exchange: Exchange) -> tuple[Digest, Blob]:
    digest = digest_in_path(exchange)
    _require_link(service, exchange, digest)
    blob = await service.state.intact_blob(exchange.repository, digest)
    if blob is None:
        # The client then pushes the blob again, which repairs it.
        message = "the blob is damaged or missing where it is stored"
        raise Refusal(404, Fault(ErrorCode.BLOB_UNKNOWN, message, {"digest": digest}))
    return digest, blob


def _require_link(service: Service, exchange: Exchange, digest: Digest) -> None:
    repository = service.state.repository(exchange.repository)
    if repository is None or digest not in repository.blobs:
        # Also if another repository holds it: a repository is the scope of its blobs.
        raise Refusal(
            404, Fault(ErrorCode.BLOB_UNKNOWN, "the repository holds no such blob", {"digest": digest})
        )


async def get_blob(service: Service, exchange: Exchange) -> Response:
    """Serve a blob, whole or the requested range (end-2)."""
    digest, blob = await _find(service, exchange)
    etag = f'"{digest}"'
    headers = [
        (b"content-type", b"application/octet-stream"),
        (b"docker-content-digest", digest.encode()),
        (b"etag", etag.encode()),
        (b"accept-ranges", b"bytes"),
    ]
    if matches(exchange.header(b"if-none-match"), etag):
        return Response(304, headers[1:])
    wanted = None
    if exchange.method == "GET" and exchange.header(b"if-range") in (None, etag):
        wanted = _range(exchange.header(b"range"), blob.size)
    if wanted is None:
        return Response(200, headers, Stretch(blob, 0, blob.size))
    offset, count = wanted
    headers.append((b"content-range", b"bytes %d-%d/%d" % (offset, offset + count - 1, blob.size)))
    return Response(206, headers, Stretch(blob, offset, count))


def _range(header: str | None, size: int) -> tuple[int, int] | None:
    if header is None:
        return None
    try:
        return resolve_byte_range(header.strip(), size)
    except Unsatisfiable:
        fault = Fault(ErrorCode.SIZE_INVALID, "the blob has no such range", {"range": header, "size": size})
        raise Refusal(416, fault, headers=[(b"content-range", b"bytes */%d" % size)]) from None


async def delete_blob(service: Service, exchange: Exchange) -> Response:
    """Unlink a blob from this repository; others that link it keep it (end-10)."""
    digest = digest_in_path(exchange)
    _require_link(service, exchange, digest)
    if not service.settings.delete:
        raise Refusal(405, Fault(ErrorCode.UNSUPPORTED, "deletes are switched off"))
    await service.state.unlink_blob(exchange.repository or "", digest)
    return Response(202)


def matches(if_none_match: str | None, etag: str) -> bool:
    """Tell whether an If-None-Match header names the entity, so that it need not be sent again."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or "*" in tags
