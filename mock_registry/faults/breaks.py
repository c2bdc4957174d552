"""Faults of the connection: it ends, or nothing more comes over it.

Owns when it breaks, in octets of bodies. How a connection is ended is the server's affair: under a server
that cannot be told, a reset becomes a FIN, and an end before the head of the response a 502.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Protocol

from mock_registry.exchange import Response, Severed

from .effect import Effect
from .incident import Incident
from .quantities import MILLISECONDS, OCTETS, SECONDS
from .streams import Source


class _Breaks(Protocol):
    """What acts at one point of a stream."""

    async def strike(self, incident: Incident) -> None:
        """Act."""


class _Point:
    """A body in which something happens after so many octets, if it has that many."""

    def __init__(self, source: Source, after: int, effect: _Breaks, incident: Incident) -> None:
        self._source = source
        self._left: int | None = after
        self._effect = effect
        self._incident = incident

    async def read(self, most: int) -> bytes:
        if self._left == 0:
            self._left = None
            await self._effect.strike(self._incident)
        piece = await self._source.read(most if self._left is None else min(most, self._left))
        if self._left is not None:
            self._left -= len(piece)
        return piece


@dataclass(frozen=True, slots=True)
class _AtOnePoint(Effect):
    """Acts before the handler, after it, or at one octet of a body."""

    after: Annotated[int | None, OCTETS] = None

    async def strike(self, incident: Incident) -> None:
        """Act."""
        raise NotImplementedError

    async def arrive(self, incident: Incident) -> Response | None:
        """Act before the handler."""
        if self.after is None and not self._is_late(incident):
            await self.strike(incident)
        return None

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Act when the registry has done its work, and before anybody hears of it."""
        if self.after is None and self._is_late(incident):
            await self.strike(incident)
        return response

    def _is_late(self, incident: Incident) -> bool:
        return incident.after or incident.rule.fault.answered is not None

    def take(self, incident: Incident, source: Source) -> Source:
        """Act within the request's body."""
        if self.after is None or not incident.upstream:
            return source
        return _Point(source, self.after, self, incident)

    def give(self, incident: Incident, source: Source) -> Source:
        """Act within the response's body."""
        if self.after is None or incident.upstream:
            return source
        return _Point(source, self.after, self, incident)


@dataclass(frozen=True, slots=True)
class Cut(_AtOnePoint):
    """End the connection with a FIN.

    Attributes:
        after: Octets of the body after which; without it, before anything is done, or with ``when=after``
            before anything is answered.
    """

    async def strike(self, incident: Incident) -> None:
        """End it."""
        incident.note()
        raise Severed(reset=False)


@dataclass(frozen=True, slots=True)
class Reset(_AtOnePoint):
    """End the connection with a reset (RST), when the peer has all that was sent before.

    Attributes:
        after: As of `Cut`.
    """

    async def strike(self, incident: Incident) -> None:
        """End it."""
        incident.note()
        raise Severed(reset=True)


@dataclass(frozen=True, slots=True)
class Stall(_AtOnePoint):
    """Do nothing for a time, then go on.

    Attributes:
        after: As of `Cut`.
        seconds: How long; without it, until the rule is released or removed, or the peer has gone.
    """

    seconds: Annotated[float | None, SECONDS] = None

    async def strike(self, incident: Incident) -> None:
        """Wait."""
        incident.note()
        await incident.stall(self.seconds)


@dataclass(frozen=True, slots=True)
class LimitData(Effect):
    """End the connection after so many octets, as toxiproxy does.

    Attributes:
        bytes: How many octets of the body.
    """

    bytes: Annotated[int, OCTETS]

    async def strike(self, incident: Incident) -> None:
        """End it."""
        incident.note()
        raise Severed(reset=False)

    def take(self, incident: Incident, source: Source) -> Source:
        """Act within the request's body."""
        return _Point(source, self.bytes, self, incident) if incident.upstream else source

    def give(self, incident: Incident, source: Source) -> Source:
        """Act within the response's body."""
        return source if incident.upstream else _Point(source, self.bytes, self, incident)


@dataclass(frozen=True, slots=True)
class _AfterTime(Effect):
    """Lets nothing through in one direction, and ends the connection after a time."""

    downstream: ClassVar = True
    reset: ClassVar = False

    timeout: Annotated[float, MILLISECONDS] = 0.0

    async def _strike(self, incident: Incident) -> None:
        raise NotImplementedError

    async def arrive(self, incident: Incident) -> Response | None:
        """Act on a request."""
        if incident.upstream:
            await self._strike(incident)
        return None

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Act on a response."""
        if not incident.upstream:
            await self._strike(incident)
        return response


@dataclass(frozen=True, slots=True)
class ResetPeer(_AfterTime):
    """End the connection with a reset, as toxiproxy does.

    Attributes:
        timeout: Milliseconds until then, in which nothing comes.
    """

    async def _strike(self, incident: Incident) -> None:
        incident.note()
        await incident.pause(self.timeout / 1000)
        raise Severed(reset=True)


@dataclass(frozen=True, slots=True)
class Timeout(_AfterTime):
    """Let nothing through, and end the connection after a time, as toxiproxy does.

    Attributes:
        timeout: Milliseconds until then; 0 is never, until the rule is released or removed.
    """

    async def _strike(self, incident: Incident) -> None:
        incident.note()
        if self.timeout:
            await incident.pause(self.timeout / 1000)
        else:
            await incident.stall()
        raise Severed(reset=False)


@dataclass(frozen=True, slots=True)
class SlowClose(Effect):
    """Close the connection after the response, and late, as toxiproxy does.

    Attributes:
        delay: Milliseconds between the last octet and the end.
    """

    downstream: ClassVar = True

    delay: Annotated[float, MILLISECONDS] = 0.0

    def give(self, incident: Incident, source: Source) -> Source:
        """Hold the connection after the body."""
        return _Held(source, self.delay / 1000, incident)


class _Held:
    """A body after which the connection ends, late."""

    def __init__(self, source: Source, delay: float, incident: Incident) -> None:
        self._source = source
        self._delay = delay
        self._incident = incident

    async def read(self, most: int) -> bytes:
        piece = await self._source.read(most)
        if not piece:
            self._incident.note()
            self._incident.course.closes = True
            await self._incident.pause(self._delay)
        return piece
