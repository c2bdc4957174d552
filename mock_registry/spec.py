"""The specification's vocabulary: grammar, media types, error codes, ranges.

Owns what the OCI distribution and image specifications fix as words and syntax.
Must not know of HTTP servers, storage or this registry's decisions.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

Digest: TypeAlias = str
"""``algorithm:encoded`` of a registered algorithm, in its canonical (lower case) form."""

NAME_LENGTH = 255
"""Longest repository name. The grammar has no bound, but paths, clients and file systems do."""

_COMPONENT = r"[a-z0-9]+(?:(?:\.|__|_|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_CONTENT_RANGE = re.compile(r"([0-9]{1,19})-([0-9]{1,19})")
_BYTE_RANGE = re.compile(r"bytes=\s*([0-9]{0,19})-([0-9]{0,19})\s*", re.IGNORECASE)


class Algorithm(StrEnum):
    """The digest algorithms that are registered and required."""

    SHA256 = "sha256"
    SHA512 = "sha512"


class ErrorCode(StrEnum):
    """The 14 codes of the specification, and ``UNKNOWN`` for a 5xx, which it leaves open."""

    BLOB_UNKNOWN = "BLOB_UNKNOWN"
    BLOB_UPLOAD_INVALID = "BLOB_UPLOAD_INVALID"
    BLOB_UPLOAD_UNKNOWN = "BLOB_UPLOAD_UNKNOWN"
    DENIED = "DENIED"
    DIGEST_INVALID = "DIGEST_INVALID"
    MANIFEST_BLOB_UNKNOWN = "MANIFEST_BLOB_UNKNOWN"
    MANIFEST_INVALID = "MANIFEST_INVALID"
    MANIFEST_UNKNOWN = "MANIFEST_UNKNOWN"
    NAME_INVALID = "NAME_INVALID"
    NAME_UNKNOWN = "NAME_UNKNOWN"
    SIZE_INVALID = "SIZE_INVALID"
    TOOMANYREQUESTS = "TOOMANYREQUESTS"
    UNAUTHORIZED = "UNAUTHORIZED"
    UNKNOWN = "UNKNOWN"
    UNSUPPORTED = "UNSUPPORTED"


class MediaType(StrEnum):
    """The manifest media types that a registry must tell apart."""

    DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
    DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
    OCI_INDEX = "application/vnd.oci.image.index.v1+json"
    OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


INDEXES = frozenset({MediaType.DOCKER_LIST, MediaType.OCI_INDEX})
MANIFESTS = frozenset(MediaType)

NON_DISTRIBUTABLE = frozenset(
    {
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    }
)
"""Layers that a registry must not require to exist."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One element of the ``errors`` array of a JSON error body."""

    code: ErrorCode
    message: str
    detail: Any = None

    def document(self) -> dict[str, Any]:
        """Return the element as a JSON object."""
        document: dict[str, Any] = {"code": self.code.value, "message": self.message}
        return document if self.detail is None else document | {"detail": self.detail}


def error_body(*faults: Fault) -> bytes:
    """Encode a JSON error body."""
    return json.dumps({"errors": [fault.document() for fault in faults]}).encode()


def is_name(text: str) -> bool:
    """Tell whether ``text`` is a repository name."""
    return len(text) <= NAME_LENGTH and _NAME.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """Tell whether ``text`` is a tag."""
    return _TAG.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    """Tell whether ``text`` is a digest of an algorithm this registry can check."""
    return _DIGEST.fullmatch(text) is not None


def algorithm_of(digest: Digest) -> Algorithm:
    """Return the algorithm that a digest names."""
    return Algorithm(digest.partition(":")[0])


def digest_of(content: bytes, algorithm: Algorithm = Algorithm.SHA256) -> Digest:
    """Compute the digest of content that is whole in memory."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def parse_count(text: str) -> int | None:
    """Parse a number of entries or bytes as clients write it, with any number of digits.

    Returns:
        The number, or ``None`` when the text is not a number from 0. A larger one is cut to 19 digits.
    """
    if not (text.isascii() and text.isdigit()):
        return None
    return int(text.lstrip("0")[:19] or "0")


def parse_content_range(text: str) -> tuple[int, int] | None:
    """Parse the Content-Range of an upload's chunk (end-5), which has no unit and no total.

    Returns:
        First and last byte, both inclusive; ``None`` when the text is not such a range.
    """
    match = _CONTENT_RANGE.fullmatch(text)
    if match is None or int(match[2]) < int(match[1]):
        return None
    return int(match[1]), int(match[2])


class Unsatisfiable(ValueError):  # noqa: N818 (RFC 9110's own word, 416 Range Not Satisfiable)
    """A byte range that the content cannot serve."""


def resolve_byte_range(text: str, size: int) -> tuple[int, int] | None:
    """Resolve a Range header of a blob GET (end-2) against the blob's size.

    Returns:
        Offset and count; ``None`` when the header is to be ignored, as RFC 9110 asks for a unit other than
        bytes and allows for several ranges at once.

    Raises:
        Unsatisfiable: The range is malformed, reversed, or begins behind the end.
    """
    if "," in text or not text.lower().startswith("bytes="):
        return None
    match = _BYTE_RANGE.fullmatch(text)
    if match is None or not (match[1] or match[2]):
        raise Unsatisfiable(text)
    if match[1]:
        first, last = int(match[1]), int(match[2] or size)
    else:
        first, last = max(size - int(match[2]), 0), size
    if last < first or first >= size:
        raise Unsatisfiable(text)
    return first, min(last, size - 1) - first + 1
