"""What an effect is: the moments of an exchange at which it may act, and what it may see and do then.

Owns the base of all effects, and their names. Must not know any of them, nor which requests they are for.
"""

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from random import Random
from typing import ClassVar, Protocol, TypeVar, dataclass_transform

from mock_registry.exchange import CutShort, Exchange, Response
from mock_registry.journal import Route
from mock_registry.service import Service

from .quantities import settle
from .streams import Gate, Inlet, Source

T = TypeVar("T")
E = TypeVar("E", bound="Effect")

EFFECTS: dict[str, type["Effect"]] = {}
"""The effects of faults, by the name that rules have for them."""

QUIRKS: dict[str, type["Effect"]] = {}
"""Further effects, for the rules of profiles alone."""


class Host(Protocol):
    """A host that requests can be redirected to."""

    async def url(self) -> str:
        """Return scheme, host and port."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What rules work with.

    Attributes:
        service: The registry.
        clock: Returns seconds, monotonic.
        sleep: Waits for seconds of that clock.
        hosts: Other hosts of the registry, for redirects; empty without sockets.
    """

    service: Service
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    hosts: Sequence[Host]


class Scene:
    """An exchange as effects see it.

    Attributes:
        exchange: The exchange.
        service: The registry.
        drains: Whether the rest of the request's body is read before the answer.
        closes: Whether the connection ends with the answer.
        left: Whether the peer was seen to leave during a wait.
    """

    def __init__(self, exchange: Exchange, surroundings: Surroundings) -> None:
        self.exchange = exchange
        self.surroundings = surroundings
        self.service = surroundings.service
        self.drains = True
        self.closes = False
        self.left = False

    @cached_property
    def inlet(self) -> Inlet:
        """The request's body as the server has it."""
        exchange = self.exchange
        gone = exchange.until_gone if exchange.tells_gone else None
        return Inlet(exchange.receive, patient=exchange.header(b"expect") is not None, gone=gone)

    @cached_property
    def gate(self) -> Gate:
        """The request's body as the handler reads it."""
        return Gate(self.inlet)

    async def take_rest(self) -> None:
        """Read and count what is left of the request's body, past all stages."""
        self.gate.verdict = None
        self.gate.source = self.inlet
        self.exchange.resume()
        try:
            await self.exchange.drain(self.service.settings.drain_limit)
        except CutShort:
            """The peer did not send the rest; what it sent is counted."""

    async def wait(self, *works: Awaitable[object]) -> None:
        """Wait until one of these is done, or the peer has left.

        If the peer leaves, only the wait ends; the exchange goes on as it would without the wait.
        """
        tasks = [asyncio.ensure_future(work) for work in works]
        watch = asyncio.ensure_future(self.inlet.until_gone())
        try:
            done, _ = await asyncio.wait([*tasks, watch], return_when=asyncio.FIRST_COMPLETED)
            self.left = self.left or watch in done
            for work in done - {watch}:
                work.result()
        finally:
            for task in (*tasks, watch):
                task.cancel()
            await asyncio.gather(*tasks, watch, return_exceptions=True)


class Standing(Protocol):
    """A rule as its effect sees it.

    Attributes:
        late: Whether it acts after the handler.
    """

    @property
    def effect(self) -> "Effect":
        """What it does."""

    @property
    def late(self) -> bool:
        """Whether it acts after the handler."""

    def upstream(self, method: str) -> bool:
        """Tell whether it acts on the request of this method, or else on the response."""

    def covers(self, repository: str) -> bool:
        """Tell whether it is for a repository."""

    def end(self, incident: "Incident") -> None:
        """End an incident."""

    def expects(self, response: Response) -> bool:
        """Tell whether the handler's response matches."""

    def note(self, incident: "Incident") -> None:
        """Record that the effect did something."""

    def remember(self, kind: type[T]) -> T:
        """Return the one object of this class that is kept between requests, made at the first call."""

    def released(self) -> Awaitable[object]:
        """Return an awaitable of the next release."""


class Incident:
    """One rule, applied to one exchange.

    Attributes:
        rule: The rule.
        scene: The exchange, and how it is served.
        applied: Whether the effect did something.
        kept: Bytes that the effect keeps from one moment to the next.
        number: A number that it keeps.
    """

    def __init__(self, rule: Standing, scene: Scene, seed: str) -> None:
        self.rule = rule
        self.effect = rule.effect
        self.scene = scene
        self.exchange = scene.exchange
        self.service = scene.service
        self.seed = seed
        self.applied = False
        self.kept = b""
        self.number = 0

    @property
    def upstream(self) -> bool:
        """Whether the rule is for the request and not for the response."""
        return self.rule.upstream(self.exchange.method)

    @property
    def late(self) -> bool:
        """Whether the rule acts after the handler."""
        return self.rule.late

    @cached_property
    def random(self) -> Random:
        """Random numbers that are the same when the same requests come in the same order."""
        return Random(self.seed)  # noqa: S311 (for repeating, not for secrets)

    def note(self) -> None:
        """Record that the effect did something."""
        if not self.applied:
            self.applied = True
            self.rule.note(self)

    def now(self) -> float:
        """Return the time in seconds of the registry's clock."""
        return self.scene.surroundings.clock()

    async def pause(self, seconds: float) -> None:
        """Wait for a time, or until the peer has left."""
        if seconds > 0:
            await self.scene.wait(self.scene.surroundings.sleep(seconds))

    async def stall(self, seconds: float | None = None) -> None:
        """Wait until the rule is released, the time is over, or the peer has left."""
        works: list[Awaitable[object]] = [self.rule.released()]
        if seconds is not None and math.isfinite(seconds):
            works.append(self.scene.surroundings.sleep(seconds))
        await self.scene.wait(*works)

    def remember(self, kind: type[T]) -> T:
        """Return the one object of this class that the rule keeps for its effect."""
        return self.rule.remember(kind)


@dataclass(frozen=True, slots=True)
class Effect:
    """What happens to an exchange that a rule matches. A value; its memory is kept by the rule.

    The moments, in order: the request has arrived; its body is read; the handler has decided on a response,
    and changed what it had to; the response's body is sent; the exchange is over. Unless an effect says
    otherwise, nothing happens at any of them.
    """

    methods: ClassVar[frozenset[str] | None] = None
    """The only methods it is for; ``None`` is all."""
    routes: ClassVar[frozenset[Route] | None] = None
    """The only routes it is for; ``None`` is all."""
    downstream: ClassVar[bool] = False
    """Acts on the response by default, as toxiproxy does, instead of on the body that matters."""
    prefix: ClassVar[bytes | None] = None
    """Beginning of the paths of a host of its own, whose requests it answers whatever its conditions."""

    def __post_init__(self) -> None:
        settle(self)

    @classmethod
    def required(cls) -> list[str]:
        """Return the names of the attributes that must be given."""
        return [each.name for each in fields(cls) if each.default is MISSING]

    @classmethod
    def kind(cls) -> str:
        """Return the effect's name in rules and in the journal."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    async def arrive(self, incident: Incident) -> Response | None:
        """Act before the handler; a response takes the place of the handler's."""

    def take(self, incident: Incident, source: Source) -> Source:  # noqa: ARG002 (for effects that act then)
        """Return the stream that the request's body is read through."""
        return source

    async def reply(self, incident: Incident, response: Response) -> Response:  # noqa: ARG002 (as above)
        """Act on the response, before any of it is sent."""
        return response

    def give(self, incident: Incident, source: Source) -> Source:  # noqa: ARG002 (as above)
        """Return the stream that the response's body is sent through."""
        return source

    async def broken(self, incident: Incident) -> None:
        """Act on a request whose body the peer did not finish."""

    def over(self, incident: Incident) -> None:
        """Act at the end of the exchange, however it ended."""


@dataclass_transform(frozen_default=True)
def effect(kind: type[E]) -> type[E]:
    """Make a class an effect of faults: a frozen dataclass that rules can name."""
    made = dataclass(frozen=True, slots=True)(kind)
    EFFECTS[made.kind()] = made
    return made


@dataclass_transform(frozen_default=True)
def quirk(kind: type[E]) -> type[E]:
    """Make a class an effect of profiles alone."""
    made = dataclass(frozen=True, slots=True)(kind)
    QUIRKS[made.kind()] = made
    return made


class OnMessage(Effect):
    """Acts at the beginning of the request or of the response."""

    __slots__ = ()

    def is_late(self, incident: Incident) -> bool:
        """Tell whether it acts on the response."""
        return not incident.upstream

    async def act(self, incident: Incident) -> None:
        """Act."""
        raise NotImplementedError

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


class OnBody(Effect):
    """Acts on the request's body or on the response's."""

    __slots__ = ()

    def through(self, incident: Incident, source: Source) -> Source:
        """Return the stream that the body passes through."""
        raise NotImplementedError

    def take(self, incident: Incident, source: Source) -> Source:
        """Act on the request's body."""
        return self.through(incident, source) if incident.upstream else source

    def give(self, incident: Incident, source: Source) -> Source:
        """Act on the response's body."""
        return source if incident.upstream else self.through(incident, source)
