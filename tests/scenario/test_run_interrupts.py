"""A run that is interrupted at any moment: the laws hold, and both accounts agree on what had been done."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

import mock_registry
from regsim.core.ledger import Outcome, violations
from regsim.core.result import Mode, RunResult
from regsim.errors import ExitCode
from regsim.scenario.images import open_images
from regsim.scenario.load import load_scenario
from regsim.scenario.run import run
from regsim.scenario.wire_world import wire_world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from mock_registry.asgi import Message, Receive, Scope, Send

pytestmark = pytest.mark.anyio

SCENARIO = """\
images:
  base: {layers: [300kB, 2kB]}
  api: {from: base, layers: [40kB]}
nodes: {ci: {}, edge: {count: 2}}
steps:
  - push: {image: base, to: shop/base, node: ci}
  - push: {image: api, to: shop/api, node: ci}
  - tag: {reference: shop/api, tag: other}
  - delete: {reference: "shop/api:latest"}
  - pull: {reference: "shop/api:other", node: edge}
  - copy: {from: shop/base, to: release/base, node: ci}
"""

MOMENTS = ("before", "during", "after")


class Interrupting(mock_registry.MockRegistry):
    """Interrupts whoever uses it before, during or after the request of a number."""

    number = 0
    moment = "before"
    interrupt: Callable[[], object]
    seen = 0

    async def __call__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        Interrupting.seen += 1
        chosen = Interrupting.seen == self.number

        def now(moment: str) -> None:
            if chosen and moment == self.moment:
                Interrupting.interrupt()

        async def interrupting_receive() -> Message:
            message = await receive()
            now("during")
            return message

        async def interrupting_send(message: Message) -> None:
            if message["type"] == "http.response.body":
                now("during")
            await send(message)

        now("before")
        await super().__call__({**scope, "extensions": {}}, interrupting_receive, interrupting_send)
        now("after")


async def interrupted_run(path: Path, number: int, moment: str) -> RunResult:
    """Run the scenario, and interrupt it around the request of a number."""
    scenario = load_scenario(path)
    images = await open_images(scenario, generate=True, tell=lambda _: None)

    async def whole() -> RunResult:
        async with wire_world(scenario.registry, images, mode=Mode.WIRE, warn=lambda _: None) as world:
            return await run(scenario, world, Mode.WIRE, lambda _: None)

    task = asyncio.ensure_future(whole())
    Interrupting.seen, Interrupting.number, Interrupting.moment = 0, number, moment
    Interrupting.interrupt = task.cancel
    return await task


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("regsim.scenario.wire_world.MockRegistry", Interrupting)
    path = tmp_path / "scenario.yaml"
    path.write_text(SCENARIO)
    return path


async def test_without_an_interrupt_the_scenario_passes(path: Path) -> None:
    result = await interrupted_run(path, 0, "before")
    assert (result.exit_code, result.interrupted) == (ExitCode.OK, False)
    assert result.reconciliation.matched is True


async def check(path: Path, moment: str, numbers: Iterable[int]) -> set[int]:
    """Interrupt a run around each request in turn, and return the steps that were reached."""
    reached: set[int] = set()
    for number in numbers:
        result = await interrupted_run(path, number, moment)
        where = f"{moment} request {number}"
        assert result.interrupted, where
        assert result.exit_code is ExitCode.INTERRUPTED, where
        assert [line for each in result.transfers for line in violations(each.ledger)] == [], where
        assert result.reconciliation.differences == (), where
        # Every transfer but those of the last step is whole, and none stands there that never began.
        last = max((each.step for each in result.transfers), default=0)
        for transfer in result.transfers:
            outcomes = {entry.outcome for entry in transfer.ledger.entries}
            assert transfer.step == last or Outcome.FAILED not in outcomes, where
        reached.add(last)
    return reached


async def count_requests(path: Path) -> int:
    await interrupted_run(path, 0, "before")
    return Interrupting.seen


@pytest.mark.parametrize("moment", MOMENTS)
async def test_an_interrupt_leaves_lawful_ledgers_that_agree_with_the_journal(
    path: Path, moment: str
) -> None:
    requests = await count_requests(path)
    assert requests > 30
    # Each request is met at one of its moments here, and at all of them below.
    assert await check(path, moment, range(1 + MOMENTS.index(moment), requests, 3)) >= {1, 2, 5, 6}


@pytest.mark.soak
@pytest.mark.parametrize("moment", MOMENTS)
async def test_so_does_an_interrupt_at_any_moment_again_and_again(path: Path, moment: str) -> None:
    requests = await count_requests(path)
    for _ in range(10):
        assert await check(path, moment, range(1, requests)) >= {1, 2, 3, 5, 6}
