"""Layers and images as a scenario file writes them.

Owns the keys below `images`. Must not know the other parts of a file: the names used here are gathered and
judged in `names.py`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from regsim.core import Platform
from regsim.core.quantities import format_size, parse_size
from regsim.core.reference import check_tag
from regsim.errors import UsageError
from regsim.scenario.compound import ByKind, ListOf, MapOf
from regsim.scenario.format_run import RUNS
from regsim.scenario.layers import check_size, layer_recipe
from regsim.scenario.schema import (
    DockerfileImage,
    ImageSpec,
    LayerFormat,
    LayerSpec,
    LayoutImage,
    MultiPlatformImage,
    RecordedImage,
    SyntheticImage,
)
from regsim.scenario.shapes import (
    SIZE,
    Amount,
    Choice,
    Decimal,
    Fields,
    JsonSchema,
    Name,
    Parsed,
    Reader,
    Text,
    Whole,
)
from regsim.scenario.table import Key, Table
from regsim.synth.recipe import MAX_FILES, MAX_RATIO, MAX_SIZE, check_path

if TYPE_CHECKING:
    from regsim.scenario.positions import Entries, Position, Scalar, YamlNode


def _check(spec: LayerSpec, size: Position, files: Position, reader: Reader) -> LayerSpec:
    """Note whether such a layer can be made. Its key decides its bytes, not whether there are any."""
    try:
        recipe = layer_recipe(spec, seed=0, image="", index=0)
    except UsageError as error:
        reader.problems.reject(files, error.message, error.hint)
    try:
        check_size(recipe)
    except UsageError as error:
        reader.problems.reject(size, error.message, error.hint)
    return spec


def _layer(fields: Fields, entries: Entries, reader: Reader) -> LayerSpec:
    spec = LayerSpec(**fields)
    if spec.media_type is LayerFormat.TAR and spec.ratio not in (None, 1):
        key = entries.key("ratio") or entries
        reader.problems.reject(key.where, "a plain tar is not compressed", 'remove "ratio", or use tar+gzip')
    size = (entries.get("size") or entries).where
    return _check(spec, size, (entries.get("files") or entries).where, reader)


class _LayerSize:
    """A layer of which only the size is given."""

    noun = "a size such as 28MB, or a mapping with size, ratio, files, …"

    def read(self, node: YamlNode, reader: Reader) -> LayerSpec:
        """Return the layer."""
        return _check(LayerSpec(size=LAYER_SIZE.read(node, reader)), node.where, node.where, reader)

    def schema(self) -> JsonSchema:
        """A size."""
        return LAYER_SIZE.schema()


def _layer_size(text: str) -> int:
    size = parse_size(text)
    if size > MAX_SIZE:
        raise UsageError(
            f'"{text[:60]}" is too large for a layer', hint=f"the largest is {format_size(MAX_SIZE)}"
        )
    return size


LAYER_SIZE = Amount(noun="a size", parse=_layer_size, schema_of=SIZE.schema_of)


def _path(text: str) -> str:
    check_path(text)
    return text


_PATH = Parsed(noun="a file's path in the layer", parse=_path)

_FILES: ByKind[Any] = ByKind(
    noun="a number of files, or a size for each path",
    scalar=Whole(noun="a number of files", minimum=0, maximum=MAX_FILES),
    entries=MapOf(
        noun="a mapping of paths to sizes", key=_PATH, value=SIZE, build=lambda _, size: size, minimum=1
    ),
)

LAYER = Table(
    noun="a layer",
    keys={
        "size": Key(doc="Bytes of the layer as it travels", shape=LAYER_SIZE, required=True),
        "ratio": Key(
            doc="Uncompressed bytes for each byte that travels",
            shape=Decimal(noun="a ratio", minimum=1, maximum=MAX_RATIO),
            default="its content does not compress",
        ),
        "files": Key(
            doc="How many files it holds, or the size of each path",
            shape=_FILES,
            default="as few as make sense",
        ),
        "created_by": Key(
            doc="The instruction in the image's history", shape=Text("an instruction"), default="none"
        ),
        "media_type": Key(doc="How the layer is packed", shape=Choice(LayerFormat), default="tar+gzip"),
    },
    build=_layer,
)

_LAYERS = ListOf(
    noun="a list of layers",
    item=ByKind(noun=_LayerSize.noun, scalar=_LayerSize(), entries=LAYER),
)

IMAGE_NAME = Name(
    noun="an image name",
    pattern=r"[A-Za-z0-9_][A-Za-z0-9_.:/@+\-]{0,199}",
    allowed="letters, digits and _ . : / @ + -, such as api:v1",
)

_RECORD = Name(
    noun="a record name",
    pattern=r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,199}",
    allowed="letters, digits and _ . -",
    mentions="record",
)

_BUILT_KEYS = {
    "layers": Key(doc="Synthetic layers, base first; each a size or a mapping", shape=_LAYERS),
    "from": Key(
        doc="The image whose layers come below these: one made of layers, or a record",
        shape=replace(IMAGE_NAME, mentions="base"),
        default="nothing below",
    ),
    "record": Key(doc="A real image's recorded digests, sizes and history", shape=_RECORD),
}


def _built(fields: Fields, entries: Entries, reader: Reader) -> SyntheticImage | RecordedImage:
    base = entries.key("from")
    if "layers" in fields:
        return SyntheticImage(name="", layers=fields["layers"], base=fields.get("from"))
    if base is not None:
        reader.problems.add(base.where, '"from" goes with "layers" only')
    return RecordedImage(name="", record=fields["record"])


PLATFORM_IMAGE = Table(
    noun="a platform's image",
    keys=_BUILT_KEYS,
    build=_built,
    one_of=("layers", "record"),
    reserved_forms=("dockerfile",),
)


def _layout(text: str) -> tuple[str, str | None]:
    head, colon, tag = text.rpartition(":")
    directory, tag = (head, tag) if colon and "/" not in tag else (text, "")
    if not directory or "\0" in directory:
        raise UsageError(
            f'no directory: "{text[:160]}"', hint="write DIR or DIR:TAG, such as ./layout:latest"
        )
    return directory, check_tag(tag) if tag or text.endswith(":") else None


def _file(text: str) -> str:
    if not text or "\0" in text:
        raise UsageError(f'no path: "{text[:160]}"', hint="write a path, such as web/Dockerfile")
    return text


def _image(fields: Fields, entries: Entries, reader: Reader) -> ImageSpec:
    base = entries.key("from")
    if "dockerfile" in fields:
        return _built_from_dockerfile(fields, base, reader)
    for name in _DOCKERFILE_ONLY:
        if (key := entries.key(name)) is not None:
            reader.problems.add(key.where, f'"{name}" goes with "dockerfile" only')
    if "layers" in fields or "record" in fields:
        return _built(fields, entries, reader)
    if base is not None:
        reader.problems.add(base.where, '"from" goes with "layers" only')
    if "oci" in fields:
        directory, tag = fields["oci"]
        return LayoutImage(name="", directory=reader.directory / directory, tag=tag)
    return MultiPlatformImage(name="", platforms=tuple(fields["platforms"].items()))


def _built_from_dockerfile(fields: Fields, base: Scalar | None, reader: Reader) -> DockerfileImage:
    if base is not None:
        reader.problems.add(base.where, '"from" goes with "layers" only', "the Dockerfile says FROM")
    dockerfile = reader.directory / fields["dockerfile"]
    return DockerfileImage(
        name="",
        dockerfile=dockerfile,
        context=reader.directory / fields["context"] if "context" in fields else dockerfile.parent,
        run=fields.get("run", {}),
        build_args=fields.get("build_args", {}),
        target=fields.get("target"),
    )


_DOCKERFILE_ONLY = ("context", "run", "build_args", "target")

_ARGUMENT = Name(
    noun="the name of an ARG",
    pattern=r"[A-Za-z_][A-Za-z0-9_]{0,199}",
    allowed="letters, digits and _",
)

IMAGE = Table(
    noun="an image",
    keys={
        **_BUILT_KEYS,
        "oci": Key(
            doc="Real content: DIR[:TAG] of an OCI layout, relative to the scenario file",
            shape=Parsed(noun="DIR[:TAG]", parse=_layout),
        ),
        "dockerfile": Key(
            doc="A Dockerfile, relative to the scenario file, whose FROM names the scenario's images",
            shape=Parsed(noun="a path", parse=_file),
        ),
        "context": Key(
            doc="With dockerfile: the directory that COPY takes files from",
            shape=Parsed(noun="a path", parse=_file),
            default="the Dockerfile's",
        ),
        "run": Key(
            doc="With dockerfile: what each RUN leaves behind, since none is executed",
            shape=RUNS,
            default="none",
        ),
        "build_args": Key(
            doc="With dockerfile: values of ARGs",
            shape=MapOf(
                noun="a mapping of names to values",
                key=_ARGUMENT,
                value=Text("a value"),
                build=lambda _, value: value,
            ),
            default="none",
        ),
        "target": Key(
            doc="With dockerfile: the stage to end with", shape=Text("a stage"), default="the last one"
        ),
        "platforms": Key(
            doc="An index: for each os/architecture[/variant] an image of its own",
            shape=MapOf(
                noun="a mapping of platforms to images",
                key=Parsed(noun="a platform", parse=Platform.parse, pattern="^[^/]+/[^/]+(/[^/]+)?$"),
                value=PLATFORM_IMAGE,
                build=lambda _, image: image,
                minimum=1,
            ),
        ),
    },
    build=_image,
    one_of=("layers", "record", "oci", "dockerfile", "platforms"),
)
