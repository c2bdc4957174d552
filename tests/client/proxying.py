"""A proxy on this machine: it forwards plain HTTP, opens tunnels, and remembers what it was asked for."""

from __future__ import annotations

import asyncio
import base64
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

USER, PASSWORD = "teller", "P4SS%2FW0RD"
SECRETS = ("P4SS", base64.b64encode(b"teller:P4SS/W0RD").decode())


@dataclass
class Proxying:
    """What a proxy was asked for.

    Attributes:
        port: where it listens.
        login: it wants to know who is there.
        refuses: answers every request so, if it is set.
        lines: the first line of each request.
        heads: their heads.
        inside: the first octets of each tunnel.
    """

    port: int = 0
    login: bool = False
    refuses: bytes = b""
    lines: list[str] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    inside: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{f'{USER}:{PASSWORD}@' if self.login else ''}127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        line = head.partition(b"\r\n")[0].decode()
        self.lines.append(line)
        self.heads.append(head)
        if self.refuses or (self.login and f"Basic {SECRETS[1]}".encode() not in head):
            writer.write(self.refuses or b"HTTP/1.1 407 Who Is There\r\nContent-Length: 0\r\n\r\n")
            return
        method, target, _ = line.split(" ")
        if method == "CONNECT":
            host, _, port = target.rpartition(":")
            upstream = await asyncio.open_connection(host, int(port))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            first = await reader.read(65536)
            self.inside.append(first)
            upstream[1].write(first)
        else:
            found = re.fullmatch(r"http://([^/:]+):(\d+)(/.*)", target)
            assert found is not None, target
            upstream = await asyncio.open_connection(found[1], int(found[2]))
            kept = re.sub(rb"(?i)\r\n(proxy-authorization|connection):[^\r]*", b"", head)
            line = f"{method} {found[3]} HTTP/1.1\r\nConnection: close\r\n"
            upstream[1].write(line.encode() + kept.partition(b"\r\n")[2])
        up = asyncio.create_task(_pipe(reader, upstream[1]))
        try:
            await _pipe(upstream[0], writer)
        finally:
            up.cancel()
            await asyncio.gather(up, return_exceptions=True)
            upstream[1].close()


@asynccontextmanager
async def proxying(*, login: bool = False, refuses: bytes = b"") -> AsyncIterator[Proxying]:
    """Run one."""
    proxy = Proxying(login=login, refuses=refuses)
    tasks = set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        try:
            await proxy.serve(reader, writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the peer went, or the test is over
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
