"""Reading a blob in one stream (distribution-spec, end-2).

Owns a blob at a place as content. Must not know how it comes through cuts, or where the bytes go.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regsim.registry.stretch import Stretch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from regsim.core import Descriptor
    from regsim.core.account import Account
    from regsim.registry.place import Place
    from regsim.store.protocols import Taker


@dataclass(frozen=True, slots=True)
class RemoteBlob:
    """A blob at a place, as content. Each opening is one attempt to move it."""

    place: Place
    descriptor: Descriptor
    account: Account

    def open(self) -> AsyncGenerator[bytes, None]:
        """Yield the raw bytes in chunks of about `CHUNK`, never more than the descriptor's size.

        After a cut it goes on at the byte it holds. A stretch that brought a chunk's worth renews the
        patience; so the number of requests is bounded by the size. A registry that answers a Range with
        something else is asked for all of it once more, and what is held already comes in vain.

        Raises:
            NotFoundError: the repository lacks the blob.
            ContentError: what the registry holds under this digest has another size.
            NetworkError, RegistryError: patience ended.
        """
        return self.open_at(0)

    async def open_at(self, offset: int) -> AsyncGenerator[bytes, None]:
        """Yield the raw bytes from `offset` on; else as `open`."""
        self.account.attempts += 1
        self.account.reads_from(offset)
        stretch = Stretch(self.place, self.descriptor, self.account, offset)
        async with aclosing(stretch.chunks()) as chunks:
            async for chunk in chunks:
                self.account.has_read(stretch.offset)
                yield chunk

    async def pour(self, *takers: Taker) -> None:
        """Hand the raw bytes to `takers`, in threads, never more than the descriptor's size.

        The fast way for a store that takes a blob whole: the connection is read, and the bytes are taken, in
        one thread, without a hop in between. Cuts, attempts and counts are as for `open`.

        Args:
            takers: each is handed every piece, once and in order; a piece is theirs until they return. Where
                nothing else moves, the first one runs in a thread beside the others.

        Raises:
            NotFoundError, ContentError, NetworkError, RegistryError: as from `open`.
            Exception: what a taker raised.
        """
        self.account.attempts += 1
        self.account.reads_from(0)
        stretch = Stretch(self.place, self.descriptor, self.account, 0)
        try:
            await stretch.pour(*takers)
        finally:
            self.account.has_read(stretch.offset)
