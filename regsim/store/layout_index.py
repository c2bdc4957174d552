"""The small files of an OCI image layout: `oci-layout` and `index.json` (image-spec, image-layout.md).

Owns what they say, which of it a reference means, and how it changes. Must not know blobs. The functions
block, so callers run them in a worker thread.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from regsim.core import Descriptor, Digest, media_types
from regsim.core.manifest import encode, media_type_of, parse_object
from regsim.errors import ContentError, InvalidReferenceError, LocalFileError
from regsim.store.files import ASIDE, AsideFile, file_errors, locked, read_bounded, write_whole
from regsim.store.memory import named
from regsim.store.partial import PARTIAL

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

REF_NAME = "org.opencontainers.image.ref.name"

# An entry has some 300 bytes, so this is room for a hundred thousand images.
MAX_INDEX_SIZE = 32 * 1024 * 1024
_TAGS_IN_HINT = 20
_EMPTY = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": []}
_DAMAGED = "the image layout is damaged; write it again"


@dataclass(frozen=True, slots=True)
class Listing:
    """The entries of an `index.json`.

    Attributes:
        where: the file, as errors name it.
        document: the whole file, so that it is written again with keys that are not known here.
    """

    where: str
    document: dict[str, Any]

    @classmethod
    def parse(cls, raw: bytes, where: str) -> Listing:
        """Read an `index.json`.

        Raises:
            ContentError: it is malformed.
        """
        document = parse_object(raw, where, _DAMAGED)
        try:
            if b"\\u" in raw:
                encode(document)
        except UnicodeEncodeError as error:  # half a surrogate pair could not be written again
            raise ContentError(f"{where} is not JSON", hint=_DAMAGED) from error
        if not isinstance(document.get("manifests"), list):
            raise ContentError(
                f"{where} has no list of manifests", hint="it is not the index of an image layout"
            )
        return cls(where, document)

    @property
    def manifests(self) -> list[Any]:
        """Its entries, unchecked: a malformed one is an error only if it is requested."""
        entries: list[Any] = self.document["manifests"]
        return entries

    def tagged(self, tag: str) -> list[Descriptor]:
        """Return the manifests that are listed under a tag; more than one is not an error here."""
        found = enumerate(self.manifests)
        return [self._entry(position, value) for position, value in found if ref_name(value) == tag]

    def by_digest(self, digest: Digest) -> Descriptor | None:
        """Return the manifest of this digest if it is listed."""
        for position, value in enumerate(self.manifests):
            if digest_of(value) == digest:
                return self._entry(position, value)
        return None

    def everything(self) -> list[Descriptor]:
        """Return each manifest that is listed, once."""
        listed = [self._entry(position, value) for position, value in enumerate(self.manifests)]
        return list({each.digest: each for each in listed}.values())

    def tags(self) -> tuple[str, ...]:
        """Return all tags, sorted."""
        names = (ref_name(value) for value in self.manifests)
        return tuple(sorted({name for name in names if name is not None}))

    def _entry(self, position: int, value: object) -> Descriptor:
        return Descriptor.from_json(value, where=f"{self.where}, manifests[{position}]")


class Listed(ABC):
    """A place that holds an image layout: what its `index.json` says of references.

    Attributes:
        path: the place, as errors name it.
    """

    path: Path

    async def resolve(self, reference: str) -> Descriptor | None:
        """Return the descriptor of a manifest by tag or digest, None if it is absent.

        An empty reference means the only image.

        Raises:
            ContentError: the layout is malformed, or lists several manifests under that tag.
            LocalFileError: there is no layout, or it cannot be read.
        """
        return (await asyncio.to_thread(self._lookup, reference))[1]

    async def find(self, reference: str = "") -> Descriptor:
        """Return the manifest that a user names by tag or digest, or the only one if they name none.

        Raises:
            ContentError: as for `resolve`.
            LocalFileError: there is no layout, no such manifest, or several to choose from; the hint lists
                the tags.
        """
        tags, found = await asyncio.to_thread(self._lookup, reference)
        if found is None:
            missing = f"no image {reference!r}" if reference else "not exactly one image"
            raise LocalFileError(f"{self.path} holds {missing}", hint=_tags_hint(tags))
        return found

    async def tags(self) -> tuple[str, ...]:
        """Return the tags of the layout, sorted."""
        return (await asyncio.to_thread(self._listing)).tags()

    async def documents(self) -> tuple[Descriptor, ...]:
        """Return each manifest and index that is listed; of docker's archive, the manifest of each image.

        Raises:
            ContentError, LocalFileError: as for `resolve`.
        """
        return tuple(await asyncio.to_thread(self._documents))

    @abstractmethod
    def _listing(self) -> Listing:
        """Return what is listed."""

    @abstractmethod
    def _manifest(self, digest: Digest) -> bytes | None:
        """Return the bytes of a manifest, listed or not; None if it is absent."""

    def _documents(self) -> list[Descriptor]:
        return self._listing().everything()

    def _lookup(self, reference: str) -> tuple[Sequence[str], Descriptor | None]:
        listing = self._listing()
        candidates = self._candidates(listing, reference)
        found = list({each.digest: named(each) for each in candidates}.values())
        if len(found) > 1 and reference:
            raise ContentError(
                f"{self.path} lists {len(found)} manifests as {reference!r}", hint="name one by its digest"
            )
        return listing.tags(), found[0] if len(found) == 1 else None

    def _candidates(self, listing: Listing, reference: str) -> list[Descriptor]:
        if not reference:
            # An untagged entry next to tagged ones refers to one of them, or was replaced.
            tagged = [each for tag in listing.tags() for each in listing.tagged(tag)]
            return tagged or listing.everything()
        try:
            digest = Digest(reference)
        except InvalidReferenceError:
            return listing.tagged(reference)
        found = listing.by_digest(digest) or self._unlisted(digest)
        return [found] if found else []

    def _unlisted(self, digest: Digest) -> Descriptor | None:
        # A manifest that an index names is a blob like others: it must say itself what it is.
        try:
            raw = self._manifest(digest)
            return Descriptor(media_type=media_type_of(raw), digest=digest, size=len(raw)) if raw else None
        except (ContentError, FileNotFoundError):
            return None


def _tags_hint(known: Sequence[str]) -> str:
    if not known:
        return "it has no tags"
    more = f" and {len(known) - _TAGS_IN_HINT} more" if len(known) > _TAGS_IN_HINT else ""
    return f"its tags are {', '.join(known[:_TAGS_IN_HINT])}{more}"


def ref_name(value: object) -> str | None:
    """Return the tag of an entry of `index.json`."""
    annotations = value.get("annotations") if isinstance(value, dict) else None
    name = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
    return name if isinstance(name, str) else None


def digest_of(value: object) -> Digest | None:
    """Return the digest of an entry of `index.json`, None if it is missing or malformed."""
    try:
        return Digest(str(value.get("digest"))) if isinstance(value, dict) else None
    except InvalidReferenceError:
        return None


def check_version(raw: bytes, where: str) -> None:
    """Check what an `oci-layout` file says.

    Raises:
        ContentError: it is malformed, or of a version that is not read.
    """
    version = parse_object(raw, where, _DAMAGED).get("imageLayoutVersion")
    if not isinstance(version, str) or version.partition(".")[0] != "1":
        raise ContentError(
            f"{where} says version {version!r:.40}", hint="image layouts of version 1.0.0 are read"
        )


MARKER = "oci-layout"
INDEX = "index.json"
BLOBS = "blobs"
MAX_MARKER_SIZE = 64 * 1024
MARKER_BYTES = encode({"imageLayoutVersion": "1.0.0"})


def check_marker(root: Path) -> bool:
    """Return whether `root` is an image layout, by its marker.

    Raises:
        ContentError: the marker is malformed, or of a version that is not read.
        LocalFileError: it cannot be read.
    """
    try:
        raw = read_bounded(root / MARKER, MAX_MARKER_SIZE)
    except FileNotFoundError:
        return False
    check_version(raw, str(root / MARKER))
    return True


def create(root: Path) -> None:
    """Make `root` an empty image layout unless it is one already.

    The marker comes first and `index.json` second, so that two processes that do this at once agree.

    Raises:
        ContentError: it is a layout that cannot be read.
        LocalFileError: it holds something else, or cannot be written.
    """
    with file_errors(root, "create the image layout"):
        root.mkdir(parents=True, exist_ok=True)
        if not check_marker(root):
            _refuse_other_content(root)
            _create_once(root / MARKER, MARKER_BYTES)
        _create_once(root / INDEX, encode(_EMPTY))


def _refuse_other_content(root: Path) -> None:
    known = {MARKER, INDEX, BLOBS}
    names = (path.name for path in root.iterdir())
    other = sorted(name for name in names if name not in known and not name.startswith((ASIDE, PARTIAL)))
    if other:
        raise LocalFileError(
            f"{root} is not an image layout: it holds {other[0]!r} and no {MARKER} file",
            hint="choose a new or empty directory",
        )


def _create_once(path: Path, raw: bytes) -> None:
    if path.exists():
        return
    file = AsideFile(path.parent)
    try:
        file.write(raw)
        # A link, unlike a rename, fails if another process was faster.
        with suppress(FileExistsError):
            file.link(path)
    finally:
        file.discard()


def read_index(root: Path) -> Listing:
    """Return what `index.json` lists.

    Raises:
        ContentError: it is malformed, or larger than `MAX_INDEX_SIZE`.
        LocalFileError: it is missing or cannot be read.
    """
    path = root / INDEX
    try:
        return Listing.parse(read_bounded(path, MAX_INDEX_SIZE), str(path))
    except FileNotFoundError as error:
        raise LocalFileError(
            f"{root} is not a whole image layout: it has no {INDEX}", hint="write it again"
        ) from error


def set_tag(root: Path, descriptor: Descriptor, tag: str) -> None:
    """List a manifest under a tag, under which no other is listed any more.

    Everything else in `index.json` stays as it is. The manifest's own digest as a tag lists it without
    one. Locked against other processes.

    Raises:
        ContentError: `index.json` is malformed.
        LocalFileError: it cannot be locked or written.
    """
    # The marker is locked because it alone stays the same file for as long as the layout lives.
    with file_errors(root / INDEX, "write"), locked(root / MARKER):
        index = read_index(root)
        changed = _with_tag(index.manifests, descriptor, tag)
        if changed != index.manifests:
            replace_manifests(root, index, changed)


def remove(root: Path, digest: Digest, reference: str) -> None:
    """List a manifest no more under a tag; under none at all where `reference` is its digest.

    Everything else in `index.json` stays as it is. Locked against other processes.

    Raises:
        ContentError: `index.json` is malformed.
        LocalFileError: it cannot be locked or written.
    """
    with file_errors(root / INDEX, "write"), locked(root / MARKER):
        index = read_index(root)
        kept = [
            value
            for value in index.manifests
            if digest_of(value) != digest or reference not in (digest, ref_name(value))
        ]
        replace_manifests(root, index, kept)


def replace_manifests(root: Path, index: Listing, manifests: list[Any]) -> None:
    """Write `index.json` again with another list of manifests. The caller has the marker locked."""
    write_whole(root / INDEX, encode({**index.document, "manifests": manifests}), durable=True)


def _with_tag(manifests: list[Any], descriptor: Descriptor, tag: str) -> list[Any]:
    same = [value for value in manifests if digest_of(value) == descriptor.digest]
    if tag == descriptor.digest:
        return manifests if same else [*manifests, named(descriptor).to_json()]
    tagged = [value for value in manifests if ref_name(value) == tag]
    if len(tagged) == 1 and digest_of(tagged[0]) == descriptor.digest:
        return manifests
    untagged = [value for value in same if ref_name(value) is None]
    kept = [value for value in manifests if ref_name(value) != tag and value not in untagged]
    return [*kept, replace(named(descriptor), annotations={REF_NAME: tag}).to_json()]
