"""Where a blob is, as the code that reads it sees it.

Owns the shapes only. Must not know what is asked there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager

    from regsim.core import Digest
    from regsim.core.account import Account
    from regsim.net.timeouts import Timeouts
    from regsim.registry.bodies import Response
    from regsim.registry.retry import Patience


class Asked(Protocol):
    """Who is asked for a blob."""

    @property
    def timeouts(self) -> Timeouts:
        """How long each wait may be."""

    def exchange(
        self, method: str, target: str, account: Account, *, headers: Mapping[str, str], content: bool
    ) -> AbstractAsyncContextManager[Response]:
        """Send a request and hand over its answer unread."""


class Place(Protocol):
    """Where a blob is: a repository."""

    @property
    def name(self) -> str:
        """What errors call it."""

    @property
    def patience(self) -> Patience:
        """How long to keep trying."""

    @property
    def transport(self) -> Asked:
        """Whom to ask."""

    def blob(self, digest: Digest) -> str:
        """Return what to ask for."""
