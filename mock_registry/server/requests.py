"""From bytes to requests: heads as ASGI scopes, and the bodies behind them.

Owns parsing, the limits on heads, and what HTTP/1.1 demands of them. Must not know of sockets or answers.
"""

import re
from collections.abc import Callable
from http import HTTPMethod
from urllib.parse import unquote_to_bytes

import httptools

from mock_registry.asgi import GONE, SEVER, ZERO_COPY, Headers, Scope

from .cycle import Cycle
from .limits import Limits

_TLS_EXTENSIONS: dict[str, dict[str, object]] = {GONE: {}, SEVER: {}}
_EXTENSIONS = _TLS_EXTENSIONS | {ZERO_COPY: {}}
_REQUEST_LINE = re.compile(rb"^([!#-'*+.^_`|~0-9A-Za-z-]+) \S+ HTTP/1\.[01]\r?$", re.MULTILINE)
_METHODS = frozenset(method.value.encode() for method in HTTPMethod)
_ASGI = {"version": "3.0", "spec_version": "2.5"}


class HeadRefused(Exception):  # noqa: N818 (a decided answer)
    """A head that is not served: its arguments are a status and a message."""


class Requests:
    """The requests that arrive on a connection.

    Args:
        limits: Sizes of heads.
        scheme: ``http`` or ``https``.
        client: Address of the peer, for the ASGI scopes.
        server: Address that it reached.
        begin: Given the scope of each request, and whether another one may follow it; returns what takes its
            body.
        refuse: Given a status and a message for what is not served; nothing more is parsed.

    Attributes:
        begun: Bytes of a head have arrived, but not its end.
        method: Of the last head, once it is known.
        expects_continue: The last complete head expects 100 Continue.
        reading: Takes the body that is arriving, or could be.
        received: Bytes of it that have arrived.
    """

    def __init__(
        self,
        limits: Limits,
        scheme: str,
        client: object,
        server: object,
        *,
        begin: Callable[[Scope, bool], Cycle],
        refuse: Callable[[int, str], None],
    ) -> None:
        self._limits = limits
        self._connection = {"scheme": scheme, "client": client, "server": server}
        self._extensions = _TLS_EXTENSIONS if scheme == "https" else _EXTENSIONS
        self._begin = begin
        self._refuse = refuse
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: Headers = []
        self._octets = 0
        self._raw = 0
        self._alone = False  # what has arrived with the head's first bytes is of no request before
        self._fresh = True
        self._content_length: int | None = None
        self._framing = b""  # the header by which the last complete head announces a body
        self._raw_left = 0
        self.begun = False
        self.method = ""
        self.expects_continue = False
        self.reading: Cycle | None = None
        self.received = 0

    @property
    def target(self) -> str:
        """The target of the last head, as far as it has arrived."""
        return self._target.decode("latin-1")

    @property
    def closed(self) -> bool:
        """Nothing more is parsed."""
        return self._parser is None

    def close(self) -> None:
        """Parse nothing more."""
        self._parser = None
        self._raw_left = 0

    def feed(self, data: bytes) -> int:
        """Take bytes from the peer, and return how many of them were left because this is closed."""
        if self._raw_left:
            data = self._take_raw(data)
            if not data:
                return 0
        while self._parser is not None:
            self._fresh = not (self.reading or self.begun)
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                self._decline()
            except httptools.HttpParserError as error:
                self._refuse(*_judge(error, data))
                return 0
            else:
                self._after(len(data))
                return 0
        return len(data)

    def _decline(self) -> None:
        """Go on with HTTP/1.1 after an offer of another protocol, which is declined.

        The parser stops at the end of such a head. What follows is its body, if it has one, for which another
        parser gets the framing; else it is the next request.
        """
        self._parser = httptools.HttpRequestParser(self)
        if self.reading:
            self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % self._framing)

    def _after(self, count: int) -> None:
        """Bound a head that comes in pieces, and leave the parser out where a body's length is known.

        The parser may hold a header back. A first piece that the head shares with the requests before does
        not count: where it begins is not known.
        """
        if self.begun:
            self._raw += count if self._alone else 0
            self._alone = True
            if self._raw > 2 * (self._limits.head + self._limits.target):
                self._refuse(431, "the head is too large")
        elif self.reading and self._content_length is not None:
            self._raw_left = self._content_length - self.received

    def _take_raw(self, data: bytes) -> bytes:
        """Hand bytes to the body as they are, without the parser's copy, and return what is behind it."""
        body, rest = data[: self._raw_left], data[self._raw_left :]
        self._raw_left -= len(body)
        self.on_body(body)
        if not self._raw_left:
            self.on_message_complete()
            if self._parser is not None:
                self._parser = httptools.HttpRequestParser(self)
        return rest

    # What the parser calls

    def on_message_begin(self) -> None:
        """Begin a request."""
        self.begun = True
        self.method = ""
        self._target = b""
        self._headers = []
        self._octets = self._raw = 0
        self._alone, self._fresh = self._fresh, False

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target.

        Raises:
            HeadRefused: 414, it is too long.
        """
        if self._parser is not None and not self.method:
            self.method = self._parser.get_method().decode("ascii")
        self._target += url
        if len(self._target) > self._limits.target:
            raise HeadRefused(414, "the target is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; after the head, it is a trailer, which is ignored.

        Raises:
            HeadRefused: 431, the headers are too large together.
        """
        if self.reading:
            return
        self._headers.append((name.lower(), value))
        self._octets += len(name) + len(value) + 4
        if self._octets > self._limits.head:
            raise HeadRefused(431, "the headers are too large")

    def on_headers_complete(self) -> None:
        """Hand the head over as an ASGI scope.

        Raises:
            HeadRefused: 400 or 505, it is not a request of HTTP/1.1 or 1.0.
        """
        parser = self._parser
        if parser is None:  # the head before this one was refused
            return
        self.begun = False
        if self.reading:  # only its framing, said again: see `_decline`
            return
        version = parser.get_http_version()
        self._read_headers(version)
        path, _, query = _origin_form(self._target).partition(b"?")
        scope: Scope = self._connection | {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": self.method,
            "path": unquote_to_bytes(path).decode("utf-8", "replace"),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": self._headers,
            "extensions": self._extensions,
        }
        self.received = 0
        self.reading = self._begin(scope, parser.should_keep_alive())

    def _read_headers(self, version: str) -> None:
        hosts = 0
        self._content_length = None
        self._framing = b""
        self.expects_continue = False
        for name, value in self._headers:
            if name == b"host":
                hosts += 1
            elif name == b"content-length":
                self._content_length = int(value)
                self._framing = b"Content-Length: %d" % self._content_length if self._content_length else b""
            elif name == b"transfer-encoding":
                self._framing = b"Transfer-Encoding: chunked"
            elif name == b"expect":
                self.expects_continue = value.strip().lower() == b"100-continue" and version == "1.1"
        if version not in ("1.0", "1.1"):
            raise HeadRefused(505, f"HTTP/{version} is not supported")
        if hosts > 1 or (hosts == 0 and version == "1.1"):
            raise HeadRefused(400, "a request has one Host header")

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        if self.reading:
            self.received += len(body)
            self.reading.feed(body)

    def on_message_complete(self) -> None:
        """End the request, unless its body follows an offer of another protocol."""
        offered = self._framing and self._parser is not None and self._parser.should_upgrade()
        if self.reading and not offered:
            ended, self.reading = self.reading, None
            ended.end()


def _origin_form(target: bytes) -> bytes:
    """Return path and query of a target, which a client may send whole as it would to a proxy."""
    if target.startswith(b"/") or b"://" not in target:
        return target.partition(b"#")[0]
    _, slash, rest = target.partition(b"://")[2].partition(b"/")
    return (slash + rest).partition(b"#")[0] or b"/"


def _judge(error: httptools.HttpParserError, data: bytes) -> tuple[int, str]:
    """Return status and message for what the parser refused."""
    refused = error.__context__
    if isinstance(refused, HeadRefused):
        status, message = refused.args
        return status, message
    # An unknown method and garbage are both a bad method to the parser.
    if isinstance(error, httptools.HttpParserInvalidMethodError) and any(
        method not in _METHODS for method in _REQUEST_LINE.findall(data)
    ):
        return 501, "unknown method"
    return 400, f"not HTTP/1.1: {error}"
