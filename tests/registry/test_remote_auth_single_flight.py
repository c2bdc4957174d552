"""Work that several ask for at once is done once: a failure is shared, a cancellation is not."""

from __future__ import annotations

import asyncio

import pytest

from regsim.errors import AuthenticationError
from regsim.registry.login.single_flight import SingleFlight

pytestmark = pytest.mark.anyio


class Work:
    """Work that waits to be let go of, and fails where `error` says how."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.begun = 0
        self.started = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self) -> int:
        self.begun += 1
        number = self.begun
        self.started.set()
        await self.go.wait()
        if self.error:
            raise self.error
        return number


async def begin(flights: SingleFlight[int], work: Work, tasks: int) -> list[asyncio.Task[int]]:
    """Let tasks ask for the same; return when one works and the others wait."""
    asking = [asyncio.create_task(flights.join("key", work)) for _ in range(tasks)]
    await work.started.wait()
    return asking


async def test_all_have_what_one_did() -> None:
    flights, work = SingleFlight[int](), Work()
    asking = await begin(flights, work, 5)
    work.go.set()
    assert await asyncio.gather(*asking) == [1] * 5


async def test_nothing_is_kept_for_who_comes_later() -> None:
    flights, work = SingleFlight[int](), Work()
    work.go.set()
    assert [await flights.join("key", work) for _ in range(2)] == [1, 2]


async def test_what_is_about_something_else_does_not_wait() -> None:
    flights, work, other = SingleFlight[int](), Work(), Work()
    (asking,) = await begin(flights, work, 1)
    other.go.set()
    assert await flights.join("other", other) == 1
    asking.cancel()


async def test_a_failure_is_everybodys_who_waited_and_nobodys_after_them() -> None:
    flights, work = SingleFlight[int](), Work(AuthenticationError("no", hint="why", status=401))
    asking = await begin(flights, work, 3)
    work.go.set()
    errors = await asyncio.gather(*asking, return_exceptions=True)
    assert [(type(each), str(each), getattr(each, "hint", "")) for each in errors] == [
        (AuthenticationError, "no", "why")
    ] * 3
    assert len({id(each) for each in errors}) == 3
    work.error = None
    assert await flights.join("key", work) == 2


async def test_who_waits_takes_over_from_who_is_cancelled() -> None:
    flights, work = SingleFlight[int](), Work()
    asking = await begin(flights, work, 3)
    asking[0].cancel()
    await asyncio.wait(asking[:1])
    work.go.set()
    assert await asyncio.gather(*asking[1:]) == [2, 2]


async def test_who_waits_and_is_cancelled_stops_nobody() -> None:
    flights, work = SingleFlight[int](), Work()
    asking = await begin(flights, work, 3)
    asking[1].cancel()
    await asyncio.wait(asking[1:2])
    work.go.set()
    assert [await asking[0], await asking[2]] == [1, 1]


async def test_a_bug_is_raised_where_it_is_and_the_others_try() -> None:
    flights, work = SingleFlight[int](), Work(ZeroDivisionError())
    asking = await begin(flights, work, 2)
    work.go.set()
    errors = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(each) for each in errors] == [ZeroDivisionError] * 2
    assert work.begun == 2
