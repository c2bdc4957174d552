"""Reading layers of one image beside each other, from wherever they are at hand.

Owns where a layer is read from and how many are at once. Must not know what is done with them.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from regsim.client.addresses import Archive, Layout, local_store
from regsim.core.account import Account
from regsim.store.layout import LayoutStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

    from regsim.client.addresses import Address
    from regsim.core import Descriptor, Digest
    from regsim.store.protocols import Content
    from regsim.transfer.ends import Source

T = TypeVar("T")

# Layers that are unpacked at the same time: more would only hold more in memory.
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Layers:
    """An image's layers.

    Args:
        source: where the image is.
        place: what that is. A registry's layers are read from the local store where it has them.
    """

    source: Source
    place: Address

    @property
    def remote(self) -> bool:
        """Whether reading a layer that is not at hand moves it."""
        return not isinstance(self.place, Layout | Archive)

    async def at_hand(self, layer: Descriptor) -> Content | None:
        """Return a layer that can be read without asking a registry.

        In an archive it may be absent all the same, which shows when it is opened (`NotFoundError`).
        """
        if isinstance(self.place, Archive):
            return self.fetched(layer)
        store = LayoutStore(self.place.directory if isinstance(self.place, Layout) else local_store())
        return store.content(layer) if await store.has(layer) else None

    def fetched(self, layer: Descriptor) -> Content:
        """Return a layer where the image is; absence shows when it is opened."""
        return self.source.content(layer, Account())


@asynccontextmanager
async def read_each(
    layers: Iterable[Descriptor], read: Callable[[Descriptor], Awaitable[T]]
) -> AsyncIterator[Mapping[Digest, asyncio.Task[T]]]:
    """Read layers, each once and some at a time; none goes on when this is left.

    Returns:
        What to await, by the layer's digest.
    """
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(layer: Descriptor) -> T:
        async with gate:
            return await read(layer)

    distinct = {layer.digest: layer for layer in layers}
    tasks = {digest: asyncio.create_task(one(layer)) for digest, layer in distinct.items()}
    try:
        yield tasks
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
