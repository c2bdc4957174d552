"""Images of a scenario as its file writes them: layers, platforms, and what commands leave behind.

Owns the keys below `images`, those of a file next to a Dockerfile, and how a path and a file in an
image are written. Must not know the other parts of a scenario: names used here are judged in `names.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple, Self, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, Tag

from regsim.core import Platform, media_types
from regsim.core.quantities import format_size
from regsim.core.reference import check_tag
from regsim.errors import ContentError, UsageError
from regsim.image.builder.dockerfile import command_key
from regsim.image.builder.effects import Effect, MadeFile, check_effect
from regsim.scenario.fields import (
    NUMBER,
    SIZE,
    FilePath,
    Mapped,
    Several,
    Written,
    beside,
    free_text,
    key,
    word,
)
from regsim.store.entry import check_path as check_path_in_image
from regsim.synth.recipe import (
    MAX_FILES,
    MAX_RATIO,
    MAX_SIZE,
    LayerRecipe,
    check_path,
    layer_key,
    minimum_size,
)

if TYPE_CHECKING:
    from regsim.scenario.reader import Reader
    from regsim.scenario.yaml_document import Entries


class LayerFormat(StrEnum):
    """How a layer is packed; the words end OCI's media types."""

    GZIP = "tar+gzip"
    TAR = "tar"


_MEDIA_TYPES = {LayerFormat.GZIP: media_types.OCI_LAYER_GZIP, LayerFormat.TAR: media_types.OCI_LAYER}


Ratio: TypeAlias = Annotated[float, Field(strict=True, ge=1, le=MAX_RATIO), NUMBER]
LayerPath: TypeAlias = Annotated[
    str, Written(noun="a file's path in the layer", parse=lambda path: check_path(path).decode())
]
FilesOfLayer: TypeAlias = Annotated[
    Annotated[int, Field(strict=True, ge=0, le=MAX_FILES), NUMBER, Tag("number")]
    | Annotated[
        dict[LayerPath, Annotated[int, SIZE]], Several("a mapping of paths to sizes", 1), Tag("mapping")
    ],
    Discriminator(lambda files: "mapping" if isinstance(files, Mapping) else "number"),
]


class LayerSpec(Mapped):
    """One synthetic layer.

    Attributes:
        size: bytes of the layer as it travels.
        ratio: uncompressed bytes for each byte that travels; with None the content does not compress.
        files: how many files, or the size in bytes of each path; None for as few as make sense.
        created_by: the instruction in the image's history.
        media_type: how it is packed.
    """

    noun = "a layer"
    form = "a size such as 28MB, or a mapping with size, ratio, files, …"
    short = "size"

    size: Annotated[int, SIZE] = key("Bytes of the layer as it travels")
    ratio: Ratio | None = key(
        "Uncompressed bytes for each byte that travels", absent="its content does not compress", default=None
    )
    files: FilesOfLayer | None = key(
        "How many files it holds, or the size of each path", absent="as few as make sense", default=None
    )
    created_by: Annotated[str, free_text("an instruction")] | None = key(
        "The instruction in the image's history", absent="none", default=None
    )
    media_type: LayerFormat = key("How the layer is packed", absent="tar+gzip", default=LayerFormat.GZIP)

    def recipe(self, *, seed: int, image: str, index: int) -> LayerRecipe:
        """Return the recipe that makes the layer's bytes.

        Args:
            seed: the scenario's.
            image: the key of the image that defines the layer, and for a platform's image its platform too.
            index: the layer's place among those that this image defines, base first.

        Raises:
            UsageError: no such layer can be made.
        """
        return LayerRecipe(
            key=layer_key(seed, image, index),
            size=self.size,
            media_type=_MEDIA_TYPES[self.media_type],
            ratio=self.ratio,
            files=self.files,
        )

    def finish(self, entries: Entries, reader: Reader) -> Self:
        """Note if no such layer can be made. Its key decides its bytes, not whether there are any."""
        add = reader.problems.add
        if self.size > MAX_SIZE:
            largest = f"the largest is {format_size(MAX_SIZE)}"
            add(entries.value_at("size"), f'"{entries["size"]}" is too large for a layer', largest)
            return self
        if self.media_type is LayerFormat.TAR and self.ratio not in (None, 1):
            where = entries.key_at("ratio")
            add(where, "a plain tar is not compressed", 'remove "ratio", or use tar+gzip')
            return self
        try:
            least = minimum_size(self.recipe(seed=0, image="", index=0))
        except UsageError as error:
            add(entries.value_at("files"), error.message, error.hint)
            return self
        if self.size < least:
            too_small = f"{format_size(self.size)} is too small for this layer"
            add(entries.value_at("size"), too_small, f"the smallest is {format_size(least)}")
        return self


def _path_in_image(text: str) -> bytes:
    try:
        path = check_path_in_image(text.removeprefix("/").encode())
    except ContentError as error:
        raise UsageError(error.message, hint="a path in the image, such as go/main") from error
    if not path:
        raise UsageError("the root directory itself is no file", hint="a path in the image, such as go/main")
    return path


def _mode(text: str) -> int:
    if re.fullmatch("0?[0-7]{3,4}", text) is None:
        raise UsageError(f'not a mode: "{text[:40]}"', hint="octal digits, such as 0755")
    return int(text, 8)


def _owner(text: str) -> tuple[int, int]:
    match = re.fullmatch("([0-9]{1,10}):([0-9]{1,10})", text)
    if match is None:
        raise UsageError(
            f'not an owner: "{text[:40]}"', hint='numbers of a user and a group, such as "1000:1000"'
        )
    return int(match[1]), int(match[2])


PathInImage: TypeAlias = Annotated[bytes, Written(noun="a path in the image", parse=_path_in_image)]
FileMode: TypeAlias = Annotated[
    int,
    Written(
        noun="a mode such as 0755",
        parse=_mode,
        schema={
            "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^0?[0-7]{3,4}$"}]
        },
        text=False,
    ),
]
Owner: TypeAlias = Annotated[
    tuple[int, int],
    Written(
        noun="user:group", parse=_owner, schema={"type": "string", "pattern": "^[0-9]{1,10}:[0-9]{1,10}$"}
    ),
]
Paths: TypeAlias = Annotated[tuple[PathInImage, ...], Several("a list of paths")]


class FileSpec(Mapped):
    """A file that a command or a container's step leaves."""

    noun = "a file that a command leaves"
    form = "a size such as 81MB, or a mapping with size, content or link"
    one_of = ("size", "content", "link")
    goes_with: ClassVar[dict[str, str]] = {"seed": "size", "ratio": "size"}
    short = "size"

    size: Annotated[int, SIZE] = key("Bytes of a made-up content", default=0)
    content: Annotated[bytes, replace(free_text("a content"), parse=str.encode)] | None = key(
        "What it holds", default=None
    )
    link: Annotated[bytes, replace(free_text("a target"), parse=str.encode)] | None = key(
        "Makes it a symbolic link to this target", default=None
    )
    seed: Annotated[str, free_text("a seed")] | None = key(
        "Made-up contents of one seed, size and ratio are equal", absent="its path", default=None
    )
    ratio: Ratio = key(
        "How many times smaller a compressor makes a made-up content",
        absent="1, it does not compress",
        default=1.0,
    )
    mode: FileMode = key("Permission bits", absent="0644", default=0o644)
    owner: Owner = key("Numbers of user and group", absent="0:0", default=(0, 0))

    def made(self) -> MadeFile:
        """Return the file as the builder wants it."""
        uid, gid = self.owner
        return MadeFile(uid=uid, gid=gid, **self.model_dump(exclude={"owner"}))


Files: TypeAlias = Annotated[dict[PathInImage, FileSpec], Several("a mapping of paths to files")]


class EffectSpec(Mapped):
    """What a command leaves."""

    noun = "what a command leaves"

    files: Files = key("Files by their paths: a size, or a mapping", absent="none", default={})
    delete: Paths = key(
        "Files and directories of the layers below that it removes", absent="nothing", default=()
    )

    def finish(self, entries: Entries, reader: Reader) -> Self:
        """Note if it cannot be in a layer."""
        try:
            check_effect(self.effect())
        except (UsageError, ContentError) as error:
            reader.problems.add(entries.where, error.message, error.hint)
        return self

    def effect(self) -> Effect:
        """Return it as the builder wants it."""
        return Effect(files={path: file.made() for path, file in self.files.items()}, delete=self.delete)


Command: TypeAlias = Annotated[str, Written(noun="a command, as it stands after RUN", parse=command_key)]
Runs: TypeAlias = Annotated[dict[Command, EffectSpec], Several("a mapping of commands to what they leave")]

IMAGE_NAME = word(
    "an image name",
    r"[A-Za-z0-9_][A-Za-z0-9_.:/@+\-]{0,199}",
    "letters, digits and _ . : / @ + -, such as api:v1",
)
_RECORD = word(
    "a record name", r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,199}", "letters, digits and _ . -", mentions="record"
)
_ARGUMENT = word("the name of an ARG", r"[A-Za-z_][A-Za-z0-9_]{0,199}", "letters, digits and _")


class Layout(NamedTuple):
    """A directory with an OCI layout, and a tag in it, which may be left out where there is one image."""

    directory: Path
    tag: str | None = None


def _layout(text: str) -> Layout:
    head, colon, tag = text.rpartition(":")
    directory, tag = (head, tag) if colon and "/" not in tag else (text, "")
    if not directory or "\0" in directory:
        raise UsageError(
            f'no directory: "{text[:160]}"', hint="write DIR or DIR:TAG, such as ./layout:latest"
        )
    return Layout(Path(directory), check_tag(tag) if tag or text.endswith(":") else None)


LayoutBeside: TypeAlias = Annotated[
    Layout,
    Written(noun="DIR[:TAG]", parse=_layout),
    AfterValidator(lambda layout, info: layout._replace(directory=beside(layout.directory, info))),
]


class PlatformImage(Mapped):
    """One image of an index: generated layers, on top of those of another image (`base`), or a record."""

    noun = "a platform's image"
    one_of: ClassVar[tuple[str, ...]] = ("layers", "record")
    reserved: ClassVar[tuple[str, ...]] = ("dockerfile",)

    layers: Annotated[tuple[LayerSpec, ...], Several("a list of layers")] | None = key(
        "Synthetic layers, base first; each a size or a mapping", default=None
    )
    base: Annotated[str, replace(IMAGE_NAME, mentions="base")] | None = key(
        "The image whose layers come below these: one made of layers, or a record",
        absent="nothing below",
        default=None,
        alias="from",
    )
    record: Annotated[str, _RECORD] | None = key(
        "A real image's recorded digests, sizes and history", default=None
    )

    def finish(self, entries: Entries, reader: Reader) -> Self:
        """Report keys that do not go together."""
        if "from" in entries and "layers" not in entries:
            hint = "the Dockerfile says FROM" if "dockerfile" in entries else ""
            reader.problems.add(entries.key_at("from"), '"from" goes with "layers" only', hint)
        return self


_PLATFORM = Written(
    noun="a platform", parse=Platform.parse, schema={"type": "string", "pattern": "^[^/]+/[^/]+(/[^/]+)?$"}
)
Platforms: TypeAlias = Annotated[
    dict[Annotated[Platform, _PLATFORM], PlatformImage], Several("a mapping of platforms to images", 1)
]


class ImageSpec(PlatformImage):
    """An image: layers, a record, a layout, a Dockerfile or an index, whose images are in file order.

    `name` is its key. `context` is None for the Dockerfile's directory; `run` is what each RUN leaves behind,
    by its command; `target` is the name or number of the stage to end with, None for the last one.
    """

    noun = "an image"
    one_of = ("layers", "record", "oci", "dockerfile", "platforms")
    reserved = ()
    goes_with = dict.fromkeys(("context", "run", "build_args", "target"), "dockerfile")

    name: str = ""
    oci: LayoutBeside | None = key(
        "Real content: DIR[:TAG] of an OCI layout, relative to the scenario file", default=None
    )
    dockerfile: FilePath | None = key(
        "A Dockerfile, relative to the scenario file, whose FROM names the scenario's images", default=None
    )
    context: FilePath | None = key(
        "With dockerfile: the directory that COPY takes files from", absent="the Dockerfile's", default=None
    )
    run: Runs = key(
        "With dockerfile: what each RUN leaves behind, since none is executed", absent="none", default={}
    )
    build_args: Annotated[
        dict[Annotated[str, _ARGUMENT], Annotated[str, free_text("a value")]],
        Several("a mapping of names to values"),
    ] = key("With dockerfile: values of ARGs", absent="none", default={})
    target: Annotated[str, free_text("a stage")] | None = key(
        "With dockerfile: the stage to end with", absent="the last one", default=None
    )
    platforms: Platforms | None = key(
        "An index: for each os/architecture[/variant] an image of its own", default=None
    )
