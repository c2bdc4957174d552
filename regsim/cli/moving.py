"""What push, pull and copy do: opening both ends, moving, and remembering who holds what."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from regsim.cli.addresses import Address, Layout
from regsim.cli.ends import Ends
from regsim.cli.output import narrate
from regsim.oci import Digest, Reference, Role
from regsim.remote.holders import Holders, default_path
from regsim.result import Mode, Reconciliation, RunResult, TransferResult
from regsim.transfer.copy import Options, Transfer
from regsim.transfer.events import ignore
from regsim.transfer.holdings import Holdings
from regsim.transfer.ledger import Evidence, Outcome
from regsim.transfer.plan import PlannedDestination

if TYPE_CHECKING:
    from collections.abc import Callable

    from regsim.cli.transfer import Flags
    from regsim.transfer.ends import Destination, Source
    from regsim.transfer.ledger import Ledger


async def move(source: Address, destination: Address, flags: Flags) -> RunResult:
    """Do one transfer, or plan it, and return its result, also if it fails or is interrupted."""
    holders = Holders(default_path())
    async with AsyncExitStack() as stack:
        ends = Ends(stack=stack, plain_http=flags.plain_http, tls_verify=flags.tls_verify)
        reader, writer = await ends.source(source), await ends.destination(destination)
        if flags.dry_run:
            reader, writer = _planned(reader, writer)
        options = Options(
            jobs=flags.jobs,
            candidates=_candidates(source, destination, holders),
            listener=ignore if flags.quiet else narrate,
        )
        transfer = Transfer(
            reader,
            _wanted(source),
            writer,
            tag=_tag(source, destination),
            name=f"{source} to {destination}",
            options=options,
        )
        ledger, interrupted = await _finish(transfer)
    if not flags.dry_run:
        _remember(holders, source, destination, ledger)
    return RunResult(
        mode=Mode.PLAN if flags.dry_run else Mode.WIRE,
        transfers=(TransferResult(ledger=ledger),),
        reconciliation=Reconciliation.alone([ledger]),
        interrupted=interrupted,
    )


async def _finish(transfer: Transfer) -> tuple[Ledger, bool]:
    try:
        return await transfer.run(), False
    except asyncio.CancelledError:
        return transfer.ledger(), True


def _planned(source: Source, destination: Destination) -> tuple[Source, Destination]:
    present = Evidence.HEAD if destination.remote else Evidence.LOCAL
    return source, PlannedDestination(destination, Holdings(present=present), receives=source.remote)


def _wanted(source: Address) -> str:
    return (source.tag or "") if isinstance(source, Layout) else source.target


def _tag(source: Address, destination: Address) -> str | None:
    """Return what the image is to be called at its destination; a digest is its own name."""
    if isinstance(destination, Reference):
        return destination.tag
    return destination.tag or source.tag


def _candidates(
    source: Address, destination: Address, holders: Holders
) -> Callable[[Digest], tuple[str, ...]]:
    """Say where to mount from: first the repository that is copied from, then where the blob was seen."""
    if not isinstance(destination, Reference):
        return lambda _digest: ()
    known = holders.candidates
    host, repository = destination.host, destination.repository
    sibling = isinstance(source, Reference) and source.host == host

    def candidates(digest: Digest) -> tuple[str, ...]:
        first = (source.repository,) if sibling and isinstance(source, Reference) else ()
        return tuple(each for each in (*first, *known(host, digest)) if each != repository)

    return candidates


def _remember(holders: Holders, source: Address, destination: Address, ledger: Ledger) -> None:
    """Note which repositories are now known to hold which blobs."""
    if ledger.error is not None:
        return
    held = [
        entry.digest
        for entry in ledger.entries
        if entry.role in (Role.LAYER, Role.CONFIG) and entry.outcome is not Outcome.FOREIGN
    ]
    for address in (source, destination):
        if isinstance(address, Reference):
            holders.add(address.host, address.repository, held)
