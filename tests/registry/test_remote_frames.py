"""How deep a request stands: each layer between a destination and the socket is one that has a reason."""

from __future__ import annotations

import socket
import traceback

import pytest

from mock_registry import MockRegistry
from regsim.core import Descriptor, media_types
from regsim.core.account import Account
from regsim.core.actions import PutManifest
from regsim.core.manifest import index_document, parse
from regsim.registry.repository import Registry
from regsim.registry.transport import Transport
from regsim.transfer.ends import RegistryDestination

pytestmark = pytest.mark.anyio

EMPTY = index_document([])


async def test_a_manifest_is_sent_within_nine_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    stacks: list[list[str]] = []
    send = socket.socket.send

    def watch(self: socket.socket, data: bytes | memoryview, flags: int = 0) -> int:
        if bytes(data).startswith(b"PUT "):
            frames = [f"{frame.name} of {frame.filename}" for frame in traceback.extract_stack()[:-1]]
            start = next(place for place, name in enumerate(frames) if "put_manifest of" in name)
            stacks.append(frames[start:])
        return send(self, data, flags)

    async with MockRegistry().serve() as server, Transport(server.url) as transport:
        monkeypatch.setattr(socket.socket, "send", watch, raising=False)
        destination = RegistryDestination(Registry(transport).repository("shop/api", writes=True))
        document = parse(Descriptor.of(EMPTY, media_types.OCI_INDEX), EMPTY)
        await destination.put_manifest(
            PutManifest(descriptor=document.descriptor, account=Account(), document=document, tag="1")
        )
    assert len(stacks) == 1
    assert len(stacks[0]) <= 9, "\n".join(stacks[0])
