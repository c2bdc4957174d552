"""Content in memory, and content that is absent.

Must not know files, stores or transfers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from regsim.core import Role
from regsim.core.manifest import role_of
from regsim.errors import NotFoundError
from regsim.store.protocols import CHUNK

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from regsim.core import Descriptor


@dataclass(frozen=True, slots=True)
class BytesContent:
    """Content in memory. It is not verified here: the caller vouches for it."""

    descriptor: Descriptor
    data: bytes

    async def open(self) -> AsyncGenerator[bytes, None]:
        """Return a fresh stream of the bytes, in chunks of `CHUNK` bytes at most."""
        for start in range(0, len(self.data), CHUNK):
            yield self.data[start : start + CHUNK]


@dataclass(frozen=True, slots=True)
class AbsentContent:
    """Content that is absent, which shows when it is opened.

    Args:
        descriptor: what was requested.
        where: the place that lacks it, as the error names it.
        hint: what to try next.
    """

    descriptor: Descriptor
    where: str
    hint: str = ""

    async def open(self) -> AsyncGenerator[bytes, None]:
        """Return a stream that only raises.

        Raises (while iterating):
            NotFoundError: always.
        """
        yield self._refuse()

    def _refuse(self) -> bytes:
        raise NotFoundError(f"{self.where} does not hold {self.descriptor.digest}", hint=self.hint)


def is_document(descriptor: Descriptor) -> bool:
    """Return whether content is a manifest or an index, which can be tagged and resolved."""
    return role_of(descriptor.media_type) is not Role.LAYER


def named(descriptor: Descriptor) -> Descriptor:
    """Return what `resolve` answers: what a manifest is, without what the place that listed it added."""
    return replace(descriptor, annotations={}, urls=(), data=None)
