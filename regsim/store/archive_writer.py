"""Images written into an archive: `oci-archive`, and docker's form of it.

Owns how the archive is made. Blobs come in any order and several at once, and a tar can only be written one
after the other. So they are gathered in an image layout beside the archive, each hashed on its way, and the
archive is made of that when all of them are there. It appears whole, in place of what stood there, or not at
all. The same image makes the same archive, to the byte: members are sorted, and have no times and owners.

Docker's form is what `docker save` writes today: the same layout, and a `manifest.json` beside it that names
the config and the layers as they are. So digests stay, nothing is unpacked, and how a layer is compressed
does not matter. Docker, podman and skopeo unpack such layers themselves.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regsim.core import Descriptor, Role, media_types
from regsim.core.manifest import MAX_MANIFEST_SIZE, encode, parse, role_of
from regsim.errors import ContentError, LocalFileError
from regsim.store import layout_index
from regsim.store.archive import place
from regsim.store.docker_archive import IMAGE_NAME, MANIFEST
from regsim.store.entry import Entry, Kind
from regsim.store.files import AsideFile, aside_path, file_errors, open_regular, read_bounded, sweep, try_lock
from regsim.store.layout import LayoutStore
from regsim.store.layout_index import digest_of, ref_name
from regsim.store.protocols import CHUNK
from regsim.store.relay import in_thread
from regsim.store.tar_write import BLOCK, END, padding, tar_header

if TYPE_CHECKING:
    from regsim.core import Reference
    from regsim.store.protocols import Content

# Tars end on a multiple of twenty blocks, as every tar program has it.
_RECORD = 20 * BLOCK


class ArchiveWriter(LayoutStore):
    """A `Store` that becomes an archive by `commit`, and nothing without it.

    Its own directory is made beside the archive by the first write, and is locked until it is closed; the
    next writer deletes that of a dead one.

    Args:
        archive: the file to write; an existing one stays until then, and its content does not count.
    """

    def __init__(self, archive: Path | str) -> None:
        self.archive = Path(archive)
        super().__init__(aside_path(self.archive.parent), create=True)
        self._lock = -1

    def close(self) -> None:
        """Delete what was gathered. Any number of calls are harmless."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1

    async def commit(self) -> None:
        """Write the archive, of what was put and tagged.

        Raises:
            ContentError: what was put does not make such an archive.
            LocalFileError: it cannot be written.
        """
        await self._prepare()
        stop = threading.Event()
        await in_thread(partial(self._write, self.path, stop), stop=stop.set)

    def _make_ready(self) -> None:
        with file_errors(self.archive, "write"):
            sweep(self.archive.parent)
            while self._lock < 0:
                self.path.mkdir()
                lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                # The sweeper may have been there between making and locking: then take another name.
                if try_lock(lock) and os.fstat(lock).st_nlink:
                    self._lock = lock
                else:
                    os.close(lock)
                    self.path = aside_path(self.archive.parent)
        super()._make_ready()

    def _write(self, root: Path, stop: threading.Event) -> None:
        with file_errors(self.archive, "write"):
            if self.archive.exists() and not self.archive.is_file():
                raise LocalFileError(f"cannot write {self.archive}: it is not a regular file")
            file = AsideFile(self.archive.parent)
            try:
                _write_tar(file, root, self._small_files(root), stop)
                file.commit(self.archive, durable=True)
            finally:
                file.discard()

    def _small_files(self, root: Path) -> dict[str, bytes]:
        """Return the small files of the archive, in their order."""
        return {
            layout_index.MARKER: layout_index.MARKER_BYTES,
            layout_index.INDEX: encode(layout_index.read_index(root).document),
        }


class DockerArchiveWriter(ArchiveWriter):
    """An `ArchiveWriter` of docker's form, for one image.

    Args:
        archive: the file to write; an existing one stays until it is committed.
        name: the image's name after `docker load`; None for no name.
    """

    def __init__(self, archive: Path | str, name: Reference | None = None) -> None:
        super().__init__(archive)
        self._name = name

    async def put(self, content: Content) -> int:
        """Gather verified content.

        Raises:
            ContentError: it is an index, or not what its descriptor says; nothing was stored.
            LocalFileError: it could not be written; nothing was stored.
        """
        if role_of(content.descriptor.media_type) is Role.INDEX:
            raise ContentError(
                f"{self.archive} can hold one image, and {content.descriptor.digest.short} is an index",
                hint="choose one by --platform, or write an oci-archive:, which holds them all",
            )
        return await super().put(content)

    def _small_files(self, root: Path) -> dict[str, bytes]:
        index = layout_index.read_index(root)
        entry = next((value for value in index.manifests if ref_name(value)), None)
        entry = entry or (index.manifests[0] if len(index.manifests) == 1 else None)
        digest = digest_of(entry)
        if entry is None or digest is None:
            raise ContentError(f"{self.archive} was not given an image")
        names: list[str] = []
        if self._name is not None:
            names = [self._name.familiar]
            annotations = {**entry.get("annotations", {}), IMAGE_NAME: str(self._name)}
            entry["annotations"] = annotations
        saved = _saved(root, Descriptor.from_json(entry, where=str(self.archive)), names)
        return {
            layout_index.MARKER: layout_index.MARKER_BYTES,
            layout_index.INDEX: encode(index.document),
            MANIFEST: json.dumps([saved], separators=(",", ":")).encode(),
        }


def _saved(root: Path, manifest: Descriptor, names: list[str]) -> dict[str, Any]:
    """Return the entry of `manifest.json` for an image that was put."""
    raw = read_bounded(root / place(manifest.digest), MAX_MANIFEST_SIZE)
    document = parse(manifest, raw)
    if document.config is None or document.config.media_type not in media_types.CONFIGS:
        raise ContentError(
            f"{manifest.digest.short} is not an image: docker can only load images",
            hint="write an oci-archive: instead",
        )
    foreign = [
        layer
        for layer in document.layers
        if media_types.is_foreign(layer.media_type) and not (root / place(layer.digest)).is_file()
    ]
    if foreign:
        raise ContentError(
            f"layer {foreign[0].digest.short} may not be distributed; docker cannot load an image without it",
            hint="write an oci-archive: instead",
        )
    layers = [place(layer.digest) for layer in document.layers]
    return {"Config": place(document.config.digest), "RepoTags": names or None, "Layers": layers}


def _write_tar(file: AsideFile, root: Path, documents: dict[str, bytes], stop: threading.Event) -> None:
    """Write the small files and then all blobs, by name; each blob leaves the layout when it is written."""
    written = 0
    for name, raw in documents.items():
        written += file.write(_header(root / name, root, len(raw)) + raw + padding(len(raw)))
    blobs = root / layout_index.BLOBS
    for folder in (blobs, *sorted(path for path in blobs.iterdir() if path.is_dir())):
        written += file.write(_header(folder, root))
        for path in sorted(path for path in folder.iterdir() if path.is_file()):
            written += _write_blob(file, path, root, stop)
            path.unlink()  # so that the disk holds hardly more than one of the two
    file.write(END + bytes(-(written + len(END)) % _RECORD))


def _write_blob(file: AsideFile, path: Path, root: Path, stop: threading.Event) -> int:
    with open_regular(path) as blob:
        size = os.fstat(blob.fileno()).st_size
        written = file.write(_header(path, root, size))
        while chunk := blob.read(CHUNK):
            if stop.is_set():
                raise LocalFileError("interrupted")
            written += file.write(chunk)
    return written + file.write(padding(size))


def _header(path: Path, root: Path, size: int | None = None) -> bytes:
    kind, mode = (Kind.DIRECTORY, 0o755) if size is None else (Kind.FILE, 0o644)
    return tar_header(Entry(path=os.fsencode(path.relative_to(root)), kind=kind, mode=mode, size=size or 0))
