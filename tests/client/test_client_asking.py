"""What is asked and tidied from Python: documents, lists, tags and deletions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mock_registry import MockRegistry
from regsim.client.client import Client
from regsim.core import Digest, media_types
from regsim.core.selection import Choice
from regsim.errors import LocalFileError, NotFoundError, RegistryError, UsageError
from regsim.image.compression import compressor
from regsim.image.layer_write import write_layer
from regsim.image.merged import places
from regsim.store.entry import of_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from tests.client.conftest import Make

pytestmark = pytest.mark.anyio

REPOSITORY = "127.0.0.1:5000/shop/api"
REF = f"{REPOSITORY}:v1"


@pytest.fixture(params=["registry", "layout"])
def where(request: pytest.FixtureRequest, place: Path) -> str:
    """An address without tag: of a registry's repository, and of a layout."""
    return REPOSITORY if request.param == "registry" else f"oci:{place}"


async def test_documents_come_byte_for_byte_from_registry_and_layout(
    client: Client, make: Make, place: Path, where: str
) -> None:
    image = await make("v1", b"base")
    await client.push(f"oci:{place}:v1", REF)
    manifest = await client.manifest(f"{where}:v1")
    assert manifest.descriptor.digest == Digest.of(manifest.data) == image.digest
    config = await client.config(f"{where}:v1")
    assert config.descriptor.digest == Digest.of(config.data)
    assert config.descriptor.digest == json.loads(manifest.data)["config"]["digest"]
    assert (await client.resolve(f"{where}:v1")).size == len(manifest.data)


async def test_an_index_is_inspected_image_by_image(
    client: Client, make: Make, place: Path, where: str
) -> None:
    root = await make("v1", b"base", b"own", architectures=("amd64", "arm64"))
    await client.push(f"oci:{place}:v1", REF)
    found = await client.inspect(f"{where}:v1")
    assert found.descriptor.digest == root.digest
    assert [str(each.platform) for each in found.images] == ["linux/amd64", "linux/arm64"]
    assert [each.size for each in found.images] == [
        sum(each.descriptor.size for each in image.layers) + (image.config or root).size
        for image in found.images
    ]
    assert [each.created_by for each in found.images[0].layers] == ["COPY part0 /", "COPY part1 /"]
    assert await client.layers(f"{where}:v1") == found.images


async def test_an_index_of_several_images_has_no_one_config_and_an_index_of_one_has(
    client: Client, make: Make, place: Path
) -> None:
    await make("both", b"base", architectures=("amd64", "arm64"))
    with pytest.raises(UsageError, match="names 2 images") as caught:
        await client.config(f"oci:{place}:both")
    assert "linux/arm64: sha256:" in caught.value.hint
    await make("one", b"base", architectures=("arm64",))
    assert json.loads((await client.config(f"oci:{place}:one")).data)["architecture"] == "arm64"


async def test_a_tag_is_added_listed_and_deleted(client: Client, make: Make, place: Path, where: str) -> None:
    image = await make("v1", b"base")
    await client.push(f"oci:{place}:v1", REF)
    assert (await client.tag(f"{where}:v1", "stable")).digest == image.digest
    assert sorted(await client.tags(where)) == ["stable", "v1"]
    await client.delete(f"{where}:stable")
    assert await client.tags(where) == ("v1",)
    with pytest.raises((NotFoundError, LocalFileError)):
        await client.delete(f"{where}:stable")
    assert (await client.resolve(f"{where}:v1")).digest == image.digest


async def test_a_tag_costs_one_put_and_moves_no_blob(
    client: Client, mock: MockRegistry, make: Make, place: Path
) -> None:
    await make("v1", b"base")
    await client.push(f"oci:{place}:v1", REF)
    before = len(list(mock.journal))
    await client.tag(REF, "v2")
    asked = [(each.method, each.status) for each in list(mock.journal)[before:]]
    assert asked == [("HEAD", 200), ("GET", 200), ("PUT", 201)]


async def test_a_digest_is_deleted_with_all_its_tags(client: Client, make: Make, place: Path) -> None:
    image = await make("v1", b"base")
    await client.push(f"oci:{place}:v1", REF)
    await client.tag(REF, "v2")
    await client.delete(f"{REPOSITORY}@{image.digest}")
    for tag in ("v1", "v2"):
        with pytest.raises(NotFoundError):
            await client.resolve(f"{REPOSITORY}:{tag}")


@pytest.mark.parametrize("status", [400, 405])
async def test_where_a_tag_cannot_be_deleted_the_hint_names_the_digest(
    make: Make, place: Path, status: int
) -> None:
    image = await make("v1", b"base")
    async with (
        MockRegistry(faults=[f"DELETE manifest status {status}"]) as mock,
        Client(transport=mock.transport()) as client,
    ):
        await client.push(f"oci:{place}:v1", REF)
        with pytest.raises(RegistryError, match=str(status)) as caught:
            await client.delete(REF)
        assert f"{REPOSITORY}@{image.digest}" in caught.value.hint
        with pytest.raises(RegistryError, match=str(status)) as caught:
            await client.delete(f"{REPOSITORY}@{image.digest}")
        assert "@" not in caught.value.hint


@pytest.mark.parametrize("address", ["oci:layout:v1", REF, f"{REPOSITORY}@sha256:{'0' * 64}"])
async def test_tags_are_listed_of_a_repository_and_not_of_an_image(client: Client, address: str) -> None:
    with pytest.raises(UsageError, match="tags are listed of"):
        await client.tags(address)


async def test_of_a_layout_only_a_tag_is_deleted(client: Client, make: Make, place: Path) -> None:
    await make("v1", b"base")
    with pytest.raises(UsageError, match="delete takes a tag"):
        await client.delete(f"oci:{place}")
    assert await client.tags(f"oci:{place}") == ("v1",)


async def test_what_is_not_there_is_told_by_its_name(client: Client, make: Make, place: Path) -> None:
    await make("v1", b"base")
    with pytest.raises(NotFoundError, match="shop/api:v1 does not exist"):
        await client.manifest(REF)
    with pytest.raises(LocalFileError, match="holds no image 'v9'"):
        await client.inspect(f"oci:{place}:v9")
    with pytest.raises(NotFoundError, match="NAME_UNKNOWN"):
        await client.tags(REPOSITORY)


async def test_hostile_tags_never_name_a_tag_to_write(client: Client, make: Make, place: Path) -> None:
    await make("v1", b"base")
    with pytest.raises(UsageError, match="not a tag"):
        await client.tag(f"oci:{place}:v1", "../v2")
    assert (await client.resolve(f"oci:{place}:v1")).media_type == media_types.OCI_MANIFEST


def layer(**files: bytes) -> bytes:
    chunks: list[bytes] = []
    entries = [of_bytes(name.encode(), data) for name, data in files.items()]
    write_layer(entries, compressor("none"), chunks.append)
    return b"".join(chunks)


async def test_history_tells_of_each_layer_what_is_in_it_what_travels_and_who_shares_it(
    client: Client, make: Make, place: Path
) -> None:
    base, own = layer(base=b"12345"), layer(own=b"1")
    await make("v1", base)
    await make("v2", base, own)
    found = await client.history(f"oci:{place}:v2")
    (image,) = found.images
    assert [(each.content_size, each.descriptor.size) for each in image.layers] == [
        (5, len(base)),
        (1, len(own)),
    ]
    shared = [found.view.others(image.digest, each.descriptor.digest) for each in image.layers]
    assert (shared, found.view.others(image.digest)) == ([1, 0], 1)
    await client.push(f"oci:{place}:v2", REF)
    (image,) = (await client.history(REF)).images
    assert [each.content_size for each in image.layers] == [None, None]
    found = await client.history(REF, sizes=True)
    assert [each.content_size for each in found.images[0].layers] == [5, 1]
    assert found.view.others(image.digest) == 0


async def test_tree_tells_of_each_file_its_layer_and_of_each_layer_what_is_wasted(
    client: Client, make: Make, place: Path
) -> None:
    await make("v1", layer(a=b"12345", b=b"12"), layer(a=b"1"))
    await client.push(f"oci:{place}:v1", REF)
    for address in (f"oci:{place}:v1", REF):
        found = (await client.tree(address)).merged
        assert [(each.path, each.node.layer, each.size) for each in places(found.tree)] == [
            (b"a", 1, 1),
            (b"b", 0, 2),
        ]
        assert [each.wasted for each in found.layers] == [5, 0]


async def test_of_an_index_the_tree_is_that_of_the_platform_that_was_chosen(
    client: Client, make: Make, place: Path
) -> None:
    await make("v1", layer(a=b"1"), architectures=("amd64", "arm64"))
    with pytest.raises(UsageError, match="names 2 images"):
        await client.tree(f"oci:{place}:v1")
    found = await client.tree(f"oci:{place}:v1", choice=Choice.of("linux/arm64"))
    assert str(found.image.platform) == "linux/arm64"
