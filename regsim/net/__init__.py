"""HTTP/1.1 over sockets: the fast way out of this room, behind httpx's interface.

Owns connections from name to octets. Must not know httpx, registries, accounts, or what a body is good for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regsim.net.pool import Limits, Pool
from regsim.net.request import Request, Waits

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from regsim.net.reply import Reply

__all__ = ["Limits", "Request", "Waits", "Wire"]


class Wire:
    """Sends requests and returns their answers.

    Args:
        limits: how many connections, and for how long.
        context: for TLS; called when it is first needed.
    """

    def __init__(self, limits: Limits, context: Callable[[], ssl.SSLContext]) -> None:
        self._pool = Pool(limits, context)

    async def ask(self, request: Request) -> Reply:
        """Send a request, once, and return its answer with the body unread. Whoever gets it closes it.

        Raises:
            WireError: there is no answer.
        """
        connection = await self._pool.acquire(request.origin, request.waits, fresh=request.fresh)
        return await connection.exchange(request)

    def close(self) -> None:
        """Close every connection, in use or not."""
        self._pool.close()
