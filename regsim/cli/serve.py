"""`regsim serve`: the mock registry on a port."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack

from regsim.cli.output import status, write
from regsim.errors import NetworkError, UsageError

_MAX_PORT = 65535
# Nobody reads this journal, and a server may run for weeks.
_RECORDS = 1000


def serve(*, host: str = "127.0.0.1", port: int = 5000) -> None:
    """Serve an empty registry until interrupted; it forgets everything when it stops.

    Args:
        host: the address to listen on.
        port: the port to listen on; 0 takes a free one.
    """
    if not 0 <= port <= _MAX_PORT:
        raise UsageError(f"there is no port {port}", hint=f"0 to {_MAX_PORT}; 0 takes a free one")
    from regsim.cli.running import run  # noqa: PLC0415  (helping needs no server)

    run(_serve(host, port))


async def _serve(host: str, port: int) -> None:
    import asyncio  # noqa: PLC0415  (likewise)

    from mock_registry import Journal, MockRegistry  # noqa: PLC0415  (likewise)

    registry = MockRegistry(journal=Journal(limit=_RECORDS))
    async with AsyncExitStack() as stack:
        try:
            server = await stack.enter_async_context(registry.serve(host=host, port=port))
        except OSError as error:
            # asyncio words it in its own way; a name that is not found has no number of the system's.
            number = error.errno or 0
            reason = os.strerror(number) if number > 0 else error.strerror
            raise NetworkError(
                f"cannot listen on {host}:{port}: {reason}", hint="--port 0 takes any free port"
            ) from error
        write(f"{server.url}\n", None)
        status("press Ctrl-C to stop")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            status("stopping")
