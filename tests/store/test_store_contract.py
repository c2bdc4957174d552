"""What every store promises, run over each of them."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from regsim.core import Descriptor, Digest, media_types
from regsim.errors import ContentError, LocalFileError, NotFoundError
from regsim.store.archive_writer import ArchiveWriter, DockerArchiveWriter
from regsim.store.layout import LayoutStore
from regsim.store.memory import BytesContent
from regsim.store.node import ChainDigestStore, DigestStore, MemoryStore
from regsim.store.relay import finished, hand
from regsim.store.verify import read_all, verified

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from pathlib import Path

    from regsim.store.protocols import Content, Store, Taker

pytestmark = pytest.mark.anyio

STORES: dict[str, Callable[[Path], Store]] = {
    "memory": lambda _: MemoryStore(),
    "layout": lambda path: LayoutStore(path / "layout", create=True),
    "digests": lambda _: DigestStore(),
    "digests in chains": lambda _: ChainDigestStore(),
    "OCI archive being written": lambda path: ArchiveWriter(path / "image.tar"),
    "docker archive being written": lambda path: DockerArchiveWriter(path / "image.tar"),
}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made = STORES[request.param](tmp_path)
    yield made
    if isinstance(made, ArchiveWriter):
        made.close()
        assert list(tmp_path.iterdir()) == [], "an archive that is not committed leaves nothing"


@dataclass
class Lying:
    """Content whose bytes need not be what its descriptor says."""

    descriptor: Descriptor
    chunks: list[bytes]

    async def open(self) -> AsyncGenerator[bytes, None]:
        for chunk in self.chunks:
            yield chunk


@dataclass
class LyingPoured(Lying):
    """The same, handed over in a thread."""

    async def pour(self, *takers: Taker, offset: int = 0) -> None:  # noqa: ARG002 (never resumed)
        def work() -> None:
            for chunk in self.chunks:
                hand(memoryview(chunk), takers)

        await finished(asyncio.get_running_loop().run_in_executor(None, work))


WAYS = pytest.mark.parametrize("way", [Lying, LyingPoured])


def layer(data: bytes) -> BytesContent:
    return BytesContent(Descriptor.of(data, media_types.OCI_LAYER_GZIP), data)


def manifest(name: str = "a") -> BytesContent:
    empty = Descriptor.of(b"{}", media_types.OCI_CONFIG).to_json()
    raw = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": empty,
            "layers": [],
            "annotations": {"name": name},
        }
    ).encode()
    return BytesContent(Descriptor.of(raw, media_types.OCI_MANIFEST), raw)


async def everything(content: Content) -> bytes:
    async with aclosing(verified(content)) as stream:
        return b"".join([chunk async for chunk in stream])


async def test_what_was_put_is_there_and_before_it_is_not(store: Store) -> None:
    content = layer(b"some layer")
    assert not await store.has(content.descriptor)
    await store.put(content)
    assert await store.has(content.descriptor)


async def test_manifest_comes_back_byte_for_byte(store: Store) -> None:
    content = manifest()
    await store.put(content)
    assert await read_all(store.content(content.descriptor), limit=10_000) == content.data


async def test_content_opens_again_from_the_first_byte(store: Store) -> None:
    await store.put(manifest())
    content = store.content(manifest().descriptor)
    assert await everything(content) == await everything(content) == manifest().data


@WAYS
async def test_content_in_pieces_is_stored_whole(store: Store, way: type[Lying]) -> None:
    content = manifest()
    await store.put(way(content.descriptor, [content.data[:7], content.data[7:9], content.data[9:]]))
    assert await everything(store.content(content.descriptor)) == content.data


async def test_second_put_of_the_same_content_is_harmless(store: Store) -> None:
    for _ in range(2):
        await store.put(manifest())
    assert await store.has(manifest().descriptor)


async def test_same_digest_with_another_size_is_absent(store: Store) -> None:
    content = layer(b"some layer")
    await store.put(content)
    assert not await store.has(replace(content.descriptor, size=3))


async def test_empty_content_can_be_put(store: Store) -> None:
    await store.put(layer(b""))
    assert await store.has(layer(b"").descriptor)


async def test_sha512_content_can_be_put(store: Store) -> None:
    data = b"some layer"
    descriptor = replace(layer(data).descriptor, digest=Digest.of(data, "sha512"))
    await store.put(BytesContent(descriptor, data))
    assert await store.has(descriptor)


@pytest.mark.parametrize(
    "chunks",
    [[b"some laye"], [b"some layer!"], [b"some ", b"later"], [], [b"some layer", b"x" * 100_000]],
    ids=["short", "long", "other bytes", "nothing", "much longer"],
)
@WAYS
async def test_bad_content_is_refused_and_absent(store: Store, chunks: list[bytes], way: type[Lying]) -> None:
    descriptor = layer(b"some layer").descriptor
    with pytest.raises(ContentError, match=descriptor.digest) as caught:
        await store.put(way(descriptor, chunks))
    assert caught.value.hint
    assert not await store.has(descriptor)


async def test_bad_manifest_cannot_be_resolved(store: Store) -> None:
    descriptor = manifest().descriptor
    with pytest.raises(ContentError):
        await store.put(Lying(descriptor, [b"{}"]))
    assert await store.resolve(descriptor.digest) is None


async def test_content_that_fails_while_it_is_read_is_absent(store: Store) -> None:
    class Failing(Lying):
        async def open(self) -> AsyncGenerator[bytes, None]:
            yield b"some "
            raise NotFoundError("gone")

    descriptor = layer(b"some layer").descriptor
    with pytest.raises(NotFoundError):
        await store.put(Failing(descriptor, []))
    assert not await store.has(descriptor)


async def test_manifest_resolves_by_tag_and_by_digest(store: Store) -> None:
    content = manifest()
    assert await store.resolve("v1") is None
    assert await store.resolve(content.descriptor.digest) is None
    await store.put(content)
    await store.tag(content.descriptor, "v1")
    assert await store.resolve("v1") == content.descriptor
    assert await store.resolve(content.descriptor.digest) == content.descriptor


async def test_manifest_without_a_tag_resolves_by_digest(store: Store) -> None:
    await store.put(manifest())
    assert await store.resolve(manifest().descriptor.digest) == manifest().descriptor


async def test_tagging_by_the_digest_itself_adds_no_tag(store: Store) -> None:
    content = manifest()
    await store.put(content)
    for _ in range(2):
        await store.tag(content.descriptor, content.descriptor.digest)
    assert await store.resolve(content.descriptor.digest) == content.descriptor


async def test_tag_moves_to_another_manifest(store: Store) -> None:
    for name in "ab":
        await store.put(manifest(name))
        await store.tag(manifest(name).descriptor, "latest")
    assert await store.resolve("latest") == manifest("b").descriptor
    assert await store.resolve(manifest("a").descriptor.digest) == manifest("a").descriptor


async def test_manifest_has_several_tags(store: Store) -> None:
    await store.put(manifest())
    for tag in ("a", "b"):
        await store.tag(manifest().descriptor, tag)
    assert await store.resolve("a") == await store.resolve("b") == manifest().descriptor


async def test_annotations_of_the_tagged_descriptor_are_not_answered(store: Store) -> None:
    content = manifest()
    await store.put(content)
    await store.tag(replace(content.descriptor, annotations={"a": "b"}), "v1")
    assert await store.resolve("v1") == content.descriptor


async def test_absent_manifest_cannot_be_tagged(store: Store) -> None:
    with pytest.raises((NotFoundError, LocalFileError), match="does not hold"):
        await store.tag(manifest().descriptor, "v1")
    assert await store.resolve("v1") is None


async def test_absent_content_shows_when_it_is_opened(store: Store) -> None:
    content = store.content(layer(b"some layer").descriptor)
    with pytest.raises((NotFoundError, LocalFileError)):
        await everything(content)


async def test_layer_is_not_resolved(store: Store) -> None:
    await store.put(layer(b"some layer"))
    assert await store.resolve(layer(b"some layer").descriptor.digest) is None
