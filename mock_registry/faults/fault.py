"""A fault as a value: which requests, how often, and what happens to them.

Owns the conditions. Must not know how often they were met.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import Annotated

from mock_registry.errors import close_to
from mock_registry.exchange import Exchange, Response
from mock_registry.journal import Route
from mock_registry.spec import is_digest

from .effect import BODIES, Effect
from .quantities import (
    COUNT,
    PROBABILITY,
    TEXT,
    Quantity,
    QuantityError,
    choice,
    settle,
)

Test = Callable[[Exchange], bool]

_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
_STATUS = re.compile(r"[1-5](?:xx|[0-9][0-9])")
_CODE = re.compile(r"[A-Z_]+")


class Stream(StrEnum):
    """A direction, in toxiproxy's words."""

    UPSTREAM = "upstream"
    """From the client: the request."""
    DOWNSTREAM = "downstream"
    """To the client: the response."""


class When(StrEnum):
    """On which side of the handler."""

    BEFORE = "before"
    """The registry has changed nothing yet."""
    AFTER = "after"
    """The registry has done what it was asked for; the answer alone is affected."""


PER = ("client", "digest", "reference", "repository", "session", "user")


def _words(known: tuple[str, ...]) -> Quantity:
    def read(value: object) -> str:
        if not isinstance(value, str):
            raise QuantityError(f"{value!r} is no text")
        words = [word.strip() for word in value.split(",")]
        for word in words:
            if word not in known:
                raise QuantityError(f"{word!r} is unknown{close_to(word, known)}")
        return ",".join(words)

    return Quantity("of " + ", ".join(known), read)


def _read_answered(value: object) -> str:
    text = str(value)
    if not (_STATUS.fullmatch(text) or _CODE.fullmatch(text)):
        raise QuantityError(f"{text!r} is no status such as 404 or 5xx, and no error code")
    return text


@dataclass(frozen=True, slots=True)
class Fault:
    """A rule: an effect, and the requests that it is applied to. A condition left out is always met.

    Patterns: ``*`` stands for any text; in a repository's name, for any part of one path component, and
    ``**`` for any text.

    Attributes:
        effect: What happens.
        name: What the journal calls it; the effect's kind by default.
        method: One or several, with commas.
        route: One or several of the journal's routes, with commas.
        repository: Pattern.
        digest: Pattern of the digest in the path or in ``?digest=`` or ``?mount=``.
        reference: Pattern of the tag or digest at the end of a manifest's path.
        query: A parameter that is there, or ``name=pattern`` of its value.
        header: A request header that is there, or ``name=pattern``.
        peer: Pattern of the client's address, or of ``address:port``.
        agent: Pattern of the User-Agent.
        user: Pattern of the name that the request proved.
        answered: What the handler decided on: a status, ``4xx``, or an error code.
        nth: The n-th such request alone.
        skip: Not the first so many of them.
        first: Only so many of them, after those skipped.
        every: Each so-manieth of them, after those skipped.
        times: Until it was applied so often.
        per: What is counted apart for ``nth``, ``skip``, ``first`` and ``every``.
        toxicity: Probability that it is applied to a request that meets everything else.
        stream: Which direction; by default the effect's own, or that of the body that matters.
        when: On which side of the handler, for effects that could act on either.
    """

    effect: Effect
    name: Annotated[str | None, TEXT] = None
    method: Annotated[str | None, _words(_METHODS)] = None
    route: Annotated[str | None, _words(tuple(Route))] = None
    repository: Annotated[str | None, TEXT] = None
    digest: Annotated[str | None, TEXT] = None
    reference: Annotated[str | None, TEXT] = None
    query: Annotated[str | None, TEXT] = None
    header: Annotated[str | None, TEXT] = None
    peer: Annotated[str | None, TEXT] = None
    agent: Annotated[str | None, TEXT] = None
    user: Annotated[str | None, TEXT] = None
    answered: Annotated[str | None, Quantity("status or error code", _read_answered)] = None
    nth: Annotated[int | None, COUNT] = None
    skip: Annotated[int | None, COUNT] = None
    first: Annotated[int | None, COUNT] = None
    every: Annotated[int | None, COUNT] = None
    times: Annotated[int | None, COUNT] = None
    per: Annotated[str | None, choice(*PER)] = None
    toxicity: Annotated[float, PROBABILITY] = 1.0
    stream: Annotated[str | None, choice(*Stream)] = None
    when: Annotated[str | None, choice(*When)] = None

    def __post_init__(self) -> None:
        settle(self)

    def concerns(self, method: str, route: Route) -> bool:
        """Tell whether such a request could be meant at all."""
        wanted = (
            _listed(self.method),
            self.effect.methods,
            _listed(self.route),
            self.effect.routes,
        )
        return all(
            words is None or word in words
            for words, word in zip(wanted, (method, method, route, route), strict=True)
        )

    def tests(self) -> list[Test]:
        """Return what must hold of a request when it arrives, besides method and route."""
        tests: list[Test] = []
        if self.repository is not None:
            tests.append(_matches(attrgetter("repository"), self.repository, path=True))
        if self.digest is not None:
            tests.append(_matches(digest_asked_for, self.digest))
        if self.reference is not None:
            tests.append(_matches(_reference, self.reference))
        if self.query is not None:
            tests.append(_named(self.query, Exchange.parameter))
        if self.header is not None:
            tests.append(_named(self.header, lambda exchange, name: exchange.header(name.lower().encode())))
        if self.peer is not None:
            port = ":" in self.peer.replace("::", "")
            tests.append(_matches(peer_with_port if port else peer_of, self.peer))
        if self.agent is not None:
            tests.append(_matches(lambda exchange: exchange.header(b"user-agent"), self.agent))
        return tests

    def covers(self, repository: str) -> bool:
        """Tell whether a repository is meant."""
        return self.repository is None or glob(self.repository, path=True).fullmatch(repository) is not None

    def knows(self, exchange: Exchange) -> bool:
        """Tell whether the user is the one meant."""
        return self.user is None or _matches(lambda each: each.access.user, self.user)(exchange)

    def expects(self, response: Response) -> bool:
        """Tell whether the handler's response is the one meant."""
        if self.answered is None:
            return True
        status = str(response.status)
        if self.answered in (status, f"{status[0]}xx"):
            return True
        return self.answered in error_codes(response)

    def direction(self, method: str) -> Stream:
        """Return the direction that is meant for a request with this method."""
        if self.stream is not None:
            return Stream(self.stream)
        if self.effect.downstream or method not in BODIES:
            return Stream.DOWNSTREAM
        return Stream.UPSTREAM


def _listed(words: str | None) -> frozenset[str] | None:
    return None if words is None else frozenset(words.split(","))


def glob(pattern: str, *, path: bool = False) -> re.Pattern[str]:
    """Compile a pattern; in a path, ``*`` stays within one component."""
    texts = {"**": ".*", "*": "[^/]*" if path else ".*"}
    pieces = re.split(r"(\*\*|\*)", pattern)
    return re.compile("".join(texts.get(piece) or re.escape(piece) for piece in pieces), re.DOTALL)


def _matches(value: Callable[[Exchange], str | None], pattern: str, *, path: bool = False) -> Test:
    if "*" not in pattern:
        return lambda exchange: value(exchange) == pattern
    compiled = glob(pattern, path=path)
    return lambda exchange: (text := value(exchange)) is not None and compiled.fullmatch(text) is not None


def _named(condition: str, value: Callable[[Exchange, str], str | None]) -> Test:
    """Return the test of a parameter or header: that it is there, or that its value fits."""
    name, equals, pattern = condition.partition("=")
    if not equals:
        return lambda exchange: value(exchange, name) is not None
    return _matches(lambda exchange: value(exchange, name), pattern)


def digest_asked_for(exchange: Exchange) -> str | None:
    """Return the digest that a request names."""
    last = exchange.address.last
    if last is not None and is_digest(last):
        return last
    return exchange.parameter("digest") or exchange.parameter("mount")


def _reference(exchange: Exchange) -> str | None:
    return exchange.address.last if exchange.address.route is Route.MANIFEST else None


def peer_of(exchange: Exchange) -> str | None:
    """Return the client's address."""
    return None if exchange.client is None else exchange.client[0]


def peer_with_port(exchange: Exchange) -> str | None:
    """Return the client's address and port."""
    return None if exchange.client is None else f"{exchange.client[0]}:{exchange.client[1]}"


def error_codes(response: Response) -> list[str]:
    """Return the codes in a JSON error body; of other bodies, none."""
    if not isinstance(response.body, bytes) or response.status < 400:  # noqa: PLR2004 (errors)
        return []
    try:
        errors = json.loads(response.body)["errors"]
        return [str(error["code"]) for error in errors]
    except (ValueError, KeyError, TypeError):
        return []
