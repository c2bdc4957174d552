"""One repository's side of the conversation: its paths, and requests that are asked until answered.

Owns how targets are spelled, how a request is repeated, and what was learned of a registry on the way. Must
not know what the answers mean.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regsim.core import Digest
from regsim.core.account import Loss
from regsim.core.reference import check_tag
from regsim.errors import NetworkError
from regsim.net.answer import MAX_ERROR_BODY, warnings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from regsim.core.account import Account
    from regsim.net.answer import Answer, Body
    from regsim.registry.retry import Patience
    from regsim.registry.scoped import ScopedTransport


def log_warning(message: str) -> None:
    """Tell the log, where nobody else wants to be told."""
    logging.getLogger("regsim.registry").warning("%s", message)


# Whoever sends more different ones is not heard any further.
_MAX_WARNINGS = 20


@dataclass(slots=True, kw_only=True)
class Habits:
    """What a registry has shown in a run; shared by all who talk to it.

    Attributes:
        single_post: it takes a small blob that comes with the POST. Others ignore its bytes and open a
            session (docker's), and there is no asking without wasting them: so whoever knows says so.
        largest: bytes of a request body, where it has refused larger ones.
        ranges: it has not been seen to answer a Range with something else.
        told: the warnings that it has sent, each of which is passed on once.
    """

    single_post: bool = False
    largest: int | None = None
    ranges: bool = True
    told: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What every request to a repository needs.

    Attributes:
        transport: to it.
        name: the repository's, checked.
        patience: for requests that may be repeated without harm.
        warn: told what the user should know though the work goes on.
        habits: of the registry.
    """

    transport: ScopedTransport
    name: str
    patience: Patience
    warn: Callable[[str], None] = log_warning
    habits: Habits = field(default_factory=Habits)

    def blob(self, digest: Digest) -> str:
        """Return the target of a blob (end-2, end-10)."""
        return f"/v2/{self.name}/blobs/{digest}"

    def manifest(self, reference: str) -> str:
        """Return the target of a manifest by tag or digest (end-3, end-7, end-9).

        Raises:
            InvalidReferenceError: it is neither.
        """
        checked = Digest(reference) if ":" in reference else check_tag(reference)
        return f"/v2/{self.name}/manifests/{checked}"

    @property
    def uploads(self) -> str:
        """The target that opens upload sessions (end-4a, end-11)."""
        return f"/v2/{self.name}/blobs/uploads/"

    @property
    def tags(self) -> str:
        """The target that lists tags (end-8)."""
        return f"/v2/{self.name}/tags/list"

    def referrers(self, subject: Digest) -> str:
        """The target that lists what refers to a manifest (end-12)."""
        return f"/v2/{self.name}/referrers/{subject}"

    async def ask(
        self,
        method: str,
        target: str,
        account: Account,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        content: bool = False,
        limit: int = MAX_ERROR_BODY,
        mounts_from: str | None = None,
    ) -> Answer:
        """Send a request that may be repeated, and repeat it while there is patience.

        Raises:
            NetworkError: no try got a whole answer.
            RegistryError: the last try's answer was still one that asks to come back.
        """

        async def send() -> Answer:
            before = account.received
            try:
                return await self.send(
                    method,
                    target,
                    account,
                    headers=headers,
                    body=body,
                    content=content,
                    limit=limit,
                    mounts_from=mounts_from,
                )
            except NetworkError:
                if content:
                    account.waste(received=account.received - before, loss=Loss.CUT)
                raise

        return await self.patience.ask(send, account)

    async def send(
        self,
        method: str,
        target: str,
        account: Account,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        content: bool = False,
        limit: int = MAX_ERROR_BODY,
        deadline: float | None = None,
        mounts_from: str | None = None,
        deletes: bool = False,
    ) -> Answer:
        """Send a request once, when nobody waits for the host to recover; as `ScopedTransport.request`."""
        await self.patience.ready()
        answer = await self.transport.request(
            method,
            target,
            account,
            headers=headers,
            body=body,
            content=content,
            limit=limit,
            deadline=deadline,
            mounts_from=mounts_from,
            deletes=deletes,
        )
        self.heed(answer)
        return answer

    def heed(self, answer: Answer) -> None:
        """Pass on what the registry wants its user to know, once."""
        for text in warnings_of(answer):
            if text not in self.habits.told and len(self.habits.told) < _MAX_WARNINGS:
                self.habits.told.add(text)
                self.warn(f"{self.transport.transport.host} says: {text}")
