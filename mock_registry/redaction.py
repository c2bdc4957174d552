"""What must not be written down of a request.

Owns the names of parameters that hold credentials. Must not know who sends them.
"""

from urllib.parse import unquote_to_bytes

_SECRET = frozenset(
    {
        b"access_token",
        b"client_secret",
        b"code",
        b"id_token",
        b"identity_token",
        b"identitytoken",
        b"pass",
        b"passwd",
        b"password",
        b"refresh_token",
        b"secret",
        b"token",
    },
)
_INSTEAD = b"REDACTED"


def redact_query(query: bytes) -> bytes:
    """Return a raw query with the values of such parameters replaced; others stay as they were sent."""
    if b"=" not in query:
        return query
    return b"&".join(map(_redact, query.split(b"&")))


def redact_target(target: str) -> str:
    """Return a raw target likewise, without what stands before the host of one that is a whole URL."""
    path, mark, query = target.partition("?")
    scheme, separator, rest = path.partition("://")
    if separator:
        host, slash, rest = rest.partition("/")
        path = scheme + separator + host.rpartition("@")[2] + slash + rest
    return path + mark + redact_query(query.encode("latin-1", "replace")).decode("latin-1")


def _redact(piece: bytes) -> bytes:
    name, equals, _ = piece.partition(b"=")
    if not equals or unquote_to_bytes(name.replace(b"+", b" ")).strip().lower() not in _SECRET:
        return piece
    return name + equals + _INSTEAD
