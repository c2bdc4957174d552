"""Writing a blob: mount, session, single PUT (distribution-spec, end-4, end-6, end-11, end-14).

Owns upload sessions and what becomes of them: each one ends committed or cancelled. Must not know why a
blob is written, or whether it had to be.
"""

from __future__ import annotations

import contextlib
from contextlib import aclosing
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from regsim.content.protocols import Pourable
from regsim.content.verify import Verifier, verified
from regsim.errors import AuthenticationError, NetworkError, RegistryError, RegsimError
from regsim.remote import blobs
from regsim.remote.address import resolve, with_query
from regsim.remote.answer import Answer, Body, refusal
from regsim.remote.retry import Unready, final

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from regsim.content.protocols import Content, Taker
    from regsim.oci import Descriptor, Digest
    from regsim.remote.account import Account
    from regsim.remote.conversation import Conversation

_EMPTY = Body.of(b"")
_OCTETS = {"Content-Type": "application/octet-stream"}
# 201 by the specification; ECR and others have been seen with the rest.
_COMMITTED = frozenset({HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT})
# Refusals that do not rule out that the blob is there: the session was forgotten behind a commit whose
# answer was lost (jib#4301: 40 of 51), or another pusher of the same blob was first (nexus-public#967).
_DOUBTFUL = frozenset(
    {HTTPStatus.ACCEPTED, HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT}
)
_FORGOTTEN = "BLOB_UPLOAD_UNKNOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSession:
    """An upload that the registry has opened. Its URL carries the registry's state, which is a secret."""

    url: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounted:
    """A blob that the registry linked from another repository: nothing has to be sent."""

    digest: Digest
    from_repository: str


async def mount(
    conversation: Conversation, digest: Digest, from_repository: str, account: Account
) -> Mounted | UploadSession | None:
    """Ask the registry to link a blob from another repository; see `Repository.mount`."""
    target = with_query(conversation.uploads, f"mount={digest}&from={from_repository}")
    try:
        answer = await conversation.ask("POST", target, account, body=_EMPTY, mounts_from=from_repository)
    except AuthenticationError:
        return None
    if answer.status == HTTPStatus.CREATED:
        return Mounted(digest=digest, from_repository=from_repository)
    if answer.status == HTTPStatus.ACCEPTED:
        return _session(answer)
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise refusal(answer)
    # 400, 401, 403 and 404 all occur where the source may not be read (ggcr#1404, containerd#14086).
    return None


async def open_session(conversation: Conversation, account: Account) -> UploadSession:
    """Open an upload session (end-4a). A session whose answer was lost is left to expire.

    Raises:
        RegistryError: the registry opens none.
    """
    answer = await conversation.ask("POST", conversation.uploads, account, body=_EMPTY)
    if answer.status != HTTPStatus.ACCEPTED:
        raise refusal(answer)
    return _session(answer)


def _session(answer: Answer) -> UploadSession:
    if not answer.location:
        raise RegistryError(f"{answer.method} {answer.url.partition('?')[0]}: an upload without a Location")
    return UploadSession(url=resolve(answer.url, answer.location))


async def cancel(conversation: Conversation, session: UploadSession, account: Account) -> None:
    """Give a session up (end-14), so that the registry need not keep its bytes. Failure is no matter."""
    with contextlib.suppress(RegsimError):
        await conversation.transport.request(
            "DELETE", session.url, account, deadline=conversation.transport.timeouts.cancel
        )


async def upload(
    conversation: Conversation, content: Content, account: Account, session: UploadSession | None = None
) -> None:
    """Write a blob; see `Repository.upload`."""
    failures = 0
    while True:
        session = session or await open_session(conversation, account)
        failure = await _attempt(conversation, content, account, session)
        if failure is None:
            return
        if not await conversation.patience.again(failures, failure):
            raise final(failure) from failure.__cause__
        failures += 1
        session = None


class _Source:
    """The content on its way out: whether all of it went, or it was itself what failed."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self.failure: Exception | None = None
        self.complete = False

    @property
    def body(self) -> Body:
        pourable = isinstance(self._content, Pourable)
        return Body(size=self._content.descriptor.size, open=self.open, feed=self.feed if pourable else None)

    async def feed(self, take: Taker) -> bytes:
        """Let the content be poured, verified; its last piece is held back until it is known to be right."""
        descriptor = self._content.descriptor
        verifier, held = Verifier(descriptor), _HeldBack(take, descriptor.size)
        try:
            await cast("Pourable", self._content).pour(verifier.update, held.take)
            verifier.finish()
        except Exception as error:
            self.failure = error
            raise
        self.complete = True
        return held.last

    async def open(self) -> AsyncGenerator[bytes, None]:
        try:
            async with aclosing(verified(self._content.open(), self._content.descriptor)) as stream:
                async for chunk in stream:
                    yield chunk
        except Exception as error:
            self.failure = error
            raise
        self.complete = True


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


async def _attempt(
    conversation: Conversation, content: Content, account: Account, session: UploadSession
) -> NetworkError | Unready | None:
    """Send the content into a session. Return None once it is committed, or what may be tried again."""
    account.attempts += 1
    source = _Source(content)
    try:
        answer = await _commit(conversation, content.descriptor, source, session, account)
    except BaseException as error:
        # A copy's source may be what broke, and was retried where it was read.
        if not isinstance(error, NetworkError) or error is source.failure:
            await cancel(conversation, session, account)
            raise
        if source.complete and await _committed(conversation, content.descriptor, account):
            return None
        await cancel(conversation, session, account)
        return error
    return await _judge(conversation, content.descriptor, answer, session, account)


async def _commit(
    conversation: Conversation,
    descriptor: Descriptor,
    source: _Source,
    session: UploadSession,
    account: Account,
) -> Answer:
    return await conversation.transport.request(
        "PUT",
        with_query(session.url, f"digest={descriptor.digest}"),
        account,
        headers=_OCTETS,
        body=source.body,
        content=True,
    )


async def _judge(
    conversation: Conversation,
    descriptor: Descriptor,
    answer: Answer,
    session: UploadSession,
    account: Account,
) -> Unready | None:
    if answer.status in _COMMITTED:
        return None
    error = refusal(answer)
    passing = conversation.patience.wants(answer.status)
    forgotten = answer.status == HTTPStatus.NOT_FOUND or _FORGOTTEN in error.codes
    if (passing or answer.status in _DOUBTFUL) and await _committed(conversation, descriptor, account):
        return None
    if not forgotten:
        await cancel(conversation, session, account)
    if passing or forgotten:
        return Unready(answer)
    raise error


async def _committed(conversation: Conversation, descriptor: Descriptor, account: Account) -> bool:
    """Tell whether the blob is there although nobody said so; in doubt it is not."""
    try:
        return await blobs.has(conversation, descriptor, account)
    except RegsimError:
        return False
