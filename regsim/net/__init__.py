"""HTTP/1.1 over sockets, as an httpx transport.

Owns connections, from a host's name to the bytes of a response, and how long each wait may be. Must not know
registries, accounts, or what a body is good for.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long anything may take, in seconds. No wait is without an end.

    Attributes:
        connect: TCP and TLS, until a connection stands.
        read: the longest silence while an answer or a part of its body is awaited.
        write: until the connection takes the next part of a body.
        commit: silence after the last byte of an upload, while the registry hashes and moves it
            (ghcr takes 11 s for 700 MB).
        pool: until one of the connections is free; its holder is bound by the other timeouts.
        metadata: a whole exchange that moves no blob. A trickle never stalls, but ends here.
        cancel: a whole attempt to clean up behind a failure.
        slowest: bytes per second below which a blob does not count as moving, though it never falls silent.
    """

    connect: float = 10.0
    read: float = 60.0
    write: float = 60.0
    commit: float = 300.0
    pool: float = 600.0
    metadata: float = 300.0
    cancel: float = 5.0
    slowest: float = 4096.0

    def whole(self, size: int) -> float:
        """Return how long a request may take, in seconds, that moves `size` bytes of a blob."""
        return self.metadata + size / self.slowest
