"""What a registry says beside its answers: warnings, and the host that it stands in for.

Owns the text of Warning headers, and what the ``ns`` parameter of a pull leads to. Must not know of handlers.
"""

import re
from collections.abc import Iterable, Mapping

from .asgi import Headers
from .exchange import Exchange
from .journal import Route
from .spec import is_name

WARNING_LIMIT = 4096
"""Octets that all Warning headers of a response may have together."""

_PULLED = (Route.BLOB, Route.MANIFEST, Route.REFERRERS, Route.TAGS)
_TEXT = re.compile(r"[\x20-\x7e]+")
_HOST = re.compile(r"[\x21-\x7e]+")


def warning_headers(texts: Iterable[str]) -> Headers:
    """Return the headers that tell warnings to whoever uses a client.

    Args:
        texts: One sentence each, in printable ASCII.

    Raises:
        ValueError: One is no such text, or all of them are more than a response may carry.
    """
    headers: Headers = []
    for text in texts:
        if _TEXT.fullmatch(text) is None:
            raise ValueError(f"a warning is a line of printable ASCII: {text[:80]!r}")
        # The code, and the agent that stands for "unknown", are the only ones allowed; a date is not.
        quoted = text.replace("\\", "\\\\").replace('"', '\\"')
        headers.append((b"warning", f'299 - "{quoted}"'.encode()))
    size = sum(len(value) for _, value in headers)
    if size > WARNING_LIMIT:
        raise ValueError(f"warnings of {size} bytes: a response carries {WARNING_LIMIT}")
    return headers


class Namespaces:
    """The hosts that a registry stands in for, as a proxy or a mirror does.

    A pull that names one of them (``?ns=docker.io``) is answered out of the repositories below that host's
    prefix, and told so; what names none, or another one, is answered as ever.

    Args:
        prefixes: Where the repositories of each host are: ``{"docker.io": "hub"}`` finds ``library/alpine``
            as ``hub/library/alpine``. An empty prefix leaves names as they are.

    Raises:
        ValueError: A host or a prefix cannot be one.
    """

    def __init__(self, prefixes: Mapping[str, str]) -> None:
        for host, prefix in prefixes.items():
            if _HOST.fullmatch(host) is None:
                raise ValueError(f"not a host: {host[:80]!r}")
            if prefix and not is_name(prefix):
                raise ValueError(f"not the beginning of a repository's name: {prefix[:80]!r}")
        self._prefixes = dict(prefixes)

    def scope(self, exchange: Exchange) -> None:
        """Lead a pull to where the content of its host is."""
        if exchange.method not in ("GET", "HEAD") or exchange.address.route not in _PULLED:
            return
        host = exchange.parameter("ns")
        if host is None or host not in self._prefixes:
            return
        exchange.namespace = host
        exchange.notices.append((b"oci-namespace", host.encode()))
        prefix = self._prefixes[host]
        if prefix and exchange.repository is not None:
            scoped = f"{prefix}/{exchange.repository}"
            exchange.repository = scoped if is_name(scoped) else None
