"""Time that is moved by hand, so that nothing that waits needs to be waited for.

Owns a clock and the sleepers on it. Must not know what they wait for.
"""

import asyncio


class ManualClock:
    """A clock for tests: ``MockRegistry(clock=clock, sleep=clock.sleep)``.

    Args:
        jumps: A sleeper wakes at once, and the time is then what it would be; else sleepers wait for
            `advance`.
    """

    def __init__(self, *, jumps: bool = False) -> None:
        self._jumps = jumps
        self._now = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        """Return the time, in seconds from 0."""
        return self._now

    @property
    def sleepers(self) -> int:
        """How many are asleep."""
        return sum(not future.done() for _, future in self._sleepers)

    async def sleep(self, seconds: float) -> None:
        """Wait until so much time has passed on this clock."""
        if self._jumps:
            self._now += max(seconds, 0.0)
            await asyncio.sleep(0)
        elif seconds > 0:
            future = asyncio.get_running_loop().create_future()
            self._sleepers.append((self._now + seconds, future))
            await future

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake those whose time has come, the earliest first."""
        self._now += seconds
        due = sorted((each for each in self._sleepers if each[0] <= self._now), key=lambda each: each[0])
        self._sleepers = [each for each in self._sleepers if each[0] > self._now]
        for _, future in due:
            if not future.done():
                future.set_result(None)
