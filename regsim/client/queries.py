"""What is read, tagged and deleted by address: documents, layers, histories, file trees, tags, whole stores.

Owns these calls, each of which imports what it alone needs. Must not know how anything is printed.
"""

from __future__ import annotations

import asyncio
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from regsim.client.image_address import RECORD, Address, Local, local_store, parse
from regsim.core import Descriptor, Reference
from regsim.core.account import Account
from regsim.core.reference import check_tag
from regsim.core.selection import EVERYTHING, Choice
from regsim.errors import RegistryError, UsageError
from regsim.store.layout import LayoutStore
from regsim.store.memory import BytesContent

if TYPE_CHECKING:
    from collections.abc import Callable

    from regsim.client.contents import Histories, ImageTree
    from regsim.client.inspection import Inspection
    from regsim.client.opener import Opener, Readable
    from regsim.core.image import Image
    from regsim.image.store import Inventory, Removed
    from regsim.registry import Connection
    from regsim.registry.ranges import Ranges

# distribution 2 deletes by digest only, and says so in one of these ways.
_NOT_BY_TAG = frozenset({400, 405})


class Queries:
    """Reads, tags and deletes what addresses name; see `Client`, which is one."""

    def __init__(
        self, connection: Connection, *, ranges: int = 1, warn: Callable[[str], None] | None = None
    ) -> None:
        self._connection, self._warn = connection, warn
        self._ranges: Ranges | None = None
        if ranges != 1:
            from regsim.registry.ranges import Ranges

            self._ranges = Ranges(count=ranges)

    @cached_property
    def _opener(self) -> Opener:
        from regsim.client.opener import Opener

        return Opener(self._connection, self._warn, self._ranges)

    async def aclose(self) -> None:
        """Close all connections."""
        if "_opener" in vars(self):
            await self._opener.close()

    async def resolve(self, address: str | Address) -> Descriptor:
        """Return media type, digest and size in bytes of what an address names (end-3)."""
        return (await self._open(address))[1]

    async def manifest(self, address: str | Address) -> BytesContent:
        """Return a manifest or index: its descriptor, and in `data` its exact bytes, verified (end-3)."""
        source, root = await self._open(address)
        return BytesContent(root, await source.manifest(root, Account()))

    async def config(self, address: str | Address) -> BytesContent:
        """Return the config of an image: its descriptor, and in `data` its exact bytes, verified.

        Raises:
            UsageError: the address names an index of several images.
        """
        from regsim.client.inspection import only_config

        return await only_config(*await self._open(address), str(address))

    async def inspect(self, address: str | Address) -> Inspection:
        """Return what an address names: each image of an index, and the config and layers of each."""
        from regsim.client.inspection import inspect

        return await inspect(*await self._open(address))

    async def layers(self, address: str | Address, *, choice: Choice = EVERYTHING) -> tuple[Image, ...]:
        """Return each image that an address names, with its layers, base first.

        Args:
            address: of an image or an index.
            choice: which images of an index.

        Raises:
            NotFoundError: there is no image for a platform that was chosen.
        """
        from regsim.client.inspection import chosen

        return await chosen(*await self._open(address), choice, str(address))

    async def history(
        self, address: str | Address, *, choice: Choice = EVERYTHING, sizes: bool = False
    ) -> Histories:
        """Return the history of each image that an address names, base first (image-spec, config.md).

        A line tells what made a layer, how many bytes of files are in it and how many travel, and how many
        other images in view share it: those of the layout or archive, all records, or what a reference names.

        Args:
            address: of an image or an index; or `record:NAME`, a recorded image.
            choice: which images of an index.
            sizes: fetch the layers of a registry that the local store lacks, to measure and drop them; if
                False their lines have None for a size.

        Raises:
            NotFoundError: there is no image for a platform that was chosen.
        """
        from regsim.client.contents import histories, recorded_history

        if isinstance(address, str) and address.startswith(RECORD):
            return await asyncio.to_thread(recorded_history, address.removeprefix(RECORD), choice)
        source, root = await self._open(address)
        return await histories(source, _parsed(address), root, choice, fetch=sizes)

    async def tree(self, address: str | Address, *, choice: Choice = EVERYTHING) -> ImageTree:
        """Return the files of an image, which layer each comes from, and what later layers hide of each.

        All layers are read; nothing is stored. `regsim.image.merged.places` lists a tree.

        Args:
            address: of an image.
            choice: which image of an index, such as `Choice.of("linux/arm64")`.

        Raises:
            UsageError: the address names several images, or something without files.
            ContentError: a layer is damaged or hostile; the file is named.
        """
        from regsim.client.contents import tree

        source, root = await self._open(address)
        return await tree(source, _parsed(address), root, choice)

    async def referrers(
        self, address: str | Address, *, artifact_type: str | None = None
    ) -> tuple[Descriptor, ...]:
        """Return what refers to what an address names (end-12): signatures, bills of materials, attestations.

        If a registry keeps no such lists, the list that clients keep under the fallback tag is read; a layout
        is searched.

        Args:
            address: what they refer to. A digest need not be there.
            artifact_type: only those of this type.

        Returns:
            Descriptors, with their artifact types and annotations.
        """
        place = _parsed(address)
        if isinstance(place, Reference) and place.digest is not None:
            return await self._opener.repository(place).referrers(place.digest, Account(), artifact_type)
        source, root = await self._open(place)
        return await source.referrers(root.digest, Account(), artifact_type)

    async def tags(self, repository: str | Address) -> tuple[str, ...]:
        """Return all tags of a repository in the registry's order, or of a layout, sorted (end-8).

        Args:
            repository: `HOST[:PORT]/NAME` or `oci:DIR`.

        Raises:
            UsageError: it has a tag or digest, or is an archive.
        """
        place = _parsed(repository)
        if isinstance(place, Local):
            if place.is_archive or place.name is not None:
                raise UsageError(f"tags are listed of a whole layout: {str(place)!r}", hint="write oci:DIR")
            return await LayoutStore(place.path).tags()
        # A tag that was not written is `latest` by now.
        written = repository.rpartition("/")[2] if isinstance(repository, str) else ""
        if place.digest is not None or ":" in written:
            raise UsageError(
                f"tags are listed of a repository: {str(repository)!r}",
                hint=f"write {place.host}/{place.repository}",
            )
        return await self._opener.repository(place).tags(Account())

    async def catalog(self, host: str) -> tuple[str, ...]:
        """Return the repositories of a registry that offers a catalog; the hubs do not.

        Args:
            host: `HOST[:PORT]`, or an http or https URL of one.
        """
        return await self._opener.registry(host).catalog(Account())

    # Tagging and deleting.

    async def tag(self, address: str | Address, tag: str) -> Descriptor:
        """Let another tag of the same repository or layout name what an address names (end-7).

        Returns:
            What the tag names now.
        """
        check_tag(tag)
        place = _parsed(address)
        source, root = await self._open(place)
        if isinstance(place, Local):
            await _layout(place).tag(root, tag)
            return root
        raw = await source.manifest(root, Account())
        repository = self._opener.repository(place, writes=True)
        return await repository.put_manifest(raw, root.media_type, tag, Account(), digest=root.digest)

    async def delete(self, address: str | Address) -> None:
        """Delete a tag, or by digest a manifest with all its tags (end-9).

        In a layout the tag is removed from the list; blobs stay.

        Raises:
            NotFoundError, LocalFileError: it does not exist.
            RegistryError: the registry does not delete; or not by tag, and then the hint names the digest.
        """
        place = _parsed(address)
        if isinstance(place, Local):
            store = _layout(place)
            if place.name is None:
                raise UsageError(f"delete takes a tag: {str(place)!r}", hint="write oci:DIR:TAG")
            await store.untag(place.name)
            return
        repository = self._opener.repository(place)
        try:
            await repository.delete_manifest(place.target, Account())
        except RegistryError as error:
            if place.digest is None and error.status in _NOT_BY_TAG:
                found = await repository.resolve(place.target, Account())
                if found is not None:
                    error.hint = (
                        "if it deletes by digest only, this takes all tags of the image: "
                        f"{place.host}/{place.repository}@{found.digest}"
                    )
            raise

    # The local store, or any other layout.

    async def usage(self, store: str | Path | None = None) -> Inventory:
        """Return what each image of a store holds, shares with others, and would free.

        Args:
            store: a layout's directory; None: the local store.
        """
        from regsim.image.store import take_inventory

        return await asyncio.to_thread(take_inventory, _store(store))

    async def remove(self, *images: str, store: str | Path | None = None) -> Removed:
        """Remove images from a store, by tag or by digest, and free what no other image there holds.

        Args:
            images: tags, references, digests or the beginnings of their digits; all are found before any is
                removed.
            store: as for `usage`.

        Raises:
            LocalFileError: there is no such image, or a transfer into that store is running.
        """
        from regsim.image.store import remove

        return await asyncio.to_thread(remove, _store(store), images)

    async def prune(self, store: str | Path | None = None, *, dry_run: bool = False) -> Removed:
        """Free what no image of a store holds: what was replaced, or left by interrupted pulls.

        Args:
            store: as for `usage`.
            dry_run: free nothing, and report what would be freed.

        Raises:
            LocalFileError: a transfer into that store is running.
        """
        from regsim.image.store import prune

        return await asyncio.to_thread(prune, _store(store), dry_run=dry_run)

    async def _open(self, address: str | Address) -> tuple[Readable, Descriptor]:
        place = _parsed(address)
        source = self._opener.source(place)
        return source, await source.resolve(place.target, Account())


def _parsed(address: str | Address) -> Address:
    return parse(address) if isinstance(address, str) else address


def _layout(place: Local) -> LayoutStore:
    """Return the layout whose list of images is to be changed."""
    if place.is_archive:
        raise UsageError(f"an archive cannot be changed: {str(place)!r}", hint="regsim copy writes a new one")
    return LayoutStore(place.path)


def _store(store: str | Path | None) -> Path:
    return local_store() if store is None else Path(str(store).removeprefix("oci:"))
