"""Digests: `algorithm:encoded`, and the hashing that goes with them (image-spec, descriptor.md#digests)."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Protocol, Self

from regsim.errors import InvalidReferenceError

if TYPE_CHECKING:
    from collections.abc import Callable

CANONICAL = "sha256"
"""The algorithm that everybody takes for granted where none is said."""
_ENCODED_LENGTH = {"sha256": 64, "sha512": 128}
_SHAPE = re.compile(r"(?P<algorithm>[a-z0-9]+(?:[+._-][a-z0-9]+)*):(?P<encoded>[a-zA-Z0-9=_-]+)")
_HEX = re.compile(r"[0-9a-f]+")


class Hasher(Protocol):
    """The part of a `hashlib` object that verification needs."""

    def copy(self) -> Self:
        """Return another one that has taken in the same bytes."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Take in more bytes."""

    def hexdigest(self) -> str:
        """Return the hash of all bytes so far, in lower-case hexadecimal."""


class Digest(str):
    """A digest that has been checked, and is still a plain string for JSON, sets and printing.

    Raises:
        InvalidReferenceError: the text is no digest of an algorithm that regsim verifies
            (sha256, sha512).
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:  # noqa: D102  (the class says it)
        match = _SHAPE.fullmatch(text)
        if match is None:
            raise InvalidReferenceError(
                f"not a digest: {text[:160]!r}", hint="a digest looks like sha256:<64 hexadecimal digits>"
            )
        length = _ENCODED_LENGTH.get(match["algorithm"])
        if length is None:
            raise InvalidReferenceError(
                f"digest algorithm not supported: {text[:160]!r}", hint="sha256 and sha512 are"
            )
        if len(match["encoded"]) != length or _HEX.fullmatch(match["encoded"]) is None:
            raise InvalidReferenceError(
                f"not a {match['algorithm']} digest: {text[:160]!r}",
                hint=f"{length} lower-case hexadecimal digits follow the colon",
            )
        return super().__new__(cls, text)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """Return the digest of `data`."""
        return cls(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")

    @property
    def algorithm(self) -> str:
        """`sha256` or `sha512`."""
        return self.partition(":")[0]

    @property
    def encoded(self) -> str:
        """The hexadecimal part."""
        return self.partition(":")[2]

    @property
    def short(self) -> str:
        """Twelve hexadecimal digits, for tables."""
        return self.encoded[:12]

    def hasher(self) -> Hasher:
        """Return a fresh hash object of this digest's algorithm."""
        constructor: Callable[[], Hasher] = getattr(hashlib, self.algorithm)
        return constructor()

    def matches(self, hasher: Hasher) -> bool:
        """Tell whether the bytes taken in by `hasher` are those that this digest names."""
        return hasher.hexdigest() == self.encoded
