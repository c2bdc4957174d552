"""Effects on the connection and its pace: it ends, nothing more comes, or everything comes late.

Owns when a connection breaks, in bytes of bodies, and when bytes are passed on, by the registry's clock. The
server ends connections: under one without that extension, a reset becomes a FIN, and an end before the head
of the response a 502.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

from mock_registry.exchange import Response, Severed

from .effect import Effect, Incident, effect
from .quantities import KILOBYTES, MASK, MICROSECONDS, MILLISECONDS, OCTETS, RATE, SECONDS
from .scene import Source, until

_SLICES = 10
"""Pieces that a second's bytes are divided into at a rate, as in toxiproxy."""


class _OnMessage(Effect):
    """Acts at the beginning of the request or of the response."""

    __slots__ = ()

    def is_late(self, incident: Incident) -> bool:
        """Tell whether it acts on the response."""
        return not incident.upstream

    @abstractmethod
    async def act(self, incident: Incident) -> None:
        """Act."""

    async def arrive(self, incident: Incident) -> Response | None:
        """Act on the request."""
        if not self.is_late(incident):
            await self.act(incident)
        return None

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Act on the response."""
        if self.is_late(incident):
            await self.act(incident)
        return response


class _OnBody(Effect):
    """Acts on the request's body or on the response's."""

    __slots__ = ()

    @abstractmethod
    def through(self, incident: Incident, source: Source) -> Source:
        """Return the stream that the body passes through."""

    def take(self, incident: Incident, source: Source) -> Source:
        """Act on the request's body."""
        return self.through(incident, source) if incident.upstream else source

    def give(self, incident: Incident, source: Source) -> Source:
        """Act on the response's body."""
        return source if incident.upstream else self.through(incident, source)


# At one point: before the handler, after it, or at one byte of a body


@dataclass(frozen=True, slots=True)
class _AtOnePoint(_OnMessage, _OnBody):
    after: Annotated[int | None, OCTETS] = None

    @abstractmethod
    async def strike(self, incident: Incident) -> None:
        """Act."""

    def is_late(self, incident: Incident) -> bool:
        return incident.late

    async def act(self, incident: Incident) -> None:
        if self.after is None:
            await self.strike(incident)

    def through(self, incident: Incident, source: Source) -> Source:
        return source if self.after is None else until(source, self.after, partial(self.strike, incident))


async def _end(incident: Incident, *, reset: bool, milliseconds: float = 0.0) -> None:
    """End the connection after a time."""
    incident.note()
    await incident.pause(milliseconds / 1000)
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
        await incident.stall(math.inf if self.seconds is None else self.seconds)


@effect
class LimitData(_OnBody):
    """End the connection after a number of bytes, as toxiproxy does.

    Attributes:
        bytes: Bytes of the body.
    """

    bytes: Annotated[int, OCTETS]

    def through(self, incident: Incident, source: Source) -> Source:
        """End it within the body."""
        return Cut(self.bytes).through(incident, source)


@effect
class ResetPeer(_OnMessage):
    """End the connection with a reset, as toxiproxy does.

    Attributes:
        timeout: Milliseconds until then, in which nothing is sent.
    """

    downstream: ClassVar = True

    timeout: Annotated[float, MILLISECONDS] = 0.0

    async def act(self, incident: Incident) -> None:
        """Wait, then end it."""
        await _end(incident, reset=True, milliseconds=self.timeout)


@effect
class Timeout(_OnMessage):
    """Let nothing through, and end the connection after a time, as toxiproxy does.

    Attributes:
        timeout: Milliseconds until then; 0 is never, until the rule is released or removed.
    """

    downstream: ClassVar = True

    timeout: Annotated[float, MILLISECONDS] = 0.0

    async def act(self, incident: Incident) -> None:
        """Wait, then end it."""
        if not self.timeout:
            incident.note()
            await incident.stall()
        await _end(incident, reset=False, milliseconds=self.timeout)


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

        async def read(most: int) -> bytes:
            piece = await source(most)
            if not piece:
                incident.note()
                incident.scene.closes = True
                await incident.pause(self.delay / 1000)
            return piece

        return read


# Pace


@effect
class Latency(_OnMessage):
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


def _paced(
    source: Source, incident: Incident, size: Callable[[], int], pause: Callable[[int], float]
) -> Source:
    """Return a body in slices, with a pause before each.

    Args:
        source: The body.
        incident: The incident.
        size: Returns the bytes of the next slice.
        pause: Returns the seconds before a slice of a number of bytes.
    """

    async def read(most: int) -> bytes:
        count = min(most, size())
        piece = await source(count)
        # Whole slices take the same time in whatever pieces they arrive.
        while piece and len(piece) < count and (more := await source(count - len(piece))):
            piece += more
        if piece:
            incident.note()
            await incident.pause(pause(len(piece)))
        return piece

    return read


@effect
class Throttle(_OnBody):
    """Pass a body on at a rate.

    Attributes:
        rate: Bytes per second.
    """

    rate: Annotated[float, RATE]

    def through(self, incident: Incident, source: Source) -> Source:
        """Slow it down."""
        size = max(1, int(self.rate / _SLICES))
        return _paced(source, incident, lambda: size, lambda count: count / self.rate)


@effect
class Bandwidth(_OnBody):
    """Pass a body on at a rate, in toxiproxy's unit.

    Attributes:
        rate: Kilobytes (1000 bytes) per second.
    """

    rate: Annotated[float, KILOBYTES]

    def through(self, incident: Incident, source: Source) -> Source:
        """Slow it down."""
        return Throttle(self.rate * 1000).through(incident, source)


@effect
class Slicer(_OnBody):
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
        spread, pauses = self.size_variation, iter([0.0])

        def draw() -> int:
            return max(1, self.average_size + (incident.random.randint(-spread, spread) if spread else 0))

        return _paced(source, incident, draw, lambda _: next(pauses, self.delay / 1e6))


@effect
class Trickle(_OnBody):
    """Pass a body on so slowly, and so steadily, that no limit on idle time ends it.

    Attributes:
        octets: Bytes at a time.
        every: Seconds between them.
    """

    octets: Annotated[int, OCTETS] = 1
    every: Annotated[float, SECONDS] = 1.0

    def through(self, incident: Incident, source: Source) -> Source:
        """Slow it down."""
        return Slicer(self.octets, delay=self.every * 1e6).through(incident, source)


@effect
class Corrupt(_OnBody):
    """Change one byte of a body on its way.

    Attributes:
        offset: Which one, from 0.
        mask: The bits that are inverted.
    """

    offset: Annotated[int, OCTETS] = 0
    mask: Annotated[int, MASK] = 0xFF

    def through(self, incident: Incident, source: Source) -> Source:
        """Change it."""
        left = self.offset

        async def read(most: int) -> bytes:
            nonlocal left
            piece = await source(most)
            if 0 <= left < len(piece):
                incident.note()
                piece = piece[:left] + bytes([piece[left] ^ self.mask]) + piece[left + 1 :]
            left -= len(piece)
            return piece

        return read
