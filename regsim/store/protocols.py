"""What it means to hold content: small protocols that every store implements.

Owns the shapes only. Must not know registries, transfers or ledgers: a store neither counts wire bytes
nor decides what moves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from regsim.core import Descriptor, Digest

# Streams are handed over in chunks of about this many bytes: smaller ones cost thread hops and
# event-loop turns, larger ones only memory.
CHUNK = 1024 * 1024

# What is handed pieces in threads; a piece is its own until it returns.
Taker = Callable[[memoryview], object]


class Content(Protocol):
    """A descriptor and how to open it. Opening again starts again from the first byte."""

    @property
    def descriptor(self) -> Descriptor:
        """What the bytes must turn out to be."""

    def open(self) -> AsyncGenerator[bytes, None]:
        """Return a fresh stream of the raw bytes, in chunks of about `CHUNK` bytes.

        The consumer closes it (`contextlib.aclosing`). It is not verified: the consumer hashes.

        Raises (while iterating):
            NotFoundError, LocalFileError, NetworkError, RegistryError: it cannot be read.
        """


@runtime_checkable
class Pourable(Content, Protocol):
    """Content that hands its bytes over in threads, also from the middle: the fast way to take it.

    An optional capability, found with `isinstance`. Pouring again starts again from the first byte.
    """

    async def pour(self, *takers: Taker, offset: int = 0) -> None:
        """Hand the raw bytes to every taker, each piece once and in order.

        It is over, and its threads are, when this returns or raises, also when it is cancelled.

        Args:
            takers: called in threads, one piece at a time each; a piece is theirs until they return. The
                first one may run in parallel to the rest. What one raises ends it all, and is raised here.
            offset: the first byte that is handed on.

        Raises:
            NotFoundError, LocalFileError, NetworkError, RegistryError: it cannot be read.
        """


@runtime_checkable
class Unmade(Content, Protocol):
    """Content that cannot be opened under its digest, but can be made.

    An optional capability, found with `isinstance`: the model's layers have made-up digests.
    """

    async def made(self) -> Content:
        """Make it, to learn its digest, and return it under that one."""


class Fetcher(Protocol):
    """Content can be read from here."""

    async def resolve(self, reference: str) -> Descriptor | None:
        """Return the descriptor of a manifest by tag or digest, None where it is absent."""

    def content(self, descriptor: Descriptor) -> Content:
        """Return the content that `descriptor` names; absence shows when it is opened."""


class Store(Fetcher, Protocol):
    """Content can be read and written here. What is there is complete; what failed is absent."""

    async def has(self, descriptor: Descriptor) -> bool:
        """Tell whether the content is present, with the descriptor's size."""

    async def put(self, content: Content) -> int | None:
        """Store verified content under its digest; a second put of the same content is harmless.

        Returns:
            Bytes that an interrupted earlier put had left here, and that were not read again; None for 0.

        Raises:
            ContentError: the bytes are not what the descriptor says; nothing was stored.
            LocalFileError: the bytes could not be written; nothing was stored.
        """

    async def tag(self, descriptor: Descriptor, tag: str) -> None:
        """Let `tag` name a manifest that is present, and no other any more."""


@runtime_checkable
class ChainKeeper(Protocol):
    """A store that finds layers by the unbroken run below them, as docker's graph drivers do.

    An optional capability, found with `isinstance`.
    """

    def has_chain(self, layers: tuple[Digest, ...]) -> bool:
        """Tell whether exactly this run of layers, base first, is present."""

    def add_chain(self, layers: tuple[Digest, ...]) -> None:
        """Remember a run of layers, base first, and every run that it begins with."""
