"""Digests and descriptors: how one piece of content names another (image-spec, descriptor.md)."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from regsim.core.platform import Platform
from regsim.errors import ContentError, InvalidReferenceError

if TYPE_CHECKING:
    from collections.abc import Mapping

CANONICAL = "sha256"
"""The default algorithm."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


class Digest(str):
    """A digest that has been checked, and is still a plain string for JSON, sets and printing.

    Raises:
        InvalidReferenceError: the text is no digest of an algorithm that regsim verifies
            (sha256, sha512).
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:  # noqa: D102  (the class says it)
        if _DIGEST.fullmatch(text) is None:
            raise InvalidReferenceError(
                f"not a digest: {text[:160]!r}",
                hint="write sha256: and 64 lower-case hexadecimal digits, or sha512: and 128",
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

    def hasher(self) -> hashlib._Hash:
        """Return a fresh hash object of this digest's algorithm."""
        return hashlib.new(self.algorithm)

    def matches(self, hasher: hashlib._Hash) -> bool:
        """Tell whether the bytes taken in by `hasher` are those that this digest names."""
        return hasher.hexdigest() == self.encoded


MAX_SIZE = 2**63 - 1  # an int64 in the specification


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """Names content by media type, digest and size in bytes.

    `data` is the content itself where the descriptor carries it (decoded from base64).
    """

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None
    artifact_type: str | None = None
    urls: tuple[str, ...] = ()
    data: bytes | None = None

    @classmethod
    def of(cls, raw: bytes, media_type: str, algorithm: str = "sha256") -> Descriptor:
        """Return the descriptor of bytes in hand."""
        return cls(media_type=media_type, digest=Digest.of(raw, algorithm), size=len(raw))

    @classmethod
    def from_json(cls, value: object, *, where: str) -> Descriptor:
        """Read a descriptor out of a parsed document.

        Args:
            value: what stands in the document.
            where: the document and the key, for error messages.

        Raises:
            ContentError: a key is missing or malformed, or `data` is not what digest and size say.
        """
        if not isinstance(value, dict):
            raise ContentError(f"{where} is not a descriptor")
        media_type, size, urls = value.get("mediaType"), value.get("size"), value.get("urls")
        if not isinstance(media_type, str) or not media_type:
            raise ContentError(f"{where} has no mediaType")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_SIZE:
            raise ContentError(f"{where} has no valid size: {size!r:.80}")
        try:
            digest = Digest(str(value.get("digest")))
        except InvalidReferenceError as error:
            raise ContentError(f"{where}: {error.message}", hint=error.hint) from error
        return cls(
            media_type=media_type,
            digest=digest,
            size=size,
            annotations=strings(value.get("annotations")),
            platform=Platform.from_json(value["platform"]) if value.get("platform") else None,
            artifact_type=value.get("artifactType") if isinstance(value.get("artifactType"), str) else None,
            urls=tuple(url for url in urls if isinstance(url, str)) if isinstance(urls, list) else (),
            data=_data(value.get("data"), digest, size, where),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the descriptor as the specification writes it; absent keys stay absent."""
        document: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
        }
        if self.urls:
            document["urls"] = list(self.urls)
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        if self.data is not None:
            document["data"] = base64.b64encode(self.data).decode("ascii")
        if self.artifact_type is not None:
            document["artifactType"] = self.artifact_type
        if self.platform is not None:
            document["platform"] = self.platform.to_json()
        return document


def strings(value: object) -> dict[str, str]:
    """Return what of a parsed JSON object maps text to text, as annotations and labels do."""
    if not isinstance(value, dict):
        return {}
    return {key: text for key, text in value.items() if isinstance(key, str) and isinstance(text, str)}


def _data(value: object, digest: Digest, size: int, where: str) -> bytes | None:
    if value is None:
        return None
    try:
        data = base64.b64decode(str(value), validate=True)
    except ValueError as error:
        raise ContentError(f"{where}: the embedded data is not base64") from error
    if len(data) != size or Digest.of(data, digest.algorithm) != digest:
        raise ContentError(f"{where}: the embedded data is not what {digest} names")
    return data
