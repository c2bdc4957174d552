"""The account of one piece of work at one registry: requests and body octets, as they happen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regsim.oci import Digest


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
        beside: what it has led to about other content, by digest; None where no digest is known.
    """

    requests: int = 0
    attempts: int = 0
    sent: int = 0
    received: int = 0
    overhead: int = 0
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
        self.beside += other.beside
