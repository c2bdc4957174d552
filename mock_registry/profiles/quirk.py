"""What a profile is made of.

Owns the form of a quirk, and the order in which several act on one request. Must not know any registry.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from mock_registry.exchange import Exchange, Refusal, Response
from mock_registry.journal import Route
from mock_registry.service import Handler, Service

Wrapper: TypeAlias = Callable[[Service, Exchange, Handler], Awaitable[Response]]
"""Answers a request in place of a handler, which it may ask, and change something before or after that."""


@dataclass(frozen=True, slots=True)
class Quirk:
    """Something that one registry does otherwise than this one would.

    Attributes:
        what: What it does, as profiles/README.md says it.
        evidence: ``probe``, or where it was reported or read; with commas.
        wrapper: Does it.
        routes: The only routes that it has to do with; ``None`` is all.
        methods: The only methods, likewise.
        faults: Rules that do it, in the words of `mock_registry.faults`.
    """

    what: str
    evidence: str
    wrapper: Wrapper | None = None
    routes: frozenset[Route] | None = None
    methods: frozenset[str] | None = None
    faults: tuple[str, ...] = ()

    def concerns(self, exchange: Exchange) -> bool:
        """Tell whether it acts on such a request."""
        return (self.routes is None or exchange.address.route in self.routes) and (
            self.methods is None or exchange.method in self.methods
        )


@dataclass(frozen=True, slots=True)
class Profile:
    """The ways of one named registry.

    Attributes:
        name: What it is asked for by.
        registry: Which registry, and which version of it.
        quirks: What it does otherwise; the first one is the outermost.
        manifest_limit: Octets of the largest manifest; ``None`` is this registry's own limit.
    """

    name: str
    registry: str
    quirks: tuple[Quirk, ...] = field(repr=False)
    manifest_limit: int | None = None

    @property
    def faults(self) -> tuple[str, ...]:
        """The rules that belong to it, in order."""
        return tuple(fault for quirk in self.quirks for fault in quirk.faults)

    async def answer(self, service: Service, exchange: Exchange, handler: Handler) -> Response:
        """Answer a request as this registry would."""
        for quirk in reversed(self.quirks):
            if quirk.wrapper is not None and quirk.concerns(exchange):
                handler = _wrapped(quirk.wrapper, handler)
        return await settled(handler)(service, exchange)


def settled(handler: Handler) -> Handler:
    """Return a handler whose refusals are responses like others."""

    async def settle(service: Service, exchange: Exchange) -> Response:
        try:
            return await handler(service, exchange)
        except Refusal as refusal:
            return refusal.response()

    return settle


def _wrapped(wrapper: Wrapper, handler: Handler) -> Handler:
    inner = settled(handler)
    return lambda service, exchange: wrapper(service, exchange, inner)
