"""Reading a blob, through cuts (distribution-spec, end-2 and its Range requests).

Owns the stream and its resumption. Must not know where the bytes go: they are handed on as they came,
and whoever stores them verifies them.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from regsim.content.protocols import CHUNK
from regsim.errors import ContentError, NetworkError, RegistryError
from regsim.remote.answer import ContentRange, refusal
from regsim.remote.retry import Unready, final

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from regsim.oci import Descriptor
    from regsim.remote.account import Account
    from regsim.remote.bodies import Response
    from regsim.remote.conversation import Conversation


@dataclass(frozen=True, slots=True)
class RemoteBlob:
    """A blob of a repository, as content. Each opening is one attempt to move it."""

    conversation: Conversation
    descriptor: Descriptor
    account: Account

    async def open(self) -> AsyncGenerator[bytes, None]:
        """Yield the raw bytes in chunks of about `CHUNK`, never more than the descriptor's size.

        After a cut it goes on at the byte it holds. A stretch that brought a chunk's worth renews the
        patience; so the number of requests is bounded by the size.

        Raises:
            NotFoundError: the repository lacks the blob.
            ContentError: what the registry holds under this digest has another size.
            NetworkError, RegistryError: patience ended.
        """
        patience = self.conversation.patience
        self.account.attempts += 1
        offset = failures = 0
        while True:
            start = offset
            try:
                async with aclosing(self._stretch(start)) as stretch:
                    async for chunk in stretch:
                        offset += len(chunk)
                        yield chunk
                self._check_end(offset)
            except (NetworkError, Unready) as failure:
                failures = 0 if offset - start >= CHUNK else failures
                if not await patience.again(failures, failure):
                    raise final(failure) from failure.__cause__
                failures += 1
            else:
                return

    @property
    def _name(self) -> str:
        return f"blob {self.descriptor.digest.short} of {self.conversation.name}"

    async def _stretch(self, start: int) -> AsyncGenerator[bytes, None]:
        """Yield what one request brings from byte `start` on."""
        # Open-ended: the last byte need not be said, and is off by one in some clients' hands.
        headers = {"Range": f"bytes={start}-"} if start else {}
        target, room = self.conversation.blob(self.descriptor.digest), self.descriptor.size - start
        async with self.conversation.transport.exchange(
            "GET", target, self.account, headers=headers, content=True
        ) as response:
            skip = await self._skip(response, start)
            async with aclosing(response.chunks()) as chunks:
                async for chunk in chunks:
                    wanted = chunk[skip:]
                    skip -= len(chunk) - len(wanted)
                    room -= len(wanted)
                    if room < 0:
                        raise ContentError(f"{self._name} is longer than {self.descriptor.size} bytes")
                    if wanted:
                        yield wanted

    async def _skip(self, response: Response, start: int) -> int:
        """Return how many bytes of the body come before byte `start`."""
        if response.status == HTTPStatus.PARTIAL_CONTENT and start:
            return self._behind(response, start)
        if response.status == HTTPStatus.OK:
            self._check_size(response.length)
            if start:
                # The registry ignored Range: all comes anew, and what is held already is in vain.
                self.account.attempts += 1
            return start
        answer = self.conversation.patience.settled(await response.answer())
        if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            raise ContentError(f"{self._name} ends before byte {start} of {self.descriptor.size}")
        raise refusal(answer)

    def _behind(self, response: Response, start: int) -> int:
        """Read `Content-Range`; a start before the one asked for is made good by skipping."""
        came = ContentRange.of(response.headers)
        if came is None or came.first > start:
            text = response.headers.get("Content-Range", "")
            raise RegistryError(f"{self._name} was asked for from byte {start}, and came as {text!r:.100}")
        self._check_size(came.total)
        return start - came.first

    def _check_end(self, offset: int) -> None:
        # A body without a stated length that is cut by FIN looks whole, and a 206 may bring less than asked.
        if offset < self.descriptor.size:
            raise NetworkError(f"{self._name} ended after {offset} of {self.descriptor.size} bytes")

    def _check_size(self, size: int | None) -> None:
        if size is not None and size != self.descriptor.size:
            raise ContentError(
                f"{self._name} has {size} bytes in the registry, {self.descriptor.size} by its descriptor"
            )
