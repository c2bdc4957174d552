"""What a synthetic layer is made from.

Owns the recipe, its rules and its identity. Must not know how bytes are made. The bytes of a layer are a
function of its recipe alone, so two layers are shared exactly if their recipes are equal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from regsim.core import media_types
from regsim.errors import UsageError
from regsim.store.tar_write import MAX_NAME, MAX_PREFIX, split_path

if TYPE_CHECKING:
    from regsim.core import Digest

# Part of every identity. It changes whenever any recipe would give other bytes than before.
GENERATOR = "regsim-layer/1"

# Runs shrink 158 times at most (13 bits for 258 bytes, RFC 1951 section 3.2.6), with their framing less.
MAX_RATIO = 150.0
MAX_FILES = 100_000
MAX_SIZE = 2**40
# What eleven octal digits hold in a tar header; Go, Python and tar extend them differently.
MAX_FILE_SIZE = 8 * 2**30 - 1

_PLAIN = frozenset({media_types.OCI_LAYER})
_GZIP = frozenset({media_types.OCI_LAYER_GZIP, media_types.DOCKER_LAYER_GZIP})


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRecipe:
    """A layer to be generated.

    Args:
        key: distinguishes this layer from others of the same shape; see `layer_key`.
        size: bytes of the blob, met exactly.
        media_type: a gzip or a plain tar layer.
        ratio: uncompressed bytes for each compressed byte, 1 to 150. Met to the byte, except where it asks
            for less than the smallest tar of files. 1 is content that does not compress, as without it.
        uncompressed_size: bytes of the tar, met exactly, in place of `ratio`.
        files: how many files, or their paths and sizes in bytes; without it as few as make sense.
        recorded: the digest of the real layer that this one stands for.

    Raises:
        UsageError: a value is out of its range, or two contradict each other. Whether the size suffices
            shows when the layer is planned (`layer_plan.plan`).
    """

    key: str
    size: int
    media_type: str = media_types.OCI_LAYER_GZIP
    ratio: float | None = None
    uncompressed_size: int | None = None
    files: int | Mapping[str, int] | None = None
    recorded: Digest | None = None

    def __post_init__(self) -> None:
        _check_sizes(self)
        _check_media_type(self)
        if isinstance(self.files, Mapping):
            _check_paths(self.files)
        elif self.files is not None and not 0 <= self.files <= MAX_FILES:
            raise UsageError(f"{self.files} files in a layer", hint=f"0 to {MAX_FILES} can be made")

    @property
    def compressed(self) -> bool:
        """Whether the blob is a gzip of its tar."""
        return self.media_type in _GZIP

    @property
    def identity(self) -> str:
        """The hash, 64 hexadecimal digits, of all that the bytes depend on."""
        files = list(self.files.items()) if isinstance(self.files, Mapping) else self.files
        ratio = None if self.ratio is None else float(self.ratio)
        parts = [GENERATOR, self.key, self.size, self.media_type, ratio, self.uncompressed_size, files]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def of_size(self, size: int) -> LayerRecipe:
        """Return the same recipe for another size in bytes."""
        return replace(self, size=size)


def layer_key(seed: int, image: str, index: int) -> str:
    """Return the key of a scenario's layer, so that only what is the same layer is shared.

    Args:
        seed: the scenario's.
        image: the image's key in the scenario.
        index: the layer's place in that image, base first.
    """
    return json.dumps([seed, image, index])


def recorded_recipe(
    digest: Digest,
    size: int,
    *,
    media_type: str,
    uncompressed_size: int | None = None,
    content_size: int | None = None,
) -> LayerRecipe:
    """Return the recipe that stands for a real layer: a function of its record alone.

    Of `content_size`, the bytes of all its files, only 0 counts: then there are no files.
    """
    return LayerRecipe(
        key=f"recorded {digest}",
        size=size,
        media_type=media_type,
        uncompressed_size=uncompressed_size,
        files=0 if content_size == 0 else None,
        recorded=digest,
    )


def _check_sizes(recipe: LayerRecipe) -> None:
    for name, value in (("size", recipe.size), ("uncompressed size", recipe.uncompressed_size)):
        if value is not None and not 0 <= value <= MAX_SIZE:
            raise UsageError(f"a layer's {name} of {value} bytes", hint="0 to 1 TiB can be made")
    if recipe.ratio is None:
        return
    if not 1 <= recipe.ratio <= MAX_RATIO:
        raise UsageError(
            f"a layer's ratio of {recipe.ratio}",
            hint=f"ratio is uncompressed divided by compressed size, 1 to {MAX_RATIO:.0f}",
        )
    if recipe.uncompressed_size is not None:
        raise UsageError("a layer has a ratio and an uncompressed size", hint="give one of them")


def _check_media_type(recipe: LayerRecipe) -> None:
    if recipe.media_type not in _PLAIN | _GZIP:
        raise UsageError(
            f"layers of type {recipe.media_type!r:.120} cannot be made up",
            hint=f"{media_types.OCI_LAYER_GZIP} and {media_types.OCI_LAYER} can",
        )
    if recipe.media_type in _PLAIN and (
        recipe.ratio not in (None, 1) or recipe.uncompressed_size is not None
    ):
        raise UsageError(
            "a plain tar is as large as its content", hint="leave ratio and uncompressed size out"
        )


def _check_paths(files: Mapping[str, int]) -> None:
    if len(files) > MAX_FILES:
        raise UsageError(f"{len(files)} files in a layer", hint=f"at most {MAX_FILES} can be made")
    directories: set[str] = set()
    for path, size in files.items():
        check_path(path)
        if not 0 <= size <= MAX_FILE_SIZE:
            raise UsageError(f"file {path!r} of {size} bytes", hint="0 to 8 GiB less one can be made")
        parts = path.split("/")
        directories.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    both = sorted(directories & files.keys())
    if both:
        raise UsageError(f"{both[0]!r} is a file and a directory of the same layer")


def check_path(path: str) -> bytes:
    """Return a file's path as a tar stores it.

    Raises:
        UsageError: it is absolute, leaves the layer, is not normal, or is too long for a ustar header.
    """
    parts = path.split("/")
    if not path or any(part in ("", ".", "..") for part in parts):
        raise UsageError(f"not a path of a layer: {path!r:.300}", hint="such as app/main, without ./ and ../")
    try:
        raw = path.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"not a path of a layer: {path!r:.300}", hint="paths are UTF-8") from error
    if not path.isprintable():
        raise UsageError(f"not a path of a layer: {path!r:.300}", hint="control characters do not print")
    if not split_path(raw)[1]:
        raise UsageError(
            f"path too long for a tar header: {path!r:.300}",
            hint=f"{MAX_PREFIX + MAX_NAME} bytes, {MAX_NAME} after some slash, is the most",
        )
    return raw
