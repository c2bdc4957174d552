"""Blobs of a repository: whether one is there, and reading it (distribution-spec, end-2; RFC 9110, 14).

Owns the question and its second opinion, and a download through its cuts: what is requested, what the answers
bring, and what was wasted. Must not know where the bytes go: the store that takes them verifies them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from regsim.core.account import Account, Loss, Reason
from regsim.core.reference import check_repository
from regsim.errors import ContentError, NetworkError, RegsimError, Trouble
from regsim.registry.answer import Answer, ContentRange, refusal
from regsim.registry.retry import Unready, final
from regsim.store.protocols import CHUNK
from regsim.store.relay import hand, streamed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from regsim.core import Descriptor, Digest
    from regsim.registry.requests import Requests
    from regsim.store.protocols import Taker

# A HEAD's refusal has no body to say why; some signed URLs are good for GET alone; and some registries
# do not know HEAD at all.
ASK_AGAIN = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.METHOD_NOT_ALLOWED})


async def is_held_by(repository: Requests, other: str, digest: Digest, account: Account) -> bool:
    """Tell whether another repository of this registry is seen to hold a blob: one HEAD, one try.

    Any answer but a clear yes counts as no. A mount that is refused costs more than that, and
    opens a session.
    """
    target = f"/v2/{check_repository(other)}/blobs/{digest}"
    try:
        # With the token that the mount needs, if it needs one.
        answer = await repository.send("HEAD", target, account, mounts_from=other)
    except RegsimError:
        return False
    return answer.status == HTTPStatus.OK


async def has(
    repository: Requests, descriptor: Descriptor, account: Account, *, closely: bool = False
) -> bool:
    """Tell whether the repository has a blob: only a 404 says that it has not.

    One HEAD (end-2). It becomes a GET for one byte where the HEAD was refused with 403 or 405, and
    where it states a size that is not the descriptor's: proxies get this wrong on HEAD.

    Args:
        repository: that is asked.
        descriptor: of the blob.
        account: is charged.
        closely: ask with that GET at once, since a HEAD may be answered from a cache.

    Raises:
        ContentError: the size is another one by GET too. A digest has one size only, so something is
            damaged, and an upload over it would be ignored by most registries.
    """
    if closely:
        return await _has_by_range(repository, descriptor, account)
    answer = await repository.ask("HEAD", repository.blob_target(descriptor.digest), account)
    if answer.status == HTTPStatus.NOT_FOUND:
        return False
    if answer.status == HTTPStatus.OK:
        # A length is often missing or zero on a HEAD, and then says nothing.
        if not answer.length or answer.length == descriptor.size:
            return True
    elif answer.status not in ASK_AGAIN:
        raise refusal(answer)
    return await _has_by_range(repository, descriptor, account)


async def _has_by_range(repository: Requests, descriptor: Descriptor, account: Account) -> bool:
    """Ask with a GET for one byte, whose answer also tells the size; of an empty blob, for all of it."""
    asking = Account()
    try:
        answer = await repository.ask(
            "GET",
            repository.blob_target(descriptor.digest),
            asking,
            headers={"Range": "bytes=0-0"} if descriptor.size else {},
            content=True,
            limit=1,
        )
    finally:
        asking.lose(Loss.PROBE)
        account.add(asking)
    if answer.status == HTTPStatus.NOT_FOUND:
        return False
    size = _size(answer)
    if size is not None and size != descriptor.size:
        raise ContentError(
            f"blob {descriptor.digest.short} of {repository.name} has {size} bytes in the registry, "
            f"{descriptor.size} by its descriptor",
            hint="one of the two is damaged; nothing was written over it",
        )
    return True


def _size(answer: Answer) -> int | None:
    if answer.status == HTTPStatus.PARTIAL_CONTENT:
        came = ContentRange.of(answer.headers)
        return came.total if came else None
    if answer.status != HTTPStatus.OK:
        raise refusal(answer)
    return answer.length


@dataclass(frozen=True, slots=True)
class RemoteBlob:
    """A blob of a repository, as content. Each opening is one attempt to move it.

    After a cut it continues at the first missing byte. A request that brought at least a chunk resets the
    count of retries, so the number of requests is bounded by the size. If a registry answers a Range with
    something else, the whole blob is requested once more.
    """

    repository: Requests
    descriptor: Descriptor
    account: Account

    def open(self) -> AsyncGenerator[bytes, None]:
        """Yield the raw bytes; raises as `pour` does."""
        return streamed(self.pour)

    async def pour(self, *takers: Taker, offset: int = 0) -> None:
        """Hand the raw bytes to `takers`, in threads, never more than the descriptor's size.

        The connection is read, and the bytes are taken, in one thread, without a hop in between.

        Args:
            takers: each is handed every piece, once and in order; a piece is theirs until they return. If
                nothing else moves, the first one runs in a thread of its own.
            offset: the first byte that is handed on.

        Raises:
            NotFoundError: the repository lacks the blob.
            ContentError: what the registry holds under this digest has another size.
            NetworkError, RegistryError: patience ended.
            Exception: what a taker raised.
        """
        self.account.attempts += 1
        self.account.reads_from(offset)
        download = Download(self.repository, self.descriptor, self.account, offset, self.descriptor.size)
        try:
            await download.pour(*takers)
        finally:
            self.account.has_read(download.offset)


class RangeError(NetworkError):
    """A Range was answered with something else; `reason` says what."""

    def __init__(self, message: str, reason: Reason = Reason.RANGE_WRONG) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(slots=True, eq=False)
class Download:
    """The bytes of a blob from `start` to before `end`, requested until all of them have arrived, once.

    Attributes:
        repository: that holds the blob.
        descriptor: of the blob.
        account: is charged.
        start: the first byte.
        end: where it ends. It moves to the end of the blob when an answer brings all of it.
        strict: an answer that is not to its Range ends it with `RangeError`; else the blob comes whole once
            more, and what is held already is wasted.
        block: bytes that are handed on at once, at most.
        on_range: called for each answer to a Range with what is wrong with it, or None.
        offset: the first byte that is lacking.
        received: bytes that came for it.
        noted: bytes of these that were wasted.
    """

    repository: Requests
    descriptor: Descriptor
    account: Account
    start: int
    end: int
    strict: bool = False
    block: int = CHUNK
    on_range: Callable[[Reason | None], None] = lambda _: None
    offset: int = field(init=False)
    received: int = 0
    noted: int = 0
    _asked: bool = False
    _trusting: bool = True  # that the registry knows what a Range is
    _failures: int = 0

    def __post_init__(self) -> None:
        self.offset = self.start

    async def pour(self, *takers: Taker) -> None:
        """Hand it to `takers`, in threads; what came before a failure is handed on before it is raised.

        Raises:
            RangeError: see `strict`.
            NotFoundError, ContentError, NetworkError, RegistryError: as from `RemoteBlob.pour`.
            Exception: what a taker raised.
        """
        while self.offset < self.end or not self._asked:
            since = self.offset
            try:
                await self._get(takers)
                # A body without a stated length that is cut by FIN looks whole, and a 206 may bring less.
                if self.offset < self.end:
                    raise NetworkError(  # noqa: TRY301  (one of those that may pass)
                        f"{self._name} ended after {self.offset} of {self.descriptor.size} bytes"
                    )
            except (NetworkError, Unready) as failure:
                await self._failed(failure, since=since)
            except BaseException:
                self._note_waste()
                raise

    @property
    def _name(self) -> str:
        return f"blob {self.descriptor.digest.short} of {self.repository.name}"

    # Asking

    @property
    def _ranged(self) -> bool:
        return self._trusting and (self.offset > 0 or self.end < self.descriptor.size)

    async def _get(self, takers: Sequence[Taker]) -> None:
        """Ask once for what is lacking, and hand on what comes."""
        # If nothing follows, the last byte is not said: some servers are off by one.
        last = self.end - 1 if self.end < self.descriptor.size else ""
        headers = {"Range": f"bytes={self.offset}-{last}"} if self._ranged else {}
        target = self.repository.blob_target(self.descriptor.digest)
        self._asked = True
        answer = await self.repository.send(
            "GET", target, self.account, headers=headers, content=True, limit=None
        )
        try:
            skip = await self._skip(answer)
            pace = _Pace(self._name, self.repository.transport.timeouts.slowest)
            if skip == 0 and answer.length == self.end - self.offset:
                await answer.pour((*takers, self._gain), pace.check, block=self.block)
                return
            trim = _Trim(self, skip, takers)
            try:
                await answer.pour((trim.take,), pace.check, block=self.block)
            finally:
                overlap = answer.status == HTTPStatus.PARTIAL_CONTENT
                self.noted += skip - trim.skip
                self.account.waste(received=skip - trim.skip, loss=Loss.OVERLAP if overlap else None)
        finally:
            self.received += answer.received
            await answer.aclose()

    def _gain(self, piece: memoryview) -> None:
        self.offset += len(piece)

    async def _skip(self, answer: Answer) -> int:
        """Return how many bytes of the body come before the first one that is lacking."""
        if answer.status == HTTPStatus.PARTIAL_CONTENT and self._ranged:
            return self._behind(answer)
        if answer.status == HTTPStatus.OK:
            self.repository.patience.well()
            self._check_size(answer.length)
            if self._ranged:
                self.on_range(Reason.RANGE_IGNORED)
                if self.strict:
                    raise RangeError(f"{self._name} came whole for a part of it", Reason.RANGE_IGNORED)
            if self.offset:
                # All of it comes again, and what is held already is wasted.
                self.account.attempts += 1
                if self._ranged:
                    self.account.retried(Reason.RANGE_IGNORED)
            self.end = self.descriptor.size
            return self.offset
        answer = self.repository.patience.settled(
            await answer.read(seconds=self.repository.transport.timeouts.metadata)
        )
        if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and self._ranged:
            raise RangeError(f"{self._name} ends before byte {self.offset} of {self.descriptor.size}")
        raise refusal(answer)

    def _behind(self, answer: Answer) -> int:
        """Read `Content-Range`; a start before the requested one is corrected by skipping."""
        came = ContentRange.of(answer.headers)
        text = answer.headers.get("Content-Range", "")
        if came is None or came.first > self.offset:
            raise RangeError(f"{self._name} was requested from byte {self.offset}, and came as {text!r:.100}")
        self._check_size(came.total)
        if came.last >= self.end:
            raise RangeError(f"{self._name} was requested before byte {self.end}, and came as {text!r:.100}")
        self.on_range(None)
        return self.offset - came.first

    def beyond(self) -> Exception:
        """Return the error for bytes after the end."""
        if self.end < self.descriptor.size:
            return RangeError(f"{self._name} came beyond byte {self.end - 1}, against its own word")
        return ContentError(f"{self._name} is longer than {self.descriptor.size} bytes")

    def _check_size(self, size: int | None) -> None:
        if size is not None and size != self.descriptor.size:
            raise ContentError(
                f"{self._name} has {size} bytes there, {self.descriptor.size} by its descriptor"
            )

    # Waste

    async def _failed(self, failure: NetworkError | Unready, *, since: int) -> None:
        """Wait before the next try, which begins at `offset`; the last one began at `since`.

        Raises:
            RegsimError: there shall be none.
        """
        if isinstance(failure, RangeError):
            self.on_range(failure.reason)
            if self.strict:
                raise failure
            self._trusting = False
            self.account.retried(failure.reason)
        else:
            if self.offset - since >= CHUNK:
                self._failures = 0
            if not await self.repository.patience.again(self._failures, failure, self.account):
                raise final(failure) from failure.__cause__
            self._failures += 1
        self._note_waste()

    def _note_waste(self) -> None:
        """Count what an interrupted answer brought and was not handed on."""
        wasted = self.received - self.noted - (self.offset - self.start)
        self.noted += wasted
        self.account.waste(received=wasted)


class _Trim:
    """Hands on, as a taker, what follows the first `skip` bytes, and no more than a download lacks."""

    def __init__(self, download: Download, skip: int, takers: Sequence[Taker]) -> None:
        self.skip = skip
        self._download = download
        self._takers = takers

    def take(self, piece: memoryview) -> None:
        wanted = piece[self.skip :]
        self.skip -= len(piece) - len(wanted)
        if self._download.offset + len(wanted) > self._download.end:
            raise self._download.beyond()
        hand(wanted, self._takers)
        self._download.offset += len(wanted)


class _Pace:
    """Watches that bytes do not trickle in: a trickle never stalls, and yet takes for ever.

    Args:
        name: what errors call the blob.
        slowest: bytes per second.
    """

    def __init__(self, name: str, slowest: float) -> None:
        self._name = name
        self._slowest = slowest
        self._since = time.monotonic()
        self._left = CHUNK

    def check(self, octets: int) -> None:
        """Take note of bytes that have arrived."""
        self._left -= octets
        now = time.monotonic()
        if self._left <= 0:
            self._since, self._left = now, CHUNK
        elif now - self._since > CHUNK / self._slowest:
            raise NetworkError(
                f"{self._name} came at less than {self._slowest:g} bytes a second", trouble=Trouble.SLOW
            )
