"""Opening uploads: sessions, blobs in a single POST, mounts (end-4a, end-4b, end-4c, end-11)."""

from mock_registry.access import Action
from mock_registry.exchange import Exchange, Refusal, Response
from mock_registry.service import Service
from mock_registry.spec import Algorithm, Digest, ErrorCode, Fault, algorithm_of, is_digest

from .sessions import accepted, commit, digest_parameter, receive_chunk, stored


async def post_upload(service: Service, exchange: Exchange) -> Response:
    """Mount a blob, take a whole one, or open a session."""
    if exchange.parameter("mount") is not None:
        return await _mount(service, exchange)
    if exchange.parameter("digest") is not None:
        return await _push(service, exchange, digest_parameter(exchange))
    return await _open(service, exchange, _announced(exchange))


def _announced(exchange: Exchange) -> Algorithm:
    """Return the algorithm to hash with while receiving (end-4c)."""
    name = exchange.parameter("digest-algorithm")
    try:
        return Algorithm(name or Algorithm.SHA256)
    except ValueError:
        fault = Fault(ErrorCode.DIGEST_INVALID, "the digest algorithm is not supported", name)
        raise Refusal(400, fault) from None


async def _open(service: Service, exchange: Exchange, algorithm: Algorithm) -> Response:
    """Open a session (end-4a)."""
    session = await service.state.open_session(exchange.repository or "", algorithm)
    exchange.session = session.identifier
    minimum = service.settings.min_chunk_length
    return accepted(202, session, [(b"oci-chunk-min-length", b"%d" % minimum)] if minimum else None)


async def _push(service: Service, exchange: Exchange, digest: Digest) -> Response:
    """Take a blob that comes whole with the POST (end-4b); its session is never seen by anyone."""
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
    """Link a blob from another repository, or open a session if that cannot be (end-11)."""
    digest = exchange.parameter("mount") or ""
    if not is_digest(digest):
        fault = Fault(ErrorCode.DIGEST_INVALID, "the mount parameter is no sha256 or sha512 digest", digest)
        raise Refusal(400, fault)
    exchange.digest = digest
    target = exchange.repository or ""
    source = await _source(service, exchange, digest, target)
    if source is None:
        # Whatever the reason, the client goes on with an upload; it must not learn what others hold.
        return await _open(service, exchange, algorithm_of(digest))
    await service.state.link_blob(target, digest)
    exchange.mounted_from = source
    return stored(target, digest)


async def _source(service: Service, exchange: Exchange, digest: Digest, target: str) -> str | None:
    """Return the repository to mount from: the one named, the target itself, or any if that is allowed.

    One that the request may not read is none: the answer is a session, as everywhere, and no refusal.
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
