"""What a registry answers, and what its refusals say.

Owns the answer as a value and the reading of error bodies, which may be the specification's JSON, a
proxy's HTML, or nothing at all. Must not know who asked, or why.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from regsim.errors import NotFoundError, RegistryError
from regsim.net.address import without_query

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

    from regsim.net.request import Feed

# Beyond this an error body is not read: it is for people.
MAX_ERROR_BODY = 64 * 1024
_MAX_QUOTE = 300
_MAX_DIGITS = 19  # of an int64, as sizes are
_CONTENT_RANGE = re.compile(r"bytes (?P<first>[0-9]{1,19})-(?P<last>[0-9]{1,19})/(?P<total>[0-9]{1,19}|\*)")
_WARNING = re.compile(r'(?<!\d)299 +\S+ +"((?:[^"\\]|\\.)*)"')
# What is never closed goes on to the end, or each further opening would look for its end there anew.
_HIDDEN = re.compile(
    r"<(?:(?P<raw>script|style)\b.*?(?:</(?P=raw)\s*+>|\Z)|head\b.*?(?:</head\s*+>|(?=<body\b)|\Z))",
    re.DOTALL | re.IGNORECASE,
)
_TAG = re.compile(r"<[^<>]*>")
HINTS = {
    401: "the registry wants credentials",
    403: "the registry does not allow this here",
    407: "the proxy wants credentials: --proxy http://USER:PASSWORD@HOST:PORT",
    405: "the registry does not support this",
    413: "a limit of the registry, or of a proxy before it, is too small for this",
    429: "the registry limits requests; try again later, or with fewer at once",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A request's body: how many bytes, and how to open them. Opening again starts again.

    Attributes:
        size: in bytes.
        open: returns them as a stream.
        feed: hands all but the last piece to a function, in threads, and returns that one; None: it cannot.
    """

    size: int
    open: Callable[[], AsyncGenerator[bytes, None]]
    feed: Feed | None = None

    @classmethod
    def of(cls, raw: bytes) -> Body:
        """Return bytes in hand as a body."""

        async def stream() -> AsyncGenerator[bytes, None]:
            if raw:
                yield raw

        return cls(size=len(raw), open=stream)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer whose body, if it has one, has been read.

    Attributes:
        method: of the request.
        url: that answered, behind all redirects.
        status: the HTTP status.
        headers: by name in any case; a header that came twice reads `first, second`.
        body: the raw octets, at most as many as were asked for.
        whole: the body ended within that bound.
        secrets: that the request was sent with: what an answer repeats of them is told to nobody.
    """

    method: str
    url: str
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    whole: bool = True
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def location(self) -> str | None:
        """The `Location`, as it was sent."""
        return self.headers.get("Location")

    @property
    def length(self) -> int | None:
        """The `Content-Length`; None where there is none that can be read."""
        return length_of(self.headers)


def length_of(headers: Mapping[str, str]) -> int | None:
    """Return a `Content-Length`; None where there is none that can be read."""
    text = headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else None


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
    message = f"{answer.method} {without_query(answer.url).partition('://')[2]} was answered {_name(answer)}"
    if words:
        message += f"; registry said: {words}"
    kind = NotFoundError if answer.status == HTTPStatus.NOT_FOUND else RegistryError
    return kind(message, hint=HINTS.get(answer.status, ""), status=answer.status, codes=codes)


def _name(answer: Answer) -> str:
    try:
        return f"{answer.status} {HTTPStatus(answer.status).phrase}"
    except ValueError:
        return str(answer.status)


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
