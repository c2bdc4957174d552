"""`WWW-Authenticate`: how a registry asks who is there (RFC 9110, 11.6.1).

Owns the header's grammar. Must not know what is done about a challenge.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  (a token of the grammar, RFC 9110, 5.6.2)
_QUOTED = r'"(?:[^"\\]|\\.)*+(?:"|$)'
# A value without quotes should be a token, but URLs without quotes are about.
_PARAMETER = re.compile(rf"({_TOKEN})[ \t]*=[ \t]*({_QUOTED}|[^\s,\"]*)", re.DOTALL)
_SCHEME = re.compile(rf"({_TOKEN})(?:[ \t]+([0-9A-Za-z._~+/-]+=*)(?=[ \t]*(?:,|$)))?")
_GAP = re.compile(r"[\s,]+")
_JUNK = re.compile(rf"(?:{_QUOTED}|[^,\"])+", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to log in, as a registry offers it.

    Attributes:
        scheme: in lower case: `basic`, `bearer`, or any other.
        parameters: by name in lower case; the first one counts where a name comes twice.
    """

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(text: str) -> tuple[Challenge, ...]:
    """Read all challenges of a header, in its order; several lines are joined by commas.

    What makes no sense is passed over: a challenge that cannot be read is one that cannot be met.
    """
    return tuple(_challenges(text))


def _challenges(text: str) -> Iterator[Challenge]:
    scheme, parameters = "", dict[str, str]()
    at = 0
    while at < len(text):
        parameter, start = _PARAMETER.match(text, at), _SCHEME.match(text, at)
        found = parameter or start or _GAP.match(text, at) or _JUNK.match(text, at)
        if parameter:
            parameters.setdefault(parameter[1].lower(), _unquoted(parameter[2]))
        elif start:
            if scheme:
                yield Challenge(scheme, parameters)
            scheme, parameters = start[1].lower(), {}
        at = found.end() if found else at + 1
    if scheme:
        yield Challenge(scheme, parameters)


def _unquoted(text: str) -> str:
    if not text.startswith('"'):
        return text
    inner = text[1:-1] if len(text) > 1 and text.endswith('"') else text[1:]
    return re.sub(r"\\(.)", r"\1", inner, flags=re.DOTALL)
