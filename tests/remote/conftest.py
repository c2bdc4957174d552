"""Peers for the room's tests: a patience that never waits, and servers that break off where told."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import pytest

from regsim.remote.account import Account
from regsim.remote.repository import Repository
from regsim.remote.retry import Patience, Policy
from regsim.remote.transport import Transport

HOST = "127.0.0.1:5000"


@pytest.fixture
def account() -> Account:
    return Account()


@pytest.fixture
def sleeps() -> list[float]:
    """Seconds that were waited for, without waiting."""
    return []


@pytest.fixture
def patience(sleeps: list[float]) -> Patience:
    async def sleep(seconds: float) -> None:
        sleeps.append(seconds)

    return Patience(
        Policy(retries=3, base=1.0, longest=30.0), sleep=sleep, random=lambda: 1.0, now=lambda: 0.0
    )


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
async def repository(patience: Patience, warnings: list[str]) -> AsyncIterator[Repository]:
    """`shop/api` of a registry that respx plays."""
    async with Transport(HOST) as transport:
        yield Repository(transport, "shop/api", patience=patience, warn=warnings.append)


@dataclass
class Peer:
    """A raw server: each request is kept, and answered by the next handler (the last one stays)."""

    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[..., AbstractAsyncContextManager[Peer]]


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@pytest.fixture
def cut() -> Callable[[asyncio.StreamWriter], None]:
    return reset


@pytest.fixture
def serve() -> Serve:
    """Return a context manager that serves handlers, one for each request in turn, a connection each.

    A handler is called when the head is in; it may read the body from the reader. Bytes stand for a
    handler that reads the whole body and sends them.
    """

    @asynccontextmanager
    async def serving(*handlers: Handler | bytes) -> AsyncIterator[Peer]:
        peer, left, tasks = Peer(), list(handlers), set[asyncio.Task[None]]()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.add(asyncio.current_task())  # type: ignore[arg-type]
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                peer.requests.append(head)
                handler = left.pop(0) if len(left) > 1 else left[0]
                if isinstance(handler, bytes):
                    peer.bodies.append(await reader.readexactly(length(head)))
                    writer.write(handler)
                else:
                    await handler(reader, writer)
                await writer.drain()
            except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass  # the peer went, or the test is over
            finally:
                writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        peer.port = server.sockets[0].getsockname()[1]
        try:
            yield peer
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return serving


def length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0
