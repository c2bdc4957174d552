"""Negative controls: whatever is wrong in one of the two accounts is found, and named."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from mock_registry import Journal, MockRegistry, Record
from mock_registry.exchange import Exchange, Refusal, Response
from mock_registry.spec import ErrorCode, Fault
from regsim.core import Descriptor, Digest
from regsim.core.account import Loss, Waste
from regsim.core.ledger import Entry, Evidence, Ledger, Outcome, violations
from regsim.core.result import Reconciliation, RunResult, TransferResult
from regsim.core.work import entries
from regsim.errors import ExitCode
from regsim.registry import Connection
from regsim.registry.repository import Registry, Repository
from regsim.registry.retry import Patience
from regsim.registry.transport import Transport
from regsim.scenario.reconcile import reconcile
from regsim.store.node import MemoryStore, node_store
from regsim.transfer.copy import Options, Transfer
from regsim.transfer.ends import LocalDestination, LocalSource, RegistryDestination, RegistrySource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from mock_registry.faults.rules import Admitted
    from regsim.core.account import Account
    from regsim.store.protocols import Content
    from regsim.transfer.ends import Destination, Source

    Stock = Callable[..., Awaitable[Descriptor]]

pytestmark = pytest.mark.anyio

BASE, TOP = b"base layer", b"top"


@dataclass
class Accounts:
    """What the client says and what the registry saw, of a few transfers of every kind."""

    ledgers: list[Ledger]
    journal: Journal

    def entries(self) -> Iterator[tuple[int, int, Entry]]:
        for number, ledger in enumerate(self.ledgers):
            for position, entry in enumerate(ledger.entries):
                yield number, position, entry

    def with_entry(self, number: int, position: int, *entries: Entry) -> list[Ledger]:
        """Return the ledgers with other entries (or none) in the place of one."""
        ledger = self.ledgers[number]
        changed = (*ledger.entries[:position], *entries, *ledger.entries[position + 1 :])
        return [*self.ledgers[:number], replace(ledger, entries=changed), *self.ledgers[number + 1 :]]

    def with_record(self, position: int, *records: Record) -> Journal:
        """Return the journal with other records (or none) in the place of one."""
        changed = Journal()
        for record in (*self.journal[:position], *records, *self.journal[position + 1 :]):
            changed.append(record)
        return changed


@pytest.fixture
async def accounts(mock: MockRegistry, registry: Registry, stock: Stock) -> Accounts:
    store, node = MemoryStore(), node_store()
    await stock(store, "old", BASE, config=b'{"old": 1}')
    await stock(store, "new", BASE, TOP, TOP, config=b'{"new": 1}')
    local, api = LocalSource(store), registry.repository("shop/api")

    async def move(source: Source, reference: str, to: Destination, *mount_from: str) -> Ledger:
        options = Options(candidates=lambda _: mount_from)
        return await Transfer(source, reference, to, tag="v1", options=options).run()

    ledgers = [
        await move(local, "old", RegistryDestination(registry.repository("library/base"))),
        await move(local, "new", RegistryDestination(api), "library/base"),
        await move(local, "new", RegistryDestination(api)),
        await move(RegistrySource(api), "v1", LocalDestination(node)),
        await move(RegistrySource(api), "v1", RegistryDestination(registry.repository("shop/web"))),
        await move(RegistrySource(api), "v9", LocalDestination(node)),
    ]
    found = Accounts(ledgers, mock.journal)
    assert reconcile(ledgers, mock.journal).differences == ()
    assert {entry.outcome for _, _, entry in found.entries()} == {
        "transferred",
        "exists",
        "mounted",
        "joined",
    }
    return found


# The registry's account.


@pytest.mark.parametrize("figure", ["bytes_in", "bytes_out"])
@pytest.mark.parametrize("error", [1, -1])
async def test_byte_miscounted_by_the_registry_is_found_in_every_record(
    accounts: Accounts, figure: str, error: int
) -> None:
    tried = 0
    for position, record in enumerate(accounts.journal):
        count = getattr(record, figure)
        if count == 0:
            continue
        tried += 1
        wrong = accounts.with_record(position, replace(record, **{figure: count + error}))
        found = reconcile(accounts.ledgers, wrong)
        assert found.matched is False
        digest = record.digest or "overhead"
        assert any(digest in line or "overhead" in line for line in found.differences)
    assert tried > 5


async def test_request_that_the_client_does_not_tell_of_is_found(accounts: Accounts) -> None:
    for position, record in enumerate(accounts.journal):
        twice = accounts.with_record(position, record, record)
        found = reconcile(accounts.ledgers, twice)
        assert any(line.startswith("requests") for line in found.differences)


async def test_request_that_the_registry_did_not_see_is_found(accounts: Accounts) -> None:
    for position in range(len(accounts.journal)):
        found = reconcile(accounts.ledgers, accounts.with_record(position))
        assert any(line.startswith("requests, in all") for line in found.differences)


async def test_upload_that_the_registry_did_not_take_is_found(accounts: Accounts) -> None:
    for position, record in enumerate(accounts.journal):
        if record.status == 201:
            refused = accounts.with_record(position, replace(record, status=202, mounted_from=None))
            found = reconcile(accounts.ledgers, refused)
            assert any(record.digest in line for line in found.differences if record.digest)
            assert found.matched is False


async def test_mount_from_elsewhere_is_found(accounts: Accounts) -> None:
    for position, record in enumerate(accounts.journal):
        if record.mounted_from:
            elsewhere = accounts.with_record(position, replace(record, mounted_from="some/where"))
            found = reconcile(accounts.ledgers, elsewhere)
            assert f"mounts, {record.digest} from library/base: ledger 1, journal 0" in found.differences
            assert f"mounts, {record.digest} from some/where: ledger 0, journal 1" in found.differences


async def test_blob_that_the_registry_never_said_it_has_is_found(
    mock: MockRegistry, registry: Registry, stock: Stock
) -> None:
    store = MemoryStore()
    await stock(store, "v1", BASE, config=b"{}")
    await stock(store, "v2", BASE, TOP, config=b"{}")
    destination = RegistryDestination(registry.repository("shop/api"))
    ledgers = [await Transfer(LocalSource(store), tag, destination, tag=tag).run() for tag in ("v1", "v2")]
    assert reconcile(ledgers, mock.journal).differences == ()
    wrong = Journal()
    for record in mock.journal:
        denied = record.digest == Digest.of(BASE) and record.method == "HEAD"
        wrong.append(replace(record, status=404) if denied else record)
    found = reconcile(ledgers, wrong)
    assert found.differences == (f"found by asking, {Digest.of(BASE)}: the journal has no such answer",)


# The client's account.


async def test_entry_that_is_dropped_is_found(accounts: Accounts) -> None:
    for number, position, entry in accounts.entries():
        without = accounts.with_entry(number, position)
        count = len(accounts.ledgers[number].entries)
        found = violations(without[number])
        assert f"references: {count} but sum over outcomes: {count - 1}" in found
        differences = reconcile(without, accounts.journal).differences
        assert {f"{entry.direction} v1: {line}" for line in found} <= set(differences) or number < 3
        if entry.wire_sent or entry.wire_received:
            assert any(entry.digest in line for line in differences)


async def test_entry_that_is_listed_twice_is_found(accounts: Accounts) -> None:
    for number, position, entry in accounts.entries():
        twice = accounts.with_entry(number, position, entry, entry)
        assert violations(twice[number])


@pytest.mark.parametrize("outcome", Outcome)
async def test_wrong_outcome_is_found_and_named(accounts: Accounts, outcome: Outcome) -> None:
    for number, position, entry in accounts.entries():
        if entry.outcome is not outcome:
            wrong = accounts.with_entry(number, position, replace(entry, outcome=outcome))
            assert any(entry.digest.short in line for line in violations(wrong[number]))


PLAUSIBLE = (
    (Outcome.TRANSFERRED, Evidence.UPLOAD, None),
    (Outcome.TRANSFERRED, Evidence.DOWNLOAD, None),
    (Outcome.EXISTS, Evidence.HEAD, None),
    (Outcome.MOUNTED, Evidence.CREATED, "library/base"),
    (Outcome.JOINED, None, None),
    (Outcome.INLINED, None, None),
)


async def test_wrong_outcome_with_evidence_to_match_is_found(accounts: Accounts) -> None:
    for number, position, entry in accounts.entries():
        for outcome, evidence, mounted_from in PLAUSIBLE:
            if entry.outcome is outcome:
                continue
            wrong = replace(entry, outcome=outcome, evidence=evidence, mounted_from=mounted_from)
            found = reconcile(accounts.with_entry(number, position, wrong), accounts.journal)
            inlined = outcome is Outcome.INLINED and entry.outcome is Outcome.EXISTS
            assert found.differences or inlined, (entry, outcome)


@pytest.mark.parametrize(
    "figures",
    [
        ("useful_sent",),
        ("useful_received",),
        ("wire_sent",),
        ("wire_received",),
        ("wasted_sent",),
        ("wasted_received",),
        ("resumed",),
        ("requests",),
        ("overhead",),
        ("size",),
        # Lawful in itself, and yet not what happened:
        ("wire_sent", "wasted_sent"),
        ("wire_received", "wasted_received"),
        ("wire_sent", "useful_sent"),
        ("wire_received", "useful_received"),
    ],
    ids=" and ".join,
)
@pytest.mark.parametrize("error", [1, -1])
async def test_changed_figure_is_found_in_every_entry(
    accounts: Accounts, figures: tuple[str, ...], error: int
) -> None:
    for number, position, entry in accounts.entries():
        if figures == ("resumed",) and entry.outcome is not Outcome.TRANSFERRED and error == 1:
            continue  # of no effect on any sum
        changes = {figure: getattr(entry, figure) + error for figure in figures}
        wrong = accounts.with_entry(number, position, replace(entry, **changes))
        found = reconcile(wrong, accounts.journal)
        assert found.differences, (entry, changes)
        if len(figures) == 2:
            assert any(entry.digest in line for line in found.differences)


async def test_lost_ledger_is_found(accounts: Accounts) -> None:
    for number in range(len(accounts.ledgers)):
        rest = [*accounts.ledgers[:number], *accounts.ledgers[number + 1 :]]
        assert reconcile(rest, accounts.journal).matched is False


async def test_difference_ends_in_exit_code_5(accounts: Accounts) -> None:
    dropped = accounts.with_entry(0, 1)
    transfers = tuple(TransferResult(ledger=ledger) for ledger in dropped[:5])
    result = RunResult(transfers=transfers, reconciliation=reconcile(dropped, accounts.journal))
    assert result.exit_code is ExitCode.CONTENT


# Clients and registries that are wrong while they work.


class Miscounting(MockRegistry):
    """A registry that counts one octet of every blob too many."""

    async def _serve(self, exchange: Exchange) -> None:
        await super()._serve(exchange)
        exchange.bytes_in += exchange.bytes_in > 0


class Busy(MockRegistry):
    """A registry that answers the first commit of every blob with 503, having read it."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = set[str | None]()

    async def _respond(self, exchange: Exchange, admitted: Admitted | None = None) -> Response:
        digest = exchange.parameter("digest")
        if exchange.method == "PUT" and digest and digest not in self.refused:
            self.refused.add(digest)
            exchange.digest = digest
            return Refusal(503, Fault(ErrorCode.UNKNOWN, "later")).response()
        return await super()._respond(exchange, admitted)


class Hiding(RegistryDestination):
    """A client that does not tell of a request, or of bytes, that it took to upload a blob."""

    def __init__(self, repository: Repository, *, requests: int = 0, sent: int = 0) -> None:
        super().__init__(repository)
        self.requests, self.sent = requests, sent

    async def put(self, content: Content, session: object | None, account: Account) -> None:
        await super().put(content, session, account)
        account.requests -= self.requests
        account.sent -= self.sent
        # Lawful in itself: what it hides of the waste it hides everywhere.
        account.wasted_sent -= self.sent
        account.attempts = 1
        account.retries.clear()
        account.losses += [Waste(Loss.CUT, account.wasted_sent)]


async def pushed(mock: MockRegistry, stock: Stock, **hidden: int) -> Ledger:
    store = MemoryStore()
    await stock(store, "v1", BASE, config=b"{}")

    async def no_wait(_: float) -> None:
        return

    async with mock, Transport("127.0.0.1:5000", Connection(transport=mock.transport())) as transport:
        repository = Registry(transport, patience=Patience(sleep=no_wait)).repository("shop/api")
        return await Transfer(LocalSource(store), "v1", Hiding(repository, **hidden), tag="v1").run()


async def test_registry_that_counts_a_byte_too_many_is_found(stock: Stock) -> None:
    mock = Miscounting()
    ledger = await pushed(mock, stock)
    found = reconcile([ledger], mock.journal)
    assert violations(ledger) == []
    size = len(BASE)
    assert f"sent, {Digest.of(BASE)}: ledger {size} bytes, journal {size + 1}" in found.differences


async def test_retries_are_reconciled_to_the_byte(stock: Stock) -> None:
    mock = Busy()
    ledger = await pushed(mock, stock)
    base = ledger.entries[2]
    assert (base.outcome, base.wire_sent, base.wasted_sent) == ("transferred", 2 * len(BASE), len(BASE))
    assert reconcile([ledger], mock.journal).differences == ()


async def test_client_that_hides_a_request_is_found(stock: Stock) -> None:
    mock = MockRegistry()
    ledger = await pushed(mock, stock, requests=1)
    found = reconcile([ledger], mock.journal)
    assert violations(ledger) == []
    assert f"requests, {Digest.of(BASE)}: ledger 2, journal 3" in found.differences
    assert found.matched is False


async def test_client_that_hides_a_retry_is_found(stock: Stock) -> None:
    mock = Busy()
    ledger = await pushed(mock, stock, requests=1)
    found = reconcile([ledger], mock.journal)
    requests = ledger.summary.requests
    assert violations(ledger) == []
    # Two blobs were sent, and the sessions that came to nothing name neither.
    assert f"requests, in all: ledger {requests}, journal {requests + 2}" in found.differences
    assert found.matched is False


async def test_client_that_hides_the_bytes_of_a_retry_is_found(stock: Stock) -> None:
    mock = Busy()
    ledger = await pushed(mock, stock, sent=2)
    found = reconcile([ledger], mock.journal)
    sent = 2 * len(BASE)
    assert violations(ledger) == []
    assert f"sent, {Digest.of(BASE)}: ledger {sent - 2} bytes, journal {sent}" in found.differences


# Each law of the ledger against a client that gets one count wrong, with no journal beside it.

WRONG = ("sent", "received", "useful_sent", "useful_received", "wasted_sent", "wasted_received")


class Wrong(RegistryDestination):
    """A client that gets one count wrong by as many octets as `octets` says, for each blob that it stores."""

    def __init__(self, repository: Repository, count: str, octets: int) -> None:
        super().__init__(repository)
        self.count, self.octets = count, octets

    async def put(self, content: Content, session: object | None, account: Account) -> Evidence | None:
        found = await super().put(content, session, account)
        setattr(account, self.count, getattr(account, self.count) + self.octets)
        return found


@pytest.mark.parametrize("count", WRONG)
@pytest.mark.parametrize("octets", [1000, -1])
@pytest.mark.parametrize("busy", [False, True])
async def test_client_that_gets_one_count_wrong_breaks_a_law_with_no_journal_to_compare(
    stock: Stock, count: str, octets: int, busy: bool
) -> None:
    store, mock = MemoryStore(), Busy() if busy else MockRegistry()
    await stock(store, "v1", BASE, TOP, config=b"{}")

    async def no_wait(_: float) -> None:
        return

    async with mock, Transport("127.0.0.1:5000", Connection(transport=mock.transport())) as transport:
        registry = Registry(transport, patience=Patience(sleep=no_wait))
        source = registry.repository("library/base")
        await Transfer(LocalSource(store), "v1", RegistryDestination(source), tag="v1").run()
        to = Wrong(registry.repository("shop/api"), count, octets)
        ledger = await Transfer(RegistrySource(source), "v1", to, tag="v1").run()
    assert ledger.error is None
    result = Reconciliation.alone([ledger])
    assert result.matched is False
    broken = {entry.digest.short for entry in ledger.entries if entry.attempts and entry.role != "manifest"}
    assert len(broken) == 3
    assert all(any(short in line for line in result.differences) for short in broken)
    assert RunResult(reconciliation=result).exit_code is ExitCode.CONTENT


async def test_entry_that_is_lost_where_entries_are_made_is_found_with_no_journal(
    mock: MockRegistry, registry: Registry, stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(*args: Any, **options: Any) -> tuple[Entry, ...]:
        return entries(*args, **options)[:-1]

    monkeypatch.setattr("regsim.transfer.copy.entries", forgetful)
    store = MemoryStore()
    await stock(store, "v1", BASE, config=b"{}")
    destination = RegistryDestination(registry.repository("shop/api"))
    ledger = await Transfer(LocalSource(store), "v1", destination, tag="v1").run()
    assert mock.journal
    assert "references: 3 but sum over outcomes: 2" in violations(ledger)
