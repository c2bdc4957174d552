"""Effects, faults and rules: what happens to an exchange, to which requests, and how often.

Owns the moments at which an effect may act, the names of all effects, and counting how often the conditions
of a rule are met. Must not know any effect.
"""

import asyncio
import math
import re
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from random import Random
from typing import Annotated, Any, ClassVar, Literal, TypeVar, dataclass_transform

from mock_registry.exchange import Exchange, Response
from mock_registry.journal import Route
from mock_registry.state import UploadSession

from .conditions import APART, METHODS, TESTS, error_codes, glob, matches
from .quantities import ANSWERS, COUNT, PROBABILITY, TEXT, choice, settle
from .scene import Scene, Source

E = TypeVar("E", bound="Effect")

EFFECTS: dict[str, type["Effect"]] = {}
"""The effects of faults, by the name that rules have for them."""

QUIRKS: dict[str, type["Effect"]] = {}
"""Further effects, for the rules of profiles alone."""


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

    async def arrive(self, incident: "Incident") -> Response | None:
        """Act before the handler; a response takes the place of the handler's."""

    def take(self, incident: "Incident", source: Source) -> Source:  # noqa: ARG002 (for effects that act then)
        """Return the stream that the request's body is read through."""
        return source

    async def reply(self, incident: "Incident", response: Response) -> Response:  # noqa: ARG002 (as above)
        """Act on the response, before any of it is sent."""
        return response

    def give(self, incident: "Incident", source: Source) -> Source:  # noqa: ARG002 (as above)
        """Return the stream that the response's body is sent through."""
        return source

    async def broken(self, incident: "Incident") -> None:
        """Act on a request whose body the peer did not finish."""

    def over(self, incident: "Incident") -> None:
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


@dataclass(frozen=True, slots=True)
class Fault:
    """An effect, and the requests that it is applied to. A condition left out is always met.

    Patterns: ``*`` stands for any text; in a repository's name, for any part of one path component, and
    ``**`` for any text.

    Attributes:
        effect: What happens.
        name: What the journal calls it; the effect's name by default.
        method: One or several, with commas.
        route: One or several of the journal's routes, with commas.
        repository: Pattern.
        digest: Pattern of the digest in the path, or in ``?digest=`` or ``?mount=``.
        reference: Pattern of the tag or digest at the end of a manifest's path.
        query: A parameter that must be there, or ``name=pattern`` of its value.
        header: A request header that must be there, or ``name=pattern`` of its value.
        peer: Pattern of the client's address, or of ``address:port``.
        agent: Pattern of the User-Agent.
        user: Pattern of the authenticated user's name.
        answered: What the handler decided on: a status, ``4xx``, an error code, or a status with a code,
            ``404 BLOB_UNKNOWN``; one or several, with commas.
        nth: Only the n-th matching request.
        skip: Not the first n matching requests.
        first: Only the first n matching requests after those skipped.
        every: Every n-th matching request after those skipped.
        times: Until it was applied n times.
        per: What is counted separately for ``nth``, ``skip``, ``first`` and ``every``.
        toxicity: Probability that it is applied to a matching request.
        stream: Which direction: ``upstream`` is the request, ``downstream`` the response; by default the
            effect's own, or that of the body that matters.
        when: ``before`` the handler, or ``after`` it, when only the answer is affected; for effects that can
            act at either.
    """

    effect: Effect
    name: Annotated[str | None, TEXT] = None
    method: Annotated[str | None, choice(*METHODS, several=True)] = None
    route: Annotated[str | None, choice(*Route, several=True)] = None
    repository: Annotated[str | None, TEXT] = None
    digest: Annotated[str | None, TEXT] = None
    reference: Annotated[str | None, TEXT] = None
    query: Annotated[str | None, TEXT] = None
    header: Annotated[str | None, TEXT] = None
    peer: Annotated[str | None, TEXT] = None
    agent: Annotated[str | None, TEXT] = None
    user: Annotated[str | None, TEXT] = None
    answered: Annotated[str | None, ANSWERS] = None
    nth: Annotated[int | None, COUNT] = None
    skip: Annotated[int | None, COUNT] = None
    first: Annotated[int | None, COUNT] = None
    every: Annotated[int | None, COUNT] = None
    times: Annotated[int | None, COUNT] = None
    per: Annotated[str | None, choice(*APART)] = None
    toxicity: Annotated[float, PROBABILITY] = 1.0
    stream: Literal["upstream", "downstream"] | None = None
    when: Literal["before", "after"] | None = None

    def __post_init__(self) -> None:
        settle(self)

    def concerns(self, method: str, route: Route) -> bool:
        """Tell whether requests of this method and route can match."""
        allowed = (
            (method, self.method and self.method.split(",")),
            (method, self.effect.methods),
            (route, self.route and self.route.split(",")),
            (route, self.effect.routes),
        )
        return all(words is None or word in words for word, words in allowed)


class Incident:
    """One rule, applied to one exchange.

    Attributes:
        rule: The rule.
        effect: What it does.
        scene: The exchange, and how it is served.
        memory: What the rule keeps for its effect from one request to the next.
        upstream: Whether the rule is for the request and not for the response.
        late: Whether the rule acts after the handler.
        applied: Whether the effect did something.
        kept: What the effect keeps from one moment to the next.
    """

    def __init__(self, rule: "Rule", scene: Scene, seed: str) -> None:
        self.rule = rule
        self.effect = rule.effect
        self.scene = scene
        self.exchange = scene.exchange
        self.service = scene.service
        self.memory = rule.memory
        self.late = rule.late
        self.upstream = rule.upstream(scene.exchange.method)
        self.applied = False
        self.kept: Any = None
        self._seed = seed

    @cached_property
    def random(self) -> Random:
        """Random numbers that are the same when the same requests come in the same order."""
        return Random(self._seed)  # noqa: S311 (for repeating, not for secrets)

    @property
    def session(self) -> UploadSession | None:
        """The upload session in the path, of any repository."""
        return self.service.state.sessions.get(self.exchange.address.last or "")

    async def close_session(self, session: UploadSession | None) -> bool:
        """End an upload session, unless another request holds it; tell whether it was."""
        if session is None or session.busy:
            return False
        await self.service.state.close_session(session)
        return True

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

    async def stall(self, seconds: float = math.inf) -> None:
        """Wait until the rule is released, the time is over, or the peer has left."""
        timers = [] if math.isinf(seconds) else [self.scene.surroundings.sleep(seconds)]
        await self.scene.wait(self.rule.released.wait(), *timers)


class Rule(AbstractContextManager["Rule"]):
    """A fault in force. As a context manager, it is removed at the end of the block.

    Args:
        fault: What was asked for.
        name: Unique among the registry's rules.
        seed: The seed of everything random in it.
        remove: Takes it out of force. A profile's rule has none, and is not named in the journal.

    Attributes:
        fault: What was asked for.
        effect: What it does.
        name: Unique among the registry's rules.
        seen: Requests that matched all conditions but the counting ones.
        applied: Requests to which the effect did something.
        memory: What the effect keeps from one request to the next.
        released: Set when the requests that the rule holds may go on.
        tests: The conditions on a request of its method and route when it arrives.
        waits: Whether it takes the user or the answer to know that a request matches.
        late: Whether it acts after the handler.
    """

    def __init__(
        self, fault: Fault, name: str, *, seed: int = 0, remove: Callable[["Rule"], None] | None = None
    ) -> None:
        self.fault = fault
        self.effect = fault.effect
        self.name = name
        self.seen = 0
        self.applied = 0
        self.memory: dict[Any, Any] = {}
        self.released = asyncio.Event()
        given = ((make, getattr(fault, name)) for name, make in TESTS.items())
        self.tests = [make(text) for make, text in given if text is not None]
        self.waits = fault.user is not None or fault.answered is not None
        self.late = fault.when == "after" or fault.answered is not None
        self._answered = None if fault.answered is None else frozenset(fault.answered.split(","))
        self._seed = f"{seed}/{name}"
        self._counts: Counter[str | None] = Counter()
        self._open: set[Incident] = set()
        self._remove = remove

    def upstream(self, method: str) -> bool:
        """Tell whether it acts on the request of this method, or else on the response."""
        if self.fault.stream is not None:
            return self.fault.stream == "upstream"
        return method in ("PATCH", "POST", "PUT") and not self.effect.downstream

    def covers(self, repository: str) -> bool:
        """Tell whether it is for a repository."""
        pattern = self.fault.repository
        return pattern is None or glob(pattern, path=True).fullmatch(repository) is not None

    def expects(self, response: Response) -> bool:
        """Tell whether the handler's response matches."""
        terms = self._answered
        if terms is None:
            return True
        status = str(response.status)
        if status in terms or f"{status[0]}xx" in terms:
            return True
        codes = error_codes(response)
        return bool(codes) and (f"{status} {codes[0]}" in terms or not terms.isdisjoint(codes))

    def strike(self, exchange: Exchange) -> str | None:
        """Count a matching request; if it is its turn, return the seed of what is random in it."""
        fault = self.fault
        if fault.user is not None and not matches(APART["user"], fault.user)(exchange):
            return None
        self.seen += 1
        key = APART[fault.per](exchange) if fault.per else None
        self._counts[key] += 1
        number = self._counts[key]
        if not self._is_turn(number):
            return None
        if fault.times is not None and self.applied + len(self._open) >= fault.times:
            return None
        seed = f"{self._seed}/{key}/{number}"
        if fault.toxicity < 1 and Random(f"{seed}/?").random() >= fault.toxicity:  # noqa: S311
            return None
        return seed

    def _is_turn(self, number: int) -> bool:
        fault = self.fault
        late = number - (fault.skip or 0)
        return (
            fault.nth in (None, number)
            and 1 <= late <= (fault.first or math.inf)
            and late % (fault.every or 1) == 0
        )

    def begin(self, scene: Scene, seed: str | None = None) -> Incident:
        """Return the incident of a request; without a seed, it does not count towards ``times``."""
        incident = Incident(self, scene, seed or f"{self._seed}/{scene.exchange.number}")
        if seed is not None:
            self._open.add(incident)
        return incident

    def note(self, incident: Incident) -> None:
        """Record that the effect did something, in the journal too."""
        self._open.discard(incident)
        self.applied += 1
        if self._remove is not None:
            names = incident.exchange.fault
            incident.exchange.fault = f"{names},{self.name}" if names else self.name

    def end(self, incident: Incident) -> None:
        """End an incident."""
        self._open.discard(incident)
        self.effect.over(incident)

    def release(self) -> None:
        """Let the requests that the rule holds go on."""
        self.released.set()
        self.released = asyncio.Event()

    def remove(self) -> None:
        """Take the rule out of force. Requests that it holds go on."""
        if self._remove is not None:
            self._remove(self)

    def __exit__(self, *_: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"<Rule {self.name}: seen {self.seen}, applied {self.applied}; {self.fault}>"
