"""From a raw path to what it addresses.

Owns the shapes of paths and hostile input in them. Must not know which methods a route answers.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from .journal import Route
from .spec import is_name

# The name takes as much as it can, since words such as `blobs` may stand in a repository's name too: what
# counts is the right end of the path. Each group that may match last is named after its route.
_PATH = re.compile(
    r"""/v2/?
    | /v2/(?P<catalog>_catalog)
    | /(?P<token>token)
    | (?P<page>/)
    | /v2/(?P<name>.*)/(?:
        (?P<tags>tags/list)
        | (?P<uploads>blobs/uploads/?)
        | blobs/uploads/(?P<upload>[^/]+)
        | manifests/(?P<manifest>[^/]*)
        | blobs/(?P<blob>[^/]*)
        | referrers/(?P<referrers>[^/]*)
    )""",
    re.VERBOSE | re.DOTALL,
)
_FORBIDDEN = re.compile(r"[/\x00-\x20\x7f]")


@dataclass(frozen=True, slots=True)
class Address:
    """What a path addresses.

    Attributes:
        name: The repository's, as sent.
        last: Reference, digest or session, by route; as sent.
        valid: The name, if there is one, follows the grammar.
    """

    route: Route
    name: str | None = None
    last: str | None = None
    valid: bool = True


def parse_path(raw: bytes) -> Address:
    """Read a path, without its query, as it came over the wire."""
    text = raw.decode("latin-1") if b"%" not in raw else "/".join(map(_unquote, raw.split(b"/")))
    match = _PATH.fullmatch(text)
    if match is None:
        return Address(Route.OTHER)
    if match.lastgroup is None:
        return Address(Route.BASE)
    name = match["name"]
    return Address(Route(match.lastgroup), name, match[match.lastgroup], name is None or is_name(name))


def _unquote(segment: bytes) -> str:
    """Decode one segment; an escape that could pass for a separator or a control stays as it was sent."""
    text = unquote_to_bytes(segment).decode("utf-8", "replace")
    return segment.decode("latin-1") if _FORBIDDEN.search(text) else text
