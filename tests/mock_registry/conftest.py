"""Peers for the room's tests: a registry with a client, over any transport, and bare connections to one."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
import uvicorn
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server as GranianServer

from mock_registry import DirectoryStorage, MemoryStorage, MockRegistry
from mock_registry.spec import ErrorCode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path
    from typing import Any

    from mock_registry.server import Limits, Server
    from mock_registry.server.connection import Connection

    Answer = tuple[int, dict[str, str], bytes]
    OpenPeer = Callable[..., AbstractAsyncContextManager["Peer"]]
    OpenWith = OpenPeer
    OpenWirePeer = Callable[..., AbstractAsyncContextManager["WirePeer"]]

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"

CODES = frozenset(ErrorCode) - {ErrorCode.UNKNOWN}


async def until(true: Callable[[], object]) -> None:
    """Let others run until something is so; what never becomes so ends with the test run's own deadline."""
    while not true():  # noqa: ASYNC110 (what is waited for tells nobody when it happens)
        await asyncio.sleep(0)


class Peer:
    """A registry and a client that speaks to it, with the steps that most tests begin with."""

    OCI_MANIFEST = OCI_MANIFEST
    OCI_INDEX = OCI_INDEX
    until = staticmethod(until)

    def __init__(self, registry: MockRegistry, http: httpx.AsyncClient) -> None:
        self.registry = registry
        self.http = http
        self.journal = registry.journal

    @staticmethod
    def digest(content: bytes, algorithm: str = "sha256") -> str:
        return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"

    def descriptor(
        self, content: bytes, media_type: str = "application/octet-stream", **more: Any
    ) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": self.digest(content), "size": len(content), **more}

    def image(self, config: bytes = b"{}", layers: Iterable[bytes] = (), **more: Any) -> bytes:
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.descriptor(config, "application/vnd.oci.image.config.v1+json"),
            "layers": [self.descriptor(each, "application/vnd.oci.image.layer.v1.tar") for each in layers],
            **more,
        }
        return json.dumps(document).encode()

    def index(self, *manifests: bytes, **more: Any) -> bytes:
        entries = [self.descriptor(each, OCI_MANIFEST) for each in manifests]
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries, **more}
        return json.dumps(document).encode()

    async def open(self, name: str, **query: str) -> str:
        answer = await self.http.post(f"/v2/{name}/blobs/uploads/", params=query)
        assert answer.status_code == 202
        return answer.headers["location"]

    async def push(self, name: str, content: bytes, algorithm: str = "sha256") -> str:
        digest = self.digest(content, algorithm)
        location = await self.open(name)
        answer = await self.http.put(location, params=self.also(location, digest=digest), content=content)
        assert answer.status_code == 201
        return digest

    @staticmethod
    def also(location: str, **parameters: str) -> httpx.QueryParams:
        """Add parameters to those of a location: httpx would replace them."""
        return httpx.URL(location).params.merge(parameters)

    async def put(
        self, name: str, reference: str, content: bytes, media_type: str | None = OCI_MANIFEST, **query: Any
    ) -> httpx.Response:
        headers = {} if media_type is None else {"Content-Type": media_type}
        url = f"/v2/{name}/manifests/{reference}"
        return await self.http.put(url, content=content, headers=headers, params=query)

    async def push_image(
        self,
        name: str,
        reference: str | None,
        config: bytes = b"{}",
        layers: Iterable[bytes] = (),
        **more: Any,
    ) -> bytes:
        for each in (config, *layers):
            await self.push(name, each)
        content = self.image(config, layers, **more)
        answer = await self.put(name, reference or self.digest(content), content)
        assert answer.status_code == 201
        return content

    def files(self) -> list[Path]:
        """Return the files that hold content or open uploads, wherever this registry keeps them."""
        storage = self.registry.storage
        if isinstance(storage, DirectoryStorage):
            folders = [*(storage.path / "blobs").iterdir(), storage.path / "uploads"]
        else:
            assert isinstance(storage, MemoryStorage)
            folders = [storage.spool] if storage.spool else []
        return sorted(file for folder in folders for file in folder.iterdir())

    def codes(self, answer: httpx.Response) -> list[str]:
        """Return the error codes of an answer, whose body must be as the specification says."""
        assert answer.headers["content-type"] == "application/json"
        errors = answer.json()["errors"]
        assert all(isinstance(error["message"], str) for error in errors)
        if answer.status_code < 500 and self.registry.profile is None:
            # Of 4xx, the specification knows every code; of 5xx, none.
            assert all(error["code"] in CODES for error in errors)
        return [error["code"] for error in errors]


class Wire:
    """A bare connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *data: bytes) -> None:
        self.writer.write(b"".join(data))
        await self.writer.drain()

    async def response(self, method: str = "GET") -> Answer:
        """Return status, headers and body of the next response; 1xx ones are responses too."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")[:-2]
        version, status, _ = line.split(" ", 2)
        assert version == "HTTP/1.1"
        headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in lines)}
        bare = method == "HEAD" or status in ("204", "304") or status.startswith("1")
        length = 0 if bare else int(headers["content-length"])
        return int(status), headers, await self.reader.readexactly(length)

    async def ask(self, *data: bytes, method: str = "GET") -> Answer:
        await self.send(*data)
        return await self.response(method)

    async def rest(self) -> bytes:
        """Return everything up to the end of the connection."""
        return await self.reader.read()

    def half_close(self) -> None:
        self.writer.write_eof()

    def reset(self) -> None:
        """Close with a reset, as a crashed peer does."""
        peer = self.writer.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class WirePeer:
    """A registry on a port, and bare connections to it."""

    until = staticmethod(until)

    def __init__(self, registry: MockRegistry, server: Server) -> None:
        self.registry = registry
        self.server = server
        self.journal = registry.journal
        self._wires: list[Wire] = []

    async def connect(self) -> Wire:
        self._wires.append(Wire(*await asyncio.open_connection("127.0.0.1", self.server.port)))
        return self._wires[-1]

    def close(self) -> None:
        for wire in self._wires:
            wire.writer.transport.abort()

    async def session(self) -> bytes:
        """Open an upload session and return the path of its location."""
        wire = await self.connect()
        _, headers, _ = await wire.ask(b"POST /v2/app/blobs/uploads/ HTTP/1.1\r\nHost: r\r\n\r\n")
        return headers["location"].encode()

    async def reading(self, count: int) -> Connection:
        """Wait until so many octets of a body, which is not whole yet, have arrived at the server."""
        found: list[Connection] = []

        def look() -> bool:
            found[:] = [
                each
                for each in self.server.connections
                if each.requests.reading and each.requests.received >= count
            ]
            return bool(found)

        await until(look)
        return found[0]

    async def disconnected(self) -> None:
        """Wait until the server has noticed the end of every connection."""
        await until(lambda: not self.server.connections)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a directory that does not exist yet, for a registry to keep everything in."""
    return tmp_path / "registry"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Uvicorn:
    """Another ASGI server than the registry's own."""

    def __init__(self, registry: MockRegistry, listener: socket.socket) -> None:
        config = uvicorn.Config(registry, log_config=None, lifespan="on", timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.listener = listener
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"


@asynccontextmanager
async def under_uvicorn(registry: MockRegistry) -> AsyncIterator[Uvicorn]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = Uvicorn(registry, listener)
        serving = asyncio.ensure_future(running.server.serve(sockets=[listener]))
        async with registry:
            await until(lambda: running.server.started)
            yield running
            running.server.should_exit = True
            await serving


class Granian:
    """A third ASGI server, which is written in Rust and speaks to the sockets in threads of its own."""

    def __init__(self, registry: MockRegistry, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.server = GranianServer(
            registry, port=port, interface=Interfaces.ASGI, http=HTTPModes.http1, log_enabled=False
        )

    async def listens(self) -> None:
        """Wait until connections are taken."""
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                continue
            writer.close()
            return


@asynccontextmanager
async def under_granian(registry: MockRegistry) -> AsyncIterator[Granian]:
    # It takes the number of a port, and no socket: this one keeps the number for it, and never listens.
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        keeper.bind(("127.0.0.1", 0))
        running = Granian(registry, keeper.getsockname()[1])
        serving = asyncio.ensure_future(running.server.serve())
        await until(lambda: registry.holders)
        await running.listens()
        async with registry:
            yield running
            running.server.stop()  # type: ignore[no-untyped-call]
            await serving


OTHER_SERVERS: dict[str, Callable[[MockRegistry], AbstractAsyncContextManager[Uvicorn | Granian]]] = {
    "uvicorn": under_uvicorn,
    "granian": under_granian,
}


@pytest.fixture
def open_peer(tmp_path_factory: pytest.TempPathFactory) -> OpenPeer:
    """Return a context manager for a peer over a transport, with any settings of the registry.

    The transport ``directory`` is a port, with a registry that keeps everything in a directory.
    """

    @asynccontextmanager
    async def over(transport: str, **settings: Any) -> AsyncIterator[Peer]:
        if transport == "directory":
            settings.setdefault("directory", tmp_path_factory.mktemp("registry"))
        registry = MockRegistry(**settings)
        if transport == "process":
            async with (
                registry,
                httpx.AsyncClient(transport=registry.transport(), base_url="http://registry") as http,
            ):
                yield Peer(registry, http)
        else:
            serve = OTHER_SERVERS.get(transport)
            serving: AbstractAsyncContextManager[Uvicorn | Granian | Server] = (
                registry.serve() if serve is None else serve(registry)
            )
            async with serving as server, httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
                yield Peer(registry, http)

    return over


@pytest.fixture(
    params=[
        "process",
        "port",
        "directory",
        *(pytest.param(name, marks=pytest.mark.soak) for name in OTHER_SERVERS),
    ]
)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def peer(open_peer: OpenPeer, transport: str) -> AsyncIterator[Peer]:
    async with open_peer(transport) as peer:
        yield peer


@pytest.fixture
def with_settings(open_peer: OpenPeer, transport: str) -> OpenWith:
    """Return a context manager for a peer with other settings than the default ones."""
    return lambda **settings: open_peer(transport, **settings)


@pytest.fixture
def open_wire_peer() -> OpenWirePeer:
    """Return a context manager for a registry on a port, with any limits of the server."""

    @asynccontextmanager
    async def listening(limits: Limits | None = None, **settings: Any) -> AsyncIterator[WirePeer]:
        registry = MockRegistry(**settings)
        async with registry.serve(limits=limits) as server:
            peer = WirePeer(registry, server)
            try:
                yield peer
            finally:
                peer.close()

    return listening


@pytest.fixture
async def wire_peer(open_wire_peer: OpenWirePeer) -> AsyncIterator[WirePeer]:
    async with open_wire_peer() as peer:
        yield peer


@pytest.fixture
async def wire(wire_peer: WirePeer) -> Wire:
    return await wire_peer.connect()
