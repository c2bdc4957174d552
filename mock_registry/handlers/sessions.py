"""Upload sessions: chunks, status, cancelling, committing (end-5, end-6, end-13, end-14)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

from mock_registry.asgi import Headers
from mock_registry.exchange import Exchange, Refusal, Response
from mock_registry.service import Service
from mock_registry.spec import Digest, ErrorCode, Fault, algorithm_of, is_digest, parse_content_range
from mock_registry.state import SessionBusy, SessionClosed, UploadSession


def accepted(status: int, session: UploadSession, headers: Headers | None = None) -> Response:
    """Answer where a session stands and where to go on (202, or 204 for its status)."""
    return Response(status, [*_position(session), *(headers or [])])


def _position(session: UploadSession) -> Headers:
    # The offset in the location is opaque to clients. It shows a stale location, whose octets would be
    # appended twice. Of no octets, `0-0` is what most registries say and the only legal text (end-13).
    location = f"/v2/{session.repository}/blobs/uploads/{session.identifier}?offset={session.size}"
    return [
        (b"location", location.encode()),
        (b"range", b"0-%d" % max(session.size - 1, 0)),
        (b"docker-upload-uuid", session.identifier.encode()),
    ]


def digest_parameter(exchange: Exchange) -> Digest:
    """Return the digest that a blob is to be stored under.

    Raises:
        Refusal: 400; it is absent or nothing that can be checked.
    """
    digest = exchange.parameter("digest")
    if digest is None or not is_digest(digest):
        fault = Fault(ErrorCode.DIGEST_INVALID, "the digest parameter is no sha256 or sha512 digest", digest)
        raise Refusal(400, fault)
    exchange.digest = digest
    return digest


async def receive_chunk(service: Service, exchange: Exchange, session: UploadSession) -> int:
    """Append the request's body to a session that the caller holds. What arrives of a broken one is kept.

    Returns:
        Octets appended.

    Raises:
        Refusal: 416 out of order; 400 if the length is not the one announced.
    """
    expected = _expected(exchange, session)
    if session.short_chunk and exchange.content_length != 0:
        limit = service.settings.min_chunk_length
        raise Refusal(
            400, Fault(ErrorCode.SIZE_INVALID, f"a chunk but the last had fewer than {limit} bytes")
        )
    before = session.size
    try:
        while batch := await exchange.read():
            await session.upload.append(_within(batch, expected, session.size - before))
            del batch  # or it would be held until the next one has come
    except OSError:
        await service.state.close_session(session)
        raise
    finally:
        await session.upload.settle()
    received = exchange.bytes_in
    if expected is not None and received != expected:
        detail = {"announced": expected, "received": received}
        raise Refusal(400, Fault(ErrorCode.SIZE_INVALID, "Content-Range announced another length", detail))
    return received


def _expected(exchange: Exchange, session: UploadSession) -> int | None:
    """Return the chunk's length if Content-Range announces one, having checked that it is the next one."""
    header = exchange.header(b"content-range")
    if header is None:
        offset = exchange.parameter("offset")
        if exchange.content_length != 0 and offset not in (None, str(session.size)):
            raise _out_of_order(session, f"offset {offset}")
        return None
    chunk = parse_content_range(header.strip())
    if chunk is None:
        raise Refusal(
            400, Fault(ErrorCode.BLOB_UPLOAD_INVALID, "Content-Range is not <first>-<last>", header)
        )
    first, last = chunk
    if first != session.size:
        raise _out_of_order(session, header)
    length = last - first + 1
    if exchange.content_length not in (None, length):
        detail = {"contentRange": header, "contentLength": exchange.content_length}
        raise Refusal(400, Fault(ErrorCode.SIZE_INVALID, "Content-Range and Content-Length differ", detail))
    return length


def _out_of_order(session: UploadSession, sent: str) -> Refusal:
    fault = Fault(
        ErrorCode.BLOB_UPLOAD_INVALID,
        f"the next octet is {session.size}",
        {"sent": sent, "size": session.size},
    )
    return Refusal(416, fault, headers=_position(session))


def _within(batch: list[bytes], expected: int | None, received: int) -> list[bytes]:
    """Keep of a batch what the announced chunk still has room for."""
    if expected is None or received + sum(map(len, batch)) <= expected:
        return batch
    return [b"".join(batch)[: expected - received]]


async def commit(service: Service, session: UploadSession, digest: Digest) -> Response:
    """Verify what was received and turn it into a blob (201).

    Raises:
        Refusal: 400, and the session stays, so that its octets need not be sent again.
    """
    actual = await session.upload.digest(algorithm_of(digest))
    if actual != digest:
        detail = {"expected": digest, "actual": actual, "size": session.size}
        raise Refusal(400, Fault(ErrorCode.DIGEST_INVALID, "the uploaded content has another digest", detail))
    await service.state.commit_session(session, digest)
    return stored(session.repository, digest)


def stored(repository: str, digest: Digest) -> Response:
    """Answer that the repository now has the blob (201), with the location to pull it from."""
    location = f"/v2/{repository}/blobs/{digest}"
    return Response(201, [(b"location", location.encode()), (b"docker-content-digest", digest.encode())])


@asynccontextmanager
async def _held(service: Service, exchange: Exchange) -> AsyncIterator[UploadSession]:
    """Find the session in the path and use it alone."""
    session = await service.state.session(exchange.repository, exchange.address.last)
    if session is None:
        raise _unknown(exchange)
    exchange.session = session.identifier
    try:
        async with session.hold(service.settings.session_patience):
            yield session
    except SessionClosed:
        raise _unknown(exchange) from None
    except SessionBusy:
        fault = Fault(ErrorCode.BLOB_UPLOAD_INVALID, "another request is using this upload session")
        raise Refusal(409, fault) from None


def _unknown(exchange: Exchange) -> Refusal:
    detail = {"session": quote(exchange.address.last or "")}
    return Refusal(
        404, Fault(ErrorCode.BLOB_UPLOAD_UNKNOWN, "the repository has no such upload session", detail)
    )


async def patch_upload(service: Service, exchange: Exchange) -> Response:
    """Append a chunk, or a stream of any length (end-5)."""
    async with _held(service, exchange) as session:
        received = await receive_chunk(service, exchange, session)
        session.short_chunk = received < (service.settings.min_chunk_length or 0)
        return accepted(202, session)


async def put_upload(service: Service, exchange: Exchange) -> Response:
    """Take the rest of the blob, if there is any, and commit the session (end-6)."""
    async with _held(service, exchange) as session:
        digest = digest_parameter(exchange)
        session.upload.follow(algorithm_of(digest))
        await receive_chunk(service, exchange, session)
        return await commit(service, session, digest)


async def get_upload(service: Service, exchange: Exchange) -> Response:
    """Tell how much of the blob has arrived (end-13)."""
    async with _held(service, exchange) as session:
        return accepted(204, session)


async def delete_upload(service: Service, exchange: Exchange) -> Response:
    """Cancel the session (end-14)."""
    async with _held(service, exchange) as session:
        await service.state.close_session(session)
        return Response(204)
