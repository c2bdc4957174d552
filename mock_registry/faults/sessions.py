"""Effects on upload sessions: lost, stale, unknown to some replicas, slow to commit, or out of space.

Owns what a session's answers say and what becomes of it. Must not write to a session that a request holds.
"""

from typing import Annotated, ClassVar, Literal

from mock_registry.exchange import Response
from mock_registry.journal import Route
from mock_registry.spec import parse_content_range

from .answers import SESSION_ROUTES, Form, header_of, put, refuse
from .effect import Effect, Incident, effect
from .quantities import COUNT, FLAG, OCTETS, SECONDS, STATUS, TEXT
from .scene import Refused, Source, until

_CREATED = 201


@effect
class ForgetSessions(Effect):
    """Lose upload sessions, with what they hold.

    Attributes:
        which: The request's ``own``, those of its ``repository``, or ``all``. A session that another request
            holds is kept.
        on: At every ``request``, before it is handled; or at an ``abort``, when its body ends early.
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
            if meant and await incident.close_session(session):
                incident.note()


@effect
class UploadRange(Effect):
    """Answer with another Range of an upload session than it has.

    Attributes:
        form: ``rewind`` it by some bytes; put it ``ahead`` by some, as with an exclusive end; ``stale``:
            always the first one of a session that was not empty; ``missing``: leave it out. ``keep`` it.
        octets: How far, in bytes.
        empty: The Range of an empty session: ``0-0``, ``0--1``, or ``missing``.
    """

    routes: ClassVar = SESSION_ROUTES

    form: Literal["keep", "rewind", "ahead", "stale", "missing"] = "keep"
    octets: Annotated[int, OCTETS] = 1
    empty: Literal["0-0", "0--1", "missing"] | None = None

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Change it."""
        told = header_of(response, b"range")
        if told is None:
            return response
        text = self._tell(incident, told)
        if text != told:
            incident.note()
            put(response, b"range", None if text is None else text.encode())
        return response

    def _tell(self, incident: Incident, told: str) -> str | None:
        name = incident.exchange.session or ""
        session = incident.service.state.sessions.get(name)
        if session is not None and not session.size:
            told = self.empty or told
        elif self.form == "stale":
            told = incident.memory.setdefault(name, told)
        else:
            first, _, last = told.partition("-")
            moved = {"rewind": -self.octets, "ahead": self.octets}.get(self.form, 0)
            told = f"{first}-{max(int(last) + moved, 0)}"
        return None if "missing" in (self.form, told) else told


@effect
class ShortAccept(Effect):
    """Keep only the first bytes of a chunk, and say so; the rest is read and discarded.

    Attributes:
        octets: How many bytes.
    """

    methods: ClassVar = frozenset({"PATCH"})
    routes: ClassVar = frozenset({Route.UPLOAD})

    octets: Annotated[int, OCTETS]

    async def arrive(self, incident: Incident) -> Response | None:
        """Let the request announce no more than is kept."""
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
        """End the body there for the handler."""

        async def end() -> bool:
            if await incident.scene.inlet.has_more():
                incident.note()
            return True

        return until(source, self.octets, end)

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Read the rest."""
        if incident.applied:
            await incident.scene.take_rest()
        return response


@effect
class SlowCommit(Effect):
    """Answer the commit of an upload late; the blob is there meanwhile.

    Attributes:
        seconds: How long.
        then: The answer to a client that still waits: ``created``, or ``unknown`` (404 BLOB_UPLOAD_UNKNOWN).
    """

    methods: ClassVar = frozenset({"POST", "PUT"})
    routes: ClassVar = SESSION_ROUTES

    seconds: Annotated[float, SECONDS] = 0.0
    then: Literal["created", "unknown"] = "created"

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Wait."""
        if response.status != _CREATED or incident.exchange.mounted_from:
            return response
        incident.note()
        await incident.pause(self.seconds)
        if self.then == "unknown":
            return refuse(404, error="BLOB_UPLOAD_UNKNOWN")
        return response


@effect
class Replicas(Effect):
    """Behave as several registries behind a load balancer that share content, but not upload sessions.

    Requests go to them in turn; a session is known where it was opened.

    Attributes:
        count: How many replicas.
        status: The status of a replica that does not know the session.
        error: The code in its body.
    """

    routes: ClassVar = SESSION_ROUTES

    count: Annotated[int, COUNT] = 2
    status: Annotated[int, STATUS] = 404
    error: Annotated[str, TEXT] = "BLOB_UPLOAD_UNKNOWN"

    async def arrive(self, incident: Incident) -> Response | None:
        """Refuse a request to the wrong replica."""
        homes = incident.memory  # of each session the replica that knows it, and of None the latest one
        here = incident.kept = homes[None] = (homes.get(None, -1) + 1) % self.count
        home = homes.get(incident.exchange.address.last or "")
        if home in (None, here):
            return None
        incident.note()
        return refuse(self.status, error=self.error)

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Remember where a session was opened."""
        if incident.exchange.address.route is Route.UPLOADS and incident.exchange.session:
            incident.memory[incident.exchange.session] = incident.kept
        return response


@effect
class Collide(Effect):
    """Let the second commit of a blob fail.

    Attributes:
        status: The status of its answer.
        error: The code in the body.
        scope: The second of two ``concurrent`` ones; or every commit of a blob that is ``stored`` already.
    """

    methods: ClassVar = frozenset({"POST", "PUT"})
    routes: ClassVar = SESSION_ROUTES

    status: Annotated[int, STATUS] = 500
    error: Annotated[str | None, TEXT] = None
    scope: Literal["concurrent", "stored"] = "concurrent"

    async def arrive(self, incident: Incident) -> Response | None:
        """Refuse the second one."""
        exchange, digest = incident.exchange, incident.exchange.parameter("digest")
        if digest is None:
            return None
        if self.scope == "stored":
            found = incident.service.state.blob(exchange.repository, digest) is not None
        else:
            found = (exchange.repository, digest) in incident.memory.values()
            incident.memory[incident] = exchange.repository, digest
        if not found:
            return None
        incident.note()
        return refuse(self.status, error=self.error)

    def over(self, incident: Incident) -> None:
        """Record that a commit is done."""
        incident.memory.pop(incident, None)


@effect
class Quota(Effect):
    """Limit the bytes of blobs and open uploads in the repositories that the rule names.

    A blob counts in every repository that holds it.

    Attributes:
        octets: How many bytes.
        status: The status of an upload beyond the limit, once its body has been read.
        form: The kind of body.
        error: The code in a JSON body.
        hang: Answer nothing until the rule is released.
        frees: The upload session ends, and its space is free again.
    """

    methods: ClassVar = frozenset({"PATCH", "POST", "PUT"})
    routes: ClassVar = SESSION_ROUTES

    octets: Annotated[int, OCTETS]
    status: Annotated[int, STATUS] = 500
    form: Form = "json"
    error: Annotated[str | None, TEXT] = None
    hang: Annotated[bool, FLAG] = False
    frees: Annotated[bool, FLAG] = False

    def take(self, incident: Incident, source: Source) -> Source:
        """Stop a body when the space is used up."""

        async def refuse_rest() -> None:
            if await incident.scene.inlet.has_more():
                incident.note()
                if self.hang:
                    await incident.stall()
                refusal = refuse(self.status, form=self.form, error=self.error, message="no space left")
                raise Refused(refusal, drain=True)

        return until(source, lambda: self._room(incident), refuse_rest)

    def _room(self, incident: Incident) -> int:
        """Return the bytes that are free."""
        state, covers = incident.service.state, incident.rule.covers
        used = sum(each.size for each in state.sessions.values() if covers(each.repository))
        for repository in state.repositories.values():
            if covers(repository.name):
                blobs = map(state.storage.find, repository.blobs)
                used += sum(blob.size for blob in blobs if blob is not None)
        return max(self.octets - used, 0)

    async def reply(self, incident: Incident, response: Response) -> Response:
        """End the session."""
        if incident.applied and self.frees:
            await incident.close_session(incident.session)
        return response
