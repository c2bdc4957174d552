from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from regsim.core.account import Account
from regsim.errors import NetworkError, RegistryError
from regsim.registry.answer import Answer
from regsim.registry.retry import Patience, Policy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.anyio


def replies(*statuses: int, retry_after: str | None = None) -> Callable[[], Awaitable[Answer]]:
    """Return what sends a request: a status answers, 0 is a broken connection."""
    left = list(statuses)

    async def send() -> Answer:
        status = left.pop(0)
        if not status:
            raise NetworkError("the connection broke")
        headers = {} if retry_after is None else {"Retry-After": retry_after}
        return Answer(method="GET", url="http://x/y", status=status, headers=headers)

    return send


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_a_passing_failure_is_tried_again(status: int, patience: Patience, sleeps: list[float]) -> None:
    assert (await patience.ask(replies(status, 0, 200), Account())).status == 200
    assert sleeps == [1.0, 2.0]


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 413, 501, 507])
async def test_a_lasting_answer_is_not(status: int, patience: Patience, sleeps: list[float]) -> None:
    assert (await patience.ask(replies(status), Account())).status == status
    assert sleeps == []


async def test_patience_ends_after_three_retries_with_the_last_failure(
    patience: Patience, sleeps: list[float]
) -> None:
    with pytest.raises(RegistryError, match="503") as caught:
        await patience.ask(replies(0, 0, 429, 503, 200), Account())
    assert caught.value.status == 503
    assert sleeps == [1.0, 2.0, 4.0]


async def test_a_network_failure_stays_one_when_patience_ends(patience: Patience) -> None:
    with pytest.raises(NetworkError):
        await patience.ask(replies(500, 0, 0, 0), Account())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        ("86400", 30.0),
        ("9" * 400, 30.0),
        ("Thu, 01 Jan 1970 00:00:20 GMT", 20.0),
        ("Wed, 31 Dec 1969 23:59:00 GMT", 0.0),
        ("Thu, 01 Jan 2970 00:00:00 GMT", 30.0),
        ("-1", 1.0),
        ("soon", 1.0),
        (f"Mon, 01 Jan {'9' * 30} 00:00:00 GMT", 1.0),
        (f"Mon, 01 Jan 2970 00:00:00 +{'9' * 30}", 1.0),
        ("", 1.0),
    ],
)
async def test_retry_after_is_heeded_in_both_forms_up_to_the_longest_wait(
    text: str, seconds: float, patience: Patience, sleeps: list[float]
) -> None:
    await patience.ask(replies(429, 200, retry_after=text), Account())
    assert sleeps == [seconds]


async def test_half_of_a_wait_is_left_to_chance() -> None:
    sleeps: list[float] = []

    async def sleep(seconds: float) -> None:
        sleeps.append(seconds)

    chance = iter([0.0, 0.5])
    await Patience(Policy(base=8.0), sleep=sleep, random=lambda: next(chance)).ask(
        replies(0, 0, 200), Account()
    )
    assert sleeps == [4.0, 12.0]
