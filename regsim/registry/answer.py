"""What is sent to a registry and what it answers: bodies and their counting, headers, and what refusals say.

Owns the moment at which a byte is counted: when a connection takes or gives it. Error bodies may be the
specification's JSON, a proxy's HTML, or nothing at all. Must not know who asked, or why.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from contextlib import aclosing
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import responses
from typing import TYPE_CHECKING, NamedTuple, cast

from regsim.core.account import Account
from regsim.errors import ContentError, NetworkError, NotFoundError, RegistryError, Trouble
from regsim.net.address import without_query
from regsim.net.body import Incoming
from regsim.net.errors import HINTS, translated, where
from regsim.store.protocols import CHUNK
from regsim.store.relay import hand_stream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

    import httpx

    from regsim.store.protocols import Taker

# Beyond this an error body is not read: it is for people.
MAX_ERROR_BODY = 64 * 1024
_CONTENT_STATUSES = frozenset({200, 206})
_COUNTING = threading.Lock()
_MAX_QUOTE = 300
_MAX_DIGITS = 19  # of an int64, as sizes are
_CONTENT_RANGE = re.compile(r"bytes (?P<first>[0-9]{1,19})-(?P<last>[0-9]{1,19})/(?P<total>[0-9]{1,19}|\*)")
_WARNING = re.compile(r'(?<!\d)299 +\S+ +"((?:[^"\\]|\\.)*)"')
# An unclosed part extends to the end, or each further opening would search to the end again.
_HIDDEN = re.compile(
    r"<(?:(?P<raw>script|style)\b.*?(?:</(?P=raw)\s*+>|\Z)|head\b.*?(?:</head\s*+>|(?=<body\b)|\Z))",
    re.DOTALL | re.IGNORECASE,
)
_TAG = re.compile(r"<[^<>]*>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A request's body: its size in bytes, and how to open it. Opening again starts again.

    Attributes:
        size: in bytes.
        open: returns them as a stream.
    """

    size: int
    open: Callable[[], AsyncGenerator[bytes, None]]

    @classmethod
    def of(cls, raw: bytes) -> Body:
        """Return bytes as a body."""

        async def stream() -> AsyncGenerator[bytes, None]:
            if raw:
                yield raw

        return cls(size=len(raw), open=stream)


async def counted(body: Body | None, account: Account, *, content: bool) -> AsyncGenerator[bytes, None]:
    """Yield a request's body, and count each piece when the connection takes it.

    Args:
        body: None yields nothing.
        account: is charged.
        content: count it as `sent`, else as `overhead`.

    Raises:
        ContentError: it is longer or shorter than it says.
    """
    if body is None:
        return
    left = body.size
    async with aclosing(body.open()) as stream:
        async for chunk in stream:
            left -= len(chunk)
            if left < 0:
                raise ContentError(f"a body of {body.size} bytes turned out to be longer")
            if content:
                account.sent += len(chunk)
            else:
                account.overhead += len(chunk)
            yield chunk
    if left:
        raise ContentError(f"a body of {body.size} bytes ended {left} bytes early")


@dataclass(slots=True, kw_only=True, eq=False)
class Answer:
    """What a registry answered. Its body is read once: whole by `read`, or by `pour`; each closes the answer.

    Attributes:
        method: of the request.
        url: that answered, after all redirects.
        status: the HTTP status.
        headers: by name in any case; a header that came twice reads `first, second`.
        body: the raw bytes, once it has been read.
        whole: the body ended within the bound that was given.
        secrets: sent with the request: they are removed from what is shown of the answer.
        received: bytes of the body that were counted as `received`.
        response: of the transport, unread; None: there is no body to read.
        account: is charged.
        content: count the body of a 200 or 206 to a GET as `received`, all others as `overhead`.
    """

    method: str
    url: str
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    whole: bool = True
    secrets: tuple[str, ...] = field(default=(), repr=False)
    received: int = 0
    response: httpx.Response | None = field(default=None, repr=False)
    account: Account = field(default_factory=Account, repr=False)
    content: bool = field(default=False, repr=False)

    @property
    def length(self) -> int | None:
        """The `Content-Length`; None if it is missing or malformed."""
        text = self.headers.get("Content-Length", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else None

    async def read(self, limit: int = MAX_ERROR_BODY, *, seconds: float | None = None) -> Answer:
        """Read the body, no further than `limit` bytes and what came with them, and return the answer.

        A refusal's is read to `MAX_ERROR_BODY`, even if less was wanted.

        Args:
            limit: bytes.
            seconds: for all of it; a body that trickles never stalls.

        Raises:
            NetworkError: the body was cut short, stalled, or did not end in time.
        """
        if self.status >= HTTPStatus.BAD_REQUEST:
            limit = MAX_ERROR_BODY
        body = bytearray()
        try:
            if self.method != "HEAD" and self.length != 0:
                async with asyncio.timeout(seconds), aclosing(self._pieces()) as pieces:
                    async for piece in pieces:
                        body += piece
                        if len(body) > limit:
                            break
        except TimeoutError as error:
            raise unanswered(self.method, self.url, seconds or 0.0) from error
        finally:
            await self.aclose()
        self.body, self.whole = bytes(body[:limit]), len(body) <= limit
        return self

    async def pour(
        self, takers: Sequence[Taker], arrived: Callable[[int], object], *, block: int = CHUNK
    ) -> None:
        """Hand the raw body to `takers`, in threads.

        Args:
            takers: each is handed every piece, in order; a piece is theirs until they return.
            arrived: called with the number of bytes that arrived, before they are handed on; in any thread.
            block: bytes that are handed on at once, at most.

        Raises:
            NetworkError: the body was cut short or stalled; the takers have had what came before.
            Exception: what a taker raised, or `arrived`.
        """

        def count(octets: int) -> None:
            self._count(octets)
            arrived(octets)

        try:
            with translated(self.method, self.url):
                if isinstance(self._stream, Incoming):
                    await self._stream.pour(takers, count, block=block)
                else:
                    await hand_stream(_noted(self._stream, count), takers, block)
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Let go of the response: a body that was not read costs the connection. Any number of calls."""
        if self.response is not None:
            with translated(self.method, self.url):
                await self.response.aclose()

    @property
    def _stream(self) -> httpx.AsyncByteStream:
        # Not aiter_raw(), which refuses the responses of mocks that httpx has read already.
        assert self.response is not None  # noqa: S101  (answers that tests make are not read)
        return cast("httpx.AsyncByteStream", self.response.stream)

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        with translated(self.method, self.url):
            async for piece in self._stream:
                self._count(len(piece))
                yield piece

    def _count(self, octets: int) -> None:
        is_content = self.content and self.method == "GET" and self.status in _CONTENT_STATUSES
        # Several threads may read bodies for one account.
        with _COUNTING:
            if is_content:
                self.received += octets
                self.account.received += octets
            else:
                self.account.overhead += octets


async def _noted(
    stream: httpx.AsyncByteStream, arrived: Callable[[int], object]
) -> AsyncGenerator[bytes, None]:
    async for piece in stream:
        arrived(len(piece))
        yield piece


def unanswered(method: str, url: str, seconds: float) -> NetworkError:
    """Return the error for a whole answer that does not come in time."""
    return NetworkError(
        f"{where(method, url)} was not answered within {seconds:g} s", trouble=Trouble.DEADLINE
    )


class ContentRange(NamedTuple):
    """Which bytes a 206 brings (RFC 9110, 14.4): both ends are inclusive, `total` may be unknown."""

    first: int
    last: int
    total: int | None

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> ContentRange | None:
        """Read `Content-Range`; None where it does not say, as with several ranges at once."""
        match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
        if match is None:
            return None
        total = None if match["total"] == "*" else int(match["total"])
        return cls(int(match["first"]), int(match["last"]), total)


def warnings_of(answer: Answer) -> tuple[str, ...]:
    """Return what a registry wants its user to know, as printable lines (distribution-spec, "Warnings")."""
    texts = _WARNING.findall(answer.headers.get("Warning", ""))
    lines = (_line(_hidden(re.sub(r"\\(.)", r"\1", text), answer.secrets)) for text in texts)
    return tuple(line for line in lines if line)


def refusal(answer: Answer) -> RegistryError:
    """Return the error that an answer is: what was asked, the status, and the registry's own words."""
    codes, words = _words(answer.body, answer.secrets)
    status = f"{answer.status} {responses.get(answer.status, '')}".rstrip()
    message = f"{answer.method} {without_query(answer.url).partition('://')[2]} was answered {status}"
    if words:
        message += f"; registry said: {words}"
    kind = NotFoundError if answer.status == HTTPStatus.NOT_FOUND else RegistryError
    return kind(message, hint=HINTS.get(answer.status, ""), status=answer.status, codes=codes)


def _words(body: bytes, secrets: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Read an error body: the codes of its JSON, unknown ones included, and one printable line."""
    text = body.decode("utf-8", errors="replace")
    try:
        errors = json.loads(text)["errors"]
        pairs = [(str(each.get("code") or ""), str(each.get("message") or "")) for each in errors]
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return (), _line(_hidden(_TAG.sub(" ", _HIDDEN.sub(" ", text)), secrets))
    found = [(_hidden(code, secrets), _hidden(message, secrets)) for code, message in pairs]
    codes = tuple(code for code, _ in found if code)
    return codes, _line(", ".join(": ".join(filter(None, each)) for each in found))


def _hidden(text: str, secrets: Sequence[str]) -> str:
    for secret in filter(None, secrets):
        text = text.replace(secret, "(hidden)")
    return text


def _line(text: str) -> str:
    """Return text as one short line without control characters, which could steer a terminal."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return line if len(line) <= _MAX_QUOTE else f"{line[: _MAX_QUOTE - 1]}…"
