"""What a registry does from time to time: end sessions that nobody uses, free blobs that no manifest needs.

Owns when something is too old. Must not know of HTTP, nor how space is freed.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from .recovery import compact
from .spec import Digest
from .state import Repository, State

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection did.

    Attributes:
        links: Repository and digest of each blob that was taken out of a repository.
        octets: Room that is free now; a blob that another repository still holds frees none.
    """

    links: tuple[tuple[str, Digest], ...]
    octets: int


async def collect(state: State, grace: float) -> Collected:
    """Take the blobs out of each repository that none of its manifests mentions.

    A manifest that is being pushed needs blobs that no manifest mentions yet: what was pushed or mounted, or
    was told to be there so that a client did not push it, within the time of grace stays. Each repository is
    looked through without a pause, so that no manifest can be stored in between.

    Args:
        state: The registry's.
        grace: Seconds on the state's clock.
    """
    links: list[tuple[str, Digest]] = []
    octets = 0
    for repository in list(state.repositories.values()):
        for digest in unreferenced(repository, before=state.clock() - grace):
            blob = state.storage.find(digest)
            size = 0 if blob is None else blob.size
            state.let_go(repository.name, digest)
            links.append((repository.name, digest))
            octets += 0 if digest in state.digests else size
        await state.storage.sync()
    return Collected(tuple(links), octets)


def unreferenced(repository: Repository, *, before: float) -> Sequence[Digest]:
    """Return the blobs that no manifest mentions and that nobody has used since ``before``, sorted.

    What a manifest mentions that cannot be read now is not known, so that until it is pushed again there are
    none.
    """
    if repository.lost:
        return []
    needed = {digest for manifest in repository.manifests.values() for digest in manifest.mentioned}
    used = repository.used
    return sorted(digest for digest in repository.blobs - needed if used.get(digest, before) <= before)


async def expire_sessions(state: State) -> int:
    """End the sessions that nobody has used for too long, and return how many they were."""
    expired = [session for session in state.sessions.values() if state.has_expired(session)]
    for session in expired:
        await state.close_session(session)
    return len(expired)


class Housekeeping:
    """Does all of this again and again, while somebody has the registry.

    Args:
        state: The registry's.
        interval: Seconds, of the event loop, from one time to the next.
        grace: As of `collect`; ``None`` collects nothing.
    """

    def __init__(self, state: State, *, interval: float, grace: float | None) -> None:
        self._state = state
        self._interval = interval
        self._grace = grace
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.keep()
            except Exception:  # noqa: BLE001 (a full disk, say: the registry lives on, and there is a next time)
                _log.exception("keeping house failed")

    async def keep(self) -> None:
        """Do it once."""
        await expire_sessions(self._state)
        if self._grace is not None:
            await collect(self._state, self._grace)
        compact(self._state)

    async def stop(self) -> None:
        """End, and leave nothing running."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
