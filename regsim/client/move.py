"""One push, pull or copy: opening both ends, the transfer, and what refers to the image.

Owns what a transfer between two addresses needs apart from the transfer itself: its name, its tag, where to
mount from, which referrers follow, and what stands in for the destination in a dry run. Must not know command
lines, nor how anything is printed.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING

from regsim.client.image_address import Address, Kind, Local
from regsim.core import Digest, Reference, Role, media_types
from regsim.core.account import Account
from regsim.core.config import MAX_CONFIG_SIZE
from regsim.core.graph import MANIFEST_ROLES
from regsim.core.holdings import HeldSets
from regsim.core.ledger import Direction, Evidence, Ledger, Outcome
from regsim.core.manifest import Referrer
from regsim.core.result import Mode, Reconciliation, RunResult, TransferResult
from regsim.core.schedule import CONCURRENT_CHECKS
from regsim.core.selection import EVERYTHING
from regsim.errors import ContentError, RegsimError, UsageError
from regsim.registry.holders import Holders, default_path
from regsim.registry.referrers import MAX_REFERRERS
from regsim.store.verify import read_all
from regsim.transfer.copy import Options, Transfer
from regsim.transfer.ends import PlannedDestination

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from regsim.client.opener import Opener, Readable
    from regsim.core import Descriptor
    from regsim.store.protocols import Content
    from regsim.transfer.ends import Destination


@dataclass(slots=True)
class Move:
    """One transfer between two addresses; `run` it once, and read its `result` at any moment.

    Args:
        opener: opens both ends.
        source: where the image is.
        destination: where it goes.
        options: `candidates`, and whether a choice is for a single image, are set here.
        dry_run: ask everything, write nothing.
        remember: mount from where blobs were seen before, and note where they are now.
        referrers: also transfer what refers to the image, and what refers to that, each in a transfer of its
            own.

    Raises:
        UsageError: the destination has no room for what refers to an image.
    """

    opener: Opener
    source: Address
    destination: Address
    options: Options
    dry_run: bool = False
    remember: bool = True
    referrers: bool = False
    _parts: list[_Part] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.referrers and self._holds_one:
            raise UsageError(
                f"a docker-archive holds nothing that refers to an image: {str(self.destination)!r}",
                hint="write an oci-archive:, which holds it all",
            )

    async def run(self) -> RunResult:
        """Do it, or plan it; what went wrong with the transfer stands in the result.

        Raises:
            asyncio.CancelledError: it was cancelled; `result` says what had been done.
            UsageError, LocalFileError: an end cannot be opened.
        """
        async with AsyncExitStack() as stack:
            reader = self.opener.source(self.source)
            writer, archive = await self.opener.destination(self.destination, stack, _image_name(self.source))
            if self.dry_run:
                writer, archive = _LabelledPlan(writer, receives=reader.remote), None
            await self._transfer(reader, writer)
            if archive is not None and not any(ledger.error for ledger in self._ledgers):
                try:
                    await archive.commit()
                except RegsimError as error:
                    self._parts[0].error = error
        if self.remember and not self.dry_run:
            await asyncio.to_thread(_note, (self.source, self.destination), self._ledgers)
        return self.result()

    def result(self, *, interrupted: bool = False) -> RunResult:
        """Return the account of it as it stands.

        Args:
            interrupted: it was stopped from outside, and the result says so.
        """
        ledgers = self._ledgers or [self._blank()]
        return RunResult(
            mode=Mode.PLAN if self.dry_run else Mode.WIRE,
            transfers=tuple(TransferResult(ledger=ledger) for ledger in ledgers),
            reconciliation=Reconciliation.alone(ledgers),
            interrupted=interrupted,
        )

    @property
    def _ledgers(self) -> list[Ledger]:
        return [part.ledger() for part in self._parts]

    @property
    def _name(self) -> str:
        return f"{self.source} to {self.destination}"

    @property
    def _holds_one(self) -> bool:
        return isinstance(self.destination, Local) and self.destination.kind is Kind.DOCKER_ARCHIVE

    def _blank(self) -> Ledger:
        sends, receives = (isinstance(end, Reference) for end in (self.destination, self.source))
        direction = Direction.between(from_registry=receives, to_registry=sends)
        return Ledger(direction=direction, reference=self._name, sends=sends, receives=receives)

    async def _transfer(self, reader: Readable, writer: Destination) -> None:
        """Transfer the image, and what refers to it."""
        options = replace(
            self.options,
            candidates=_candidates(self.source, self.destination, remember=self.remember),
            choice=replace(self.options.choice, single=self._holds_one),
        )
        tag = await _tag(self.source, self.destination, reader)
        image = Transfer(reader, self.source.target, writer, tag=tag, name=self._name, options=options)
        self._parts.append(_Part(image))
        if (await image.run()).error is None and self.referrers:
            await self._follow(reader, writer, replace(options, choice=EVERYTHING))

    async def _follow(self, reader: Readable, writer: Destination, options: Options) -> None:
        met: set[Digest] = set()
        for part in self._parts:  # the loop itself adds parts
            try:
                held: list[Referrer] = []
                for each in await _referrers(reader, part.ledger(), met, part.asked):
                    digest = each.descriptor.digest
                    name = f"{_at(self.source, digest)} to {_at(self.destination, digest)}"
                    # In a layout, only its own digest as its name lists it.
                    transfer = Transfer(reader, digest, writer, tag=digest, name=name, options=options)
                    self._parts.append(_Part(transfer))
                    ledger = await transfer.run()
                    if ledger.error is not None:
                        return
                    held += [each] if ledger.entries[0].outcome is Outcome.EXISTS else []
                if not self.dry_run:
                    # An interrupted copy may have left them there without listing them.
                    await self.opener.list_referrers(self.destination, held, part.asked)
            except RegsimError as error:
                part.error = error
                return


@dataclass(slots=True)
class _Part:
    """A transfer, the cost of asking what refers to it, and what went wrong after it."""

    transfer: Transfer
    asked: Account = field(default_factory=Account)
    error: RegsimError | None = None

    def ledger(self) -> Ledger:
        """Return the account of all three."""
        ledger = self.transfer.ledger()
        beside = [(None, self.asked), *self.asked.beside] if self.asked.requests else []
        return replace(ledger, beside=(*ledger.beside, *beside), error=ledger.error or self.error)


class _LabelledPlan(PlannedDestination):
    """A destination that stores nothing, but reads configs, which say how layers were made."""

    def __init__(self, real: Destination, *, receives: bool) -> None:
        present = Evidence.HEAD if real.remote else Evidence.LOCAL
        super().__init__(real, HeldSets(present=present), receives=receives)

    async def put(self, content: Content, session: object | None, account: Account) -> None:
        descriptor = content.descriptor
        if descriptor.media_type in media_types.CONFIGS and descriptor.size <= MAX_CONFIG_SIZE:
            received = account.received
            await read_all(content, limit=MAX_CONFIG_SIZE)
            account.received = received  # the plan counts it
        await super().put(content, session, account)


async def _referrers(source: Readable, ledger: Ledger, met: set[Digest], account: Account) -> list[Referrer]:
    """Return what refers to the manifests of a transfer, without what was met before.

    Args:
        source: where the transfer read.
        ledger: of the transfer; each manifest and index in it is asked about.
        met: manifests that are transferred already, to which what is found is added.
        account: is charged.

    Raises:
        ContentError: more than `MAX_REFERRERS` were met.
        NetworkError, RegistryError: the source does not say.
    """
    subjects = list(dict.fromkeys(each.digest for each in ledger.entries if each.role in MANIFEST_ROLES))
    met.update(subjects)
    turns = asyncio.Semaphore(CONCURRENT_CHECKS)

    async def ask(subject: Digest) -> tuple[Descriptor, ...]:
        async with turns:
            return await source.referrers(subject, account)

    # All are awaited, whichever fails first, so that none keeps running.
    answers = await asyncio.gather(*map(ask, subjects), return_exceptions=True)
    found: dict[Digest, Referrer] = {}
    for subject, answer in zip(subjects, answers, strict=True):
        if isinstance(answer, BaseException):
            raise answer
        found.update({each.digest: Referrer(each, subject) for each in answer if each.digest not in met})
    met.update(found)
    if len(met) > MAX_REFERRERS:
        raise ContentError(f"more than {MAX_REFERRERS:,} manifests refer to {ledger.reference}")
    return list(found.values())


def check_direction(direction: Direction, source: Address, destination: Address) -> None:
    """Check that two addresses suit a push or a pull; a copy goes from anywhere to anywhere.

    Raises:
        UsageError: they do not.
    """
    if direction is Direction.COPY:
        return
    push = direction is Direction.PUSH
    local, registry = "write oci:DIR[:TAG], or use regsim copy", "write HOST/NAME:TAG, or use regsim copy"
    if isinstance(source, Reference) is push:
        wrong = "push takes a local image" if push else "pull takes an image of a registry"
        raise UsageError(f"{wrong}: {str(source)!r}", hint=local if push else registry)
    if isinstance(destination, Reference) is not push:
        wrong = "push goes to a registry" if push else "pull goes to this machine"
        raise UsageError(f"{wrong}: {str(destination)!r}", hint=registry if push else local)


def _at(address: Address, digest: Digest) -> Address:
    """Return the address of a manifest by its digest, where the image of `address` is."""
    if isinstance(address, Reference):
        return replace(address, tag=None, digest=digest)
    return replace(address, name=digest)


def _image_name(source: Address) -> Reference | None:
    """Return the name by which docker knows an image, if its address says one."""
    if isinstance(source, Reference):
        return replace(source, digest=None) if source.tag else None
    docker = source.kind is Kind.DOCKER_ARCHIVE
    return Reference.parse(source.name) if docker and source.name else None


async def _tag(source: Address, destination: Address, reader: Readable) -> str | None:
    """Return the name of the image at its destination."""
    if isinstance(destination, Reference):
        return destination.tag
    # A registry needs no tag with a digest, but a layout or archive lists what it holds only by some name.
    tag = destination.tag or source.tag or (source.digest if isinstance(source, Reference) else None)
    if tag is not None or isinstance(source, Reference):
        return tag
    try:
        return (await reader.resolve(source.target, Account())).digest
    except RegsimError:
        return None  # the transfer meets the error again, and its ledger tells it


def _candidates(
    source: Address, destination: Address, *, remember: bool
) -> Callable[[Digest], tuple[str, ...]]:
    """Return where to mount from: first the repository that is copied from, then where the blob was seen."""
    if not isinstance(destination, Reference):
        return lambda _: ()
    first = (source.repository,) if isinstance(source, Reference) and source.host == destination.host else ()
    # Read once, when the transfer asks for the first time.
    seen = cache(lambda host: Holders(default_path()).read(host))

    def candidates(digest: Digest) -> tuple[str, ...]:
        known = seen(destination.host).get(digest, ()) if remember else ()
        return tuple(each for each in (*first, *known) if each != destination.repository)

    return candidates


def _note(addresses: Iterable[Address], ledgers: Iterable[Ledger]) -> None:
    """Note which repositories are now known to hold which blobs."""
    held = [
        entry.digest
        for ledger in ledgers
        if ledger.error is None
        for entry in ledger.entries
        if entry.role in (Role.LAYER, Role.CONFIG) and entry.outcome is not Outcome.FOREIGN
    ]
    for address in addresses:
        if isinstance(address, Reference):
            Holders(default_path()).add(address.host, address.repository, held)
