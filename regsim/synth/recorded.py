"""Real images as records: which layers they have, how large, and what made them.

Owns the format of `scenarios/records/*.json` and how they are found. Must not know scenarios. A record
holds facts, no content: its layers' bytes are generated, of the recorded sizes, as a function of the
recorded digests.

    {"record": 1, "image": "golang:1.23.4-bookworm", "platform": "linux/arm64/v8",
     "manifest": "sha256:…", "total_size": 293306278, "source": "…", "licence": "Apache-2.0",
     "notes": "…",
     "history": [{"created": "2024-12-03T19:01:46Z", "created_by": "…", "comment": "buildkit.dockerfile.v0",
                  "layer": {"media_type", "digest", "size", "uncompressed_size", "content_size"}},
                 {"created_by": "ENV …"}]}

A line without `layer` is an instruction that changed only metadata. `created` and `comment` are optional.
So are `uncompressed_size`, bytes of the layer's tar, and `content_size`, bytes of the files in it; both may
be rounded, which `notes` then says. `total_size` is the sum of the layers' sizes.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from regsim.core import Descriptor, Digest, Platform, media_types
from regsim.core.image import Image, Layer
from regsim.core.suggest import did_you_mean
from regsim.errors import ContentError, LocalFileError, RegsimError, UsageError
from regsim.store.files import read_bounded
from regsim.synth.images import ImageRecipe, Instruction
from regsim.synth.recipe import LayerRecipe

MAX_RECORD_SIZE = 1024 * 1024
_VERSION = 1
_NAME = re.compile(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*")
_PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A real image, as recorded.

    Args:
        name: the record's file name without its ending.
        image: repository and tag of the real image.
        manifest: digest of its real manifest.
        platform: what it runs on.
        instructions: its history, base first.
        source: where the facts were read.
        licence: under which terms.
        notes: what is not exact.
    """

    name: str
    image: str
    manifest: Digest
    platform: Platform
    instructions: tuple[Instruction, ...]
    source: str
    licence: str
    notes: str = ""

    @property
    def size(self) -> int:
        """Bytes of all layers as they are transferred."""
        return sum(each.recipe.size for each in self.instructions if each.recipe is not None)

    @property
    def real(self) -> Image:
        """The real image: its digest, its history, and its layers with what is recorded of their sizes."""
        layers = (
            Layer(
                descriptor=Descriptor(
                    media_type=each.recipe.media_type, digest=each.recipe.recorded, size=each.recipe.size
                ),
                uncompressed_size=each.recipe.uncompressed_size,
                content_size=each.measured_size,
                created_by=each.created_by,
                created=each.created,
            )
            for each in self.instructions
            if each.recipe is not None and each.recipe.recorded is not None
        )
        return Image(
            manifest=Descriptor(media_type=media_types.OCI_MANIFEST, digest=self.manifest, size=0),
            layers=tuple(layers),
            history=tuple(each.history for each in self.instructions),
            platform=self.platform,
        )

    def image_recipe(self, key: str) -> ImageRecipe:
        """Return how to make an image of this shape, under a scenario's key."""
        return ImageRecipe(key=key, platform=self.platform, instructions=self.instructions)


def records_folder() -> Path:
    """Return where the shipped records are: in an installed package, else in the checkout.

    Raises:
        LocalFileError: in neither.
    """
    for folder in (_PACKAGE / "_scenarios" / "records", _PACKAGE.parent / "scenarios" / "records"):
        if folder.is_dir():
            return folder
    raise LocalFileError("the records of real images are missing", hint="install regsim again")


def record_names(folder: Path | None = None) -> tuple[str, ...]:
    """Return the names of all records, sorted."""
    return tuple(sorted(path.stem for path in (folder or records_folder()).glob("*.json")))


def load_record(name: str, folder: Path | None = None) -> Record:
    """Read a record by its name, such as `golang-1.23.4-bookworm-arm64`.

    Raises:
        UsageError: there is no such record; the hint names similar ones.
        ContentError: the record is malformed, or larger than 1 MiB.
        LocalFileError: it cannot be read, or the records are not installed.
    """
    folder = folder or records_folder()
    path = folder / f"{name}.json"
    if _NAME.fullmatch(name) is None or not path.is_file():
        raise UsageError(f"no record named {name!r:.200}", hint=did_you_mean(name, record_names(folder)))
    raw = read_bounded(path, MAX_RECORD_SIZE)
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ContentError(f"{path} is not JSON") from error
    try:
        return _record(name, document)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ContentError(
            f"{path} is not a record: {error}", hint="compare it with another record"
        ) from error
    except RegsimError as error:
        raise ContentError(f"{path} is not a record: {error.message}", hint=error.hint) from error


def _record(name: str, document: dict[str, Any]) -> Record:
    if document["record"] != _VERSION:
        raise ContentError(f"version {document['record']!r:.40} is not read")
    record = Record(
        name=name,
        image=_text(document["image"]),
        manifest=Digest(_text(document["manifest"])),
        platform=Platform.parse(_text(document["platform"])),
        instructions=tuple(_instruction(line) for line in document["history"]),
        source=_text(document["source"]),
        licence=_text(document["licence"]),
        notes=_text(document.get("notes", "")),
    )
    if record.size != document["total_size"]:
        raise ContentError(f"layers of {record.size} bytes do not add up to {document['total_size']!r:.40}")
    return record


def _instruction(line: dict[str, Any]) -> Instruction:
    layer = line.get("layer")
    created_by = _text(line["created_by"])
    created, comment = (_text(line[key]) if key in line else None for key in ("created", "comment"))
    if created is not None:
        datetime.fromisoformat(created)
    if layer is None:
        return Instruction(created_by=created_by, created=created, comment=comment)
    descriptor = Descriptor.from_json({**layer, "mediaType": layer["media_type"]}, where=created_by)
    content_size = _size(layer, "content_size")
    recipe = LayerRecipe(
        key=f"recorded {descriptor.digest}",
        size=descriptor.size,
        media_type=descriptor.media_type,
        uncompressed_size=_size(layer, "uncompressed_size"),
        files=0 if content_size == 0 else None,  # only directories
        recorded=descriptor.digest,
    )
    return Instruction(
        created_by=created_by, recipe=recipe, created=created, comment=comment, content_size=content_size
    )


def _size(layer: dict[str, Any], key: str) -> int | None:
    value = layer.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise TypeError(f"{key} {value!r:.40}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is not text")
    return value
