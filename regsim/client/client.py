"""The client: one named coroutine for each thing that can be done with images and registries.

Owns the public face of the package. Must not know command lines or how anything is printed, and decides
nothing about a transfer.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from regsim.client import images
from regsim.client.addresses import (
    RECORD,
    Address,
    Archive,
    Layout,
    Local,
    local_store,
    parse,
    parse_destination,
)
from regsim.client.ends import Ends
from regsim.client.moving import Move, wanted
from regsim.client.reading import Layers
from regsim.core import Descriptor, Reference, media_types
from regsim.core.account import Account
from regsim.core.ledger import Direction
from regsim.core.manifest import parse as parse_manifest
from regsim.core.reference import check_tag
from regsim.errors import ContentError, NotFoundError, RegistryError, UsageError
from regsim.net.proxy import Proxy
from regsim.registry.connection import Connection
from regsim.registry.conversation import log_warning
from regsim.registry.login import AuthFiles
from regsim.registry.ranges import Ranges
from regsim.store.layout import LayoutStore
from regsim.store.memory import BytesContent
from regsim.transfer.copy import DEFAULT_JOBS
from regsim.transfer.events import ignore
from regsim.transfer.selection import EVERYTHING, Selection, select

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from regsim.client.ends import Readable
    from regsim.client.histories import Histories
    from regsim.client.images import Inspection
    from regsim.client.trees import ImageTree
    from regsim.core.image import Image
    from regsim.core.result import RunResult
    from regsim.image.store import Inventory, Removed
    from regsim.net.timeouts import Timeouts
    from regsim.net.trust import Trust
    from regsim.registry.login import Keychain
    from regsim.registry.transport import Network
    from regsim.transfer.events import Listener
    from regsim.transfer.selection import Choice

# distribution 2 deletes by digest only, and says so in one of these ways.
_NOT_BY_TAG = frozenset({400, 405})


class Client:
    """Moves images between registries and OCI layouts, and asks and tidies both.

    Addresses are text: `HOST[:PORT]/NAME[:TAG][@DIGEST]` with docker's defaults, `oci:DIR[:TAG]`,
    `oci-archive:FILE[:TAG]` or `docker-archive:FILE[:REPO:TAG]`; or what `regsim.client.addresses.parse`
    makes of it. Connections are kept and shared until `aclose`. Every
    coroutine may be awaited while others are under way.

    All raise `UsageError` for what is no address, before anything is asked, `NetworkError` where no whole
    answer came in spite of retries, `RegistryError` where a registry refused (`NotFoundError` where it lacks
    what was asked for), `ContentError` where bytes are not what names them, and `LocalFileError` for files.

    Args:
        jobs: blobs that one transfer moves at the same time.
        ranges: connections over which a blob of 32 MiB and more is read, 1 to 16. More than one pays where a
            registry limits each connection, and costs time where it does not.
        plain_http: speak plain HTTP to registries, or TLS; None: HTTP to those on this machine alone.
        trust: how certificates are judged; None: by the system's authorities.
        keychain: who has credentials, which are looked for when a registry asks; None: the auth files and
            helpers of this user, as podman, skopeo and docker have them.
        timeouts: of every wait, in seconds; None: the usual ones.
        transport: stands in for the network, such as `MockRegistry().transport()`; None: sockets. It is
            closed with the client.
        proxy: `http://[USER:PASSWORD@]HOST[:PORT]` of an HTTP proxy that all requests go through, or https
            where it speaks TLS itself; None: none, whatever the environment says.
        remember: try mounts from the repositories where blobs were seen before, and take note of where they
            are now, in the user's cache.
        warn: is told what the user should know though the work goes on; None: the log `regsim.registry`.
    """

    def __init__(
        self,
        *,
        jobs: int = DEFAULT_JOBS,
        ranges: int = 1,
        plain_http: bool | None = None,
        trust: Trust | None = None,
        keychain: Keychain | None = None,
        timeouts: Timeouts | None = None,
        transport: Network | None = None,
        proxy: str | None = None,
        remember: bool = True,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        if jobs < 1:
            raise UsageError(f"{jobs} jobs move nothing", hint="1 or more")
        self._jobs, self._remember = jobs, remember
        connection = Connection(
            plain_http=plain_http,
            trust=trust,
            keychain=keychain or AuthFiles(os.environ),
            timeouts=timeouts,
            transport=transport,
            proxy=None if proxy is None else Proxy.parse(proxy),
        )
        self._ends = Ends(connection, warn=warn or log_warning, ranges=Ranges(count=ranges))

    @classmethod
    def over(
        cls,
        connection: Connection,
        *,
        jobs: int = DEFAULT_JOBS,
        ranges: int = 1,
        warn: Callable[[str], None] | None = None,
    ) -> Self:
        """Return a client that connects as a `Connection` says; other arguments as for the constructor."""
        client = cls(jobs=jobs, ranges=ranges, warn=warn)
        client._ends = replace(client._ends, connection=connection)
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._ends.close()

    # Moving.

    async def push(
        self,
        source: str | Local,
        reference: str | Reference,
        *,
        dry_run: bool = False,
        check: bool = True,
        listener: Listener = ignore,
        choice: Choice = EVERYTHING,
    ) -> RunResult:
        """Push a local image to a registry and return the account of it.

        What is there already is not sent, and what another repository of the registry holds is mounted
        (distribution-spec, end-2, end-11); the rest is uploaded and the manifest put last (end-4, end-7).

        Args:
            source: `oci:DIR[:TAG]`.
            reference: where to, with a tag (`latest` if there is none).
            dry_run: ask everything, write nothing, and tell what would move.
            check: raise what went wrong, as `subprocess.run` does; else it stands in the result's `errors`,
                beside the account of what had been done until then.
            listener: is called with each event. It must return soon, and what it raises ends the transfer.
            choice: what of an index, such as `Choice.of("linux/amd64")`.

        Returns:
            The result, whose one transfer holds the ledger: an entry for each reference, sizes in bytes.

        Raises:
            asyncio.CancelledError: it was cancelled; nothing of it goes on. `move` keeps the account then.
        """
        move = self.move(
            source,
            reference,
            direction=Direction.PUSH,
            dry_run=dry_run,
            listener=listener,
            choice=choice,
        )
        return _checked(await move.run(), check=check)

    async def pull(
        self,
        reference: str | Reference,
        destination: str | Local | None = None,
        *,
        dry_run: bool = False,
        check: bool = True,
        listener: Listener = ignore,
        choice: Choice = EVERYTHING,
    ) -> RunResult:
        """Pull an image from a registry and return the account of it (distribution-spec, end-2, end-3).

        Args:
            reference: what to pull; a digest decides where there is a tag too.
            destination: `oci:DIR[:TAG]`, made if it is not there; None: the local store,
                `$XDG_DATA_HOME/regsim/store`.
            dry_run: as for `push`.
            check: as for `push`.
            listener: as for `push`.
            choice: as for `push`.
        """
        move = self.move(
            reference,
            destination,
            direction=Direction.PULL,
            dry_run=dry_run,
            listener=listener,
            choice=choice,
        )
        return _checked(await move.run(), check=check)

    async def copy(
        self,
        source: str | Address,
        destination: str | Address,
        *,
        dry_run: bool = False,
        check: bool = True,
        listener: Listener = ignore,
        choice: Choice = EVERYTHING,
        referrers: bool = False,
    ) -> RunResult:
        """Copy an image from anywhere to anywhere and return the account of it; arguments as for `push`.

        Args:
            source: from where.
            destination: to where.
            dry_run: as for `push`.
            check: as for `push`.
            listener: as for `push`.
            choice: as for `push`.
            referrers: take along what refers to it (signatures, bills of materials, attestations), and what
                refers to that: each has a transfer of its own in the result.
        """
        move = self.move(
            source,
            destination,
            dry_run=dry_run,
            listener=listener,
            choice=choice,
            referrers=referrers,
        )
        return _checked(await move.run(), check=check)

    def move(
        self,
        source: str | Address,
        destination: str | Address | None,
        *,
        direction: Direction = Direction.COPY,
        dry_run: bool = False,
        listener: Listener = ignore,
        choice: Choice = EVERYTHING,
        referrers: bool = False,
    ) -> Move:
        """Return a transfer that has not begun, for whoever wants its account also when it was cancelled.

        Args:
            source: from where.
            destination: to where; None is the local store, for a pull.
            direction: push takes a layout to a registry, pull the other way round, copy anything anywhere.
            dry_run: as for `push`.
            listener: as for `push`.
            choice: as for `push`.
            referrers: as for `copy`.

        Raises:
            UsageError: the addresses do not suit the direction, or not what refers to an image.
        """
        opened = parse(source) if isinstance(source, str) else source
        if destination is None:
            if direction is not Direction.PULL:
                raise UsageError(f"a {direction} needs a destination")
            destination = Layout(local_store(), str(opened))
        elif isinstance(destination, str):
            destination = parse_destination(destination)
        _check_direction(direction, opened, destination)
        return Move(
            self._ends,
            opened,
            destination,
            dry_run=dry_run,
            jobs=self._jobs,
            listener=listener,
            remember=self._remember,
            choice=choice,
            referrers=referrers,
        )

    # Asking.

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
        source, root = await self._open(address)
        manifest = root
        while media_types.is_index(manifest.media_type):
            manifest = _only_image(address, root, await source.manifest(manifest, Account()), manifest)
        config = parse_manifest(manifest, await source.manifest(manifest, Account())).config
        if config is None:
            raise ContentError(f"{address} has no config")
        return BytesContent(config, await images.read_config(source, config))

    async def inspect(self, address: str | Address) -> Inspection:
        """Return what an address names: of an index, each of its images; of each, its config and layers."""
        return await images.inspect(*await self._open(address))

    async def layers(self, address: str | Address, *, choice: Choice = EVERYTHING) -> tuple[Image, ...]:
        """Return each image that an address names, with its layers, base first.

        Args:
            address: what names an image or an index.
            choice: which images of an index.

        Raises:
            NotFoundError: there is none of a platform that was chosen.
        """
        source, root = await self._open(address)
        return await _chosen(source, root, choice, str(address))

    async def history(
        self, address: str | Address, *, choice: Choice = EVERYTHING, sizes: bool = False
    ) -> Histories:
        """Return the history of each image that an address names, base first (image-spec, config.md).

        A line tells what made a layer, how many bytes of files are in it and how many travel, and how many
        other images in view share it: of the layout or archive, of all records, or of what a reference names.

        Args:
            address: what names an image or an index; or `record:NAME`, a recorded image.
            choice: which images of an index.
            sizes: fetch the layers of a registry that the local store lacks, to measure and drop them; else
                their lines have None for a size.

        Raises:
            NotFoundError: there is none of a platform that was chosen.
        """
        from regsim.client.histories import histories, recorded_history  # noqa: PLC0415  (moving reads no tars)

        if isinstance(address, str) and address.startswith(RECORD):
            return await asyncio.to_thread(recorded_history, address.removeprefix(RECORD), choice)
        layers, found = await self._layers(address, choice)
        return await histories(layers, found, fetch=sizes)

    async def tree(self, address: str | Address, *, choice: Choice = EVERYTHING) -> ImageTree:
        """Return the files of an image, which layer each comes from, and what later layers hide of each.

        All layers are read; nothing is stored. `regsim.image.merged.places` lists a tree.

        Args:
            address: what names an image.
            choice: which image of an index, such as `Choice.of("linux/arm64")`.

        Raises:
            UsageError: the address names several images, or what has no files.
            ContentError: a layer is damaged or hostile; the file is named.
        """
        from regsim.client.trees import tree  # noqa: PLC0415  (moving reads no tars)

        if isinstance(address, str) and address.startswith(RECORD):
            raise UsageError(
                f"a record has no files: {address!r:.200}", hint="regsim history tells its layers"
            )
        layers, found = await self._layers(address, choice)
        return await tree(layers, found, str(address))

    async def referrers(
        self, address: str | Address, *, artifact_type: str | None = None
    ) -> tuple[Descriptor, ...]:
        """Return what refers to what an address names (end-12): signatures, bills of materials, attestations.

        A registry that keeps no such lists is asked for those that clients keep, under the fallback tag; a
        layout is searched.

        Args:
            address: what they refer to. A digest need not be there.
            artifact_type: only those of this type.

        Returns:
            Descriptors, with their artifact types and annotations.
        """
        place = parse(address) if isinstance(address, str) else address
        if isinstance(place, Reference) and place.digest is not None:
            return await self._ends.repository(place).referrers(place.digest, Account(), artifact_type)
        source, root = await self._open(place)
        return await source.referrers(root.digest, Account(), artifact_type)

    async def tags(self, repository: str | Address) -> tuple[str, ...]:
        """Return all tags of a repository in the registry's order, or of a layout, sorted (end-8).

        Args:
            repository: `HOST[:PORT]/NAME` or `oci:DIR`; what follows as tag or digest is an error.
        """
        place = _without_target(repository)
        if isinstance(place, Layout):
            return await LayoutStore(place.directory).tags()
        return await self._ends.repository(place).tags(Account())

    async def catalog(self, host: str) -> tuple[str, ...]:
        """Return the repositories of a registry that offers a catalog; the hubs do not.

        Args:
            host: `HOST[:PORT]`, or an http or https URL of one.
        """
        return await self._ends.registry(host).catalog(Account())

    # Tidying.

    async def tag(self, address: str | Address, tag: str) -> Descriptor:
        """Let another tag of the same repository or layout name what an address names (end-7).

        Returns:
            What the tag names now.
        """
        check_tag(tag)
        place = parse(address) if isinstance(address, str) else address
        source, root = await self._open(place)
        if isinstance(place, Archive):
            raise _unchanged(place)
        if isinstance(place, Layout):
            await LayoutStore(place.directory).tag(root, tag)
            return root
        raw = await source.manifest(root, Account())
        repository = self._ends.repository(place, writes=True)
        return await repository.put_manifest(raw, root.media_type, tag, Account(), digest=root.digest)

    async def delete(self, address: str | Address) -> None:
        """Delete a tag, or by digest a manifest with all its tags (end-9).

        Of a layout a tag is removed from its list; blobs stay.

        Raises:
            NotFoundError, LocalFileError: there is none.
            RegistryError: the registry does not delete, or not by tag, which the hint tells.
        """
        place = parse(address) if isinstance(address, str) else address
        if isinstance(place, Archive):
            raise _unchanged(place)
        if isinstance(place, Layout):
            if place.tag is None:
                raise UsageError(f"delete takes a tag: {str(place)!r}", hint="write oci:DIR:TAG")
            await LayoutStore(place.directory).untag(place.tag)
            return
        repository = self._ends.repository(place)
        try:
            await repository.delete_manifest(place.target, Account())
        except NotFoundError:
            raise
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
        from regsim.image.store import take_inventory  # noqa: PLC0415  (moving looks at no store as a whole)

        return await asyncio.to_thread(take_inventory, _store(store))

    async def remove(self, *images: str, store: str | Path | None = None) -> Removed:
        """Remove images from a store, by tag or by digest, and free what no other image there holds.

        Args:
            images: tags, references, digests or the beginnings of their digits; all are found before any is
                removed.
            store: as for `usage`.

        Raises:
            LocalFileError: there is no such image, or a transfer into that store is under way.
        """
        from regsim.image.store import remove  # noqa: PLC0415  (likewise)

        return await asyncio.to_thread(remove, _store(store), images)

    async def prune(self, store: str | Path | None = None, *, dry_run: bool = False) -> Removed:
        """Free what no image of a store holds: what was replaced, or left by interrupted pulls.

        Args:
            store: as for `usage`.
            dry_run: free nothing, and tell what would be freed.

        Raises:
            LocalFileError: a transfer into that store is under way.
        """
        from regsim.image.store import prune  # noqa: PLC0415  (likewise)

        return await asyncio.to_thread(prune, _store(store), dry_run=dry_run)

    async def _layers(self, address: str | Address, choice: Choice) -> tuple[Layers, tuple[Image, ...]]:
        place = parse(address) if isinstance(address, str) else address
        source, root = await self._open(place)
        return Layers(source, place), await _chosen(source, root, choice, str(place))

    async def _open(self, address: str | Address) -> tuple[Readable, Descriptor]:
        place = parse(address) if isinstance(address, str) else address
        source = await self._ends.source(place)
        found = await source.resolve(wanted(place), Account())
        if found is None:
            raise NotFoundError(f"{place} does not exist", hint="check the name and the tag")
        return source, found


def _store(store: str | Path | None) -> Path:
    return local_store() if store is None else Path(str(store).removeprefix("oci:"))


async def _chosen(source: Readable, root: Descriptor, choice: Choice, name: str) -> tuple[Image, ...]:
    selection = Selection(root)
    await select(source, selection, choice, name)
    found = (await images.inspect(source, selection.root)).images
    return tuple(each for each in found if selection.kept is None or each.digest in selection.kept)


def _checked(result: RunResult, *, check: bool) -> RunResult:
    if check and result.errors:
        raise result.errors[0]
    return result


def _check_direction(direction: Direction, source: Address, destination: Address) -> None:
    if direction is Direction.PUSH:
        if isinstance(source, Reference):
            raise UsageError(
                f"push takes a local image: {str(source)!r}", hint="write oci:DIR[:TAG], or use regsim copy"
            )
        if not isinstance(destination, Reference):
            raise UsageError(
                f"push goes to a registry: {str(destination)!r}",
                hint="write HOST/NAME:TAG, or use regsim copy",
            )
    if direction is Direction.PULL:
        if not isinstance(source, Reference):
            raise UsageError(
                f"pull takes an image of a registry: {str(source)!r}", hint="write HOST/NAME:TAG"
            )
        if isinstance(destination, Reference):
            raise UsageError(
                f"pull goes to this machine: {str(destination)!r}",
                hint="write oci:DIR[:TAG], or use regsim copy",
            )


def _unchanged(place: Archive) -> UsageError:
    return UsageError(
        f"an archive is written anew or not at all: {str(place)!r}", hint="regsim copy writes one"
    )


def _without_target(repository: str | Address) -> Layout | Reference:
    """Return a place without tag or digest.

    Raises:
        UsageError: it has one.
    """
    place = parse(repository) if isinstance(repository, str) else repository
    if isinstance(place, Archive):
        raise UsageError(f"tags are listed of a layout or a repository: {str(place)!r}", hint="write oci:DIR")
    if isinstance(place, Layout):
        if place.tag is not None:
            raise UsageError(f"tags are listed of a whole layout: {str(place)!r}", hint="write oci:DIR")
        return place
    named = repository.rpartition("/")[2] if isinstance(repository, str) else ""
    if place.digest is not None or ":" in named:
        raise UsageError(
            f"tags are listed of a repository: {str(repository)!r}",
            hint=f"write {place.host}/{place.repository}",
        )
    return place


def _only_image(address: str | Address, root: Descriptor, raw: bytes, index: Descriptor) -> Descriptor:
    children = [each.descriptor for each in parse_manifest(index, raw).successors]
    if len(children) == 1 and children[0].digest != root.digest:
        return children[0]
    names = ", ".join(f"{each.platform or 'unknown'}: {each.digest}" for each in children[:4])
    raise UsageError(
        f"{address} is an index of {len(children)} images, each with a config of its own",
        hint=f"name one by its digest: {names}" if children else "",
    )
