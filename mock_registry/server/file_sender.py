"""Sending a stretch of a file on a socket, by the kernel alone.

Owns the duplicate of the socket's descriptor that it writes to, beside the transport. It stands in place of
``loop.sendfile``, which never ends when the connection is aborted meanwhile, hides how far it came, and does
not read from the peer until it is through. Must not know of HTTP.
"""

import asyncio
import os
from collections.abc import Callable
from typing import BinaryIO

from mock_registry.asgi import PeerGone

_PIECE = 1 << 18
_PIECES = 8
"""After 2 MiB, other connections have their turn."""


class FileSender:
    """One stretch on its way.

    Args:
        descriptor: Of the socket. Nothing else may write to it until ``run`` returns.
        file: Read from, without moving its position.
        offset: Where the stretch begins.
        count: Its octets.
        progress: Called whenever the socket has taken something.

    Attributes:
        sent: Octets that the socket has taken.
    """

    def __init__(
        self,
        descriptor: int,
        file: BinaryIO,
        offset: int,
        count: int,
        progress: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = descriptor
        self._file = file
        self._offset = offset
        self._count = count
        self._progress = progress
        self._done: asyncio.Future[None] = self._loop.create_future()
        self.sent = 0

    async def run(self) -> None:
        """Send it all.

        Raises:
            PeerGone: The socket broke, or `give_up` was called; ``unsent`` is exact.
        """
        self._socket = os.dup(self._socket)  # the loop watches the transport's own for reading
        try:
            self._loop.add_writer(self._socket, self._push)
            await self._done
        finally:
            self._loop.remove_writer(self._socket)
            os.close(self._socket)

    def give_up(self) -> None:
        """Stop, since the connection is gone."""
        if not self._done.done():
            self._done.set_exception(PeerGone(self._count - self.sent))

    def _push(self) -> None:
        try:
            for _ in range(_PIECES):
                if not self._push_piece():
                    break
        except BlockingIOError:
            pass
        except OSError:
            self.give_up()
        if not self._done.done():
            self._progress()

    def _push_piece(self) -> bool:
        """Send a piece, and tell whether there are more."""
        left = self._count - self.sent
        if self._done.done():
            return False
        sent = os.sendfile(self._socket, self._file.fileno(), self._offset + self.sent, min(left, _PIECE))
        self.sent += sent
        if sent == left:
            self._done.set_result(None)
        elif sent == 0:
            self._done.set_exception(EOFError("the file is shorter than the stretch"))
        return sent < left
