"""Stores of nodes: one that keeps all bytes in memory, and ones that drop them after hashing.

Owns the stores that behave by the skip rules that clients follow (`core.holdings.SkipRule`). Must not know
files or transfers: which layers are requested, and in what order, is decided elsewhere.
"""

from __future__ import annotations

import hashlib
from contextlib import aclosing
from typing import TYPE_CHECKING

from regsim.core import media_types
from regsim.core.config import MAX_CONFIG_SIZE
from regsim.core.holdings import SkipRule
from regsim.core.manifest import MAX_MANIFEST_SIZE
from regsim.errors import ContentError, LocalFileError, NotFoundError
from regsim.store.memory import AbsentContent, BytesContent, is_document, named
from regsim.store.relay import hand_all
from regsim.store.verify import Verifier, verified

if TYPE_CHECKING:
    from regsim.core import Descriptor, Digest
    from regsim.store.protocols import Content

# All documents of one node together. A real node has some kilobytes of them for each image.
MAX_DOCUMENTS = 256 * 1024 * 1024

_CONFIGS = frozenset({media_types.OCI_CONFIG, media_types.DOCKER_CONFIG})
_DROPPED = (
    "a node drops the bytes of layers after hashing them; give it a store, such as oci:DIR, to keep them"
)


class DigestStore:
    """A `Store` that holds digests and sizes, and the bytes of manifests and configs.

    Manifests are needed to list what they name, configs for their history. All else is hashed, counted and
    dropped, so that a node costs no more memory than its manifests.

    Args:
        name: what errors call it.

    Attributes:
        blobs: the bytes that are kept, by digest.
    """

    def __init__(self, name: str = "the node") -> None:
        self._name = name
        self._sizes: dict[Digest, int] = {}
        self.blobs: dict[Digest, bytes] = {}
        self._room = MAX_DOCUMENTS
        self._manifests: dict[str, Descriptor] = {}  # by tag and by digest

    async def resolve(self, reference: str) -> Descriptor | None:
        """Return the descriptor of a manifest by tag or digest, None if it is absent."""
        return self._manifests.get(reference)

    def content(self, descriptor: Descriptor) -> Content:
        """Return a manifest or config that is held; all else raises `NotFoundError` when opened."""
        raw = self.blobs.get(descriptor.digest)
        if raw is None:
            hint = _DROPPED if descriptor.digest in self._sizes else ""
            return AbsentContent(descriptor, self._name, hint)
        return BytesContent(descriptor, raw)

    async def has(self, descriptor: Descriptor) -> bool:
        """Return whether content of this digest and size was put."""
        return self._sizes.get(descriptor.digest) == descriptor.size

    async def put(self, content: Content) -> None:
        """Hash content to its end, and remember that it is held.

        Raises:
            ContentError: the bytes are not what the descriptor says, or a manifest is larger than 4 MiB.
            LocalFileError: the manifests of this node exceed `MAX_DOCUMENTS`.
        """
        descriptor = content.descriptor
        kept: list[bytes] | None = [] if self._keeps(descriptor) else None
        verifier = Verifier(descriptor)

        def take(piece: memoryview) -> None:
            verifier.update(piece)
            if kept is not None:
                kept.append(bytes(piece))

        await hand_all(content, [take])
        verifier.finish()
        if kept is not None:
            self._keep(descriptor.digest, b"".join(kept))
        self._add(descriptor)

    async def tag(self, descriptor: Descriptor, tag: str) -> None:
        """Tag a manifest that is present; its own digest as a tag changes nothing.

        Raises:
            NotFoundError: it is not.
        """
        if descriptor.digest not in self._manifests:
            raise NotFoundError(
                f"{self._name} cannot tag {descriptor.digest} as {tag!r}: it does not hold that manifest"
            )
        self._manifests[tag] = named(descriptor)

    def _add(self, descriptor: Descriptor) -> None:
        self._sizes[descriptor.digest] = descriptor.size
        if is_document(descriptor):
            self._manifests.setdefault(descriptor.digest, named(descriptor))

    def _keeps(self, descriptor: Descriptor) -> bool:
        if not is_document(descriptor):
            return descriptor.media_type in _CONFIGS and descriptor.size <= MAX_CONFIG_SIZE
        if descriptor.size > MAX_MANIFEST_SIZE:
            raise ContentError(
                f"manifest {descriptor.digest} has {descriptor.size} bytes, "
                f"a node keeps at most {MAX_MANIFEST_SIZE}"
            )
        return True

    def _keep(self, digest: Digest, raw: bytes) -> None:
        if digest in self.blobs:
            return
        if len(raw) > self._room:
            # Forgetting an older one instead would let layers move again, and no report could say why.
            raise LocalFileError(
                f"{self._name} holds {MAX_DOCUMENTS} bytes of manifests and configs already",
                hint="give the node a store on disk, such as oci:DIR",
            )
        self.blobs[digest] = raw
        self._room -= len(raw)


class MemoryStore(DigestStore):
    """A `Store` that keeps all bytes in memory.

    Args:
        name: what errors call it.
    """

    def __init__(self, name: str = "the store in memory") -> None:
        super().__init__(name)

    async def has(self, descriptor: Descriptor) -> bool:
        """Return whether the content is present, with the descriptor's size."""
        data = self.blobs.get(descriptor.digest)
        return data is not None and len(data) == descriptor.size

    async def put(self, content: Content) -> None:
        """Keep verified content.

        Raises:
            ContentError: the bytes are not what the descriptor says; nothing was kept.
        """
        descriptor = content.descriptor
        async with aclosing(verified(content)) as stream:
            self.blobs[descriptor.digest] = b"".join([chunk async for chunk in stream])
        self._add(descriptor)


class ChainDigestStore(DigestStore):
    """A `DigestStore` that finds layers by the run below them too: it is a `ChainKeeper`."""

    def __init__(self, name: str = "the node") -> None:
        super().__init__(name)
        self._chains: set[bytes] = set()

    def has_chain(self, layers: tuple[Digest, ...]) -> bool:
        """Return whether exactly this run of layers, base first, is present. The empty run is."""
        runs = _runs(layers)
        return not runs or runs[-1] in self._chains

    def add_chain(self, layers: tuple[Digest, ...]) -> None:
        """Remember a run of layers, base first, and every run that it begins with."""
        self._chains.update(_runs(layers))


def _runs(layers: tuple[Digest, ...]) -> list[bytes]:
    # Like image-spec's ChainID (config.md#layer-chainid), but over blob digests: one hash for each run,
    # so that a run of n layers costs n and not n².
    runs, parent = [], b""
    for layer in layers:
        parent = hashlib.sha256(parent + layer.encode()).digest()
        runs.append(parent)
    return runs


def node_store(skip: SkipRule = SkipRule.BLOB, name: str = "the node") -> DigestStore:
    """Return an empty store for a node whose client follows `skip`."""
    return ChainDigestStore(name) if skip is SkipRule.CHAIN else DigestStore(name)
