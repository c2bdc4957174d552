"""What an image's history says of its layers (image-spec, config.md): what made each, and how large it is.

Owns the joining of a config's history with a manifest's layers, and how many bytes of files a layer holds,
which is what docker calls its size. Must not know where images are, nor how a history is printed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from regsim.store.entry import Entry, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from regsim.core import Descriptor, Digest, ImageConfig, Platform

_MARKERS = frozenset({Kind.WHITEOUT, Kind.OPAQUE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One instruction, and the layer that it made unless it changed only metadata.

    Args:
        created_by: what was executed; empty where nobody says.
        created: when; None where nobody says, or not in a form that can be read.
        comment: of whoever built it.
        layer: None if there is none.
        size: bytes of the files that the layer adds or changes; 0 without one, None where that is not known.
        shared_by: other images in view that have the layer too; 0 without one.
    """

    created_by: str = ""
    created: datetime | None = None
    comment: str = ""
    layer: Descriptor | None = None
    size: int | None = 0
    shared_by: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageHistory:
    """The history of one image.

    Args:
        id: digest by which docker knows the image: its config's; of a record, the real manifest's.
        manifest: digest of its manifest.
        platform: what it runs on, where that is known.
        lines: base first.
        others: how many other images are in view, to which `Line.shared_by` refers.
    """

    id: Digest
    manifest: Digest
    platform: Platform | None
    lines: tuple[Line, ...]
    others: int


def lines_of(config: ImageConfig | None, layers: Sequence[Descriptor]) -> tuple[Line, ...]:
    """Return the lines of an image's history, base first, of layers whose sizes are not known yet.

    A history that has not exactly as many lines with a layer as there are layers says nothing of any.

    Args:
        config: None where there is none that can be read.
        layers: as the manifest has them.
    """
    history = config.history if config is not None else ()
    if sum(not line.empty_layer for line in history) != len(layers):
        return tuple(Line(layer=layer, size=None) for layer in layers)
    remaining = iter(layers)
    return tuple(
        Line(
            created_by=line.created_by,
            created=moment(line.created),
            comment=line.comment or "",
            layer=None if line.empty_layer else next(remaining),
            size=0 if line.empty_layer else None,
        )
        for line in history
    )


def measured(
    lines: Iterable[Line],
    sizes: Mapping[Digest, int | None],
    view: Mapping[Digest, AbstractSet[Digest]],
    own: Digest,
) -> tuple[Line, ...]:
    """Return lines with what is known of their layers.

    Args:
        lines: of one image.
        sizes: bytes of files, by layer, where they are known.
        view: the layers of each image in view, by its manifest; the image itself may be among them.
        own: the image's manifest.
    """
    others = [layers for manifest, layers in view.items() if manifest != own]
    return tuple(
        line
        if line.layer is None
        else replace(
            line,
            size=sizes.get(line.layer.digest),
            shared_by=sum(line.layer.digest in layers for layers in others),
        )
        for line in lines
    )


def content_size(entries: Iterable[Entry]) -> int:
    """Return how many bytes of files a layer holds: of a path that it names twice, the later file's."""
    sizes = {
        entry.path: entry.size if entry.kind is Kind.FILE else 0
        for entry in entries
        if entry.kind not in _MARKERS
    }
    return sum(sizes.values())


def moment(text: str | None) -> datetime | None:
    """Read a time of a config (RFC 3339, with up to nanoseconds), in UTC; None for what is none."""
    try:
        found = datetime.fromisoformat(text) if text is not None else None
        return found.astimezone(UTC) if found is not None and found.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
