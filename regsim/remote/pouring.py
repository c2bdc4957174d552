"""Content that pours: what lets a blob go past the event loop, in either direction.

Owns the shape only. A blob of a registry pours into a store (`download`), and content that pours goes up that
way (`upload`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from regsim.remote.wire.request import Taker


@runtime_checkable
class Pourable(Protocol):
    """Content that hands its bytes over in threads: the fast way for whoever takes all of it.

    An optional capability, found with `isinstance`. Pouring again starts again from the first byte.
    """

    async def pour(self, *takers: Taker) -> None:
        """Hand the raw bytes to every taker, each piece once and in order.

        It is over, and its threads are, when this returns or raises, also when it is cancelled.

        Args:
            takers: called in threads, one piece at a time each; a piece is theirs until they return. The
                first one may run beside the others. What one raises ends it all, and is raised here.

        Raises:
            NotFoundError, LocalFileError, NetworkError, RegistryError: it cannot be read.
        """
