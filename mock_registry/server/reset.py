"""Ending a TCP connection with a reset, and knowing what had arrived by then.

Owns what the kernel is asked for. Must not know of HTTP.
"""

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios

_LOOK = 0.001
"""Seconds between looks at the queue: nothing tells when a peer has acknowledged."""

_NOW = struct.pack("ii", 1, 0)


async def acknowledged(peer: socket.socket, seconds: float) -> int:
    """Wait until the peer's side has everything that was written to the socket.

    A reset throws away what is still under way, and then nobody would know how much that was.

    Returns:
        Octets that it still lacks when the time is over; 0 where the kernel does not tell.
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
    """Let the socket's end be a reset."""
    with contextlib.suppress(OSError):  # gone already
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NOW)
