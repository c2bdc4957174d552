"""Retries: which failures are retried, how often, and after how long a wait.

Owns the policy, the waiting, and one back-off for all clients of a host. Must not know what is being tried:
the caller counts, so that every retry shows in the account.
"""

from __future__ import annotations

import asyncio
import random as randomness
import time
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from regsim.errors import NetworkError, RegistryError
from regsim.registry.answer import refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from regsim.core.account import Account
    from regsim.errors import RegsimError
    from regsim.registry.answer import Answer

# 408 and 429 say "later"; the 5xx are those that proxies and overloaded registries give in passing.
# 501, 505, 507 and the like will not change by asking again.
STATUSES = frozenset({408, 429, 500, 502, 503, 504})
# Of these, the ones that speak of the host and not of the request: everybody waits.
_BUSY = frozenset({429, 503})
# Good answers after which a host counts as recovered.
_RECOVERED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How long to keep trying.

    Attributes:
        retries: tries of one request after the first one.
        base: seconds before the first retry; each later one waits twice as long.
        longest: the most seconds of a wait, whatever the registry requests.
        total: retries in all, whatever they are of: the budget of a run at one host.
    """

    retries: int = 3
    base: float = 0.25
    longest: float = 30.0
    total: int = 500


class Unready(Exception):  # noqa: N818  (not an error yet: it becomes `error` when patience ends)
    """An answer that may well be another one later. Never leaves this room."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.error = refusal(answer)
        self.status = answer.status
        self.retry_after = answer.headers.get("Retry-After")


@dataclass(slots=True, eq=False)
class Patience:
    """Waits between tries. One of them is shared by all who talk to a host in a run.

    A host that says that it is busy is left in peace by all of them until the longest wait for it is over,
    and the next one who hears so waits longer, until the host has answered some requests well.

    Attributes:
        policy: how long to keep trying.
        sleep: waits for a number of seconds.
        random: a number in [0, 1), for jitter: many clients must not come back at once.
        now: seconds since the epoch, to read a `Retry-After` that is a date.
    """

    policy: Policy = field(default_factory=Policy)
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    random: Callable[[], float] = randomness.random
    now: Callable[[], float] = time.time
    _pauses: set[asyncio.Future[None]] = field(default_factory=set)
    _spent: int = 0  # retries so far
    _busy: int = 0  # answers in a row that said so
    _well: int = 0

    def wants(self, status: int) -> bool:
        """Tell whether an answer of this status is worth another try."""
        return status in STATUSES

    def settled(self, answer: Answer) -> Answer:
        """Return an answer that will not change by asking again.

        Raises:
            Unready: it may.
        """
        if self.wants(answer.status):
            raise Unready(answer)
        self.well()
        return answer

    def well(self) -> None:
        """Take note that the host has answered well."""
        self._well += 1
        if self._well >= _RECOVERED:
            self._busy = self._well = 0

    async def ready(self) -> None:
        """Wait until no request waits for the host to recover."""
        while self._pauses:
            await asyncio.wait(set(self._pauses))

    async def again(
        self, failures: int, failure: Unready | RegsimError, account: Account, *, reason: str | None = None
    ) -> bool:
        """Wait before the next try, and note it; False, at once, if there shall be none.

        Args:
            failures: how many tries had failed before this one.
            failure: what happened; its `Retry-After` is respected.
            account: charged with the retry.
            reason: recorded in the account; None: the failure's own.
        """
        if failures >= self.policy.retries or self._spent >= self.policy.total:
            return False
        self._spent += 1
        busy = isinstance(failure, Unready) and failure.status in _BUSY
        asked = self._asked(failure.retry_after) if isinstance(failure, Unready) else None
        # Of base * 2^failures seconds, the second half is left to chance.
        doublings = min(max(failures, self._busy if busy else 0), 32)
        delay = self.policy.base * 2**doublings * (0.5 + 0.5 * self.random()) if asked is None else asked
        delay = min(delay, self.policy.longest)
        account.retried(reason or reason_of(failure), seconds=delay)
        if not busy:
            await self.sleep(delay)
            return True
        self._busy, self._well = self._busy + 1, 0
        pause = asyncio.get_running_loop().create_future()
        self._pauses.add(pause)
        try:
            await self.sleep(delay)
        finally:
            self._pauses.discard(pause)
            pause.set_result(None)
        return True

    async def ask(self, send: Callable[[], Awaitable[Answer]], account: Account) -> Answer:
        """Send until there is an answer that will not change, or patience ends.

        Only for requests that may be repeated without harm.

        Raises:
            NetworkError: no try got an answer.
            RegistryError: the last try got one that is worth another.
        """
        failures = 0
        while True:
            await self.ready()
            try:
                return self.settled(await send())
            except (NetworkError, Unready) as failure:
                if not await self.again(failures, failure, account):
                    raise final(failure) from failure.__cause__
            failures += 1

    def _asked(self, text: str | None) -> float | None:
        """Read `Retry-After`: seconds, or a date (RFC 9110, 10.2.3)."""
        if text is None:
            return None
        if text.isascii() and text.isdigit():
            return float(text)
        try:
            date = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        return max(0.0, date.replace(tzinfo=date.tzinfo or UTC).timestamp() - self.now())


def reason_of(failure: Unready | RegsimError) -> str:
    """Return what a failure is called in the account."""
    if isinstance(failure, Unready):
        return str(failure.status)
    if isinstance(failure, NetworkError):
        return str(failure.trouble)
    return str(failure.status) if isinstance(failure, RegistryError) and failure.status else "error"


def final(failure: Unready | RegsimError) -> RegsimError:
    """Return the error to raise when patience has ended."""
    return failure.error if isinstance(failure, Unready) else failure
