"""The course of an exchange that faults act on, from its arrival to the end of its answer.

Owns the order of the moments at which effects act, waiting, and the account of what was really handed over.
Must not know any effect.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mock_registry.asgi import PeerGone
from mock_registry.exchange import BATCH, CutShort, Exchange, Refusal, Response, Severed, Stretch
from mock_registry.service import Service
from mock_registry.spec import ErrorCode
from mock_registry.spec import Fault as Error
from mock_registry.storage import BlobRemoved

from .streams import Content, Gate, Inlet, Refused, Source, Stretched

if TYPE_CHECKING:
    from .incident import Incident
    from .rules import Rule

_log = logging.getLogger(__name__)

Admitted = Callable[[], Awaitable[Response | None]]
Respond = Callable[[Admitted], Awaitable[Response]]


class Host(Protocol):
    """A host that requests can be redirected to."""

    async def url(self) -> str:
        """Return scheme, host and port."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What faults work with.

    Attributes:
        service: The registry.
        clock: Seconds, monotonic.
        sleep: Waits for seconds of that clock.
        hosts: Other hosts of the registry, for what is redirected; none where there are no sockets.
    """

    service: Service
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    hosts: Sequence[Host]


class Course:
    """How one exchange is served.

    Attributes:
        exchange: The exchange.
        inlet: The request's body as the server has it.
        incidents: What acts on it, in order.
        drains: The rest of the request's body is read before the answer.
        closes: The connection ends with the answer.
    """

    def __init__(self, exchange: Exchange, surroundings: Surroundings) -> None:
        self.exchange = exchange
        self.surroundings = surroundings
        self.service = surroundings.service
        self.clock = surroundings.clock
        self.sleep = surroundings.sleep
        gone = exchange.until_gone if exchange.tells_gone else None
        self.inlet = Inlet(exchange.receive, patient=exchange.header(b"expect") is not None, gone=gone)
        self.incidents: list[Incident] = []
        self.drains = True
        self.closes = False
        self._gate = Gate(self.inlet)
        self._late: list[Rule] = []
        self._left = False

    def admit(self, rule: "Rule", seed: str | None) -> None:
        """Let a rule act; or wait, without a seed, until it is known whether the request is meant."""
        if seed is None:
            self._late.append(rule)
        else:
            self.incidents.append(rule.begin(self, seed))

    def _strike(self, rule: "Rule") -> "list[Incident]":
        seed = rule.strike(self.exchange) if rule.fault.knows(self.exchange) else None
        return [] if seed is None else [rule.begin(self, seed)]

    async def take_rest(self) -> None:
        """Read and count what is left of the request's body, past all stages."""
        self._gate.verdict = None
        self._gate.source = self.inlet
        self.exchange.resume()
        try:
            await self.exchange.drain(self.service.settings.drain_limit)
        except CutShort:
            _log.debug("request %d: the peer did not send the rest", self.exchange.number)

    # Serving

    async def serve(self, respond: Respond) -> None:
        """Serve the exchange.

        Args:
            respond: Asks the handler; calls back when the request has been admitted.
        """
        exchange = self.exchange
        try:
            exchange.receive = self._gate.receive
            response = await self._decide(respond)
            if response is not None:
                await self._answer(await self._reply(response))
        except Severed as severed:
            await exchange.sever(reset=severed.reset)
        except OSError:
            _log.debug("request %d: the peer is gone", exchange.number)
        finally:
            for incident in self.incidents:
                incident.rule.end(incident)

    async def _decide(self, respond: Respond) -> Response | None:
        try:
            response = await self._arrive(self.incidents)
            if response is None:
                self._gate.source = self._taken(self.incidents, self.inlet)
                response = await respond(self._admitted)
            if self.drains:
                await self.exchange.drain(self.service.settings.drain_limit)
        except CutShort as cut:
            return await self._broken(cut)
        else:
            return response

    async def _admitted(self) -> Response | None:
        """Let those rules act that had to know the user."""
        known = [rule for rule in self._late if rule.fault.answered is None]
        struck = [incident for rule in known for incident in self._strike(rule)]
        self._late = [rule for rule in self._late if rule not in known]
        self.incidents += struck
        response = await self._arrive(struck)
        self._gate.source = self._taken(struck, self._gate.source)
        return response

    async def _arrive(self, incidents: "list[Incident]") -> Response | None:
        for incident in incidents:
            response = await incident.effect.arrive(incident)
            if response is not None:
                return response
        return None

    def _taken(self, incidents: "list[Incident]", source: Source) -> Source:
        for incident in incidents:
            source = incident.effect.take(incident, source)
        return source

    async def _broken(self, cut: CutShort) -> Response | None:
        """Return what to answer to a body that ended early, by the peer's doing or by a fault's."""
        match self._gate.verdict:
            case Severed() as severed:
                raise severed
            case Refused() as refused:
                if refused.drain:
                    await self.take_rest()
                return refused.response
        for incident in self.incidents:
            await incident.effect.broken(incident)
        if cut.answer is None:
            return None
        return Refusal(cut.answer, Error(ErrorCode.SIZE_INVALID, "the request's body ended early")).response()

    async def _reply(self, response: Response) -> Response:
        for rule in self._late:
            if rule.fault.expects(response):
                self.incidents += self._strike(rule)
        for incident in self.incidents:
            response = await incident.effect.reply(incident, response)
        return response

    # Answering

    async def _answer(self, response: Response) -> None:
        exchange = self.exchange
        with ExitStack() as stack:
            source = self._given(response, stack)
            if source is None:
                await exchange.answer(response)
                return
            await exchange.begin(response)
            await self._deliver(b"", more=True)  # a server may hold the head back until then
            while piece := await source.read(BATCH):
                await self._deliver(piece, more=True)
            await self._deliver(b"", more=False)
            exchange.response_complete = True
        if self.closes:
            await exchange.sever(reset=False)

    def _given(self, response: Response, stack: ExitStack) -> Source | None:
        """Return what the body is to come through; ``None`` if it may as well come as it is."""
        if self.exchange.method == "HEAD" or response.status in (204, 304):
            return None
        try:
            source = first = _open(response.body, stack)
        except (OSError, BlobRemoved):
            return None  # the exchange knows what to say of a blob that cannot be read
        for incident in self.incidents:
            source = incident.effect.give(incident, source)
        if source is first:
            stack.close()
            return None
        return source

    async def _deliver(self, piece: bytes, *, more: bool) -> None:
        if self._left and not self.exchange.send_tells:
            raise PeerGone(len(piece))
        await self.exchange.deliver(piece, more=more)

    # Waiting

    async def wait(self, *works: Awaitable[object]) -> None:
        """Wait until one of these is done, or the peer has gone.

        A peer that has gone ends the waiting and nothing else: what then becomes of its request is what would
        have become of it without the wait.
        """
        tasks = [asyncio.ensure_future(work) for work in works]
        watch = asyncio.ensure_future(self.inlet.until_gone())
        try:
            done, _ = await asyncio.wait([*tasks, watch], return_when=asyncio.FIRST_COMPLETED)
            self._left = self._left or watch in done
            for work in done - {watch}:
                work.result()
        finally:
            for task in (*tasks, watch):
                task.cancel()
            await asyncio.gather(*tasks, watch, return_exceptions=True)


def _open(body: bytes | Stretch, stack: ExitStack) -> Source:
    if isinstance(body, bytes):
        return Content(body)
    return Stretched(stack.enter_context(body.blob.open()), body.offset, body.count)
