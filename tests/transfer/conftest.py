"""A registry in this process, and images to put into stores."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

import pytest

from mock_registry import MockRegistry
from regsim.core import Descriptor, media_types
from regsim.registry import Connection
from regsim.registry.repository import Registry
from regsim.registry.transport import Transport
from regsim.store.memory import BytesContent

if TYPE_CHECKING:
    from regsim.store.node import MemoryStore

Stock = Callable[..., Awaitable[Descriptor]]


@pytest.fixture
async def mock() -> AsyncIterator[MockRegistry]:
    async with MockRegistry() as mock:
        yield mock


@pytest.fixture
async def registry(mock: MockRegistry) -> AsyncIterator[Registry]:
    async with Transport("127.0.0.1:5000", Connection(transport=mock.transport())) as transport:
        yield Registry(transport)


@pytest.fixture
def stock() -> Stock:
    """Return what puts an image into a store, and returns its descriptor.

    Its config is told what made each layer, unless `config` says something else.
    """

    async def put(
        store: MemoryStore,
        tag: str,
        *layers: bytes,
        created_by: tuple[str, ...] = (),
        config: bytes | None = None,
        inlined: bool = False,
    ) -> Descriptor:
        history = [{"created_by": line} for line in created_by]
        raw = json.dumps({"history": history}).encode() if config is None else config
        parts = [Descriptor.of(raw, media_types.OCI_CONFIG)]
        parts += [Descriptor.of(layer, media_types.OCI_LAYER_GZIP) for layer in layers]
        for part, data in zip(parts, (raw, *layers), strict=True):
            await store.put(BytesContent(part, data))
        written = [part.to_json() for part in parts]
        if inlined:
            written[0] = Descriptor(
                media_type=parts[0].media_type, digest=parts[0].digest, size=parts[0].size, data=raw
            ).to_json()
        document = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": written[0],
            "layers": written[1:],
        }
        manifest = json.dumps(document).encode()
        descriptor = Descriptor.of(manifest, media_types.OCI_MANIFEST)
        await store.put(BytesContent(descriptor, manifest))
        await store.tag(descriptor, tag)
        return descriptor

    return put
