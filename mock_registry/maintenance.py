"""What is done with a state between requests: read back, shortened, shown to other programs, and cleaned.

Owns what each change means at a start, the index of the OCI layout, and when sessions and blobs are too old.
Must not know of HTTP, how changes are kept, nor how space is freed.
"""

import asyncio
import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .manifest import Manifest, ManifestError, parse_manifest
from .spec import Algorithm, Digest, MediaType, algorithm_of
from .state import Repository, State
from .storage.protocol import (
    BlobLinked,
    BlobUnlinked,
    Change,
    ManifestDeleted,
    ManifestStored,
    RepositoryMade,
    SessionCommitted,
    SessionEnded,
    SessionOpened,
    Storage,
    TagDeleted,
)

_log = logging.getLogger(__name__)

_REF_NAME = "org.opencontainers.image.ref.name"

# Reading back


def _replay(changes: Iterable[Change]) -> tuple[dict[str, Repository], dict[str, SessionOpened]]:
    """Return the outcome of changes, before any content is read: most of it may be outdated.

    Manifests are in `Repository.lost`, by their media types, until their content is read. The times at which
    blobs were used are not known.

    Returns:
        The repositories by name, and the sessions that are still open by identifier.
    """
    repositories: dict[str, Repository] = {}
    sessions: dict[str, SessionOpened] = {}
    for change in changes:
        if isinstance(change, SessionOpened):
            sessions[change.session] = change
            continue
        if isinstance(change, SessionEnded | SessionCommitted):
            opened = sessions.pop(change.session, None)
            if opened is None or isinstance(change, SessionEnded):
                continue
            change = BlobLinked(opened.repository, change.digest)  # noqa: PLW2901 (it amounts to this)
        _apply(change, repositories.setdefault(change.repository, Repository(change.repository)))
    return repositories, sessions


def _apply(change: Change, repository: Repository) -> None:
    """Make one change to what a repository holds."""
    match change:
        case BlobLinked():
            repository.blobs[change.digest] = 0.0
        case BlobUnlinked():
            repository.blobs.pop(change.digest, None)
        case ManifestStored():
            repository.lost[change.digest] = change.media_type
            repository.tags.update(dict.fromkeys(change.tags, change.digest))
        case ManifestDeleted():
            repository.lost.pop(change.digest, None)
            for tag in [tag for tag, digest in repository.tags.items() if digest == change.digest]:
                del repository.tags[tag]
        case TagDeleted():
            repository.tags.pop(change.tag, None)


def restore(state: State) -> None:
    """Give a state what its storage remembers, and let the storage free the rest.

    A manifest whose content is damaged is left out, and its tags lead nowhere, until it is pushed again.
    """
    state.clear()
    storage = state.storage
    repositories, sessions = _replay(storage.recall())
    manifests: dict[tuple[Digest, str], Manifest | None] = {}
    for repository in repositories.values():
        for digest, media_type in list(repository.lost.items()):
            key = digest, media_type
            if key not in manifests:
                manifests[key] = _read(storage, digest, media_type)
            if (manifest := manifests[key]) is not None:
                repository.manifests[digest] = manifest
                del repository.lost[digest]
        state.adopt(repository)
    for identifier, opened in sessions.items():
        upload = storage.resume_upload(identifier, opened.algorithm)
        state.adopt_session(identifier, opened.repository, opened.algorithm, upload)
    storage.sweep(state.digests, state.sessions)
    compact(state)


def _read(storage: Storage, digest: Digest, media_type: str) -> Manifest | None:
    try:
        manifest = parse_manifest(storage.read_manifest(digest), media_type, algorithm_of(digest))
    except (OSError, ManifestError) as error:
        _log.warning("the manifest %s is lost until it is pushed again: %s", digest, error)
        return None
    if manifest.digest != digest:
        _log.warning("the manifest %s is damaged until it is pushed again", digest)
        return None
    return manifest


def compact(state: State) -> None:
    """Let the storage write down the state in place of its changes, if that is far shorter."""
    shelves = state.repositories.values()
    count = len(state.sessions) + sum(1 + len(each.blobs) + len(each.manifests) for each in shelves)
    state.storage.shorten(snapshot(state), count)


def snapshot(state: State) -> Iterator[Change]:
    """Yield the changes that make this state out of an empty one."""
    for repository in state.repositories.values():
        name = repository.name
        yield RepositoryMade(name)
        for digest in repository.blobs:
            yield BlobLinked(name, digest)
        tags: dict[Digest, list[str]] = {}
        for tag, digest in repository.tags.items():
            tags.setdefault(digest, []).append(tag)
        stored = {digest: manifest.media_type for digest, manifest in repository.manifests.items()}
        for digest, media_type in (stored | repository.lost).items():
            yield ManifestStored(name, digest, media_type, tuple(tags.get(digest, ())))
    for session in state.sessions.values():
        yield SessionOpened(session.identifier, session.repository, Algorithm(session.algorithm))


def layout_index(state: State) -> bytes:
    """Return an OCI layout's ``index.json`` with an entry for each tag, named ``<repository>:<tag>``."""
    entries: list[dict[str, Any]] = []
    for name, repository in sorted(state.repositories.items()):
        for tag, digest in sorted(repository.tags.items()):
            manifest = repository.manifests.get(digest)
            if manifest is not None:
                descriptor = {
                    "mediaType": manifest.media_type,
                    "digest": digest,
                    "size": len(manifest.content),
                    "annotations": {_REF_NAME: f"{name}:{tag}"},
                }
                entries.append(descriptor)
    return json.dumps({"schemaVersion": 2, "mediaType": MediaType.OCI_INDEX, "manifests": entries}).encode()


# Cleaning


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection did.

    Attributes:
        links: Repository and digest of each blob that was taken out of a repository.
        octets: Bytes that are free now; a blob that another repository still holds frees none.
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
        if repository.lost:
            continue  # a manifest that cannot be read, until it is pushed again, may mention any blob
        before = state.clock() - grace
        needed = {digest for manifest in repository.manifests.values() for digest in manifest.mentioned}
        unused = {digest for digest, used in repository.blobs.items() if used <= before}
        for digest in sorted(unused - needed):
            blob = state.storage.find(digest)
            size = 0 if blob is None else blob.size
            state.let_go(repository.name, digest)
            links.append((repository.name, digest))
            octets += 0 if digest in state.digests else size
        await state.storage.sync()
    return Collected(tuple(links), octets)


async def expire_sessions(state: State) -> int:
    """End the sessions that were not used for too long, and return how many they were."""
    expired = [session for session in state.sessions.values() if state.has_expired(session)]
    for session in expired:
        await state.close_session(session)
    return len(expired)


async def keep_house(state: State, *, interval: float, grace: float | None) -> None:
    """Expire, collect and compact at intervals, until cancelled.

    Args:
        state: The registry's.
        interval: Seconds, of the event loop, from one time to the next.
        grace: As of `collect`; ``None`` collects nothing.
    """
    while True:
        await asyncio.sleep(interval)
        try:
            await expire_sessions(state)
            if grace is not None:
                await collect(state, grace)
            compact(state)
        except Exception:  # noqa: BLE001 (a full disk, say: the registry lives on, and there is a next time)
            _log.exception("housekeeping failed")
