"""Requests as octets.

Owns the head's writing, byte for byte as it was asked for, and what a head says of its body. Does no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from regsim.net.errors import OwnProtocolError
from regsim.store.protocols import Taker

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Sequence

    from regsim.net.address import Origin

Header = tuple[bytes, bytes]
# Hands all of a body but its last piece to a taker, in threads, and returns the last piece.
Feed = Callable[[Taker], Awaitable[bytes]]

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET = re.compile(rb"[\x21-\x7e]+")
_VALUE = re.compile(rb"[^\x00\r\n]*")


class Waits(NamedTuple):
    """How long each wait may be, in seconds; None: for ever.

    Attributes:
        connect: until a connection stands, TLS included.
        read: the longest silence of the peer.
        write: until the peer takes more.
        pool: until a connection is free.
    """

    connect: float | None = None
    read: float | None = None
    write: float | None = None
    pool: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request, as it is to be on the wire.

    Attributes:
        origin: whom to ask.
        method: as it is sent.
        target: as it is sent; nothing is decoded or encoded.
        headers: as they are sent; nothing is added.
        body: iterated once; None sends none.
        feed: instead of `body`, where the length is known: a body that comes in threads, past the event loop.
        waits: how long each wait may be.
        fresh: use no connection that has served before.
    """

    origin: Origin
    method: bytes
    target: bytes
    headers: Sequence[Header]
    body: AsyncIterable[bytes] | None = None
    feed: Feed | None = None
    waits: Waits = field(default_factory=Waits)
    fresh: bool = False

    def head(self) -> bytes:
        """Return the octets before the body.

        Raises:
            OwnProtocolError: a part of it would not be read as what it is.
        """
        if _TOKEN.fullmatch(self.method) is None or _TARGET.fullmatch(self.target) is None:
            raise OwnProtocolError("the request line cannot be sent")
        lines = [b"%b %b HTTP/1.1" % (self.method, self.target)]
        for name, value in self.headers:
            if _TOKEN.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
                raise OwnProtocolError(f"the header {name!r:.100} cannot be sent")
            lines.append(b"%b: %b" % (name, value))
        return b"\r\n".join(lines) + b"\r\n\r\n"

    @property
    def length(self) -> int | None:
        """Octets that the body must have, by its `Content-Length`, or 0; None: it is sent in chunks.

        Raises:
            OwnProtocolError: the headers do not say clearly.
        """
        lengths = {value for name, value in self.headers if name.lower() == b"content-length"}
        codings = [value for name, value in self.headers if name.lower() == b"transfer-encoding"]
        if codings:
            if lengths or [each.lower() for each in codings] != [b"chunked"]:
                raise OwnProtocolError("the headers do not say how the body is framed")
            return None
        if not lengths:
            return 0
        text = lengths.pop()
        if lengths or not text.isdigit():
            raise OwnProtocolError("Content-Length is no number")
        return int(text)

    @property
    def last(self) -> bool:
        """Whether the peer is told to close the connection after the answer."""
        return any(
            name.lower() == b"connection" and b"close" in value.lower() for name, value in self.headers
        )


def chunk(data: bytes) -> bytes:
    """Return a piece of a body as a chunk (RFC 9112, 7.1). An empty one ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
