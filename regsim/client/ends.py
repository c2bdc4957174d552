"""Opening what an address names: as an end of a transfer, a layout, or a registry.

Owns the connections of one client. An end speaks of what it lacks in the words that the user typed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regsim.client.addresses import Address, Layout
from regsim.content.layout import LayoutStore
from regsim.errors import NotFoundError
from regsim.remote.repository import Registry, Repository
from regsim.remote.transport import Network, Transport
from regsim.transfer.copy import MANIFEST_UNKNOWN
from regsim.transfer.ends import (
    Destination,
    LocalDestination,
    LocalSource,
    RegistryDestination,
    RegistrySource,
    Source,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AsyncExitStack

    from regsim.oci import Descriptor, Reference
    from regsim.remote.account import Account
    from regsim.remote.auth import Keychain
    from regsim.remote.timeouts import Timeouts
    from regsim.remote.trust import Trust


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """Opens ends, with one connection pool for each registry, which lasts until `close`.

    Attributes:
        plain_http: speak plain HTTP, or TLS; None: HTTP to this machine alone.
        trust: how certificates are judged.
        keychain: who has credentials.
        timeouts: of every wait; None: the usual ones.
        transport: stands in for the network; None: sockets.
        warn: is told what the user should know though the work goes on.
    """

    plain_http: bool | None
    trust: Trust
    keychain: Keychain
    timeouts: Timeouts | None
    transport: Network | None
    warn: Callable[[str], None]
    _transports: dict[str, Transport] = field(default_factory=dict)
    _registries: dict[str, Registry] = field(default_factory=dict)

    async def source(self, address: Address) -> Source:
        """Open an address for reading."""
        if isinstance(address, Layout):
            return _LayoutSource(LayoutStore(address.directory))
        return _RepositorySource(self.repository(address), address)

    async def destination(self, address: Address, stack: AsyncExitStack) -> Destination:
        """Open an address for writing.

        Args:
            address: where to.
            stack: ends what lasts as long as the transfer: what a layout holds is kept from being removed.
        """
        if isinstance(address, Layout):
            store = LayoutStore(address.directory, create=True)
            await stack.enter_async_context(store.in_use())
            return LocalDestination(store)
        return RegistryDestination(self.repository(address, writes=True))

    def repository(self, reference: Reference, *, writes: bool = False) -> Repository:
        """Return the repository that a reference is in; `writes` as for `Repository`."""
        return self.registry(reference.host).repository(reference.repository, writes=writes)

    def registry(self, host: str) -> Registry:
        """Return a registry; nothing is asked of it yet.

        Raises:
            InvalidReferenceError: `host` is no address of one.
        """
        known = self._registries.get(host)
        if known is None:
            transport = self._transports[host] = Transport(
                host,
                plain_http=self.plain_http,
                trust=self.trust,
                keychain=self.keychain,
                timeouts=self.timeouts,
                transport=self.transport,
            )
            known = self._registries[host] = Registry(transport, warn=self.warn)
        return known

    async def close(self) -> None:
        """Close every connection."""
        self._registries.clear()
        while self._transports:
            await self._transports.popitem()[1].aclose()


class _LayoutSource(LocalSource):
    """A layout that is read from."""

    def __init__(self, store: LayoutStore) -> None:
        super().__init__(store)
        self._layout = store

    async def resolve(self, reference: str, account: Account) -> Descriptor:  # noqa: ARG002
        """Return what a tag names, or the only image.

        Raises:
            LocalFileError: there is none; the hint lists the tags.
        """
        return await self._layout.find(reference)


class _RepositorySource(RegistrySource):
    """A repository that is read from."""

    def __init__(self, repository: Repository, address: Reference) -> None:
        super().__init__(repository)
        self._address = address

    async def resolve(self, reference: str, account: Account) -> Descriptor:
        """Return what a tag or digest names.

        Raises:
            NotFoundError: the registry answered that there is none.
        """
        found = await super().resolve(reference, account)
        if found is None:
            raise NotFoundError(
                f"{self._address} does not exist",
                hint="the registry answers, but lacks it: check the name and the tag",
                codes=(MANIFEST_UNKNOWN,),
            )
        return found
