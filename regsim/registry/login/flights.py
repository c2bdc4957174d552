"""Work that several tasks ask for at once, done by one of them.

Owns the waiting. Keeps no results: whoever asks looks first whether they are there already.
"""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Generic, TypeVar

from regsim.errors import RegsimError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

T = TypeVar("T")


class Flights(Generic[T]):
    """Pending work, by what it is about.

    A failure goes to all who were waiting for it, and to nobody after them. If who did the work is cancelled,
    one of those who wait does it in their own name.
    """

    def __init__(self) -> None:
        self._pending: dict[Hashable, asyncio.Future[tuple[T] | RegsimError | None]] = {}

    async def join(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work, or wait until whoever does it already is through.

        Raises:
            RegsimError: it failed.
        """
        while (pending := self._pending.get(key)) is not None:
            await asyncio.wait((pending,))
            outcome = pending.result()
            if isinstance(outcome, RegsimError):
                # Each who raises it adds to its traceback.
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
