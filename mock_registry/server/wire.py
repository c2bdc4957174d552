"""HTTP/1.1 as bytes: heads of responses, and the answers that the server gives by itself.

Owns serialisation. Must not know of sockets.
"""

import time
from http import HTTPStatus

from mock_registry.asgi import Headers
from mock_registry.spec import ErrorCode, Fault, error_body

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

_STATUS_LINES = {int(s): f"HTTP/1.1 {int(s)} {s.phrase}\r\n".encode() for s in HTTPStatus}
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class UnsafeHeaderError(ValueError):
    """A header that would break the framing of the response."""


class Clock:
    """The Date header, written anew once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._line = b""

    def line(self) -> bytes:
        """Return the header's line."""
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._line = _date_line(now)
        return self._line


def _date_line(now: int) -> bytes:
    """Write an IMF-fixdate; strftime would speak the locale's language."""
    t = time.gmtime(now)
    day, month = _DAYS[t.tm_wday], _MONTHS[t.tm_mon - 1]
    return (
        f"Date: {day}, {t.tm_mday:02} {month} {t.tm_year} {t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} GMT\r\n"
    ).encode()


class Names:
    """Header names in the case that people expect, which ASGI asks to be lower."""

    def __init__(self) -> None:
        self._known = {
            b"etag": b"ETag",
            b"oci-subject": b"OCI-Subject",
            b"oci-tag": b"OCI-Tag",
            b"www-authenticate": b"WWW-Authenticate",
        }

    def __getitem__(self, name: bytes) -> bytes:
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = name.title().replace(b"Oci-", b"OCI-").replace(b"Uuid", b"UUID")
        return known


def encode_head(status: int, headers: Headers, names: Names, *extra: bytes) -> bytes:
    """Write the head of a response.

    Args:
        status: Any three digits.
        headers: The app's.
        names: How to write their names.
        extra: Whole header lines.

    Raises:
        UnsafeHeaderError: A header holds a line break.
    """
    parts = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
    for name, value in headers:
        parts += (names[name], b": ", value, b"\r\n")
    head = b"".join((*parts, *extra, b"\r\n"))
    if head.count(b"\n") != len(headers) + len(extra) + 2 or head.count(b"\r") != head.count(b"\n"):
        raise UnsafeHeaderError(status)
    return head


def encode_error(status: int, message: str, date: bytes, *, bare: bool = False) -> tuple[bytes, int]:
    """Write a whole answer to what the app cannot serve, after which the connection ends.

    Args:
        status: Of the answer.
        message: What is wrong.
        date: The Date header's line.
        bare: Leave the body out, as for HEAD.

    Returns:
        The answer, and the bytes of its body.
    """
    body = error_body(Fault(ErrorCode.UNSUPPORTED, message))
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    head = encode_head(status, headers, Names(), date, b"Connection: close\r\n")
    return (head, 0) if bare else (head + body, len(body))


def encode_chunk(data: bytes) -> bytes:
    """Write one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
