"""The images of a scenario that are made up or recorded, and what is known of all images before steps run.

Owns the way from recipes to a source to push from, and the manifests that the model needs. Images that are
read from disk, built, or committed are in `real_images.py`, which is imported only if there are some. Must
not know steps or registries.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from regsim.core import Digest, Role, media_types, parse_config
from regsim.core.config import MAX_CONFIG_SIZE
from regsim.core.holdings import HeldSets
from regsim.core.ledger import Evidence
from regsim.core.manifest import MAX_MANIFEST_SIZE, parse, role_of
from regsim.core.work import Labels
from regsim.errors import NotFoundError, RegsimError
from regsim.store.verify import read_all
from regsim.synth.images import ImageRecipe, ImageSource, IndexRecipe, Instruction
from regsim.synth.recorded import load_record
from regsim.synth.stand_in import StandIns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from regsim.scenario.real_images import RealImages
    from regsim.scenario.schema import Scenario
    from regsim.scenario.schema_image import ImageSpec, PlatformImage
    from regsim.store.protocols import Fetcher


@dataclass(kw_only=True)
class Images:
    """The images of one run: what can be pushed.

    Attributes:
        made: the made-up and recorded images.
        labels: what is known of layers apart from their descriptors.
        others: images in layouts, built ones and committed ones, each with what to ask its place for.
        manifests: by image that is pushed, its manifests without any bytes of layers, for the model.
        real: reads, builds and commits images; None if the scenario needs none of that.
    """

    made: ImageSource
    labels: Labels
    others: dict[str, tuple[Fetcher, str]] = field(default_factory=dict)
    manifests: dict[str, HeldSets] = field(default_factory=dict)
    real: RealImages | None = None

    def store(self, image: str) -> Fetcher:
        """Return where an image's content is read from."""
        return self.others[image][0] if image in self.others else self.made

    def reference(self, image: str) -> str:
        """Return what to ask that place for."""
        return self.others[image][1] if image in self.others else image

    async def read(self, image: str) -> None:
        """Read all manifests of an image.

        Raises:
            RegsimError: it is absent, or cannot be read.
        """
        store, reference = self.store(image), self.reference(image)
        root = await store.resolve(reference)
        if root is None:
            raise NotFoundError(f"there is no image {image}")
        holdings = HeldSets(present=Evidence.LOCAL)
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
        self.manifests[image] = holdings

    async def read_history(self, image: str) -> None:
        """Add the instructions that the configs of a real image tell, so that every fidelity knows them."""
        for document in self.manifests[image].manifests.values():
            config = document.config
            if config is None or config.media_type not in media_types.CONFIGS:
                continue
            try:
                content = self.store(image).content(config)
                history = parse_config(await read_all(content, limit=MAX_CONFIG_SIZE))
            except RegsimError:
                continue  # whether the content itself is at fault shows when it is moved
            for layer, line in zip(document.layers, history.lines(len(document.layers)), strict=True):
                if line.created_by:
                    self.labels.created_by.setdefault(layer.digest, line.created_by)


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
    source = _source(recipes, generate=generate)
    images = Images(made=source, labels=Labels())
    if has_real_content(scenario):
        from regsim.scenario.real_images import RealImages  # noqa: PLC0415  (it needs an event loop)

        images.real = RealImages(images=images, specs=scenario.images, scratch=scratch, tell=tell)
    # What containers are committed to is made by steps, not here.
    pushed = {step.push.image for step in scenario.steps if step.push is not None} & scenario.images.keys()
    for name in sorted(pushed | _run_in_containers(scenario)):
        spec = scenario.images[name]
        if images.real is not None and (spec.oci is not None or spec.dockerfile is not None):
            await images.real.prepare(spec)
        elif name in pushed:
            tell(f"making {name}" if generate else f"reading {name}")
        if name in pushed:
            await images.read(name)
    images.labels = Labels(await _created_by(source, recipes, pushed), source.recorded_digests)
    for name in sorted(pushed & images.others.keys()):
        await images.read_history(name)
    return images


def has_real_content(scenario: Scenario) -> bool:
    """Return whether a scenario has images that are read from disk or built, or containers."""
    return any(
        spec.oci is not None or spec.dockerfile is not None for spec in scenario.images.values()
    ) or any(step.container is not None for step in scenario.steps)


def _source(recipes: list[ImageRecipe | IndexRecipe], *, generate: bool) -> ImageSource:
    if not generate:
        return ImageSource(recipes, StandIns())
    from regsim.synth.synthetic import LayerForge, default_folder  # noqa: PLC0415  (it needs an event loop)

    return ImageSource(recipes, LayerForge(default_folder()))


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
