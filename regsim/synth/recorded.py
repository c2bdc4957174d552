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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regsim.core import Descriptor, Digest, Platform, media_types
from regsim.core.image import Image, Layer
from regsim.core.suggest import did_you_mean
from regsim.errors import LocalFileError, UsageError
from regsim.synth.images import ImageRecipe, Instruction
from regsim.synth.recipe import LayerRecipe

_PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A real image, as recorded.

    Args:
        name: the record's file name without its ending.
        manifest: digest of its real manifest.
        platform: what it runs on.
        instructions: its history, base first.
    """

    name: str
    manifest: Digest
    platform: Platform
    instructions: tuple[Instruction, ...]

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


def record_names() -> tuple[str, ...]:
    """Return the names of all records, sorted."""
    return tuple(sorted(path.stem for path in records_folder().glob("*.json")))


def load_record(name: str) -> Record:
    """Read a record by its name, such as `golang-1.23.4-bookworm-arm64`.

    Records are shipped with this package, and are not checked again when they are read.

    Raises:
        UsageError: there is no such record; the hint names similar ones.
        LocalFileError: the records are not installed.
    """
    if name not in record_names():
        raise UsageError(f"no record named {name!r:.200}", hint=did_you_mean(name, record_names()))
    document = json.loads((records_folder() / f"{name}.json").read_bytes())
    return Record(
        name=name,
        manifest=Digest(document["manifest"]),
        platform=Platform.parse(document["platform"]),
        instructions=tuple(_instruction(line) for line in document["history"]),
    )


def _instruction(line: dict[str, Any]) -> Instruction:
    layer = line.get("layer")
    told: dict[str, Any] = {key: line.get(key) for key in ("created_by", "created", "comment")}
    if layer is None:
        return Instruction(**told)
    digest, content_size = Digest(layer["digest"]), layer.get("content_size")
    recipe = LayerRecipe(
        key=f"recorded {digest}",
        size=layer["size"],
        media_type=layer["media_type"],
        uncompressed_size=layer.get("uncompressed_size"),
        files=0 if content_size == 0 else None,  # only directories
        recorded=digest,
    )
    return Instruction(**told, recipe=recipe, content_size=content_size)
