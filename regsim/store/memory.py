"""Content in memory, and a store that keeps all bytes there.

Owns `BytesContent`, `AbsentContent` and `MemoryStore`. Must not know files. For documents, tests and small
images: a node of a scenario uses `content.digests`, which drops what it has hashed.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from regsim.core import Descriptor, Role
from regsim.core.manifest import role_of
from regsim.errors import NotFoundError
from regsim.store.protocols import CHUNK, Content
from regsim.store.verify import verified

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from regsim.core import Digest


@dataclass(frozen=True, slots=True)
class BytesContent:
    """Content in hand. It is what its maker says: nothing here checks it."""

    descriptor: Descriptor
    data: bytes

    def open(self) -> AsyncGenerator[bytes, None]:
        """Return a fresh stream of the bytes, in chunks of `CHUNK` bytes at most."""
        return self.open_at(0)

    async def open_at(self, offset: int) -> AsyncGenerator[bytes, None]:
        """Return a fresh stream of the bytes from `offset` on."""
        for start in range(offset, len(self.data), CHUNK):
            yield self.data[start : start + CHUNK]


@dataclass(frozen=True, slots=True)
class AbsentContent:
    """Content that is not there, which shows when it is opened.

    Args:
        descriptor: what was asked for.
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
    """Tell whether content is a manifest or an index, which can be tagged and resolved."""
    return role_of(descriptor.media_type) is not Role.LAYER


def named(descriptor: Descriptor) -> Descriptor:
    """Return what `resolve` answers: what a manifest is, without what the place that listed it added."""
    return replace(descriptor, annotations={}, urls=(), data=None)


class Tags:
    """Which manifest a tag or digest names, for stores that keep this in memory."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._manifests: dict[str, Descriptor] = {}  # by digest
        self._tags: dict[str, Descriptor] = {}

    def add(self, descriptor: Descriptor) -> None:
        """Let a manifest be resolved by its digest; other content is ignored."""
        if is_document(descriptor):
            self._manifests.setdefault(descriptor.digest, named(descriptor))

    def tag(self, descriptor: Descriptor, tag: str) -> None:
        """Let `tag` name a manifest that is present; its own digest names it anyway.

        Raises:
            NotFoundError: the manifest is not here.
        """
        if descriptor.digest not in self._manifests:
            raise NotFoundError(
                f"{self._where} cannot tag {descriptor.digest} as {tag!r}: it does not hold that manifest"
            )
        if tag != descriptor.digest:
            self._tags[tag] = named(descriptor)

    def resolve(self, reference: str) -> Descriptor | None:
        """Return the manifest that a tag or digest names."""
        return self._tags.get(reference) or self._manifests.get(reference)


class MemoryStore:
    """A `Store` that keeps every byte in memory.

    Args:
        name: what errors call it.
    """

    def __init__(self, name: str = "the store in memory") -> None:
        self._name = name
        self._blobs: dict[Digest, bytes] = {}
        self._tags = Tags(name)

    async def resolve(self, reference: str) -> Descriptor | None:
        """Return the descriptor of a manifest by tag or digest, None where it is absent."""
        return self._tags.resolve(reference)

    def content(self, descriptor: Descriptor) -> Content:
        """Return what `descriptor` names; absence shows when it is opened (`NotFoundError`)."""
        data = self._blobs.get(descriptor.digest)
        if data is None:
            return AbsentContent(descriptor, self._name)
        return BytesContent(descriptor, data)

    async def has(self, descriptor: Descriptor) -> bool:
        """Tell whether the content is present, with the descriptor's size."""
        data = self._blobs.get(descriptor.digest)
        return data is not None and len(data) == descriptor.size

    async def put(self, content: Content) -> None:
        """Keep verified content.

        Raises:
            ContentError: the bytes are not what the descriptor says; nothing was kept.
        """
        descriptor = content.descriptor
        async with aclosing(verified(content.open(), descriptor)) as stream:
            data = b"".join([chunk async for chunk in stream])
        self._blobs[descriptor.digest] = data
        self._tags.add(descriptor)

    async def tag(self, descriptor: Descriptor, tag: str) -> None:
        """Let `tag` name a manifest that is present.

        Raises:
            NotFoundError: it is not.
        """
        self._tags.tag(descriptor, tag)
