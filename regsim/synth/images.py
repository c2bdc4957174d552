"""Synthetic images, made from recipes, as a source to push from.

Owns how an image follows from its instructions: config, manifest, and the layers of its base below its own.
Must not know how a layer is made (`synth.synthetic`), nor scenarios.

An image is made when it is first resolved, since that takes its layers' digests.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from regsim.core import Descriptor, Digest, History, ImageConfig, Platform, config_document, media_types
from regsim.core.image import Image
from regsim.core.manifest import index_document, manifest_document, parse
from regsim.errors import UsageError
from regsim.store.memory import AbsentContent, BytesContent, is_document
from regsim.synth.recipe import plan

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from regsim.store.protocols import Content
    from regsim.synth.recipe import LayerInfo, LayerPlan, LayerRecipe

_AMD64 = Platform("linux", "amd64")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One line of an image's history, and the layer that it made unless it changed only metadata.

    Args:
        created_by: what was executed.
        recipe: of the layer; None if it made none.
        created: when, as configs write it (RFC 3339).
        comment: as in the config's history.
        content_size: bytes of all files in the layer, if a record has them.
    """

    created_by: str = ""
    recipe: LayerRecipe | None = None
    created: str | None = None
    comment: str | None = None
    content_size: int | None = None

    @property
    def measured_size(self) -> int | None:
        """Bytes of all files in the layer, or of its tar if only that is known; None if neither is."""
        known = self.recipe.uncompressed_size if self.recipe is not None else None
        return known if self.content_size is None else self.content_size

    @property
    def history(self) -> History:
        """The line as a config has it."""
        return History(
            created_by=self.created_by,
            created=self.created,
            comment=self.comment,
            empty_layer=self.recipe is None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecipe:
    """An image to be made.

    Args:
        key: what it is called here, and what `resolve` takes.
        instructions: its own, in order; those of the base come before them.
        base: key of the image that it is built from.
        platform: what it runs on; None for its base's, or linux/amd64.
    """

    key: str
    instructions: tuple[Instruction, ...]
    base: str | None = None
    platform: Platform | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRecipe:
    """An index over images of several platforms.

    Args:
        key: what it is called here, and what `resolve` takes.
        images: keys of the images, in order.
    """

    key: str
    images: tuple[str, ...]


class Layers(Protocol):
    """What knows the layers of recipes: `synthetic.LayerForge` makes them, `stand_in.StandIns` does not."""

    async def layers(self, plans: Sequence[LayerPlan]) -> list[LayerInfo]:
        """Return what images say about layers."""

    def content(self, recipe: LayerRecipe, descriptor: Descriptor) -> Content:
        """Return a layer as content."""


class ImageSource:
    """A `Fetcher` of synthetic images and indexes.

    Args:
        recipes: images and indexes, in any order.
        layers: knows the layers, and so whether there are bytes of them.

    Raises:
        UsageError: a key is used twice, a base or a member is missing, or an image is built on itself.
    """

    def __init__(self, recipes: Iterable[ImageRecipe | IndexRecipe], layers: Layers) -> None:
        self._images: dict[str, ImageRecipe] = {}
        self._indexes: dict[str, IndexRecipe] = {}
        for recipe in recipes:
            if recipe.key in self._images or recipe.key in self._indexes:
                raise UsageError(f"there are two images called {recipe.key!r}")
            if isinstance(recipe, IndexRecipe):
                self._indexes[recipe.key] = recipe
            else:
                self._images[recipe.key] = recipe
        self._layers = layers
        self._made: dict[str, Image] = {}
        self._documents: dict[Digest, BytesContent] = {}
        self._recipes: dict[Digest, LayerRecipe] = {}
        sound: set[str] = set()
        for key in self._images:
            # Each image is visited once, so that a long chain of bases takes linear time.
            sound.update(self._chain(key, sound))
        for index in self._indexes.values():
            missing = [key for key in index.images if key not in self._images]
            if missing:
                raise UsageError(f"index {index.key!r} lists {missing[0]!r}, which is not an image")

    @property
    def recorded_digests(self) -> Mapping[Digest, Digest]:
        """For each layer made so far that stands for a real one: its digest, and the real one's."""
        return {
            digest: recipe.recorded for digest, recipe in self._recipes.items() if recipe.recorded is not None
        }

    def recipe_of(self, key: str) -> ImageRecipe:
        """Return an image's recipe with its base resolved: all instructions, base first, and a platform.

        Raises:
            UsageError: there is no such image, its base is missing, or it is built on itself.
        """
        chain = self._chain(key).values()
        instructions = tuple(line for each in reversed(chain) for line in each.instructions)
        platform = next((each.platform for each in chain if each.platform is not None), _AMD64)
        return ImageRecipe(key=key, instructions=instructions, platform=platform)

    def _chain(self, key: str, sound: Container[str] = ()) -> dict[str, ImageRecipe]:
        """Return an image and its bases, nearest first, down to one that is known to be sound."""
        chain: dict[str, ImageRecipe] = {}
        wanted: str | None = key
        while wanted is not None and wanted not in sound:
            if wanted not in self._images:
                raise UsageError(f"image {key!r} is built on {wanted!r}, which does not exist")
            if wanted in chain:
                raise UsageError(f"image {key!r} is built on itself")
            chain[wanted] = self._images[wanted]
            wanted = chain[wanted].base
        return chain

    async def image(self, key: str) -> Image:
        """Make an image unless it is made, and return it.

        Raises:
            UsageError: there is no such image, or a layer's recipe cannot be met.
        """
        if key not in self._made:
            self._made[key] = await self._make(self.recipe_of(key))
        return self._made[key]

    async def resolve(self, reference: str) -> Descriptor | None:
        """Return the manifest of an image or index by its key, or by the digest of one that is made.

        Raises:
            UsageError: a layer's recipe cannot be met.
        """
        if reference in self._images:
            return (await self.image(reference)).manifest
        if reference in self._indexes:
            return await self._make_index(self._indexes[reference])
        found = (each.descriptor for each in self._documents.values() if each.descriptor.digest == reference)
        return next(filter(is_document, found), None)

    def content(self, descriptor: Descriptor) -> Content:
        """Return what `descriptor` names; absence shows when it is opened (`NotFoundError`)."""
        if descriptor.digest in self._documents:
            return self._documents[descriptor.digest]
        recipe = self._recipes.get(descriptor.digest)
        if recipe is None:
            return AbsentContent(descriptor, "the scenario's images", "resolve the image before its content")
        return self._layers.content(recipe, descriptor)

    async def _make(self, recipe: ImageRecipe) -> Image:
        recipes = [line.recipe for line in recipe.instructions if line.recipe is not None]
        layers = await self._layers.layers([plan(each) for each in recipes])
        self._recipes.update(zip((each.descriptor.digest for each in layers), recipes, strict=True))
        config = ImageConfig(
            platform=recipe.platform or _AMD64,
            history=tuple(line.history for line in recipe.instructions),
            diff_ids=tuple(each.diff_id for each in layers),
        )
        described = self._keep(config_document(config), media_types.OCI_CONFIG)
        raw = manifest_document(described, [each.descriptor for each in layers])
        return Image.of(parse(self._keep(raw, media_types.OCI_MANIFEST), raw), config)

    async def _make_index(self, index: IndexRecipe) -> Descriptor:
        manifests = []
        for key in index.images:
            made = await self.image(key)
            manifests.append(replace(made.manifest, platform=self.recipe_of(key).platform))
        return self._keep(index_document(manifests), media_types.OCI_INDEX)

    def _keep(self, raw: bytes, media_type: str) -> Descriptor:
        descriptor = Descriptor.of(raw, media_type)
        self._documents[descriptor.digest] = BytesContent(descriptor, raw)
        return descriptor
