"""`regsim serve`: the mock registry on a port."""

from __future__ import annotations

import asyncio

from regsim.cli.output import status
from regsim.cli.running import run


def serve(*, host: str = "127.0.0.1", port: int = 5000) -> None:
    """Serve an empty registry until interrupted; it forgets everything when it stops.

    Args:
        host: the address to listen on.
        port: the port to listen on; 0 takes a free one.
    """
    run(_serve(host, port))


async def _serve(host: str, port: int) -> None:
    from mock_registry import MockRegistry  # noqa: PLC0415  (helping needs no server)

    async with MockRegistry().serve(host=host, port=port) as server:
        print(server.url, flush=True)
        status("press Ctrl-C to stop")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            status("stopped")
