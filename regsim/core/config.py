"""The image config, as far as a transfer's report needs it: history and diff IDs (image-spec, config.md)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from regsim.core.descriptor import strings
from regsim.core.manifest import encode, parse_object
from regsim.core.platform import Platform

if TYPE_CHECKING:
    from collections.abc import Mapping

# Configs are metadata: beyond this they are not read for their history.
MAX_CONFIG_SIZE = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One line of an image's history. An empty layer changed only metadata and has no blob."""

    created: str | None = None
    created_by: str = ""
    comment: str | None = None
    empty_layer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """What an image runs on, its history and uncompressed layer digests, base first, its date and labels."""

    platform: Platform
    history: tuple[History, ...]
    diff_ids: tuple[str, ...]
    created: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    def lines(self, layers: int) -> tuple[History, ...]:
        """Return the line of the history of each of `layers` layers, base first.

        Empty lines if the history does not say: its lines with a layer must be exactly as many as layers.
        """
        lines = tuple(line for line in self.history if not line.empty_layer)
        return lines if len(lines) == layers else (History(),) * layers


def parse_config(raw: bytes) -> ImageConfig:
    """Read an image config.

    Raises:
        ContentError: it is not a JSON object. Missing parts are taken as empty, since artifacts put
            whatever they like into a config.
    """
    document = parse_object(raw, "the image config")
    rootfs = document.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    created, settings = document.get("created"), document.get("config")
    return ImageConfig(
        platform=Platform.from_json(document) or Platform("", ""),
        history=tuple(_line(value) for value in _list(document.get("history"))),
        diff_ids=tuple(str(value) for value in _list(diff_ids)),
        created=created if isinstance(created, str) else None,
        labels=strings(settings.get("Labels")) if isinstance(settings, dict) else {},
    )


def config_document(config: ImageConfig) -> bytes:
    """Write an image config of our own, deterministic to the byte."""
    history = [
        {key: value for key, value in asdict(line).items() if value not in (None, False)}
        for line in config.history
    ]
    return encode(
        {
            **config.platform.to_json(),
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": list(config.diff_ids)},
            "history": history,
        }
    )


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _line(value: object) -> History:
    if not isinstance(value, dict):
        return History()
    created, comment = value.get("created"), value.get("comment")
    return History(
        created_by=str(value.get("created_by") or ""),
        created=created if isinstance(created, str) else None,
        comment=comment if isinstance(comment, str) else None,
        empty_layer=value.get("empty_layer") is True,
    )
