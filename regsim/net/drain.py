"""Emptying a line in a thread: octets from the socket to whoever takes them, past the event loop.

Owns the lending of a line to threads, and the reading there. Must not know HTTP, or what the octets are for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regsim.net.errors import PeerProtocolError, ReadError, ReadTimeoutError
from regsim.store.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regsim.net.line import Line
    from regsim.store.protocols import Taker
    from regsim.store.relay import Threads


class Drain:
    """So many octets, from a line to those who take them.

    Args:
        line: is lent for as long as this runs.
        rest: the first of them, which have been read already.
        left: how many more there are.
        seconds: the longest silence.

    Attributes:
        count: octets that were read.
    """

    def __init__(self, line: Line, rest: bytes, left: int, seconds: float | None) -> None:
        self.count = len(rest)
        self._line = line
        self._rest = rest
        self._left = left
        self._seconds = seconds

    async def run(self, takers: Sequence[Taker], threads: Threads) -> None:
        """Do it in threads, and come back when it has ended, also when cancelled: then the line is hung up.

        Args:
            takers: each is handed every piece, in order; a piece is theirs until they return.
            threads: where it is done.

        Raises:
            WireError: the line broke, ended or fell silent.
            Exception: what a taker raised.
        """
        if threads.closed:
            raise ReadError("the client is closed")
        relay = Relay(self._fill, self._left, takers, self._rest)
        self._line.lend()
        try:
            await threads.run(relay, self._line.hang_up)
        finally:
            self._line.take_back()

    def _fill(self, buffer: memoryview) -> int:
        """Read what has arrived, once something has."""
        count = 0
        while count < len(buffer):
            taken = self._line.take(buffer[count:])
            if taken:
                count += taken
            elif count:
                break  # at the end too: what came goes on its way, and the end is met again
            elif taken == 0:
                raise PeerProtocolError(f"the body ended {self._left} bytes early")
            elif not self._line.poll(self._seconds):
                raise ReadTimeoutError("no progress in time")
        self._left -= count
        self.count += count
        return count
