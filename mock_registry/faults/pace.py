"""Faults of pace: everything arrives, but late or slowly.

Owns when octets are passed on. All time is the registry's clock.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from mock_registry.exchange import Response

from .effect import Effect
from .incident import Incident
from .quantities import KILOBYTES, MICROSECONDS, MILLISECONDS, OCTETS, RATE, SECONDS
from .streams import Source

_SLICES = 10
"""Pieces of a second that a rate is kept in, as toxiproxy does."""


@dataclass(frozen=True, slots=True)
class Latency(Effect):
    """Wait before the response, or upstream before the request is looked at, as toxiproxy does.

    Attributes:
        latency: Milliseconds.
        jitter: Milliseconds more or less.
    """

    downstream: ClassVar = True

    latency: Annotated[float, MILLISECONDS] = 0.0
    jitter: Annotated[float, MILLISECONDS] = 0.0

    async def _wait(self, incident: Incident) -> None:
        incident.note()
        spread = incident.random.uniform(-self.jitter, self.jitter) if self.jitter else 0.0
        await incident.pause((self.latency + spread) / 1000)

    async def arrive(self, incident: Incident) -> Response | None:
        """Hold the request back."""
        if incident.upstream:
            await self._wait(incident)
        return None

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Hold the response back."""
        if not incident.upstream:
            await self._wait(incident)
        return response


class _Paced:
    """A body that comes in slices, with a pause before each."""

    def __init__(self, source: Source, incident: Incident) -> None:
        self._source = source
        self._incident = incident

    def most(self) -> int:
        """Return the octets of the next slice."""
        raise NotImplementedError

    def pause(self, count: int) -> float:
        """Return the seconds before a slice of so many octets."""
        raise NotImplementedError

    async def read(self, most: int) -> bytes:
        piece = await _gather(self._source, min(most, self.most()))
        if piece:
            self._incident.note()
            await self._incident.pause(self.pause(len(piece)))
        return piece


async def _gather(source: Source, count: int) -> bytes:
    """Return so many octets, or what there is: in whatever pieces they come, they take the same time."""
    piece = await source.read(count)
    while piece and len(piece) < count and (more := await source.read(count - len(piece))):
        piece += more
    return piece


class _Throttled(_Paced):
    """A body at a rate, in octets per second."""

    def __init__(self, source: Source, incident: Incident, rate: float) -> None:
        super().__init__(source, incident)
        self._rate = rate

    def most(self) -> int:
        return max(1, int(self._rate / _SLICES))

    def pause(self, count: int) -> float:
        return count / self._rate


class _Sliced(_Paced):
    """A body in slices of a size more or less."""

    def __init__(self, source: Source, incident: Incident, size: int, variation: int, delay: float) -> None:
        super().__init__(source, incident)
        self._size = size
        self._variation = variation
        self._delay = delay
        self._first = True

    def most(self) -> int:
        spread = self._incident.random.randint(-self._variation, self._variation) if self._variation else 0
        return max(1, self._size + spread)

    def pause(self, count: int) -> float:  # noqa: ARG002 (whatever the count)
        first, self._first = self._first, False
        return 0.0 if first else self._delay


@dataclass(frozen=True, slots=True)
class _InOneDirection(Effect):
    """Acts on the request's body or on the response's."""

    def _slow(self, incident: Incident, source: Source) -> Source:
        raise NotImplementedError

    def take(self, incident: Incident, source: Source) -> Source:
        """Slow the request's body down."""
        return self._slow(incident, source) if incident.upstream else source

    def give(self, incident: Incident, source: Source) -> Source:
        """Slow the response's body down."""
        return source if incident.upstream else self._slow(incident, source)


@dataclass(frozen=True, slots=True)
class Throttle(_InOneDirection):
    """Pass a body on at a rate.

    Attributes:
        rate: Octets per second.
    """

    rate: Annotated[float, RATE]

    def _slow(self, incident: Incident, source: Source) -> Source:
        return _Throttled(source, incident, self.rate)


@dataclass(frozen=True, slots=True)
class Bandwidth(_InOneDirection):
    """Pass a body on at a rate, in toxiproxy's unit.

    Attributes:
        rate: Kilobytes (1000 octets) per second.
    """

    rate: Annotated[float, KILOBYTES]

    def _slow(self, incident: Incident, source: Source) -> Source:
        return _Throttled(source, incident, self.rate * 1000)


@dataclass(frozen=True, slots=True)
class Slicer(_InOneDirection):
    """Pass a body on in small pieces, as toxiproxy does.

    Attributes:
        average_size: Octets of a piece.
        size_variation: Octets more or less.
        delay: Microseconds between pieces.
    """

    average_size: Annotated[int, OCTETS]
    size_variation: Annotated[int, OCTETS] = 0
    delay: Annotated[float, MICROSECONDS] = 0.0

    def _slow(self, incident: Incident, source: Source) -> Source:
        return _Sliced(source, incident, self.average_size, self.size_variation, self.delay / 1e6)


@dataclass(frozen=True, slots=True)
class Trickle(_InOneDirection):
    """Pass a body on so slowly that no time limit on silence ever ends it.

    Attributes:
        octets: How many at a time.
        every: Seconds between them.
    """

    octets: Annotated[int, OCTETS] = 1
    every: Annotated[float, SECONDS] = 1.0

    def _slow(self, incident: Incident, source: Source) -> Source:
        return _Sliced(source, incident, self.octets, 0, self.every)
