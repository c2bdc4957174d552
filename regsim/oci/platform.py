"""Platforms: operating system, architecture and variant (image-spec, image-index.md)."""

from __future__ import annotations

from dataclasses import dataclass

from regsim.errors import InvalidReferenceError

# What container tools call an architecture whose variant is not worth saying.
_DEFAULT_VARIANTS = {"arm64": "v8", "arm": "v7"}
_PARTS = (2, 3)


@dataclass(frozen=True, slots=True)
class Platform:
    """An operating system and an architecture, as in `linux/arm64/v8`."""

    os: str
    architecture: str
    variant: str | None = None

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read `os/architecture[/variant]`.

        Raises:
            InvalidReferenceError: the text has another shape.
        """
        parts = text.split("/")
        if len(parts) not in _PARTS or not all(parts):
            raise InvalidReferenceError(
                f"not a platform: {text!r}", hint="write os/architecture, such as linux/amd64"
            )
        return cls(*parts)

    @classmethod
    def from_json(cls, value: object) -> Platform | None:
        """Read a descriptor's `platform`; None where it does not name one."""
        if not isinstance(value, dict):
            return None
        variant = value.get("variant")
        return cls(
            str(value.get("os", "")), str(value.get("architecture", "")), str(variant) if variant else None
        )

    def to_json(self) -> dict[str, str]:
        """Return the keys of the specification."""
        document = {"architecture": self.architecture, "os": self.os}
        if self.variant:
            document["variant"] = self.variant
        return document

    def satisfies(self, wanted: Platform) -> bool:
        """Tell whether an image for this platform is what somebody asking for `wanted` wants."""
        if (self.os, self.architecture) != (wanted.os, wanted.architecture):
            return False
        default = _DEFAULT_VARIANTS.get(self.architecture)
        return wanted.variant is None or (self.variant or default) == wanted.variant

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)
