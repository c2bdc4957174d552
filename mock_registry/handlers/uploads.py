"""Pushing blobs (end-4, end-5, end-6, end-11) and their upload sessions (end-13, end-14)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

from mock_registry.access import Action
from mock_registry.asgi import Headers
from mock_registry.exchange import Exchange, Refusal, Response
from mock_registry.service import Service
from mock_registry.spec import (
    Algorithm,
    Digest,
    ErrorCode,
    Fault,
    algorithm_of,
    is_digest,
    parse_content_range,
)
from mock_registry.state import SessionBusy, SessionClosed, UploadSession


async def post_upload(service: Service, exchange: Exchange) -> Response:
    """Mount a blob, take a whole one, or open a session."""
    if exchange.parameter("mount") is not None:
        return await _mount(service, exchange)
    if exchange.parameter("digest") is not None:
        return await _push(service, exchange, digest_parameter(exchange))
    name = exchange.parameter("digest-algorithm")
    try:
        algorithm = Algorithm(name or Algorithm.SHA256)  # to hash with while receiving (end-4c)
    except ValueError:
        fault = Fault(ErrorCode.DIGEST_INVALID, "the digest algorithm is not supported", name)
        raise Refusal(400, fault) from None
    return await _open(service, exchange, algorithm)


async def _open(service: Service, exchange: Exchange, algorithm: Algorithm) -> Response:
    """Open a session (end-4a)."""
    session = await service.state.open_session(exchange.repository or "", algorithm)
    exchange.session = session.identifier
    minimum = service.settings.min_chunk_length
    return accepted(202, session, [(b"oci-chunk-min-length", b"%d" % minimum)] if minimum else None)


async def _push(service: Service, exchange: Exchange, digest: Digest) -> Response:
    """Store a blob that comes whole with the POST (end-4b)."""
    if not service.settings.single_post:
        return await _open(service, exchange, algorithm_of(digest))
    session = await service.state.open_session(exchange.repository or "", algorithm_of(digest))
    exchange.session = session.identifier
    try:
        await receive_chunk(service, exchange, session)
        return await commit(service, session, digest)
    finally:
        await service.state.close_session(session)


async def _mount(service: Service, exchange: Exchange) -> Response:
    """Mount a blob from another repository, or open a session if that is not possible (end-11)."""
    digest = exchange.parameter("mount") or ""
    if not is_digest(digest):
        fault = Fault(ErrorCode.DIGEST_INVALID, "the mount parameter is no sha256 or sha512 digest", digest)
        raise Refusal(400, fault)
    exchange.digest = digest
    target = exchange.repository or ""
    source = await _source(service, exchange, digest, target)
    if source is None:
        # No reason is given: the client must not learn what repositories that it cannot read hold.
        return await _open(service, exchange, algorithm_of(digest))
    await service.state.link_blob(target, digest)
    exchange.mounted_from = source
    return stored(target, digest)


async def _source(service: Service, exchange: Exchange, digest: Digest, target: str) -> str | None:
    """Return the repository to mount from: the one named, the target itself, or any if that is allowed.

    Repositories that the client may not read are left out.
    """
    if not service.settings.mount:
        return None
    named = exchange.parameter("from")
    access = exchange.access
    candidates = [name for name in (named, target) if name is not None and access.may(Action.PULL, name)]
    if named is None and service.settings.anonymous_mount:
        candidates += filter(access.sees, service.state.holders(digest))
    for name in candidates:
        if await service.state.intact_blob(name, digest):
            return name
    return None


# Upload sessions


@asynccontextmanager
async def _held(service: Service, exchange: Exchange) -> AsyncIterator[UploadSession]:
    """Find the session in the path and lock it."""
    session = await service.state.session(exchange.repository, exchange.address.last)
    if session is None:
        raise _unknown(exchange)
    exchange.session = session.identifier
    try:
        async with session.hold(service.settings.session_patience):
            yield session
    except SessionClosed:
        raise _unknown(exchange) from None
    except FileNotFoundError:  # another program removed what had arrived
        await service.state.close_session(session)
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
    """Append the rest of the blob, if any, and commit the session (end-6)."""
    async with _held(service, exchange) as session:
        digest = digest_parameter(exchange)
        session.upload.follow(algorithm_of(digest))
        await receive_chunk(service, exchange, session)
        return await commit(service, session, digest)


async def get_upload(service: Service, exchange: Exchange) -> Response:
    """Return how much of the blob has arrived (end-13)."""
    async with _held(service, exchange) as session:
        return accepted(204, session)


async def delete_upload(service: Service, exchange: Exchange) -> Response:
    """Cancel the session (end-14)."""
    async with _held(service, exchange) as session:
        await service.state.close_session(session)
        return Response(204)


# Shared


def accepted(status: int, session: UploadSession, headers: Headers | None = None) -> Response:
    """Return a session's location and range (202, or 204 for its status)."""
    return Response(status, [*_position(session), *(headers or [])])


def _position(session: UploadSession) -> Headers:
    # The offset, opaque to clients, reveals a stale location, whose bytes would be appended twice. For an
    # empty session, `0-0` is what most registries say and the only text that the grammar allows (end-13).
    location = f"/v2/{session.repository}/blobs/uploads/{session.identifier}?offset={session.size}"
    return [
        (b"location", location.encode()),
        (b"range", b"0-%d" % max(session.size - 1, 0)),
        (b"docker-upload-uuid", session.identifier.encode()),
    ]


def digest_parameter(exchange: Exchange) -> Digest:
    """Return the digest that a blob is to be stored under.

    Raises:
        Refusal: 400; it is missing, or not a sha256 or sha512 digest.
    """
    digest = exchange.parameter("digest")
    if digest is None or not is_digest(digest):
        fault = Fault(ErrorCode.DIGEST_INVALID, "the digest parameter is no sha256 or sha512 digest", digest)
        raise Refusal(400, fault)
    exchange.digest = digest
    return digest


async def receive_chunk(service: Service, exchange: Exchange, session: UploadSession) -> int:
    """Append the request's body to a session that the caller holds. Bytes of a broken body are kept.

    Returns:
        Bytes appended.

    Raises:
        Refusal: 416 if the chunk is out of order; 400 if its length differs from Content-Range.
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
            del batch  # frees it while the next one is awaited
    except OSError:
        await service.state.close_session(session)
        raise
    finally:
        session.upload.settle()
    received = exchange.bytes_in
    if expected is not None and received != expected:
        detail = {"announced": expected, "received": received}
        raise Refusal(400, Fault(ErrorCode.SIZE_INVALID, "Content-Range announced another length", detail))
    return received


def _expected(exchange: Exchange, session: UploadSession) -> int | None:
    """Return the length in Content-Range, if any, after checking that the chunk is the next one."""
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
        f"the next byte is {session.size}",
        {"sent": sent, "size": session.size},
    )
    return Refusal(416, fault, headers=_position(session))


def _within(batch: list[bytes], expected: int | None, received: int) -> list[bytes]:
    """Return the part of a batch that belongs to the announced chunk."""
    if expected is None or received + sum(map(len, batch)) <= expected:
        return batch
    return [b"".join(batch)[: expected - received]]


async def commit(service: Service, session: UploadSession, digest: Digest) -> Response:
    """Verify what was received and turn it into a blob (201).

    Raises:
        Refusal: 400; the session stays open, so that its bytes need not be sent again.
    """
    actual = await session.upload.digest(algorithm_of(digest))
    if actual != digest:
        detail = {"expected": digest, "actual": actual, "size": session.size}
        raise Refusal(400, Fault(ErrorCode.DIGEST_INVALID, "the uploaded content has another digest", detail))
    await service.state.commit_session(session, digest)
    return stored(session.repository, digest)


def stored(repository: str, digest: Digest) -> Response:
    """Return 201 with the location to pull the blob from."""
    location = f"/v2/{repository}/blobs/{digest}"
    return Response(201, [(b"location", location.encode()), (b"docker-content-digest", digest.encode())])
