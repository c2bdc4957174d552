"""What push, pull and copy do: opening both ends, moving, and remembering who holds what."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from regsim.cli.addresses import Address, Layout
from regsim.cli.ends import Ends
from regsim.cli.output import narrate, status
from regsim.cli.planning import LabelledPlan
from regsim.errors import RegsimError
from regsim.oci import Digest, Reference, Role
from regsim.remote.account import Account
from regsim.remote.holders import Holders, default_path
from regsim.result import Reconciliation, RunResult, TransferResult
from regsim.transfer.copy import Options, Transfer
from regsim.transfer.events import ignore
from regsim.transfer.ledger import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from regsim.cli.transfer import Flags
    from regsim.transfer.ends import Source
    from regsim.transfer.ledger import Ledger


async def move(source: Address, destination: Address, flags: Flags) -> RunResult:
    """Do one transfer, or plan it, and return its result, also if it fails or is interrupted."""
    interrupted = False
    async with AsyncExitStack() as stack:
        transfer = await _open(source, destination, flags, stack)
        try:
            ledger = await transfer.run()
        except asyncio.CancelledError:
            ledger, interrupted = transfer.ledger(), True
    if not flags.dry_run:
        _remember(source, destination, ledger)
    return RunResult(
        mode=flags.mode,
        transfers=(TransferResult(ledger=ledger),),
        reconciliation=Reconciliation.alone([ledger]),
        interrupted=interrupted,
    )


async def _open(source: Address, destination: Address, flags: Flags, stack: AsyncExitStack) -> Transfer:
    warn = _ignore if flags.quiet else status
    ends = Ends(stack=stack, plain_http=flags.plain_http, tls_verify=flags.tls_verify, warn=warn)
    reader, writer = await ends.source(source), await ends.destination(destination)
    if flags.dry_run:
        writer = LabelledPlan(writer, receives=reader.remote)
    return Transfer(
        reader,
        _wanted(source),
        writer,
        tag=await _tag(source, destination, reader),
        name=f"{source} to {destination}",
        options=Options(
            jobs=flags.jobs,
            candidates=_candidates(source, destination),
            listener=ignore if flags.quiet else narrate,
        ),
    )


def _ignore(_line: str) -> None:
    """Tell nobody."""


def _wanted(source: Address) -> str:
    return (source.tag or "") if isinstance(source, Layout) else source.target


async def _tag(source: Address, destination: Address, reader: Source) -> str | None:
    """Return what the image is to be called at its destination."""
    tag = destination.tag or (source.tag if isinstance(destination, Layout) else None)
    if tag is not None or isinstance(destination, Reference):
        return tag
    # A digest is its own name, but a layout lists what it holds only if it is told that name.
    if isinstance(source, Reference):
        return source.digest
    try:
        found = await reader.resolve(_wanted(source), Account())
    except RegsimError:
        return None  # the transfer meets it again, and its ledger tells
    return found.digest if found else None


def _candidates(source: Address, destination: Address) -> Callable[[Digest], tuple[str, ...]]:
    """Say where to mount from: first the repository that is copied from, then where the blob was seen."""
    if not isinstance(destination, Reference):
        return lambda _digest: ()
    host, repository = destination.host, destination.repository
    sibling = isinstance(source, Reference) and source.host == host
    first = (source.repository,) if sibling and isinstance(source, Reference) else ()
    known = _HoldersReadOnce(default_path()).candidates

    def candidates(digest: Digest) -> tuple[str, ...]:
        return tuple(each for each in (*first, *known(host, digest)) if each != repository)

    return candidates


class _HoldersReadOnce(Holders):
    """The index as it is when a transfer first asks for it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._known: dict[Path, dict[str, list[str]]] = {}

    def _read(self, file: Path) -> dict[str, list[str]]:
        if file not in self._known:
            self._known[file] = super()._read(file)
        return self._known[file]


def _remember(source: Address, destination: Address, ledger: Ledger) -> None:
    """Note which repositories are now known to hold which blobs."""
    if ledger.error is not None:
        return
    held = [
        entry.digest
        for entry in ledger.entries
        if entry.role in (Role.LAYER, Role.CONFIG) and entry.outcome is not Outcome.FOREIGN
    ]
    holders = Holders(default_path())
    for address in (source, destination):
        if isinstance(address, Reference):
            holders.add(address.host, address.repository, held)
