"""One push, pull or copy: opening both ends, moving, and remembering who holds what.

Owns what a transfer between two addresses needs beside the transfer itself: its name, its tag, where to mount
from, and a plan in the destination's place. Must not know command lines, nor how anything is printed.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from regsim.client.addresses import Address, Archive, ArchiveKind
from regsim.client.ends import ArchiveDestination
from regsim.client.planning import LabelledPlan
from regsim.errors import RegsimError
from regsim.oci import Digest, Reference, Role
from regsim.remote.account import Account
from regsim.remote.holders import Holders, default_path
from regsim.result import Mode, Reconciliation, RunResult, TransferResult
from regsim.transfer.copy import Options, Transfer
from regsim.transfer.ledger import Direction, Ledger, Outcome
from regsim.transfer.machine import no_candidates
from regsim.transfer.selection import EVERYTHING, Choice

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regsim.client.ends import Ends
    from regsim.transfer.ends import Source
    from regsim.transfer.events import Listener


class Move:
    """One transfer between two addresses; `run` it once, and read its `result` at any moment.

    Args:
        ends: opens both.
        source: from where.
        destination: to where.
        dry_run: ask everything, write nothing.
        jobs: blobs moved at the same time.
        listener: is told each event.
        remember: mount from where blobs were seen before, and take note of where they are now.
        choice: what of it.
    """

    def __init__(
        self,
        ends: Ends,
        source: Address,
        destination: Address,
        *,
        dry_run: bool,
        jobs: int,
        listener: Listener,
        remember: bool,
        choice: Choice = EVERYTHING,
    ) -> None:
        self._choice = choice
        self._ends, self._source, self._destination = ends, source, destination
        self._dry_run, self._jobs, self._listener, self._remember = dry_run, jobs, listener, remember
        self._transfer: Transfer | None = None
        self._archive: ArchiveDestination | None = None
        self._error: RegsimError | None = None

    async def run(self) -> RunResult:
        """Do it, or plan it; what went wrong with the transfer stands in the result.

        Raises:
            asyncio.CancelledError: it was cancelled; `result` tells what had been done.
            UsageError, LocalFileError: an end cannot be opened.
        """
        async with AsyncExitStack() as stack:
            self._transfer = await self._open(stack)
            ledger = await self._transfer.run()
            if ledger.error is None and self._archive is not None:
                await self._commit(self._archive)
        if self._remember and not self._dry_run:
            await asyncio.to_thread(_note, self._source, self._destination, ledger)
        return self.result()

    def result(self, *, interrupted: bool = False) -> RunResult:
        """Return the account of it as it stands.

        Args:
            interrupted: it was stopped from outside, and the result shall say so.
        """
        ledger = self._transfer.ledger() if self._transfer is not None else self._blank()
        if self._error is not None:
            ledger = replace(ledger, error=self._error)
        return RunResult(
            mode=Mode.PLAN if self._dry_run else Mode.WIRE,
            transfers=(TransferResult(ledger=ledger),),
            reconciliation=Reconciliation.alone([ledger]),
            interrupted=interrupted,
        )

    async def _commit(self, archive: ArchiveDestination) -> None:
        try:
            await archive.commit()
        except RegsimError as error:
            self._error = error

    @property
    def _name(self) -> str:
        return f"{self._source} to {self._destination}"

    def _blank(self) -> Ledger:
        sends, receives = (isinstance(end, Reference) for end in (self._destination, self._source))
        direction = Direction.between(from_registry=receives, to_registry=sends)
        return Ledger(direction=direction, reference=self._name, sends=sends, receives=receives)

    async def _open(self, stack: AsyncExitStack) -> Transfer:
        reader = await self._ends.source(self._source)
        writer = await self._ends.destination(self._destination, stack, _image_name(self._source))
        if self._dry_run:
            writer = LabelledPlan(writer, receives=reader.remote)
        elif isinstance(writer, ArchiveDestination):
            self._archive = writer
            stack.callback(writer.discard)
        candidates = _candidates(self._source, self._destination, remember=self._remember)
        return Transfer(
            reader,
            wanted(self._source),
            writer,
            tag=await _tag(self._source, self._destination, reader),
            name=self._name,
            options=Options(
                jobs=self._jobs,
                candidates=candidates,
                listener=self._listener,
                choice=replace(self._choice, single=_holds_one(self._destination)),
            ),
        )


def wanted(address: Address) -> str:
    """Return what is asked for at an address: a name or digest; here, nothing means the only image."""
    if isinstance(address, Reference):
        return address.target
    return (address.name if isinstance(address, Archive) else address.tag) or ""


def _holds_one(address: Address) -> bool:
    return isinstance(address, Archive) and address.kind is ArchiveKind.DOCKER


def _image_name(source: Address) -> Reference | None:
    """Return what docker calls the image where it comes from."""
    if isinstance(source, Reference):
        return replace(source, digest=None) if source.tag else None
    named = isinstance(source, Archive) and source.kind is ArchiveKind.DOCKER and source.name
    return Reference.parse(named) if named else None


async def _tag(source: Address, destination: Address, reader: Source) -> str | None:
    """Return what the image is to be called at its destination."""
    tag = destination.tag or (None if isinstance(destination, Reference) else source.tag)
    if tag is not None or isinstance(destination, Reference):
        return tag
    # A digest is its own name, but a layout or archive lists what it holds only if it is told that name.
    if isinstance(source, Reference):
        return source.digest
    try:
        found = await reader.resolve(wanted(source), Account())
    except RegsimError:
        return None  # the transfer meets it again, and its ledger tells
    return found.digest if found else None


def _candidates(
    source: Address, destination: Address, *, remember: bool
) -> Callable[[Digest], tuple[str, ...]]:
    """Say where to mount from: first the repository that is copied from, then where the blob was seen."""
    if not isinstance(destination, Reference):
        return no_candidates
    host, repository = destination.host, destination.repository
    sibling = isinstance(source, Reference) and source.host == host
    first = (source.repository,) if sibling and isinstance(source, Reference) else ()
    known = _HoldersReadOnce(default_path()) if remember else None

    def candidates(digest: Digest) -> tuple[str, ...]:
        seen = known.candidates(host, digest) if known is not None else ()
        return tuple(each for each in (*first, *seen) if each != repository)

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


def _note(source: Address, destination: Address, ledger: Ledger) -> None:
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
