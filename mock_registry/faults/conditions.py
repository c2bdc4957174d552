"""What a rule can ask of a request or of an answer.

Owns the values that conditions and counts are about, and their patterns. Must not know any rule.
"""

import json
import re
from collections.abc import Callable, Mapping
from functools import partial

from mock_registry.exchange import Exchange, Response
from mock_registry.journal import Route
from mock_registry.spec import is_digest

Value = Callable[[Exchange], str | None]
Test = Callable[[Exchange], bool]

METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")


def _digest(exchange: Exchange) -> str | None:
    """Return the digest in a request's path, or in its ``digest`` or ``mount`` parameter."""
    last = exchange.address.last
    if last is not None and is_digest(last):
        return last
    return exchange.parameter("digest") or exchange.parameter("mount")


def _peer(exchange: Exchange) -> str | None:
    return None if exchange.client is None else exchange.client[0]


def _peer_with_port(exchange: Exchange) -> str | None:
    return None if exchange.client is None else f"{exchange.client[0]}:{exchange.client[1]}"


def _last(exchange: Exchange) -> str:
    return f"{exchange.repository}/{exchange.address.last}"


def _reference(exchange: Exchange) -> str | None:
    return exchange.address.last if exchange.address.route is Route.MANIFEST else None


APART: Mapping[str, Value] = {
    "client": _peer,
    "digest": _digest,
    "reference": _last,
    "repository": lambda exchange: exchange.repository,
    "session": _last,
    "user": lambda exchange: exchange.access.user,
}
"""What can be counted or limited apart, by the word for it."""


def glob(pattern: str, *, path: bool = False) -> re.Pattern[str]:
    """Compile a pattern; in a path, ``*`` stays within one component."""
    texts = {"**": ".*", "*": "[^/]*" if path else ".*"}
    pieces = re.split(r"(\*\*|\*)", pattern)
    return re.compile("".join(texts.get(piece) or re.escape(piece) for piece in pieces), re.DOTALL)


def matches(value: Value, pattern: str, *, path: bool = False) -> Test:
    """Return the test of a value."""
    if "*" not in pattern:
        return lambda exchange: value(exchange) == pattern
    compiled = glob(pattern, path=path)
    return lambda exchange: (text := value(exchange)) is not None and compiled.fullmatch(text) is not None


def _of_peer(pattern: str) -> Test:
    return matches(_peer_with_port if ":" in pattern.replace("::", "") else _peer, pattern)


def _named(value: Callable[[Exchange, str], str | None], condition: str) -> Test:
    """Return the test of a parameter or header: that it is there, or that its value matches."""
    name, equals, pattern = condition.partition("=")
    if not equals:
        return lambda exchange: value(exchange, name) is not None
    return matches(lambda exchange: value(exchange, name), pattern)


TESTS: Mapping[str, Callable[[str], Test]] = {
    "repository": partial(matches, APART["repository"], path=True),
    "digest": partial(matches, _digest),
    "reference": partial(matches, _reference),
    "agent": partial(matches, lambda exchange: exchange.header(b"user-agent")),
    "query": partial(_named, Exchange.parameter),
    "header": partial(_named, lambda exchange, name: exchange.header(name.lower().encode())),
    "peer": _of_peer,
}
"""The tests of a request when it arrives, by the condition whose text they are made of."""


def error_codes(response: Response) -> list[str]:
    """Return the codes in a JSON error body; empty for other bodies."""
    if not isinstance(response.body, bytes) or response.status not in range(400, 600):
        return []
    try:
        return [str(error["code"]) for error in json.loads(response.body)["errors"]]
    except (ValueError, KeyError, TypeError):
        return []
