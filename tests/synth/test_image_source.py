from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from regsim.core import Descriptor, Digest, Document, Platform, media_types, parse_config
from regsim.core.manifest import parse
from regsim.errors import NotFoundError, UsageError
from regsim.store.protocols import Unmade
from regsim.store.verify import read_all
from regsim.synth.images import ImageRecipe, ImageSource, IndexRecipe, Instruction
from regsim.synth.recipe import LayerRecipe, layer_key
from regsim.synth.recorded import load_record
from regsim.synth.stand_in import StandIns
from regsim.synth.synthetic import LayerForge

if TYPE_CHECKING:
    from regsim.store.protocols import Content
    from regsim.synth.images import Layers

pytestmark = pytest.mark.anyio

ARM64 = Platform("linux", "arm64", "v8")


def layer(image: str, index: int, size: int = 3000, created_by: str = "") -> Instruction:
    recipe = LayerRecipe(key=layer_key(7, image, index), size=size)
    return Instruction(created_by=created_by, recipe=recipe)


def image(key: str, *instructions: Instruction, **more: Any) -> ImageRecipe:
    return ImageRecipe(key=key, instructions=instructions, **more)


FAMILY = (
    image(
        "base",
        layer("base", 0, created_by="ADD rootfs /"),
        Instruction(created_by="ENV A=b"),
        layer("base", 1),
    ),
    image("api:v1", layer("api:v1", 0, created_by="COPY . ."), base="base"),
    image("api:v2", layer("api:v2", 0, created_by="COPY . ."), base="base"),
)


async def document(source: ImageSource, reference: str) -> Document:
    descriptor = await source.resolve(reference)
    assert descriptor is not None
    return parse(descriptor, await read_all(source.content(descriptor), limit=100_000))


async def bytes_of(content: Content) -> bytes:
    return await read_all(content, limit=10_000_000)


async def test_image_is_a_manifest_over_a_config_and_layers_that_can_all_be_read() -> None:
    source = ImageSource(FAMILY, LayerForge())
    found = await document(source, "api:v1")
    assert found.descriptor.media_type == media_types.OCI_MANIFEST
    for each in found.successors:
        assert len(await bytes_of(source.content(each.descriptor))) == each.descriptor.size


async def test_config_tells_history_platform_and_diff_ids() -> None:
    source = ImageSource(FAMILY, LayerForge())
    found = await document(source, "api:v1")
    assert found.config is not None
    config = parse_config(await bytes_of(source.content(found.config)))
    made = await source.image("api:v1")
    assert config.platform == Platform("linux", "amd64")
    assert config.diff_ids == tuple(each.diff_id for each in made.layers)
    assert [line.created_by for line in config.lines(3)] == ["ADD rootfs /", "", "COPY . ."]
    assert [line.empty_layer for line in config.history] == [False, True, False, False]


async def test_images_share_exactly_the_layers_of_their_base() -> None:
    source = ImageSource(FAMILY, LayerForge())
    base, first, second = [
        {each.digest for each in (await document(source, key)).layers} for key in ("base", "api:v1", "api:v2")
    ]
    assert first & second == base
    assert len(first) == len(second) == len(base) + 1


async def test_same_recipes_give_the_same_manifests_every_time() -> None:
    first, second = ImageSource(FAMILY, LayerForge()), ImageSource(reversed(FAMILY), LayerForge())
    assert await first.resolve("api:v2") == await second.resolve("api:v2")


async def test_manifest_resolves_by_digest_once_made_and_nothing_else_does() -> None:
    source = ImageSource(FAMILY, LayerForge())
    made = await source.image("base")
    assert await source.resolve(made.manifest.digest) == made.manifest
    assert await source.resolve(made.id) is None
    assert await source.resolve("unknown") is None


async def test_unknown_content_shows_when_it_is_opened() -> None:
    source = ImageSource(FAMILY, LayerForge())
    absent = Descriptor.of(b"absent", media_types.OCI_LAYER_GZIP)
    with pytest.raises(NotFoundError, match="does not hold"):
        await bytes_of(source.content(absent))


async def test_index_lists_images_with_their_platforms() -> None:
    source = ImageSource(
        [
            *FAMILY,
            image("arm", layer("arm", 0), platform=ARM64),
            IndexRecipe(key="all", images=("base", "arm")),
        ],
        StandIns(),
    )
    found = await document(source, "all")
    assert found.descriptor.media_type == media_types.OCI_INDEX
    children = [each.descriptor for each in found.successors]
    assert [child.platform for child in children] == [Platform("linux", "amd64"), ARM64]
    assert [child.digest for child in children] == [
        (await source.image(key)).manifest.digest for key in ("base", "arm")
    ]
    assert await source.resolve(found.descriptor.digest) == found.descriptor


async def test_platform_comes_from_the_base_unless_said() -> None:
    source = ImageSource(
        [
            image("base", platform=ARM64),
            image("a", base="base"),
            image("b", base="base", platform=Platform("linux", "s390x")),
        ],
        StandIns(),
    )
    assert source.recipe_of("a").platform == ARM64
    assert source.recipe_of("b").platform == Platform("linux", "s390x")


async def test_without_bytes_all_sizes_are_those_of_the_real_images() -> None:
    recipes = [*FAMILY, load_record("redis-7.4.2-bookworm-amd64").image_recipe("redis")]
    light = ImageSource(recipes, StandIns())
    real = ImageSource(recipes, LayerForge())
    for key in ("base", "api:v2"):
        found, other = await document(real, key), await document(light, key)
        assert found.descriptor.size == other.descriptor.size
        assert found.descriptor.digest != other.descriptor.digest
        assert [each.descriptor.size for each in found.successors] == [
            each.descriptor.size for each in other.successors
        ]
    made = await light.image("redis")
    assert sum(each.descriptor.size for each in made.layers) == 45_000_460


async def test_without_bytes_layers_cannot_be_opened_but_documents_can() -> None:
    source = ImageSource(FAMILY, StandIns())
    made = await source.image("base")
    assert made.config is not None
    assert json.loads(await bytes_of(source.content(made.config)))["os"] == "linux"
    with pytest.raises(NotFoundError):
        await bytes_of(source.content(made.layers[0].descriptor))


async def test_without_bytes_a_layer_can_be_made_and_has_its_real_digest_then() -> None:
    source = ImageSource(FAMILY, StandIns())
    made = await source.image("base")
    unmade = source.content(made.layers[0].descriptor)
    assert isinstance(unmade, Unmade)
    content = await unmade.made()
    assert content.descriptor == (await ImageSource(FAMILY, LayerForge()).image("base")).layers[0].descriptor
    assert Descriptor.of(await bytes_of(content), content.descriptor.media_type) == content.descriptor


@pytest.mark.parametrize("layers", [LayerForge(), StandIns()])
async def test_recorded_digests_are_told_for_layers_that_stand_for_real_ones(layers: Layers) -> None:
    real = Digest.of(b"a real layer")
    recorded = LayerRecipe(key=f"recorded {real}", size=5000, recorded=real)
    source = ImageSource([image("mixed", Instruction(recipe=recorded), layer("mixed", 1))], layers)
    made = await source.image("mixed")
    assert source.recorded_digests == {made.layers[0].descriptor.digest: real}


async def test_layer_named_twice_is_listed_twice_with_one_digest() -> None:
    source = ImageSource([image("twice", layer("x", 0), layer("x", 0))], LayerForge())
    found = await document(source, "twice")
    assert len(found.layers) == 2
    assert len({each.digest for each in found.layers}) == 1


async def test_image_without_layers_can_be_made() -> None:
    assert (await document(ImageSource([image("scratch")], LayerForge()), "scratch")).layers == ()


async def test_layer_too_small_is_one_plain_error() -> None:
    source = ImageSource([image("tiny", layer("tiny", 0, size=3), layer("tiny", 1, size=4))], LayerForge())
    with pytest.raises(UsageError, match="3 bytes is too small"):
        await source.resolve("tiny")


@pytest.mark.parametrize(
    ("recipes", "message"),
    [
        ([image("a"), image("a")], "two images called 'a'"),
        ([image("a"), IndexRecipe(key="a", images=())], "two images called 'a'"),
        ([image("a", base="b")], "built on 'b', which does not exist"),
        ([image("a", base="a")], "'a' is built on itself"),
        ([image("a", base="b"), image("b", base="a")], "built on itself"),
        ([image("a"), IndexRecipe(key="i", images=("a", "b"))], "lists 'b'"),
    ],
)
def test_recipes_that_contradict_each_other_are_refused(
    recipes: list[ImageRecipe | IndexRecipe], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        ImageSource(recipes, LayerForge())
