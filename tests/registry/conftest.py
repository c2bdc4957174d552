"""Peers for the room's tests: a patience that never waits, and servers that break off where told."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import pytest
import respx

from regsim.core.account import Account
from regsim.net.transport import SocketTransport
from regsim.registry import Connection
from regsim.registry.repository import Registry, Repository
from regsim.registry.retry import Patience, Policy
from regsim.registry.transport import Transport

if TYPE_CHECKING:
    from pathlib import Path

    from regsim.net import Timeouts

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
def registry() -> respx.MockRouter:
    """A registry that respx plays: its base, and whatever a test adds."""
    router = respx.MockRouter(assert_all_called=False)
    router.get(f"http://{HOST}/v2/").respond(200)
    return router


@pytest.fixture
def network(registry: respx.MockRouter) -> httpx.AsyncBaseTransport:
    """A network on which there is nothing but that registry."""
    return httpx.MockTransport(registry.async_handler)


@pytest.fixture
async def repository(
    network: httpx.AsyncBaseTransport, patience: Patience, warnings: list[str]
) -> AsyncIterator[Repository]:
    """`shop/api` of that registry."""
    async with Transport(HOST, Connection(transport=network)) as transport:
        yield Registry(transport, patience=patience, warn=warnings.append).repository("shop/api")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a certificate for this machine, signed by itself, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.fail("openssl is not installed (Debian package openssl)")
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    names = "subjectAltName=IP:127.0.0.1,IP:::1,DNS:localhost"
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(path)]
    made = subprocess.run(
        [openssl, "req", "-x509", *key, "-days", "2", "-subj", "/CN=test", "-addext", names],
        check=True,
        capture_output=True,
    )
    with path.open("ab") as file:
        file.write(made.stdout)
    return path


@dataclass(frozen=True, slots=True)
class Link:
    """A way to reach a server: over which transport, and through TLS or not.

    Attributes:
        name: `sockets` is the project's own.
        tls: the server's side of TLS; None is plain TCP.
        certificate: whom the client trusts.
    """

    name: str
    tls: ssl.SSLContext | None
    certificate: Path

    @property
    def own(self) -> bool:
        """Whether these are the project's own sockets."""
        return self.name.startswith("sockets")

    def cut(self, writer: asyncio.StreamWriter) -> None:
        """Close a connection with RST instead of FIN."""
        reset(writer)

    def network(self, connections: int = 32) -> httpx.AsyncBaseTransport:
        """Return the client's side, as httpx has it."""
        if self.own:
            return SocketTransport(connections)
        context: ssl.SSLContext | bool = False
        if self.tls is not None:
            context = ssl.create_default_context(cafile=self.certificate)
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        return httpx.AsyncHTTPTransport(verify=context, limits=limits, trust_env=False)

    def transport(self, peer: Peer, timeouts: Timeouts | None = None) -> Transport:
        """Return the client's side, as this room has it."""
        return Transport(
            peer.url, Connection(timeouts=timeouts, transport=None if self.own else self.network())
        )


LINKS = ["sockets", "sockets, TLS", "httpx", "httpx, TLS"]


@pytest.fixture(params=LINKS)
def link(request: pytest.FixtureRequest, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Link:
    """Each way in turn: whoever asks for it is run over every transport."""
    name: str = request.param
    tls = None
    if name.endswith("TLS"):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    return Link(name, tls, certificate)


@dataclass
class Peer:
    """A raw server. Each request is kept, and answered by the next handler (the last one stays)."""

    scheme: str = "http"
    name: str = "127.0.0.1"
    port: int = 0
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"{self.name}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[..., AbstractAsyncContextManager[Peer]]


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@pytest.fixture
def cut() -> Callable[[asyncio.StreamWriter], None]:
    return reset


@asynccontextmanager
async def listening(link: Link, peer: Peer, handler: Handler, *, address: str) -> AsyncIterator[None]:
    """Let `handler` have each connection, until it is through with it or the test is over."""
    tasks = set[asyncio.Task[None]]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        peer.connections += 1
        try:
            await handler(reader, writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the peer went, or the test is over
        finally:
            writer.close()

    server = await asyncio.start_server(answer, address, 0, ssl=link.tls)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def listen(link: Link) -> Serve:
    """Return a context manager that hands each connection to a handler."""

    @asynccontextmanager
    async def serving(handler: Handler, *, address: str = "127.0.0.1") -> AsyncIterator[Peer]:
        name = f"[{address}]" if ":" in address else address
        peer = Peer("http" if link.tls is None else "https", name)
        async with listening(link, peer, handler, address=address):
            yield peer

    return serving


@pytest.fixture
def serve(link: Link) -> Serve:
    """Return a context manager that serves handlers, one for each request in turn, a connection each.

    A handler is called when the head is in; it may read the body from the reader. Bytes stand for a
    handler that reads the whole body and sends them.
    """

    @asynccontextmanager
    async def serving(*handlers: Handler | bytes) -> AsyncIterator[Peer]:
        peer, left = Peer("http" if link.tls is None else "https"), list(handlers)

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            peer.requests.append(head)
            handler = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(handler, bytes):
                peer.bodies.append(await reader.readexactly(length(head)))
                writer.write(handler)
            else:
                await handler(reader, writer)

        async with listening(link, peer, answer, address="127.0.0.1"):
            yield peer

    return serving


def length(head: bytes) -> int:
    """Return what a head says of its body's length."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0
