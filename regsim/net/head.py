"""Heads of requests and responses (RFC 9112).

Owns writing a request's head byte for byte, parsing a response's head within bounds, and what either says
about the body's framing and the connection's future. Does no I/O.
"""

from __future__ import annotations

import re
from http import HTTPStatus

import httptools
import httpx

Header = tuple[bytes, bytes]

# Bytes of everything before a body, preliminary answers included. Signed URLs take some kilobytes.
MAX_HEAD = 64 * 1024
MAX_HEADERS = 256

_END = b"\r\n\r\n"
_VERSIONS = ("1.1", "1.0")
# Behind these comes no body, whatever their headers say (RFC 9112, 6.3).
_BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET = re.compile(rb"[\x21-\x7e]+")
_VALUE = re.compile(rb"[^\x00\r\n]*")


def request_head(request: httpx.Request) -> bytes:
    """Return the bytes before a request's body. Nothing is added, decoded or encoded.

    The target is taken from the extension `target` if there is one.

    Raises:
        LocalProtocolError: a part of it would be read as something else.
    """
    method = request.method.encode("ascii", "replace")
    target = request.extensions.get("target", request.url.raw_path)
    if _TOKEN.fullmatch(method) is None or _TARGET.fullmatch(target) is None:
        raise httpx.LocalProtocolError("the request line cannot be sent")
    lines = [b"%b %b HTTP/1.1" % (method, target)]
    for name, value in request.headers.raw:
        if _TOKEN.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            raise httpx.LocalProtocolError(f"the header {name!r:.100} cannot be sent")
        lines.append(b"%b: %b" % (name, value))
    return b"\r\n".join(lines) + b"\r\n\r\n"


def request_length(request: httpx.Request) -> int | None:
    """Return the bytes of a request's body by its headers; None: it is sent in chunks.

    Raises:
        LocalProtocolError: the headers are ambiguous.
    """
    lengths = {value for name, value in request.headers.raw if name.lower() == b"content-length"}
    codings = [value for name, value in request.headers.raw if name.lower() == b"transfer-encoding"]
    if codings:
        if lengths or [each.lower() for each in codings] != [b"chunked"]:
            raise httpx.LocalProtocolError("the headers do not say how the body is framed")
        return None
    if not lengths:
        return 0
    text = lengths.pop()
    if lengths or not text.isdigit():
        raise httpx.LocalProtocolError("Content-Length is not a number")
    return int(text)


def chunk(data: bytes) -> bytes:
    """Return a piece of a body as a chunk (RFC 9112, 7.1). An empty one ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Head:
    """An answer without its body, which `feed` reads. Preliminary answers (1xx) are skipped.

    Args:
        method: of the request.

    Attributes:
        status: the HTTP status.
        reason: the words behind it.
        headers: as they came.
        excess: unsolicited bytes followed the body.
    """

    def __init__(self, method: bytes) -> None:
        self._method = method
        self._seen = 0
        self._tail = b""
        self._pieces: list[bytes] = []
        self._begin()

    def _begin(self) -> None:
        self.status = 0
        self.reason = b""
        self.headers: list[Header] = []
        self.excess = False
        self._complete = self._body_complete = False
        self._parser = httptools.HttpResponseParser(self)
        # With both, chunks win (RFC 9112, 6.3), and the connection serves no further request.
        self._parser.set_dangerous_leniencies(lenient_chunked_length=True)

    @property
    def begun(self) -> bool:
        """Whether the peer has said anything at all."""
        return self._seen > 0

    def feed(self, data: bytes) -> bytes | None:
        """Take in bytes; return those behind the head once it is whole, None before.

        Raises:
            RemoteProtocolError: they are no head, or too large a one.
        """
        while True:
            found = (self._tail + data).find(_END)  # which may have begun in what came before
            end = None if found < 0 else found + len(_END) - len(self._tail)
            ours = data if end is None else data[:end]
            self._count(len(ours))
            self._parse(ours)
            if end is None:
                self._tail = (self._tail + data)[-len(_END) + 1 :]
                if self._complete:
                    raise httpx.RemoteProtocolError("the head ends where it may not")
                return None
            if not self._complete:
                raise httpx.RemoteProtocolError("an empty line instead of an answer")
            data, self._tail = data[end:], b""
            if self.status >= HTTPStatus.OK:
                return data
            if self.status == HTTPStatus.SWITCHING_PROTOCOLS:
                raise httpx.RemoteProtocolError("the peer changes the protocol, unasked")
            self._begin()
            if not data:
                return None

    def _count(self, octets: int) -> None:
        self._seen += octets
        if self._seen > MAX_HEAD:
            raise httpx.RemoteProtocolError(f"a head of more than {MAX_HEAD} bytes")

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as error:
            raise httpx.RemoteProtocolError("the peer changes the protocol, unasked") from error
        except httptools.HttpParserError as error:
            raise httpx.RemoteProtocolError(_words(error)) from error

    # What an answer says

    @property
    def length(self) -> int | None:
        """Bytes of the body; None: it ends with the last chunk, or with the connection."""
        if self._method == b"HEAD" or self.status in _BODILESS:
            return 0
        if self.chunked:
            return None
        lengths = self._values(b"content-length")
        return int(lengths[0]) if lengths else None  # one number: the parser saw to it

    @property
    def chunked(self) -> bool:
        """Whether the body comes in chunks.

        Raises:
            RemoteProtocolError: it has an unsolicited coding.
        """
        codings = self._values(b"transfer-encoding")
        if codings and [each.lower() for each in codings] != [b"chunked"]:
            raise httpx.RemoteProtocolError("a transfer coding that was not requested")
        return bool(codings)

    @property
    def lasting(self) -> bool:
        """Whether the connection may serve another request behind this answer."""
        if self.length is None and not self.chunked:
            return False
        if self._values(b"transfer-encoding") and self._values(b"content-length"):
            return False
        options = b",".join(self._values(b"connection")).lower().replace(b" ", b"").split(b",")
        if self.version == b"HTTP/1.0":
            return b"keep-alive" in options
        return b"close" not in options

    @property
    def version(self) -> bytes:
        """Such as `HTTP/1.1`."""
        return b"HTTP/" + self._parser.get_http_version().encode()

    def _values(self, name: bytes) -> list[bytes]:
        return [value for each, value in self.headers if each.lower() == name]

    # Chunks

    def unchunk(self, data: bytes | memoryview) -> tuple[list[bytes], bool]:
        """Return the pieces of the body in `data`, and whether the body is complete.

        Raises:
            RemoteProtocolError: they are no chunks.
        """
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            # What follows a complete body answers no request; the connection is not used again.
            if not self._body_complete:
                raise httpx.RemoteProtocolError(_words(error)) from error
            self.excess = True
        pieces, self._pieces = self._pieces, []
        return pieces, self._body_complete

    # What the parser calls

    def on_message_begin(self) -> None:
        """Note that another, unsolicited answer begins."""
        if self._body_complete:
            self.excess = True

    def on_status(self, reason: bytes) -> None:
        """Take the words behind the status, or a part of them."""
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; those behind the body are dropped."""
        if self._complete:
            self._count(len(name) + len(value))
            return
        self.headers.append((name, value.strip(b" \t")))
        if len(self.headers) > MAX_HEADERS:
            raise httpx.RemoteProtocolError(f"more than {MAX_HEADERS} headers")

    def on_headers_complete(self) -> None:
        """Know that the head is whole."""
        self.status = self._parser.get_status_code()
        if self._parser.get_http_version() not in _VERSIONS:
            raise httpx.RemoteProtocolError("an answer of another version of HTTP")
        self._complete = True

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body."""
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        """Know that the body is whole."""
        self._body_complete = True


def _words(error: httptools.HttpParserError) -> str:
    cause = error.__context__
    return str(cause if isinstance(cause, httpx.RemoteProtocolError) else error)
