"""Effects on blobs: wrong existence checks and ranges, added encodings, redirects to another host.

Owns answers to HEAD and to Range that no correct registry gives, and the URLs of the other host.
"""

import time
import zlib
from typing import Annotated, ClassVar, Literal
from urllib.parse import quote, urlsplit

from mock_registry.exchange import Response, Stretch
from mock_registry.handlers.blobs import get_blob
from mock_registry.journal import Route
from mock_registry.routing import Address
from mock_registry.spec import is_digest

from .answers import Form, drop, header_of, put, refuse
from .effect import Effect, Incident, effect
from .quantities import FLAG, INTEGER, OCTETS, REDIRECT, SECONDS, STATUS, TEXT, QuantityError
from .scene import Source, in_memory, joined

_OK, _PARTIAL, _ABSENT = 200, 206, 404
_BOUNDARY = b"mock-registry-boundary"
_TAIL = b"\r\n--" + _BOUNDARY + b"--\r\n"
_HOST = b"/object-storage/"
"""Begins the paths of the other host."""


@effect
class Lie(Effect):
    """Answer an existence check (HEAD of a blob or manifest) wrongly.

    Attributes:
        claim: ``absent`` for content that is there, ``exists`` for content that is not; by default the truth.
        status: The status for absent content: 404, or 403 or 405 as in some registries.
        form: The kind of body of that answer.
        length: In the answer for existing content, the Content-Length is ``missing``, or ``wrong`` by one.
        digest: In that answer, Docker-Content-Digest is ``missing``, or ``wrong``: all zeros.
        octets: The Content-Length of content that does not exist.
    """

    methods: ClassVar = frozenset({"HEAD"})
    routes: ClassVar = frozenset({Route.BLOB, Route.MANIFEST})

    claim: Literal["absent", "exists"] | None = None
    status: Annotated[int, STATUS] = _ABSENT
    form: Form = "json"
    length: Literal["missing", "wrong"] | None = None
    digest: Literal["missing", "wrong"] | None = None
    octets: Annotated[int, OCTETS] = 0

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Change the answer."""
        if self.claim == "absent" and response.status == _OK:
            incident.note()
            blob = incident.exchange.address.route is Route.BLOB
            absent = "BLOB_UNKNOWN" if blob else "MANIFEST_UNKNOWN"
            return refuse(self.status, form=self.form, error=absent if self.status == _ABSENT else None)
        if self.claim == "exists" and response.status == _ABSENT:
            incident.note()
            last = incident.exchange.address.last or ""
            response = Response(_OK, [(b"content-type", b"application/octet-stream")])
            put(response, b"content-length", b"%d" % self.octets)
            put(response, b"docker-content-digest", last.encode() if is_digest(last) else None)
            response.measured = False
        if response.status == _OK:
            self._blur(incident, response)
        return response

    def _blur(self, incident: Incident, response: Response) -> None:
        if self.digest:
            incident.note()
            zeros = b"sha256:" + b"0" * 64
            put(response, b"docker-content-digest", zeros if self.digest == "wrong" else None)
        if self.length:
            incident.note()
            told = header_of(response, b"content-length")
            length = response.length if told is None else int(told)
            put(response, b"content-length", b"%d" % (length + 1) if self.length == "wrong" else None)
            response.measured = False


@effect
class Ranges(Effect):
    """Answer the Range of a blob GET otherwise than asked.

    Attributes:
        mode: ``ignore``: 200 and the whole blob. ``shift``: another start, with a true Content-Range.
            ``lie``: another start, with the Content-Range asked for. ``short``: the last byte is missing, as
            with an exclusive end. ``multipart``: one part of multipart/byteranges. ``bare``: 206 without
            Content-Range. ``refuse``: 416.
        octets: How far the start is off, in bytes; negative is earlier.
    """

    methods: ClassVar = frozenset({"GET"})
    routes: ClassVar = frozenset({Route.BLOB})

    mode: Literal["ignore", "shift", "lie", "short", "multipart", "bare", "refuse"] = "ignore"
    octets: Annotated[int, INTEGER] = -1

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Change what is sent, if the handler serves a range."""
        if response.status != _PARTIAL or not isinstance(response.body, Stretch):
            return response
        incident.note()
        stretch = response.body
        match self.mode:
            case "ignore":
                response.status = _OK
                drop(response, b"content-range")
                response.body = Stretch(stretch.blob, 0, stretch.blob.size)
            case "bare":
                drop(response, b"content-range")
            case "refuse":
                unsatisfied = [(b"content-range", b"bytes */%d" % stretch.blob.size)]
                return refuse(416, error="RANGE_INVALID", headers=unsatisfied)
            case "multipart":
                self._divide(incident, response, stretch)
            case _:
                self._move(response, stretch)
        return response

    def _move(self, response: Response, stretch: Stretch) -> None:
        last = stretch.offset + stretch.count - 1
        first = stretch.offset if self.mode == "short" else stretch.offset + self.octets
        first = min(max(first, 0), last)
        if self.mode == "short":
            last = max(first, last - 1)
        if self.mode == "lie":  # as many bytes as promised, from elsewhere
            last = min(first + stretch.count - 1, stretch.blob.size - 1)
            first = last - stretch.count + 1
        response.body = Stretch(stretch.blob, first, last - first + 1)
        if self.mode != "lie":
            put(response, b"content-range", b"bytes %d-%d/%d" % (first, last, stretch.blob.size))

    def _divide(self, incident: Incident, response: Response, stretch: Stretch) -> None:
        told = header_of(response, b"content-range") or ""
        lines = f"Content-Type: application/octet-stream\r\nContent-Range: {told}\r\n\r\n"
        head = incident.kept = b"--" + _BOUNDARY + b"\r\n" + lines.encode()
        drop(response, b"content-range")
        put(response, b"content-type", b"multipart/byteranges; boundary=" + _BOUNDARY)
        put(response, b"content-length", b"%d" % (len(head) + stretch.count + len(_TAIL)))
        response.measured = False

    def give(self, incident: Incident, source: Source) -> Source:
        """Put the part's head and tail around the range."""
        if self.mode != "multipart" or not incident.applied:
            return source
        return joined(in_memory(incident.kept), source, in_memory(_TAIL))


@effect
class Redirect(Effect):
    """Redirect pulls of blobs to another host, with a signed URL that refuses Authorization (400).

    Unless it is given, the other host is another port of this server, or in process another name.

    Attributes:
        status: The status of the redirect.
        to: Scheme, host and port of the other host.
        heads: Redirect HEAD too.
        head_status: The other host's answer to HEAD, such as 403 if URLs are signed for GET only.
        seconds: How long the URL is valid; after that, it is answered with 403.
    """

    methods: ClassVar = frozenset({"GET", "HEAD"})
    routes: ClassVar = frozenset({Route.BLOB})
    prefix: ClassVar = _HOST

    status: Annotated[int, REDIRECT] = 307
    to: Annotated[str | None, TEXT] = None
    heads: Annotated[bool, FLAG] = True
    head_status: Annotated[int, STATUS] = 200
    seconds: Annotated[float, SECONDS] = 1200.0

    async def arrive(self, incident: Incident) -> Response | None:
        """Answer requests to the other host."""
        exchange = incident.exchange
        if not exchange.path.startswith(_HOST):
            return None
        incident.note()
        signed = incident.memory.get(exchange.parameter("X-Amz-Signature") or "")
        if exchange.header(b"authorization") is not None:
            return _xml(400, "InvalidArgument", "Only one auth mechanism allowed")
        if signed is None or incident.now() >= signed[0]:
            return _xml(403, "AccessDenied", "Request has expired")
        if exchange.method == "HEAD" and self.head_status != _OK:
            return Response(self.head_status)
        _, exchange.repository, exchange.digest = signed
        exchange.address = Address(Route.BLOB, exchange.repository, exchange.digest)
        response = await get_blob(incident.service, exchange)
        drop(response, b"docker-content-digest")  # object storage does not have it
        return response

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Redirect what the handler would serve."""
        exchange = incident.exchange
        if exchange.path.startswith(_HOST) or response.status not in (_OK, _PARTIAL):
            return response
        if exchange.method == "HEAD" and not self.heads:
            return response
        incident.note()
        location = await self._sign(incident)
        return Response(self.status, [(b"location", location.encode())])

    async def _sign(self, incident: Incident) -> str:
        exchange = incident.exchange
        signature = incident.random.randbytes(32).hex()
        now, urls = incident.now(), incident.memory  # each with its end, repository and digest
        urls[signature] = now + self.seconds, exchange.repository, exchange.digest
        for old in [key for key, (end, _, _) in urls.items() if end <= now]:
            del urls[old]
        host = self.to or await _other_host(incident)
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        query = f"X-Amz-Date={stamp}&X-Amz-Expires={int(self.seconds)}&X-Amz-Signature={signature}"
        return f"{host}{_HOST.decode()}{quote(exchange.digest or '', safe='')}?{query}"


async def _other_host(incident: Incident) -> str:
    """Return scheme, host and port of another host: another port, or in process another name."""
    exchange, hosts = incident.exchange, incident.scene.surroundings.hosts
    if hosts:
        return await hosts[-1].url()
    own = urlsplit(f"//{exchange.header(b'host') or 'registry'}")
    return f"{exchange.scheme}://objects.{own.hostname}" + (f":{own.port}" if own.port else "")


def _xml(status: int, code: str, message: str) -> Response:
    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    body = f"<?xml version='1.0' encoding='UTF-8'?>{error}".encode()
    return Response(status, [(b"content-type", b"application/xml")], body)


@effect
class Encode(Effect):
    """Add a Content-Encoding, as a proxy may.

    Attributes:
        encoding: The header's value.
        compress: Encode the body accordingly; otherwise it is sent as it is.
    """

    methods: ClassVar = frozenset({"GET", "HEAD"})

    encoding: Annotated[str, TEXT] = "gzip"
    compress: Annotated[bool, FLAG] = False

    def __post_init__(self) -> None:
        Effect.__post_init__(self)
        if self.compress and self.encoding not in ("gzip", "x-gzip", "deflate"):
            raise QuantityError(f"compress: {self.encoding} is not supported, only gzip, x-gzip and deflate")

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Add the header."""
        if response.status in (200, 206):
            put(response, b"content-encoding", self.encoding.encode())
            response.measured = not self.compress
            incident.note()
        return response

    def give(self, incident: Incident, source: Source) -> Source:
        """Compress the body."""
        if not (self.compress and incident.applied):
            return source
        compressor = zlib.compressobj(wbits=15 if self.encoding == "deflate" else 31)
        ready, ended = b"", False

        async def read(most: int) -> bytes:
            nonlocal ready, ended
            while not ready and not ended:
                piece = await source(most)
                ended = not piece
                ready = compressor.compress(piece) if piece else compressor.flush()
            piece, ready = ready[:most], ready[most:]
            return piece

        return read
