from __future__ import annotations

import itertools
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regsim.core import Descriptor, media_types
from regsim.errors import ContentError, NotFoundError
from regsim.store.memory import AbsentContent, BytesContent
from regsim.store.verify import Verifier, read_all, verified

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.anyio


class Stream:
    """Chunks, and whether the stream was closed and how far it was read."""

    def __init__(self, chunks: list[bytes], descriptor: Descriptor) -> None:
        self.descriptor = descriptor
        self.chunks = chunks
        self.given = 0
        self.closed = False

    async def open(self) -> AsyncGenerator[bytes, None]:
        try:
            for chunk in self.chunks:
                self.given += 1
                yield chunk
        finally:
            self.closed = True


def descriptor_of(data: bytes) -> Descriptor:
    return Descriptor.of(data, media_types.OCI_LAYER_GZIP)


async def received(stream: Stream) -> tuple[list[bytes], ContentError | None]:
    chunks = []
    try:
        async with aclosing(verified(stream)) as checked:
            async for chunk in checked:
                chunks.append(chunk)  # noqa: PERF401  (what came before the error matters)
    except ContentError as error:
        return chunks, error
    return chunks, None


async def test_good_bytes_pass_unchanged() -> None:
    stream = Stream([b"some ", b"", b"layer", b""], descriptor_of(b"some layer"))
    chunks, error = await received(stream)
    assert (chunks, error) == ([b"some ", b"layer"], None)
    assert stream.closed


async def test_last_chunk_is_held_back_when_the_hash_is_wrong() -> None:
    chunks, error = await received(Stream([b"some ", b"laser"], descriptor_of(b"some layer")))
    assert chunks == [b"some "]
    assert error is not None
    assert descriptor_of(b"some layer").digest in error.message
    assert descriptor_of(b"some laser").digest in error.message
    assert error.hint


async def test_last_chunk_is_held_back_when_bytes_are_missing() -> None:
    chunks, error = await received(Stream([b"some ", b"laye"], descriptor_of(b"some layer")))
    assert chunks == [b"some "]
    assert error is not None
    assert "has 9 bytes, its descriptor says 10" in error.message


async def test_reading_stops_at_the_first_byte_beyond_the_size() -> None:
    stream = Stream([b"some layer", b"!", b"never read"], descriptor_of(b"some layer"))
    chunks, error = await received(stream)
    assert chunks == []
    assert error is not None
    assert "at least 11 bytes, its descriptor says 10" in error.message
    assert (stream.given, stream.closed) == (2, True)


async def test_stream_is_closed_when_its_reader_stops_early() -> None:
    stream = Stream([b"a", b"b", b"c"], descriptor_of(b"abc"))
    async with aclosing(verified(stream)) as checked:
        assert await anext(checked) == b"a"
    assert stream.closed


async def test_whole_document_is_read() -> None:
    data = b"{}" * 1_000_000
    assert await read_all(BytesContent(descriptor_of(data), data), limit=len(data)) == data


async def test_document_beyond_the_limit_is_refused_unread() -> None:
    absent = AbsentContent(descriptor_of(b"some layer"), "nobody")
    with pytest.raises(ContentError, match="at most 9 are read"):
        await read_all(absent, limit=9)
    with pytest.raises(NotFoundError, match="nobody does not hold"):
        await read_all(absent, limit=10)


@given(st.binary(max_size=40), st.binary(max_size=40), st.lists(st.integers(0, 40)))
def test_nothing_but_the_very_bytes_finishes(wanted: bytes, found: bytes, cuts: list[int]) -> None:
    verifier = Verifier(descriptor_of(wanted))
    bounds = sorted({0, len(found), *(min(cut, len(found)) for cut in cuts)})
    try:
        for start, end in itertools.pairwise(bounds):
            verifier.update(found[start:end])
        verifier.finish()
    except ContentError:
        assert wanted != found
    else:
        assert wanted == found
