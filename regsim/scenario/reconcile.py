"""The two accounts side by side: the client's ledgers and the registry's journal (DESIGN 1.3 and 5).

The only place that sees both. Every difference is named with both figures; a run with one is an error.
What an interrupted body left open is bounded: who receives cannot have more than who sends gave.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mock_registry.journal import Route
from regsim.result import Reconciliation
from regsim.transfer.ledger import Evidence, Outcome, violations

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mock_registry.journal import Journal, Record
    from regsim.remote.account import Account
    from regsim.transfer.ledger import Entry, Ledger

_CONTENT_OUT = frozenset({200, 206})
_CREATED = 201


def reconcile(
    ledgers: Iterable[Ledger], journal: Journal, *, beside: Account | None = None
) -> Reconciliation:
    """Compare what clients say that they did with what the registry saw.

    Args:
        ledgers: of every transfer with the registry since the journal began.
        journal: the registry's records of the same time.
        beside: what was spent on requests that belong to no transfer, such as a delete step.
    """
    ledgers = tuple(ledgers)
    client, registry = _Client.of(ledgers, beside), _Registry.of(journal)
    differences = (
        *(f"{each.direction} {each.reference}: {line}" for each in ledgers for line in violations(each)),
        *_bodies("sent", client.sent, registry.taken, registry.taken_in_part, client_gives=True),
        *_bodies("received", client.received, registry.given, registry.given_in_part, client_gives=False),
        *_requests(client, registry),
        *_overhead(client, registry),
        *_outcomes(client, registry),
    )
    return Reconciliation(not differences, differences)


@dataclass(slots=True)
class _Client:
    """Sums over ledgers. The key None collects what belongs to no digest."""

    sent: Counter[str | None] = field(default_factory=Counter)
    received: Counter[str | None] = field(default_factory=Counter)
    requests: Counter[str | None] = field(default_factory=Counter)
    overhead: int = 0
    uploaded: Counter[str] = field(default_factory=Counter)
    mounted: Counter[tuple[str, str | None]] = field(default_factory=Counter)

    @classmethod
    def of(cls, ledgers: Iterable[Ledger], beside: Account | None) -> _Client:
        client = cls()
        for ledger in ledgers:
            for entry in ledger.entries:
                client._add(entry, sends=ledger.sends)
            client._spend(ledger.resolving)
        client._spend(beside)
        return client

    def _add(self, entry: Entry, *, sends: bool) -> None:
        self.sent[entry.digest] += entry.wire_sent
        self.received[entry.digest] += entry.wire_received
        self.requests[entry.digest] += entry.requests
        self.overhead += entry.overhead
        if entry.outcome is Outcome.TRANSFERRED and sends:
            self.uploaded[entry.digest] += 1
        if entry.evidence is Evidence.CREATED:
            self.mounted[entry.digest, entry.mounted_from] += 1

    def _spend(self, account: Account | None) -> None:
        if account is None:
            return
        self.sent[None] += account.sent
        self.received[None] += account.received
        self.requests[None] += account.requests
        self.overhead += account.overhead


@dataclass(slots=True)
class _Registry:
    """Sums over a journal, by the digest that each request was about, None where it names none."""

    taken: Counter[str | None] = field(default_factory=Counter)
    taken_in_part: Counter[str | None] = field(default_factory=Counter)
    given: Counter[str | None] = field(default_factory=Counter)
    given_in_part: Counter[str | None] = field(default_factory=Counter)
    requests: Counter[str | None] = field(default_factory=Counter)
    overhead: int = 0
    overhead_in_part: int = 0
    stored: Counter[str] = field(default_factory=Counter)
    mounted: Counter[tuple[str, str | None]] = field(default_factory=Counter)

    @classmethod
    def of(cls, journal: Journal) -> _Registry:
        registry = cls()
        for record in journal:
            registry._add(record, record.digest or journal.session_digest(record.session))
        return registry

    def _add(self, record: Record, digest: str | None) -> None:
        self.requests[digest] += 1
        (self.taken if record.complete else self.taken_in_part)[digest] += _content_in(record)
        (self.given if record.complete else self.given_in_part)[digest] += _content_out(record)
        overhead = record.bytes_in - _content_in(record) + record.bytes_out - _content_out(record)
        if record.complete:
            self.overhead += overhead
        else:
            self.overhead_in_part += overhead
        if record.status == _CREATED and digest is not None:
            if record.mounted_from is not None:
                self.mounted[digest, record.mounted_from] += 1
            else:
                self.stored[digest] += 1


def _content_in(record: Record) -> int:
    uploads = record.route in (Route.UPLOAD, Route.UPLOADS) and record.method in ("POST", "PATCH", "PUT")
    manifest = record.route is Route.MANIFEST and record.method == "PUT"
    return record.bytes_in if uploads or manifest else 0


def _content_out(record: Record) -> int:
    reads = record.route in (Route.BLOB, Route.MANIFEST) and record.method == "GET"
    return record.bytes_out if reads and record.status in _CONTENT_OUT else 0


def _bodies(
    word: str,
    client: Counter[str | None],
    whole: Counter[str | None],
    in_part: Counter[str | None],
    *,
    client_gives: bool,
) -> Iterator[str]:
    """Compare content octets digest by digest.

    Whole bodies agree exactly. Of a body that broke off, the one who gives may count more than the one
    who takes has seen. What the journal cannot put to a digest (a session that was never committed) may
    stand against any digest, but not twice: it is taken up by the first that lack it.
    """
    loose = whole[None] + in_part[None]
    slack_without_digest = in_part[None]
    for digest in sorted((set(client) | set(whole) | set(in_part)) - {None}, key=str):
        ours, theirs, partial = client[digest], whole[digest], in_part[digest]
        gap = ours - theirs
        if client_gives:
            open_end = gap >= partial if partial else gap == 0
        else:
            open_end = 0 <= gap <= partial
        if open_end:
            continue
        if 0 < gap <= loose or (client_gives and gap > 0 and (partial or slack_without_digest)):
            loose -= min(gap, loose)
            continue
        yield f"{word}, {digest}: ledger {ours:,} bytes, journal {theirs + partial:,}"
    yield from _total(word, sum(client.values()), whole, in_part, client_gives=client_gives)


def _total(
    word: str, ours: int, whole: Counter[str | None], in_part: Counter[str | None], *, client_gives: bool
) -> Iterator[str]:
    low, partial = sum(whole.values()), sum(in_part.values())
    if client_gives:
        agree = ours >= low + partial if partial else ours == low
    else:
        agree = low <= ours <= low + partial
    if not agree:
        yield f"{word}, in all: ledger {ours:,} bytes, journal {low + partial:,}"


def _requests(client: _Client, registry: _Registry) -> Iterator[str]:
    """Compare requests: all that the journal puts to a digest must be in that digest's entries."""
    for digest in sorted(set(registry.requests) - {None}, key=str):
        ours, theirs = client.requests[digest] + client.requests[None], registry.requests[digest]
        if theirs > ours:
            yield f"requests, {digest}: ledger {client.requests[digest]}, journal {theirs}"
    ours, theirs = sum(client.requests.values()), sum(registry.requests.values())
    if ours != theirs:
        yield f"requests, in all: ledger {ours}, journal {theirs}"


def _overhead(client: _Client, registry: _Registry) -> Iterator[str]:
    low, high = registry.overhead, registry.overhead + registry.overhead_in_part
    if not low <= client.overhead <= high:
        yield f"overhead, in all: ledger {client.overhead:,} bytes, journal {high:,}"


def _outcomes(client: _Client, registry: _Registry) -> Iterator[str]:
    """Compare outcomes: what was uploaded was stored, and what was mounted was mounted from there."""
    for digest, count in sorted(client.uploaded.items()):
        if registry.stored[digest] < count:
            yield f"uploads, {digest}: ledger {count}, journal {registry.stored[digest]}"
    for (digest, repository), count in sorted(client.mounted.items(), key=str):
        if registry.mounted[digest, repository] < count:
            yield (
                f"mounts, {digest} from {repository}: ledger {count}, "
                f"journal {registry.mounted[digest, repository]}"
            )
