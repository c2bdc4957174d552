"""Checking bytes against a descriptor while they stream by.

Owns the check of digest and size (image-spec, descriptor.md#verification). Must not know where the bytes
come from or go to. Content that another program stored is read through here.
"""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

from regsim.errors import ContentError
from regsim.store.protocols import CHUNK, Pourable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

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
            ContentError: there are more bytes than the descriptor says; raised at the first one beyond.
        """
        self.seen += len(data)
        if self.seen > self._descriptor.size:
            raise self.wrong_size(f"at least {self.seen}")
        self._hasher.update(data)

    def finish(self) -> None:
        """Say that there are no more bytes.

        Raises:
            ContentError: there were too few bytes, or other bytes.
        """
        if self.seen != self._descriptor.size:
            raise self.wrong_size(str(self.seen))
        digest = self._descriptor.digest
        if not digest.matches(self._hasher):
            raise ContentError(
                f"{digest} names other bytes: these {self.seen} hash to "
                f"{digest.algorithm}:{self._hasher.hexdigest()}",
                hint=_HINT,
            )

    def wrong_size(self, found: str) -> ContentError:
        """Return the error for another number of bytes."""
        return ContentError(
            f"{self._descriptor.digest} has {found} bytes, its descriptor says {self._descriptor.size}",
            hint=_HINT,
        )


async def verified(
    content: Content, verifier: Verifier | None = None, *, checked: Callable[[], object] = lambda: None
) -> AsyncGenerator[bytes, None]:
    """Hand on content, holding back its last chunk until size and hash are right.

    So a reader never sees a bad blob complete: a receiver that waits for all of its bytes is still short of
    some when the error comes. What is `Pourable` is hashed in the thread that reads it.

    Args:
        content: is handed on; it is `Pourable` if `verifier` has seen bytes.
        verifier: has taken in the bytes before those that are handed on; None: there are none.
        checked: called after each chunk that the verifier has taken in; in any thread.

    Raises (while iterating):
        ContentError: the bytes are not those that the descriptor names.
        Exception: what the content raised.
    """
    verifier = verifier or Verifier(content.descriptor)
    held, total = b"", verifier.seen

    def check(piece: bytes | memoryview) -> None:
        verifier.update(piece)
        checked()

    if isinstance(content, Pourable):
        from regsim.store.relay import streamed  # noqa: PLC0415  (a model verifies nothing, and needs no asyncio)

        stream = streamed(lambda take: content.pour(check, take, offset=verifier.seen))
    else:
        stream = _checked(content, check)
    async with aclosing(stream):
        async for chunk in stream:
            total += len(chunk)
            if total > content.descriptor.size:  # a verifier in another thread may not have raised yet
                raise verifier.wrong_size(f"at least {total}")
            if held and chunk:
                yield held
            held = chunk or held
    verifier.finish()
    if held:
        yield held


async def _checked(
    content: Content, check: Callable[[bytes | memoryview], None]
) -> AsyncGenerator[bytes, None]:
    async with aclosing(content.open()) as opened:
        async for chunk in opened:
            check(chunk)
            yield chunk


# Places to which reading can go back without hashing everything again.
_CHECKPOINTS = 256


class Rereader:
    """Content that is read in order, verified, from any byte, and once as long as nothing goes wrong.

    Its last bytes are handed out only once all of them are known to be right. The caller closes it.

    Args:
        content: is opened again if reading has to begin before the byte that was read last.

    Attributes:
        descriptor: of the content.
        failure: what the content itself failed with, if it did.
        complete: the last byte has been handed out.
    """

    def __init__(self, content: Content) -> None:
        self.descriptor = content.descriptor
        self.failure: Exception | None = None
        self.complete = False
        self._content = content
        self._spacing = max(CHUNK, self.descriptor.size // _CHECKPOINTS)
        self._checkpoints: list[Verifier] = [Verifier(self.descriptor)]
        self._stream: AsyncGenerator[bytes, None] | None = None
        self._position = 0
        self._rest = b""

    async def aclose(self) -> None:
        """Let go of the content. Any number of calls are harmless."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.aclose()

    async def read(self, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from `start` to before `end`.

        Raises (while iterating):
            ContentError: the content is not what its descriptor names.
            Exception: what the content raised; it is `failure`, too.
        """
        left, last = end - start, end == self.descriptor.size
        if start == end and self.complete:
            return
        try:
            stream = self._stream
            if stream is None or self._position != start:
                stream = await self._seek(start)
            # The last part goes on to the end of the content, which is when that is known to be right.
            while left or last:
                chunk = self._rest or await anext(stream, b"")
                if not chunk:
                    break
                piece, self._rest = chunk[:left], chunk[left:]
                self._position += len(piece)
                left -= len(piece)
                yield piece
        except Exception as error:
            self.failure = error
            raise
        self.complete = self.complete or last

    async def _seek(self, start: int) -> AsyncGenerator[bytes, None]:
        await self.aclose()
        if isinstance(self._content, Pourable):
            verifier = max(
                (each for each in self._checkpoints if each.seen <= start), key=lambda each: each.seen
            ).copy()
        else:
            verifier = Verifier(self.descriptor)
        skip = start - verifier.seen
        self._rest, self._position = b"", start
        stream = self._stream = verified(self._content, verifier, checked=partial(self._note, verifier))
        while skip > 0 and (chunk := await anext(stream, b"")):
            self._rest = chunk[skip:]
            skip -= len(chunk)
        return stream

    def _note(self, verifier: Verifier) -> None:
        if verifier.seen >= self._checkpoints[-1].seen + self._spacing:
            self._checkpoints.append(verifier.copy())


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
    async with aclosing(verified(content)) as stream:
        return b"".join([chunk async for chunk in stream])
