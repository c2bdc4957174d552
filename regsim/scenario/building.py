"""The images of a scenario that are built: from Dockerfiles before its steps begin, from containers by them.

Owns how such an image follows from what the scenario says: bases are the scenario's own images, times are
zero, and the machine is linux/amd64, so that a build gives the same digests wherever the scenario runs. Must
not know steps or registries.
"""

from __future__ import annotations

from dataclasses import replace
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
    from regsim.scenario.schema_image import ImageSpec
    from regsim.synth.images import ImageSource

_MACHINE = Platform("linux", "amd64")


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
        self._built: dict[str, OpenImage] = {}
        self._committed: dict[str, OpenImage] = {}
        self._open: list[str] = []

    async def image(self, name: str) -> OpenImage:
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
            built = await build(self._request(self._specs[name]), self._store)
            self._built[name] = replace(built, name=name)
            self._open.pop()
        return self._built[name]

    async def open(self, name: str, platform: Platform) -> OpenImage:  # noqa: ARG002  (a name means one image here)
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
            return await _in_layout(LayoutStore(spec.oci.directory), spec.oci.tag or "")
        if spec.dockerfile is not None:
            return await self.image(spec.name)
        return await base_of(self._source, spec.name)

    async def container_image(self, name: str) -> OpenImage:
        """Return an image of the scenario, or one committed before, with its layers read.

        Raises:
            RegsimError: it cannot be read or built.
        """
        image = self._committed.get(name) or await self.open(name, _MACHINE)
        await image.read()
        return image

    async def commit(self, container: Container, name: str, message: str) -> OpenImage:
        """Make an image of what a container holds.

        Raises:
            RegsimError: it cannot be written.
        """
        committed = await container.commit(self._store, compressor("gzip"), message=message)
        self._committed[name] = replace(committed, name=name)
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


async def _in_layout(store: LayoutStore, tag: str) -> OpenImage:
    root = await store.find(tag)
    document = parse(root, await read_all(store.content(root), limit=MAX_MANIFEST_SIZE))
    return await OpenImage.of(Image.of(document), store.content, f"the image in {store.path}")
