"""Opening what an address names, as an end of a transfer."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from regsim.cli.addresses import Address, Layout
from regsim.cli.output import status
from regsim.content.layout import LayoutStore
from regsim.oci import Reference
from regsim.remote.repository import Repository
from regsim.remote.transport import Transport
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
    """Opens the two ends of a transfer, with one connection pool for each registry."""

    stack: AsyncExitStack
    plain_http: bool
    tls_verify: bool
    transports: dict[str, Transport] = field(default_factory=dict)

    async def source(self, address: Address) -> Source:
        """Open an address for reading."""
        if isinstance(address, Layout):
            return LocalSource(LayoutStore(address.directory))
        return RegistrySource(await self._repository(address))

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
        return Repository(transport, reference.repository, warn=status)
