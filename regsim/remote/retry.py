"""Patience: which failures are worth another try, how often, and how long to wait before it.

Owns the policy and the waiting. Must not know what is being tried: who asks also counts, so that every
retry shows in the account.
"""

from __future__ import annotations

import asyncio
import random as randomness
import time
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from regsim.errors import NetworkError
from regsim.remote.answer import refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from regsim.errors import RegsimError
    from regsim.remote.answer import Answer

# 408 and 429 say "later"; the 5xx are those that proxies and overloaded registries give in passing.
# 501, 505, 507 and the like will not change by asking again.
STATUSES = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How long to keep trying.

    Attributes:
        retries: tries after the first one.
        base: seconds before the first retry; each later one waits twice as long.
        longest: seconds that no wait exceeds, whatever the registry asks for.
        statuses: that are worth another try.
    """

    retries: int = 3
    base: float = 0.25
    longest: float = 30.0
    statuses: frozenset[int] = STATUSES


class Unready(Exception):  # noqa: N818  (not an error yet: it becomes `error` when patience ends)
    """An answer that may well be another one later. Never leaves this room."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.error = refusal(answer)
        self.retry_after = answer.headers.get("Retry-After")


class Patience:
    """Waits between tries.

    Args:
        policy: how long to keep trying.
        sleep: waits for so many seconds.
        random: a number in [0, 1), for jitter: many clients must not come back at once.
        now: seconds since the epoch, to read a `Retry-After` that is a date.
    """

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        random: Callable[[], float] = randomness.random,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._policy = policy or Policy()
        self._sleep = sleep
        self._random = random
        self._now = now

    def wants(self, status: int) -> bool:
        """Tell whether an answer of this status is worth another try."""
        return status in self._policy.statuses

    def settled(self, answer: Answer) -> Answer:
        """Return an answer that will not change by asking again.

        Raises:
            Unready: it may.
        """
        if self.wants(answer.status):
            raise Unready(answer)
        return answer

    async def again(self, failures: int, failure: Unready | RegsimError | None = None) -> bool:
        """Wait before the next try; False, at once, if there shall be none.

        Args:
            failures: how many tries had failed before this one.
            failure: what happened; its `Retry-After` is heeded.
        """
        if failures >= self._policy.retries:
            return False
        asked = self._asked(failure.retry_after) if isinstance(failure, Unready) else None
        await self._sleep(min(self._delay(failures) if asked is None else asked, self._policy.longest))
        return True

    async def ask(self, send: Callable[[], Awaitable[Answer]]) -> Answer:
        """Send until there is an answer that will not change, or patience ends.

        Only for requests that may be repeated without harm.

        Raises:
            NetworkError: no try got an answer.
            RegistryError: the last try got one that is worth another.
        """
        failures = 0
        while True:
            try:
                return self.settled(await send())
            except (NetworkError, Unready) as failure:
                if not await self.again(failures, failure):
                    raise final(failure) from failure.__cause__
            failures += 1

    def _delay(self, failures: int) -> float:
        """Return base * 2^failures seconds, of which the second half is left to chance."""
        return float(self._policy.base * 2**failures * (0.5 + 0.5 * self._random()))

    def _asked(self, text: str | None) -> float | None:
        """Read `Retry-After`: seconds, or a date (RFC 9110, 10.2.3)."""
        if text is None:
            return None
        if text.isascii() and text.isdigit():
            return float(text)
        try:
            date = parsedate_to_datetime(text)
        except ValueError:
            return None
        return max(0.0, date.replace(tzinfo=date.tzinfo or UTC).timestamp() - self._now())


def final(failure: Unready | RegsimError) -> RegsimError:
    """Return the error to raise when patience has ended."""
    return failure.error if isinstance(failure, Unready) else failure
