"""The server's limits, in bytes and seconds, and what its connections hold of request bodies.

Owns the limits, the sum of what is held, and when it is too much. Must not know of sockets.
"""

from dataclasses import dataclass
from enum import Enum


class Patience(Enum):
    """What a connection waits for, each with its own limit; `NOTHING` has none."""

    BODY = "body_time"
    HEAD = "head_time"
    IDLE = "idle_time"
    LINGER = "linger_time"
    NOTHING = ""
    WRITE = "write_time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes and times of the HTTP server.

    Attributes:
        target: Bytes of a request's target; beyond it, 414.
        head: Bytes of a request's head; beyond it, 431.
        bodies_held: Bytes of all request bodies together that wait for the app, or that it has gathered;
            beyond it, each connection holds what one read of its socket brings, and the app does not gather.
        body_gathered: Bytes of a request's body that the app gathers at most before it uses them.
        body_held: Bytes of a connection's bodies that wait for the app; beyond it, the socket is not read.
        pipeline: Requests that wait for an earlier one of the connection; beyond it, the socket is not read.
        linger: Bytes that are still taken from a peer that was answered before it had sent everything.
        head_time: Seconds for a request's head to arrive, from its first byte.
        idle_time: Seconds that a connection is kept open between requests.
        body_time: Seconds without any byte of an unfinished body; then 408.
        write_time: Seconds in which a peer must have taken the bytes under way; then it is cut off.
        linger_time: Seconds that such a peer has for the rest.
        stop_time: Seconds that requests under way get when the server stops.
    """

    target: int = 16 << 10
    head: int = 64 << 10
    bodies_held: int = 16 << 20
    body_gathered: int = 4 << 20
    body_held: int = 4 << 20
    pipeline: int = 32
    linger: int = 64 << 20
    head_time: float = 30.0
    idle_time: float = 120.0
    body_time: float = 60.0
    write_time: float = 120.0
    linger_time: float = 10.0
    stop_time: float = 5.0

    def seconds(self, patience: Patience) -> float:
        """Return how long a connection waits for something."""
        return float(getattr(self, patience.value)) if patience.value else float("inf")


@dataclass(slots=True)
class Budget:
    """A bound on memory that no number of connections leads beyond, but for one read of each socket.

    While there is room, a connection may run far ahead of the app, which makes a large body fast. Beyond the
    limit no connection waits for another one, which might be slow or stuck: each goes on, a piece at a time.

    Attributes:
        limit: Bytes.
        held: Bytes that are held now.
    """

    limit: int
    held: int = 0

    @property
    def scarce(self) -> bool:
        """No connection should take more than it needs to go on."""
        return self.held > self.limit


class Share:
    """What one request holds of its body: bytes that wait for the app, and bytes that the app may keep.

    An app gathers what it is given until it has enough to be worth writing, and does not tell when it has
    used it. An app that knows that memory is scarce has used all it had when it requests more.

    Args:
        budget: Whose share it is.
        gathered: Bytes that the app gathers at most.

    Attributes:
        waiting: Bytes that the app has not taken.
    """

    def __init__(self, budget: Budget, gathered: int) -> None:
        self._budget = budget
        self._gathered = gathered
        self._lent = 0
        self._told = False
        self._closed = False
        self.waiting = 0

    @property
    def in_use(self) -> bool:
        """The app is still to use what it has, or to take what there is."""
        return self.waiting > 0 or self._told

    def add(self, count: int) -> None:
        """Hold bytes that have arrived."""
        if not self._closed:
            self.waiting += count
            self._budget.held += count

    def lend(self, count: int) -> bool:
        """Give bytes to the app, and return whether to report that memory is scarce."""
        self._told = self._budget.scarce
        self.waiting -= count
        kept = min(self._lent + count, self._gathered)
        self._budget.held += kept - self._lent - count
        self._lent = kept
        return self._told

    def used(self) -> bool:
        """Note that the app requests more; return whether it has therefore used what it had."""
        if not self._told:
            return False
        self._told = False
        self._budget.held -= self._lent
        self._lent = 0
        return True

    def close(self) -> None:
        """Release all of it."""
        self._budget.held -= self.waiting + self._lent
        self.waiting = self._lent = 0
        self._told, self._closed = False, True
