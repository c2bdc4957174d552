"""Push, pull and copy from Python: what they return, raise, tell and leave behind."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import regsim
from mock_registry import MockRegistry
from regsim.client.client import Client
from regsim.core.ledger import Direction, Evidence, Outcome
from regsim.errors import NotFoundError, RegistryError, UsageError
from regsim.transfer.events import Event, Moment, Step

if TYPE_CHECKING:
    from pathlib import Path

    from regsim.client.image_address import Address
    from tests.client.conftest import Make

pytestmark = pytest.mark.anyio

REF = "127.0.0.1:5000/shop/api:v1"


async def test_a_push_returns_the_ledger_and_the_registry_has_the_image(
    client: Client, mock: MockRegistry, make: Make, place: Path
) -> None:
    image = await make("v1", b"base", b"own")
    result = await client.push(f"oci:{place}:v1", REF)
    (transfer,) = result.transfers
    assert transfer.ledger.direction is Direction.PUSH
    assert transfer.ledger.digest == image.digest
    assert [each.outcome for each in transfer.ledger.entries] == [Outcome.TRANSFERRED] * 4
    assert result.summary.wire_sent == sum(each.size for each in transfer.ledger.entries)
    assert {each.digest for each in mock.journal if each.status == 201 and each.digest} >= {image.digest}


async def test_what_was_pushed_is_pulled_into_a_layout_and_into_the_local_store(
    client: Client, make: Make, place: Path, tmp_path: Path
) -> None:
    image = await make("v1", b"base")
    await client.push(f"oci:{place}:v1", REF)
    await client.pull(REF, f"oci:{tmp_path / 'pulled'}")
    assert (await client.resolve(f"oci:{tmp_path / 'pulled'}:v1")).digest == image.digest
    await client.pull(REF)
    store = tmp_path / "data" / "regsim" / "store"
    assert await client.tags(f"oci:{store}") == (REF,)


async def test_large_blobs_are_read_over_as_many_connections_as_asked_for(
    mock: MockRegistry, make: Make, place: Path, tmp_path: Path
) -> None:
    large = bytes(33 * 1024 * 1024)
    image = await make("v1", large, b"small")
    async with Client(transport=mock.transport(), ranges=4) as client:
        await client.push(f"oci:{place}:v1", REF)
        await client.pull(REF, f"oci:{tmp_path / 'pulled'}")
        assert (await client.resolve(f"oci:{tmp_path / 'pulled'}:v1")).digest == image.digest
    got = [record for record in mock.journal.records(method="GET", route="blob") if record.status == 206]
    assert sorted(record.bytes_out for record in got) == [1024 * 1024] + [2 * 1024 * 1024] * 16
    with pytest.raises(UsageError, match="17 ranges"):
        Client(ranges=17)


async def test_a_copy_within_a_registry_mounts(client: Client, make: Make, place: Path) -> None:
    await make("v1", b"base")
    await client.push(f"oci:{place}:v1", REF)
    result = await client.copy(REF, "127.0.0.1:5000/live/api:v1")
    assert result.summary.by_outcome[Outcome.MOUNTED].count == 2


async def test_a_dry_run_writes_nothing(client: Client, mock: MockRegistry, make: Make, place: Path) -> None:
    await make("v1", b"base")
    plan = await client.push(f"oci:{place}:v1", REF, dry_run=True)
    assert plan.mode == "plan"
    assert {each.method for each in mock.journal} <= {"GET", "HEAD"}
    real = await client.push(f"oci:{place}:v1", REF)
    assert [each.outcome for each in plan.transfers[0].ledger.entries] == [
        each.outcome for each in real.transfers[0].ledger.entries
    ]


async def test_what_goes_wrong_is_raised_or_stands_in_the_result(client: Client, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"shop/api:v1 does not exist"):
        await client.pull(REF, f"oci:{tmp_path / 'pulled'}")
    result = await client.pull(REF, f"oci:{tmp_path / 'pulled'}", check=False)
    assert [type(each) for each in result.errors] == [NotFoundError]
    assert result.exit_code == 3


async def test_a_push_that_is_refused_half_way_keeps_the_account(make: Make, place: Path) -> None:
    await make("v1", b"base")
    async with (
        MockRegistry(faults=["PUT manifest status 403"]) as mock,
        Client(transport=mock.transport()) as client,
    ):
        with pytest.raises(RegistryError, match="403"):
            await client.push(f"oci:{place}:v1", REF)
        result = await client.push(f"oci:{place}:v1", REF, check=False)
    outcomes = [(each.outcome, each.evidence) for each in result.transfers[0].ledger.entries]
    assert outcomes[0] == (Outcome.FAILED, Evidence.ERROR)
    assert set(outcomes[1:]) == {(Outcome.EXISTS, Evidence.HEAD)}


@pytest.mark.parametrize(
    ("direction", "source", "destination", "words"),
    [
        (Direction.PUSH, REF, REF, "push takes a local image"),
        (Direction.PUSH, "oci:a", "oci:b", "push goes to a registry"),
        (Direction.PUSH, "oci:a", None, "a push needs a destination"),
        (Direction.PULL, "oci:a", "oci:b", "pull takes an image of a registry"),
        (Direction.PULL, REF, REF, "pull goes to this machine"),
        (Direction.COPY, "oci:a", "shop@sha256:" + "0" * 64, "a destination has a tag"),
    ],
)
async def test_addresses_that_do_not_suit_the_verb_are_refused(
    client: Client, direction: Direction, source: str, destination: str | None, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        client.move(source, destination, direction=direction)


async def test_no_jobs_move_nothing() -> None:
    with pytest.raises(UsageError, match="0 jobs"):
        Client(jobs=0)


async def test_a_cancelled_transfer_raises_and_its_account_can_still_be_read(
    client: Client, make: Make, place: Path
) -> None:
    await make("v1", b"base", b"own")
    begun = asyncio.Event()

    def listener(event: Event) -> None:
        if event.step is Step.UPLOAD:
            begun.set()

    move = client.move(f"oci:{place}:v1", REF, listener=listener)
    task = asyncio.create_task(move.run())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    result = move.result(interrupted=True)
    assert result.exit_code == 130
    assert result.reconciliation.differences == ()
    assert {each.outcome for each in result.transfers[0].ledger.entries} == {Outcome.FAILED}


async def test_a_deadline_of_the_caller_ends_a_transfer(client: Client, make: Make, place: Path) -> None:
    await make("v1", b"base")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await client.push(f"oci:{place}:v1", REF)


async def test_several_transfers_share_a_client(client: Client, make: Make, place: Path) -> None:
    for tag in ("v1", "v2", "v3"):
        await make(tag, b"base", tag.encode())
    results = await asyncio.gather(
        *(client.push(f"oci:{place}:{tag}", f"127.0.0.1:5000/shop/{tag}:1") for tag in ("v1", "v2", "v3"))
    )
    assert [each.errors for each in results] == [(), (), ()]
    assert sorted(await client.catalog("127.0.0.1:5000")) == ["shop/v1", "shop/v2", "shop/v3"]


async def test_a_listener_hears_each_step_and_what_was_found(client: Client, make: Make, place: Path) -> None:
    await make("v1", b"base")
    heard: list[Event] = []
    await client.push(f"oci:{place}:v1", REF, listener=heard.append)
    told = [(each.step, each.moment, each.found) for each in heard if each.moment is not Moment.PROGRESS]
    assert told.count((Step.CHECK_BLOB, Moment.COMPLETED, False)) == 2
    assert told[-1] == (Step.PUT_MANIFEST, Moment.COMPLETED, None)
    done = {each.descriptor.digest: each for each in heard if each.moment is Moment.COMPLETED}
    uploads = [each for each in done.values() if each.step is Step.UPLOAD]
    assert [each.moved for each in uploads] == [each.descriptor.size for each in uploads]
    heard.clear()
    await client.push(f"oci:{place}:v1", REF, listener=heard.append)
    assert {(each.step, each.found) for each in heard if each.moment is Moment.COMPLETED} == {
        (Step.FETCH_MANIFEST, None),
        (Step.CHECK_MANIFEST, True),
    }


async def test_what_a_listener_raises_ends_the_transfer(client: Client, make: Make, place: Path) -> None:
    await make("v1", b"base")

    def listener(_event: Event) -> None:
        raise LookupError("of the caller's own")

    with pytest.raises(LookupError, match="of the caller's own"):
        await client.push(f"oci:{place}:v1", REF, listener=listener)


async def test_without_memory_nothing_is_noted_and_no_mount_is_guessed(
    mock: MockRegistry, make: Make, place: Path, tmp_path: Path
) -> None:
    await make("v1", b"base")
    async with Client(transport=mock.transport(), remember=False) as client:
        await client.push(f"oci:{place}:v1", REF)
        result = await client.push(f"oci:{place}:v1", "127.0.0.1:5000/live/api:v1")
    assert result.summary.by_outcome[Outcome.MOUNTED].count == 0
    assert not (tmp_path / "cache").exists()


def test_the_package_is_cheap_to_import_and_tells_what_it_offers() -> None:
    code = "import sys, regsim; print({'httpx', 'asyncio', 'regsim.client'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert {"Client", "Event", "RunResult"} <= set(dir(regsim))
    assert regsim.Client is Client
    missing: Any = "Nothing"
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        getattr(regsim, missing)


def test_a_store_is_read_without_an_http_client(tmp_path: Path) -> None:
    use = "asyncio.run(regsim.Client(trust=regsim.Trust()).usage())"
    code = f"import asyncio, sys, regsim; {use}; print('httpx' in sys.modules)"
    environment = {"XDG_DATA_HOME": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == "False"


def test_addresses_may_be_values(tmp_path: Path) -> None:
    from regsim.client.image_address import parse  # noqa: PLC0415  (read where it is shown)

    source: Address = parse(f"oci:{tmp_path}:v1")
    move = Client().move(source, parse(REF))
    assert move.result().transfers[0].ledger.reference == f"oci:{tmp_path}:v1 to {REF}"
