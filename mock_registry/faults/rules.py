"""The faults in force in one registry, and the course of an exchange that they act on.

Owns adding, listing and removing rules while requests are served, the order in which effects act, and the
count of what was really sent. Must not know any effect.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, TypeAlias

from mock_registry.asgi import PeerGone
from mock_registry.exchange import BATCH, CutShort, Exchange, Refusal, Response, Severed
from mock_registry.journal import Route
from mock_registry.spec import ErrorCode
from mock_registry.spec import Fault as Error
from mock_registry.storage.protocol import BlobRemoved

from .conditions import METHODS
from .effect import Effect, Fault, Incident, Rule
from .parsing import parse_fault
from .scene import Refused, Scene, Source, Surroundings, from_blob, in_memory

_log = logging.getLogger(__name__)

Admitted: TypeAlias = Callable[[], Awaitable[Response | None]]
Given: TypeAlias = Fault | Effect | str | Mapping[str, Any]
"""What a fault may be given as: a value, a line or a mapping."""


class Table:
    """Rules by the methods and routes that they are for.

    Args:
        rules: The rules, in the order in which they act.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = tuple(rules)
        self._rows: dict[str, dict[Route, tuple[Rule, ...]]] = {}

    def find(self, exchange: Exchange) -> tuple[Rule, ...]:
        """Return the rules for the exchange's method and route."""
        method = exchange.method
        rows = self._rows.get(method)
        if rows is None:
            rows = {
                route: concerned
                for route in Route
                if (concerned := tuple(rule for rule in self._rules if rule.fault.concerns(method, route)))
            }
            if method in METHODS:  # clients could fill the table with methods that they make up
                self._rows[method] = rows
        return rows.get(exchange.address.route, ())


class Course(Scene):
    """How an exchange is served that rules act on.

    Args:
        exchange: The exchange.
        surroundings: What rules work with.
        struck: The rules that act, with the seeds of what is random; a rule that answers a request to its own
            host has none.
        waiting: The rules of which it is not known yet whether the request matches.
    """

    def __init__(
        self,
        exchange: Exchange,
        surroundings: Surroundings,
        struck: Iterable[tuple[Rule, str | None]],
        waiting: list[Rule],
    ) -> None:
        super().__init__(exchange, surroundings)
        self._incidents = [rule.begin(self, seed) for rule, seed in struck]
        self._waiting = waiting

    def _strike(self, rules: Iterable[Rule]) -> list[Incident]:
        struck = [(rule, rule.strike(self.exchange)) for rule in rules]
        return [rule.begin(self, seed) for rule, seed in struck if seed is not None]

    async def serve(self, respond: Callable[[Admitted], Awaitable[Response]]) -> None:
        """Serve the exchange.

        Args:
            respond: Calls the handler; it calls back when the request has been authorized.
        """
        exchange = self.exchange
        try:
            exchange.receive = self.receive
            response = await self._decide(respond)
            if response is not None:
                await self._answer(await self._reply(response))
        except Severed as severed:
            await exchange.sever(reset=severed.reset)
        except OSError:
            _log.debug("request %d: the peer has left", exchange.number)
        finally:
            for incident in self._incidents:
                incident.rule.end(incident)

    async def _decide(self, respond: Callable[[Admitted], Awaitable[Response]]) -> Response | None:
        try:
            response = await self._arrive(self._incidents)
            if response is None:
                self._take(self._incidents)
                response = await respond(self._admitted)
            if self.drains:
                await self.exchange.drain(self.service.settings.drain_limit)
        except CutShort as cut:
            return await self._broken(cut)
        else:
            return response

    async def _admitted(self) -> Response | None:
        """Let those rules act that had to know the user."""
        struck = self._strike(rule for rule in self._waiting if rule.fault.answered is None)
        self._waiting = [rule for rule in self._waiting if rule.fault.answered is not None]
        self._incidents += struck
        response = await self._arrive(struck)
        self._take(struck)
        return response

    async def _arrive(self, incidents: list[Incident]) -> Response | None:
        for incident in incidents:
            response = await incident.effect.arrive(incident)
            if response is not None:
                return response
        return None

    def _take(self, incidents: list[Incident]) -> None:
        for incident in incidents:
            self.source = incident.effect.take(incident, self.source)

    async def _broken(self, cut: CutShort) -> Response | None:
        """Return the answer to a body that ended early, by the peer's doing or by a fault's."""
        match self.verdict:
            case Severed() as severed:
                raise severed
            case Refused() as refused:
                if refused.drain:
                    await self.take_rest()
                return refused.response
        for incident in self._incidents:
            await incident.effect.broken(incident)
        if cut.answer is None:
            return None
        return Refusal(cut.answer, Error(ErrorCode.SIZE_INVALID, "the request's body ended early")).response()

    async def _reply(self, response: Response) -> Response:
        self._incidents += self._strike(rule for rule in self._waiting if rule.expects(response))
        for incident in self._incidents:
            response = await incident.effect.reply(incident, response)
        return response

    async def _answer(self, response: Response) -> None:
        exchange = self.exchange
        with ExitStack() as stack:
            source = self._given(response, stack)
            if source is None:
                await exchange.answer(response)
                return
            await exchange.begin(response)
            await self._deliver(b"", more=True)  # a server may hold the head back until then
            while piece := await source(BATCH):
                await self._deliver(piece, more=True)
            await self._deliver(b"", more=False)
            exchange.response_complete = True
        if self.closes:
            await exchange.sever(reset=False)

    def _given(self, response: Response, stack: ExitStack) -> Source | None:
        """Return the stream that the body is sent through; ``None`` if no effect changes it."""
        if self.exchange.method == "HEAD" or response.status in (204, 304):
            return None
        body = response.body
        try:
            if isinstance(body, bytes):
                source = first = in_memory(body)
            else:
                source = first = from_blob(stack.enter_context(body.blob.open()), body.offset, body.count)
        except (OSError, BlobRemoved):
            return None  # the exchange has an answer for a blob that cannot be read
        for incident in self._incidents:
            source = incident.effect.give(incident, source)
        if source is first:
            stack.close()
            return None
        return source

    async def _deliver(self, piece: bytes, *, more: bool) -> None:
        if self.left and not self.exchange.send_tells:
            raise PeerGone(len(piece))
        await self.exchange.deliver(piece, more=more)


class Rules:
    """All rules in force, in the order in which they act.

    Args:
        surroundings: What they work with.
        seed: The seed of everything random in them.

    Attributes:
        active: Whether there is any rule.
    """

    def __init__(self, surroundings: Surroundings, *, seed: int = 0) -> None:
        self.seed = seed
        self._surroundings = surroundings
        self.active = False
        self._rules: dict[str, Rule] = {}
        self._table = Table(())
        self._hosts: tuple[Rule, ...] = ()

    def add(self, fault: Given, **conditions: Any) -> Rule:
        """Put a fault in force, after those that are.

        Args:
            fault: A `Fault`; an effect, with its conditions as in `Fault`; a line or a mapping.
            conditions: The conditions of an effect.

        Raises:
            FaultError: The line, mapping or condition is invalid.
        """
        parsed = parse_fault(fault, conditions)
        name = wanted = parsed.name or parsed.effect.kind()
        number = 1
        while name in self._rules:
            number += 1
            name = f"{wanted}-{number}"
        rule = self._rules[name] = Rule(parsed, name, seed=self.seed, remove=self.remove)
        self._changed()
        return rule

    def remove(self, rule: Rule | str) -> None:
        """Take a rule out of force. Requests that it holds go on. An unknown rule is ignored."""
        name = rule if isinstance(rule, str) else rule.name
        found = self._rules.get(name)
        if found is not None and rule in (name, found):
            del self._rules[name]
            found.release()
            self._changed()

    def clear(self) -> None:
        """Take all rules out of force."""
        for rule in self:
            self.remove(rule)

    def release(self) -> None:
        """Let all requests that rules hold go on."""
        for rule in self:
            rule.release()

    def _changed(self) -> None:
        self._table = Table(self)
        self._hosts = tuple(rule for rule in self if rule.effect.prefix is not None)
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
        """Return the course of an exchange that a rule acts on, or may act on; ``None`` if none does."""
        struck: list[tuple[Rule, str | None]] = []
        waiting: list[Rule] = []
        for rule in self._table.find(exchange):
            for test in rule.tests:
                if not test(exchange):
                    break
            else:
                if rule.waits:
                    waiting.append(rule)
                elif (seed := rule.strike(exchange)) is not None:
                    struck.append((rule, seed))
        if self._hosts and exchange.address.route is Route.OTHER:
            hosts = (rule for rule in self._hosts if exchange.path.startswith(rule.effect.prefix or b""))
            struck += [(rule, None) for rule in hosts]
        return Course(exchange, self._surroundings, struck, waiting) if struck or waiting else None
