"""A second port for the same app, opened when somebody is first sent there.

Owns the moment of opening. Must not know why anybody is sent there.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

from .server import Server


class SecondPort:
    """A port that costs nothing until it is needed.

    Args:
        stack: Closes it.
        make: Makes its server.
    """

    def __init__(self, stack: AsyncExitStack, make: Callable[[], Server]) -> None:
        self._stack = stack
        self._make = make
        self._opening: asyncio.Task[Server] | None = None

    async def url(self) -> str:
        """Return the address to reach it."""
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._stack.enter_async_context(self._make()))
        server = await asyncio.shield(self._opening)  # others may be waiting for it too
        return server.url
