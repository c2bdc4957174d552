"""Effects on the connection and its pace: it ends, nothing more comes, or everything comes late.

Owns when a connection breaks, in bytes of bodies, and when bytes are passed on, by the registry's clock. The
server ends connections: under one without that extension, a reset becomes a FIN, and an end before the head
of the response a 502.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

from mock_registry.exchange import Severed

from .effect import Effect, Incident, OnBody, OnMessage, effect
from .quantities import INTEGER, KILOBYTES, MICROSECONDS, MILLISECONDS, OCTETS, RATE, SECONDS, QuantityError
from .streams import Source, Until

_SLICES = 10
"""Pieces that a second's bytes are divided into at a rate, as in toxiproxy."""


# At one point: before the handler, after it, or at one byte of a body


@dataclass(frozen=True, slots=True)
class _AtOnePoint(OnMessage, OnBody):
    after: Annotated[int | None, OCTETS] = None

    async def strike(self, incident: Incident) -> None:
        """Act."""
        raise NotImplementedError

    def is_late(self, incident: Incident) -> bool:
        return incident.late

    async def act(self, incident: Incident) -> None:
        if self.after is None:
            await self.strike(incident)

    def through(self, incident: Incident, source: Source) -> Source:
        return source if self.after is None else Until(source, self.after, partial(self.strike, incident))


async def _end(incident: Incident, *, reset: bool) -> None:
    incident.note()
    raise Severed(reset=reset)


@effect
class Cut(_AtOnePoint):
    """End the connection with a FIN.

    Attributes:
        after: Bytes of the body after which it ends; by default it ends before anything is done, or with
            ``when=after`` before anything is answered.
    """

    async def strike(self, incident: Incident) -> None:
        """End it."""
        await _end(incident, reset=False)


@effect
class Reset(_AtOnePoint):
    """End the connection with a reset (RST), once the peer has everything that was sent before.

    Attributes:
        after: As in `Cut`.
    """

    async def strike(self, incident: Incident) -> None:
        """End it."""
        await _end(incident, reset=True)


@effect
class Stall(_AtOnePoint):
    """Do nothing for a time, then go on.

    Attributes:
        after: As in `Cut`.
        seconds: How long; by default until the rule is released or removed, or the peer has left.
    """

    seconds: Annotated[float | None, SECONDS] = None

    async def strike(self, incident: Incident) -> None:
        """Wait."""
        incident.note()
        await incident.stall(self.seconds)


@effect
class LimitData(OnBody):
    """End the connection after a number of bytes, as toxiproxy does.

    Attributes:
        bytes: Bytes of the body.
    """

    bytes: Annotated[int, OCTETS]

    def through(self, incident: Incident, source: Source) -> Source:
        """End it within the body."""
        return Until(source, self.bytes, partial(_end, incident, reset=False))


@effect
class ResetPeer(OnMessage):
    """End the connection with a reset, as toxiproxy does.

    Attributes:
        timeout: Milliseconds until then, in which nothing is sent.
    """

    downstream: ClassVar = True

    timeout: Annotated[float, MILLISECONDS] = 0.0

    async def act(self, incident: Incident) -> None:
        """Wait, then end it."""
        incident.note()
        await incident.pause(self.timeout / 1000)
        raise Severed(reset=True)


@effect
class Timeout(OnMessage):
    """Let nothing through, and end the connection after a time, as toxiproxy does.

    Attributes:
        timeout: Milliseconds until then; 0 is never, until the rule is released or removed.
    """

    downstream: ClassVar = True

    timeout: Annotated[float, MILLISECONDS] = 0.0

    async def act(self, incident: Incident) -> None:
        """Wait, then end it."""
        incident.note()
        if self.timeout:
            await incident.pause(self.timeout / 1000)
        else:
            await incident.stall()
        raise Severed(reset=False)


@effect
class SlowClose(Effect):
    """Close the connection after the response, and late, as toxiproxy does.

    Attributes:
        delay: Milliseconds between the last byte and the end.
    """

    downstream: ClassVar = True

    delay: Annotated[float, MILLISECONDS] = 0.0

    def give(self, incident: Incident, source: Source) -> Source:
        """Hold the connection after the response's body."""
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
            self._incident.scene.closes = True
            await self._incident.pause(self._delay)
        return piece


# Pace


@effect
class Latency(OnMessage):
    """Wait before the response, or upstream before the request is handled, as toxiproxy does.

    Attributes:
        latency: Milliseconds.
        jitter: Milliseconds more or less.
    """

    downstream: ClassVar = True

    latency: Annotated[float, MILLISECONDS] = 0.0
    jitter: Annotated[float, MILLISECONDS] = 0.0

    async def act(self, incident: Incident) -> None:
        """Wait."""
        incident.note()
        spread = incident.random.uniform(-self.jitter, self.jitter) if self.jitter else 0.0
        await incident.pause((self.latency + spread) / 1000)


class _Paced:
    """A body in slices, with a pause before each.

    Args:
        source: The body.
        incident: The incident.
        size: Returns the bytes of the next slice.
        pause: Returns the seconds before a slice of a number of bytes.
    """

    def __init__(
        self, source: Source, incident: Incident, size: Callable[[], int], pause: Callable[[int], float]
    ) -> None:
        self._source = source
        self._incident = incident
        self._size = size
        self._pause = pause

    async def read(self, most: int) -> bytes:
        count = min(most, self._size())
        piece = await self._source.read(count)
        # Whole slices take the same time in whatever pieces they arrive.
        while piece and len(piece) < count and (more := await self._source.read(count - len(piece))):
            piece += more
        if piece:
            self._incident.note()
            await self._incident.pause(self._pause(len(piece)))
        return piece


def _throttled(source: Source, incident: Incident, rate: float) -> Source:
    """Return a body at a rate in bytes per second."""
    return _Paced(source, incident, lambda: max(1, int(rate / _SLICES)), lambda count: count / rate)


def _sliced(source: Source, incident: Incident, size: int, spread: int, delay: float) -> Source:
    """Return a body in slices of a size, with a delay in seconds between them."""
    pauses = iter([0.0])

    def draw() -> int:
        return max(1, size + (incident.random.randint(-spread, spread) if spread else 0))

    return _Paced(source, incident, draw, lambda _: next(pauses, delay))


@effect
class Throttle(OnBody):
    """Pass a body on at a rate.

    Attributes:
        rate: Bytes per second.
    """

    rate: Annotated[float, RATE]

    def through(self, incident: Incident, source: Source) -> Source:
        """Slow it down."""
        return _throttled(source, incident, self.rate)


@effect
class Bandwidth(OnBody):
    """Pass a body on at a rate, in toxiproxy's unit.

    Attributes:
        rate: Kilobytes (1000 bytes) per second.
    """

    rate: Annotated[float, KILOBYTES]

    def through(self, incident: Incident, source: Source) -> Source:
        """Slow it down."""
        return _throttled(source, incident, self.rate * 1000)


@effect
class Slicer(OnBody):
    """Pass a body on in small pieces, as toxiproxy does.

    Attributes:
        average_size: Bytes of a piece.
        size_variation: Bytes more or less.
        delay: Microseconds between pieces.
    """

    average_size: Annotated[int, OCTETS]
    size_variation: Annotated[int, OCTETS] = 0
    delay: Annotated[float, MICROSECONDS] = 0.0

    def through(self, incident: Incident, source: Source) -> Source:
        """Slice it."""
        return _sliced(source, incident, self.average_size, self.size_variation, self.delay / 1e6)


@effect
class Trickle(OnBody):
    """Pass a body on so slowly, and so steadily, that no limit on idle time ends it.

    Attributes:
        octets: Bytes at a time.
        every: Seconds between them.
    """

    octets: Annotated[int, OCTETS] = 1
    every: Annotated[float, SECONDS] = 1.0

    def through(self, incident: Incident, source: Source) -> Source:
        """Slow it down."""
        return _sliced(source, incident, self.octets, 0, self.every)


@effect
class Corrupt(OnBody):
    """Change one byte of a body on its way.

    Attributes:
        offset: Which one, from 0.
        mask: The bits that are inverted.
    """

    offset: Annotated[int, OCTETS] = 0
    mask: Annotated[int, INTEGER] = 0xFF

    def __post_init__(self) -> None:
        OnBody.__post_init__(self)
        if self.mask not in range(1, 256):
            raise QuantityError(f"mask: {self.mask} is not a byte's mask, 1 to 255")

    def through(self, incident: Incident, source: Source) -> Source:
        """Change it."""
        return _Corrupted(source, self, incident)


class _Corrupted:
    """A body with one byte changed."""

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
        self._left -= len(piece)
        return piece
