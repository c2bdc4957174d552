"""The images of a scenario that are built: from Dockerfiles before its steps begin, from containers by them.

Owns how such an image follows from what the scenario says: bases are the scenario's own images, times are
zero, and the machine is linux/amd64, so that a build gives the same digests wherever the scenario runs. Must
not know steps or registries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regsim.core import Digest, Platform, media_types
from regsim.core.config import MAX_CONFIG_SIZE
from regsim.core.manifest import MAX_MANIFEST_SIZE, parse
from regsim.errors import ContentError, UsageError
from regsim.image.builder.bases import Base, BaseLayer
from regsim.image.builder.builder import Request, build
from regsim.image.builder.config import Config
from regsim.image.builder.made_up import base_of
from regsim.image.compress import compressor
from regsim.image.container_image import ContainerImage
from regsim.image.context.context import Context, read_ignore
from regsim.image.dockerfile.syntax import MAX_DOCKERFILE
from regsim.scenario.suggest import did_you_mean
from regsim.store.files import file_errors, read_bounded
from regsim.store.layout import LayoutStore
from regsim.store.memory import AbsentContent
from regsim.store.verify import read_all

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from regsim.core import Descriptor
    from regsim.image.builder.builder import Built
    from regsim.image.container import Container
    from regsim.scenario.schema_image import ImageSpec
    from regsim.store.protocols import Content
    from regsim.synth.images import ImageSource

_MACHINE = Platform("linux", "amd64")


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """A `Fetcher` of one image that was built."""

    name: str
    built: Built

    async def resolve(self, reference: str) -> Descriptor | None:
        """Return the image's manifest, under its name or digest."""
        manifest = self.built.manifest.descriptor
        return manifest if reference in (self.name, manifest.digest) else None

    def content(self, descriptor: Descriptor) -> Content:
        """Return what `descriptor` names; absence shows when it is opened (`NotFoundError`)."""
        for document in (self.built.manifest, self.built.config):
            if document.descriptor.digest == descriptor.digest:
                return document
        for layer in self.built.layers:
            if layer.descriptor.digest == descriptor.digest:
                return layer.content()
        return AbsentContent(descriptor, f"image {self.name}")


class Builder:
    """Builds a scenario's images, each once and after those that it is built on.

    Args:
        specs: all images of the scenario.
        source: the made-up and recorded ones among them.
        scratch: an empty directory for the layers, of commits too.
        tell: is told what takes a while.
    """

    def __init__(
        self,
        specs: Mapping[str, ImageSpec],
        source: ImageSource,
        scratch: Path,
        tell: Callable[[str], None],
    ) -> None:
        self._specs = specs
        self._source = source
        self._store = LayoutStore(scratch, create=True)
        self._tell = tell
        self._built: dict[str, BuiltImage] = {}
        self._committed: dict[str, BuiltImage] = {}
        self._open: list[str] = []

    async def image(self, name: str) -> BuiltImage:
        """Build an image unless it is built, and return it.

        Raises:
            DockerfileError: its Dockerfile has mistakes; all are told.
            RegsimError: it cannot be built.
        """
        if name not in self._built:
            if name in self._open:
                raise UsageError(f"image {name!r} is built from itself: {' from '.join([*self._open, name])}")
            self._open.append(name)
            self._tell(f"building {name}")
            self._built[name] = BuiltImage(name, await build(self._request(self._specs[name]), self._store))
            self._open.pop()
        return self._built[name]

    async def open(self, name: str, platform: Platform) -> Base:  # noqa: ARG002  (a name means one image here)
        """Return an image of the scenario as something to build on (`image.build.bases.Bases`).

        Raises:
            UsageError: the scenario has none of that name, or it is an index.
            RegsimError: it cannot be read or built.
        """
        spec = self._specs.get(name) or self._specs.get(f"{name}:latest")
        if spec is None:
            hint = did_you_mean(name, self._specs)
            raise UsageError(f"the scenario has no image {name!r:.120}", hint=hint)
        if spec.platforms is not None:
            raise UsageError(f"{name!r} is an index", hint="build on one of its images")
        if spec.oci is not None:
            return await _layout_base(LayoutStore(spec.oci.directory), spec.oci.tag or "")
        if spec.dockerfile is not None:
            return _built_base((await self.image(spec.name)).built)
        return await base_of(self._source, spec.name)

    async def container_image(self, name: str) -> ContainerImage:
        """Return an image of the scenario, or one committed before, to make containers from.

        Raises:
            RegsimError: it cannot be read or built.
        """
        spec = self._specs.get(name)
        if name in self._committed or (spec is not None and spec.dockerfile is not None):
            built = self._committed.get(name) or await self.image(name)
            return await ContainerImage.of(built.built, name)
        return await ContainerImage.open(await self.open(name, _MACHINE), name)

    async def commit(self, container: Container, name: str, message: str) -> BuiltImage:
        """Make an image of what a container holds.

        Raises:
            RegsimError: it cannot be written.
        """
        built = await container.commit(self._store, compressor("gzip"), message=message)
        self._committed[name] = BuiltImage(name, built)
        return self._committed[name]

    def _request(self, spec: ImageSpec) -> Request:
        path = spec.dockerfile
        if path is None:
            raise ValueError(f"image {spec.name!r} has no Dockerfile")
        with file_errors(path, "read"):
            raw = read_bounded(path, MAX_DOCKERFILE)
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ContentError(f"{path} is not text", hint="a Dockerfile is UTF-8") from error
        context = spec.context or path.parent
        return Request(
            text=text,
            name=str(path),
            context=Context(context, read_ignore(context, path)),
            bases=self,
            compressor=compressor("gzip"),
            host=_MACHINE,
            effects={command: left.effect() for command, left in spec.run.items()},
            arguments=spec.build_args,
            target=spec.target,
        )


def _built_base(built: Built) -> Base:
    layers = (
        BaseLayer(descriptor=each.descriptor, diff_id=each.diff_id, content=each.content)
        for each in built.layers
    )
    return Base(config=built.config.data, layers=tuple(layers))


async def _layout_base(store: LayoutStore, tag: str) -> Base:
    root = await store.find(tag)
    document = parse(root, await read_all(store.content(root), limit=MAX_MANIFEST_SIZE))
    if document.config is None or document.config.media_type not in media_types.CONFIGS:
        raise UsageError(f"{store.path} holds no image to build on", hint="name one that is no index")
    raw = await read_all(store.content(document.config), limit=MAX_CONFIG_SIZE)
    diff_ids = Config.of(raw).diff_ids
    if len(diff_ids) != len(document.layers):
        raise UsageError(
            f"the image in {store.path} has {len(document.layers)} layers, its config {len(diff_ids)}"
        )
    layers = (
        BaseLayer(descriptor=layer, diff_id=Digest(diff_id), content=_content(store, layer))
        for layer, diff_id in zip(document.layers, diff_ids, strict=True)
    )
    return Base(config=raw, layers=tuple(layers))


def _content(store: LayoutStore, layer: Descriptor) -> Callable[[], Content]:
    return lambda: store.content(layer)
