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

import asyncio
import json
import os
import secrets
import shutil
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from regsim.core import Descriptor, Role, media_types
from regsim.core.manifest import MAX_MANIFEST_SIZE, encode, parse, role_of
from regsim.errors import ContentError, LocalFileError
from regsim.store import layout_index
from regsim.store.archive import place
from regsim.store.docker_archive import IMAGE_NAME, MANIFEST
from regsim.store.entry import Entry, Kind
from regsim.store.files import ASIDE, AsideFile, file_errors, open_regular, read_bounded, try_lock
from regsim.store.layout import LayoutStore
from regsim.store.layout_index import digest_of, ref_name
from regsim.store.protocols import CHUNK
from regsim.store.relay import in_thread
from regsim.store.tar_write import BLOCK, END, padding, tar_header

if TYPE_CHECKING:
    from types import TracebackType

    from regsim.core import Reference
    from regsim.store.protocols import Content

_SUFFIX = ".d"


class AsideDirectory:
    """A directory beside `target` that is locked while its process lives; the next one deletes a dead one's.

    Raises:
        LocalFileError: it cannot be made there.
    """

    def __init__(self, target: Path) -> None:
        with file_errors(target, "write"):
            _sweep(target.parent)
            while True:
                self.path = target.parent / f"{ASIDE}{secrets.token_hex(8)}{_SUFFIX}"
                self.path.mkdir()
                self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                # The sweeper may have been there between making and locking: then take another name.
                if try_lock(self._lock) and os.fstat(self._lock).st_nlink:
                    return
                os.close(self._lock)

    def discard(self) -> None:
        """Delete it and all in it. Any number of calls are harmless."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def _sweep(directory: Path) -> None:
    for path in directory.glob(f"{ASIDE}*{_SUFFIX}"):
        with suppress(OSError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if try_lock(lock):
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)


# Tars end on a multiple of twenty blocks, as every tar program has it.
_RECORD = 20 * BLOCK


class ArchiveWriter:
    """A `Store` that becomes an archive by `commit`, and nothing without it.

    Args:
        path: the archive; an existing file stays until then.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._aside: AsideDirectory | None = None
        self._layout: LayoutStore | None = None
        self._preparing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()  # not in a thread: when cancelled there may be no waiting any more

    def discard(self) -> None:
        """Delete what was gathered. Any number of calls are harmless."""
        if self._aside is not None:
            self._aside.discard()

    async def resolve(self, reference: str) -> Descriptor | None:
        """Return what was put and tagged here; the content of an existing archive does not count."""
        return await self._layout.resolve(reference) if self._layout else None

    async def has(self, descriptor: Descriptor) -> bool:
        """Return whether content was put here."""
        return await self._layout.has(descriptor) if self._layout else False

    def content(self, descriptor: Descriptor) -> Content:
        """Return what was put here; absence shows when it is opened (`LocalFileError`)."""
        return (self._layout or LayoutStore(self.path)).content(descriptor)

    async def put(self, content: Content) -> None:
        """Gather verified content.

        Raises:
            ContentError: the bytes are not what the descriptor says; nothing was stored.
            LocalFileError: they could not be written; nothing was stored.
        """
        await (await self._prepared()).put(content)

    async def tag(self, descriptor: Descriptor, tag: str) -> None:
        """Tag a manifest that was put; its own digest as a tag lists it without one.

        Raises:
            LocalFileError: it was not, or the listing cannot be written.
        """
        await (await self._prepared()).tag(descriptor, tag)

    async def commit(self) -> None:
        """Write the archive, of what was put and tagged.

        Raises:
            ContentError: what was put does not make such an archive.
            LocalFileError: it cannot be written.
        """
        layout = await self._prepared()
        stop = threading.Event()
        await in_thread(partial(self._write, layout.path, stop), stop=stop.set)

    def _write(self, root: Path, stop: threading.Event) -> None:
        with file_errors(self.path, "write"):
            if self.path.exists() and not self.path.is_file():
                raise LocalFileError(f"cannot write {self.path}: it is not a regular file")
            file = AsideFile(self.path.parent)
            try:
                _write_tar(file, root, self._documents(root), stop)
                file.commit(self.path, durable=True)
            finally:
                file.discard()

    def _documents(self, root: Path) -> dict[str, bytes]:
        """Return the small files of the archive, in their order."""
        return {
            layout_index.MARKER: layout_index.MARKER_BYTES,
            layout_index.INDEX: encode(layout_index.read_index(root).document),
        }

    async def _prepared(self) -> LayoutStore:
        async with self._preparing:
            if self._layout is None:
                self._aside = await in_thread(partial(AsideDirectory, self.path), lost=AsideDirectory.discard)
                self._layout = LayoutStore(self._aside.path, create=True)
            return self._layout


class DockerArchiveWriter(ArchiveWriter):
    """An `ArchiveWriter` of docker's form, for one image.

    Args:
        path: the archive; an existing file stays until it is committed.
        name: the image's name after `docker load`; None for no name.
    """

    def __init__(self, path: Path | str, name: Reference | None = None) -> None:
        super().__init__(path)
        self._name = name

    async def put(self, content: Content) -> None:
        """Gather verified content.

        Raises:
            ContentError: it is an index, or not what its descriptor says; nothing was stored.
            LocalFileError: it could not be written; nothing was stored.
        """
        if role_of(content.descriptor.media_type) is Role.INDEX:
            raise ContentError(
                f"{self.path} can hold one image, {content.descriptor.digest.short} is an index of several",
                hint="choose one by --platform, or write an oci-archive:, which holds them all",
            )
        await super().put(content)

    def _documents(self, root: Path) -> dict[str, bytes]:
        index = layout_index.read_index(root)
        entry = next((value for value in index.manifests if ref_name(value)), None)
        entry = entry or (index.manifests[0] if len(index.manifests) == 1 else None)
        digest = digest_of(entry)
        if entry is None or digest is None:
            raise ContentError(f"{self.path} was not given an image")
        names: list[str] = []
        if self._name is not None:
            names = [self._name.familiar]
            annotations = {**entry.get("annotations", {}), IMAGE_NAME: str(self._name)}
            entry["annotations"] = annotations
        saved = _saved(root, Descriptor.from_json(entry, where=str(self.path)), names)
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
