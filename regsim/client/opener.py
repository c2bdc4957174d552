"""Opening what an address names: as an end of a transfer, or as a registry.

Owns the connections of one client, and the ends that a client reads: stores and repositories that also know
referrers, and whose errors use the words that the user typed. Archives are loaded when one is met.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regsim.client.image_address import Address, Kind
from regsim.core import Reference, media_types
from regsim.core.manifest import MANIFEST_UNKNOWN, parse, referrer_of
from regsim.errors import NotFoundError, RegsimError
from regsim.registry.referrers import fallback_tag
from regsim.registry.repository import Registry, Repository
from regsim.registry.requests import log_warning
from regsim.registry.transport import Transport
from regsim.store.layout import LayoutStore
from regsim.transfer.ends import (
    Destination,
    LocalDestination,
    LocalSource,
    RegistryDestination,
    RegistrySource,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AsyncExitStack

    from regsim.core import Descriptor, Digest
    from regsim.core.account import Account
    from regsim.core.manifest import Referrer
    from regsim.registry import Connection
    from regsim.registry.ranges import Ranges
    from regsim.store.archive import OciArchive
    from regsim.store.archive_writer import ArchiveWriter


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens addresses, with one connection pool for each registry, which lasts until `close`.

    Attributes:
        connection: how to connect to registries, and as whom.
        warn: receives warnings for the user; the work goes on; None: the log.
        ranges: how large blobs are divided when they are read; None: they are not.
    """

    connection: Connection
    warn: Callable[[str], None] | None = None
    ranges: Ranges | None = None
    _opened: dict[str, tuple[Transport, Registry]] = field(default_factory=dict)

    def source(self, address: Address) -> Readable:
        """Open an address for reading. Nothing is read yet."""
        if isinstance(address, Reference):
            return RegistryImages(self.repository(address), address)
        if not address.is_archive:
            return LocalImages(LayoutStore(address.path))
        from regsim.store.archive import OciArchive
        from regsim.store.docker_archive import DockerArchive

        docker = address.kind is Kind.DOCKER_ARCHIVE
        return LocalImages(DockerArchive(address.path) if docker else OciArchive(address.path))

    async def destination(
        self, address: Address, stack: AsyncExitStack, name: Reference | None = None
    ) -> tuple[Destination, ArchiveWriter | None]:
        """Open an address for writing.

        Args:
            address: where to write.
            stack: lasts as long as the transfer. It keeps images from being removed from a layout, and
                discards what an archive that was not committed has gathered.
            name: the image's name in an archive of docker's form, if `address` has none.

        Returns:
            The destination; and its archive, which appears when it is committed.
        """
        if isinstance(address, Reference):
            return RegistryDestination(self.repository(address, writes=True)), None
        if not address.is_archive:
            store = LayoutStore(address.path, create=True)
            await stack.enter_async_context(store.in_use())
            return LocalDestination(store), None
        from regsim.store.archive_writer import ArchiveWriter, DockerArchiveWriter

        writer = ArchiveWriter(address.path)
        if address.kind is Kind.DOCKER_ARCHIVE:
            writer = DockerArchiveWriter(
                address.path, Reference.parse(address.name) if address.name else name
            )
        stack.callback(writer.close)
        return LocalDestination(writer), writer

    def repository(self, reference: Reference, *, writes: bool = False) -> Repository:
        """Return the repository of a reference; `writes` as for `Repository`."""
        return self.registry(reference.host).repository(reference.repository, writes=writes)

    def registry(self, host: str) -> Registry:
        """Return a registry. No request is sent yet.

        Raises:
            InvalidReferenceError: `host` is not an address of a registry.
        """
        if host not in self._opened:
            transport = Transport(host, self.connection)
            self._opened[host] = (
                transport,
                Registry(transport, warn=self.warn or log_warning, ranges=self.ranges),
            )
        return self._opened[host][1]

    async def list_referrers(self, address: Address, found: Iterable[Referrer], account: Account) -> None:
        """List manifests that are there already as referrers of their subjects, where they are not listed.

        Raises:
            RegistryError, LocalFileError: the list cannot be read or written.
        """
        if isinstance(address, Reference):
            await self.repository(address, writes=True).list_missing_referrers(found, account)
        elif not address.is_archive:
            store = LayoutStore(address.path)
            for each in found:
                await store.tag(each.descriptor, each.descriptor.digest)

    async def close(self) -> None:
        """Close all connections."""
        while self._opened:
            await self._opened.popitem()[1][0].aclose()


class LocalImages(LocalSource):
    """A layout or an archive that is read from."""

    def __init__(self, store: LayoutStore | OciArchive) -> None:
        super().__init__(store)
        self._images = store
        self.documents = store.documents
        self._referrers: list[Referrer] | None = None

    async def resolve(self, reference: str, account: Account) -> Descriptor:  # noqa: ARG002, D102
        return await self._images.find(reference)

    async def referrers(
        self, subject: Digest, account: Account, artifact_type: str | None = None
    ) -> tuple[Descriptor, ...]:
        """Return what refers to a manifest: what is listed, and what its fallback tag lists."""
        if self._referrers is None:
            self._referrers = await self._all_referrers(account)
        found = [each.descriptor for each in self._referrers if each.subject == subject]
        tagged = await self._images.resolve(fallback_tag(subject))
        if tagged is not None and media_types.is_index(tagged.media_type):
            document = parse(tagged, await self.manifest(tagged, account))
            found += [each.descriptor for each in document.successors]
        wanted = [each for each in found if artifact_type in (None, each.artifact_type)]
        return tuple({each.digest: each for each in wanted}.values())

    async def _all_referrers(self, account: Account) -> list[Referrer]:
        found: list[Referrer | None] = []
        for descriptor in await self.documents():
            # A manifest that cannot be read is an error only if that manifest is requested.
            with suppress(RegsimError):
                found.append(referrer_of(descriptor, await self.manifest(descriptor, account)))
        return [each for each in found if each is not None]


class RegistryImages(RegistrySource):
    """A repository that is read from."""

    def __init__(self, repository: Repository, address: Reference) -> None:
        super().__init__(repository)
        self._address = address
        self.referrers = repository.referrers

    async def resolve(self, reference: str, account: Account) -> Descriptor:
        """Return what a tag or digest names.

        Raises:
            NotFoundError: it does not exist.
        """
        found = await super().resolve(reference, account)
        if found is None:
            raise NotFoundError(
                f"{self._address} does not exist",
                hint="the registry answers, but lacks it: check the name and the tag",
                codes=(MANIFEST_UNKNOWN,),
            )
        return found


Readable = LocalImages | RegistryImages
