"""A transport whose every request says what it needs of one repository.

Owns which rights a request takes. Must not know tokens, or whether anybody asks for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regsim.net.answer import MAX_ERROR_BODY
from regsim.registry.login.challenge import DELETE, PULL, PUSH, Need, Scope, Scopes

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager

    from regsim.core.account import Account
    from regsim.net.answer import Answer, Body
    from regsim.net.timeouts import Timeouts
    from regsim.registry.bodies import Response
    from regsim.registry.transport import Transport

_READS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopedTransport:
    """A transport to one repository.

    Attributes:
        transport: to the registry.
        repository: its name.
        writes: something will be written there: the right to push is asked for from the start, so that one
            token is enough.
    """

    transport: Transport
    repository: str
    writes: bool = False

    @property
    def timeouts(self) -> Timeouts:
        """How long each wait may be."""
        return self.transport.timeouts

    def turn(self, name: str) -> asyncio.Lock:
        """Return a lock for what several tasks change here; see `Transport.turn`."""
        return self.transport.turn(name)

    async def request(
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
        """Send a request and read its answer; most arguments are as for `Transport.request`.

        Args:
            method: of HTTP.
            target: as for `Transport.request`.
            account: is charged.
            headers: beside those of every request.
            body: None sends none.
            content: the bodies are a blob's or a manifest's.
            limit: bytes of the answer's body that are wanted.
            deadline: seconds for all of it.
            mounts_from: another repository that is read from, which takes one token for both.
            deletes: what is deleted is content, not an upload.
        """
        return await self.transport.request(
            method,
            target,
            account,
            headers=headers,
            body=body,
            content=content,
            limit=limit,
            deadline=deadline,
            need=self._need(method, mounts_from=mounts_from, deletes=deletes),
        )

    def exchange(
        self,
        method: str,
        target: str,
        account: Account,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        content: bool = False,
    ) -> AbstractAsyncContextManager[Response]:
        """Send a request and hand over its answer unread; arguments as for `Transport.exchange`."""
        return self.transport.exchange(
            method, target, account, headers=headers, body=body, content=content, need=self._need(method)
        )

    def _need(self, method: str, *, mounts_from: str | None = None, deletes: bool = False) -> Need:
        # Aborting an upload takes the right to push in most registries; those that want more say so.
        actions = (PULL,) if method in _READS and not self.writes else (PULL, PUSH)
        scopes: Scopes = (Scope.repository(self.repository, *((DELETE,) if deletes else actions)),)
        if mounts_from is not None:
            scopes += (Scope.repository(mounts_from, PULL),)
        return Need(repository=self.repository, scopes=scopes)
