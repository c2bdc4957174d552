"""The images of a scenario, ready to be pushed or run: made up, recorded, real, built, or committed.

Owns the way from what a scenario says about images to where their content is read from. Images are built on
the scenario's own, times are zero, and the machine is linux/amd64, so that a build gives the same digests
wherever the scenario runs. Must not know steps or registries.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from regsim.core import Digest, Platform, Role, media_types, parse_config
from regsim.core.config import MAX_CONFIG_SIZE
from regsim.core.holdings import HeldSets
from regsim.core.image import Image
from regsim.core.ledger import Evidence
from regsim.core.manifest import MAX_MANIFEST_SIZE, parse, role_of
from regsim.core.suggest import did_you_mean
from regsim.core.work import Labels
from regsim.errors import ContentError, NotFoundError, RegsimError, UsageError
from regsim.image.builder.builder import base_of, build
from regsim.image.builder.context import Context, read_ignore
from regsim.image.builder.syntax import MAX_DOCKERFILE
from regsim.image.builder.work import Request
from regsim.image.compression import compressor
from regsim.image.opened import OpenImage
from regsim.store.files import file_errors, read_bounded
from regsim.store.layout import LayoutStore
from regsim.store.verify import read_all
from regsim.synth.images import ImageRecipe, ImageSource, IndexRecipe, Instruction
from regsim.synth.recorded import load_record
from regsim.synth.synthetic import LayerForge, default_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from regsim.image.container import Container
    from regsim.scenario.schema import Scenario
    from regsim.scenario.schema_image import ImageSpec, PlatformImage
    from regsim.store.protocols import Fetcher

_MACHINE = Platform("linux", "amd64")


@dataclass(kw_only=True)
class Images:
    """The images of one run: what can be pushed, built on, and run in containers.

    Attributes:
        made: the made-up and recorded images.
        labels: what is known of layers apart from their descriptors.
        specs: what the scenario says of each image.
        others: images in layouts, built ones and committed ones, each with what to ask its place for.
        manifests: by image that is pushed, its manifests without any bytes of layers, for the model.
        scratch: keeps the layers of what is built and committed; None if nothing can be.
        tell: receives a message before slow work.
    """

    made: ImageSource
    labels: Labels
    specs: Mapping[str, ImageSpec] = field(default_factory=dict)
    others: dict[str, tuple[Fetcher, str]] = field(default_factory=dict)
    manifests: dict[str, HeldSets] = field(default_factory=dict)
    scratch: LayoutStore | None = None
    tell: Callable[[str], None] = lambda _: None
    _built: dict[str, OpenImage] = field(default_factory=dict)
    _run: dict[str, OpenImage] = field(default_factory=dict)
    _building: list[str] = field(default_factory=list)

    def store(self, image: str) -> Fetcher:
        """Return where an image's content is read from."""
        return self.others[image][0] if image in self.others else self.made

    def reference(self, image: str) -> str:
        """Return what to ask that place for."""
        return self.others[image][1] if image in self.others else image

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
            built = await build(self._request(self.specs[name]), self._layers())
            self._built[name] = replace(built, name=name)
            self.others[name] = (self._built[name], name)
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
        return await base_of(self.made, spec.name)

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
        committed = await container.commit(self._layers(), compressor("gzip"), message=message)
        image = self._built[name] = replace(committed, name=name)
        self.others[name] = (image, name)
        self.manifests[name] = await _read(image, name, name)
        await _read_history(image, self.manifests[name], self.labels.created_by)
        return image

    def _layers(self) -> LayoutStore:
        if self.scratch is None:
            raise ValueError("an image is to be built or committed, and there is no scratch directory")
        return self.scratch

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


async def open_images(
    scenario: Scenario, *, generate: bool, tell: Callable[[str], None], scratch: Path | None = None
) -> Images:
    """Make ready what a scenario pushes.

    Args:
        scenario: whose images.
        generate: make layers, to learn their digests; otherwise made-up digests stand in for them.
        tell: receives a message before slow work.
        scratch: an empty directory for what is built from Dockerfiles and committed from containers, which
            must outlive the images; only needed where something is.

    Raises:
        UsageError: a layer cannot be made as small as the scenario says, or a Dockerfile is wrong.
        LocalFileError, NotFoundError, ContentError: a layout cannot be read.
    """
    recipes = [recipe for spec in scenario.images.values() for recipe in _recipes(spec, scenario.seed)]
    source = ImageSource(recipes, LayerForge(default_folder()), without_bytes=not generate)
    images = Images(
        made=source,
        labels=Labels(recorded=source.recorded_digests),
        specs=scenario.images,
        scratch=LayoutStore(scratch, create=True) if scratch is not None else None,
        tell=tell,
    )
    # What containers are committed to is made by steps, not here.
    pushed = {step.push.image for step in scenario.steps if step.push is not None} & scenario.images.keys()
    for name in sorted(pushed | _run_in_containers(scenario)):
        spec = scenario.images[name]
        if spec.oci is not None:
            images.others[name] = (LayoutStore(spec.oci.directory), spec.oci.tag or "")
        if spec.dockerfile is not None:
            await images.build(name)
        elif name in pushed:
            tell(f"making {name}" if spec.oci is None and generate else f"reading {name}")
        if name in pushed:
            images.manifests[name] = await _read(images.store(name), images.reference(name), name)
    created_by = await _created_by(source, recipes, pushed)
    for name in sorted(pushed & images.others.keys()):
        await _read_history(images.store(name), images.manifests[name], created_by)
    images.labels = Labels(created_by, source.recorded_digests)
    return images


def _run_in_containers(scenario: Scenario) -> set[str]:
    """Return the images of the file that containers are made from."""
    creates = (step.container.create for step in scenario.steps if step.container is not None)
    return {each.image for each in creates if each is not None} & scenario.images.keys()


def _recipes(spec: ImageSpec, seed: int) -> Iterator[ImageRecipe | IndexRecipe]:
    if spec.platforms is None:
        yield from _recipe(spec, seed, spec.name)
        return
    members = {platform: f"{spec.name} ({platform})" for platform in spec.platforms}
    for platform, image in spec.platforms.items():
        for recipe in _recipe(image, seed, members[platform]):
            yield replace(recipe, platform=platform)
    yield IndexRecipe(key=spec.name, images=tuple(members.values()))


def _recipe(spec: PlatformImage, seed: int, key: str) -> Iterator[ImageRecipe]:
    """Yield the recipe of what is made up or recorded; real content has none."""
    if spec.layers is not None:
        lines = (
            Instruction(
                created_by=layer.created_by or "", recipe=layer.recipe(seed=seed, image=key, index=index)
            )
            for index, layer in enumerate(spec.layers)
        )
        yield ImageRecipe(key=key, instructions=tuple(lines), base=spec.base)
    elif spec.record is not None:
        yield load_record(spec.record).image_recipe(key)


async def _read(store: Fetcher, reference: str, name: str) -> HeldSets:
    """Read all manifests of an image."""
    holdings = HeldSets(present=Evidence.LOCAL)
    root = await (store.find(reference) if isinstance(store, LayoutStore) else store.resolve(reference))
    if root is None:
        raise NotFoundError(f"there is no image {name}")
    pending = [root]
    while pending:
        descriptor = pending.pop()
        if descriptor.digest in holdings.manifests:
            continue
        raw = await read_all(store.content(descriptor), limit=MAX_MANIFEST_SIZE)
        document = parse(descriptor, raw)
        holdings.put_manifest(document, None)
        pending += [
            each.descriptor
            for each in document.successors
            if role_of(each.descriptor.media_type) is not Role.LAYER
        ]
    holdings.tags[reference] = root.digest
    return holdings


async def _read_history(store: Fetcher, image: HeldSets, created_by: dict[Digest, str]) -> None:
    """Add the instructions that the configs of a real image tell, so that every fidelity knows them."""
    for document in image.manifests.values():
        config = document.config
        if config is None or config.media_type not in media_types.CONFIGS:
            continue
        try:
            history = parse_config(await read_all(store.content(config), limit=MAX_CONFIG_SIZE))
        except RegsimError:
            continue  # whether the content itself is at fault shows when it is moved
        for layer, line in zip(document.layers, history.lines(len(document.layers)), strict=True):
            if line.created_by:
                created_by.setdefault(layer.digest, line.created_by)


async def _created_by(
    source: ImageSource, recipes: list[ImageRecipe | IndexRecipe], pushed: set[str]
) -> dict[Digest, str]:
    """Return the instruction of each layer of the images that are pushed."""
    members = {key for recipe in recipes if isinstance(recipe, IndexRecipe) for key in recipe.images}
    labels: dict[Digest, str] = {}
    for recipe in recipes:
        if isinstance(recipe, IndexRecipe) or recipe.key not in pushed | members:
            continue
        lines = [line for line in source.recipe_of(recipe.key).instructions if line.recipe is not None]
        made = await source.image(recipe.key)
        for line, layer in zip(lines, made.layers, strict=True):
            if line.created_by:
                labels.setdefault(layer.descriptor.digest, line.created_by)
    return labels
