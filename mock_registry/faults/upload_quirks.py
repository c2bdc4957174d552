"""Effects for profiles alone: upload sessions, mounts, and ranges of blobs.

Owns answers of named registries. Must not know which registry has which.
"""

import hashlib
import re
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from mock_registry.exchange import BATCH, Response, Stretch
from mock_registry.spec import (
    Algorithm,
    Unsatisfiable,
    algorithm_of,
    is_digest,
    parse_content_range,
    parse_count,
    resolve_byte_range,
)
from mock_registry.state import SessionBusy, SessionClosed

from .answers import PLAIN, put, refuse
from .effect import Effect, Incident, quirk
from .quantities import FLAG, STATUS, TEXT
from .quirks import without

_OK, _CREATED, _PARTIAL, _REFUSED, _UNSATISFIED = 200, 201, 206, 400, 416
_BOUNDARY = b"52c98a0d144d127a3520d8465e81418e"
_MOST = 1 << 20
"""Bytes of several ranges that are served at once; they are put together in memory."""
_TWO_NUMBERS = re.compile(r"bytes=([+-]?0*[0-9]{1,18})-([+-]?0*[0-9]{1,18})(?![0-9])")


# Uploads


@quirk
class StaleLocation(Effect):
    """Refuse an upload session's location that is not the newest one.

    After a broken request, the newest location is one that no client was told.

    Attributes:
        status: The status of a refusal.
        error: The code in its body.
        kills: Cancel the session.
        strict: Refuse a location without an offset, or under another repository, with 404.
        reads: Refuse to read from it too.
    """

    status: Annotated[int, STATUS]
    error: Annotated[str, TEXT] = "BLOB_UPLOAD_INVALID"
    kills: Annotated[bool, FLAG] = False
    strict: Annotated[bool, FLAG] = True
    reads: Annotated[bool, FLAG] = True

    async def arrive(self, incident: Incident) -> Response | None:
        """Refuse it."""
        exchange, session = incident.exchange, incident.session
        if not self.reads and exchange.method in ("GET", "HEAD"):
            return None
        foreign = session is not None and session.repository != exchange.repository
        if self.strict and (foreign or exchange.parameter("offset") is None):
            return refuse(404, error="BLOB_UPLOAD_INVALID")
        if session is None or foreign:
            return None
        try:
            async with session.hold(incident.service.settings.session_patience):
                stale = exchange.parameter("offset") != str(session.size)
        except (SessionBusy, SessionClosed):
            return None  # the handler refuses it
        if not stale:
            return None
        if self.kills:
            await incident.service.state.close_session(session)
        return refuse(self.status, error=self.error)


@quirk
class StartCounts(Effect):
    """Check only the start in Content-Range, not the chunk's length."""

    async def arrive(self, incident: Incident) -> Response | None:
        """Refuse another start with 416 SIZE_INVALID."""
        session, header = incident.session, incident.exchange.header(b"content-range")
        if session is None or header is None:
            return None
        if parse_count(header.partition("-")[0]) != session.size:
            return refuse(416, error="SIZE_INVALID", headers=[(b"range", b"0-%d" % (session.size - 1))])
        without(incident.exchange, "content-range")
        return None


@quirk
class Mismatch(Effect):
    """Answer a commit with the wrong digest with BLOB_UPLOAD_INVALID.

    Attributes:
        kills: End the session, also if there is no digest.
    """

    kills: Annotated[bool, FLAG] = False

    async def arrive(self, incident: Incident) -> Response | None:
        """Refuse a commit without a digest."""
        if self.kills and not incident.exchange.parameter("digest"):
            return await self._refuse(incident)
        return None

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Refuse a commit with the wrong one."""
        digest = incident.exchange.parameter("digest") or ""
        return await self._refuse(incident) if response.status == _REFUSED and is_digest(digest) else response

    async def _refuse(self, incident: Incident) -> Response:
        if self.kills:
            await incident.close_session(incident.session)
        return refuse(400, error="BLOB_UPLOAD_INVALID")


@quirk
class MountsNeed(Effect):
    """Open a session instead of a mount.

    Attributes:
        what: The POST must name a ``source`` and a valid digest; or a ``manifest`` of the named source must
            refer to the blob.
    """

    what: Literal["source", "manifest"]

    async def arrive(self, incident: Incident) -> Response | None:
        """Ignore the query."""
        exchange = incident.exchange
        digest, source = exchange.parameter("mount"), exchange.parameter("from")
        if self.what == "source":
            granted = bool(digest and source and is_digest(digest))
        elif digest is None or source is None:
            granted = True
        else:
            repository = incident.service.state.repository(source)
            manifests = repository.manifests.values() if repository else ()
            granted = any(digest in manifest.mentioned for manifest in manifests)
        if not granted:
            exchange.ask(b"")
        return None


@quirk
class Sha256Name(Effect):
    """Name what was pushed or pulled by another digest by its sha256."""

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Change Docker-Content-Digest."""
        exchange, digest = incident.exchange, incident.exchange.digest
        if digest is None or not is_digest(digest) or algorithm_of(digest) == "sha256":
            return response
        blob = incident.service.state.blob(exchange.repository, digest)
        if blob is not None and response.status in (_OK, _CREATED):
            hashed = hashlib.sha256()
            with blob.open() as reader:
                for start in range(0, blob.size, BATCH):
                    hashed.update(reader.read(start, BATCH))
            put(response, b"docker-content-digest", f"sha256:{hashed.hexdigest()}".encode())
        return response


@quirk
class AnySession(Effect):
    """Take any name for an upload session, in any repository.

    A chunk must begin where the session ends, and a stream must be the first one. Status and cancelling are
    refused.
    """

    async def arrive(self, incident: Incident) -> Response | None:
        """Find or open the session."""
        exchange, session = incident.exchange, incident.session
        if exchange.method not in ("PATCH", "PUT"):
            return refuse(400, error="NAME_INVALID")
        if session is None:
            name = exchange.repository or ""
            session = await incident.service.state.open_session(name, Algorithm.SHA256)
        header = exchange.header(b"content-range")
        if exchange.method == "PATCH":
            chunk = None if header is None else parse_content_range(header)
            if header is not None and (chunk is None or chunk[0] != session.size):
                return refuse(416, error="BLOB_UPLOAD_UNKNOWN")
            if header is None and session.size:
                return refuse(400, error="BLOB_UPLOAD_INVALID")
        without(exchange, "content-range")
        parts = exchange.query_string.split(b"&")
        exchange.ask(b"&".join(part for part in parts if not part.startswith(b"offset=")))
        exchange.repository = session.repository
        exchange.address = replace(exchange.address, last=session.identifier)
        return None

    def over(self, incident: Incident) -> None:
        """Restore the repository, for the journal."""
        incident.exchange.repository = incident.exchange.address.name


# Blobs


@quirk
class OneStore(Effect):
    """Look for a blob in every repository, and delete it from all."""

    async def arrive(self, incident: Incident) -> Response | None:
        """Delete it, or find it."""
        exchange, state = incident.exchange, incident.service.state
        digest = exchange.address.last or ""
        holders = state.holders(digest)
        if exchange.method == "DELETE":
            for holder in holders:
                await state.unlink_blob(holder, digest)
            return Response(202) if holders else refuse(500, error="INTERNAL_SERVER_ERROR")
        exchange.repository = next(iter(holders), exchange.repository)
        return None

    def over(self, incident: Incident) -> None:
        """Restore the repository, for the journal."""
        address = incident.exchange.address
        incident.exchange.repository = address.name if address.valid else None


@quirk
class GoRanges(Effect):
    """Answer ranges as Go's HTTP server does.

    Attributes:
        several: Serve several ranges as multipart/byteranges; otherwise the whole blob.
        full_length: Keep the blob's Content-Length in a 416, whose body is shorter.
    """

    methods: ClassVar = frozenset({"GET"})

    several: Annotated[bool, FLAG] = False
    full_length: Annotated[bool, FLAG] = False

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Change an answer to a range."""
        exchange, asked = incident.exchange, incident.exchange.header(b"range")
        if asked is None or response.status not in (_OK, _PARTIAL, _UNSATISFIED):
            return response
        blob = incident.service.state.blob(exchange.repository, exchange.digest or "")
        if blob is None:
            return response
        if "," in asked and asked.startswith("bytes="):
            return _parts(response, asked, blob.size) if self.several else response
        return response if response.status == _PARTIAL else self._refuse(asked, blob.size)

    def _refuse(self, asked: str, size: int) -> Response:
        match = re.fullmatch(r"bytes=([0-9]{1,18})-([0-9]{0,18})", asked.strip())
        beyond = (
            match is not None and int(match[1]) >= size and (not match[2] or int(match[2]) >= int(match[1]))
        )
        body = b"invalid range: failed to overlap\n" if beyond else b"invalid range\n"
        response = Response(_UNSATISFIED, [(b"content-type", PLAIN)], body)
        if beyond:
            put(response, b"content-range", b"bytes */%d" % size)
        if self.full_length and size > response.length:
            put(response, b"content-length", b"%d" % size)
            response.measured = False
        return response


def _parts(response: Response, asked: str, size: int) -> Response:
    """Serve several ranges if they are small enough, otherwise the whole blob."""
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


@quirk
class TwoNumberRanges(Effect):
    """Understand only ``bytes=a-b``, and serve it even if it is reversed."""

    methods: ClassVar = frozenset({"GET"})

    async def arrive(self, incident: Incident) -> Response | None:
        """Hide the range from the handler."""
        incident.kept = incident.exchange.header(b"range")
        without(incident.exchange, "range")
        return None

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Serve the range."""
        if not incident.kept or response.status != _OK or not isinstance(response.body, Stretch):
            return response
        match = _TWO_NUMBERS.match(incident.kept)
        size = response.body.count
        if match is None or int(match[1]) < 0 or int(match[2]) + 1 > size:
            return refuse(_UNSATISFIED, error="BLOB_UNKNOWN")
        first, last = int(match[1]), int(match[2])
        count = last - first + 1
        put(response, b"content-range", b"bytes %d-%d/%d" % (first, last, size))
        response.status = _PARTIAL
        response.body = Stretch(response.body.blob, first, count if count > 0 else size - first)
        return response
