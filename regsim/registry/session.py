"""One upload session: where it is, what it holds, how it ends (distribution-spec, end-4a, end-13, end-14).

Owns what a session's answers say. Must not know what is uploaded, or why.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from regsim.core.descriptor import CANONICAL
from regsim.errors import RegistryError, RegsimError
from regsim.net.address import resolve, with_query
from regsim.registry.answer import Answer, Body, refusal

if TYPE_CHECKING:
    from regsim.core import Digest
    from regsim.core.account import Account
    from regsim.registry.requests import Requests

EMPTY = Body.of(b"")
# No piece of an upload is larger, even if a registry asks for more.
MAX_PIECE = 1024 * 1024 * 1024

# Both ends are inclusive, and the unit is left out, but not by everybody (distribution#2363, #3496).
_RANGE = re.compile(r"(?:bytes[= ])?[0-9]{1,19}-(?P<last>[0-9]{1,19})(?:/.*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSession:
    """An upload that the registry has opened.

    Attributes:
        url: where it goes on; carries the registry's state, which is a secret.
        smallest: bytes that every piece but the last one must have (`OCI-Chunk-Min-Length`).
        held: bytes that it holds, by the answer that told of it; None: that did not say.
    """

    url: str = field(repr=False)
    smallest: int = 0
    held: int | None = None


async def open_session(repository: Requests, digest: Digest, account: Account) -> UploadSession:
    """Open an upload session (end-4a) for a blob. A session whose answer was lost is left to expire.

    An algorithm that is not the usual one is announced (end-4c), so that the registry can hash what comes.

    Raises:
        RegistryError: the registry opens none.
    """
    target = repository.uploads_target
    if digest.algorithm != CANONICAL:
        target = with_query(target, f"digest-algorithm={digest.algorithm}")
    answer = await repository.ask("POST", target, account, body=EMPTY)
    if answer.status != HTTPStatus.ACCEPTED:
        raise refusal(answer)
    return session_of(answer)


def session_of(answer: Answer, before: UploadSession | None = None) -> UploadSession:
    """Return the session that an answer tells of; each answer may move it (distribution-spec#415).

    Raises:
        RegistryError: it does not say where the session is, and nothing did before.
    """
    text = answer.headers.get("OCI-Chunk-Min-Length", "")
    smallest = min(int(text), MAX_PIECE) if text.isascii() and text.isdigit() and len(text) < 20 else 0  # noqa: PLR2004 (digits of an int64)
    if location := answer.headers.get("Location"):
        smallest = max(smallest, before.smallest if before else 0)
        return UploadSession(url=resolve(answer.url, location), smallest=smallest, held=held_by(answer))
    if before is not None:
        return replace(before, held=held_by(answer))
    raise RegistryError(f"{answer.method} {answer.url.partition('?')[0]}: an upload without a Location")


def held_by(answer: Answer) -> int | None:
    """Return how many bytes a session holds by its `Range`; None where that does not say.

    `0-0` is what an empty session says, and one that holds a single byte: it counts as empty.
    """
    match = _RANGE.fullmatch(answer.headers.get("Range", ""))
    if match is None:
        return None
    last = int(match["last"])
    return last + 1 if last else 0


async def status(repository: Requests, session: UploadSession, account: Account) -> UploadSession | None:
    """Ask a session what it holds (end-13); None where the registry does not know it."""
    try:
        answer = await repository.ask("GET", session.url, account)
        if answer.status == HTTPStatus.NOT_FOUND or "BLOB_UPLOAD_UNKNOWN" in refusal(answer).codes:
            return None
        if answer.status not in (HTTPStatus.NO_CONTENT, HTTPStatus.OK, HTTPStatus.ACCEPTED):
            return replace(session, held=None)
        return session_of(answer, session)
    except RegsimError:
        return replace(session, held=None)


async def cancel(repository: Requests, session: UploadSession, account: Account) -> None:
    """Give a session up (end-14), so that the registry need not keep its bytes. Failure is no matter."""
    with contextlib.suppress(RegsimError):
        await repository.send("DELETE", session.url, account, deadline=repository.transport.timeouts.cancel)
