"""Raw requests, valid and hostile, thrown at the registry's own server: all that is whole is answered."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
from collections import Counter, deque
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from mock_registry import handlers
from mock_registry.exchange import Severed
from mock_registry.faults.profiles import NAMES as PROFILES
from mock_registry.handlers.discovery import get_tags
from mock_registry.journal import Journal, Route
from mock_registry.server import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mock_registry.exchange import Exchange, Response
    from mock_registry.journal import Record
    from mock_registry.service import Handler, Service
    from tests.mock_registry.conftest import OpenWirePeer, WirePeer

pytestmark = pytest.mark.anyio

DEADLINE = 60.0
"""Seconds for a round of conversations that takes some milliseconds: beyond it, something hangs."""

ROUND = 10
ORDERLY = 0.3
"""Of all rounds, those in which the journal must agree to the octet."""

MANIFEST_LIMIT = 100_000

NAMES = [b"a", b"b/c", b"blobs/uploads", b"d" * 255]
BAD_NAMES = [b"A", b"..", b"a//b", b"%2e%2e", b"a%2fb", b"a%00", b"", b"x" * 256, b"\xc3\xa9", b"%", b"%zz"]
TAGS = [b"1", b"latest", b"_", b"t" * 128, b"t" * 129, b"-bad", b"a%20b", b"%31"]
DIGESTS = [
    b"sha256:" + b"0" * 64,
    b"sha512:" + b"f" * 128,
    b"sha256:" + b"A" * 64,
    b"sha256:0",
    b"sha256%3A" + b"1" * 64,
    b"md5:" + b"0" * 32,
    b":",
]
METHODS = [b"GET", b"HEAD", b"PUT", b"POST", b"PATCH", b"DELETE", b"OPTIONS", b"PROPFIND", b"TRACE", b"LINK"]
MEDIA_TYPES = [
    b"application/vnd.oci.image.manifest.v1+json",
    b"application/vnd.oci.image.index.v1+json",
    b"application/vnd.docker.distribution.manifest.v2+json",
    b"application/vnd.docker.distribution.manifest.list.v2+json; charset=utf-8",
    b"application/json",
    b";;;",
    b"",
]
QUERIES = [
    b"n=0", b"n=-1", b"n=abc", b"n=1", b"n=" + b"0" * 30 + b"5", b"n=" + b"9" * 5_000, b"n=%31", b"n=%C2%B2",
    b"last=", b"last=%ff", b"last=a", b"artifactType=", b"artifactType=a%2fb%0d%0aX:y", b"ns=docker.io",
    b"&&&", b"=", b"%", b"offset=0", b"offset=-1", b"mount=", b"from=a", b"from=%00", b"digest=",
    b"digest-algorithm=sha512", b"digest-algorithm=md5", b"tag=a&tag=b&tag=-", b"a" * 3_000, b"?",
    b"n=1&n=2", b"tag=" + b"x" * 500,
]  # fmt: skip
HEADERS = [
    b"Connection: close", b"Expect: 100-continue", b"Expect: 200-maybe",
    b"Range: bytes=0-0", b"Range: bytes=-0",
    b"Range: bytes=-5", b"Range: bytes=5-1", b"Range: bytes=,", b"Range: bytes=0-1,3-4",
    b"Range: bytes=99999999999999999999-", b"Range: lines=1-2", b"Range:",
    b"Range: bytes=0-18446744073709551616", b'If-Range: "x"', b"If-None-Match: *", b'If-None-Match: W/"a",',
    b"Accept: */*", b"Accept: text/html", b"Accept: ;q=0,,", b"Accept: */*;q=0.000", b"Accept: a/b;q=x",
    b"Content-Range: 0-0", b"Content-Range: 5-4", b"Content-Range: bytes 0-9/10",
    b"Content-Range: 0-99999999999", b"Content-Range: 9999999999999999999-9999999999999999999",
    b"Content-Range: -", b"Content-Range: 0-", b"Authorization: Bearer", b"Authorization: Basic =",
    b"Authorization: \xff\xfe", b"Cookie: a=b", b"Connection: keep-alive", b"Connection: Upgrade",
    b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA",
    b"Accept-Encoding: gzip", b"X-Forwarded-Host: evil\t", b"X-Odd: \xe4\xf6\xfc", b"X-Empty:",
    b"X-Long: " + b"y" * 8_000, b"Content-Type: application/vnd.oci.image.index.v1+json",
    b"Content-Encoding: gzip", b"TE: trailers",
]  # fmt: skip
ENDING = 3
"""So many of them, the first ones, may end the connection, or leave a body that was sent unread."""

HOSTILE_HEADERS = [
    b"Host: other", b"Content-Length: 5\r\nContent-Length: 6", b"Content-Length: -1",
    b"Content-Length: 0x5", b"Content-Length: 99999999999999999999", b"Content-Length: 1 2",
    b"Content-Length: +3", b"Content-Length:", b"Transfer-Encoding: gzip",
    b"Transfer-Encoding: chunked, gzip", b"Transfer-Encoding: identity",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: 3", b"No colon", b": no name", b"Sp ace: x",
    b"X: a\x00b", b" folded: x", b"X: a\r\n folded", b"X: a\nY: b", b"X: a\rY: b", b"X\x7f: y", b"\xff: y",
    b"X-Huge: " + b"z" * 70_000, b"\r\n".join(b"X-%d: %b" % (n, b"y" * 90) for n in range(900)),
    b"Content-Length: " + b"0" * 30 + b"5",
]  # fmt: skip
HOSTILE_LINES = [
    b"GET", b"GET ", b"GET /v2/", b"GET /v2/ HTTP/1.2", b"GET /v2/ HTTP/2.0", b"GET /v2/ HTTP/9.9",
    b"GET /v2/ HTTX/1.1", b"GET  /v2/ HTTP/1.1", b"GET /v2/ HTTP/1.1 x", b"get /v2/ HTTP/1.1",
    b"FOO /v2/ HTTP/1.1", b"GET /v2/\x00 HTTP/1.1", b"GET /v2/\xff HTTP/1.1", b"GET /v2/ x HTTP/1.1",
    b"GET v2 HTTP/1.1", b"\x00\x01\x02", b"GET /" + b"a" * 17_000 + b" HTTP/1.1",
    b"HEAD /" + b"a" * 17_000 + b" HTTP/1.1", b"* * *", b"HTTP/1.1 200 OK", b"CONNECT r:443 HTTP/1.1",
    b"OPTIONS * HTTP/1.1", b"GET http://r/v2/ HTTP/1.1", b"GET http://r HTTP/1.1", b"GET //v2/ HTTP/1.1",
    b"GET /v2/#x HTTP/1.1", b"HEAD /v2/ HTTP/3.7", b"PRI * HTTP/2.0", b"SOURCE / ICE/1.0",
    b"GET http://[::1 HTTP/1.1", b"GET ://x/ HTTP/1.1", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]  # fmt: skip
HOSTILE_CHUNKS = [
    b"x\r\nabc\r\n0\r\n\r\n", b"-1\r\na\r\n0\r\n\r\n", b"5\r\nab\r\n0\r\n\r\n\r\n",
    b"1\r\nabc\r\n0\r\n\r\n", b"ffffffffffffffffff\r\na", b"\r\n\r\n", b"0x3\r\nabc\r\n0\r\n\r\n",
    b"3 \r\nabc\r\n0\r\n\r\n", b"3\nabc\n0\n\n", b"3;\x00\r\nabc\r\n0\r\n\r\n",
    b"0\r\nHost: x\r\nBad trailer\r\n\r\n", b"0\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    b"3;" + b"e" * 100_000 + b"\r\nabc\r\n0\r\n\r\n",
]  # fmt: skip

RESPONSE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) [^\r\n]*\r\n((?:[!-9;-~]+: [^\r\n]*\r\n)*)\r\n")


class Kind(StrEnum):
    """What a request is as HTTP."""

    CUT = "cut"
    HOSTILE = "hostile"
    WHOLE = "whole"


class Ending(StrEnum):
    """How the peer ends a connection."""

    CLOSE = "close"
    HALF_CLOSE = "half close"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Request:
    """Octets, with what they are: the body's are counted of a whole one."""

    data: bytes
    method: str = "GET"
    kind: Kind = Kind.WHOLE
    body: int = 0


@dataclass(frozen=True, slots=True)
class Conversation:
    """What is sent on one connection."""

    requests: list[Request]
    ending: Ending
    pieces: int

    @property
    def whole(self) -> int:
        return sum(request.kind is Kind.WHOLE for request in self.requests)


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        return self.headers.get("connection") == "close"


@dataclass(slots=True)
class Known:
    """What the answers so far have told, so that requests hit something."""

    sessions: deque[bytes] = field(default_factory=lambda: deque(maxlen=20))
    digests: deque[bytes] = field(default_factory=lambda: deque(maxlen=40))
    stored: deque[bytes] = field(default_factory=lambda: deque(maxlen=40))


class Grammar:
    """Makes requests."""

    def __init__(self, random: Random, known: Known) -> None:
        self.random = random
        self.known = known
        self.orderly = False

    def conversation(self, *, orderly: bool) -> Conversation:
        """Make what goes over one connection; an orderly one has nothing that ends it before its end."""
        self.orderly = orderly
        requests = [self.whole() for _ in range(self.random.choice([1, 1, 2, 3, 6, 12]))]
        pieces = self.random.choice([1, 1, 1, 2, 7, 40])
        if orderly:
            return Conversation(requests, Ending.HALF_CLOSE, pieces)
        if self.chance(0.3):
            requests[-1] = self.hostile()
        elif self.chance(0.2):
            last = requests[-1]
            data = last.data[: self.random.randrange(1, len(last.data))]
            requests[-1] = Request(data, last.method, Kind.CUT)
        ending = self.random.choice([*[Ending.HALF_CLOSE] * 8, Ending.CLOSE, Ending.RESET])
        return Conversation(requests, ending, pieces)

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    # Whole requests

    def whole(self) -> Request:
        make = self.random.choice(
            [self.push, self.push, self.put_manifest, self.use_session, self.anything, self.read]
        )
        return make()

    def assemble(
        self,
        method: bytes,
        target: bytes,
        body: bytes = b"",
        headers: Iterable[bytes] = (),
        *,
        framed: bytes | None = None,
    ) -> Request:
        """Write a request down, its body with its length or in chunks."""
        lines = [b"%b %b HTTP/1.1" % (method, target), b"Host: r", *headers]
        if framed is None and self.chance(0.2):
            framed = self.chunks(body)
        if framed is not None:
            lines.append(b"Transfer-Encoding: chunked")
        elif body or self.chance(0.5):
            lines.append(b"Content-Length: %d" % len(body))
        head = lines[:1] + self.random.sample(lines[1:], len(lines) - 1)
        data = b"\r\n".join(head) + b"\r\n\r\n" + (body if framed is None else framed)
        return Request(data, method.decode(), Kind.WHOLE, len(body))

    def chunks(self, body: bytes) -> bytes:
        parts = []
        while body:
            count = self.random.randint(1, len(body))
            size = self.random.choice([b"%x", b"%X", b"000%x", b"%x;a=b", b'%x;a="b"']) % count
            parts.append(size + b"\r\n" + body[:count] + b"\r\n")
            body = body[count:]
        trailers = self.random.choice([b"", b"", b"X-Trailer: y\r\n", b"Host: q\r\nExpires: 0\r\n"])
        return b"".join(parts) + b"0\r\n" + trailers + b"\r\n"

    def content(self) -> bytes:
        size = self.random.choice([0, 1, 10, 10, 1_000, 1_000, 70_000, *[300_000] * self.chance(0.2)])
        return self.random.randbytes(min(size, 64)) * (size // 64 + 1) if size else b""

    def push(self) -> Request:
        """A blob in one POST, or a session, or a mount."""
        body, name = self.content(), self.name()
        digest = b"sha256:" + hashlib.sha256(body).hexdigest().encode()
        query = self.random.choice(
            [b"?digest=%b" % digest, b"?digest=%b" % digest, b"", b"?mount=%b&from=a" % self.digest()]
        )
        if not query.startswith(b"?digest"):
            body = b""
        return self.assemble(b"POST", b"/v2/%b/blobs/uploads/%b" % (name, query), body, self.headers(0.1))

    def use_session(self) -> Request:
        target = self.random.choice(self.known.sessions or [b"/v2/a/blobs/uploads/none?offset=0"])
        method, body = self.random.choice([b"PATCH", b"PATCH", b"PUT", b"GET", b"DELETE"]), self.content()
        if method == b"PUT":
            fresh = [each for each in self.known.sessions if each.endswith(b"?offset=0")]
            if fresh and self.chance(0.7):
                target = self.random.choice(fresh)
            digest = b"sha256:" + hashlib.sha256(body).hexdigest().encode()
            target += b"&digest=%b" % self.random.choice([digest, digest, self.digest()])
        if self.chance(0.2):
            target = target.partition(b"?")[0] + b"?" + self.query()
        headers = self.headers(0.2)
        if body and self.chance(0.3):
            headers.append(
                b"Content-Range: %d-%d" % (first := self.random.choice([0, 0, 10]), first + len(body) - 1)
            )
        return self.assemble(method, target, body if method in (b"PATCH", b"PUT") else b"", headers)

    def put_manifest(self) -> Request:
        body = self.manifest()
        digest = b"sha256:" + hashlib.sha256(body).hexdigest().encode()
        reference = self.random.choice([digest, b"1", b"latest", self.reference()])
        query = self.random.choice([b"", b"", b"?tag=1&tag=2", b"?" + self.query()])
        headers = [b"Content-Type: " + self.random.choice(MEDIA_TYPES), *self.headers(0.1)]
        return self.assemble(
            b"PUT", b"/v2/%b/manifests/%b%b" % (self.name(), reference, query), body, headers
        )

    def read(self) -> Request:
        name, query = self.name(), self.random.choice([b"", b"", b"?" + self.query()])
        target = self.random.choice(
            [
                b"/v2/%b/blobs/%b" % (name, self.digest()),
                b"/v2/%b/manifests/%b" % (name, self.reference()),
                b"/v2/%b/referrers/%b" % (name, self.digest()),
                b"/v2/%b/tags/list" % name,
                b"/v2/_catalog",
                b"/v2/",
                *(self.random.choice(self.known.stored) for _ in range(10 * bool(self.known.stored))),
            ]
        )
        return self.assemble(
            self.random.choice([b"GET", b"GET", b"HEAD"]), target + query, b"", self.headers(0.5)
        )

    def anything(self) -> Request:
        """Any method on any path, with any headers and a body that nobody may want."""
        rest = self.random.choice(
            [
                b"blobs/",
                b"manifests/",
                b"referrers/",
                b"tags/list",
                b"blobs/uploads/",
                b"tags/list/x",
                b"blobs",
            ]
        )
        last = self.random.choice(
            [b"", self.digest(), self.reference(), b"x", b"%2f", b"%00", b"a/b", b"~!$&'()*+,;=@"]
        )
        target = self.random.choice(
            [
                b"/v2/%b/%b%b" % (self.name(), rest, last),
                b"/v2/%b/%b" % (self.name(), rest),
                b"/token",
                b"/",
                b"/v2",
            ]
        )
        target += self.random.choice([b"", b"?" + self.query()])
        target = target.replace(b"\xc3\xa9", b"e")
        return self.assemble(self.random.choice(METHODS), target, self.content(), self.headers(0.5))

    def headers(self, share: float) -> list[bytes]:
        if not self.chance(share):
            return []
        return self.random.sample(HEADERS[ENDING:] if self.orderly else HEADERS, self.random.randint(1, 4))

    def query(self) -> bytes:
        return b"&".join(self.random.sample(QUERIES, self.random.randint(1, 3)))

    def name(self) -> bytes:
        return self.random.choice(BAD_NAMES if self.chance(0.1) else NAMES).replace(b"\xc3\xa9", b"e")

    def digest(self) -> bytes:
        known = self.known.digests
        return self.random.choice(known if known and self.chance(0.7) else DIGESTS)

    def reference(self) -> bytes:
        return self.digest() if self.chance(0.4) else self.random.choice(TAGS)

    # Manifests

    def manifest(self) -> bytes:
        document = self.document()
        text = json.dumps(document)
        if self.chance(0.1):
            text = self.random.choice(
                [
                    "[" * 5_000,
                    "{",
                    "NaN",
                    '{"schemaVersion":1e999}',
                    "null",
                    '"x"',
                    '{"schemaVersion":2,"x":NaN}',
                ]
            )
        if self.chance(0.05):
            return text.encode(self.random.choice(["utf-16", "utf-8-sig", "utf-32-le"]))
        octets = text.encode()
        if self.chance(0.1):
            at = self.random.randrange(len(octets))
            octets = octets[:at] + self.random.randbytes(2) + octets[at + 2 :]
        return octets

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = {"schemaVersion": self.random.choice([2, 2, 2, 2, 1, "2", 2.0, None])}
        if self.chance(0.8):
            document["mediaType"] = self.random.choice(MEDIA_TYPES).partition(b";")[0].decode()
        if self.chance(0.7):
            document["config"] = self.descriptor()
        for key in ("layers", "manifests"):
            if self.chance(0.7):
                document[key] = [self.descriptor() for _ in range(self.random.randint(0, 3))]
        if self.chance(0.3):
            document["subject"] = self.descriptor()
        if self.chance(0.3):
            document["artifactType"] = self.odd()
        if self.chance(0.3):
            document["annotations"] = {
                "a": self.odd(),
                "\ud800": "\udfff\x00",
                "": "x" * self.random.choice([0, 200_000]),
            }
        return document

    def descriptor(self) -> Any:
        if self.chance(0.05):
            return self.odd()
        described = {
            "mediaType": self.random.choice(["application/x", "application/vnd.oci.image.manifest.v1+json"]),
            "digest": self.digest().decode(),
            "size": self.random.choice([0, 1, 10, 10, 2**63]),
        }
        if self.chance(0.1):
            described[self.random.choice([*described, "data", "annotations", "artifactType"])] = self.odd()
        return described

    def odd(self) -> Any:
        return self.random.choice(
            [
                None,
                True,
                -1,
                0.5,
                10**400,
                "",
                "x",
                "e30=",
                "\ud800",
                [],
                [[]],
                {},
                {"digest": {}},
                "\r\nX: y",
                "é",
            ]
        )

    # Hostile requests

    def hostile(self) -> Request:
        kind = self.random.randrange(6)
        if kind == 0:
            return Request(self.random.choice(HOSTILE_LINES) + b"\r\nHost: r\r\n\r\n", kind=Kind.HOSTILE)
        if kind == 1:
            body = self.random.choice(HOSTILE_CHUNKS)
            target = self.random.choice(self.known.sessions or [b"/v2/a/tags/list"])
            head = b"PATCH %b HTTP/1.1\r\nHost: r\r\nTransfer-Encoding: chunked\r\n\r\n" % target
            return Request(head + body, "PATCH", Kind.HOSTILE)
        if kind == 2:
            good = self.whole()
            line, _, rest = good.data.partition(b"\r\n")
            rest = self.random.choice(HOSTILE_HEADERS) + b"\r\n" + rest
            return Request(line + b"\r\n" + rest, good.method, Kind.HOSTILE)
        if kind == 3:
            good = self.whole()
            changed = bytearray(good.data)
            for _ in range(self.random.randint(1, 5)):
                changed[self.random.randrange(len(changed))] = self.random.randrange(256)
            return Request(bytes(changed), "", Kind.HOSTILE)
        if kind == 4:
            return Request(self.random.randbytes(self.random.choice([1, 20, 300, 90_000])), "", Kind.HOSTILE)
        good = self.whole()
        wrong = b"Content-Length: %d" % self.random.choice([0, 1, 5, 100, 10**6])
        data = re.sub(rb"Content-Length: [0-9]+", wrong, good.data, count=1)
        return Request(data, good.method, Kind.HOSTILE)


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def shorten(conversation: Conversation) -> str:
    """Tell a conversation, so much of it that it can be read."""
    shown = [
        (each.kind.value, each.method, each.data[:300], each.data[-100:])
        for each in conversation.requests[-3:]
    ]
    return f"{conversation.ending} after {len(conversation.requests)}, the last ones {shown}"


def parse(raw: bytes, methods: Callable[[int], str]) -> tuple[list[Heard], bytes]:
    """Return the answers, those with 1xx left out, and what is behind the last one that is whole."""
    heard: list[Heard] = []
    while match := RESPONSE.match(raw):
        status = int(match[1])
        lines = match[2].decode("latin-1").split("\r\n")[:-1]
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        bare = status < 200 or status in (204, 304)
        method = methods(len(heard))
        # Of a hostile request nobody knows what it was: the answer tells.
        bare |= method == "HEAD" if method else raw[match.end() :][:5] in (b"", b"HTTP/")
        end = match.end() + (0 if bare else int(headers["content-length"]))
        if end > len(raw):
            break
        body, raw = raw[match.end() : end], raw[end:]
        if status >= 200:
            heard.append(Heard(status, headers, body))
    return heard, raw


class Fuzz:
    """Rounds of conversations with one registry, and what must hold of each."""

    def __init__(
        self, peer: WirePeer, seed: int, *, deadline: float = DEADLINE, profile: bool = False
    ) -> None:
        self.peer = peer
        self.profile = profile  # its errors are those of another registry, down to their bodies
        self.seed = seed
        self.deadline = deadline
        self.random = Random(seed)
        self.known = Known()
        self.grammar = Grammar(self.random, self.known)
        self.figures: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()

    async def run(self, requests: int) -> Counter[str]:
        tasks, files = asyncio.all_tasks(), open_files()
        while self.figures["requests"] < requests:
            orderly = self.random.random() < ORDERLY
            conversations = [self.grammar.conversation(orderly=orderly) for _ in range(ROUND)]
            await self.round(conversations)
        async with asyncio.timeout(self.deadline):
            await self.peer.disconnected()
            assert asyncio.all_tasks() == tasks
            assert not [each for each in self.peer.registry.state.sessions.values() if each.busy]
            assert self.peer.server.budget.held == 0
            if not self.profile:
                await self.push_and_pull()
                await self.peer.disconnected()
        assert asyncio.all_tasks() == tasks
        # The second host that a profile redirects to listens from the first redirect on.
        assert open_files() <= files + self.profile
        return self.figures

    async def round(self, conversations: list[Conversation]) -> None:
        self.peer.journal.clear()
        try:
            async with asyncio.timeout(self.deadline):
                raws = await asyncio.gather(*[self.talk(each) for each in conversations])
                await self.peer.registry.settled()
                await self.peer.disconnected()
        except TimeoutError:
            raise AssertionError(
                f"it hangs: seed {self.seed}, {self.figures}, {[shorten(each) for each in conversations]}"
            ) from None
        heard: list[Heard] = []
        for conversation, raw in zip(conversations, raws, strict=True):
            try:
                heard += self.judge(conversation, raw)
            except AssertionError as error:
                raise AssertionError(
                    f"{error}: seed {self.seed}, {shorten(conversation)}, {raw[-600:]!r}"
                ) from error
        self.audit(conversations, heard)

    async def talk(self, conversation: Conversation) -> bytes:
        """Send everything, end the connection as told, and return all that came."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.peer.server.port)
        try:
            raw, _ = await asyncio.gather(self.listen(reader, conversation), self.speak(writer, conversation))
            return raw
        finally:
            writer.transport.abort()

    async def listen(self, reader: asyncio.StreamReader, conversation: Conversation) -> bytes:
        parts = []
        try:
            while part := await reader.read(1 << 20):
                parts.append(part)
        except ConnectionError:
            assert conversation.ending is not Ending.HALF_CLOSE, "an answer may be lost to a reset"
        return b"".join(parts)

    async def speak(self, writer: asyncio.StreamWriter, conversation: Conversation) -> None:
        data = b"".join(request.data for request in conversation.requests)
        size = len(data) // conversation.pieces + 1
        with contextlib.suppress(ConnectionError):  # the server may have ended the connection before
            for start in range(0, len(data), size):
                writer.write(data[start : start + size])
                await writer.drain()
                await asyncio.sleep(0)
            if conversation.ending is Ending.HALF_CLOSE:
                writer.write_eof()
            elif conversation.ending is Ending.CLOSE:
                writer.close()
            else:
                writer.transport.abort()

    def judge(self, conversation: Conversation, raw: bytes) -> list[Heard]:
        """Check what came back, and return the answers."""
        requests = conversation.requests

        def method(number: int) -> str:
            return requests[number].method if number < conversation.whole else ""

        heard, rest = parse(raw, method)
        self.figures["requests"] += len(requests)
        self.figures["connections"] += 1
        self.figures["answers"] += len(heard)
        self.statuses.update(each.status for each in heard)
        for number, answer in enumerate(heard):
            assert "date" in answer.headers, "an answer has no date"
            if not self.profile:
                assert answer.status < 500 or answer.status in (501, 505), f"{answer.status} was answered"
            if answer.status >= 400 and answer.body and not self.profile:
                assert json.loads(answer.body)["errors"], "an error has no code"
            assert not answer.closes or number == len(heard) - 1, "an answer follows the last one"
            self.learn(answer)
        if conversation.ending is not Ending.HALF_CLOSE or self.profile:
            return []
        assert not rest, "the answers end in the middle"
        if not (heard and heard[-1].closes):
            assert len(heard) >= conversation.whole, "a whole request was not answered"
            last = requests[-1]
            # Random octets may be no request, and a request that was changed may ask for more than came.
            if last.kind is Kind.WHOLE:
                assert len(heard) == len(requests), "more answers than requests"
            elif last.method and last.data.strip():
                assert len(heard) > conversation.whole, "the last request was not answered"
        return heard

    def learn(self, answer: Heard) -> None:
        if answer.status == 202 and "location" in answer.headers:
            self.known.sessions.append(answer.headers["location"].encode("latin-1"))
        if answer.status == 201 and answer.headers.keys() >= {"location", "docker-content-digest"}:
            self.known.stored.append(answer.headers["location"].encode("latin-1"))
            self.known.digests.append(answer.headers["docker-content-digest"].encode("latin-1"))

    def audit(self, conversations: list[Conversation], heard: list[Heard]) -> None:
        """Hold the journal against what was sent and heard."""
        records = list(self.peer.journal)
        where = f"seed {self.seed}, {[shorten(each) for each in conversations]}, {records}"
        told = Counter[int | None](each.status for each in heard)
        recorded = Counter(record.status for record in records)
        assert not told - recorded, f"an answer is not in the journal: {where}"
        octets = sum(len(request.data) for each in conversations for request in each.requests)
        assert sum(record.bytes_in for record in records) <= octets, where
        assert all(record.ended is not None and record.ended >= record.started for record in records), where
        received = sum(len(each.body) for each in heard)
        if self.profile:
            return
        if all(each.ending is Ending.HALF_CLOSE for each in conversations):
            assert told == recorded, f"the journal has other answers: {where}"
            assert sum(record.bytes_out for record in records) == received, where
        else:
            assert sum(record.bytes_out for record in records) >= received, where
        if self.grammar.orderly:
            self.agree(conversations, heard, records)
        self.figures["records"] += len(records)

    def agree(self, conversations: list[Conversation], heard: list[Heard], records: list[Record]) -> None:
        """Hold an orderly round against the journal, to the octet."""
        bodies = sum(request.body for each in conversations for request in each.requests)
        where = f"seed {self.seed}, {[shorten(each) for each in conversations]}, {records}"
        assert not any(each.closes for each in heard), f"an orderly connection was ended: {where}"
        assert sum(record.bytes_in for record in records) == bodies, where
        assert all(record.complete for record in records), where
        self.figures["orderly rounds"] += 1

    async def push_and_pull(self) -> None:
        """Be an honest client for once."""
        wire = await self.peer.connect()
        blob = self.random.randbytes(100_000)
        digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
        descriptor = {"mediaType": "application/x", "digest": digest, "size": len(blob)}
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MEDIA_TYPES[0].decode(),
                "config": descriptor,
                "layers": [descriptor],
            }
        ).encode()
        _, headers, _ = await wire.ask(b"POST /v2/honest/blobs/uploads/ HTTP/1.1\r\nHost: r\r\n\r\n")
        for method, path, body, status in (
            ("PUT", f"{headers['location']}&digest={digest}", blob, 201),
            ("PUT", "/v2/honest/manifests/1", manifest, 201),
            ("GET", f"/v2/honest/blobs/{digest}", b"", 200),
            ("GET", "/v2/honest/manifests/1", b"", 200),
        ):
            head = f"{method} {path} HTTP/1.1\r\nHost: r\r\nContent-Length: {len(body)}\r\n\r\n"
            answer = await wire.ask(head.encode(), body)
            assert answer[0] == status
            if method == "GET":
                assert answer[2] == (blob if "blobs" in path else manifest)
        wire.writer.transport.abort()


SETTINGS: list[dict[str, Any]] = [
    {},
    {"sparse": True},
    {"sparse": True, "anonymous_mount": True, "min_chunk_length": 100},
    {"delete": False, "single_post": False, "mount": False},
]


@pytest.fixture(params=["memory", "directory"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    return {"directory": tmp_path / "registry"} if request.param == "directory" else {}


async def fuzz(
    open_wire_peer: OpenWirePeer, seed: int, requests: int, *, deadline: float = DEADLINE, **settings: Any
) -> Fuzz:
    async with open_wire_peer(
        manifest_limit=MANIFEST_LIMIT, **SETTINGS[seed % len(SETTINGS)], **settings
    ) as peer:
        fuzzer = Fuzz(peer, seed, deadline=deadline, profile="profile" in settings)
        await fuzzer.run(requests)
        return fuzzer


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]


@pytest.mark.parametrize("seed", range(2))
async def test_whatever_is_sent_is_answered_and_leaves_nothing_behind(
    open_wire_peer: OpenWirePeer, kept: dict[str, Any], caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    fuzzer = await fuzz(open_wire_peer, seed + 10 * bool(kept), 450, **kept)
    assert errors(caplog) == []
    assert fuzzer.figures["orderly rounds"] > 0
    # It hits what it aims at.
    assert {200, 201, 202, 204, 400, 404, 405} <= set(fuzzer.statuses)


@pytest.mark.parametrize("profile", PROFILES)
async def test_no_profile_breaks_whatever_is_sent(
    open_wire_peer: OpenWirePeer, caplog: pytest.LogCaptureFixture, profile: str
) -> None:
    fuzzer = await fuzz(open_wire_peer, 20, 100, profile=profile)
    assert (
        errors(caplog) == []
    )  # what a profile answers with 500 it means to; what it does not mean is logged
    assert {200, 202, 404} <= set(fuzzer.statuses)


@pytest.mark.soak
@pytest.mark.parametrize("profile", PROFILES)
async def test_no_profile_breaks_whatever_is_sent_for_long(
    open_wire_peer: OpenWirePeer, caplog: pytest.LogCaptureFixture, profile: str
) -> None:
    fuzzer = await fuzz(open_wire_peer, 300, 5_000, profile=profile)
    print(profile, dict(fuzzer.figures), dict(sorted(fuzzer.statuses.items())))  # noqa: T201 (for the record)
    assert errors(caplog) == []


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 108))
async def test_whatever_is_sent_is_answered_and_leaves_nothing_behind_for_long(
    open_wire_peer: OpenWirePeer, kept: dict[str, Any], caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    fuzzer = await fuzz(open_wire_peer, seed + 100 * bool(kept), 5_000, **kept)
    print(dict(fuzzer.figures), dict(sorted(fuzzer.statuses.items())))  # noqa: T201 (for the record)
    assert errors(caplog) == []


# What would be wrong is found out.


async def fail(_: Service, __: Exchange) -> Response:
    raise LookupError("a bug")


async def hang(_: Service, __: Exchange) -> Response:
    await asyncio.Event().wait()
    raise AssertionError


async def hang_up(_: Service, __: Exchange) -> Response:
    raise Severed(reset=False)


async def leave_a_task(service: Service, exchange: Exchange) -> Response:
    left.append(asyncio.ensure_future(asyncio.Event().wait()))
    return await get_tags(service, exchange)


left: list[asyncio.Task[bool]] = []


@pytest.mark.parametrize(
    ("handler", "found"),
    [
        (fail, "500 was answered"),
        (hang, "it hangs"),
        (hang_up, "a whole request was not answered"),
        (leave_a_task, "Event.wait"),
    ],
)
async def test_a_registry_that_fails_hangs_or_leaves_something_is_found_out(
    open_wire_peer: OpenWirePeer, monkeypatch: pytest.MonkeyPatch, handler: Handler, found: str
) -> None:
    monkeypatch.setitem(handlers.TABLE[Route.TAGS], "GET", handler)
    limits = Limits(stop_time=0.0)
    try:
        with pytest.raises(AssertionError, match=found):
            await fuzz(open_wire_peer, 2, 100, deadline=1.0, limits=limits)
    finally:
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        left.clear()


async def test_a_journal_that_forgets_is_found_out(
    open_wire_peer: OpenWirePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = Journal.append

    def forget(journal: Journal, record: Record) -> None:
        if record.status != 204:
            append(journal, record)

    monkeypatch.setattr(Journal, "append", forget)
    with pytest.raises(AssertionError, match="an answer is not in the journal"):
        await fuzz(open_wire_peer, 3, 100)
