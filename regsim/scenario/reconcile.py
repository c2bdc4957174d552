"""The two accounts side by side: the client's ledgers and the registry's journal (DESIGN 1.3 and 5).

The only place that sees both. Every difference is named with both figures; a run with one is an error.

What was done undisturbed must agree to the byte. Where a body broke off, or an entry failed or was tried
again, one side may have given what the other never saw; even then nobody can have taken more than was given.
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
# A copy reads once and writes once.
_UNDISTURBED = {Direction.PUSH: 1, Direction.PULL: 1, Direction.COPY: 2}

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
    client, registry = _Client.of(ledgers, beside), _Registry.of(journal)
    disturbed = client.disturbed | registry.disturbed
    differences = (
        *(f"{each.direction} {each.reference}: {line}" for each in ledgers for line in violations(each)),
        *_sent(client.sent, registry.taken, disturbed),
        *_received(client.received, registry.given, disturbed),
        *_requests(client.requests, registry.requests, disturbed),
        *_overhead(client.overhead, registry.overhead, disturbed),
        *_outcomes(client, registry, disturbed),
    )
    return Reconciliation(not differences, differences)


@dataclass(slots=True)
class _Client:
    """Sums over ledgers."""

    sent: Count = field(default_factory=Counter)
    received: Count = field(default_factory=Counter)
    requests: Count = field(default_factory=Counter)
    overhead: int = 0
    uploaded: Counter[str] = field(default_factory=Counter)
    mounted: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    found: set[str] = field(default_factory=set)
    disturbed: set[str | None] = field(default_factory=set)

    @classmethod
    def of(cls, ledgers: Iterable[Ledger], beside: Account | None) -> _Client:
        client = cls()
        for ledger in ledgers:
            for entry in ledger.entries:
                client._add(entry, sends=ledger.sends)
            if ledger.resolving is not None:
                client._spend(ledger.resolving)
                if not isinstance(ledger.error, RegistryError):
                    client.disturbed.add(None)
            for digest, account in ledger.beside:
                client._spend(account, digest)
                if digest is not None and account.sent:
                    client.uploaded[digest] += 1
        if beside is not None:
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
        if entry.evidence is Evidence.HEAD:
            self.found.add(entry.digest)
        often = entry.attempts > _UNDISTURBED[entry.direction] or entry.retries
        if entry.outcome is Outcome.FAILED or often:
            self.disturbed.add(entry.digest)

    def _spend(self, account: Account, digest: str | None = None) -> None:
        self.sent[digest] += account.sent
        self.received[digest] += account.received
        self.requests[digest] += account.requests
        self.overhead += account.overhead


@dataclass(slots=True)
class _Registry:
    """Sums over a journal."""

    taken: Count = field(default_factory=Counter)
    given: Count = field(default_factory=Counter)
    requests: Count = field(default_factory=Counter)
    overhead: int = 0
    stored: Counter[str] = field(default_factory=Counter)
    doubtful: Counter[str] = field(default_factory=Counter)
    mounted: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    found: set[str] = field(default_factory=set)
    disturbed: set[str | None] = field(default_factory=set)

    @classmethod
    def of(cls, journal: Journal) -> _Registry:
        registry = cls()
        for record in journal:
            registry._add(record, record.digest or journal.session_digest(record.session))
        return registry

    def _add(self, record: Record, digest: str | None) -> None:
        content_in, content_out = _content_in(record), _content_out(record)
        # A request for a tag may mean another digest than the one that the tag still names.
        about = None if _asks_for_tag(record) else digest
        self.requests[about] += 1
        self.taken[about] += content_in
        self.given[about] += content_out
        self.overhead += record.bytes_in - content_in + record.bytes_out - content_out
        if not record.complete:
            self.disturbed.add(about)
        if digest is not None and (record.method == "HEAD" or content_out) and record.status in _CONTENT_OUT:
            self.found.add(digest)
        # ECR says so of every piece, which is not the whole (mise#11376).
        if record.status == _CREATED and digest is not None and record.method != "PATCH":
            if record.mounted_from is not None:
                self.mounted[digest, record.mounted_from] += 1
            else:
                self.stored[digest] += 1
        elif (doubted := _doubtful(record)) is not None:
            self.doubtful[doubted] += 1
            self.disturbed.add(doubted)


def _asks_for_tag(record: Record) -> bool:
    by_digest = record.reference is None or ":" in record.reference
    return record.route is Route.MANIFEST and record.method in ("GET", "HEAD") and not by_digest


def _doubtful(record: Record) -> str | None:
    """Return the digest of content that may be there though its client got no answer that says so.

    The answer was lost, or failed on its way, or says that the session is unknown, as it is once committed,
    or that somebody else's was first.
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


def _requests(ledger: Count, journal: Count, disturbed: set[str | None]) -> Iterator[str]:
    """Compare requests. A tag that is absent, or a session not committed, names no digest in the journal."""
    for digest in _digests(ledger, journal):
        if journal[digest] > ledger[digest] + ledger[None]:
            yield f"requests, {digest}: ledger {ledger[digest]}, journal {journal[digest]}"
    ours, theirs = ledger.total(), journal.total()
    if ours < theirs or (ours > theirs and not disturbed):
        yield f"requests, in all: ledger {ours}, journal {theirs}"


def _overhead(ledger: int, journal: int, disturbed: set[str | None]) -> Iterator[str]:
    if ledger != journal and not disturbed:
        yield f"overhead, in all: ledger {ledger:,} bytes, journal {journal:,}"


def _outcomes(client: _Client, registry: _Registry, disturbed: set[str | None]) -> Iterator[str]:
    """Compare outcomes: uploads were stored, mounts came from there, and what was found was there."""
    for digest in sorted({*client.uploaded, *registry.stored}):
        ours, theirs = client.uploaded[digest], registry.stored[digest]
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
