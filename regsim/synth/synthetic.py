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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from regsim.core import Descriptor, Digest
from regsim.errors import RegsimError
from regsim.store.files import read_bounded, sweep, write_whole
from regsim.store.protocols import CHUNK
from regsim.store.tar_write import BLOCK, END
from regsim.synth.gzipframe import MAX_STORED, ZEROS_SLICE, GzipWriter, Hashing, TarWriter
from regsim.synth.layer_plan import LayerPlan, file_header, plan

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from regsim.synth.recipe import LayerRecipe

_POOL = 1024 * 1024
# Noise that is read again comes no sooner than this after it was read before: deflate looks back 32 KiB.
_APART = 128 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerInfo:
    """What an image says about a layer.

    Args:
        descriptor: digest and size in bytes of the blob.
        diff_id: digest of the uncompressed tar (image-spec, config.md#layer-diffid).
        uncompressed_size: bytes of that tar.
    """

    descriptor: Descriptor
    diff_id: Digest
    uncompressed_size: int


class LayerMemory(Protocol):
    """Remembers between runs what making a layer taught."""

    def recall(self, identity: str) -> LayerInfo | None:
        """Return what was remembered of a recipe, if anything."""

    def remember(self, identity: str, info: LayerInfo) -> None:
        """Keep what was learned of a recipe, if possible."""


class SyntheticLayer:
    """A layer's content, made anew each time it is opened.

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

    Layers of equal recipes are made once, also when asked for at the same time.

    Args:
        memory: what is known from earlier runs; None to know nothing.
    """

    def __init__(self, memory: LayerMemory | None = None) -> None:
        self._memory = memory
        self._known: dict[str, LayerInfo] = {}
        self._making: dict[str, asyncio.Lock] = {}

    async def layer(self, recipe: LayerRecipe) -> LayerInfo:
        """Return digest, size, diff ID and uncompressed size of a layer.

        Raises:
            UsageError: the recipe cannot be met.
        """
        identity = recipe.identity
        async with self._making.setdefault(identity, asyncio.Lock()):
            info = self._known.get(identity) or self._recalled(recipe, identity)
            if info is None:
                info = await _learn(plan(recipe))
                if self._memory is not None:
                    self._memory.remember(identity, info)
            self._known[identity] = info
        return info

    def _recalled(self, recipe: LayerRecipe, identity: str) -> LayerInfo | None:
        info = self._memory.recall(identity) if self._memory is not None else None
        if info is None or (info.descriptor.media_type, info.descriptor.size) != (
            recipe.media_type,
            recipe.size,
        ):
            return None
        return info


def stand_in(recipe: LayerRecipe) -> LayerInfo:
    """Return a stand-in for a layer of which no bytes will move: invented digests of the right length.

    Raises:
        UsageError: the recipe cannot be met.
    """
    planned = plan(recipe)
    return LayerInfo(
        descriptor=Descriptor(
            media_type=recipe.media_type,
            digest=Digest.of(f"stand-in blob {planned.identity}".encode()),
            size=recipe.size,
        ),
        diff_id=Digest.of(f"stand-in tar {planned.identity}".encode()),
        uncompressed_size=planned.uncompressed_size,
    )


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
    return LayerInfo(
        descriptor=Descriptor(media_type=planned.recipe.media_type, digest=digest, size=planned.recipe.size),
        diff_id=digest if tar is None else Digest(f"sha256:{tar.hexdigest()}"),
        uncompressed_size=planned.uncompressed_size,
    )


# Some 300 bytes each, so a few megabytes on most disks.
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
    """A `LayerMemory` in a directory, safe under any number of processes.

    Args:
        folder: where; it is made when there is something to keep.
        most: how many layers are kept; the longest unused half goes when there are more.
    """

    def __init__(self, folder: Path, *, most: int = MAX_LAYERS) -> None:
        self._folder = folder
        self._most = most

    def recall(self, identity: str) -> LayerInfo | None:
        """Return what was remembered of a recipe; anything damaged counts as forgotten."""
        path = self._folder / identity
        try:
            document = json.loads(read_bounded(path, _MAX_FILE_SIZE))
            info = _info(document) if document.pop("check") == _check(identity, document) else None
        except (OSError, RegsimError, ValueError, KeyError, TypeError, AttributeError):
            return None
        with suppress(OSError):
            os.utime(path)  # so that what is used stays
        return info

    def remember(self, identity: str, info: LayerInfo) -> None:
        """Keep what was learned of a recipe, if the disk allows."""
        document: dict[str, Any] = {
            "media_type": info.descriptor.media_type,
            "digest": info.descriptor.digest,
            "size": info.descriptor.size,
            "diff_id": info.diff_id,
            "uncompressed_size": info.uncompressed_size,
        }
        document["check"] = _check(identity, document)
        with suppress(OSError, RegsimError):
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(self._folder / identity, json.dumps(document).encode(), durable=False)
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


def _info(document: dict[str, Any]) -> LayerInfo:
    return LayerInfo(
        descriptor=Descriptor(
            media_type=document["media_type"],
            digest=Digest(document["digest"]),
            size=document["size"],
        ),
        diff_id=Digest(document["diff_id"]),
        uncompressed_size=document["uncompressed_size"],
    )


def _check(identity: str, document: dict[str, Any]) -> str:
    # A wrong digest would be found only after pushing it all, so a torn or edited file must not pass.
    return hashlib.sha256(f"{identity} {json.dumps(document, sort_keys=True)}".encode()).hexdigest()
