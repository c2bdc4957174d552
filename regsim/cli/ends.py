"""Opening what an address names, as an end of a transfer.

Owns the connections of one command. An end speaks of what it lacks in the words that the user typed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from regsim.cli.addresses import Address, Layout
from regsim.content.layout import LayoutStore
from regsim.errors import NotFoundError
from regsim.oci import Descriptor, Reference
from regsim.remote.account import Account
from regsim.remote.repository import Repository
from regsim.remote.transport import Transport
from regsim.transfer.copy import MANIFEST_UNKNOWN
from regsim.transfer.ends import (
    Destination,
    LocalDestination,
    LocalSource,
    RegistryDestination,
    RegistrySource,
    Source,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """Opens the two ends of a transfer, with one connection pool for each registry.

    Attributes:
        stack: closes the connections.
        plain_http: speak plain HTTP to a registry that is not on this machine.
        tls_verify: check certificates.
        warn: is told what the user should know though the work goes on.
    """

    stack: AsyncExitStack
    plain_http: bool
    tls_verify: bool
    warn: Callable[[str], None]
    transports: dict[str, Transport] = field(default_factory=dict)

    async def source(self, address: Address) -> Source:
        """Open an address for reading."""
        if isinstance(address, Layout):
            return _LayoutSource(LayoutStore(address.directory))
        return _RepositorySource(await self._repository(address), address)

    async def destination(self, address: Address) -> Destination:
        """Open an address for writing."""
        if isinstance(address, Layout):
            return LocalDestination(LayoutStore(address.directory, create=True))
        return RegistryDestination(await self._repository(address))

    async def _repository(self, reference: Reference) -> Repository:
        transport = self.transports.get(reference.host)
        if transport is None:
            transport = await self.stack.enter_async_context(
                Transport(reference.host, plain_http=self.plain_http, tls_verify=self.tls_verify)
            )
            self.transports[reference.host] = transport
        return Repository(transport, reference.repository, warn=self.warn)


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
