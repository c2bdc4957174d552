"""The images of a scenario that are read from layouts, built from Dockerfiles, or committed from containers.

Owns how they are made. Images are built on the scenario's own, times are zero, and the machine is
linux/amd64, so that a build gives the same digests wherever the scenario runs. Must not know steps or
registries.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from regsim.core import Platform
from regsim.core.image import Image
from regsim.core.manifest import MAX_MANIFEST_SIZE, parse
from regsim.core.suggest import did_you_mean
from regsim.errors import ContentError, UsageError
from regsim.image.builder.builder import base_of, build
from regsim.image.builder.context import Context, read_ignore
from regsim.image.builder.syntax import MAX_DOCKERFILE
from regsim.image.builder.work import Request
from regsim.image.compression import compressor
from regsim.image.opened import OpenImage
from regsim.store.files import file_errors, read_bounded
from regsim.store.layout import LayoutStore
from regsim.store.verify import read_all

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from regsim.image.container import Container
    from regsim.scenario.images import Images
    from regsim.scenario.schema_image import ImageSpec

_MACHINE = Platform("linux", "amd64")


@dataclass(kw_only=True)
class RealImages:
    """Reads, builds and commits the images of one run.

    Attributes:
        images: where they are added, and the made-up ones that they are built on.
        specs: what the scenario says of each image.
        scratch: an empty directory for the layers of what is built and committed; None if nothing is.
        tell: receives a message before slow work.
    """

    images: Images
    specs: Mapping[str, ImageSpec]
    scratch: Path | None
    tell: Callable[[str], None]
    _built: dict[str, OpenImage] = field(default_factory=dict)
    _run: dict[str, OpenImage] = field(default_factory=dict)
    _building: list[str] = field(default_factory=list)

    async def prepare(self, spec: ImageSpec) -> None:
        """Find an image in its layout, or build it, so that it can be pushed.

        Raises:
            RegsimError: it cannot be found, read or built.
        """
        if spec.oci is not None:
            self.tell(f"reading {spec.name}")
            layout = LayoutStore(spec.oci.directory)
            self.images.others[spec.name] = (layout, (await layout.find(spec.oci.tag or "")).digest)
        else:
            await self.build(spec.name)

    async def build(self, name: str) -> OpenImage:
        """Build an image from its Dockerfile unless it is built, and return it.

        Raises:
            DockerfileError: its Dockerfile has mistakes; all are reported.
            RegsimError: it cannot be built.
        """
        if name not in self._built:
            if name in self._building:
                around = " from ".join([*self._building, name])
                raise UsageError(f"image {name!r} is built from itself: {around}")
            self._building.append(name)
            self.tell(f"building {name}")
            built = await build(self._request(self.specs[name]), self._layers)
            self._built[name] = replace(built, name=name)
            self.images.others[name] = (self._built[name], name)
            self._building.pop()
        return self._built[name]

    async def open(self, name: str, platform: Platform) -> OpenImage:  # noqa: ARG002  (a name means one image here)
        """Return an image of the scenario as something to build on (`image.builder.work.Bases`).

        Raises:
            UsageError: the scenario has no image of that name, or it is an index.
            RegsimError: it cannot be read or built.
        """
        spec = self.specs.get(name) or self.specs.get(f"{name}:latest")
        if spec is None:
            hint = did_you_mean(name, self.specs)
            raise UsageError(f"the scenario has no image {name!r:.120}", hint=hint)
        if spec.platforms is not None:
            raise UsageError(f"{name!r} is an index", hint="build on one of its images")
        if spec.oci is not None:
            store = LayoutStore(spec.oci.directory)
            root = await store.find(spec.oci.tag or "")
            document = parse(root, await read_all(store.content(root), limit=MAX_MANIFEST_SIZE))
            return await OpenImage.of(Image.of(document), store.content, f"the image in {store.path}")
        if spec.dockerfile is not None:
            return await self.build(spec.name)
        return await base_of(self.images.made, spec.name)

    async def container_image(self, name: str) -> OpenImage:
        """Return an image to make containers from, with its layers read; the same one for all.

        Raises:
            RegsimError: it cannot be read or built.
        """
        if name not in self._run:
            image = self._built.get(name) or await self.open(name, _MACHINE)
            await image.read()
            self._run[name] = image
        return self._run[name]

    async def commit(self, container: Container, name: str, message: str) -> OpenImage:
        """Let an image of the scenario be what a container holds.

        Raises:
            RegsimError: it cannot be written.
        """
        committed = await container.commit(self._layers, compressor("gzip"), message=message)
        image = self._built[name] = replace(committed, name=name)
        self.images.others[name] = (image, name)
        await self.images.read(name)
        await self.images.read_history(name)
        return image

    @cached_property
    def _layers(self) -> LayoutStore:
        if self.scratch is None:
            raise ValueError("an image is to be built or committed, and there is no scratch directory")
        return LayoutStore(self.scratch, create=True)

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
