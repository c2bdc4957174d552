import hashlib
import json
from contextlib import asynccontextmanager

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
