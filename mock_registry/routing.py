"""From a raw path to what it addresses.

Owns the shapes of paths and hostile input in them. Must not know which methods a route answers.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from .journal import Route
from .spec import is_name

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
    """Read a path from its right end, since a repository's name may hold words such as ``blobs`` itself."""
    segments = [_unquote(segment) for segment in raw.split(b"/")]
    match segments:
        case ["", "v2"] | ["", "v2", ""]:
            return Address(Route.BASE)
        case ["", "v2", "_catalog"]:
            return Address(Route.CATALOG)
        case ["", "v2", *name, "tags", "list"]:
            return _address(Route.TAGS, name)
        case ["", "v2", *name, "blobs", "uploads"] | ["", "v2", *name, "blobs", "uploads", ""]:
            return _address(Route.UPLOADS, name)
        case ["", "v2", *name, "blobs", "uploads", session]:
            return _address(Route.UPLOAD, name, session)
        case ["", "v2", *name, "manifests" | "blobs" | "referrers" as kind, last]:
            return _address(_ROUTES[kind], name, last)
    return Address(Route.OTHER)


_ROUTES = {"manifests": Route.MANIFEST, "blobs": Route.BLOB, "referrers": Route.REFERRERS}


def _address(route: Route, name: list[str], last: str | None = None) -> Address:
    if not name:
        return Address(Route.OTHER)
    text = "/".join(name)
    return Address(route, text, last, is_name(text))


def _unquote(segment: bytes) -> str:
    """Decode one segment; an escape that could pass for a separator or a control stays as it was sent."""
    if b"%" not in segment:
        return segment.decode("latin-1")
    text = unquote_to_bytes(segment).decode("utf-8", "replace")
    return segment.decode("latin-1") if _FORBIDDEN.search(text) else text
