"""What asyncio's transports do not offer: files sent by the kernel, resets, and what a peer has acknowledged.

Owns the calls to the kernel. Must not know HTTP.
"""

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

from mock_registry.asgi import PeerGone

_LOOK = 0.001
"""Seconds between looks at the queue: nothing tells when a peer has acknowledged."""

_NOW = struct.pack("ii", 1, 0)

_UNSENT = 1 << 17

_PIECE = 1 << 18
_PIECES = 8
"""After 2 MiB, other connections have their turn."""


@dataclass(slots=True, eq=False)
class FileSender:
    """A stretch of a file, sent on a socket by the kernel alone.

    It writes to a duplicate of the socket's descriptor, beside the transport. ``loop.sendfile`` never ends
    when the connection is aborted meanwhile, hides how far it came, and does not read from the peer until it
    is done.

    Attributes:
        descriptor: Of the socket. Nothing else may write to it until ``run`` returns.
        file: Read from, without moving its position.
        offset: Where the stretch begins.
        count: Its bytes.
        progress: Called whenever the socket has taken something.
        sent: Bytes that the socket has taken.
    """

    descriptor: int
    file: BinaryIO
    offset: int
    count: int
    progress: Callable[[], None]
    sent: int = 0
    _done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    async def run(self) -> None:
        """Send it all.

        Raises:
            PeerGone: The socket broke, or `give_up` was called; ``unsent`` is exact.
        """
        self.descriptor = os.dup(self.descriptor)  # the loop watches the transport's own for reading
        loop = asyncio.get_running_loop()
        try:
            loop.add_writer(self.descriptor, self._push)
            await self._done
        finally:
            loop.remove_writer(self.descriptor)
            os.close(self.descriptor)

    def give_up(self) -> None:
        """Stop, since the connection is gone."""
        if not self._done.done():
            self._done.set_exception(PeerGone(self.count - self.sent))

    def _push(self) -> None:
        try:
            for _ in range(_PIECES):
                if self._done.done():
                    return
                start, left = self.offset + self.sent, self.count - self.sent
                sent = os.sendfile(self.descriptor, self.file.fileno(), start, min(left, _PIECE))
                self.sent += sent
                if sent == left:
                    self._done.set_result(None)
                elif sent == 0:
                    self._done.set_exception(EOFError("the file is shorter than the stretch"))
        except BlockingIOError:
            pass
        except OSError:
            self.give_up()
        if not self._done.done():
            self.progress()


def keep_queue_short(peer: socket.socket | None) -> None:
    """Let the kernel take only 128 KiB ahead of the peer.

    What is sent is then still in the processor's cache when the peer reads it, which doubles the speed over
    loopback, and the count of a response broken off is that much nearer to what the peer got.
    """
    if peer is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        with contextlib.suppress(OSError):  # not TCP
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)


async def acknowledged(peer: socket.socket, seconds: float) -> int:
    """Wait until the peer's side has everything that was written to the socket.

    A reset discards what is still under way, and then its amount would not be known.

    Returns:
        Bytes that it still lacks when the time is over; 0 where the kernel does not tell.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while (lacking := _queued(peer)) and loop.time() < end:  # noqa: ASYNC110 (there is no event)
        await asyncio.sleep(_LOOK)
    return lacking


def _queued(peer: socket.socket) -> int:
    try:
        (count,) = struct.unpack("i", fcntl.ioctl(peer.fileno(), termios.TIOCOUTQ, bytes(4)))
    except OSError:
        return 0
    return int(count)


def reset_on_close(peer: socket.socket) -> None:
    """Make the socket end with a reset."""
    with contextlib.suppress(OSError):  # gone already
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NOW)
