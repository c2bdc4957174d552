import asyncio
import hashlib
import json
import socket
import struct
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest

from mock_registry import MockRegistry

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


class Peer:
    """A registry and a client that speaks to it, with the steps that most tests begin with."""

    OCI_MANIFEST = OCI_MANIFEST
    OCI_INDEX = OCI_INDEX

    def __init__(self, registry, http):
        self.registry = registry
        self.http = http
        self.journal = registry.journal

    @staticmethod
    def digest(content, algorithm="sha256"):
        return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"

    def descriptor(self, content, media_type="application/octet-stream", **more):
        return {"mediaType": media_type, "digest": self.digest(content), "size": len(content), **more}

    def image(self, config=b"{}", layers=(), **more):
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.descriptor(config, "application/vnd.oci.image.config.v1+json"),
            "layers": [self.descriptor(each, "application/vnd.oci.image.layer.v1.tar") for each in layers],
            **more,
        }
        return json.dumps(document).encode()

    def index(self, *manifests, **more):
        entries = [self.descriptor(each, OCI_MANIFEST) for each in manifests]
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries, **more}
        return json.dumps(document).encode()

    async def open(self, name, **query):
        answer = await self.http.post(f"/v2/{name}/blobs/uploads/", params=query)
        assert answer.status_code == 202
        return answer.headers["location"]

    async def push(self, name, content, algorithm="sha256"):
        digest = self.digest(content, algorithm)
        location = await self.open(name)
        answer = await self.http.put(location, params=self.also(location, digest=digest), content=content)
        assert answer.status_code == 201
        return digest

    @staticmethod
    def also(location, **parameters):
        """Add parameters to those of a location: httpx would replace them."""
        return httpx.URL(location).params.merge(parameters)

    async def put(self, name, reference, content, media_type=OCI_MANIFEST, **query):
        headers = {} if media_type is None else {"Content-Type": media_type}
        url = f"/v2/{name}/manifests/{reference}"
        return await self.http.put(url, content=content, headers=headers, params=query)

    async def push_image(self, name, reference, config=b"{}", layers=(), **more):
        for each in (config, *layers):
            await self.push(name, each)
        content = self.image(config, layers, **more)
        answer = await self.put(name, reference or self.digest(content), content)
        assert answer.status_code == 201
        return content

    @staticmethod
    def codes(answer):
        """Return the error codes of an answer, whose body must be as the specification says."""
        assert answer.headers["content-type"] == "application/json"
        errors = answer.json()["errors"]
        assert all(isinstance(error["message"], str) for error in errors)
        return [error["code"] for error in errors]


class Wire:
    """A bare connection to a server."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    async def send(self, *data):
        self.writer.write(b"".join(data))
        await self.writer.drain()

    async def response(self, method="GET"):
        """Return status, headers and body of the next response; 1xx ones are responses too."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")[:-2]
        version, status, _ = line.split(" ", 2)
        assert version == "HTTP/1.1"
        headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in lines)}
        bare = method == "HEAD" or status in ("204", "304") or status.startswith("1")
        length = 0 if bare else int(headers["content-length"])
        return int(status), headers, await self.reader.readexactly(length)

    async def ask(self, *data, method="GET"):
        await self.send(*data)
        return await self.response(method)

    async def rest(self):
        """Return everything up to the end of the connection."""
        return await self.reader.read()

    def half_close(self):
        self.writer.write_eof()

    def reset(self):
        """Close with a reset, as a crashed peer does."""
        peer = self.writer.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class WirePeer:
    """A registry on a port, and bare connections to it."""

    def __init__(self, registry, server, stack):
        self.registry = registry
        self.server = server
        self.journal = registry.journal
        self._stack = stack

    async def connect(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        self._stack.callback(writer.transport.abort)
        return Wire(reader, writer)

    async def session(self):
        """Open an upload session and return the path of its location."""
        wire = await self.connect()
        _, headers, _ = await wire.ask(b"POST /v2/app/blobs/uploads/ HTTP/1.1\r\nHost: r\r\n\r\n")
        return headers["location"].encode()

    async def arrived(self, path, count):
        """Wait until a session holds so many octets."""
        [session] = self.registry.state.sessions.values()
        while session.size < count:
            await asyncio.sleep(0)

    async def disconnected(self):
        """Wait until the server has noticed the end of every connection."""
        while self.server.connections:
            await asyncio.sleep(0)


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def open_peer():
    """Return a context manager for a peer over a transport, with any settings of the registry."""

    @asynccontextmanager
    async def over(transport, **settings):
        registry = MockRegistry(**settings)
        if transport == "process":
            async with (
                registry,
                httpx.AsyncClient(transport=registry.transport(), base_url="http://registry") as http,
            ):
                yield Peer(registry, http)
        else:
            async with (
                registry.serve() as server,
                httpx.AsyncClient(base_url=server.url, trust_env=False) as http,
            ):
                yield Peer(registry, http)

    return over


@pytest.fixture(params=["process", "port"])
def transport(request):
    return request.param


@pytest.fixture
async def peer(open_peer, transport):
    async with open_peer(transport) as peer:
        yield peer


@pytest.fixture
def with_settings(open_peer, transport):
    """Return a context manager for a peer with other settings than the default ones."""
    return lambda **settings: open_peer(transport, **settings)


@pytest.fixture
def open_wire_peer():
    """Return a context manager for a registry on a port, with any limits of the server."""

    @asynccontextmanager
    async def listening(limits=None, **settings):
        registry = MockRegistry(**settings)
        async with registry.serve(limits=limits) as server, AsyncExitStack() as stack:
            yield WirePeer(registry, server, stack)

    return listening


@pytest.fixture
async def wire_peer(open_wire_peer):
    async with open_wire_peer() as peer:
        yield peer


@pytest.fixture
async def wire(wire_peer):
    return await wire_peer.connect()
