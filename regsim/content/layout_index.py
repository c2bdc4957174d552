"""The two small files of an OCI image layout: `oci-layout` and `index.json` (image-spec, image-layout.md).

Owns what they say and how it changes. Must not know blobs or asyncio: every function blocks, and runs in
a worker thread of `content.layout`.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from regsim.content.files import ASIDE, AsideFile, file_errors, locked, read_bounded, write_whole
from regsim.content.memory import named
from regsim.errors import ContentError, InvalidReferenceError, LocalFileError
from regsim.oci import Descriptor, Digest, media_types
from regsim.oci.manifest import encode

if TYPE_CHECKING:
    from pathlib import Path

MARKER = "oci-layout"
INDEX = "index.json"
BLOBS = "blobs"
REF_NAME = "org.opencontainers.image.ref.name"

# An entry has some 300 bytes, so this is room for a hundred thousand images.
MAX_INDEX_SIZE = 32 * 1024 * 1024
_MAX_MARKER_SIZE = 64 * 1024

_MARKER_BYTES = encode({"imageLayoutVersion": "1.0.0"})
_TAGS_IN_HINT = 20


def check_marker(root: Path) -> bool:
    """Tell whether `root` is an image layout; False where it has no marker.

    Raises:
        ContentError: the marker is malformed, or of a version that is not read.
        LocalFileError: it cannot be read.
    """
    try:
        raw = read_bounded(root / MARKER, _MAX_MARKER_SIZE)
    except FileNotFoundError:
        return False
    version = _object(raw, root / MARKER).get("imageLayoutVersion")
    if not isinstance(version, str) or version.partition(".")[0] != "1":
        raise ContentError(
            f"{root / MARKER} says version {version!r:.40}", hint="image layouts of version 1.0.0 are read"
        )
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
            _create_once(root / MARKER, _MARKER_BYTES)
        _create_once(root / INDEX, encode(_empty_index()))


def _refuse_other_content(root: Path) -> None:
    known = {MARKER, INDEX, BLOBS}
    names = (path.name for path in root.iterdir())
    other = sorted(name for name in names if name not in known and not name.startswith(ASIDE))
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


def read_index(root: Path) -> dict[str, Any]:
    """Return `index.json` as it stands, with a list under `manifests`.

    Raises:
        ContentError: it is malformed, or larger than `MAX_INDEX_SIZE`.
        LocalFileError: it is missing or cannot be read.
    """
    path = root / INDEX
    try:
        index = _object(read_bounded(path, MAX_INDEX_SIZE), path)
    except FileNotFoundError as error:
        raise LocalFileError(
            f"{root} is not a whole image layout: it has no {INDEX}", hint="write it anew"
        ) from error
    if not isinstance(index.get("manifests"), list):
        raise ContentError(f"{path} has no list of manifests", hint="it is no index of an image layout")
    return index


def entries(root: Path, tag: str) -> list[Descriptor]:
    """Return the manifests that `index.json` lists under a tag; more than one is no error here."""
    found = enumerate(read_index(root)["manifests"])
    return [_entry(root, position, value) for position, value in found if ref_name(value) == tag]


def by_digest(root: Path, digest: Digest) -> Descriptor | None:
    """Return the manifest of this digest if `index.json` lists it."""
    for position, value in enumerate(read_index(root)["manifests"]):
        if _digest(value) == digest:
            return _entry(root, position, value)
    return None


def everything(root: Path) -> list[Descriptor]:
    """Return each manifest that `index.json` lists, once."""
    found = enumerate(read_index(root)["manifests"])
    listed = [_entry(root, position, value) for position, value in found]
    return list({each.digest: each for each in listed}.values())


def tags(root: Path) -> tuple[str, ...]:
    """Return the tags of the layout, sorted."""
    names = (ref_name(value) for value in read_index(root)["manifests"])
    return tuple(sorted({name for name in names if name is not None}))


def tags_hint(root: Path) -> str:
    """Return a hint that lists the tags of the layout."""
    known = tags(root)
    if not known:
        return "it has no tags"
    more = f" and {len(known) - _TAGS_IN_HINT} more" if len(known) > _TAGS_IN_HINT else ""
    return f"its tags are {', '.join(known[:_TAGS_IN_HINT])}{more}"


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
        changed = _with_tag(index["manifests"], descriptor, tag)
        if changed != index["manifests"]:
            write_whole(root / INDEX, encode({**index, "manifests": changed}), durable=True)


def _with_tag(manifests: list[Any], descriptor: Descriptor, tag: str) -> list[Any]:
    same = [value for value in manifests if _digest(value) == descriptor.digest]
    if tag == descriptor.digest:
        return manifests if same else [*manifests, named(descriptor).to_json()]
    if [ref_name(value) for value in same].count(tag) == 1 == _count(manifests, tag):
        return manifests
    untagged = [value for value in same if ref_name(value) is None]
    kept = [value for value in manifests if ref_name(value) != tag and value not in untagged]
    return [*kept, replace(named(descriptor), annotations={REF_NAME: tag}).to_json()]


def _count(manifests: list[Any], tag: str) -> int:
    return [ref_name(value) for value in manifests].count(tag)


def ref_name(value: object) -> str | None:
    """Return the tag of an entry of `index.json`."""
    annotations = value.get("annotations") if isinstance(value, dict) else None
    name = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
    return name if isinstance(name, str) else None


def _digest(value: object) -> Digest | None:
    # An entry that cannot be read concerns only those who ask for it.
    try:
        return Digest(str(value.get("digest"))) if isinstance(value, dict) else None
    except InvalidReferenceError:
        return None


def _entry(root: Path, position: int, value: object) -> Descriptor:
    return Descriptor.from_json(value, where=f"{root / INDEX}, manifests[{position}]")


def _empty_index() -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": []}


def _object(raw: bytes, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ContentError(
            f"{path} is not JSON", hint="the image layout is damaged; write it anew"
        ) from error
    if not isinstance(value, dict):
        raise ContentError(f"{path} is not a JSON object", hint="the image layout is damaged")
    return value
