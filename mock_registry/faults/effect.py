"""What an effect is: the moments of an exchange at which it may act.

Owns the base of all effects. Must not know any of them.
"""

import re
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, ClassVar

from mock_registry.exchange import Response
from mock_registry.journal import Route

from .quantities import settle
from .streams import Source

if TYPE_CHECKING:
    from .incident import Incident

BODIES = frozenset({"PATCH", "POST", "PUT"})
"""Methods whose request has the body that matters."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What happens to an exchange that a rule matches. A value; what it remembers is kept by its rule.

    The moments, in order: the request has arrived; its body is taken; the handler has decided on a response
    and changed what it had to; the response's body is given; the exchange is over.

    Attributes:
        methods: The only methods it has to do with; ``None`` is all.
        routes: The only routes, likewise.
    """

    methods: ClassVar[frozenset[str] | None] = None
    routes: ClassVar[frozenset[Route] | None] = None
    downstream: ClassVar[bool] = False
    """Acts on the response unless told otherwise, as toxiproxy does; else on the body that matters."""

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

    async def arrive(self, incident: "Incident") -> Response | None:  # noqa: ARG002 (for those who act then)
        """Act before the handler; a response stands in for it."""
        return None

    def take(self, incident: "Incident", source: Source) -> Source:  # noqa: ARG002 (likewise)
        """Return what the request's body is to come through."""
        return source

    async def reply(self, incident: "Incident", response: Response) -> Response:  # noqa: ARG002 (likewise)
        """Act on the response, before anything of it is sent."""
        return response

    def give(self, incident: "Incident", source: Source) -> Source:  # noqa: ARG002 (likewise)
        """Return what the response's body is to come through."""
        return source

    async def broken(self, incident: "Incident") -> None:
        """Act on a request whose body the peer did not finish."""

    def over(self, incident: "Incident") -> None:
        """Act when the exchange is over, whatever became of it."""
