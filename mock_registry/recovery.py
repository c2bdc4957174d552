"""From what a storage has written down to the state, and back.

Owns what each change means at a start. Must not know how changes are kept.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .manifest import Manifest, ManifestError, parse_manifest
from .spec import Algorithm, Digest, algorithm_of
from .state import Repository, State
from .storage import Storage
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
    TagDeleted,
)

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Shelf:
    """What a repository holds, by name alone. Dictionaries keep the order of arrival."""

    blobs: dict[Digest, None] = field(default_factory=dict)
    manifests: dict[Digest, str] = field(default_factory=dict)
    tags: dict[str, Digest] = field(default_factory=dict)


class _Story:
    """The outcome of changes, worked out before any content is read: most of it may be of the past."""

    def __init__(self, changes: Iterable[Change]) -> None:
        self.shelves: dict[str, _Shelf] = {}
        self.sessions: dict[str, SessionOpened] = {}
        for change in changes:
            self._follow(change)

    def _follow(self, change: Change) -> None:
        match change:
            case SessionOpened():
                self.sessions[change.session] = change
            case SessionEnded():
                self.sessions.pop(change.session, None)
            case SessionCommitted():
                session = self.sessions.pop(change.session, None)
                if session is not None:
                    self._shelf(session.repository).blobs[change.digest] = None
            case _:
                self._follow_content(change, self._shelf(change.repository))

    def _follow_content(self, change: Change, shelf: _Shelf) -> None:
        match change:
            case BlobLinked():
                shelf.blobs[change.digest] = None
            case BlobUnlinked():
                shelf.blobs.pop(change.digest, None)
            case ManifestStored():
                shelf.manifests[change.digest] = change.media_type
                shelf.tags.update(dict.fromkeys(change.tags, change.digest))
            case ManifestDeleted():
                shelf.manifests.pop(change.digest, None)
                shelf.tags = {tag: digest for tag, digest in shelf.tags.items() if digest != change.digest}
            case TagDeleted():
                shelf.tags.pop(change.tag, None)
            case _:
                pass

    def _shelf(self, name: str) -> _Shelf:
        return self.shelves.setdefault(name, _Shelf())


def restore(state: State) -> None:
    """Give a state what its storage remembers, and let the storage free the rest.

    A manifest whose octets are damaged is left out, and its tags lead nowhere, until it is pushed again.
    """
    state.clear()
    storage = state.storage
    story = _Story(storage.recall())
    manifests: dict[tuple[Digest, str], Manifest | None] = {}
    for name, shelf in story.shelves.items():
        repository = Repository(name)
        repository.blobs = set(shelf.blobs)
        repository.tags = shelf.tags
        for digest, media_type in shelf.manifests.items():
            key = digest, media_type
            if key not in manifests:
                manifests[key] = _read(storage, digest, media_type)
            if (manifest := manifests[key]) is not None:
                repository.manifests[digest] = manifest
            else:
                repository.lost[digest] = media_type
        state.adopt(repository)
    for identifier, opened in story.sessions.items():
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
    """Let the storage write down what is, in place of how it came about, if that is far shorter."""
    shelves = state.repositories.values()
    count = len(state.sessions) + sum(1 + len(each.blobs) + len(each.manifests) for each in shelves)
    state.storage.shorten(snapshot(state), count)


def snapshot(state: State) -> Iterator[Change]:
    """Yield the changes that make this very state of nothing."""
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
