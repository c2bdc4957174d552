"""Faults of a registry that has had enough: of requests, of octets at once, of octets at all, of tokens.

Owns the counting of what was had. All time is the registry's clock.
"""

import math
import time
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Annotated, ClassVar, Literal

from mock_registry.exchange import Response
from mock_registry.journal import Route

from .answers import SESSION_ROUTES, Form, refuse
from .effect import Effect
from .fault import peer_of
from .incident import Incident
from .quantities import COUNT, FLAG, NUMBER, OCTETS, STATUS, TEXT
from .streams import Refused, Source

_TOO_MANY = 429


@dataclass(slots=True)
class _Bucket:
    """Requests that may still be made, as of a moment."""

    tokens: float
    moment: float


@dataclass(slots=True)
class _Buckets:
    """A bucket for whatever is limited apart."""

    held: dict[str | None, _Bucket] = field(default_factory=dict)


Apart = Literal["all", "client", "repository", "route", "user"]


@dataclass(frozen=True, slots=True)
class RateLimit(Effect):
    """Refuse requests that come too often: a token bucket.

    Attributes:
        rate: Requests per second.
        burst: Requests that may come at once.
        per: What has a bucket of its own.
        retry_after: How the wait is told: in ``seconds``, as a ``date``, or ``none`` at all.
        status: How it is refused.
        form: What kind of body.
    """

    rate: Annotated[float, NUMBER]
    burst: Annotated[int, COUNT] = 1
    per: Apart = "all"
    retry_after: Literal["seconds", "date", "none"] = "seconds"
    status: Annotated[int, STATUS] = _TOO_MANY
    form: Form = "json"

    async def arrive(self, incident: Incident) -> Response | None:
        """Refuse, or take note."""
        wait = self._wait(incident)
        if not wait:
            return None
        incident.note()
        seconds = math.ceil(wait)
        told = {
            "seconds": str(seconds),
            "date": formatdate(math.ceil(time.time()) + seconds, usegmt=True),
            "none": None,
        }[self.retry_after]
        headers = [] if told is None else [(b"retry-after", told.encode())]
        return refuse(self.status, form=self.form, message="too many requests", headers=headers)

    def _wait(self, incident: Incident) -> float:
        """Return the seconds until the next request may come: 0 for this one."""
        now, held = incident.now(), incident.remember(_Buckets).held
        bucket = held.setdefault(self._key(incident), _Bucket(self.burst, now))
        bucket.tokens = min(self.burst, bucket.tokens + (now - bucket.moment) * self.rate)
        bucket.moment = now
        if bucket.tokens < 1:
            return (1 - bucket.tokens) / self.rate
        bucket.tokens -= 1
        return 0.0

    def _key(self, incident: Incident) -> str | None:
        exchange = incident.exchange
        return {
            "all": None,
            "client": peer_of(exchange),
            "repository": exchange.repository,
            "route": f"{exchange.method} {exchange.address.route}",
            "user": exchange.access.user,
        }[self.per]


class _Bounded:
    """A request's body that is refused when it turns out to be too long."""

    def __init__(self, source: Source, most: int, refused: Refused, incident: Incident) -> None:
        self._source = source
        self._left = most
        self._refused = refused
        self._incident = incident

    async def read(self, most: int) -> bytes:
        if self._left:
            piece = await self._source.read(min(most, self._left))
            self._left -= len(piece)
            return piece
        if await self._incident.course.inlet.has_more():
            self._incident.note()
            raise self._refused
        return b""


@dataclass(frozen=True, slots=True)
class BodyLimit(Effect):
    """Refuse requests whose body is too large, as a proxy does: at once if its length is told.

    Attributes:
        octets: The largest body.
        status: How it is refused.
        form: What kind of body.
        error: Code in a JSON body.
        drain: Read the rest before the answer, so that every client sees it.
    """

    methods: ClassVar = frozenset({"PATCH", "POST", "PUT"})

    octets: Annotated[int, OCTETS]
    status: Annotated[int, STATUS] = 413
    form: Form = "html"
    error: Annotated[str | None, TEXT] = None
    drain: Annotated[bool, FLAG] = False

    def _response(self) -> Response:
        return refuse(self.status, form=self.form, error=self.error, message=f"at most {self.octets} bytes")

    async def arrive(self, incident: Incident) -> Response | None:
        """Refuse what says that it is too large."""
        if (incident.exchange.content_length or 0) <= self.octets:
            return None
        incident.note()
        incident.course.drains = self.drain
        return self._response()

    def take(self, incident: Incident, source: Source) -> Source:
        """Refuse what turns out to be."""
        return _Bounded(source, self.octets, Refused(self._response(), drain=self.drain), incident)


@dataclass(frozen=True, slots=True)
class Quota(Effect):
    """Have room for only so many octets, of blobs and open uploads, in the repositories that the rule names.

    A blob counts in every repository that holds it.

    Attributes:
        octets: How many.
        status: What an upload beyond is answered, when its body has been read.
        form: What kind of body.
        error: Code in a JSON body.
        hang: Answer nothing instead, until the rule is released.
        frees: The upload session ends, and its octets are free again.
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
        """Stop a body that there is no room for."""
        return _Rationed(source, self, incident)

    def room(self, incident: Incident) -> int:
        """Return the octets that there is room for."""
        state, fault = incident.service.state, incident.rule.fault
        used = 0
        for repository in state.repositories.values():
            if fault.covers(repository.name):
                blobs = map(state.storage.find, repository.blobs)
                used += sum(blob.size for blob in blobs if blob is not None)
        used += sum(each.size for each in state.sessions.values() if fault.covers(each.repository))
        return max(self.octets - used, 0)

    async def refuse(self, incident: Incident) -> Refused:
        """Return what ends the body of an upload that there is no room for."""
        incident.note()
        if self.hang:
            await incident.stall()
        return Refused(refuse(self.status, form=self.form, error=self.error, message="no room"), drain=True)

    async def reply(self, incident: Incident, response: Response) -> Response:
        """End the session."""
        if incident.applied and self.frees:
            session = incident.service.state.sessions.get(incident.exchange.address.last or "")
            if session is not None and not session.busy:
                await incident.service.state.close_session(session)
        return response


class _Rationed:
    """A request's body for which there is only so much room."""

    def __init__(self, source: Source, quota: Quota, incident: Incident) -> None:
        self._source = source
        self._quota = quota
        self._incident = incident
        self._left: int | None = None

    async def read(self, most: int) -> bytes:
        if self._left is None:
            self._left = self._quota.room(self._incident)
        if not self._left and await self._incident.course.inlet.has_more():
            raise await self._quota.refuse(self._incident)
        piece = await self._source.read(min(most, max(self._left, 1)))
        self._left -= len(piece)
        return piece


@dataclass(frozen=True, slots=True)
class ExpireTokens(Effect):
    """End every token that is out, before the request is looked at. Without such tokens, it does nothing."""

    async def arrive(self, incident: Incident) -> Response | None:
        """End them."""
        tokens = getattr(incident.service.auth, "tokens", None)  # whatever else logs in has none
        if tokens is not None and incident.exchange.address.route is not Route.TOKEN:
            incident.note()
            tokens.expire()
        return None
