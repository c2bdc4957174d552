"""The ledger: the outcome of every reference of a transfer, and the rules that its figures obey (DESIGN 5).

Owns the words that reports print. Must not know how anything was moved. Everything that a report shows is
derived here from entries; `violations` is the judge that every run is put before.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from regsim.core import Digest, Role, media_types

if TYPE_CHECKING:
    from collections.abc import Iterable

    from regsim.core.account import Account, Retry, Waste
    from regsim.errors import RegsimError


def fields_document(value: Any, *without: str) -> dict[str, Any]:
    """Return the fields of a value, without some, under the keys of the result format: the fields' names."""
    names = (each.name for each in fields(value) if each.name not in without)
    return {name: _document(getattr(value, name)) for name in names}


def _document(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_document(each) for each in value]
    return value.to_json() if hasattr(value, "to_json") else value


class Direction(StrEnum):
    """Which way a transfer goes, seen from this machine."""

    PUSH = "push"
    PULL = "pull"
    COPY = "copy"

    @classmethod
    def between(cls, *, from_registry: bool, to_registry: bool) -> Direction:
        """Return what a transfer between two ends is called."""
        if from_registry == to_registry:
            return cls.COPY
        return cls.PUSH if to_registry else cls.PULL


class Outcome(StrEnum):
    """The outcome of one reference."""

    TRANSFERRED = "transferred"
    EXISTS = "exists"
    MOUNTED = "mounted"
    JOINED = "joined"
    INLINED = "inlined"
    FOREIGN = "foreign"
    FAILED = "failed"


SAVED = frozenset({Outcome.EXISTS, Outcome.MOUNTED, Outcome.JOINED})


class Evidence(StrEnum):
    """How an outcome is known. Joined, inlined and foreign references need none."""

    UPLOAD = "upload"
    DOWNLOAD = "download"
    STORED = "stored"
    MOUNT_REFUSED = "mount-refused"
    HEAD = "head"
    MANIFEST = "manifest"
    LOCAL = "local"
    CHAIN = "chain"
    CREATED = "201"
    ASSUMED = "assumed"
    ERROR = "error"
    BLOCKED = "blocked"
    CANCELLED = "cancelled"


_KNOWN_BY: dict[Outcome, frozenset[Evidence | None]] = {
    Outcome.TRANSFERRED: frozenset(
        {Evidence.UPLOAD, Evidence.DOWNLOAD, Evidence.STORED, Evidence.MOUNT_REFUSED}
    ),
    Outcome.EXISTS: frozenset({Evidence.HEAD, Evidence.MANIFEST, Evidence.LOCAL, Evidence.CHAIN}),
    Outcome.MOUNTED: frozenset({Evidence.CREATED, Evidence.ASSUMED}),
    **dict.fromkeys((Outcome.JOINED, Outcome.INLINED, Outcome.FOREIGN), frozenset({None})),
    Outcome.FAILED: frozenset({Evidence.ERROR, Evidence.BLOCKED, Evidence.CANCELLED}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One reference at one destination: the root, or one descriptor in a manifest or index.

    All sizes are bytes. `wire_*` are body bytes (DESIGN 5, "Wire bytes"); `wasted_*` the part of them
    that served no outcome, and `useful_*` the part that its destination accepted; `resumed` what an
    interrupted earlier run had left in place. `retries` tells why anything was asked or moved again, and what
    was wasted by it; `losses` what was wasted otherwise.
    """

    digest: Digest
    size: int
    media_type: str
    role: Role
    direction: Direction
    outcome: Outcome
    evidence: Evidence | None
    mounted_from: str | None = None
    wire_sent: int = 0
    wire_received: int = 0
    useful_sent: int = 0
    useful_received: int = 0
    wasted_sent: int = 0
    wasted_received: int = 0
    overhead: int = 0
    resumed: int = 0
    attempts: int = 0
    requests: int = 0
    retries: tuple[Retry, ...] = ()
    losses: tuple[Waste, ...] = ()
    created_by: str | None = None
    recorded_digest: Digest | None = None

    @property
    def wasted(self) -> int:
        """Body bytes that were wasted, sent and received."""
        return self.wasted_sent + self.wasted_received

    def to_json(self) -> dict[str, Any]:
        """Return the entry under the keys of the result format (DESIGN 6)."""
        return fields_document(self, "useful_sent", "useful_received") | {"wasted": self.wasted}


@dataclass(frozen=True, slots=True)
class Tally:
    """A count of references and the sum of their sizes in bytes."""

    count: int = 0
    bytes: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.count + other.count, self.bytes + other.bytes)

    def __mul__(self, weight: int) -> Tally:
        return Tally(self.count * weight, self.bytes * weight)

    def to_json(self) -> dict[str, int]:
        """Return `{"count", "bytes"}`."""
        return {"count": self.count, "bytes": self.bytes}


_FIGURES = ("wire_sent", "wire_received", "wasted", "overhead", "resumed", "requests", "retries")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Sums over entries; see `summarise`."""

    by_outcome: dict[Outcome, Tally]
    wire_sent: int = 0
    wire_received: int = 0
    wasted: int = 0
    overhead: int = 0
    resumed: int = 0
    requests: int = 0
    retries: int = 0
    layers: Summary | None = None

    @property
    def referenced(self) -> Tally:
        """All references: the sum over outcomes."""
        return sum(self.by_outcome.values(), Tally())

    @property
    def transferred(self) -> Tally:
        """References whose content was moved."""
        return self.by_outcome[Outcome.TRANSFERRED]

    @property
    def saved(self) -> Tally:
        """References that needed no move: exists, mounted and joined."""
        return sum((self.by_outcome[outcome] for outcome in sorted(SAVED)), Tally())

    @property
    def saved_ratio(self) -> float:
        """Saved bytes over referenced bytes; 0 where nothing is referenced."""
        return self.saved.bytes / self.referenced.bytes if self.referenced.bytes else 0.0

    def __add__(self, other: Summary) -> Summary:
        return Summary(
            by_outcome={each: self.by_outcome[each] + other.by_outcome[each] for each in Outcome},
            layers=self.layers + other.layers if self.layers and other.layers else None,
            **{name: getattr(self, name) + getattr(other, name) for name in _FIGURES},
        )

    def __mul__(self, weight: int) -> Summary:
        return Summary(
            by_outcome={outcome: tally * weight for outcome, tally in self.by_outcome.items()},
            layers=self.layers * weight if self.layers else None,
            **{name: getattr(self, name) * weight for name in _FIGURES},
        )

    def to_json(self) -> dict[str, Any]:
        """Return the summary under the keys of the result format (DESIGN 6)."""
        document: dict[str, Any] = {
            "referenced": self.referenced.to_json(),
            "transferred": self.transferred.to_json(),
            "saved": self.saved.to_json(),
            "saved_ratio": round(self.saved_ratio, 6),
            "wire": {"sent": self.wire_sent, "received": self.wire_received},
            "wasted_bytes": self.wasted,
            "overhead": self.overhead,
            "resumed_bytes": self.resumed,
            "requests": self.requests,
            "retries": self.retries,
            "by_outcome": {str(outcome): tally.to_json() for outcome, tally in self.by_outcome.items()},
        }
        if self.layers is not None:
            document["layers"] = self.layers.to_json()
        return document


def summarise(entries: Iterable[Entry]) -> Summary:
    """Sum entries, and layers alone under `layers`."""
    entries = tuple(entries)
    layers = _sum(tuple(entry for entry in entries if entry.role is Role.LAYER))
    return _sum(entries, layers)


def _sum(entries: tuple[Entry, ...], layers: Summary | None = None) -> Summary:
    counts: Counter[Outcome] = Counter()
    sizes: Counter[Outcome] = Counter()
    for entry in entries:
        counts[entry.outcome] += 1
        sizes[entry.outcome] += entry.size
    return Summary(
        by_outcome={outcome: Tally(counts[outcome], sizes[outcome]) for outcome in Outcome},
        retries=sum(len(entry.retries) for entry in entries),
        layers=layers,
        **{name: sum(getattr(entry, name) for entry in entries) for name in _FIGURES if name != "retries"},
    )


EMPTY = summarise(())


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The account of one transfer.

    Attributes:
        reference: what was transferred, as the user wrote it.
        digest: the root's; None if the reference could not even be resolved.
        referenced: counted on the graph of descriptors, not on the entries, so that a lost entry shows.
        sends, receives: which sides of the transfer are registries.
        unselected: descriptors that a choice of platform left out.
        seconds: how long it took.
        resolving: what was spent on a reference that could not be resolved, and so has no entry.
        beside: what was spent on content that has no entry either, by digest if that is known: indexes that
            were read to choose from and are not transferred themselves, lists of referrers.
        error: why it failed; None if it did not.
    """

    direction: Direction
    reference: str
    sends: bool
    receives: bool
    digest: Digest | None = None
    entries: tuple[Entry, ...] = ()
    referenced: Tally = Tally()
    unselected: int = 0
    seconds: float = field(default=0.0, compare=False)
    resolving: Account | None = None
    beside: tuple[tuple[Digest | None, Account], ...] = ()
    error: RegsimError | None = field(default=None, compare=False)

    @property
    def summary(self) -> Summary:
        """The sums over all entries, and over what was spent without one."""
        summary = summarise(self.entries)
        spent = [account for _, account in self.beside]
        spent += [self.resolving] if self.resolving is not None else []
        sent = sum(account.sent for account in spent)
        received = sum(account.received for account in spent)
        return replace(
            summary,
            wire_sent=summary.wire_sent + sent,
            wire_received=summary.wire_received + received,
            wasted=summary.wasted + sent + received,
            overhead=summary.overhead + sum(account.overhead for account in spent),
            requests=summary.requests + sum(account.requests for account in spent),
            retries=summary.retries + sum(len(account.retries) for account in spent),
        )


def violations(ledger: Ledger) -> list[str]:
    """Return every law of DESIGN 5 that a ledger breaks, one line each, naming both figures."""
    summary = ledger.summary
    return [
        *_law("references", ledger.referenced.count, "sum over outcomes", summary.referenced.count),
        *_law("referenced bytes", ledger.referenced.bytes, "sum over outcomes", summary.referenced.bytes),
        *_wire_laws(ledger),
        *_entry_laws(ledger.entries),
        *_first_reference_law(ledger.entries),
    ]


def _law(name: str, figure: int, other_name: str, other: int) -> list[str]:
    return [] if figure == other else [f"{name}: {figure:,} but {other_name}: {other:,}"]


def _wire_laws(ledger: Ledger) -> Iterable[str]:
    """Sent = useful + wasted, and useful = transferred - resumed, on each side and for each entry."""
    for entry in ledger.entries:
        name = f"{entry.role} {entry.digest.short}"
        moved = entry.size - entry.resumed if entry.outcome is Outcome.TRANSFERRED else 0
        sides = (
            ("sent", ledger.sends, entry.wire_sent, entry.useful_sent, entry.wasted_sent),
            ("received", ledger.receives, entry.wire_received, entry.useful_received, entry.wasted_received),
        )
        for side, over_wire, wire, useful, wasted in sides:
            yield from _law(f"{name}: {side}", wire, "useful + wasted", useful + wasted)
            wanted = moved if over_wire else 0
            yield from _law(f"{name}: useful {side}", useful, "transferred - resumed", wanted)


def _entry_laws(entries: Iterable[Entry]) -> Iterable[str]:
    for entry in entries:
        name = f"{entry.role} {entry.digest.short}"
        explained = sum(retry.wasted for retry in entry.retries)
        explained += sum(loss.wasted for loss in entry.losses)
        yield from _law(f"{name}: wasted", entry.wasted, "retries and losses", explained)
        for word in ("wasted_sent", "wasted_received", "resumed"):
            if (figure := getattr(entry, word)) < 0:
                yield f"{name}: {word} is {figure:,}"
        if entry.resumed > (entry.size if entry.outcome is Outcome.TRANSFERRED else 0):
            yield f"{name}: {entry.outcome}, and {entry.resumed:,} of {entry.size:,} bytes resumed"
        if entry.evidence not in _KNOWN_BY[entry.outcome]:
            yield f"{name}: {entry.outcome} by {entry.evidence}"
        if (entry.outcome is Outcome.MOUNTED) is (entry.mounted_from is None):
            yield f"{name}: {entry.outcome} from {entry.mounted_from}"
        stays = entry.role is Role.LAYER and media_types.is_foreign(entry.media_type)
        if (entry.outcome is Outcome.FOREIGN) is not stays:
            yield f"{name}: {entry.outcome}, though it is {entry.media_type}"


def _first_reference_law(entries: Iterable[Entry]) -> Iterable[str]:
    """The first reference to a digest does the work; later ones follow it, at no cost of their own."""
    firsts: dict[tuple[bool, Digest], Entry] = {}
    for entry in entries:
        if entry.outcome is Outcome.FOREIGN:
            continue
        # A blob and a manifest of one digest are two things to a registry.
        is_blob = entry.role in (Role.CONFIG, Role.LAYER)
        first = firsts.setdefault((is_blob, entry.digest), entry)
        name = f"{entry.role} {entry.digest.short}"
        if first is entry:
            if entry.outcome is Outcome.JOINED:
                yield f"{name}: joined, and no reference before it"
            continue
        moved = first.outcome in (Outcome.TRANSFERRED, Outcome.MOUNTED)
        if entry.outcome is not (Outcome.JOINED if moved else first.outcome):
            yield f"{name}: {entry.outcome} behind {first.outcome}"
        if entry.requests or entry.wire_sent or entry.wire_received or entry.overhead:
            yield f"{name}: a later reference, and yet it has costs"
