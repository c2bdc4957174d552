"""What can go wrong on the wire. Translated in `remote.sockets`, for httpx, and `remote.troubles`.

WireError
├── ConnectError          no connection: refused, unreachable, unknown name, no TLS
│   └── ConnectTimeoutError
├── PoolTimeoutError      no connection became free in time
├── ReadError             the connection broke while an answer was awaited or read
│   └── ReadTimeoutError  it fell silent
├── WriteError            it broke while a request was sent
│   └── WriteTimeoutError the peer takes nothing more
├── PeerProtocolError     what came is no HTTP, or ended too early
└── OwnProtocolError      what was to be sent is no HTTP, or not as long as it says
"""

from __future__ import annotations


class WireError(Exception):
    """Base of all failures of an exchange.

    Attributes:
        stale: the connection had served before, and ended without a single byte of an answer: it may have
            been dying already when it was chosen.
    """

    stale = False


class ConnectError(WireError):
    """No connection came about."""


class ConnectTimeoutError(ConnectError):
    """No connection came about in time."""


class PoolTimeoutError(WireError):
    """No connection became free in time."""


class ReadError(WireError):
    """The connection broke while something was awaited from the peer."""


class ReadTimeoutError(ReadError):
    """The peer fell silent."""


class WriteError(WireError):
    """The connection broke while something was sent to the peer."""


class WriteTimeoutError(WriteError):
    """The peer takes nothing more."""


class PeerProtocolError(WireError):
    """What the peer sent is no HTTP, or less than it had announced."""


class OwnProtocolError(WireError):
    """What was to be sent is no HTTP, or not as long as it says."""
