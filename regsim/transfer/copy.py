"""The asyncio driver: carries out the decisions of `core.decide` over real stores and registries.

Owns concurrency, cancellation and the clock of one transfer. Decides nothing about what moves.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from regsim.core import Digest, manifest, media_types, parse_config
from regsim.core import actions as act
from regsim.core.account import Account, Loss
from regsim.core.config import MAX_CONFIG_SIZE
from regsim.core.decide import Decisions
from regsim.core.ledger import Direction, Ledger
from regsim.core.manifest import MANIFEST_UNKNOWN
from regsim.core.schedule import DEFAULT_JOBS, Schedule
from regsim.core.selection import EVERYTHING, Choice, Selection
from regsim.core.work import Labels, Rules, beside, entries, keep_all, no_candidates
from regsim.errors import ContentError, InvalidReferenceError, NotFoundError, RegsimError
from regsim.store.memory import BytesContent
from regsim.transfer.ends import select
from regsim.transfer.events import Progress, ignore, tick

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable

    from regsim.core import Descriptor
    from regsim.core.ledger import Evidence
    from regsim.store.protocols import Content
    from regsim.transfer.ends import Destination, Source
    from regsim.transfer.events import Listener


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a transfer is done.

    Attributes:
        jobs: blobs moved at the same time.
        candidates: repositories of the destination's registry to try a mount from, best first.
        labels: what is known of layers already; configs that pass by add to it.
        listener: receives each event.
        clock: seconds, for the duration.
        tick: waits until the progress of moves is to be reported again.
        choice: what is transferred of an index.
    """

    jobs: int = DEFAULT_JOBS
    candidates: Callable[[Digest], tuple[str, ...]] = no_candidates
    labels: Labels = field(default_factory=Labels)
    listener: Listener = ignore
    clock: Callable[[], float] = time.monotonic
    tick: Callable[[], Awaitable[None]] = tick
    choice: Choice = EVERYTHING


class Transfer:
    """One transfer of everything that a reference at `source` names.

    The ledger can be read at any moment; `run` may fail or be cancelled, and the ledger then tells what
    had been done until there.

    Args:
        source: where `reference` (a tag or a digest) is resolved and content is read.
        reference: what to transfer.
        destination: where it goes.
        tag: its name there; a digest means its own, whichever that is; None leaves it under its digest alone.
        name: the reference as the report prints it.
        options: see `Options`.
    """

    def __init__(
        self,
        source: Source,
        reference: str,
        destination: Destination,
        *,
        tag: str | None = None,
        name: str | None = None,
        options: Options | None = None,
    ) -> None:
        self._source, self._destination = source, destination
        self._reference, self._tag, self._name = reference, tag, name or reference
        self._options = options or Options()
        self._direction = Direction.between(from_registry=source.remote, to_registry=destination.remote)
        self._resolving = Account()
        self._decisions: Decisions | None = None
        self._selection: Selection | None = None
        self._configs: dict[Digest, bytes] = {}
        self._error: RegsimError | None = None
        self._running: dict[asyncio.Task[object], act.Action] = {}
        self._sessions: dict[int, tuple[object, Account]] = {}
        self._started = self._options.clock()
        self._seconds: float | None = None
        self._progress = Progress(
            listener=self._options.listener,
            sends=destination.remote,
            receives=source.remote,
            tick=self._options.tick,
        )

    async def run(self) -> Ledger:
        """Do the transfer and return its ledger; what went wrong stands in its `error`.

        Raises:
            asyncio.CancelledError: it was cancelled; `ledger()` tells what had been done.
        """
        self._started = self._options.clock()
        try:
            self._decisions = await self._resolve()
            async with self._progress.told():
                await self._drive(self._decisions)
            self._error = self._decisions.error
        except RegsimError as error:
            self._error = error
        finally:
            self._seconds = self._options.clock() - self._started
            if self._selection is not None:
                self._selection.settle()
        return self.ledger()

    def ledger(self) -> Ledger:
        """Return the account of the transfer as it stands."""
        sends, receives = self._destination.remote, self._source.remote
        ledger = Ledger(
            direction=self._direction,
            reference=self._name,
            sends=sends,
            receives=receives,
            beside=tuple(self._resolving.beside),
            seconds=self._options.clock() - self._started if self._seconds is None else self._seconds,
            error=self._error,
        )
        decisions = self._decisions
        if decisions is None:
            return replace(ledger, resolving=self._resolving)
        return replace(
            ledger,
            digest=decisions.root.digest,
            entries=entries(decisions.graph(), decisions.work, decisions.rules, self._labels(decisions)),
            referenced=decisions.referenced,
            beside=beside(decisions.work),
            unselected=self._selection.unselected if self._selection else 0,
        )

    async def _resolve(self) -> Decisions:
        descriptor = await self._source.resolve(self._reference, self._resolving)
        if descriptor is None:
            raise NotFoundError(
                f"{self._name} does not exist", hint="check the name and the tag", codes=(MANIFEST_UNKNOWN,)
            )
        selection = self._selection = Selection(descriptor, self._resolving)
        await select(self._source, selection, self._options.choice, self._name)
        selection.settle(selection.kept or (selection.root.digest,))
        tag = self._tag
        # What is chosen by platform has another digest than what it was chosen from.
        with suppress(InvalidReferenceError):
            tag = tag and Digest(tag) and selection.root.digest
        rules = Rules(
            direction=self._direction,
            to_registry=self._destination.remote,
            from_registry=self._source.remote,
            tag=tag,
            candidates=self._options.candidates,
            keeps=keep_all if selection.kept is None else selection.keeps,
        )
        return Decisions(selection.root, rules, self._resolving)

    async def _drive(self, decisions: Decisions) -> None:
        """Run actions as tasks, in the order of the schedule, until the decisions are done.

        Raises:
            Exception: an action failed with anything but a `RegsimError`, which is a bug.
        """
        schedule = Schedule(self._options.jobs)
        try:
            schedule.add(decisions.start())
            while not decisions.done:
                while (action := schedule.next()) is not None:
                    self._running[asyncio.ensure_future(self._perform(action))] = action
                finished, _ = await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
                for task in finished:
                    action = self._running.pop(task)
                    schedule.end(action)
                    schedule.add(self._settle(decisions, task, action))
        finally:
            await self._stop(decisions)

    def _settle(
        self, decisions: Decisions, task: asyncio.Task[object], action: act.Action, *, over: bool = False
    ) -> Iterable[act.Action]:
        """Report an action's end to the decisions; return what is to be done next."""
        error = task.exception()
        if error is None:
            answer = task.result()
            if isinstance(answer, act.MountAnswer) and answer.session is not None:
                self._sessions[id(answer.session)] = (answer.session, action.account)
            return decisions.succeed(action, answer)
        if isinstance(error, RegsimError):
            return decisions.fail(action, error, over=over)
        if not over:
            raise error
        return ()

    async def _stop(self, decisions: Decisions) -> None:
        """Cancel what is under way. What completed nevertheless is in the ledger."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        for task, action in self._running.items():
            if not task.cancelled():
                self._settle(decisions, task, action, over=True)
        # At once: a registry that says nothing is waited for a while each time.
        await asyncio.gather(*(self._destination.abandon(*each) for each in self._sessions.values()))

    async def _perform(self, action: act.Action) -> object:
        # From here on, the end that does the action closes the session.
        if isinstance(action, act.Mount | act.Upload):
            self._sessions.pop(id(action.session), None)
        with self._progress.following(action) as answered:
            try:
                answer = await self._answer(action)
            except asyncio.CancelledError:
                action.account.lose(Loss.FAILED)
                raise
            answered(answer)
        return answer

    async def _answer(self, action: act.Action) -> object:
        answer: object = None
        destination = self._destination
        match action:
            case act.CheckManifest():
                answer = await destination.find(action.reference, action.account)
            case act.FetchManifest():
                answer = raw = await self._manifest(action)
                if not self._source.remote:
                    # Also if the image is there already: its config is then not requested.
                    # A document that cannot be read is refused by the decisions.
                    with suppress(ContentError):
                        config = manifest.parse(action.descriptor, raw).config
                        await self._read_config(config, self._source, action)
            case act.CheckBlob():
                answer = await destination.has(action)
                if answer is not None and not destination.remote:
                    await self._read_config(action.descriptor, destination, action)
            case act.CheckHolder():
                answer = await destination.is_held_by(action)
            case act.Mount():
                answer = await destination.mount(action)
            case act.PutManifest():
                await destination.put_manifest(action)
            case act.Upload():
                answer = await self._put(action, action.session)
            case _:
                answer = await self._put(action, None)
        return answer

    async def _manifest(self, action: act.FetchManifest) -> bytes:
        held = self._selection.read.pop(action.descriptor.digest, None) if self._selection else None
        if held is not None:
            action.account.add(held[1])
            return held[0]
        end = self._destination if action.from_destination else self._source
        raw = await end.manifest(action.descriptor, action.account)
        action.account.held += len(raw) if end.remote else 0
        return raw

    async def _put(self, action: act.Action, session: object | None) -> Evidence | None:
        account = action.account
        found = await self._destination.put(self._content(action), session, account)
        if found is None and self._source.remote and not self._is_inline(action.descriptor):
            account.accepted(received=action.descriptor.size - account.resumed)
        return found

    def _is_inline(self, descriptor: Descriptor) -> bool:
        return descriptor.data is not None and self._direction is not Direction.COPY

    def _content(self, action: act.Action) -> Content:
        descriptor = action.descriptor
        if descriptor.data is not None and self._is_inline(descriptor):
            return BytesContent(descriptor, descriptor.data)
        content = self._source.content(descriptor, action.account)
        return _Overheard(content, self._configs) if _is_config(descriptor) else content

    async def _read_config(
        self, descriptor: Descriptor | None, end: Source | Destination, action: act.Action
    ) -> None:
        """Read an image config from an end that is local, for what it says of the layers."""
        if descriptor is None or not _is_config(descriptor) or descriptor.digest in self._configs:
            return
        # If it fails labels will be missing; whether the content is at fault shows when it is moved.
        with suppress(RegsimError):
            self._configs[descriptor.digest] = await end.manifest(descriptor, action.account)

    def _labels(self, decisions: Decisions) -> Labels:
        created_by = dict(self._options.labels.created_by)
        for document in decisions.graph().documents.values():
            config = document.config
            raw = (self._configs.get(config.digest) or config.data) if config is not None else None
            if raw is None:
                continue
            with suppress(ContentError):
                lines = parse_config(raw).lines(len(document.layers))
                for layer, line in zip(document.layers, lines, strict=True):
                    if line.created_by:
                        created_by.setdefault(layer.digest, line.created_by)
        return Labels(created_by, self._options.labels.recorded)


@dataclass(frozen=True, slots=True)
class _Overheard:
    """Content that leaves a copy of its bytes in `heard` as it passes: an image config, which is small."""

    content: Content
    heard: dict[Digest, bytes]

    @property
    def descriptor(self) -> Descriptor:
        return self.content.descriptor

    async def open(self) -> AsyncGenerator[bytes, None]:
        chunks: list[bytes] = []
        async with aclosing(self.content.open()) as stream:
            async for chunk in stream:
                chunks.append(chunk)
                yield chunk
        self.heard[self.descriptor.digest] = b"".join(chunks)


def _is_config(descriptor: Descriptor) -> bool:
    return descriptor.media_type in media_types.CONFIGS and descriptor.size <= MAX_CONFIG_SIZE
