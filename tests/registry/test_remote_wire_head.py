"""Answers' heads and chunks out of octets, however these fall into pieces: no sockets here."""

from __future__ import annotations

import itertools
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regsim.net.head import MAX_HEAD, Head, chunk, request_head, request_length

HEADS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX: a\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nLocation: /x?a=\xc3\xa9\r\n\r\n",
    b"HTTP/1.0 200\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 103 Hints\r\nA: b\r\n\r\nHTTP/1.1 102 x\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
]


def split(raw: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    return [raw[start:end] for start, end in itertools.pairwise(places)]


def feed(head: Head, pieces: list[bytes]) -> bytes | None:
    rest = None
    for piece in pieces:
        if rest is None:
            rest = head.feed(piece)
        else:
            rest += piece
    return rest


@given(
    raw=st.sampled_from(HEADS), body=st.binary(max_size=20), cuts=st.lists(st.integers(0, 300), max_size=9)
)
def test_a_head_is_the_same_however_it_comes(raw: bytes, body: bytes, cuts: list[int]) -> None:
    whole, pieced = Head(b"GET"), Head(b"GET")
    assert whole.feed(raw + body) == body
    assert feed(pieced, split(raw + body, cuts)) == body
    for name in ("status", "reason", "headers", "version", "length", "chunked", "lasting"):
        assert getattr(pieced, name) == getattr(whole, name)


@given(
    pieces=st.lists(st.binary(max_size=30), max_size=8),
    cuts=st.lists(st.integers(0, 500), max_size=12),
    excess=st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n\r\n", b"x"]),
)
def test_chunks_are_the_same_however_they_come(pieces: list[bytes], cuts: list[int], excess: bytes) -> None:
    head = Head(b"GET")
    head.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    raw = b"".join(chunk(piece) for piece in pieces if piece) + chunk(b"")
    body, complete = b"", False
    for piece in [*split(raw, cuts), excess]:
        if complete:
            break
        came, complete = head.unchunk(piece)
        body += b"".join(came)
    assert complete
    assert body == b"".join(pieces)


@given(
    raw=st.sampled_from(HEADS),
    changes=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 300), max_size=4),
)
def test_a_damaged_head_is_read_or_refused_and_nothing_else(
    raw: bytes, changes: list[tuple[int, int]], cuts: list[int]
) -> None:
    damaged = bytearray(raw)
    for place, value in changes:
        damaged[place % len(raw)] = value
    head = Head(b"GET")
    try:
        feed(head, split(bytes(damaged), cuts))
        if head.status:
            assert 100 <= head.status <= 999
            assert head.length is None or head.length >= 0
    except httpx.RemoteProtocolError as error:
        assert str(error)  # noqa: PT017  (it need not be raised)


def test_a_head_may_be_as_large_as_said_and_no_larger() -> None:
    start, end = b"HTTP/1.1 200 OK\r\nX: ", b"\r\n\r\n"
    value = b"y" * (MAX_HEAD - len(start) - len(end))
    assert Head(b"GET").feed(start + value + end) == b""
    with pytest.raises(httpx.RemoteProtocolError, match="more than"):
        Head(b"GET").feed(start + value + b"y" + end)


def asked(
    method: str = "GET", target: bytes = b"/", headers: list[tuple[bytes, bytes]] | None = None
) -> httpx.Request:
    made = httpx.Request(method, "http://x/", headers=headers or [], extensions={"target": target})
    made.headers.pop("host", None)
    return made


@pytest.mark.parametrize(
    "options",
    [
        {"method": "GET /"},
        {"method": ""},
        {"target": b"/ HTTP/1.1\r\nX:"},
        {"target": b""},
        {"target": b"/\xc3\xa9"},
        {"headers": [(b"a:b", b"")]},
        {"headers": [(b"a", b"b\nc: d")]},
        {"headers": [(b"a", b"\x00")]},
    ],
)
def test_a_request_that_would_be_read_as_another_is_not_written(options: dict[str, Any]) -> None:
    with pytest.raises(httpx.LocalProtocolError):
        request_head(asked(**options))


@pytest.mark.parametrize(
    "headers",
    [
        [(b"Content-Length", b"1"), (b"content-length", b"2")],
        [(b"Content-Length", b"1"), (b"Transfer-Encoding", b"chunked")],
        [(b"Transfer-Encoding", b"gzip")],
        [(b"Content-Length", b"+1")],
    ],
)
def test_a_request_says_clearly_how_long_its_body_is(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(httpx.LocalProtocolError):
        request_length(asked(headers=headers))
