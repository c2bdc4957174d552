"""Opening what an address names: as an end of a transfer, a layout, or a registry.

Owns the connections of one client, and the ends that are more than a store or a repository. An end
speaks of what it lacks in the words that the user typed.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from regsim.client.addresses import Address, Archive, Layout
from regsim.core import Reference, media_types
from regsim.core.manifest import parse, referrer_of
from regsim.errors import NotFoundError, RegsimError
from regsim.registry.referrers import fallback_tag
from regsim.registry.repository import Registry, Repository
from regsim.registry.transport import Transport
from regsim.store.layout import LayoutStore
from regsim.store.protocols import Fetcher
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
    from collections.abc import AsyncGenerator, Callable, Iterable
    from contextlib import AsyncExitStack

    from regsim.core import Descriptor, Digest
    from regsim.core.account import Account
    from regsim.core.manifest import Referrer
    from regsim.registry.connection import Connection
    from regsim.registry.ranges import Ranges
    from regsim.store.archive import OciArchive


@dataclass(frozen=True, slots=True)
class Ends:
    """Opens ends, with one connection pool for each registry, which lasts until `close`.

    Attributes:
        connection: how to connect to registries, and as whom.
        warn: is told what the user should know though the work goes on.
        ranges: how large blobs are divided to be read; None: they are not.
    """

    connection: Connection
    warn: Callable[[str], None]
    ranges: Ranges | None = None
    _transports: dict[str, Transport] = field(default_factory=dict)
    _registries: dict[str, Registry] = field(default_factory=dict)

    async def source(self, address: Address) -> Readable:
        """Open an address for reading."""
        if isinstance(address, Layout):
            return _LocalImages(LayoutStore(address.directory))
        if isinstance(address, Archive):
            from regsim.client.archives import read_archive  # noqa: PLC0415  (see there)

            return ArchiveSource(read_archive(address))
        return _RepositorySource(self.repository(address), address)

    async def destination(
        self, address: Address, stack: AsyncExitStack, name: Reference | None = None
    ) -> Destination:
        """Open an address for writing; one that is an `ArchiveDestination` has to be told how it ends.

        Args:
            address: where to.
            stack: ends what lasts as long as the transfer: what a layout holds is kept from being removed.
            name: what an image is called in an archive of docker's, if `address` does not say.
        """
        if isinstance(address, Layout):
            store = LayoutStore(address.directory, create=True)
            await stack.enter_async_context(store.in_use())
            return LocalDestination(store)
        if isinstance(address, Archive):
            from regsim.client.archives import ArchiveDestination  # noqa: PLC0415  (see there)

            return ArchiveDestination.of(address, name)
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
            transport = self._transports[host] = Transport(host, self.connection)
            known = self._registries[host] = Registry(transport, warn=self.warn, ranges=self.ranges)
        return known

    async def list_referrers(self, address: Address, found: Iterable[Referrer], account: Account) -> None:
        """See to it that manifests that are there are listed as what refers to their subjects.

        Raises:
            RegistryError, LocalFileError: it cannot be done.
        """
        if isinstance(address, Layout):
            store = LayoutStore(address.directory)
            for each in found:
                await store.tag(each.descriptor, each.descriptor.digest)
        elif isinstance(address, Reference):
            await self.repository(address, writes=True).list_missing_referrers(found, account)

    async def close(self) -> None:
        """Close every connection."""
        self._registries.clear()
        while self._transports:
            await self._transports.popitem()[1].aclose()


class Readable(Source, Protocol):
    """An end that is read from, and that knows what refers to what it holds."""

    async def referrers(
        self, subject: Digest, account: Account, artifact_type: str | None = None
    ) -> tuple[Descriptor, ...]:
        """Return what refers to a manifest, as `Repository.referrers` does."""


class _Images(Fetcher, Protocol):
    """A store of images that says what it has where it lacks what is asked for."""

    async def find(self, reference: str = "") -> Descriptor:
        """Return the manifest that a user names, or the only one if they name none."""

    async def documents(self) -> tuple[Descriptor, ...]:
        """Return each manifest and index that is listed."""


class _LocalImages(LocalSource):
    """A layout or an archive that is read from."""

    def __init__(self, store: _Images) -> None:
        super().__init__(store)
        self._images = store
        self._referrers: list[Referrer] | None = None

    async def resolve(self, reference: str, account: Account) -> Descriptor:  # noqa: ARG002
        """Return what a name names, or the only image.

        Raises:
            LocalFileError: there is none; the hint lists the names.
        """
        return await self._images.find(reference)

    async def referrers(
        self, subject: Digest, account: Account, artifact_type: str | None = None
    ) -> tuple[Descriptor, ...]:
        """Return what refers to a manifest: of what is listed, and of what its fallback tag lists."""
        if self._referrers is None:
            self._referrers = [each async for each in self._all_referrers(account)]
        found = [each.descriptor for each in self._referrers if each.subject == subject]
        tagged = await self._images.resolve(fallback_tag(subject))
        if tagged is not None and media_types.is_index(tagged.media_type):
            document = parse(tagged, await self.manifest(tagged, account))
            found += [each.descriptor for each in document.successors]
        wanted = [each for each in found if artifact_type in (None, each.artifact_type)]
        return tuple({each.digest: each for each in wanted}.values())

    async def _all_referrers(self, account: Account) -> AsyncGenerator[Referrer, None]:
        for descriptor in await self._images.documents():
            # What cannot be read concerns those alone who ask for it.
            with suppress(RegsimError):
                referrer = referrer_of(descriptor, await self.manifest(descriptor, account))
                if referrer is not None:
                    yield referrer


class ArchiveSource(_LocalImages):
    """An archive that is read from, which also says what is in it."""

    def __init__(self, archive: OciArchive) -> None:
        super().__init__(archive)
        self.documents = archive.documents


class _RepositorySource(RegistrySource):
    """A repository that is read from."""

    def __init__(self, repository: Repository, address: Reference) -> None:
        super().__init__(repository)
        self._address = address
        self.referrers = repository.referrers

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
