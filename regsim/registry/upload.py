"""Writing a blob: mount, session, pieces, commit (distribution-spec, end-4 to end-6, end-11, end-14).

Owns how an upload survives failures: sessions go on at the byte that the registry holds, each one
ends committed or cancelled, and nothing is committed twice. Must not know why a blob is written, or whether
it had to be.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal

from regsim.core.account import Reason
from regsim.core.reference import check_repository
from regsim.errors import AuthenticationError, NetworkError, RegistryError, RegsimError
from regsim.net.address import with_query, without_query
from regsim.registry import blobs
from regsim.registry.answer import Body, refusal
from regsim.registry.retry import Unready, final, reason_of
from regsim.registry.session import (
    EMPTY,
    UploadSession,
    cancel,
    held_by,
    open_session,
    session_of,
    status,
)
from regsim.store.protocols import CHUNK
from regsim.store.verify import Rereader

if TYPE_CHECKING:
    from regsim.core import Descriptor, Digest
    from regsim.core.account import Account
    from regsim.registry.answer import Answer
    from regsim.registry.requests import Requests
    from regsim.store.protocols import Content

_OCTETS = {"Content-Type": "application/octet-stream"}
# 201 by the specification; ECR and others have been seen with the rest.
_COMMITTED = frozenset({HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT})
_TAKEN = _COMMITTED | {HTTPStatus.ACCEPTED}
_UNSATISFIABLE = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
# Refusals that do not rule out that the blob is there: the session was forgotten behind a commit whose
# answer was lost (jib#4301: 40 of 51), or another pusher of the same blob was first (nexus-public#967).
_DOUBTFUL = frozenset(
    {
        HTTPStatus.ACCEPTED,
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.CONFLICT,
        _UNSATISFIABLE,
    }
)
_FORGOTTEN = "BLOB_UPLOAD_UNKNOWN"
_WRONG_DIGEST = "DIGEST_INVALID"
# Tried in turn if a request was too large for the registry, or for a proxy before it.
_PIECES = tuple(size * 1024 * 1024 for size in (64, 16, 4, 1))
# The registry must keep this fraction (1/n) of a piece, or the piece counts as failed.
_FEW = 4


async def mount(
    repository: Requests, digest: Digest, from_repository: str, account: Account
) -> Literal[True] | UploadSession | None:
    """Ask the registry to link a blob from another of its repositories (end-11).

    Returns:
        True if it did; or the session that the registry opened instead, to be handed to `upload` or
        `cancel`; or None where it refused, to be followed by a plain `upload`.
    """
    source = check_repository(from_repository)
    target = with_query(repository.uploads_target, f"mount={digest}&from={source}")
    try:
        answer = await repository.ask("POST", target, account, body=EMPTY, mounts_from=source)
    except AuthenticationError:
        return None
    if answer.status == HTTPStatus.CREATED:
        return True
    if answer.status == HTTPStatus.ACCEPTED:
        return session_of(answer)
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise refusal(answer)
    # 400, 401, 403 and 404 all occur where the source may not be read (ggcr#1404, containerd#14086).
    return None


async def upload(
    repository: Requests, content: Content, account: Account, session: UploadSession | None = None
) -> bool:
    """Write a blob, verified on its way out (end-4 to end-6): in one PUT, or in pieces if need be.

    After a failure that may pass it goes on at the byte that the registry holds, or in a new session
    where that is forgotten; where all had been sent and only the answer was lost, the blob is looked for
    first. A session that is given up is cancelled.

    Args:
        repository: where it is written.
        content: is opened once for each attempt.
        account: is charged; `attempts` counts openings.
        session: that a mount has opened; None opens one.

    Returns:
        Whether it is there by this upload. False: somebody else's was first, and not all had to be sent.

    Raises:
        ContentError: the bytes are not what the descriptor says; the registry never got the last ones.
    """
    async with aclosing(Rereader(content)) as source:
        work = _Upload(repository, source, account, session)
        try:
            sent = await work.finish()
        except BaseException:
            await work.give_up()
            raise
        work.settle(accepted=sent)
        return sent


@dataclass(eq=False)
class _Setback(Exception):  # noqa: N818  (no error yet: the upload may still get there)
    """A request did not do what it was for.

    Attributes:
        failure: what to raise if this was the last try.
        reason: what the account calls it.
        wait: it may pass, given time.
        anew: the session is unusable.
        gone: the registry does not know it, so there is nothing to cancel either.
    """

    failure: Unready | RegsimError
    reason: str
    wait: bool = True
    anew: bool = False
    gone: bool = False


class _Upload:
    """One blob on its way up: its session, and how much of it the registry holds."""

    def __init__(
        self, repository: Requests, source: Rereader, account: Account, session: UploadSession | None
    ) -> None:
        self._repository = repository
        self._descriptor: Descriptor = source.descriptor
        self._source = source
        self._account = account
        self._trusting = True  # what registries say of how much they hold
        self._sent = 0  # bytes, of those that are not wasted
        self._adopt(session)

    def _adopt(self, session: UploadSession | None) -> None:
        self._session = session
        self._offset = 0  # bytes that it holds
        self._given = 0  # it cannot hold more than these
        self._untouched = self._account.sent
        self._mended = False  # it has gone on in the middle
        if session is not None:
            self._account.attempts += 1

    async def finish(self) -> bool:
        """Upload it. False: another client stored it before all of it was sent."""
        failures = reached = 0
        while True:
            try:
                return await self._send()
            except _Setback as setback:
                # Only what no session held before: one that is forgotten again and again gets nowhere.
                if self._offset - reached >= CHUNK:
                    failures, reached = 0, self._offset
                if isinstance(setback.failure, NetworkError) and await self._is_there_after_all():
                    self._account.retried(setback.reason)
                    return True
                if not setback.wait:
                    self._account.retried(setback.reason)
                elif await self._repository.patience.again(
                    failures, setback.failure, self._account, reason=setback.reason
                ):
                    failures += 1
                else:
                    self._session = None if setback.gone else self._session
                    raise final(setback.failure) from setback.failure.__cause__
                if await self._recover(setback):
                    return True

    async def give_up(self) -> None:
        """Cancel the session, if there is one."""
        session, self._session = self._session, None
        if session is not None:
            await cancel(self._repository, session, self._account)

    # Sending

    async def _send(self) -> bool:
        """Send what the registry lacks, and commit.

        Raises:
            _Setback: it may be tried again.
        """
        while True:
            session = self._session
            if session is None:
                session = await open_session(self._repository, self._descriptor.digest, self._account)
                self._adopt(session)
            start, end = self._offset, self._descriptor.size
            # To the end, unless that has been too much already.
            if (largest := self._repository.habits.largest) is not None:
                end = min(end, start + max(largest, session.smallest))
            last = end == self._descriptor.size
            query = f"digest={self._descriptor.digest}"
            target = with_query(session.url, query) if last else session.url
            answer = await self._request("PUT" if last else "PATCH", target, start, end)
            if last and answer.status in _COMMITTED:
                return True
            if last or answer.status not in _TAKEN:
                return await self._refused(answer, session, end - start)
            self._taken(answer, session, end)

    async def _request(self, method: str, target: str, start: int, end: int) -> Answer:
        before = self._account.standing
        headers = dict(_OCTETS)
        if end > start and (start or method == "PATCH"):
            headers["Content-Range"] = f"{start}-{end - 1}"
        repository = self._repository
        try:
            return await repository.send(
                method,
                target,
                self._account,
                headers=headers,
                body=Body(size=end - start, open=partial(self._source.read, start, end)),
                content=True,
                deadline=repository.transport.timeouts.whole(end - start),
            )
        except NetworkError as error:
            # A copy's source may be what broke, and was retried where it was read.
            if error is self._source.failure:
                raise
            raise _Setback(error, reason_of(error)) from error
        finally:
            sent = self._account.standing - before
            self._sent += sent
            self._given = max(self._given, min(end, start + sent))

    def _taken(self, answer: Answer, session: UploadSession, end: int) -> None:
        """Take note of how much of a piece the registry says to have kept.

        Raises:
            _Setback: it was so little that with more of the like there would be no end.
        """
        self._session = session_of(answer, session)
        held, before = self._session.held, self._offset
        # ECR says the same for ever, though it keeps all (containers-roadmap#2831); who says more than was
        # given is off by one (regclient#627). If either is a lie, the commit brings it to light.
        if self._trusting and held is not None and before < held < end:
            if (held - before) * _FEW < end - before:
                where = without_query(answer.url).partition("://")[2]
                raise _Setback(
                    RegistryError(f"{where} kept no more than {held - before:,} of {end - before:,} bytes"),
                    Reason.SHORT_ACCEPTANCE,
                )
            self._offset, self._mended = held, True
            self._account.retried(Reason.SHORT_ACCEPTANCE)
            self._note_waste()
        else:
            self._offset = end

    async def _refused(self, answer: Answer, session: UploadSession, size: int) -> bool:
        """Tell what became of the upload where a request of `size` bytes was refused.

        Raises:
            _Setback: it may be tried again.
            RegistryError: it may not.
        """
        error, repository = refusal(answer), self._repository
        passing = repository.patience.wants(answer.status)
        forgotten = answer.status == HTTPStatus.NOT_FOUND or _FORGOTTEN in error.codes
        if (passing or answer.status in _DOUBTFUL) and await self._is_there():
            self._account.retried(str(answer.status))
            if not (passing or forgotten):
                await self.give_up()
            return self._source.complete
        if passing:
            raise _Setback(Unready(answer), str(answer.status))
        if forgotten:
            raise _Setback(error, Reason.SESSION_FORGOTTEN, gone=True)
        if self._is_too_large(answer, size) and self._shrink(session, size):
            raise _Setback(error, Reason.TOO_LARGE, wait=False)
        if self._trusting and answer.status == _UNSATISFIABLE and not self._mended:
            raise _Setback(error, Reason.RANGE_WRONG)
        # The bytes were right when they left here: something on the way was not, or what was said of how many
        # had come. Where neither can be, a second time would change nothing.
        damaged = _WRONG_DIGEST in error.codes
        confused = answer.status in _DOUBTFUL and bool(self._mended or self._offset)
        if self._trusting and (damaged or confused):
            self._trusting = False
            raise _Setback(error, Reason.WRONG_BYTES if damaged else Reason.SESSION_REFUSED, anew=True)
        raise error

    def _is_too_large(self, answer: Answer, size: int) -> bool:
        if answer.status != _UNSATISFIABLE:
            return answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        # ghcr says so of more than 4 MiB (ocx#237); else it speaks of another byte than the session's.
        return size > _PIECES[-1] and held_by(answer) in (None, self._offset)

    def _shrink(self, session: UploadSession, refused: int) -> bool:
        """Settle on smaller pieces from now on, if there are any."""
        largest = self._repository.habits.largest
        if largest is not None and max(largest, session.smallest) < refused:
            return True  # others have done so meanwhile
        for size in _PIECES:
            if session.smallest <= size < refused:
                self._repository.habits.largest = size
                return True
        return False

    # Going on

    async def _recover(self, setback: _Setback) -> bool:
        """Find out where to go on. True: there is nothing left to do."""
        session = None if setback.gone else self._session
        if session is not None and not setback.anew and self._account.sent == self._untouched:
            return False  # it has not got anything yet
        if setback.gone:
            if await self._is_there_after_all():
                return True
        elif session is not None and not setback.anew and self._trusting:
            found = await status(self._repository, session, self._account)
            if found is None:
                self._session = None
                if await self._is_there_after_all():
                    return True
            elif found.held is not None and 0 < found.held <= self._given:
                self._session, self._offset, self._mended = found, found.held, True
                self._note_waste()
                return False
        if setback.gone:
            self._session = None
        await self.give_up()
        self._adopt(None)
        self._note_waste()
        return False

    async def _is_there_after_all(self) -> bool:
        """Tell whether all had been sent, only the answer was lost, and the blob is there."""
        return self._source.complete and await self._is_there()

    async def _is_there(self) -> bool:
        """Tell whether the blob is there although no answer said so; in doubt it is not."""
        try:
            return await blobs.has(self._repository, self._descriptor, self._account)
        except RegsimError:
            return False

    def settle(self, *, accepted: bool) -> None:
        """Count the blob, if it is there by this upload; else all that was sent for it was wasted."""
        if not accepted:
            self._account.waste(sent=self._sent)
            return
        size = self._descriptor.size
        self._account.useful_sent += size
        if self._sent < size:
            # An earlier body, which had been given up, was accepted after all.
            self._account.waste(sent=self._sent - size)

    def _note_waste(self) -> None:
        """Charge the last retry with what has been sent and is not held."""
        self._account.waste(sent=self._sent - self._offset)
        self._sent = self._offset
