"""The two small files of an OCI image layout: `oci-layout` and `index.json` (image-spec, image-layout.md).

Owns what they say and how it changes. Must not know blobs or asyncio: every function blocks, and runs in
a worker thread of `content.layout`.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from regsim.core import media_types
from regsim.core.manifest import encode
from regsim.errors import LocalFileError
from regsim.store.files import ASIDE, AsideFile, file_errors, locked, read_bounded, write_whole
from regsim.store.listing import MAX_INDEX_SIZE, REF_NAME, Listing, check_version, digest_of, ref_name
from regsim.store.memory import named
from regsim.store.partial import PARTIAL

if TYPE_CHECKING:
    from pathlib import Path

    from regsim.core import Descriptor, Digest

MARKER = "oci-layout"
INDEX = "index.json"
BLOBS = "blobs"
MAX_MARKER_SIZE = 64 * 1024
MARKER_BYTES = encode({"imageLayoutVersion": "1.0.0"})


def check_marker(root: Path) -> bool:
    """Tell whether `root` is an image layout; False where it has no marker.

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
        _create_once(root / INDEX, encode(_empty_index()))


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
        # A link, unlike a rename, fails where somebody else was faster.
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
            f"{root} is not a whole image layout: it has no {INDEX}", hint="write it anew"
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
    """Write `index.json` anew with another list of manifests. The caller has the marker locked."""
    write_whole(root / INDEX, encode({**index.document, "manifests": manifests}), durable=True)


def _with_tag(manifests: list[Any], descriptor: Descriptor, tag: str) -> list[Any]:
    same = [value for value in manifests if digest_of(value) == descriptor.digest]
    if tag == descriptor.digest:
        return manifests if same else [*manifests, named(descriptor).to_json()]
    if [ref_name(value) for value in same].count(tag) == 1 == _count(manifests, tag):
        return manifests
    untagged = [value for value in same if ref_name(value) is None]
    kept = [value for value in manifests if ref_name(value) != tag and value not in untagged]
    return [*kept, replace(named(descriptor), annotations={REF_NAME: tag}).to_json()]


def _count(manifests: list[Any], tag: str) -> int:
    return [ref_name(value) for value in manifests].count(tag)


def _empty_index() -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": []}
