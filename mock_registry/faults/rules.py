"""The faults of one registry, with what each has met so far.

Owns adding, listing and removing while requests are served, and counting. Must not know any effect.
"""

import asyncio
from collections.abc import Awaitable, Iterator, Mapping
from random import Random
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar

from mock_registry.exchange import Exchange
from mock_registry.journal import Route

from .course import Course, Surroundings
from .effect import Effect
from .fault import Fault, digest_asked_for, peer_of
from .incident import Incident
from .parsing import parse_fault

T = TypeVar("T")

Given: TypeAlias = Fault | Effect | str | Mapping[str, Any]
"""What a fault may be given as: a value, or its words."""

_KNOWN = frozenset({"DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"})


class Rule:
    """A fault that is in force. As a context manager, until the block is left.

    Attributes:
        fault: What was asked for.
        name: Unique among the registry's rules.
        seen: Requests that met its conditions, whatever their number.
        applied: Requests that it did something to.
        late: Whether a request is meant is known only when it has been admitted, or answered.
        tests: What must hold of a request of its method and route when it arrives.
    """

    def __init__(self, fault: Fault, name: str, seed: int, rules: "Rules") -> None:
        self.fault = fault
        self.name = name
        self.seen = 0
        self.applied = 0
        self._seed = f"{seed}/{name}"
        self._rules = rules
        self.tests = fault.tests()
        self.late = fault.user is not None or fault.answered is not None
        self._counts: dict[str | None, int] = {}
        self._open: set[Incident] = set()
        self._memory: dict[type, Any] = {}
        self._release: asyncio.Event | None = None

    def strike(self, exchange: Exchange) -> str | None:
        """Count a request that is meant; return what chance follows from if this is the one."""
        self.seen += 1
        key = self._key(exchange) if self.fault.per else None
        number = self._counts[key] = self._counts.get(key, 0) + 1
        if not self._is_turn(number):
            return None
        if self.fault.times is not None and self.applied + len(self._open) >= self.fault.times:
            return None
        seed = f"{self._seed}/{key}/{number}"
        if self.fault.toxicity < 1 and Random(f"{seed}/?").random() >= self.fault.toxicity:  # noqa: S311
            return None
        return seed

    def begin(self, course: Course, seed: str) -> Incident:
        """Return the incident of a request that was struck."""
        incident = Incident(self, course, seed)
        self._open.add(incident)
        return incident

    def note(self, incident: Incident) -> None:
        """Take note that an incident's effect did something."""
        self._open.discard(incident)
        self.applied += 1

    def attend(self, course: Course) -> Incident:
        """Return an incident that counts for nothing: a request to the effect's own host."""
        return Incident(self, course, f"{self._seed}/{course.exchange.number}")

    def end(self, incident: Incident) -> None:
        """Take note that an incident is over."""
        self._open.discard(incident)
        self.fault.effect.over(incident)

    def _is_turn(self, number: int) -> bool:
        fault = self.fault
        if fault.nth is not None and number != fault.nth:
            return False
        number -= fault.skip or 0
        if number < 1 or (fault.first is not None and number > fault.first):
            return False
        return fault.every is None or number % fault.every == 0

    def _key(self, exchange: Exchange) -> str | None:
        match self.fault.per:
            case "client":
                return peer_of(exchange)
            case "digest":
                return digest_asked_for(exchange)
            case "reference" | "session":
                return f"{exchange.repository}/{exchange.address.last}"
            case "repository":
                return exchange.repository
            case "user":
                return exchange.access.user
            case _:
                return None

    def remember(self, kind: type[T]) -> T:
        """Return the one object of this kind that is kept for the effect, made when first asked for."""
        found: T = self._memory.setdefault(kind, kind()) if kind not in self._memory else self._memory[kind]
        return found

    def released(self) -> Awaitable[object]:
        """Return what waits until `release` is called, from now on."""
        if self._release is None:
            self._release = asyncio.Event()
        return self._release.wait()

    def release(self) -> None:
        """Let those that the rule holds now go on."""
        event, self._release = self._release, None
        if event is not None:
            event.set()

    def remove(self) -> None:
        """Take the rule out of force. Requests that it holds go on."""
        self._rules.remove(self)

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


class Rules:
    """All rules in force, in the order in which they act.

    Args:
        surroundings: What they work with.
        seed: From which all chance follows.

    Attributes:
        active: There is any; the one question that is asked of every request.
    """

    def __init__(self, surroundings: Surroundings, *, seed: int = 0) -> None:
        self.seed = seed
        self._surroundings = surroundings
        self.active = False
        self._rules: dict[str, Rule] = {}
        self._table: dict[str, dict[Route, tuple[Rule, ...]]] = {}
        self._hosts: tuple[Rule, ...] = ()

    def add(self, fault: Given, **conditions: Any) -> Rule:
        """Put a fault in force, after those that are.

        Args:
            fault: A `Fault`; an effect, with its conditions as of `Fault`; or the words of either form.
            conditions: Those of an effect.

        Raises:
            FaultError: The words cannot be understood.
        """
        parsed = parse_fault(fault, conditions)
        name = wanted = parsed.name or parsed.effect.kind()
        number = 1
        while name in self._rules:
            number += 1
            name = f"{wanted}-{number}"
        rule = self._rules[name] = Rule(parsed, name, self.seed, self)
        self._changed()
        return rule

    def remove(self, rule: Rule | str) -> None:
        """Take a rule out of force. Requests that it holds go on. Harmless when done twice."""
        name = rule if isinstance(rule, str) else rule.name
        found = self._rules.get(name)
        if found is not None and rule in (name, found):
            del self._rules[name]
            found.release()
            self._changed()

    def clear(self) -> None:
        """Take all rules out of force."""
        for rule in tuple(self):
            self.remove(rule)

    def release(self) -> None:
        """Let all that is held go on."""
        for rule in self:
            rule.release()

    def _changed(self) -> None:
        self._table.clear()
        self._hosts = tuple(rule for rule in self if rule.fault.effect.prefix is not None)
        self.active = bool(self._rules)

    def __len__(self) -> int:
        return len(self._rules)

    def __iter__(self) -> Iterator[Rule]:
        return iter(tuple(self._rules.values()))

    def __getitem__(self, name: str) -> Rule:
        return self._rules[name]

    def __contains__(self, name: object) -> bool:
        return name in self._rules

    def meet(self, exchange: Exchange) -> Course | None:
        """Return how an exchange is to be served that a rule acts on, or may yet; ``None`` if none does."""
        course: Course | None = None
        rows = self._table.get(exchange.method)
        if rows is None:
            rows = self._make_rows(exchange.method)
        for rule in rows.get(exchange.address.route, ()):
            for test in rule.tests:
                if not test(exchange):
                    break
            else:
                seed = None if rule.late else rule.strike(exchange)
                if rule.late or seed is not None:
                    course = course or Course(exchange, self._surroundings)
                    course.admit(rule, seed)
        if self._hosts and exchange.address.route is Route.OTHER:
            for rule in self._hosts:
                if exchange.path.startswith(rule.fault.effect.prefix or b""):
                    course = course or Course(exchange, self._surroundings)
                    course.incidents.append(rule.attend(course))
        return course

    def _make_rows(self, method: str) -> dict[Route, tuple[Rule, ...]]:
        """Return the rules that concern a method, by route."""
        rows = {
            route: concerned
            for route in Route
            if (concerned := tuple(rule for rule in self if rule.fault.concerns(method, route)))
        }
        if method in _KNOWN:  # what clients make up would fill the table
            self._table[method] = rows
        return rows
