"""What a registry holds and has served, added up for a reader.

Owns what is counted as shared and as saved, and whose content and requests count for whom. Must not know how
it is shown.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from mock_registry.access import Access
from mock_registry.journal import Journal, Record, Route
from mock_registry.manifest import Kind, Manifest
from mock_registry.spec import Digest
from mock_registry.state import Repository, State

RECORDS = 100_000
"""The newest records of the journal that are added up: a journal without a limit may hold millions."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A blob that is stored once, and what for.

    Attributes:
        size: Bytes; 0 for one whose file has gone.
        media_type: What an image calls it; ``None`` when none names it.
        images: How many images name it. One that stands in two repositories is two.
        uses: How often it would be stored if nothing were shared: once for each image, and once for each
            repository that holds it though none of its images names it.
        repositories: Names of the repositories that hold it, sorted.
    """

    digest: Digest
    size: int
    media_type: str | None
    images: int
    uses: int
    repositories: tuple[str, ...]

    @property
    def saved(self) -> int:
        """Bytes that are not stored again because it is shared."""
        return self.size * (self.uses - 1)


@dataclass(frozen=True, slots=True)
class Survey:
    """Repositories that a reader may see, and their layers; everything else is left out.

    Attributes:
        repositories: Sorted by name.
        layers: Those that save most first, then the largest.
    """

    repositories: tuple[Repository, ...]
    layers: dict[Digest, Layer]

    @property
    def manifests(self) -> int:
        """How many manifests and indexes there are, in all repositories."""
        return sum(len(repository.manifests) for repository in self.repositories)

    def images(self) -> Iterator[tuple[Repository, Manifest, list[str]]]:
        """Yield each manifest and index with its repository and its tags."""
        for repository in self.repositories:
            for digest, manifest in repository.manifests.items():
                tags = sorted(tag for tag, tagged in repository.tags.items() if tagged == digest)
                yield repository, manifest, tags

    @property
    def stored(self) -> int:
        """Bytes of all layers, each once."""
        return sum(layer.size for layer in self.layers.values())

    @property
    def saved(self) -> int:
        """Bytes that would be stored besides if nothing were shared."""
        return sum(layer.saved for layer in self.layers.values())


def survey(state: State, sees: Callable[[str], bool]) -> Survey:
    """Look through all repositories that a reader sees."""
    repositories = tuple(repository for name, repository in sorted(state.repositories.items()) if sees(name))
    images: Counter[Digest] = Counter()
    idle: Counter[Digest] = Counter()
    holders: dict[Digest, list[str]] = {}
    media_types: dict[Digest, str] = {}
    for repository in repositories:
        named, configs = _named(repository, media_types)
        images.update(named)
        for digest in repository.blobs:
            if digest in named or digest not in configs:
                holders.setdefault(digest, []).append(repository.name)
                idle[digest] += digest not in named
    layers = [
        Layer(
            digest=digest,
            size=_size(state, digest),
            media_type=media_types.get(digest),
            images=images[digest],
            uses=images[digest] + idle[digest],
            repositories=tuple(names),
        )
        for digest, names in holders.items()
    ]
    layers.sort(key=lambda layer: (-layer.saved, -layer.size, layer.digest))
    return Survey(repositories, {layer.digest: layer for layer in layers})


def _named(
    repository: Repository, media_types: dict[Digest, str]
) -> tuple[Counter[Digest], frozenset[Digest]]:
    """Return how many images of a repository name each of its layers, and which blobs are configs."""
    named: Counter[Digest] = Counter()
    configs: set[Digest] = set()
    for manifest in repository.manifests.values():
        own = dict(manifest.layers)  # an image that names a layer twice needs it once
        for digest, media_type in own.items():
            if digest in repository.blobs:
                named[digest] += 1
                media_types.setdefault(digest, media_type)
        configs.update(each.digest for each in manifest.successors if each.kind is Kind.BLOB)
    return named, frozenset(configs)


def _size(state: State, digest: Digest) -> int:
    blob = state.storage.find(digest)
    return 0 if blob is None else blob.size


@dataclass(slots=True)
class Total:
    """Records of the journal, added up; bytes are those of bodies."""

    requests: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    def add(self, record: Record) -> None:
        """Count one more record."""
        self.requests += 1
        self.bytes_in += record.bytes_in
        self.bytes_out += record.bytes_out


def traffic(journal: Journal, access: Access) -> dict[str, Total]:
    """Add up the requests that a reader may know of, by route and, at the end, in all.

    Those are the ones about repositories that they may read, and, of requests about no repository, their own.
    Requests for the page are left out: looking must not change what is seen.
    """
    sees = cache(access.sees)
    routes: dict[str, Total] = {}
    whole = Total()
    for record in journal[-RECORDS:]:
        if record.route is Route.PAGE:
            continue
        known = record.user == access.user if record.repository is None else sees(record.repository)
        if known:
            routes.setdefault(record.route, Total()).add(record)
            whole.add(record)
    return {**dict(sorted(routes.items())), "all": whole}
