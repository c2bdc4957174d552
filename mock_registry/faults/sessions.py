"""Faults of upload sessions: lost, not as far as told, unknown to half of the replicas, slow to commit.

Owns what is told of a session and what becomes of it. Must not write to a session that a request holds.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from mock_registry.exchange import Response
from mock_registry.journal import Route
from mock_registry.spec import parse_content_range

from .answers import SESSION_ROUTES, drop, header_of, put, refuse
from .effect import Effect
from .incident import Incident
from .quantities import COUNT, OCTETS, SECONDS, STATUS, TEXT
from .streams import Source

_CREATED = 201


@dataclass(frozen=True, slots=True)
class ForgetSessions(Effect):
    """Lose upload sessions, with what they hold.

    Attributes:
        which: The request's ``own``, those of its ``repository``, or ``all``. One that another request is
            using is not lost.
        on: Every ``request``, before it is looked at; or when its body ends early, an ``abort``.
    """

    routes: ClassVar = SESSION_ROUTES

    which: Literal["own", "repository", "all"] = "own"
    on: Literal["request", "abort"] = "request"

    async def arrive(self, incident: Incident) -> Response | None:
        """Lose them before the request."""
        if self.on == "request":
            await self._forget(incident)
        return None

    async def broken(self, incident: Incident) -> None:
        """Lose them after a body that was cut short."""
        if self.on == "abort":
            await self._forget(incident)

    async def _forget(self, incident: Incident) -> None:
        state, exchange = incident.service.state, incident.exchange
        for session in tuple(state.sessions.values()):
            meant = {
                "own": session.identifier == exchange.address.last,
                "repository": session.repository == exchange.repository,
                "all": True,
            }[self.which]
            if meant and not session.busy:
                incident.note()
                await state.close_session(session)


@dataclass(slots=True)
class _Told:
    """What was told of each session first."""

    ranges: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UploadRange(Effect):
    """Tell another Range of an upload session than it has.

    Attributes:
        form: ``rewind`` it by some octets; tell it ``ahead`` by some, as of an exclusive end; ``stale``: tell
            for ever the first one that was not empty; leave it out: ``missing``. ``keep`` it.
        octets: How far.
        empty: What is told of a session of no octets: ``0-0``, ``0--1``, or ``missing``.
    """

    routes: ClassVar = SESSION_ROUTES

    form: Literal["keep", "rewind", "ahead", "stale", "missing"] = "keep"
    octets: Annotated[int, OCTETS] = 1
    empty: Literal["0-0", "0--1", "missing"] | None = None

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Tell it."""
        told = header_of(response, b"range")
        if told is None:
            return response
        session = incident.service.state.sessions.get(incident.exchange.session or "")
        text = self._of_nothing(told) if session and not session.size else self._tell(incident, told)
        if text != told:
            incident.note()
            drop(response, b"range")
            if text is not None:
                put(response, b"range", text.encode())
        return response

    def _of_nothing(self, told: str) -> str | None:
        return None if self.empty == "missing" or self.form == "missing" else self.empty or told

    def _tell(self, incident: Incident, told: str) -> str | None:
        if self.form == "missing":
            return None
        if self.form == "stale":
            ranges = incident.remember(_Told).ranges
            return ranges.setdefault(incident.exchange.session or "", told)
        first, _, last = told.partition("-")
        moved = {"rewind": -self.octets, "ahead": self.octets}.get(self.form, 0)
        return f"{first}-{max(int(last) + moved, 0)}"


@dataclass(frozen=True, slots=True)
class ShortAccept(Effect):
    """Keep only the first octets of a chunk, and say so; the rest is read and thrown away.

    Attributes:
        octets: How many.
    """

    methods: ClassVar = frozenset({"PATCH"})
    routes: ClassVar = frozenset({Route.UPLOAD})

    octets: Annotated[int, OCTETS]

    async def arrive(self, incident: Incident) -> Response | None:
        """Make the request ask for no more than will be kept."""
        exchange = incident.exchange
        if exchange.content_length is not None and exchange.content_length <= self.octets:
            return None
        chunk = parse_content_range(exchange.header(b"content-range") or "")
        if chunk is not None:
            kept = b"%d-%d" % (chunk[0], chunk[0] + self.octets - 1)
            others = [(name, value) for name, value in exchange.headers if name != b"content-range"]
            exchange.headers = [*others, (b"content-range", kept)]
            exchange.content_length = self.octets
        return None

    def take(self, incident: Incident, source: Source) -> Source:
        """Let the body seem to end there."""
        return _Shortened(source, self.octets, incident)

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Go on with what was not kept."""
        if incident.applied:
            await incident.course.take_rest()
        return response


class _Shortened:
    """The beginning of a body."""

    def __init__(self, source: Source, octets: int, incident: Incident) -> None:
        self._source = source
        self._left = octets
        self._incident = incident

    async def read(self, most: int) -> bytes:
        if not self._left:
            if await self._incident.course.inlet.has_more():
                self._incident.note()
            return b""
        piece = await self._source.read(min(most, self._left))
        self._left -= len(piece)
        return piece


@dataclass(frozen=True, slots=True)
class SlowCommit(Effect):
    """Take long to answer the end of an upload, whose blob is there all the while.

    Attributes:
        seconds: How long.
        then: What is answered to who still waits: ``created``, or ``unknown`` (404 BLOB_UPLOAD_UNKNOWN).
    """

    methods: ClassVar = frozenset({"POST", "PUT"})
    routes: ClassVar = SESSION_ROUTES

    seconds: Annotated[float, SECONDS] = 0.0
    then: Literal["created", "unknown"] = "created"

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Take long."""
        if response.status != _CREATED or incident.exchange.mounted_from:
            return response
        incident.note()
        await incident.pause(self.seconds)
        if self.then == "unknown":
            return refuse(404, error="BLOB_UPLOAD_UNKNOWN")
        return response


@dataclass(slots=True)
class _Replicas:
    """Which replica knows which session, and whose turn it is."""

    turn: int = 0
    homes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Replicas(Effect):
    """Behave as several registries behind a balancer that share content, but not the secret of sessions.

    Requests go to them in turn; a session is known where it was opened.

    Attributes:
        count: How many.
        status: What is answered elsewhere.
        error: Code in its body.
    """

    routes: ClassVar = SESSION_ROUTES

    count: Annotated[int, COUNT] = 2
    status: Annotated[int, STATUS] = 404
    error: Annotated[str, TEXT] = "BLOB_UPLOAD_UNKNOWN"

    async def arrive(self, incident: Incident) -> Response | None:
        """Refuse what came to the wrong one."""
        replicas = incident.remember(_Replicas)
        here, replicas.turn = replicas.turn % self.count, replicas.turn + 1
        incident.number = here
        home = replicas.homes.get(incident.exchange.address.last or "")
        if home in (None, here):
            return None
        incident.note()
        return refuse(self.status, error=self.error)

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Remember where a session was opened."""
        if incident.exchange.address.route is Route.UPLOADS and incident.exchange.session:
            incident.remember(_Replicas).homes[incident.exchange.session] = incident.number
        return response


@dataclass(slots=True)
class _Commits:
    """How many are committing each blob now."""

    counts: Counter[tuple[str | None, str]] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Collide(Effect):
    """Let the second one fail that commits a blob.

    Attributes:
        status: How.
        error: Code in the body.
        scope: The second at the same time, ``concurrent``; or whoever commits what is ``stored`` already.
    """

    methods: ClassVar = frozenset({"POST", "PUT"})
    routes: ClassVar = SESSION_ROUTES

    status: Annotated[int, STATUS] = 500
    error: Annotated[str | None, TEXT] = None
    scope: Literal["concurrent", "stored"] = "concurrent"

    async def arrive(self, incident: Incident) -> Response | None:
        """Refuse the second one."""
        exchange = incident.exchange
        digest = exchange.parameter("digest")
        if digest is None:
            return None
        if self.scope == "stored":
            found = incident.service.state.blob(exchange.repository, digest) is not None
        else:
            counts = incident.remember(_Commits).counts
            found = counts[exchange.repository, digest] > 0
            counts[exchange.repository, digest] += 1
            incident.number = 1
        if not found:
            return None
        incident.note()
        return refuse(self.status, error=self.error)

    def over(self, incident: Incident) -> None:
        """Take note that one of them is done."""
        digest = incident.exchange.parameter("digest")
        if digest is not None and incident.number:
            counts = incident.remember(_Commits).counts
            counts[incident.exchange.repository, digest] -= 1
            counts += Counter()  # what is at 0 is forgotten
