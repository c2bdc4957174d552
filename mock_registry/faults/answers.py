"""Faults in what is answered: another status, headers, a location, an encoding.

Owns error bodies as registries and the proxies before them write them.
"""

import json
import zlib
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from mock_registry.asgi import Headers as HeaderList
from mock_registry.exchange import Response
from mock_registry.journal import Route

from .effect import Effect
from .incident import Incident
from .quantities import (
    FLAG,
    HEADERS,
    INTEGER,
    NAMES,
    OCTETS,
    STATUS,
    TEXT,
    QuantityError,
    choice,
)
from .streams import Refused, Source

Form = Literal["json", "html", "empty"]

_CODES = {
    401: "UNAUTHORIZED",
    403: "DENIED",
    405: "UNSUPPORTED",
    413: "SIZE_INVALID",
    429: "TOOMANYREQUESTS",
}
_PHRASES = {413: "Request Entity Too Large", 429: "Too Many Requests", 502: "Bad Gateway"}


def refuse(
    status: int,
    *,
    form: str = "json",
    error: str | None = None,
    message: str = "a fault of this registry",
    detail: Any = None,
    headers: HeaderList | None = None,
) -> Response:
    """Return an answer that says no.

    Args:
        status: Its status.
        form: ``json`` is a registry's error body, ``html`` a proxy's page, ``empty`` nothing.
        error: The code in a registry's error body; by default one that fits the status.
        message: For people.
        detail: What the error body adds, if anything.
        headers: Besides Content-Type.
    """
    if form == "json":
        document = {"code": error or _CODES.get(status, "UNKNOWN"), "message": message}
        if detail is not None:
            document["detail"] = detail
        body, kind = json.dumps({"errors": [document]}).encode(), b"application/json"
    elif form == "html":
        title = f"{status} {_PHRASES.get(status, 'Error')}"
        page = (
            f"<html>\r\n<head><title>{title}</title></head>\r\n<body><h1>{title}</h1></body>\r\n</html>\r\n"
        )
        body, kind = page.encode(), b"text/html"
    else:
        return Response(status, list(headers or []))
    return Response(status, [(b"content-type", kind), *(headers or [])], body)


def encode_headers(headers: dict[str, str]) -> HeaderList:
    """Return headers as ASGI wants them."""
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


def drop(response: Response, *names: bytes) -> None:
    """Remove headers from a response."""
    response.headers = [(name, value) for name, value in response.headers if name not in names]


def put(response: Response, name: bytes, value: bytes) -> None:
    """Set a header of a response, in place of all that have its name."""
    drop(response, name)
    response.headers.append((name, value))


def header_of(response: Response, name: bytes) -> str | None:
    """Return a header of a response."""
    return next((value.decode("latin-1") for key, value in response.headers if key == name), None)


@dataclass(frozen=True, slots=True)
class Status(Effect):
    """Answer with a status.

    Before the handler by default; with ``when=after``, what was asked for is done, and then denied.

    Attributes:
        status: The status.
        form: What kind of body.
        error: Code in a JSON error body.
        body: The body itself, in place of ``form``.
        headers: More of them.
        keep: Leave headers and body as the handler has them, and change the status alone.
        after: Octets of the request's body after which to answer.
        drain: Read the rest of the request's body before the answer.
    """

    status: Annotated[int, STATUS]
    form: Form = "json"
    error: Annotated[str | None, TEXT] = None
    body: Annotated[str | None, TEXT] = None
    headers: Annotated[dict[str, str] | None, HEADERS] = None
    keep: Annotated[bool, FLAG] = False
    after: Annotated[int | None, OCTETS] = None
    drain: Annotated[bool, FLAG] = True

    def _response(self) -> Response:
        headers = encode_headers(self.headers or {})
        if self.body is not None:
            return Response(self.status, headers, self.body.encode())
        return refuse(self.status, form=self.form, error=self.error, headers=headers)

    def _is_late(self, incident: Incident) -> bool:
        return incident.after or self.keep or incident.rule.fault.answered is not None

    async def arrive(self, incident: Incident) -> Response | None:
        """Answer in place of the handler."""
        if self.after is not None or self._is_late(incident):
            return None
        incident.note()
        incident.course.drains = self.drain
        return self._response()

    def take(self, incident: Incident, source: Source) -> Source:
        """Answer in the middle of the request's body."""
        return source if self.after is None else _Interruption(source, self, incident)

    def interrupt(self, incident: Incident) -> Refused:
        """Return what ends the request's body."""
        incident.note()
        return Refused(self._response(), drain=self.drain)

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Answer otherwise than the handler did."""
        if self.after is not None or not self._is_late(incident):
            return response
        incident.note()
        if not self.keep:
            return self._response()
        response.status = self.status
        response.headers += encode_headers(self.headers or {})
        return response


class _Interruption:
    """A request's body up to where it is answered."""

    def __init__(self, source: Source, status: Status, incident: Incident) -> None:
        self._source = source
        self._status = status
        self._incident = incident
        self._left = status.after or 0

    async def read(self, most: int) -> bytes:
        if not self._left:
            raise self._status.interrupt(self._incident)
        piece = await self._source.read(min(most, self._left))
        self._left -= len(piece)
        return piece


@dataclass(frozen=True, slots=True)
class Headers(Effect):
    """Change the response's headers.

    Attributes:
        set: Name and value, in place of all that have the name.
        add: Name and value, beside them.
        remove: Names.
    """

    set: Annotated[dict[str, str] | None, HEADERS] = None
    add: Annotated[dict[str, str] | None, HEADERS] = None
    remove: Annotated[tuple[str, ...], NAMES] = ()

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Change them."""
        before = list(response.headers)
        drop(response, *(name.lower().encode() for name in self.remove))
        for name, value in encode_headers(self.set or {}):
            put(response, name, value)
        response.headers += encode_headers(self.add or {})
        if response.headers != before:
            incident.note()
        return response


@dataclass(frozen=True, slots=True)
class Location(Effect):
    """Drop or rewrite the response's Location.

    Attributes:
        form: ``drop`` it; make it ``absolute`` or ``relative``; or ``stale``: the one that the request came
            to, which an upload session has left behind. ``keep`` its form.
        scheme: Of an absolute one, as a proxy gets it wrong.
        host: Likewise.
        port: Likewise; 0 leaves the port out.
    """

    form: Annotated[
        Literal["keep", "drop", "absolute", "relative", "stale"],
        choice("keep", "drop", "absolute", "relative", "stale"),
    ] = "keep"
    scheme: Annotated[str | None, TEXT] = None
    host: Annotated[str | None, TEXT] = None
    port: Annotated[int | None, INTEGER] = None

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Change it, if there is one."""
        location = header_of(response, b"location")
        if location is None:
            return response
        if self.form == "drop":
            drop(response, b"location")
        elif self.form == "stale":
            put(response, b"location", incident.exchange.target)
        else:
            put(response, b"location", self._rewrite(incident, location).encode("latin-1"))
        if header_of(response, b"location") != location:
            incident.note()
        return response

    def _rewrite(self, incident: Incident, location: str) -> str:
        parts = urlsplit(location)
        rest = parts._replace(scheme="", netloc="").geturl()
        if self.form == "relative":
            return rest
        if self.form == "keep" and (self.scheme, self.host, self.port) == (None, None, None):
            return location
        scheme = self.scheme or parts.scheme or incident.exchange.scheme
        own = urlsplit(f"//{parts.netloc or incident.exchange.header(b'host') or 'registry'}")
        port = own.port if self.port is None else self.port
        host = self.host or own.hostname or ""
        host = f"[{host}]" if ":" in host else host
        return f"{scheme}://{host}:{port}{rest}" if port else f"{scheme}://{host}{rest}"


@dataclass(frozen=True, slots=True)
class Encode(Effect):
    """Add a Content-Encoding, as a proxy does that means well.

    Attributes:
        encoding: What the header says.
        compress: Do what it says; else the octets are as they were, which of a layer is often true too.
    """

    methods: ClassVar = frozenset({"GET", "HEAD"})

    encoding: Annotated[str, TEXT] = "gzip"
    compress: Annotated[bool, FLAG] = False

    def __post_init__(self) -> None:
        Effect.__post_init__(self)
        if self.compress and self.encoding not in ("gzip", "x-gzip", "deflate"):
            raise QuantityError(f"compress: there is no {self.encoding} here, only gzip and deflate")

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Say so."""
        if response.status in (200, 206):
            put(response, b"content-encoding", self.encoding.encode())
            response.measured = not self.compress
            incident.note()
        return response

    def give(self, incident: Incident, source: Source) -> Source:
        """Compress."""
        bits = 15 if self.encoding == "deflate" else 31
        return _Compressed(source, bits) if self.compress and incident.applied else source


class _Compressed:
    """A body, compressed on the way."""

    def __init__(self, source: Source, bits: int) -> None:
        self._source = source
        self._compressor = zlib.compressobj(wbits=bits)
        self._ready = b""
        self._ended = False

    async def read(self, most: int) -> bytes:
        while not self._ready and not self._ended:
            piece = await self._source.read(most)
            self._ended = not piece
            self._ready = self._compressor.compress(piece) if piece else self._compressor.flush()
        piece, self._ready = self._ready[:most], self._ready[most:]
        return piece


SESSION_ROUTES = frozenset({Route.UPLOAD, Route.UPLOADS})
"""Where upload sessions are opened and used."""
