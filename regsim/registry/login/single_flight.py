"""Work that several tasks ask for at the same time, done by one of them."""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Generic, TypeVar

from regsim.errors import RegsimError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Pending work by key. Results are not kept: a caller looks first whether it has one already.

    A failure goes to all tasks that waited for it, and to none that come later. If the task that does the
    work is cancelled, one that waits does it instead.
    """

    def __init__(self) -> None:
        self._pending: dict[Hashable, asyncio.Future[tuple[T] | RegsimError | None]] = {}

    async def join(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work, or wait for the task that is doing it already.

        Raises:
            RegsimError: it failed.
        """
        while (pending := self._pending.get(key)) is not None:
            await asyncio.wait((pending,))
            outcome = pending.result()
            if isinstance(outcome, RegsimError):
                # A copy, since each task that raises it adds to its traceback.
                raise copy.copy(outcome) from outcome.__cause__
            if outcome is not None:
                return outcome[0]
        pending = self._pending[key] = asyncio.get_running_loop().create_future()
        outcome = None
        try:
            outcome = (await work(),)
            return outcome[0]
        except RegsimError as error:
            outcome = error
            raise
        finally:
            del self._pending[key]
            pending.set_result(outcome)
