"""The two accounts side by side: the client's ledgers and the registry's journal (DESIGN 1.3 and 5).

The only place that sees both. Every difference is named with both figures; a run with one is an error.

What was done undisturbed must agree to the byte. Where a body broke off, or an entry failed or was tried
again, one side may have given what the other never saw; even then neither took more than the other gave.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from mock_registry.journal import Route
from regsim.core.ledger import Direction, Evidence, Outcome, violations
from regsim.core.result import Reconciliation
from regsim.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mock_registry.journal import Journal, Record
    from regsim.core.account import Account
    from regsim.core.ledger import Entry, Ledger

_CONTENT_OUT = frozenset({200, 206})
_CREATED = 201
_SERVER_ERROR = 500
_UNSURE = frozenset({400, 404, 409, 416, 429})

# Bytes and requests by the digest that they were about; under None what belongs to no digest.
Count = Counter[str | None]


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
    client, registry = _of_ledgers(ledgers, beside), _of_journal(journal)
    disturbed = client.disturbed | registry.disturbed
    differences = (
        *(f"{each.direction} {each.reference}: {line}" for each in ledgers for line in violations(each)),
        *_sent(client.sent, registry.sent, disturbed),
        *_received(client.received, registry.received, disturbed),
        *_requests(client, registry, disturbed),
        *_outcomes(client, registry, disturbed),
    )
    return Reconciliation(not differences, differences)


@dataclass(slots=True)
class _Side:
    """Sums over ledgers, or over a journal. What the client sent, the registry received."""

    sent: Count = field(default_factory=Counter)
    received: Count = field(default_factory=Counter)
    requests: Count = field(default_factory=Counter)
    overhead: int = 0
    stored: Counter[str] = field(default_factory=Counter)
    doubtful: Counter[str] = field(default_factory=Counter)
    mounted: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    found: set[str] = field(default_factory=set)
    disturbed: set[str | None] = field(default_factory=set)

    def add(self, digest: str | None, sent: int, received: int, overhead: int, requests: int = 1) -> None:
        self.sent[digest] += sent
        self.received[digest] += received
        self.overhead += overhead
        self.requests[digest] += requests


def _of_ledgers(ledgers: Iterable[Ledger], beside: Account | None) -> _Side:
    client = _Side()
    spent: list[tuple[str | None, Account]] = [(None, beside)] if beside is not None else []
    for ledger in ledgers:
        for entry in ledger.entries:
            _add_entry(client, entry, sends=ledger.sends)
        if ledger.resolving is not None:
            spent.append((None, ledger.resolving))
            if not isinstance(ledger.error, RegistryError):
                client.disturbed.add(None)
        spent += ledger.beside
        client.stored.update(digest for digest, account in ledger.beside if digest and account.sent)
    for digest, account in spent:
        client.add(digest, account.sent, account.received, account.overhead, account.requests)
    return client


def _add_entry(client: _Side, entry: Entry, *, sends: bool) -> None:
    client.add(entry.digest, entry.wire_sent, entry.wire_received, entry.overhead, entry.requests)
    if entry.outcome is Outcome.TRANSFERRED and sends:
        client.stored[entry.digest] += 1
    if entry.evidence is Evidence.CREATED:
        client.mounted[entry.digest, entry.mounted_from] += 1
    if entry.evidence is Evidence.HEAD:
        client.found.add(entry.digest)
    # A copy reads once and writes once.
    undisturbed = 2 if entry.direction is Direction.COPY else 1
    if entry.outcome is Outcome.FAILED or entry.attempts > undisturbed or entry.retries:
        client.disturbed.add(entry.digest)


def _of_journal(journal: Journal) -> _Side:
    registry = _Side()
    for record in journal:
        _add_record(registry, record, record.digest or journal.session_digest(record.session))
    return registry


def _add_record(registry: _Side, record: Record, digest: str | None) -> None:
    content_in, content_out = _content_in(record), _content_out(record)
    # A request for a tag may mean another digest than the one that the tag still names.
    about = None if _asks_for_tag(record) else digest
    overhead = record.bytes_in - content_in + record.bytes_out - content_out
    registry.add(about, content_in, content_out, overhead)
    if not record.complete:
        registry.disturbed.add(about)
    if digest is not None and (record.method == "HEAD" or content_out) and record.status in _CONTENT_OUT:
        registry.found.add(digest)
    # ECR says so of every piece, which is not the whole (mise#11376).
    if record.status == _CREATED and digest is not None and record.method != "PATCH":
        if record.mounted_from is not None:
            registry.mounted[digest, record.mounted_from] += 1
        else:
            registry.stored[digest] += 1
    elif (doubted := _doubtful(record)) is not None:
        registry.doubtful[doubted] += 1
        registry.disturbed.add(doubted)


def _asks_for_tag(record: Record) -> bool:
    by_digest = record.reference is None or ":" in record.reference
    return record.route is Route.MANIFEST and record.method in ("GET", "HEAD") and not by_digest


def _doubtful(record: Record) -> str | None:
    """Return the digest of content that may be there though its client got no answer that says so.

    The answer was lost, or failed on its way, or says that the session is unknown, as it is once committed,
    or that another client's was first.
    """
    puts = record.method == "PUT" and record.route in (Route.UPLOAD, Route.MANIFEST)
    posts = record.route is Route.UPLOADS and record.mounted_from is None
    unsure = record.status is None or record.status in _UNSURE or record.status >= _SERVER_ERROR
    if not (puts or posts) or not unsure:
        return None
    asked = parse_qs(record.target.partition("?")[2]).get("digest", [None])
    return record.digest or asked[0]


def _content_in(record: Record) -> int:
    upload = record.route in (Route.UPLOAD, Route.UPLOADS) and record.method in ("POST", "PATCH", "PUT")
    manifest = record.route is Route.MANIFEST and record.method == "PUT"
    return record.bytes_in if upload or manifest else 0


def _content_out(record: Record) -> int:
    read = record.route in (Route.BLOB, Route.MANIFEST) and record.method == "GET"
    return record.bytes_out if read and record.status in _CONTENT_OUT else 0


def _sent(ledger: Count, journal: Count, disturbed: set[str | None]) -> Iterator[str]:
    """Compare uploads. The bytes of a session that was never committed name no digest in the journal."""
    unnamed = journal[None] - ledger[None]
    for digest in _digests(ledger, journal):
        ours, theirs = ledger[digest], journal[digest]
        if ours > theirs and digest in disturbed:
            unnamed -= min(unnamed, ours - theirs)
        elif ours != theirs:
            yield f"sent, {digest}: ledger {ours:,} bytes, journal {theirs:,}"
    if unnamed:
        yield f"sent, in sessions that were never committed: journal {unnamed:,} bytes more than the ledger"


def _received(ledger: Count, journal: Count, disturbed: set[str | None]) -> Iterator[str]:
    """Compare downloads. What a tag was answered with is on the account of what was sought there."""
    unnamed = journal[None] - ledger[None]
    for digest in _digests(ledger, journal):
        ours, theirs = ledger[digest], journal[digest]
        if 0 < ours - theirs <= unnamed:
            unnamed -= ours - theirs
        elif ours > theirs or (ours < theirs and digest not in disturbed):
            yield f"received, {digest}: ledger {ours:,} bytes, journal {theirs:,}"
    if unnamed < 0 or (unnamed > 0 and not disturbed):
        yield f"received, for no known digest: journal {unnamed:,} bytes more than the ledger"


def _requests(client: _Side, registry: _Side, disturbed: set[str | None]) -> Iterator[str]:
    """Compare requests. A tag that is absent, or a session not committed, names no digest in the journal."""
    ledger, journal = client.requests, registry.requests
    for digest in _digests(ledger, journal):
        if journal[digest] > ledger[digest] + ledger[None]:
            yield f"requests, {digest}: ledger {ledger[digest]}, journal {journal[digest]}"
    ours, theirs = ledger.total(), journal.total()
    if ours < theirs or (ours > theirs and not disturbed):
        yield f"requests, in all: ledger {ours}, journal {theirs}"
    if client.overhead != registry.overhead and not disturbed:
        yield f"overhead, in all: ledger {client.overhead:,} bytes, journal {registry.overhead:,}"


def _outcomes(client: _Side, registry: _Side, disturbed: set[str | None]) -> Iterator[str]:
    """Compare outcomes: uploads were stored, mounts came from there, and what was found was there."""
    for digest in sorted({*client.stored, *registry.stored}):
        ours, theirs = client.stored[digest], registry.stored[digest]
        if digest in registry.found:
            # A client that does not know that it is stored asks, and finds it.
            theirs = max(theirs, min(ours, theirs + registry.doubtful[digest]))
        if ours > theirs or (ours < theirs and digest not in disturbed):
            yield f"uploads, {digest}: ledger {ours}, journal {theirs}"
    for digest, repository in sorted({*client.mounted, *registry.mounted}, key=str):
        ours, theirs = client.mounted[digest, repository], registry.mounted[digest, repository]
        if ours > theirs or (ours < theirs and digest not in disturbed):
            yield f"mounts, {digest} from {repository}: ledger {ours}, journal {theirs}"
    for digest in sorted(client.found - registry.found):
        yield f"found by asking, {digest}: the journal has no such answer"


def _digests(*counts: Count) -> list[str]:
    return sorted({digest for count in counts for digest in count if digest is not None})
