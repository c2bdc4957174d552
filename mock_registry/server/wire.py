"""HTTP/1.1 as bytes: heads of responses, and the answers that the server gives without the app.

Owns serialisation. Must not know of sockets.
"""

import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from mock_registry.asgi import Headers
from mock_registry.spec import ErrorCode, Fault, error_body

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

_STATUS_LINES = {int(s): f"HTTP/1.1 {int(s)} {s.phrase}\r\n".encode() for s in HTTPStatus}
_NAMES = {
    b"etag": b"ETag",
    b"oci-subject": b"OCI-Subject",
    b"oci-tag": b"OCI-Tag",
    b"www-authenticate": b"WWW-Authenticate",
}


class UnsafeHeaderError(ValueError):
    """A header that would break the framing of the response."""


@lru_cache(maxsize=1)
def _date_line(second: int) -> bytes:
    return f"Date: {formatdate(second, usegmt=True)}\r\n".encode()


@lru_cache(maxsize=256)
def _name(name: bytes) -> bytes:
    """Return a header's name in the case that people expect, which ASGI asks to be lower."""
    return _NAMES.get(name) or name.title().replace(b"Oci-", b"OCI-").replace(b"Uuid", b"UUID")


def encode_head(status: int, headers: Headers, *extra: bytes) -> bytes:
    """Write the head of a response, with the time of now.

    Args:
        status: Any three digits.
        headers: The app's.
        extra: Whole header lines.

    Raises:
        UnsafeHeaderError: A header holds a line break.
    """
    parts = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
    for name, value in headers:
        parts += (_name(name), b": ", value, b"\r\n")
    head = b"".join((*parts, _date_line(int(time.time())), *extra, b"\r\n"))
    if head.count(b"\n") != len(headers) + len(extra) + 3 or head.count(b"\r") != head.count(b"\n"):
        raise UnsafeHeaderError(status)
    return head


def encode_error(status: int, message: str, *, bare: bool = False) -> tuple[bytes, int]:
    """Write a whole answer to what the app cannot serve, after which the connection ends.

    Args:
        status: Of the answer.
        message: What is wrong.
        bare: Leave the body out: HEAD never gets one, not even of an error.

    Returns:
        The answer, and the bytes of its body.
    """
    body = error_body(Fault(ErrorCode.UNSUPPORTED, message))
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    head = encode_head(status, headers, b"Connection: close\r\n")
    return (head, 0) if bare else (head + body, len(body))


def encode_chunk(data: bytes) -> bytes:
    """Write one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
