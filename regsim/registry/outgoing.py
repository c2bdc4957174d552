"""A blob on its way out: any stretch of it as the body of a request, read once as long as nothing goes wrong.

Owns the reading, its verification, and going back to an earlier byte. Must not know sessions or registries.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

from regsim.net.answer import Body
from regsim.store.protocols import CHUNK, Pourable, Seekable
from regsim.store.verify import Verifier, verified

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from regsim.store.protocols import Content, Taker

# Places to which reading can go back without hashing everything again.
_CHECKPOINTS = 256


class Outgoing:
    """Content that is sent in one or more requests.

    Its last bytes are handed out only once all of them are known to be right, so that a damaged blob never
    arrives whole. Whoever makes it closes it.

    Args:
        content: is opened again where a request has to begin before the byte that was read last.

    Attributes:
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

    def body(self, start: int, end: int) -> Body:
        """Return the bytes from `start` to before `end` as a body."""
        if start == end and self.complete:
            return Body.of(b"")
        whole = start == 0 and end == self.descriptor.size
        pours = whole and isinstance(self._content, Pourable)
        return Body(
            size=end - start,
            open=partial(self._open, start, end),
            feed=self._feed if pours else None,
        )

    async def _feed(self, take: Taker) -> bytes:
        """Let the content be poured, verified; its last piece is held back until it is known to be right."""
        verifier, held = Verifier(self.descriptor), _HeldBack(take, self.descriptor.size)

        def check(piece: memoryview) -> None:
            verifier.update(piece)
            self._note(verifier)

        try:
            await cast("Pourable", self._content).pour(check, held.take)
            verifier.finish()
        except Exception as error:
            self.failure = error
            raise
        self.complete = True
        return held.last

    async def _open(self, start: int, end: int) -> AsyncGenerator[bytes, None]:
        left, last = end - start, end == self.descriptor.size
        try:
            stream = self._stream
            if stream is None or self._position != start:
                stream = await self._seek(start)
            # The last stretch goes on to the end of the content, which is when that is known to be right.
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
        if isinstance(self._content, Seekable):
            verifier = max(
                (each for each in self._checkpoints if each.seen <= start), key=lambda each: each.seen
            ).copy()
            opened = self._content.open_at(verifier.seen) if verifier.seen else self._content.open()
        else:
            verifier, opened = Verifier(self.descriptor), self._content.open()
        skip = start - verifier.seen
        self._rest, self._position = b"", start
        stream = self._stream = self._noted(verified(opened, self.descriptor, verifier), verifier)
        while skip > 0 and (chunk := await anext(stream, b"")):
            self._rest = chunk[skip:]
            skip -= len(chunk)
        return stream

    async def _noted(
        self, stream: AsyncGenerator[bytes, None], verifier: Verifier
    ) -> AsyncGenerator[bytes, None]:
        try:
            async for chunk in stream:
                self._note(verifier)
                yield chunk
        finally:
            await stream.aclose()

    def _note(self, verifier: Verifier) -> None:
        if verifier.seen >= self._checkpoints[-1].seen + self._spacing:
            self._checkpoints.append(verifier.copy())


class _HeldBack:
    """Hands on all pieces but the one that makes a content complete, which it keeps as `last`."""

    def __init__(self, take: Taker, size: int) -> None:
        self.last = b""
        self._take = take
        self._left = size

    def take(self, piece: memoryview) -> None:
        self._left -= len(piece)
        if self._left > 0:
            self._take(piece)
        elif self._left == 0:
            self.last = bytes(piece)
