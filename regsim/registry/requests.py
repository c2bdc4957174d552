"""Requests to one repository: their targets, the rights that they need, and how they are repeated.

Owns what was learned of a registry on the way. Must not know what the answers mean.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict

from regsim.core import Digest
from regsim.core.account import Loss
from regsim.core.reference import check_repository, check_tag
from regsim.errors import NetworkError
from regsim.registry.answer import warnings_of
from regsim.registry.login.challenge import DELETE, PULL, PUSH, Need, Scope
from regsim.registry.retry import Patience

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Unpack

    from regsim.core.account import Account
    from regsim.registry.answer import Answer, Body
    from regsim.registry.ranges import Ranges
    from regsim.registry.transport import Transport

_READS = frozenset({"GET", "HEAD"})
# Of a registry that sends more different ones, the others are not passed on.
_MAX_WARNINGS = 20


log_warning: Callable[[str], None] = logging.getLogger("regsim.registry").warning
"""Writes a warning to the log."""


@dataclass(slots=True, kw_only=True)
class Habits:
    """What a registry has shown in a run; shared by all who talk to it.

    Attributes:
        largest: bytes of a request body, if it has refused larger ones.
        ranges: it has not been seen to answer a Range with something else.
        told: the warnings that it has sent; each is passed on once.
    """

    largest: int | None = None
    ranges: bool = True
    told: set[str] = field(default_factory=set)


@dataclass(kw_only=True)
class Host:
    """What the repositories of one registry share: its transport, its patience, and what is known of it.

    Attributes:
        transport: to the registry. It is not closed here.
        patience: how long to keep trying.
        warn: receives warnings for the user; the work goes on.
        habits: what is known of it.
        ranges: how large blobs are divided to be read; None: they are not.
    """

    transport: Transport = field(kw_only=False)
    patience: Patience = field(default_factory=Patience)
    warn: Callable[[str], None] = log_warning
    habits: Habits = field(default_factory=Habits)
    ranges: Ranges | None = None


class Options(TypedDict, total=False):
    """Of a request; see `Transport.send`."""

    headers: Mapping[str, str]
    body: Body
    content: bool
    limit: int | None
    deadline: float


class Question(Options, total=False):
    """Options of a request to a repository.

    Attributes:
        mounts_from: another repository that is read from, which takes one token for both.
    """

    mounts_from: str


class Requests:
    """What is asked of one repository goes through here.

    Args:
        registry: that it is part of.
        name: of the repository, such as `library/golang`.
        writes: something will be written to it: the right to push is requested from the start, so that one
            token is enough.

    Raises:
        InvalidReferenceError: `name` is not a repository name.
    """

    def __init__(self, registry: Host, name: str, *, writes: bool = False) -> None:
        self.registry = registry
        self.transport = registry.transport
        self.patience = registry.patience
        self.habits = registry.habits
        self.name = check_repository(name)
        self._writes = writes

    def blob_target(self, digest: Digest) -> str:
        """Return the target of a blob (end-2, end-10)."""
        return f"/v2/{self.name}/blobs/{digest}"

    def manifest_target(self, reference: str) -> str:
        """Return the target of a manifest by tag or digest (end-3, end-7, end-9).

        Raises:
            InvalidReferenceError: it is neither.
        """
        checked = Digest(reference) if ":" in reference else check_tag(reference)
        return f"/v2/{self.name}/manifests/{checked}"

    @property
    def uploads_target(self) -> str:
        """The target that opens uploads (end-4a, end-11)."""
        return f"/v2/{self.name}/blobs/uploads/"

    async def ask(self, method: str, target: str, account: Account, **options: Unpack[Question]) -> Answer:
        """Send a request that may be repeated, and repeat it while there is patience; as `send`.

        Raises:
            NetworkError: no try got a whole answer.
            RegistryError: the last try's answer was still one that asks to come back.
        """

        async def send() -> Answer:
            before = account.received
            try:
                return await self.send(method, target, account, **options)
            except NetworkError:
                if options.get("content"):
                    account.waste(received=account.received - before, loss=Loss.CUT)
                raise

        return await self.patience.ask(send, account)

    async def send(
        self,
        method: str,
        target: str,
        account: Account,
        *,
        mounts_from: str | None = None,
        deletes: bool = False,
        **options: Unpack[Options],
    ) -> Answer:
        """Send a request once, as soon as the host is not being left to recover; as `Transport.send`.

        Args:
            method: of HTTP.
            target: at the registry.
            account: is charged.
            mounts_from: see `Question`.
            deletes: what is deleted is content, not an upload.
            **options: as for `Transport.send`.
        """
        await self.patience.ready()
        # Cancelling an upload takes the right to push in most registries; those that want more say so.
        actions = (PULL,) if method in _READS and not self._writes else (PULL, PUSH)
        scopes = [Scope.repository(self.name, *((DELETE,) if deletes else actions))]
        if mounts_from is not None:
            scopes.append(Scope.repository(mounts_from, PULL))
        need = Need(repository=self.name, scopes=tuple(scopes))
        answer = await self.transport.send(method, target, account, need=need, **options)
        for text in warnings_of(answer):
            if text not in self.habits.told and len(self.habits.told) < _MAX_WARNINGS:
                self.habits.told.add(text)
                self.registry.warn(f"{self.transport.host} says: {text}")
        return answer
