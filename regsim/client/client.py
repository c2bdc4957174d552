"""The client: one named coroutine for each thing that can be done with images and registries.

Owns the public face of the package. Must not know command lines or how anything is printed, and decides
nothing about a transfer.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

from regsim.client.image_address import Address, Kind, Local, local_store, parse, parse_destination
from regsim.client.queries import Queries
from regsim.core.ledger import Direction
from regsim.core.schedule import DEFAULT_JOBS
from regsim.core.selection import EVERYTHING, Choice
from regsim.errors import UsageError
from regsim.net.address import Proxy
from regsim.registry import Connection
from regsim.registry.login import AuthFiles
from regsim.transfer.events import ignore

if TYPE_CHECKING:
    from collections.abc import Callable

    from regsim.client.move import Move
    from regsim.core import Reference
    from regsim.core.result import RunResult
    from regsim.net import Timeouts
    from regsim.net.trust import Trust
    from regsim.registry.login import Keychain
    from regsim.registry.transport import Network
    from regsim.transfer.events import Listener


class Client(Queries):
    """Moves images between registries, OCI layouts and archives, reads them, and deletes what is not needed.

    Addresses are text: `HOST[:PORT]/NAME[:TAG][@DIGEST]` with docker's defaults, `oci:DIR[:TAG]`,
    `oci-archive:FILE[:TAG]` or `docker-archive:FILE[:REPO:TAG]`; or what `regsim.client.image_address.parse`
    returns. Connections are kept and shared until `aclose`. Coroutines may run at the same time.

    All raise `UsageError` for text that is not an address, before any request; `NetworkError` if no complete
    answer came, in spite of retries; `RegistryError` if a registry refused (`NotFoundError` if it lacks what
    was requested); `ContentError` if bytes do not match their digest; and `LocalFileError` for files.

    Args:
        jobs: blobs that one transfer moves at the same time.
        ranges: connections over which a blob of 32 MiB or more is read, 1 to 16. More than one pays if a
            registry limits each connection, and costs time if it does not.
        plain_http: speak plain HTTP to registries, or TLS; None: HTTP to those on this machine alone.
        trust: how certificates are judged; None: by the system's authorities.
        keychain: finds credentials, when a registry asks for them; None: the auth files and helpers of this
            user, as podman, skopeo and docker have them.
        timeouts: of every wait, in seconds; None: the defaults.
        transport: replaces the network, such as `MockRegistry().transport()`; None: sockets. It is closed
            with the client.
        proxy: `http://[USER:PASSWORD@]HOST[:PORT]` of an HTTP proxy for all requests, or https if the proxy
            itself speaks TLS; None: no proxy, whatever the environment says.
        remember: try mounts from the repositories where blobs were seen before, and note where they are now,
            in the user's cache.
        warn: receives warnings for the user; the work goes on; None: the log `regsim.registry`.
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
            raise UsageError(f"{jobs} jobs move nothing", hint="write 1 or more")
        self._jobs, self._remember = jobs, remember
        connection = Connection(
            plain_http=plain_http,
            trust=trust,
            keychain=keychain or AuthFiles(os.environ),
            timeouts=timeouts,
            transport=transport,
            proxy=None if proxy is None else Proxy.parse(proxy),
        )
        super().__init__(connection, ranges=ranges, warn=warn)

    @classmethod
    def over(
        cls,
        connection: Connection,
        *,
        jobs: int = DEFAULT_JOBS,
        ranges: int = 1,
        warn: Callable[[str], None] | None = None,
    ) -> Self:
        """Return a client that connects as `connection` says; other arguments as for the constructor."""
        client = cls(jobs=jobs, ranges=ranges, warn=warn)
        client._connection = connection
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

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
        """Push a local image to a registry and return the result, which holds the ledger.

        What is there already is not sent, and what another repository of the registry holds is mounted
        (distribution-spec, end-2, end-11); the rest is uploaded and the manifest put last (end-4, end-7).

        Args:
            source: a layout or an archive.
            reference: where to, with a tag (`latest` if there is none).
            dry_run: ask everything, write nothing, and report what would move.
            check: raise what went wrong, as `subprocess.run` does; if False it is in the result's `errors`,
                with the ledger of what had been done until then.
            listener: is called with each event. It must return soon, and what it raises ends the transfer.
            choice: which images of an index, such as `Choice.of("linux/amd64")`.

        Returns:
            The result, whose one transfer holds the ledger: an entry for each reference, sizes in bytes.

        Raises:
            asyncio.CancelledError: it was cancelled; nothing of it goes on. `move` keeps the ledger then.
        """
        move = self.move(
            source, reference, direction=Direction.PUSH, dry_run=dry_run, listener=listener, choice=choice
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
        """Pull an image from a registry (distribution-spec, end-2, end-3).

        Args:
            reference: what to pull; a digest wins over a tag.
            destination: a layout, made if it does not exist, or an archive; None: the local store,
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
        """Copy an image from any place to any other.

        Args:
            source: where the image is.
            destination: where it goes.
            dry_run: as for `push`.
            check: as for `push`.
            listener: as for `push`.
            choice: as for `push`.
            referrers: also copy what refers to it (signatures, bills of materials, attestations), and what
                refers to that: each has a transfer of its own in the result.
        """
        move = self.move(
            source, destination, dry_run=dry_run, listener=listener, choice=choice, referrers=referrers
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
        """Return a transfer that has not begun, whose ledger can be read even after it was cancelled.

        Args:
            source: where the image is.
            destination: where it goes; None is the local store, for a pull.
            direction: a push goes from this machine to a registry, a pull the other way; a copy goes from
                anywhere to anywhere.
            dry_run: as for `push`.
            listener: as for `push`.
            choice: as for `push`.
            referrers: as for `copy`.

        Raises:
            UsageError: the addresses do not suit the direction, or cannot hold what refers to an image.
        """
        from regsim.client.move import Move, check_direction
        from regsim.transfer.copy import Options

        opened = parse(source) if isinstance(source, str) else source
        if destination is None:
            if direction is not Direction.PULL:
                raise UsageError(f"a {direction} needs a destination")
            destination = Local(Kind.LAYOUT, local_store(), str(opened))
        elif isinstance(destination, str):
            destination = parse_destination(destination)
        check_direction(direction, opened, destination)
        options = Options(jobs=self._jobs, listener=listener, choice=choice)
        return Move(
            self._opener,
            opened,
            destination,
            options,
            dry_run=dry_run,
            remember=self._remember,
            referrers=referrers,
        )


def _checked(result: RunResult, *, check: bool) -> RunResult:
    if check and result.errors:
        raise result.errors[0]
    return result
