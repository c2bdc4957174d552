"""A fault as a value, and the rule that applies it: which requests, how often, and what happens to them.

Owns the conditions, and counting how often they are met. Must not know any effect.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from types import TracebackType
from typing import Annotated, Any, Self, TypeVar

from mock_registry.exchange import Exchange, Response
from mock_registry.journal import Route
from mock_registry.spec import is_digest

from .effect import Effect, Incident, Scene
from .quantities import COUNT, PROBABILITY, TEXT, Quantity, QuantityError, choice, settle

T = TypeVar("T")
Test = Callable[[Exchange], bool]

METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
_BODIES = frozenset({"PATCH", "POST", "PUT"})
_ANSWERED = re.compile(r"[1-5](?:xx|[0-9][0-9])(?: [A-Z_]+)?|[A-Z_]+")


class Stream(StrEnum):
    """A direction, in toxiproxy's words."""

    UPSTREAM = "upstream"
    """From the client: the request."""
    DOWNSTREAM = "downstream"
    """To the client: the response."""


class When(StrEnum):
    """Before or after the handler."""

    BEFORE = "before"
    """The registry has changed nothing yet."""
    AFTER = "after"
    """The registry has done what the request asked for; only the answer is affected."""


def digest_asked_for(exchange: Exchange) -> str | None:
    """Return the digest in a request's path, or in its ``digest`` or ``mount`` parameter."""
    last = exchange.address.last
    if last is not None and is_digest(last):
        return last
    return exchange.parameter("digest") or exchange.parameter("mount")


def _peer(exchange: Exchange) -> str | None:
    return None if exchange.client is None else exchange.client[0]


def _peer_with_port(exchange: Exchange) -> str | None:
    return None if exchange.client is None else f"{exchange.client[0]}:{exchange.client[1]}"


def _last(exchange: Exchange) -> str:
    return f"{exchange.repository}/{exchange.address.last}"


APART: Mapping[str, Callable[[Exchange], str | None]] = {
    "client": _peer,
    "digest": digest_asked_for,
    "reference": _last,
    "repository": lambda exchange: exchange.repository,
    "session": _last,
    "user": lambda exchange: exchange.access.user,
}
"""What can be counted or limited apart, by the word for it."""

_PATTERNS: Mapping[str, Callable[[Exchange], str | None]] = {
    "repository": lambda exchange: exchange.repository,
    "digest": digest_asked_for,
    "reference": lambda each: each.address.last if each.address.route is Route.MANIFEST else None,
    "agent": lambda exchange: exchange.header(b"user-agent"),
}
"""The conditions that are patterns of one value, known when a request arrives."""


def _read_answered(value: object) -> str:
    terms = [term.strip() for term in str(value).split(",")]
    for term in terms:
        if not _ANSWERED.fullmatch(term):
            raise QuantityError(f"{term!r} is neither a status such as 404 or 5xx nor an error code")
    return ",".join(terms)


@dataclass(frozen=True, slots=True)
class Fault:
    """A rule: an effect, and the requests that it is applied to. A condition left out is always met.

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
        stream: Which direction; by default the effect's own, or that of the body that matters.
        when: Before or after the handler, for effects that can act at either.
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
    answered: Annotated[str | None, Quantity("statuses and error codes", _read_answered)] = None
    nth: Annotated[int | None, COUNT] = None
    skip: Annotated[int | None, COUNT] = None
    first: Annotated[int | None, COUNT] = None
    every: Annotated[int | None, COUNT] = None
    times: Annotated[int | None, COUNT] = None
    per: Annotated[str | None, choice(*APART)] = None
    toxicity: Annotated[float, PROBABILITY] = 1.0
    stream: Annotated[str | None, choice(*Stream)] = None
    when: Annotated[str | None, choice(*When)] = None

    def __post_init__(self) -> None:
        settle(self)

    def concerns(self, method: str, route: Route) -> bool:
        """Tell whether requests of this method and route can match."""
        wanted = (self.method and self.method.split(","), self.effect.methods)
        routed = (self.route and self.route.split(","), self.effect.routes)
        return all(words is None or method in words for words in wanted) and all(
            words is None or route in words for words in routed
        )

    def tests(self) -> list[Test]:
        """Return the conditions on a request when it arrives, besides method and route."""
        tests = [
            _matches(value, pattern, path=name == "repository")
            for name, value in _PATTERNS.items()
            if (pattern := getattr(self, name)) is not None
        ]
        if self.query is not None:
            tests.append(_named(self.query, Exchange.parameter))
        if self.header is not None:
            tests.append(_named(self.header, lambda exchange, name: exchange.header(name.lower().encode())))
        if self.peer is not None:
            port = ":" in self.peer.replace("::", "")
            tests.append(_matches(_peer_with_port if port else _peer, self.peer))
        return tests

    def is_for(self, exchange: Exchange) -> bool:
        """Tell whether the user matches."""
        return self.user is None or _matches(APART["user"], self.user)(exchange)


def _glob(pattern: str, *, path: bool = False) -> re.Pattern[str]:
    """Compile a pattern; in a path, ``*`` stays within one component."""
    texts = {"**": ".*", "*": "[^/]*" if path else ".*"}
    pieces = re.split(r"(\*\*|\*)", pattern)
    return re.compile("".join(texts.get(piece) or re.escape(piece) for piece in pieces), re.DOTALL)


def _matches(value: Callable[[Exchange], str | None], pattern: str, *, path: bool = False) -> Test:
    if "*" not in pattern:
        return lambda exchange: value(exchange) == pattern
    compiled = _glob(pattern, path=path)
    return lambda exchange: (text := value(exchange)) is not None and compiled.fullmatch(text) is not None


def _named(condition: str, value: Callable[[Exchange, str], str | None]) -> Test:
    """Return the test of a parameter or header: that it is there, or that its value matches."""
    name, equals, pattern = condition.partition("=")
    if not equals:
        return lambda exchange: value(exchange, name) is not None
    return _matches(lambda exchange: value(exchange, name), pattern)


def error_codes(response: Response) -> list[str]:
    """Return the codes in a JSON error body; empty for other bodies."""
    if not isinstance(response.body, bytes) or response.status not in range(400, 600):
        return []
    try:
        errors = json.loads(response.body)["errors"]
        return [str(error["code"]) for error in errors]
    except (ValueError, KeyError, TypeError):
        return []


class Rule:
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
        tests: The conditions on a request of its method and route when it arrives.
        waits: Whether it takes the user or the answer to know that a request matches.
        late: Whether it acts after the handler.
    """

    def __init__(
        self, fault: Fault, name: str, *, seed: int = 0, remove: "Callable[[Rule], None] | None" = None
    ) -> None:
        self.fault = fault
        self.effect = fault.effect
        self.name = name
        self.seen = 0
        self.applied = 0
        self.tests = fault.tests()
        self.waits = fault.user is not None or fault.answered is not None
        self.late = fault.when == When.AFTER or fault.answered is not None
        self._answered = None if fault.answered is None else frozenset(fault.answered.split(","))
        self._seed = f"{seed}/{name}"
        self._counts: dict[str | None, int] = {}
        self._open: set[Incident] = set()
        self._memory: dict[type, Any] = {}
        self._release: asyncio.Event | None = None
        self._remove = remove

    def upstream(self, method: str) -> bool:
        """Tell whether it acts on the request of this method, or else on the response."""
        if self.fault.stream is not None:
            return self.fault.stream == Stream.UPSTREAM
        return method in _BODIES and not self.effect.downstream

    def covers(self, repository: str) -> bool:
        """Tell whether it is for a repository."""
        pattern = self.fault.repository
        return pattern is None or _glob(pattern, path=True).fullmatch(repository) is not None

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
        self.seen += 1
        key = APART[self.fault.per](exchange) if self.fault.per else None
        number = self._counts[key] = self._counts.get(key, 0) + 1
        if not self._is_turn(number):
            return None
        if self.fault.times is not None and self.applied + len(self._open) >= self.fault.times:
            return None
        seed = f"{self._seed}/{key}/{number}"
        if self.fault.toxicity < 1 and Random(f"{seed}/?").random() >= self.fault.toxicity:  # noqa: S311
            return None
        return seed

    def _is_turn(self, number: int) -> bool:
        fault = self.fault
        if fault.nth is not None and number != fault.nth:
            return False
        number -= fault.skip or 0
        if number < 1 or (fault.first is not None and number > fault.first):
            return False
        return fault.every is None or number % fault.every == 0

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

    def remember(self, kind: type[T]) -> T:
        """Return the one object of this class that is kept between requests, made at the first call."""
        if kind not in self._memory:
            self._memory[kind] = kind()
        found: T = self._memory[kind]
        return found

    def released(self) -> Awaitable[object]:
        """Return an awaitable of the next call of `release`."""
        if self._release is None:
            self._release = asyncio.Event()
        return self._release.wait()

    def release(self) -> None:
        """Let the requests that the rule holds go on."""
        event, self._release = self._release, None
        if event is not None:
            event.set()

    def remove(self) -> None:
        """Take the rule out of force. Requests that it holds go on."""
        if self._remove is not None:
            self._remove(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"<Rule {self.name}: seen {self.seen}, applied {self.applied}; {self.fault}>"
