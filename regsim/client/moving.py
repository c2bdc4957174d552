"""One push, pull or copy: opening both ends, moving, and remembering who holds what.

Owns what a transfer between two addresses needs beside the transfer itself: its name, its tag, where to mount
from, and a plan in the destination's place. Must not know command lines, nor how anything is printed.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

from regsim.client.addresses import Address, Archive, ArchiveKind, Layout
from regsim.client.following import Following
from regsim.client.planning import LabelledPlan
from regsim.core import Digest, Reference, Role
from regsim.core.account import Account
from regsim.core.ledger import Direction, Ledger, Outcome
from regsim.core.machine import no_candidates
from regsim.core.result import Mode, Reconciliation, RunResult, TransferResult
from regsim.errors import RegsimError, UsageError
from regsim.registry.holders import Holders, default_path
from regsim.transfer.copy import Options, Transfer
from regsim.transfer.selection import EVERYTHING, Choice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from regsim.client.archives import ArchiveDestination
    from regsim.client.ends import Ends, Readable
    from regsim.core.manifest import Referrer
    from regsim.transfer.ends import Destination
    from regsim.transfer.events import Listener


@dataclass(slots=True)
class _Part:
    """A transfer, what it took to ask what refers to it, and what went wrong after it."""

    transfer: Transfer
    asked: Account = field(default_factory=Account)
    error: RegsimError | None = None

    def ledger(self) -> Ledger:
        """Return the account of all that."""
        ledger = self.transfer.ledger()
        beside = [(None, self.asked), *self.asked.beside] if self.asked.requests else []
        return replace(ledger, beside=(*ledger.beside, *beside), error=ledger.error or self.error)


class Move:
    """One transfer between two addresses; `run` it once, and read its `result` at any moment.

    What refers to an image, if that is to be taken along, follows it in transfers of its own.

    Args:
        ends: opens both.
        source: from where.
        destination: to where.
        dry_run: ask everything, write nothing.
        jobs: blobs moved at the same time.
        listener: is told each event.
        remember: mount from where blobs were seen before, and take note of where they are now.
        choice: what of it.
        referrers: take along what refers to it, and what refers to that.

    Raises:
        UsageError: the destination has no room for what refers to an image.
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
        referrers: bool = False,
    ) -> None:
        if referrers and _holds_one(destination):
            raise UsageError(
                f"an archive of docker's holds nothing that refers to an image: {str(destination)!r}",
                hint="write an oci-archive:, which holds it all",
            )
        self._choice, self._follows = choice, referrers
        self._ends, self._source, self._destination = ends, source, destination
        self._dry_run, self._jobs, self._listener, self._remember = dry_run, jobs, listener, remember
        self._parts: list[_Part] = []

    async def run(self) -> RunResult:
        """Do it, or plan it; what went wrong with the transfer stands in the result.

        Raises:
            asyncio.CancelledError: it was cancelled; `result` tells what had been done.
            UsageError, LocalFileError: an end cannot be opened.
        """
        async with AsyncExitStack() as stack:
            reader = await self._ends.source(self._source)
            writer = await self._ends.destination(self._destination, stack, _image_name(self._source))
            archive: ArchiveDestination | None = None
            if isinstance(self._destination, Archive) and not self._dry_run:
                archive = cast("ArchiveDestination", writer)
            if archive is not None:
                stack.callback(archive.discard)
            if self._dry_run:
                writer = LabelledPlan(writer, receives=reader.remote)
            await self._do(reader, writer)
            if archive is not None and not any(ledger.error for ledger in self._ledgers):
                await self._commit(archive)
        if self._remember and not self._dry_run:
            await asyncio.to_thread(_note, self._source, self._destination, self._ledgers)
        return self.result()

    def result(self, *, interrupted: bool = False) -> RunResult:
        """Return the account of it as it stands.

        Args:
            interrupted: it was stopped from outside, and the result shall say so.
        """
        ledgers = self._ledgers or [self._blank()]
        return RunResult(
            mode=Mode.PLAN if self._dry_run else Mode.WIRE,
            transfers=tuple(TransferResult(ledger=ledger) for ledger in ledgers),
            reconciliation=Reconciliation.alone(ledgers),
            interrupted=interrupted,
        )

    @property
    def _ledgers(self) -> list[Ledger]:
        return [part.ledger() for part in self._parts]

    async def _do(self, reader: Readable, writer: Destination) -> None:
        """Transfer the image, and what refers to it."""
        options = Options(
            jobs=self._jobs,
            candidates=_candidates(self._source, self._destination, remember=self._remember),
            listener=self._listener,
            choice=replace(self._choice, single=_holds_one(self._destination)),
        )
        tag = await _tag(self._source, self._destination, reader)
        image = Transfer(reader, wanted(self._source), writer, tag=tag, name=self._name, options=options)
        self._parts.append(_Part(image))
        if (await image.run()).error is None and self._follows:
            await self._follow(reader, writer, replace(options, choice=EVERYTHING))

    async def _follow(self, reader: Readable, writer: Destination, options: Options) -> None:
        following = Following(reader)
        for part in self._parts:  # which become more on the way
            try:
                found = await following.of(part.ledger(), part.asked)
                held: list[Referrer] = []
                for each in found:
                    digest = each.descriptor.digest
                    name = f"{_at(self._source, digest)} to {_at(self._destination, digest)}"
                    # Its own digest as its name lists it where nothing else would: in a layout.
                    transfer = Transfer(reader, digest, writer, tag=digest, name=name, options=options)
                    self._parts.append(_Part(transfer))
                    ledger = await transfer.run()
                    if ledger.error is not None:
                        return
                    held += [each] if ledger.entries[0].outcome is Outcome.EXISTS else []
                if not self._dry_run:
                    # What was there may have been left there unlisted.
                    await self._ends.list_referrers(self._destination, held, part.asked)
            except RegsimError as error:
                part.error = error
                return

    async def _commit(self, archive: ArchiveDestination) -> None:
        try:
            await archive.commit()
        except RegsimError as error:
            self._parts[0].error = error

    @property
    def _name(self) -> str:
        return f"{self._source} to {self._destination}"

    def _blank(self) -> Ledger:
        sends, receives = (isinstance(end, Reference) for end in (self._destination, self._source))
        direction = Direction.between(from_registry=receives, to_registry=sends)
        return Ledger(direction=direction, reference=self._name, sends=sends, receives=receives)


def wanted(address: Address) -> str:
    """Return what is asked for at an address: a name or digest; here, nothing means the only image."""
    if isinstance(address, Reference):
        return address.target
    return (address.name if isinstance(address, Archive) else address.tag) or ""


def _at(address: Address, digest: Digest) -> Address:
    """Return where a manifest is by its digest, beside what an address names."""
    if isinstance(address, Reference):
        return replace(address, tag=None, digest=digest)
    return replace(address, tag=digest) if isinstance(address, Layout) else replace(address, name=digest)


def _holds_one(address: Address) -> bool:
    return isinstance(address, Archive) and address.kind is ArchiveKind.DOCKER


def _image_name(source: Address) -> Reference | None:
    """Return what docker calls the image where it comes from."""
    if isinstance(source, Reference):
        return replace(source, digest=None) if source.tag else None
    named = isinstance(source, Archive) and source.kind is ArchiveKind.DOCKER and source.name
    return Reference.parse(named) if named else None


async def _tag(source: Address, destination: Address, reader: Readable) -> str | None:
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


def _note(source: Address, destination: Address, ledgers: Iterable[Ledger]) -> None:
    """Note which repositories are now known to hold which blobs."""
    held = [
        entry.digest
        for ledger in ledgers
        if ledger.error is None
        for entry in ledger.entries
        if entry.role in (Role.LAYER, Role.CONFIG) and entry.outcome is not Outcome.FOREIGN
    ]
    if not held:
        return
    holders = Holders(default_path())
    for address in (source, destination):
        if isinstance(address, Reference):
            holders.add(address.host, address.repository, held)
