"""`regsim push`, `pull` and `copy`: one transfer with its ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from regsim.cli.connecting import CONNECTING, Connecting
from regsim.cli.output import Platforms, Printing, check_outputs
from regsim.cli.progress import Display, ProgressKind, display
from regsim.cli.running import Wanted, conclude, failing, run
from regsim.client.image_address import registries
from regsim.core.ledger import Direction
from regsim.core.result import Mode, RunResult
from regsim.core.schedule import DEFAULT_JOBS
from regsim.core.selection import Choice
from regsim.errors import ExitCode, UsageError
from regsim.transfer.events import ignore

if TYPE_CHECKING:
    from regsim.client.client import Client
    from regsim.client.move import Move


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Flags(Printing):
    """What push, pull and copy have in common.

    Attributes:
        dry_run: ask the registry, write nothing, and report what would move.
        jobs: blobs moved at the same time.
        progress: how progress is shown on standard error: auto, bar, plain, none or json.
        quiet: print nothing but the ledger and errors.
        platform: move only this image of an index: OS/ARCH[/VARIANT]. Several, separated by commas or each
            with a flag of its own, are moved with the index.
        sparse: move the index with a single image too; a registry may refuse an index that names others.
    """

    dry_run: Annotated[bool, Parameter(negative=())] = False
    jobs: Annotated[int, Parameter(name=("--jobs", "-j"))] = DEFAULT_JOBS
    progress: ProgressKind = "auto"
    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"), negative=())] = False
    platform: Platforms = ()
    sparse: Annotated[bool, Parameter(negative=())] = False


_FLAGS = Flags()


def push(src: str, ref: str, /, *, flags: Flags = _FLAGS, connecting: Connecting = CONNECTING) -> ExitCode:
    """Push an image to a registry and print which layers moved.

    Args:
        src: oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:REPO:TAG].
        ref: HOST[:PORT]/NAME[:TAG].
        flags: see below.
        connecting: see below.
    """
    return _move(Direction.PUSH, src, ref, flags, connecting)


def pull(
    ref: str,
    dst: str | None = None,
    /,
    *,
    ranges: int = 1,
    flags: Flags = _FLAGS,
    connecting: Connecting = CONNECTING,
) -> ExitCode:
    """Pull an image from a registry and print which layers moved.

    Args:
        ref: HOST[:PORT]/NAME[:TAG][@DIGEST].
        dst: oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:REPO:TAG]; the local store if left
            out.
        ranges: connections for one large blob, 1 to 16; faster if the registry limits each connection.
        flags: see below.
        connecting: see below.
    """
    return _move(Direction.PULL, ref, dst, flags, connecting, ranges=ranges)


def copy(
    src: str,
    dst: str,
    /,
    *,
    src_creds: str | None = None,
    dest_creds: str | None = None,
    referrers: Annotated[bool, Parameter(negative=())] = False,
    ranges: int = 1,
    flags: Flags = _FLAGS,
    connecting: Connecting = CONNECTING,
) -> ExitCode:
    """Copy an image between registries, layouts and archives and print which layers moved.

    Args:
        src: HOST[:PORT]/NAME[:TAG][@DIGEST], oci:DIR[:TAG], oci-archive:FILE[:TAG] or
            docker-archive:FILE[:REPO:TAG].
        dst: HOST[:PORT]/NAME[:TAG], or one of the others.
        src_creds: USER[:PASSWORD] at the registry that is read from.
        dest_creds: USER[:PASSWORD] at the registry that is written to.
        referrers: also copy what refers to the image, such as signatures, and what refers to that.
        ranges: connections for one large blob, 1 to 16; faster if the registry limits each connection.
        flags: see below.
        connecting: see below.
    """
    given = (("--src-creds", src, src_creds), ("--dest-creds", dst, dest_creds))
    return _move(Direction.COPY, src, dst, flags, connecting, creds=given, referrers=referrers, ranges=ranges)


def _move(
    direction: Direction,
    source: str,
    destination: str | None,
    flags: Flags,
    connecting: Connecting,
    *,
    creds: Iterable[tuple[str, str, str | None]] = (),
    referrers: bool = False,
    ranges: int = 1,
) -> ExitCode:
    wanted = Wanted(printing=flags)
    with failing(wanted, Mode.PLAN if flags.dry_run else Mode.WIRE):
        if flags.sparse and not flags.platform:
            raise UsageError("--sparse needs --platform", hint="name by --platform what to keep of the index")
        shown = display(flags.progress, quiet=flags.quiet)
        hosts = registries(source, *([] if destination is None else [destination]))
        connection = connecting.connection(*hosts, creds=_by_host(creds))
        from regsim.client.client import Client  # noqa: PLC0415  (--help needs no HTTP client)

        client = Client.over(connection, jobs=flags.jobs, ranges=ranges, warn=shown.warn)
        move = client.move(
            source,
            destination,
            direction=direction,
            dry_run=flags.dry_run,
            # A dry run moves nothing, so it has no progress.
            listener=ignore if flags.dry_run else shown.show,
            choice=Choice.of(*flags.platform, sparse=flags.sparse),
            referrers=referrers,
        )
        check_outputs(flags.output)
    return conclude([run(_run(client, move, shown))], wanted)


def _by_host(given: Iterable[tuple[str, str, str | None]]) -> dict[str, str]:
    """Return credentials by host.

    Args:
        given: flags, the addresses that they are for, and their values.

    Raises:
        UsageError: an address is not in a registry, or two users of one registry are given.
    """
    found: dict[str, str] = {}
    for flag, address, creds in given:
        if creds is None:
            continue
        if not (hosts := registries(address)):
            raise UsageError(f"{flag} are for a registry, not for {address!r}", hint=f"leave out {flag}")
        if found.setdefault(hosts[0], creds) != creds:
            raise UsageError(f"two users of {hosts[0]} at once", hint="copy as one who may do both")
    return found


async def _run(client: Client, move: Move, shown: Display) -> RunResult:
    """Do a transfer and return its result, also if it fails or is interrupted."""
    async with client:
        try:
            return await move.run()
        except asyncio.CancelledError:
            return move.result(interrupted=True)
        finally:
            shown.close()
