"""From a recipe to the exact shape of a layer: which files, how much of each is noise, what pads the rest.

Owns the arithmetic that meets a size to the byte before any byte is made. Must not know how bytes are
written: `synth.gzipframe` computes what each piece costs.

A file is noise, which does not compress, then zeros, which compress to almost nothing. The number of bytes
of noise is the one unknown: the largest that still fits. What then remains, a few bytes as a rule, goes into
the comment of the gzip header, and where no noise can take it up, into empty blocks.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regsim.errors import UsageError
from regsim.store.tar_write import BLOCK, END, split_path, ustar
from regsim.synth import gzipframe
from regsim.synth.recipe import check_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regsim.synth.recipe import LayerRecipe

# Files of a layer without a given number of files are split here, far below the limits of tar readers.
_LARGE = 2**30
_NAME_LETTERS = 8
# A byte of noise costs little more than a byte, so each try comes a hundred times closer.
_TRIES = 12
_GOOD_SLACK = 16


# The 29th of June 2024 was a Saturday; its octal digits are mostly zeros, and compress well.
_MODIFIED = 0o14700000000


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
        beyond = self.slack - gzipframe.MAX_COMMENT
        return max(0, -(-beyond // len(gzipframe.EMPTY_STORED)))

    @property
    def comment(self) -> bytes | None:
        """The text of the gzip header, which with its NUL fills the rest."""
        length = self.slack - self.empty_blocks * len(gzipframe.EMPTY_STORED)
        return letters(self.identity, "comment", length - 1) if length else None


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
            hint=f"with this content it has at least {_sufficient_size(recipe, recipe.size)} bytes",
        )
    noise = _most_noise(shape, recipe.size)
    return LayerPlan(
        recipe=recipe,
        identity=shape.identity,
        files=shape.files(noise),
        tail=shape.tail,
        slack=recipe.size - shape.cost(noise),
    )


def file_header(path: bytes, size: int) -> bytes:
    """Return the tar header of a file of root's, mode 0644: all but path and size is always the same."""
    prefix, name = split_path(path)
    return ustar(b"0", name=name, prefix=prefix, numbers=(0, 0, size, _MODIFIED))


def minimum_size(recipe: LayerRecipe) -> int:
    """Return the smallest size in bytes of a layer that is otherwise like `recipe`.

    Raises:
        UsageError: the uncompressed size is too small for the files.
    """
    return _sufficient_size(recipe, 0)


def _sufficient_size(recipe: LayerRecipe, size: int) -> int:
    # What a ratio asks for grows with the size, so this climbs to the next size that suffices.
    while (cost := _shape(recipe.of_size(size)).cost(0)) > size:
        size = cost
    return size


def _shape(recipe: LayerRecipe) -> _Shape:
    wanted = _wanted_tar(recipe)
    if recipe.files is not None:
        shape = _Shape(recipe, wanted, count=recipe.files if isinstance(recipe.files, int) else 0)
    else:
        shape = _Shape(recipe, wanted, count=max(1, -(-(wanted or recipe.size) // _LARGE)))
        if shape.lacking or shape.cost(0) > recipe.size:
            shape = _Shape(recipe, wanted, count=0)  # there is no room for a file, and none was asked for
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
        if isinstance(recipe.files, Mapping):
            self.paths = [check_path(path) for path in recipe.files]
            self.sizes: list[int] | None = list(recipe.files.values())
        else:
            self.paths = _paths(self.identity, count)
            self.sizes = self._sizes_within(wanted)
        self.header_bits = [gzipframe.header_code(file_header(path, 0))[1] for path in self.paths]
        beyond = 0 if wanted is None or self.sizes is None else wanted - _tar_size(self.sizes)
        # Zeros after the end of the tar, and bytes by which the files exceed the tar that is wanted.
        self.tail, self.lacking = max(0, beyond), max(0, -beyond)

    @property
    def most(self) -> int:
        """Bytes of noise that have room."""
        if not self.paths:
            return 0
        return self.recipe.size if self.sizes is None else sum(self.sizes)

    def files(self, noise: int) -> tuple[PlannedFile, ...]:
        """Return the files for so many bytes of noise in all."""
        shares = split(noise, _weights(self.identity, len(self.paths)) if self.sizes is None else self.sizes)
        sizes = shares if self.sizes is None else self.sizes
        return tuple(map(PlannedFile, self.paths, self.header_bits, sizes, shares))

    def cost(self, noise: int) -> int:
        """Return the bytes of the blob with so many bytes of noise, without slack."""
        files = self.files(noise)
        if self.recipe.compressed:
            return _gzip_size(files, self.tail)
        return _tar_size([file.size for file in files]) + self.tail

    def _sizes_within(self, wanted: int | None) -> list[int] | None:
        least = _tar_size([0] * len(self.paths))
        if wanted is None or (self.recipe.ratio is not None and wanted < least):
            return None
        blocks = max(0, wanted - least) // BLOCK
        return [share * BLOCK for share in split(blocks, _weights(self.identity, len(self.paths)))]


def _wanted_tar(recipe: LayerRecipe) -> int | None:
    if not recipe.compressed:
        return recipe.size
    if recipe.ratio is None:
        return recipe.uncompressed_size
    return round(recipe.ratio * recipe.size) if recipe.ratio > 1 else None


def _paths(identity: str, count: int) -> list[bytes]:
    name = letters(identity, "path", _NAME_LETTERS)
    return [name] if count == 1 else [b"%s/%d" % (name, position) for position in range(count)]


def _weights(identity: str, count: int) -> list[int]:
    raw = hashlib.shake_128(f"{identity} weights".encode()).digest(2 * count)
    return [1 + int.from_bytes(raw[at : at + 2], "big") % 1000 for at in range(0, 2 * count, 2)]


def letters(identity: str, purpose: str, count: int) -> bytes:
    """Return `count` letters and digits that follow from an identity, five bits of it in each."""
    raw = hashlib.shake_128(f"{identity} {purpose}".encode()).digest(count)
    return base64.b32encode(raw)[:count].lower()


def split(total: int, weights: Sequence[int]) -> list[int]:
    """Divide a number in proportion to weights; no share exceeds its weight if the total does not."""
    whole = sum(weights)
    if not whole:
        return [0] * len(weights)
    shares = [total * weight // whole for weight in weights]
    rest = total - sum(shares)
    for position, weight in enumerate(weights):
        if not rest:
            break
        if total * weight % whole:
            shares[position] += 1
            rest -= 1
    return shares


def _tar_size(sizes: Sequence[int]) -> int:
    return sum(BLOCK + size + -size % BLOCK for size in sizes) + len(END)


def _gzip_size(files: Sequence[PlannedFile], tail: int) -> int:
    """Return the bytes that `GzipWriter` makes of these files, without slack."""
    bits, in_block = 8 * gzipframe.GZIP_HEADER, False
    for file in files:
        bits += file.header_bits + _entering(in_block=in_block)
        in_block = not file.noise
        if file.noise:
            bits = _after_noise(bits, file.noise)
        if zeros := file.size - file.noise + -file.size % BLOCK:
            bits += _entering(in_block=in_block) + _zeros_bits(zeros)
            in_block = True
    bits += _entering(in_block=in_block) + _zeros_bits(len(END) + tail) + gzipframe.BLOCK_END_BITS
    return -(-bits // 8) + gzipframe.GZIP_TRAILER


def _entering(*, in_block: bool) -> int:
    return 0 if in_block else gzipframe.BLOCK_START_BITS


def _after_noise(bits: int, noise: int) -> int:
    bits += gzipframe.BLOCK_END_BITS + gzipframe.BLOCK_START_BITS
    blocks = -(-noise // gzipframe.MAX_STORED)
    # The first block's own start has just been counted; it and its lengths are an empty block's five bytes.
    return 8 * (-(-bits // 8) - 1 + noise + blocks * len(gzipframe.EMPTY_STORED))


def _zeros_bits(count: int) -> int:
    slices, rest = divmod(count, gzipframe.ZEROS_SLICE)
    bits = slices * gzipframe.zeros_bits(gzipframe.ZEROS_SLICE)
    return bits + (gzipframe.zeros_bits(rest) if rest else 0)


def _most_noise(shape: _Shape, size: int) -> int:
    """Return about the largest number of bytes of noise that fits; what it leaves is slack."""
    noise = 0
    for _ in range(_TRIES):
        room = size - shape.cost(noise)
        if 0 <= room <= _GOOD_SLACK:
            break
        noise = max(0, min(shape.most, noise + room))
    while noise and shape.cost(noise) > size:
        noise -= 1
    return noise
