"""The account of one piece of work at one registry: requests, body octets and retries, as they happen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regsim.core import Digest


class Reason(StrEnum):
    """Why something was asked or moved again, beside HTTP statuses and troubles of the network."""

    STALE_CONNECTION = "stale-connection"
    RANGE_IGNORED = "range-ignored"
    RANGE_WRONG = "range-wrong"
    SHORT_ACCEPTANCE = "short-acceptance"
    SESSION_FORGOTTEN = "session-forgotten"
    SESSION_REFUSED = "session-refused"
    TOO_LARGE = "request-too-large"
    POST_IGNORED = "single-post-ignored"
    BLOBS_MISSING = "manifest-blob-unknown"
    WRONG_BYTES = "wrong-bytes"


@dataclass(frozen=True, slots=True)
class Retry:
    """Something that was asked or moved again.

    Attributes:
        reason: a `Reason`, a status such as `503`, or a `Trouble` of the network.
        seconds: waited before it.
        wasted: body octets that are known to have gone, or come, in vain because of it.
    """

    reason: str
    seconds: float = 0.0
    wasted: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return it under the keys of the result format."""
        return {"reason": str(self.reason), "seconds": round(self.seconds, 3), "wasted": self.wasted}


@dataclass(slots=True)
class Account:
    """Counts what the requests made on its behalf cost. Headers are not counted.

    Whoever sends a request is handed an account, and adds to it at the moment when octets are given to
    or taken from the connection, so that it is right when the work fails half-way.

    Attributes:
        requests: HTTP requests sent, every retry included.
        attempts: times that the content was started to be moved (1 unless a transfer was restarted).
        sent: octets of bodies of blob uploads and manifest PUTs.
        received: octets of bodies of 200 and 206 answers to blob and manifest GETs.
        overhead: octets of all other bodies, both ways: errors, lists, tokens, redirects.
        resumed: octets of the content that an interrupted earlier run had left, and that did not come again.
        divided: the content came in several stretches at a time, one of which may be wrong.
        retries: why anything was asked or moved again, in order.
        beside: what it has led to about other content, by digest; None where no digest is known.
    """

    requests: int = 0
    attempts: int = 0
    sent: int = 0
    received: int = 0
    overhead: int = 0
    resumed: int = 0
    divided: bool = field(default=False, compare=False)
    retries: list[Retry] = field(default_factory=list, compare=False)

    def retried(self, reason: str, *, seconds: float = 0.0, wasted: int = 0) -> None:
        """Note that something is asked or moved again."""
        self.retries.append(Retry(reason, seconds, wasted))

    def waste(self, octets: int) -> None:
        """Note that retries turned out to be at the cost of so many body octets more, or less."""
        for position in reversed(range(len(self.retries))):
            retry = self.retries[position]
            wasted = max(0, retry.wasted + octets)
            self.retries[position] = replace(retry, wasted=wasted)
            octets += retry.wasted - wasted
            if not octets:
                return

    beside: list[tuple[Digest | None, Account]] = field(default_factory=list)

    def aside(self, digest: Digest | None) -> Account:
        """Return an account for what this work leads to about other content."""
        account = Account()
        self.beside.append((digest, account))
        return account

    def add(self, other: Account) -> None:
        """Take over what another piece of work has cost."""
        self.requests += other.requests
        self.attempts += other.attempts
        self.sent += other.sent
        self.received += other.received
        self.overhead += other.overhead
        self.divided |= other.divided
        self.retries += other.retries
        self.beside += other.beside
