"""The order of work: which action is next. No I/O, so a simulator in virtual time can share it."""

from __future__ import annotations

import itertools
from bisect import insort
from collections import deque
from typing import TYPE_CHECKING

from regsim.core import actions as act

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT_JOBS = 6
# Questions are cheap for both sides and are asked all at once, within reason.
CONCURRENT_CHECKS = 16

_MOVES = (act.Upload, act.Download)


class Schedule:
    """Actions that wait for their turn: questions first come, first served; moves the largest first.

    Args:
        jobs: moves at the same time.
    """

    def __init__(self, jobs: int = DEFAULT_JOBS) -> None:
        self._jobs = jobs
        self._questions: deque[act.Action] = deque()
        self._moves: list[tuple[int, int, act.Action]] = []
        self._order = itertools.count()
        self._asking = self._moving = 0
        self._small: act.Action | None = None

    def add(self, actions: Iterable[act.Action]) -> None:
        """Take in actions that can start from now on."""
        for action in actions:
            if isinstance(action, _MOVES):
                insort(self._moves, (action.descriptor.size, -next(self._order), action))
            else:
                self._questions.append(action)

    def next(self) -> act.Action | None:
        """Return the action that starts now; None if all that can is under way."""
        if self._questions and self._asking < CONCURRENT_CHECKS:
            self._asking += 1
            return self._questions.popleft()
        if self._moves and self._moving < self._jobs:
            self._moving += 1
            return self._next_move()
        return None

    def end(self, action: act.Action) -> None:
        """Take note that an action is over."""
        if isinstance(action, _MOVES):
            self._moving -= 1
        else:
            self._asking -= 1
        if action is self._small:
            self._small = None

    def _next_move(self) -> act.Action:
        """Take the largest, so that the last one to end is a small one; but one lane is for the smallest.

        Otherwise a manifest with a few small blobs waits until the gigabytes of another one are moved.
        """
        if self._jobs > 1 and self._small is None:
            self._small = self._moves.pop(0)[2]
            return self._small
        return self._moves.pop()[2]
