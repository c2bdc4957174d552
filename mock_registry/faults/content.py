"""Faults of what is told about content: checks that lie, ranges that are not those asked for, wrong octets.

Owns answers to HEAD and to Range that no honest registry gives.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from mock_registry.exchange import Response, Stretch
from mock_registry.journal import Route
from mock_registry.spec import is_digest

from .answers import Form, drop, header_of, put, refuse
from .effect import Effect
from .incident import Incident
from .quantities import INTEGER, OCTETS, STATUS, QuantityError
from .streams import Content, Source

_OK = 200
_PARTIAL = 206
_ABSENT = 404
_BOUNDARY = b"mock-registry-boundary"
_TAIL = b"\r\n--" + _BOUNDARY + b"--\r\n"


@dataclass(frozen=True, slots=True)
class Lie(Effect):
    """Answer an existence check (HEAD of a blob or manifest) with what is not so.

    Attributes:
        claim: ``absent`` of what is there, ``exists`` of what is not, or nothing about that.
        status: How absence is told: 404, or as some do 403 or 405.
        form: What kind of body would follow a GET.
        length: Of an answer that something exists: the Content-Length ``missing``, or ``wrong`` by one.
        digest: Likewise Docker-Content-Digest; ``wrong`` is a digest of nothing.
        octets: The Content-Length of what does not exist.
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
        """Lie."""
        if self.claim == "absent" and response.status == _OK:
            incident.note()
            return self._deny(incident)
        if self.claim == "exists" and response.status == _ABSENT:
            response = self._claim(incident)
        if response.status == _OK:
            self._blur(incident, response)
        return response

    def _deny(self, incident: Incident) -> Response:
        blob = incident.exchange.address.route is Route.BLOB
        absent = "BLOB_UNKNOWN" if blob else "MANIFEST_UNKNOWN"
        return refuse(self.status, form=self.form, error=absent if self.status == _ABSENT else None)

    def _claim(self, incident: Incident) -> Response:
        incident.note()
        last = incident.exchange.address.last or ""
        headers = [(b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % self.octets)]
        if is_digest(last):
            headers.append((b"docker-content-digest", last.encode()))
        response = Response(_OK, headers)
        response.measured = False
        return response

    def _blur(self, incident: Incident, response: Response) -> None:
        if self.digest:
            incident.note()
            drop(response, b"docker-content-digest")
            if self.digest == "wrong":
                response.headers.append((b"docker-content-digest", b"sha256:" + b"0" * 64))
        if self.length:
            incident.note()
            told = header_of(response, b"content-length")
            length = response.length if told is None else int(told)
            drop(response, b"content-length")
            response.measured = False
            if self.length == "wrong":
                response.headers.append((b"content-length", b"%d" % (length + 1)))


RangeMode = Literal["ignore", "shift", "lie", "short", "multipart", "bare", "refuse"]


@dataclass(frozen=True, slots=True)
class Ranges(Effect):
    """Answer the Range of a blob GET otherwise than asked.

    Attributes:
        mode: ``ignore`` it: 200 and all of it. ``shift``: another start, which Content-Range tells. ``lie``:
            another start, which Content-Range does not tell. ``short``: the last octet is missing, as if the
            end were exclusive. ``multipart``: one part of multipart/byteranges. ``bare``: 206 without
            Content-Range. ``refuse``: 416.
        octets: How far the start is off; negative is earlier.
    """

    methods: ClassVar = frozenset({"GET"})
    routes: ClassVar = frozenset({Route.BLOB})

    mode: RangeMode = "ignore"
    octets: Annotated[int, INTEGER] = -1

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Change what is sent, if a range was asked for and could be had."""
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
        if self.mode == "lie":  # as many octets as promised, from elsewhere
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
        """Put the part's head and tail around it."""
        if self.mode != "multipart" or not incident.applied:
            return source
        return _Joined(Content(incident.kept), source, Content(_TAIL))


class _Joined:
    """Bodies one after another."""

    def __init__(self, *sources: Source) -> None:
        self._sources = list(sources)

    async def read(self, most: int) -> bytes:
        while self._sources:
            if piece := await self._sources[0].read(most):
                return piece
            del self._sources[0]
        return b""


@dataclass(frozen=True, slots=True)
class Corrupt(Effect):
    """Change one octet of a body on its way.

    Attributes:
        offset: Which one, from 0.
        mask: The bits that are turned over.
    """

    offset: Annotated[int, OCTETS] = 0
    mask: Annotated[int, INTEGER] = 0xFF

    def __post_init__(self) -> None:
        Effect.__post_init__(self)
        if not 1 <= self.mask <= 0xFF:  # noqa: PLR2004 (an octet)
            raise QuantityError(f"mask: {self.mask} is none of an octet, from 1 to 255")

    def take(self, incident: Incident, source: Source) -> Source:
        """Change what is stored."""
        return _Corrupted(source, self, incident) if incident.upstream else source

    def give(self, incident: Incident, source: Source) -> Source:
        """Change what is sent."""
        return source if incident.upstream else _Corrupted(source, self, incident)


class _Corrupted:
    """A body with one octet that is not what it was."""

    def __init__(self, source: Source, corrupt: Corrupt, incident: Incident) -> None:
        self._source = source
        self._left = corrupt.offset
        self._mask = corrupt.mask
        self._incident = incident

    async def read(self, most: int) -> bytes:
        piece = await self._source.read(most)
        if 0 <= self._left < len(piece):
            self._incident.note()
            changed = bytearray(piece)
            changed[self._left] ^= self._mask
            piece = bytes(changed)
            self._left = -1
        elif self._left >= 0:
            self._left -= len(piece)
        return piece
