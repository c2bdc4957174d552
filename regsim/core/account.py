"""The account of one piece of work at one registry: requests, body bytes and retries, as they happen."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regsim.core import Digest


class Reason(StrEnum):
    """Why something was asked or moved again, apart from HTTP statuses and troubles of the network."""

    STALE_CONNECTION = "stale-connection"
    RANGE_IGNORED = "range-ignored"
    RANGE_WRONG = "range-wrong"
    SHORT_ACCEPTANCE = "short-acceptance"
    SESSION_FORGOTTEN = "session-forgotten"
    SESSION_REFUSED = "session-refused"
    TOO_LARGE = "request-too-large"
    BLOBS_MISSING = "manifest-blob-unknown"
    WRONG_BYTES = "wrong-bytes"


class Loss(StrEnum):
    """Why body bytes were wasted, where nothing was retried.

    Attributes:
        PROBE: a GET that answered a question which a HEAD had left open.
        READ_AGAIN: content of a copy was read again, from an earlier byte, to be sent again.
        OVERLAP: an answer to a Range began before the requested byte.
        CUT: an answer that was read whole broke off, and was requested again.
        NOT_NEEDED: a manifest was read, and the destination turned out to hold it.
        RACED: another client stored the same content first.
        FAILED: the work failed or was cancelled.
    """

    PROBE = "probe"
    READ_AGAIN = "read-again"
    OVERLAP = "range-overlap"
    CUT = "cut"
    NOT_NEEDED = "not-needed"
    RACED = "raced"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Waste:
    """Body bytes that were sent or received and served no outcome, and why."""

    reason: Loss
    wasted: int

    def to_json(self) -> dict[str, Any]:
        """Return it under the keys of the result format."""
        return {"reason": str(self.reason), "wasted": self.wasted}


@dataclass(frozen=True, slots=True)
class Retry:
    """Something that was asked or moved again.

    Attributes:
        reason: a `Reason`, a status such as `503`, or a `Trouble` of the network.
        seconds: waited before it.
        wasted: body bytes, sent or received, that were wasted because of it.
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

    Three figures are counted by different code: a byte is sent or received when a connection takes or gives
    it, useful when the content that it belongs to is accepted, and wasted where it is wasted. None of them is
    computed from the others, so the law "sent = useful + wasted" can fail.

    Attributes:
        requests: HTTP requests sent, every retry included.
        attempts: times that the content was started to be moved (1 unless a transfer was restarted).
        sent: bytes of bodies of blob uploads and manifest PUTs.
        received: bytes of bodies of 200 and 206 answers to blob and manifest GETs.
        overhead: bytes of all other bodies, both ways: errors, lists, tokens, redirects.
        resumed: bytes of the content that an interrupted earlier run had left, and that did not come again.
        divided: the content came in several stretches at a time, one of which may be wrong.
        useful_sent, useful_received: bytes of content that its destination accepted.
        wasted_sent, wasted_received: bytes that served no outcome; `retries` and `losses` say why.
        held: bytes of a manifest that was read, and is useful once it is stored.
        retries: why anything was asked or moved again, in order.
        losses: bytes that were wasted without a retry.
        beside: accounts of other content that the work led to, by digest; None if no digest is known.
    """

    requests: int = 0
    attempts: int = 0
    sent: int = 0
    received: int = 0
    overhead: int = 0
    resumed: int = 0
    divided: bool = field(default=False, compare=False)
    useful_sent: int = field(default=0, compare=False)
    useful_received: int = field(default=0, compare=False)
    wasted_sent: int = field(default=0, compare=False)
    wasted_received: int = field(default=0, compare=False)
    held: int = field(default=0, compare=False)
    retries: list[Retry] = field(default_factory=list, compare=False)
    losses: list[Waste] = field(default_factory=list, compare=False)
    beside: list[tuple[Digest | None, Account]] = field(default_factory=list)
    _read: tuple[int, int] | None = field(default=None, compare=False)

    def retried(self, reason: str, *, seconds: float = 0.0, sent: int = 0, received: int = 0) -> None:
        """Note that something is asked or moved again, and what was wasted because of it."""
        self.retries.append(Retry(reason, seconds))
        self.waste(sent=sent, received=received)

    def waste(self, *, sent: int = 0, received: int = 0, loss: Loss | None = None) -> None:
        """Note that body bytes were wasted; or, with negative figures, that they were useful after all.

        Args:
            sent: bytes.
            received: bytes.
            loss: why; None charges the last retry, if there is one.
        """
        self.wasted_sent += sent
        self.wasted_received += received
        octets = sent + received
        if octets < 0:
            self._take_back(-octets)
        elif octets and loss is None and self.retries:
            self.retries[-1] = replace(self.retries[-1], wasted=self.retries[-1].wasted + octets)
        elif octets:
            self.losses.append(Waste(loss or Loss.FAILED, octets))

    def _take_back(self, octets: int) -> None:
        for position, loss in reversed(list(enumerate(self.losses))):
            taken = min(octets, loss.wasted)
            self.losses[position] = replace(loss, wasted=loss.wasted - taken)
            octets -= taken
        for position, retry in reversed(list(enumerate(self.retries))):
            taken = min(octets, retry.wasted)
            self.retries[position] = replace(retry, wasted=retry.wasted - taken)
            octets -= taken
        self.losses = [loss for loss in self.losses if loss.wasted]

    def lose(self, loss: Loss | None = None) -> None:
        """Note that all bytes so far were wasted, those that had been useful too."""
        self.useful_sent = self.useful_received = self.held = 0
        self._read = None
        self.waste(sent=self.standing, received=self.received - self.wasted_received, loss=loss)

    @property
    def standing(self) -> int:
        """Bytes that were sent and not wasted so far."""
        return self.sent - self.wasted_sent

    def reads_from(self, offset: int) -> None:
        """Note that content is read from a byte on. What had been read beyond it comes again."""
        start, end = self._read or (offset, offset)
        if end > offset:
            self.waste(received=end - max(start, offset), loss=Loss.READ_AGAIN)
        self._read = (min(start, offset), offset)

    def has_read(self, offset: int) -> None:
        """Note that content was handed on up to a byte."""
        self._read = (self._read[0] if self._read else 0, offset)

    def accepted(self, *, received: int) -> None:
        """Note that content of so many bytes, which came over the wire, is stored at its destination."""
        self.useful_received += received
        if self._read is not None and self._read[1] - self._read[0] < received:
            # An earlier reading is the one that was accepted.
            self.waste(received=self._read[1] - self._read[0] - received)

    def aside(self, digest: Digest | None) -> Account:
        """Return an account for what this work leads to about other content."""
        account = Account()
        self.beside.append((digest, account))
        return account

    def add(self, other: Account) -> None:
        """Take over what another piece of work has cost."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.divided |= other.divided


_SUMS = [each.name for each in fields(Account) if each.name not in {"divided", "_read"}]
