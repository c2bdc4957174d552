"""What all connections of a server hold of request bodies, together.

Owns the sum and when it is too much. Must not know of sockets.
"""


class Budget:
    """A bound on memory that no number of connections leads beyond, but for one read of each socket.

    While there is room, a connection may run far ahead of the app, which makes a large body fast. Beyond the
    limit nobody waits for another connection, which might be slow or stuck: each goes on, a piece at a time.

    Args:
        limit: Octets.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.held = 0

    @property
    def scarce(self) -> bool:
        """No connection should take more than it needs to go on."""
        return self.held > self._limit


class Share:
    """What one request holds of its body: octets that wait for the app, and octets that the app may keep.

    An app gathers what it is given until it has enough to be worth writing, and tells nobody when it has used
    it. One that was told that memory is scarce has used all it had when it asks for more.

    Args:
        budget: Whose share it is.
        gathered: Octets that the app gathers at most.

    Attributes:
        waiting: Octets that the app has not taken.
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
        """Hold octets that have arrived."""
        if not self._closed:
            self.waiting += count
            self._budget.held += count

    def lend(self, count: int) -> bool:
        """Give octets to the app, and return whether it is to be told that memory is scarce."""
        self._told = self._budget.scarce
        self.waiting -= count
        kept = min(self._lent + count, self._gathered)
        self._budget.held += kept - self._lent - count
        self._lent = kept
        return self._told

    def used(self) -> bool:
        """Note that the app asks for more; return whether that shows that it has used what it had."""
        if not self._told:
            return False
        self._told = False
        self._budget.held -= self._lent
        self._lent = 0
        return True

    def close(self) -> None:
        """Hold nothing any more."""
        self._budget.held -= self.waiting + self._lent
        self.waiting = self._lent = 0
        self._told, self._closed = False, True
