"""One rule, applied to one exchange.

Owns what an effect may see and do. Must not know any effect.
"""

import math
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, TypeVar

from mock_registry.service import Service

from .effect import Effect
from .fault import Stream, When

if TYPE_CHECKING:
    from mock_registry.exchange import Exchange

    from .course import Course
    from .rules import Rule

T = TypeVar("T")


class Incident:
    """An effect's view of the exchange that it is applied to.

    Attributes:
        rule: The rule that matched.
        exchange: The exchange.
        course: How the exchange is served.
        seed: From which all chance in it follows.
        applied: The effect did something.
        kept: Octets that the effect keeps from one moment to the next.
        number: Likewise a number.
    """

    def __init__(self, rule: "Rule", course: "Course", seed: str) -> None:
        self.rule = rule
        self.course = course
        self.exchange: Exchange = course.exchange
        self.seed = seed
        self.applied = False
        self.kept = b""
        self.number = 0

    @property
    def effect(self) -> Effect:
        """What is applied."""
        return self.rule.fault.effect

    @property
    def service(self) -> Service:
        """The registry behind the exchange."""
        return self.course.service

    @property
    def upstream(self) -> bool:
        """The request's direction is meant, not the response's."""
        return self.rule.fault.direction(self.exchange.method) is Stream.UPSTREAM

    @property
    def after(self) -> bool:
        """Meant is the time after the handler."""
        return self.rule.fault.when == When.AFTER

    @cached_property
    def random(self) -> Random:
        """Chance that is the same whenever the same requests come in the same order."""
        return Random(self.seed)  # noqa: S311 (for repeating, not for secrets)

    def note(self) -> None:
        """Write down that the effect did something."""
        if not self.applied:
            self.applied = True
            self.rule.note(self)
            names = self.exchange.fault
            self.exchange.fault = f"{names},{self.rule.name}" if names else self.rule.name

    def now(self) -> float:
        """Return the time, in seconds of the registry's clock."""
        return self.course.clock()

    async def pause(self, seconds: float) -> None:
        """Let time pass, or the peer go, whichever is sooner."""
        if seconds > 0:
            await self.course.wait(self.course.sleep(seconds))

    async def stall(self, seconds: float | None = None) -> None:
        """Do nothing until the rule is released, the time is over or the peer has gone."""
        if seconds is not None and math.isfinite(seconds):
            await self.course.wait(self.course.sleep(seconds), self.rule.released())
        else:
            await self.course.wait(self.rule.released())

    def remember(self, kind: type[T]) -> T:
        """Return the one object of this kind that the rule keeps for its effect."""
        return self.rule.remember(kind)
