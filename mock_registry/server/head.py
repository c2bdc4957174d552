"""The head of a request, from the parser's pieces to an ASGI scope.

Owns the limits on heads and what HTTP/1.1 demands of them. Must not know of bodies.
"""

from urllib.parse import unquote_to_bytes

from mock_registry.asgi import GONE, SEVER, ZERO_COPY, Headers, Scope

from .limits import Limits

_TLS_EXTENSIONS: dict[str, dict[str, object]] = {GONE: {}, SEVER: {}}
_EXTENSIONS = _TLS_EXTENSIONS | {ZERO_COPY: {}}
_ASGI = {"version": "3.0", "spec_version": "2.5"}


class HeadRefused(Exception):  # noqa: N818 (a decided answer)
    """A head that is not served."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Head:
    """The head that is arriving on a connection, or the last one.

    Attributes:
        begun: Octets of it have arrived, but not its end.
        method: Of the last head, once it is known.
        content_length: Of the last complete head; ``None`` without one.
        framing: The header by which the last complete head announces a body; nothing if it has none.
        expects_continue: The last complete head asks for 100 Continue.
    """

    def __init__(self, limits: Limits, *, scheme: str, client: object, server: object) -> None:
        self._limits = limits
        self._scheme = scheme
        self._client = client
        self._server = server
        self._target = b""
        self._headers: Headers = []
        self._octets = 0
        self._raw = 0
        self._alone = False
        self.begun = False
        self.method = ""
        self.content_length: int | None = None
        self.framing = b""
        self.expects_continue = False

    @property
    def target(self) -> str:
        """The target as far as it has arrived."""
        return self._target.decode("latin-1")

    def begin(self, *, alone: bool) -> None:
        """Forget the head before.

        Args:
            alone: What has arrived with its first octets is of this head, and of no request before.
        """
        self.begun = True
        self.method = ""
        self._target = b""
        self._headers = []
        self._octets = self._raw = 0
        self._alone = alone

    def add_target(self, piece: bytes) -> None:
        """Take a piece of the target.

        Raises:
            HeadRefused: 414, it is too long.
        """
        self._target += piece
        if len(self._target) > self._limits.target:
            raise HeadRefused(414, "the target is too long")

    def add(self, name: bytes, value: bytes) -> None:
        """Take a header.

        Raises:
            HeadRefused: 431, the headers are too large together.
        """
        self._headers.append((name.lower(), value))
        self._octets += len(name) + len(value) + 4
        if self._octets > self._limits.head:
            raise HeadRefused(431, "the headers are too large")

    def grow(self, count: int) -> None:
        """Count octets of a head that comes in pieces, of which the parser may hold a header back.

        A first piece that it shares with the requests before does not count: nobody knows where it begins.

        Raises:
            HeadRefused: 431, they are too many.
        """
        self._raw += count if self._alone else 0
        self._alone = True
        if self._raw > 2 * (self._limits.head + self._limits.target):
            raise HeadRefused(431, "the head is too large")

    def complete(self, version: str) -> Scope:
        """Return the ASGI scope of the request.

        Raises:
            HeadRefused: 400 or 505, it is no request of HTTP/1.1 or 1.0.
        """
        self.begun = False
        self._read_headers(version)
        path, _, query = _origin_form(self._target).partition(b"?")
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": self.method,
            "scheme": self._scheme,
            "path": unquote_to_bytes(path).decode("utf-8", "replace"),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": self._headers,
            "client": self._client,
            "server": self._server,
            "extensions": _TLS_EXTENSIONS if self._scheme == "https" else _EXTENSIONS,
        }

    def _read_headers(self, version: str) -> None:
        hosts = 0
        self.content_length = None
        self.framing = b""
        self.expects_continue = False
        for name, value in self._headers:
            if name == b"host":
                hosts += 1
            elif name == b"content-length":
                self.content_length = int(value)
                self.framing = b"Content-Length: %d" % self.content_length if self.content_length else b""
            elif name == b"transfer-encoding":
                self.framing = b"Transfer-Encoding: chunked"
            elif name == b"expect":
                self.expects_continue = value.strip().lower() == b"100-continue" and version == "1.1"
        if version not in ("1.0", "1.1"):
            raise HeadRefused(505, f"HTTP/{version} is not spoken here")
        if hosts > 1 or (hosts == 0 and version == "1.1"):
            raise HeadRefused(400, "a request has one Host header")


def _origin_form(target: bytes) -> bytes:
    """Return path and query of a target, which a client may send whole as it would to a proxy."""
    if target.startswith(b"/") or b"://" not in target:
        return target.partition(b"#")[0]
    _, slash, rest = target.partition(b"://")[2].partition(b"/")
    return (slash + rest).partition(b"#")[0] or b"/"
