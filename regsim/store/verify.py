"""Checking bytes against a descriptor while they stream by.

Owns the check of digest and size (image-spec, descriptor.md#verification). Must not know where the bytes
come from or go to. Whoever reads content that somebody else stored reads it through here.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from regsim.errors import ContentError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from regsim.core import Descriptor
    from regsim.store.protocols import Content

_HINT = (
    "the content was damaged at its source or on the way; fetch it again, or push it again from a good copy"
)


class Verifier:
    """Takes in bytes and says whether they are what a descriptor names.

    Args:
        descriptor: the digest and the size in bytes to hold the bytes against.
    """

    __slots__ = ("_descriptor", "_hasher", "seen")

    def __init__(self, descriptor: Descriptor) -> None:
        self._descriptor = descriptor
        self._hasher = descriptor.digest.hasher()
        self.seen = 0

    def copy(self) -> Verifier:
        """Return another one that has taken in the same bytes, to go on from there."""
        other = Verifier(self._descriptor)
        other._hasher, other.seen = self._hasher.copy(), self.seen
        return other

    def update(self, data: bytes | memoryview) -> None:
        """Take in more bytes.

        Raises:
            ContentError: there are more bytes than the descriptor says; told at the first one beyond.
        """
        self.seen += len(data)
        if self.seen > self._descriptor.size:
            raise self._wrong_size(f"at least {self.seen}")
        self._hasher.update(data)

    def finish(self) -> None:
        """Say that there are no more bytes.

        Raises:
            ContentError: there were too few bytes, or other bytes.
        """
        if self.seen != self._descriptor.size:
            raise self._wrong_size(str(self.seen))
        digest = self._descriptor.digest
        if not digest.matches(self._hasher):
            raise ContentError(
                f"{digest} names other bytes: these {self.seen} hash to "
                f"{digest.algorithm}:{self._hasher.hexdigest()}",
                hint=_HINT,
            )

    def _wrong_size(self, found: str) -> ContentError:
        return ContentError(
            f"{self._descriptor.digest} has {found} bytes, its descriptor says {self._descriptor.size}",
            hint=_HINT,
        )


async def verified(
    stream: AsyncGenerator[bytes, None], descriptor: Descriptor, verifier: Verifier | None = None
) -> AsyncGenerator[bytes, None]:
    """Hand on a stream, holding back its last chunk until size and hash are right.

    So whoever reads from here never sees a bad blob complete: a receiver that waits for
    `descriptor.size` bytes is still short of some when the error comes. The stream is closed with this one.

    Args:
        stream: is handed on.
        descriptor: what it must turn out to be.
        verifier: that has taken in the bytes before the stream, where it does not begin at the first one.

    Raises (while iterating):
        ContentError: the bytes are not those that `descriptor` names.
    """
    verifier = verifier or Verifier(descriptor)
    held = b""
    async with aclosing(stream):
        async for chunk in stream:
            verifier.update(chunk)
            if held and chunk:
                yield held
            held = chunk or held
    verifier.finish()
    if held:
        yield held


async def read_all(content: Content, *, limit: int) -> bytes:
    """Return the whole of a small document, verified.

    Args:
        content: a manifest, an index or a config.
        limit: bytes beyond which it is refused unread.

    Raises:
        ContentError: it is larger than `limit`, or not what its descriptor names.
    """
    descriptor = content.descriptor
    if descriptor.size > limit:
        raise ContentError(
            f"{descriptor.digest} has {descriptor.size} bytes; as a document at most {limit} are read",
            hint="it may be a layer with the media type of a manifest",
        )
    async with aclosing(verified(content.open(), descriptor)) as stream:
        return b"".join([chunk async for chunk in stream])
