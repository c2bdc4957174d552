"""What a server holds of request bodies, however many peers send at once."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import resource
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mock_registry.server import Limits
from mock_registry.server.limits import Budget, Share
from mock_registry.storage.memory import MemoryUpload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from tests.mock_registry.conftest import OpenWirePeer, Wire, WirePeer

pytestmark = pytest.mark.anyio

CONTENT = os.urandom(2 << 20)
DEADLINE = 120.0

SERVER = """
import asyncio, sys
from mock_registry import MockRegistry
from mock_registry.server import Limits
from mock_registry.storage.directory import DirectoryUpload

append, waiting, together = DirectoryUpload.append, set(), asyncio.Event()

async def append_when_all_do(upload, chunks):
    # The disk takes nothing until every peer has something for it: the most that there can be at once.
    waiting.add(upload)
    if len(waiting) == int(sys.argv[2]):
        together.set()
    await together.wait()
    await append(upload, chunks)

async def main():
    DirectoryUpload.append = append_when_all_do
    limits = Limits(bodies_held=int(sys.argv[3])) if sys.argv[3:] else None
    async with MockRegistry(directory=sys.argv[1]).serve(limits=limits) as server:
        print(server.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


def head(name: str, content: bytes = CONTENT, *headers: str) -> bytes:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    lines = [f"POST /v2/{name}/blobs/uploads/?digest={digest} HTTP/1.1", "Host: r", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""]).encode()


@asynccontextmanager
async def child(*arguments: str) -> AsyncIterator[tuple[int, int]]:
    """Run a server of its own, and give its process and its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SERVER,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        yield process.pid, int(await process.stdout.readline())
    finally:
        assert process.stdin is not None
        process.stdin.close()
        assert await process.wait() == 0


async def upload(port: int, number: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head(f"app/{number}"))
        for start in range(0, len(CONTENT), 1 << 18):
            writer.write(CONTENT[start : start + (1 << 18)])
            await writer.drain()
        return (await reader.readuntil(b"\r\n"))[9:12]
    finally:
        writer.transport.abort()


async def peak(directory: Path, *limit: str) -> int:
    """Return the octets of memory that a server had at most, while 200 peers pushed to it at once."""
    async with asyncio.timeout(DEADLINE), child(str(directory), "200", *limit) as (process, port):
        answers = await asyncio.gather(*[upload(port, number) for number in range(200)])
        most = await asyncio.to_thread(peak_of, process)
    assert set(answers) == {b"201"}
    return most


def peak_of(process: int) -> int:
    found = re.search(r"VmHWM:\s+([0-9]+) kB", Path(f"/proc/{process}/status").read_text())
    assert found is not None
    return int(found[1]) << 10


@pytest.mark.long
async def test_200_uploads_at_once_stay_below_120_megabytes(tmp_path: Path) -> None:
    assert await peak(tmp_path / "registry") < 120_000_000


@pytest.mark.long
async def test_without_a_budget_200_uploads_at_once_take_more(tmp_path: Path) -> None:
    assert await peak(tmp_path / "registry", str(1 << 40)) > 200_000_000


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process, and those that it starts, have as many connections as the system allows."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("many_files")
async def test_1000_idle_connections_are_held_and_cost_little(tmp_path: Path) -> None:
    async with asyncio.timeout(DEADLINE), child(str(tmp_path / "registry"), "1") as (process, port):
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(1000)]
        for _ in range(2):
            for _, writer in held:
                writer.write(b"HEAD /v2/ HTTP/1.1\r\nHost: r\r\n\r\n")
            heads = [await reader.readuntil(b"\r\n\r\n") for reader, _ in held]
            assert all(head.startswith(b"HTTP/1.1 200 ") for head in heads)
        assert await upload(port, 0) == b"201"
        most = await asyncio.to_thread(peak_of, process)
        for _, writer in held:
            writer.transport.abort()
    assert most < 120_000_000


@pytest.fixture
async def scarce(open_wire_peer: OpenWirePeer) -> AsyncIterator[WirePeer]:
    """A registry for which every octet is one too many."""
    async with asyncio.timeout(DEADLINE), open_wire_peer(Limits(bodies_held=0)) as peer:
        yield peer


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_uploads_go_on_however_scarce_memory_is(scarce: WirePeer, framing: str) -> None:
    async def push(number: int) -> int:
        wire = await scarce.connect()
        if framing == "length":
            return (await wire.ask(head(f"app/{number}"), CONTENT))[0]
        chunked = head(f"app/{number}").replace(b"Content-Length: 2097152", b"Transfer-Encoding: chunked")
        return (await wire.ask(chunked, b"200000\r\n", CONTENT, b"\r\n0\r\n\r\n"))[0]

    assert await asyncio.gather(*[push(number) for number in range(8)]) == [201] * 8
    assert scarce.journal.bytes_in() == 8 * len(CONTENT)
    assert all(record.complete for record in scarce.journal)
    assert scarce.server.budget.held == 0


async def test_pipelined_uploads_go_on_however_scarce_memory_is(scarce: WirePeer) -> None:
    wire = await scarce.connect()
    sending = asyncio.ensure_future(wire.send(*[head(f"app/{n}") + CONTENT for n in range(5)]))
    assert [(await wire.response())[0] for _ in range(5)] == [201] * 5
    await sending
    assert scarce.server.budget.held == 0


async def test_a_refused_body_is_drained_however_scarce_memory_is(scarce: WirePeer) -> None:
    wire = await scarce.connect()
    refused = head("app").replace(b"POST /v2/app/blobs/uploads/", b"PATCH /v2/app/blobs/uploads/none")
    assert (await wire.ask(refused, CONTENT))[0] == 404
    assert (scarce.journal[-1].bytes_in, scarce.journal[-1].complete) == (len(CONTENT), True)
    assert scarce.server.budget.held == 0


async def test_bodies_that_nobody_takes_hold_no_other_connection_back(
    open_wire_peer: OpenWirePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, append = asyncio.Event(), MemoryUpload.append
    stuck = 8

    async def slow(upload: MemoryUpload, chunks: Sequence[bytes]) -> None:
        if len(waiting) < stuck:
            waiting.append(upload)
            await go.wait()
        await append(upload, chunks)

    waiting: list[MemoryUpload] = []
    monkeypatch.setattr(MemoryUpload, "append", slow)
    async with asyncio.timeout(DEADLINE), open_wire_peer(Limits(bodies_held=1 << 20)) as peer:
        wires: list[Wire] = []
        asking: list[asyncio.Future[Any]] = []
        for number in range(stuck):
            wires.append(await peer.connect())
            asking.append(asyncio.ensure_future(wires[-1].ask(head(f"app/{number}"), CONTENT)))
        await peer.until(lambda: len(waiting) == stuck and peer.server.budget.scarce)
        free = await peer.connect()
        assert (await free.ask(head("free"), CONTENT))[0] == 201
        assert (await free.ask(b"GET /v2/ HTTP/1.1\r\nHost: r\r\n\r\n"))[0] == 200
        go.set()
        assert [answer[0] for answer in await asyncio.gather(*asking)] == [201] * stuck
        assert peer.server.budget.held == 0


@pytest.mark.parametrize("end", ["reset", "half close"])
async def test_a_peer_that_leaves_takes_its_share_with_it(scarce: WirePeer, end: str) -> None:
    wire = await scarce.connect()
    await wire.send(head("app"), CONTENT[:300_000])
    await scarce.until(lambda: scarce.server.connections)
    if end == "reset":
        wire.reset()
    else:
        wire.half_close()
        assert (await wire.response())[0] == 400
    await scarce.registry.settled()
    await scarce.until(lambda: not scarce.server.budget.held)


async def test_requests_that_wait_for_an_earlier_one_count_for_their_connection(
    open_wire_peer: OpenWirePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, commit = asyncio.Event(), MemoryUpload.commit

    async def slow(upload: MemoryUpload, digest: str) -> Any:
        await go.wait()
        return await commit(upload, digest)

    monkeypatch.setattr(MemoryUpload, "commit", slow)
    small = CONTENT[: 1 << 20]
    async with asyncio.timeout(DEADLINE), open_wire_peer() as peer:
        wire = await peer.connect()
        sending = asyncio.ensure_future(wire.send(*[head(f"app/{n}", small) + small for n in range(30)]))
        await peer.until(lambda: any(each.reading_paused for each in peer.server.connections))
        assert peer.server.budget.held < 7 << 20
        assert not sending.done()
        go.set()
        assert [(await wire.response())[0] for _ in range(30)] == [201] * 30
        await sending


def test_what_an_app_has_been_given_counts_until_it_has_been_told_and_asks_for_more() -> None:
    budget = Budget(100)
    first, second = Share(budget, 50), Share(budget, 50)
    first.add(60)
    assert (first.lend(60), budget.held) == (False, 50)  # an app gathers so much and no more
    assert (first.used(), budget.held) == (False, 50)
    second.add(80)
    assert (budget.held, budget.scarce) == (130, True)
    assert (second.lend(30), budget.held) == (True, 130)
    assert (second.used(), budget.held, budget.scarce) == (True, 100, False)
    first.close()
    second.close()
    assert budget.held == 0
    second.add(10)
    assert budget.held == 0
