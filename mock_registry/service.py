"""What every handler is given: the state, the settings where the specification leaves a choice, the journal.

Owns the settings, the text of Warning headers, and what the ``ns`` parameter of a pull leads to. Must not
know of handlers or servers.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from .asgi import Headers
from .auth import Auth
from .exchange import Exchange, Response
from .journal import Journal, Route
from .spec import is_name
from .state import State

MANIFEST_LIMIT = 4 << 20
"""Bytes of the largest manifest: 4 MiB must be expected to work (end-7)."""

SESSION_LIFETIME = 7 * 24 * 3600.0
"""Seconds that an upload session waits for its client: a week, as elsewhere."""

COLLECTION_GRACE = 3600.0
"""Seconds from a blob to the manifest that mentions it: more than a push of a large image takes."""


WARNING_LIMIT = 4096
"""Bytes that all Warning headers of a response may have together."""

_PULLED = (Route.BLOB, Route.MANIFEST, Route.REFERRERS, Route.TAGS)
_TEXT = re.compile(r"[\x20-\x7e]+")
_HOST = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How this registry decides where the specification leaves it free.

    Attributes:
        anonymous_mount: Mount from any repository when a mount names none (end-11).
        mount: Mount at all; else every mount is answered with a session (202).
        delete: Answer deletes of tags, manifests and blobs; else 405 (end-9, end-10).
        single_post: Take a blob with the POST (end-4b); else 202 and the client goes on with a PUT.
        sparse: Take manifests whose successors are missing (end-7).
        manifest_limit: Bytes of the largest manifest; beyond it, 413.
        min_chunk_length: Announced as OCI-Chunk-Min-Length, and enforced; ``None`` is no minimum.
        read_only: Answer what would change something with 405.
        drain_limit: Bytes of a refused request's body that are still read, so that the answer arrives.
        session_patience: Seconds to wait for another request that holds the same session.
    """

    anonymous_mount: bool = False
    mount: bool = True
    delete: bool = True
    single_post: bool = True
    sparse: bool = False
    manifest_limit: int = MANIFEST_LIMIT
    min_chunk_length: int | None = None
    read_only: bool = False
    drain_limit: int = 64 << 20
    session_patience: float = 5.0


@dataclass(frozen=True, slots=True)
class Service:
    """What handlers work with."""

    state: State
    settings: Settings
    journal: Journal
    auth: Auth | None = None


Handler: TypeAlias = Callable[[Service, Exchange], Awaitable[Response]]


def warning_headers(texts: Iterable[str]) -> Headers:
    """Return the headers that show warnings to the people who use a client.

    Args:
        texts: One sentence each, in printable ASCII.

    Raises:
        ValueError: One is not such a text, or they are more than a response may carry.
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
    prefix, with the header OCI-Namespace; other pulls are answered as without it.

    Args:
        prefixes: Where the repositories of each host are: ``{"docker.io": "hub"}`` finds ``library/alpine``
            as ``hub/library/alpine``. An empty prefix leaves names as they are.

    Raises:
        ValueError: A host or a prefix is not valid.
    """

    def __init__(self, prefixes: Mapping[str, str]) -> None:
        for host, prefix in prefixes.items():
            if _HOST.fullmatch(host) is None:
                raise ValueError(f"not a host: {host[:80]!r}")
            if prefix and not is_name(prefix):
                raise ValueError(f"not the beginning of a repository's name: {prefix[:80]!r}")
        self._prefixes = dict(prefixes)

    def scope(self, exchange: Exchange) -> None:
        """Lead a pull to the repositories of its host."""
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
