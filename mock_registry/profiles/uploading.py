"""Quirks of uploads: what a location is good for, which chunks are taken, what a mount needs.

Owns answers of upload endpoints that differ in substance.
"""

import hashlib
from dataclasses import replace

from mock_registry.exchange import BATCH, Exchange, Response
from mock_registry.faults.answers import header_of, put, refuse
from mock_registry.service import Handler, Service
from mock_registry.spec import Algorithm, algorithm_of, is_digest, parse_content_range, parse_count
from mock_registry.state import SessionBusy, SessionClosed, UploadSession

from .quirk import Wrapper

_CREATED, _OK = 201, 200


def session_of(service: Service, exchange: Exchange) -> UploadSession | None:
    """Return the session in the path, whatever repository it belongs to."""
    return service.state.sessions.get(exchange.address.last or "")


async def _is_stale(service: Service, exchange: Exchange, session: UploadSession) -> bool:
    """Tell whether a location is not the newest one, once nobody uses the session any more."""
    try:
        async with session.hold(service.settings.session_patience):
            return exchange.parameter("offset") != str(session.size)
    except (SessionBusy, SessionClosed):
        return False  # the handler says so


async def stale_location_kills(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Cancel a session whose location is not the newest one, whatever was asked for.

    As the newest location after a broken request is one that no client was told, nothing can be resumed.
    """
    session = session_of(service, exchange)
    told = exchange.parameter("offset")
    if told is None or (session is not None and session.repository != exchange.repository):
        return refuse(404, error="BLOB_UPLOAD_INVALID")
    if session is not None and await _is_stale(service, exchange, session):
        await service.state.close_session(session)
        return refuse(404, error="BLOB_UPLOAD_INVALID")
    return await handle(service, exchange)


async def stale_location_is_refused(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Refuse to write to a location that is not the newest one; its session stays, and tells where it is."""
    session = session_of(service, exchange)
    if exchange.method in ("GET", "HEAD"):
        return await handle(service, exchange)
    if exchange.parameter("offset") is None or (session and session.repository != exchange.repository):
        return refuse(404, error="BLOB_UPLOAD_INVALID")
    if session is not None and await _is_stale(service, exchange, session):
        return refuse(416, error="RANGE_INVALID")
    return await handle(service, exchange)


def ignore_content_range(exchange: Exchange) -> None:
    """Let a chunk be a stream."""
    exchange.headers = [each for each in exchange.headers if each[0] != b"content-range"]


async def chunks_are_streams(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Append whatever comes, without a look at Content-Range."""
    ignore_content_range(exchange)
    return await handle(service, exchange)


async def start_alone_counts(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Look at the start in Content-Range, and take whatever follows, however long it was said to be."""
    session = session_of(service, exchange)
    header = exchange.header(b"content-range")
    if session is None or header is None:
        return await handle(service, exchange)
    start = header.partition("-")[0]
    if parse_count(start) != session.size:
        at = b"0-%d" % (session.size - 1)
        return refuse(416, error="SIZE_INVALID", headers=[(b"range", at)])
    ignore_content_range(exchange)
    return await handle(service, exchange)


async def stale_location_is_invalid(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Refuse to write to a location that is not the newest one, with 400."""
    session = session_of(service, exchange)
    ours = session is not None and session.repository == exchange.repository
    if session is not None and ours and await _is_stale(service, exchange, session):
        return refuse(400, error="BLOB_UPLOAD_INVALID")
    return await handle(service, exchange)


async def empty_session_ends_before_0(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Tell the range of a session of no octets as ``0--1``."""
    response = await handle(service, exchange)
    session = session_of(service, exchange)
    if session is not None and not session.size and header_of(response, b"range") is not None:
        put(response, b"range", b"0--1")
    return response


async def mismatch_kills(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """End a session that is to be committed under another digest than it has, or under none."""
    if not exchange.parameter("digest"):
        response = refuse(400, error="BLOB_UPLOAD_INVALID")
    else:
        response = await handle(service, exchange)
        if response.status != 400 or not is_digest(exchange.parameter("digest") or ""):  # noqa: PLR2004
            return response
        response = refuse(400, error="BLOB_UPLOAD_INVALID")
    session = session_of(service, exchange)
    if session is not None and not session.busy:
        await service.state.close_session(session)
    return response


async def mismatch_of_a_post(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Call a blob that came with its POST, and has another digest, an invalid upload."""
    response = await handle(service, exchange)
    digest = exchange.parameter("digest")
    if digest is not None and is_digest(digest) and response.status == 400:  # noqa: PLR2004
        return refuse(400, error="BLOB_UPLOAD_INVALID")
    return response


async def digests_are_names(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Call a digest that is none, or not of sha256, an invalid name."""
    digest = exchange.parameter("digest")
    if digest and not (is_digest(digest) and digest.startswith("sha256:")):
        return refuse(400, error="NAME_INVALID")
    return await handle(service, exchange)


async def posts_only_open(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Open a session for every POST but a mount that names a source and a digest that can be."""
    digest, source = exchange.parameter("mount"), exchange.parameter("from")
    if not (digest and source and is_digest(digest)):
        exchange.ask(b"")
    return await handle(service, exchange)


async def never_mount(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Open a session for every mount."""
    if exchange.parameter("mount") is not None:
        exchange.ask(b"")
    return await handle(service, exchange)


async def mounts_need_a_manifest(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Open a session for a mount of what no manifest of its source refers to."""
    digest, source = exchange.parameter("mount"), exchange.parameter("from")
    if digest is not None and source is not None:
        repository = service.state.repository(source)
        manifests = repository.manifests.values() if repository else ()
        if not any(digest in manifest.mentioned for manifest in manifests):
            exchange.ask(b"")
    return await handle(service, exchange)


async def mounts_need_a_source(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Refuse a mount that names no source."""
    if exchange.parameter("mount") is not None and exchange.parameter("from") is None:
        return refuse(400, error="INVALID_REQUEST", message="Invalid request")
    return await handle(service, exchange)


async def named_by_sha256(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Tell the sha256 digest of what was pushed or asked for by another one."""
    response = await handle(service, exchange)
    digest = exchange.digest
    if digest is None or not is_digest(digest) or algorithm_of(digest) == "sha256":
        return response
    blob = service.state.blob(exchange.repository, digest)
    if blob is not None and response.status in (_OK, _CREATED):
        hashed = hashlib.sha256()
        with blob.open() as reader:
            for start in range(0, blob.size, BATCH):
                hashed.update(reader.read(start, BATCH))
        put(response, b"docker-content-digest", f"sha256:{hashed.hexdigest()}".encode())
    return response


def range_stands_still() -> Wrapper:
    """Return a quirk that tells, of each session, the range after its first chunk for ever."""
    first: dict[str, bytes] = {}

    async def wrapper(service: Service, exchange: Exchange, handle: Handler) -> Response:
        response = await handle(service, exchange)
        told = header_of(response, b"range")
        if told is not None and exchange.session is not None:
            put(response, b"range", first.setdefault(exchange.session, told.encode()))
        return response

    return wrapper


async def sessions_of_nobody(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Keep no account of sessions: any name is one, in any repository, and its octets are what it has.

    A chunk must begin where the session is; a stream only begins one. Nothing can be asked about them.
    """
    if exchange.method not in ("PATCH", "PUT"):
        return refuse(400, error="NAME_INVALID")
    session = session_of(service, exchange)
    if session is None:
        session = await service.state.open_session(exchange.repository or "", Algorithm.SHA256)
    header = exchange.header(b"content-range")
    if exchange.method == "PATCH":
        chunk = None if header is None else parse_content_range(header)
        if header is not None and (chunk is None or chunk[0] != session.size):
            return refuse(416, error="BLOB_UPLOAD_UNKNOWN")
        if header is None and session.size:
            return refuse(400, error="BLOB_UPLOAD_INVALID")
    ignore_content_range(exchange)
    parts = exchange.query_string.split(b"&")
    exchange.ask(b"&".join(part for part in parts if not part.startswith(b"offset=")))
    asked, exchange.repository = exchange.repository, session.repository
    exchange.address = replace(exchange.address, last=session.identifier)
    try:
        return await handle(service, exchange)
    finally:
        exchange.repository = asked
