"""What every handler is given: the state, the settings where the specification leaves a choice, the journal.

Owns the settings. Must not know of handlers or servers.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from .auth import Auth
from .exchange import Exchange, Response
from .journal import Journal
from .state import State

MANIFEST_LIMIT = 4 << 20
"""Octets of the largest manifest: 4 MiB must be expected to work (end-7)."""

SESSION_LIFETIME = 7 * 24 * 3600.0
"""Seconds that an upload session waits for its client: a week, as elsewhere."""

COLLECTION_GRACE = 3600.0
"""Seconds from a blob to the manifest that mentions it: more than a push of a large image takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How this registry decides where the specification leaves it free.

    Attributes:
        anonymous_mount: Mount from any repository when a mount names none (end-11).
        mount: Mount at all; else every mount is answered with a session (202).
        delete: Answer deletes of tags, manifests and blobs; else 405 (end-9, end-10).
        single_post: Take a blob with the POST (end-4b); else 202 and the client goes on with a PUT.
        sparse: Take manifests whose successors are missing (end-7).
        manifest_limit: Octets of the largest manifest; beyond it, 413.
        min_chunk_length: Announced as OCI-Chunk-Min-Length, and enforced; ``None`` is no minimum.
        read_only: Answer what would change something with 405.
        drain_limit: Octets of a refused request's body that are still read, so that the answer arrives.
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
