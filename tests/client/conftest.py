"""Image layouts, and a client that speaks to a registry in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

import pytest

from mock_registry import MockRegistry
from regsim.client.client import Client
from regsim.core import Descriptor, Platform, media_types
from regsim.core.config import History, ImageConfig, config_document
from regsim.core.manifest import index_document, manifest_document
from regsim.store.layout import LayoutStore
from regsim.store.memory import BytesContent

if TYPE_CHECKING:
    from pathlib import Path

HOST = "127.0.0.1:5000"
Make = Callable[..., Awaitable[Descriptor]]


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test see where another one's blobs were, nor what it pulled."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
async def mock() -> AsyncIterator[MockRegistry]:
    async with MockRegistry() as mock:
        yield mock


@pytest.fixture
async def client(mock: MockRegistry) -> AsyncIterator[Client]:
    async with Client(transport=mock.transport()) as client:
        yield client


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the test's layout is."""
    return tmp_path / "layout"


@pytest.fixture
def make(place: Path) -> Make:
    """Put an image into the layout, or an index of several."""

    async def put(tag: str, *layers: bytes, architectures: tuple[str, ...] = ()) -> Descriptor:
        store = LayoutStore(place, create=True)
        images = [await _image(store, layers, each) for each in architectures or ("amd64",)]
        root = images[0]
        if architectures:
            raw = index_document(images)
            root = Descriptor.of(raw, media_types.OCI_INDEX)
            await store.put(BytesContent(root, raw))
        await store.tag(root, tag)
        return root

    return put


async def _image(store: LayoutStore, layers: tuple[bytes, ...], architecture: str) -> Descriptor:
    platform = Platform("linux", architecture)
    history = tuple(History(created_by=f"COPY part{number} /") for number in range(len(layers)))
    config = config_document(ImageConfig(platform=platform, history=history, diff_ids=()))
    described = Descriptor.of(config, media_types.OCI_CONFIG)
    blobs = [Descriptor.of(each, media_types.OCI_LAYER) for each in layers]
    raw = manifest_document(described, blobs)
    manifest = Descriptor(
        media_type=media_types.OCI_MANIFEST,
        digest=Descriptor.of(raw, media_types.OCI_MANIFEST).digest,
        size=len(raw),
        platform=platform,
    )
    for descriptor, data in zip((described, *blobs, manifest), (config, *layers, raw), strict=True):
        await store.put(BytesContent(descriptor, data))
    return manifest
