"""Synthetic layers: valid tars of files that are generated while they are read.

Owns the generation (noise, and the order of pieces), `LayerForge`, which learns the digests of a layer by
generating it once, and the cache of what it learned in earlier runs. Must not know images or registries.

A layer is never whole in memory, and its bytes are the same on every machine and Python. Two layers of
different recipes differ: their gzip headers agree by chance once in 2**32, and from 94 bytes of size on,
where there is room for a file, its name agrees once in 2**40 besides. Below that, and for plain tars of less
than 1,536 bytes, the tar inside is empty and so the same for all.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regsim.core import Digest
from regsim.errors import RegsimError
from regsim.store.files import read_bounded, sweep, write_whole
from regsim.store.protocols import CHUNK
from regsim.store.tar_write import BLOCK, END
from regsim.synth.gzipframe import MAX_STORED, ZEROS_SLICE, GzipWriter, Hashing, TarWriter
from regsim.synth.recipe import file_header, plan

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

    from regsim.core import Descriptor
    from regsim.synth.recipe import LayerInfo, LayerPlan, LayerRecipe

_POOL = 1024 * 1024
# Noise that is read again comes no sooner than this after it was read before: deflate looks back 32 KiB.
_APART = 128 * 1024


class SyntheticLayer:
    """A layer's content, made again each time it is opened.

    Args:
        recipe: what it is made from.
        descriptor: what `LayerForge` learned of it.

    Raises:
        UsageError: the recipe cannot be met.
    """

    def __init__(self, recipe: LayerRecipe, descriptor: Descriptor) -> None:
        self.descriptor = descriptor
        self._plan = plan(recipe)

    async def open(self) -> AsyncGenerator[bytes, None]:
        """Return a fresh stream of the blob, in chunks of about 1 MiB.

        A chunk takes less time to make than to hand to another thread, so it is made in this one.
        """
        for chunk in generate(self._plan):
            yield chunk
            await asyncio.sleep(0)  # nothing here waits, so others would not get their turn


class LayerForge:
    """Learns the digests of layers by making them once, in a worker thread.

    Layers of equal recipes are made once, even if they are requested at the same time.

    Args:
        folder: where digests are remembered between runs (`RememberedLayers`); None to remember nothing.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._memory = RememberedLayers(folder) if folder is not None else None
        self._known: dict[str, LayerInfo] = {}
        self._making: dict[str, asyncio.Lock] = {}

    async def layer(self, planned: LayerPlan) -> LayerInfo:
        """Return digest, size, diff ID and uncompressed size of a layer."""
        identity = planned.identity
        async with self._making.setdefault(identity, asyncio.Lock()):
            info = self._known.get(identity)
            if info is None and self._memory is not None:
                info = self._memory.recall(planned)
            if info is None:
                info = await _learn(planned)
                if self._memory is not None:
                    self._memory.remember(planned, info)
            self._known[identity] = info
        return info

    async def layers(self, plans: Sequence[LayerPlan]) -> list[LayerInfo]:
        """Return what `layer` does for several, which are made at the same time."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.layer(planned)) for planned in plans]
        return [task.result() for task in tasks]

    def content(self, recipe: LayerRecipe, descriptor: Descriptor) -> SyntheticLayer:
        """Return a layer that was learned of as content."""
        return SyntheticLayer(recipe, descriptor)


def generate(planned: LayerPlan, hasher: Hashing | None = None) -> Iterator[bytes]:
    """Make a layer's blob, in chunks of about 1 MiB.

    Args:
        planned: its shape.
        hasher: sees the uncompressed tar.
    """
    writer = _writer(planned, hasher)
    for piece in _pieces(planned):
        match piece:
            case bytes():
                writer.header(piece)
            case memoryview():
                writer.noise(piece)
            case int():
                writer.zeros(piece)
        if writer.ready >= CHUNK:
            yield writer.take()
    writer.finish()
    if writer.ready:
        yield writer.take()


def _writer(planned: LayerPlan, hasher: Hashing | None) -> GzipWriter | TarWriter:
    if not planned.recipe.compressed:
        return TarWriter(hasher=hasher)
    return GzipWriter(
        stamp=hashlib.shake_128(f"{planned.identity} stamp".encode()).digest(4),
        comment=planned.comment,
        empty_blocks=planned.empty_blocks,
        noise=planned.noise,
        hasher=hasher,
    )


def _pieces(planned: LayerPlan) -> Iterator[bytes | memoryview | int]:
    """Walk through a tar: headers, noise of 65,535 bytes at most, and numbers of zeros."""
    noise = _Noise(planned.identity, planned.noise)
    for file in planned.files:
        yield file_header(file.path, file.size)
        for start in range(0, file.noise, MAX_STORED):
            yield noise.take(min(MAX_STORED, file.noise - start))
        yield from _zeros(file.size - file.noise + -file.size % BLOCK)
    yield from _zeros(len(END) + planned.tail)


def _zeros(count: int) -> Iterator[int]:
    whole, rest = divmod(count, ZEROS_SLICE)
    for _ in range(whole):
        yield ZEROS_SLICE
    if rest:
        yield rest


class _Noise:
    """Bytes that do not compress, at the speed of copying.

    One pool of pseudo-random bytes is read to its end, then again from pseudo-random places, far enough
    from what was read last that no compressor with a window of 32 KiB finds a repetition.
    """

    def __init__(self, identity: str, total: int) -> None:
        seed = f"{identity} noise".encode()
        pool = hashlib.shake_128(seed).digest(min(total, _POOL))
        self._pool = memoryview(pool + pool[:MAX_STORED])
        self._offset = 0
        self._state = int.from_bytes(hashlib.sha256(seed).digest()[:8], "big")

    def take(self, count: int) -> memoryview:
        """Return the next `count` bytes, 65,535 at most."""
        if self._offset >= _POOL:
            # Knuth's MMIX generator; only its upper bits are good.
            self._state = (self._state * 6364136223846793005 + 1442695040888963407) % 2**64
            self._offset = _APART + (self._state >> 32) % (_POOL - 2 * _APART)
        start = self._offset
        self._offset += count
        return self._pool[start : start + count]


async def _learn(planned: LayerPlan) -> LayerInfo:
    cancelled = threading.Event()
    try:
        return await asyncio.to_thread(_make, planned, cancelled)
    finally:
        cancelled.set()  # a thread cannot be cancelled, only asked


def _make(planned: LayerPlan, cancelled: threading.Event) -> LayerInfo:
    tar = hashlib.sha256() if planned.recipe.compressed else None
    blob = hashlib.sha256()
    for chunk in generate(planned, tar):
        blob.update(chunk)
        if cancelled.is_set():
            break
    digest = Digest(f"sha256:{blob.hexdigest()}")
    return planned.info(digest, digest if tar is None else Digest(f"sha256:{tar.hexdigest()}"))


# About 300 bytes each.
MAX_LAYERS = 4096
_MAX_FILE_SIZE = 4096
_FOLDER = "layers"


def default_folder() -> Path | None:
    """Return `$XDG_CACHE_HOME/regsim/layers`, in `~/.cache` by default; None without a home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # XDG Base Directory Specification: a path that is not absolute is invalid and ignored.
    if base.startswith("/"):
        return Path(base) / "regsim" / _FOLDER
    try:
        return Path.home() / ".cache" / "regsim" / _FOLDER
    except RuntimeError:
        return None


class RememberedLayers:
    """Remembers in a directory what making a layer taught. Any number of processes may share it.

    Args:
        folder: where; it is created when there is something to keep.
        most: how many layers are kept; beyond that the half that was unused the longest is removed.
    """

    def __init__(self, folder: Path, *, most: int = MAX_LAYERS) -> None:
        self._folder = folder
        self._most = most

    def recall(self, planned: LayerPlan) -> LayerInfo | None:
        """Return what was remembered of a layer; a damaged file counts as forgotten."""
        path = self._folder / planned.identity
        try:
            document = json.loads(read_bounded(path, _MAX_FILE_SIZE))
            if document.pop("check") != _check(planned, document):
                return None
            info = planned.info(Digest(document["digest"]), Digest(document["diff_id"]))
        except (OSError, RegsimError, ValueError, KeyError, TypeError, AttributeError):
            return None
        with suppress(OSError):
            os.utime(path)  # the files used last are kept
        return info

    def remember(self, planned: LayerPlan, info: LayerInfo) -> None:
        """Keep a layer's digests, if the disk allows."""
        document: dict[str, Any] = {"digest": info.descriptor.digest, "diff_id": info.diff_id}
        document["check"] = _check(planned, document)
        with suppress(OSError, RegsimError):
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(self._folder / planned.identity, json.dumps(document).encode(), durable=False)
            self._forget_some()

    def _forget_some(self) -> None:
        names = os.listdir(self._folder)  # noqa: PTH208  (names alone: no object for each of thousands)
        if len(names) <= self._most:
            return
        sweep(self._folder)
        files = [
            path for path in self._folder.iterdir() if len(path.name) == hashlib.sha256().digest_size * 2
        ]
        files.sort(key=_last_used)
        for path in files[: len(files) - self._most // 2]:
            path.unlink(missing_ok=True)


def _last_used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _check(planned: LayerPlan, document: dict[str, Any]) -> str:
    # A wrong digest shows only when the whole layer has been pushed, so a torn or edited file must not pass.
    return hashlib.sha256(f"{planned.identity} {json.dumps(document, sort_keys=True)}".encode()).hexdigest()
