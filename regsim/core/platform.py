"""Platforms: operating system, architecture and variant (image-spec, image-index.md); choosing by them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regsim.errors import InvalidReferenceError

if TYPE_CHECKING:
    from collections.abc import Sequence

# What container tools call an architecture whose variant is not worth saying.
_DEFAULT_VARIANTS = {"amd64": "v1", "arm64": "v8", "arm": "v7"}
# What other tools, and people, call them (containerd, platforms/database.go).
_ALIASES = {
    "x86_64": ("amd64", None),
    "x86-64": ("amd64", None),
    "aarch64": ("arm64", None),
    "i386": ("386", None),
    "i686": ("386", None),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
}
_PARTS = (2, 3)


@dataclass(frozen=True, slots=True)
class Platform:
    """An operating system and an architecture, as in `linux/arm64/v8`; a version for Windows."""

    os: str
    architecture: str
    variant: str | None = None
    os_version: str | None = None

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read `os/architecture[/variant][:os.version]`.

        Raises:
            InvalidReferenceError: the text has another shape.
        """
        name, colon, version = text.partition(":")
        parts = name.split("/")
        if len(parts) not in _PARTS or not all(parts) or bool(colon) is not bool(version):
            raise InvalidReferenceError(
                f"not a platform: {text!r:.100}", hint="write os/architecture, such as linux/amd64"
            )
        return cls(parts[0], parts[1], parts[2] if len(parts) == max(_PARTS) else None, version or None)

    @classmethod
    def wanted(cls, text: str) -> Platform:
        """Read a platform that a user requests; `linux/aarch64` means `linux/arm64`.

        Raises:
            InvalidReferenceError: the text has another shape.
        """
        asked = cls.parse(text)
        architecture, variant = _ALIASES.get(asked.architecture, (asked.architecture, None))
        return cls(asked.os, architecture, asked.variant or variant, asked.os_version)

    @classmethod
    def from_json(cls, value: object) -> Platform | None:
        """Read a descriptor's `platform`; None where it does not name one."""
        if not isinstance(value, dict):
            return None
        variant, version = value.get("variant"), value.get("os.version")
        return cls(
            str(value.get("os", "")),
            str(value.get("architecture", "")),
            str(variant) if variant else None,
            str(version) if version else None,
        )

    def to_json(self) -> dict[str, str]:
        """Return the keys of the specification."""
        document = {"architecture": self.architecture, "os": self.os}
        if self.os_version:
            document["os.version"] = self.os_version
        if self.variant:
            document["variant"] = self.variant
        return document

    def satisfies(self, wanted: Platform) -> bool:
        """Return whether an image for this platform answers a request for `wanted`.

        A missing variant is the architecture's usual one. A requested `os.version` may be the beginning
        of the image's, up to a dot.
        """
        if (self.os, self.architecture) != (wanted.os, wanted.architecture):
            return False
        if wanted.os_version and not f"{self.os_version or ''}.".startswith(f"{wanted.os_version}."):
            return False
        return wanted.variant is None or self._usual == wanted._usual

    def __str__(self) -> str:
        name = "/".join(part for part in (self.os, self.architecture, self.variant) if part)
        return f"{name}:{self.os_version}" if self.os_version else name

    @property
    def _usual(self) -> str | None:
        return self.variant or _DEFAULT_VARIANTS.get(self.architecture)

    @property
    def is_usual(self) -> bool:
        """Whether the variant is the architecture's default."""
        return self._usual == _DEFAULT_VARIANTS.get(self.architecture)


def choose(images: Sequence[Platform | None], wanted: Platform) -> int | None:
    """Return the position of the image that `wanted` selects; None if there is no such image.

    Of several that match, the first is taken, as clients do, but one of the usual variant before others:
    a request for linux/arm does not get v5 because that is listed first.
    """
    found = [
        (not platform.is_usual, place)
        for place, platform in enumerate(images)
        if platform is not None and platform.satisfies(wanted)
    ]
    return min(found)[1] if found else None
