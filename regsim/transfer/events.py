"""What a transfer tells while it runs, for progress displays. Nothing in the ledger depends on it.

What has moved is read off the accounts that are charged anyway, now and then, so nothing stands between the
bytes and the wire.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from regsim.core import actions as act

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterator

    from regsim.core import Descriptor


class Moment(StrEnum):
    """The moments in the life of one action. Only uploads and downloads have `PROGRESS`."""

    STARTED = "started"
    PROGRESS = "progress"
    COMPLETED = "completed"
    FAILED = "failed"


class Step(StrEnum):
    """What an action does, as progress displays print it."""

    CHECK_MANIFEST = "check-manifest"
    FETCH_MANIFEST = "fetch-manifest"
    CHECK_BLOB = "check-blob"
    MOUNT = "mount"
    UPLOAD = "upload"
    DOWNLOAD = "download"
    PUT_MANIFEST = "put-manifest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One moment of one action on one piece of content.

    Attributes:
        descriptor: of the content; its `size` is in bytes.
        moved: bytes of an upload or download that went over the wire so far. Above the size where some of
            them had to go again; 0 until it completes where neither end is a registry.
        found: of a completed check or mount: whether the destination has the content now; else None.
    """

    step: Step
    moment: Moment
    descriptor: Descriptor
    moved: int = 0
    found: bool | None = None


Listener = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """Listen to nothing."""


# Often enough for a bar that moves, seldom enough to cost nothing.
_TICK_SECONDS = 0.1

_STEPS = {
    act.CheckManifest: Step.CHECK_MANIFEST,
    act.FetchManifest: Step.FETCH_MANIFEST,
    act.CheckBlob: Step.CHECK_BLOB,
    act.Mount: Step.MOUNT,
    act.Upload: Step.UPLOAD,
    act.Download: Step.DOWNLOAD,
    act.PutManifest: Step.PUT_MANIFEST,
}


async def tick() -> None:
    """Wait until progress is worth telling again."""
    await asyncio.sleep(_TICK_SECONDS)


@dataclass(slots=True)
class _Move:
    """An upload or download under way: bytes on its account when it began, and moved when last reported."""

    begun: int
    told: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Tells a listener of actions.

    Attributes:
        listener: receives each event.
        sends: the destination is a registry: what moved is what was sent to it.
        receives: the source is one: failing that, what moved is what was received from it.
        tick: waits until moves under way are to be reported again.
    """

    listener: Listener
    sends: bool
    receives: bool
    tick: Callable[[], Awaitable[None]]
    _moves: dict[act.Action, _Move] = field(default_factory=dict)

    @contextmanager
    def following(self, action: act.Action) -> Iterator[Callable[[object], None]]:
        """Tell of an action's beginning and its end; the block hands over its answer."""
        answers: list[object] = []
        if isinstance(action, act.Upload | act.Download):
            self._moves[action] = _Move(self._octets(action))
        self._tell(action, Moment.STARTED)
        try:
            yield answers.append
        except BaseException:
            self._tell(action, Moment.FAILED)
            raise
        else:
            self._tell(action, Moment.COMPLETED, found=_found(action, answers[0]))
        finally:
            self._moves.pop(action, None)

    @asynccontextmanager
    async def told(self) -> AsyncIterator[None]:
        """Report moves under way while the block runs, if there is a listener."""
        if self.listener is ignore:
            yield
            return
        telling = asyncio.ensure_future(self._tell_often())
        try:
            yield
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        if not telling.cancelled():
            telling.result()  # the listener has failed, which is its owner's to hear

    async def _tell_often(self) -> None:
        while True:
            await self.tick()
            for action, move in list(self._moves.items()):
                moved = self._octets(action) - move.begun
                if moved != move.told:
                    move.told = moved
                    self._tell(action, Moment.PROGRESS)

    def _tell(self, action: act.Action, moment: Moment, *, found: bool | None = None) -> None:
        move = self._moves.get(action)
        moved = self._octets(action) - move.begun if move is not None else 0
        if move is not None and moment is Moment.COMPLETED and not (self.sends or self.receives):
            moved = action.descriptor.size
        step = _STEPS.get(type(action))
        if step is not None:
            self.listener(
                Event(step=step, moment=moment, descriptor=action.descriptor, moved=moved, found=found)
            )

    def _octets(self, action: act.Action) -> int:
        account = action.account
        return account.sent if self.sends else account.received


def _found(action: act.Action, answer: object) -> bool | None:
    """Return what a check or a mount came to; None of anything else."""
    if isinstance(action, act.Mount):
        return isinstance(answer, act.MountAnswer) and answer.mounted
    if isinstance(action, act.CheckManifest):
        return answer == action.descriptor.digest
    return answer is not None if isinstance(action, act.CheckBlob) else None
