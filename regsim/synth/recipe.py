"""What a synthetic layer is made from, and the exact shape that follows from it.

Owns the recipe, its rules, its identity, and the arithmetic that meets a size to the byte before any byte is
made. Must not know how bytes are written (`synth.gzipframe`). The bytes of a layer are a function of its
recipe alone, so two layers are shared exactly if their recipes are equal.

A file is noise, which does not compress, then zeros, which compress to almost nothing. The number of bytes
of noise is the one unknown: the largest that still fits. The rest, usually a few bytes, goes into the comment
of the gzip header, and if no noise can take it up, into empty blocks.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from regsim.core import Descriptor, Digest, media_types
from regsim.errors import UsageError
from regsim.store.tar_write import BLOCK, END, MAX_NAME, MAX_PREFIX, split_path, ustar
from regsim.synth.gzipframe import EMPTY_STORED, MAX_COMMENT, gzip_size, header_code

if TYPE_CHECKING:
    from collections.abc import Sequence

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

# A layer without a given number of files is split into files of this size, far below tar readers' limits.
_LARGE = 2**30
_NAME_LETTERS = 8
# A byte of noise costs little more than a byte, so each try comes a hundred times closer.
_TRIES = 12
_GOOD_SLACK = 16
# 2024-06-29; its octal digits are mostly zeros, and compress well.
_MODIFIED = 0o14700000000


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
            shows when the layer is planned (`plan`).
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


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """One file: the first `noise` of its `size` bytes are noise, the others zeros."""

    path: bytes
    header_bits: int
    size: int
    noise: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPlan:
    """The shape of a layer.

    Args:
        recipe: what it was planned from.
        identity: the recipe's.
        files: in the order of the tar.
        tail: zeros after the end of the tar, in bytes.
        slack: bytes to be filled in the gzip framing.
    """

    recipe: LayerRecipe
    identity: str
    files: tuple[PlannedFile, ...]
    tail: int
    slack: int

    @property
    def noise(self) -> int:
        """Bytes of noise in all files."""
        return sum(file.noise for file in self.files)

    @property
    def uncompressed_size(self) -> int:
        """Bytes of the tar."""
        return _tar_size([file.size for file in self.files]) + self.tail

    @property
    def empty_blocks(self) -> int:
        """How many deflate blocks without content fill what the comment cannot."""
        beyond = self.slack - MAX_COMMENT
        return max(0, -(-beyond // len(EMPTY_STORED)))

    @property
    def comment(self) -> bytes | None:
        """The text of the gzip header, which with its NUL fills the rest."""
        length = self.slack - self.empty_blocks * len(EMPTY_STORED)
        return _letters(self.identity, "comment", length - 1) if length else None

    def info(self, digest: Digest, diff_id: Digest) -> LayerInfo:
        """Return what an image says about the layer under these digests."""
        descriptor = Descriptor(media_type=self.recipe.media_type, digest=digest, size=self.recipe.size)
        return LayerInfo(descriptor=descriptor, diff_id=diff_id, uncompressed_size=self.uncompressed_size)


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


def plan(recipe: LayerRecipe) -> LayerPlan:
    """Return the shape that meets the recipe to the byte.

    Raises:
        UsageError: the recipe's size is too small for a valid layer of its content, and the smallest one
            is named; or its uncompressed size is too small for its files.
    """
    shape = _shape(recipe)
    if shape.cost(0) > recipe.size:
        raise UsageError(
            f"a layer of {recipe.size} bytes is too small for its content",
            hint=f"with this content it has at least {minimum_size(recipe, recipe.size)} bytes",
        )
    noise = shape.most_noise()
    return LayerPlan(
        recipe=recipe,
        identity=shape.identity,
        files=shape.files(noise),
        tail=shape.tail,
        slack=recipe.size - shape.cost(noise),
    )


def file_header(path: bytes, size: int) -> bytes:
    """Return the tar header of a file that root owns, mode 0644."""
    prefix, name = split_path(path)
    return ustar(b"0", name=name, prefix=prefix, numbers=(0, 0, size, _MODIFIED))


def minimum_size(recipe: LayerRecipe, size: int = 0) -> int:
    """Return the smallest size in bytes, from `size` on, of a layer that is otherwise like `recipe`.

    Raises:
        UsageError: the uncompressed size is too small for the files.
    """
    # What a ratio asks for grows with the size, so this climbs to the next size that suffices.
    while (cost := _shape(recipe.of_size(size)).cost(0)) > size:
        size = cost
    return size


def _shape(recipe: LayerRecipe) -> _Shape:
    wanted: int | None
    if not recipe.compressed:
        wanted = recipe.size
    elif recipe.ratio is None:
        wanted = recipe.uncompressed_size
    else:
        wanted = round(recipe.ratio * recipe.size) if recipe.ratio > 1 else None
    if recipe.files is not None:
        shape = _Shape(recipe, wanted, count=recipe.files if isinstance(recipe.files, int) else 0)
    else:
        shape = _Shape(recipe, wanted, count=max(1, -(-(wanted or recipe.size) // _LARGE)))
        if shape.lacking or shape.cost(0) > recipe.size:
            shape = _Shape(recipe, wanted, count=0)  # no room for a file, and the recipe wants none
    if shape.lacking and recipe.uncompressed_size is not None:
        raise UsageError(
            f"an uncompressed size of {recipe.uncompressed_size} bytes is too small for its files",
            hint=f"the tar has at least {recipe.uncompressed_size + shape.lacking} bytes",
        )
    return shape


class _Shape:
    """All of a plan but the noise: paths, and sizes unless these follow from the noise."""

    def __init__(self, recipe: LayerRecipe, wanted: int | None, *, count: int) -> None:
        self.recipe = recipe
        self.identity = recipe.identity
        self.sizes: list[int] | None = None
        if isinstance(recipe.files, Mapping):
            self.paths = [check_path(path) for path in recipe.files]
            self.weights = self.sizes = list(recipe.files.values())
        else:
            self.paths = _paths(self.identity, count)
            self.weights = _weights(self.identity, count)
            least = _tar_size([0] * count)
            if wanted is not None and (recipe.ratio is None or wanted >= least):
                blocks = _split(max(0, wanted - least) // BLOCK, self.weights)
                self.weights = self.sizes = [share * BLOCK for share in blocks]
        self.header_bits = [header_code(file_header(path, 0))[1] for path in self.paths]
        beyond = 0 if wanted is None or self.sizes is None else wanted - _tar_size(self.sizes)
        # Zeros after the end of the tar, and bytes by which the files exceed the tar that is wanted.
        self.tail, self.lacking = max(0, beyond), max(0, -beyond)

    def files(self, noise: int) -> tuple[PlannedFile, ...]:
        """Return the files for so many bytes of noise in all."""
        shares = _split(noise, self.weights)
        return tuple(map(PlannedFile, self.paths, self.header_bits, self.sizes or shares, shares))

    def cost(self, noise: int) -> int:
        """Return the bytes of the blob with so many bytes of noise, without slack."""
        files = self.files(noise)
        if self.recipe.compressed:
            return gzip_size(((file.header_bits, file.noise, file.size) for file in files), self.tail)
        return _tar_size([file.size for file in files]) + self.tail

    def most_noise(self) -> int:
        """Return about the largest number of bytes of noise that fits; what it leaves is slack."""
        most = self.recipe.size if self.paths and self.sizes is None else sum(self.sizes or ())
        noise = 0
        for _ in range(_TRIES):
            room = self.recipe.size - self.cost(noise)
            if 0 <= room <= _GOOD_SLACK:
                break
            noise = max(0, min(most, noise + room))
        while noise and self.cost(noise) > self.recipe.size:
            noise -= 1
        return noise


def _paths(identity: str, count: int) -> list[bytes]:
    name = _letters(identity, "path", _NAME_LETTERS)
    return [name] if count == 1 else [b"%s/%d" % (name, position) for position in range(count)]


def _weights(identity: str, count: int) -> list[int]:
    raw = hashlib.shake_128(f"{identity} weights".encode()).digest(2 * count)
    return [1 + int.from_bytes(raw[at : at + 2], "big") % 1000 for at in range(0, 2 * count, 2)]


def _letters(identity: str, purpose: str, count: int) -> bytes:
    raw = hashlib.shake_128(f"{identity} {purpose}".encode()).digest(count)
    return base64.b32encode(raw)[:count].lower()


def _split(total: int, weights: Sequence[int]) -> list[int]:
    """Divide a number in proportion to weights; no share exceeds its weight if the total does not."""
    whole = sum(weights)
    if not whole:
        return [0] * len(weights)
    shares = [total * weight // whole for weight in weights]
    uneven = (position for position, weight in enumerate(weights) if total * weight % whole)
    for position in islice(uneven, total - sum(shares)):
        shares[position] += 1
    return shares


def _tar_size(sizes: Sequence[int]) -> int:
    return sum(BLOCK + size + -size % BLOCK for size in sizes) + len(END)
