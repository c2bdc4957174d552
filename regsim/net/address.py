"""Addresses as text: where to connect to, and what a `Location` means, byte for byte.

Owns the reading of registry hosts and URLs. Nothing here decodes or re-encodes: an upload's query is the
registry's own state, and a signed one breaks when a single character changes (distribution-spec, end-4a).
Must not know HTTP libraries, repositories or accounts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple, Self
from urllib.parse import urljoin, urlsplit

from regsim.core.reference import DEFAULT_HOST, is_loopback
from regsim.errors import InvalidReferenceError, RegistryError, UsageError

# Docker Hub's name in references is not where its registry answers.
_ENDPOINTS = {DEFAULT_HOST: "registry-1.docker.io"}
_PORTS = {"http": 80, "https": 443}
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_PROXY = re.compile(
    r"(?P<scheme>https?)://"
    r"(?:[A-Za-z0-9._~%!$&'()*+,;=:-]*@)?"
    r"(?P<host>(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?)/?"
)
_HIGHEST_PORT = 65535


class Origin(NamedTuple):
    """Where a URL's requests go. Credentials never leave the origin that they were given for."""

    scheme: str
    host: str
    port: int


def base_url(host: str, *, plain_http: bool | None = None) -> str:
    """Return `scheme://host[:port]` of a registry.

    Args:
        host: `host[:port]`, or a URL with nothing behind the port.
        plain_http: speak HTTP where the address does not say, or TLS; None: HTTP to a loopback host alone.

    Raises:
        InvalidReferenceError: it is no address of a registry.
    """
    scheme, _, rest = host.rpartition("://")
    rest = rest.removesuffix("/")
    rest = rest if scheme else _ENDPOINTS.get(rest, rest)
    try:
        origin(f"{scheme.lower() or 'https'}://{rest}")
    except RegistryError as error:
        raise _no_address(host) from error
    if not rest.isascii() or any(mark in "/?#@\\" or not mark.isprintable() or mark == " " for mark in rest):
        raise _no_address(host)
    plain = is_loopback(rest) if plain_http is None else plain_http
    scheme = scheme or ("http" if plain else "https")
    return f"{scheme.lower()}://{rest}"


def _no_address(host: str) -> InvalidReferenceError:
    return InvalidReferenceError(
        f"not the address of a registry: {host[:300]!r}", hint="such as 127.0.0.1:5000 or https://ghcr.io"
    )


def origin(url: str) -> Origin:
    """Return the origin of an absolute URL, default ports filled in.

    Raises:
        RegistryError: it is no http or https URL.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise RegistryError(f"not a URL: {without_query(url)!r:.300}") from error
    if parts.scheme not in _PORTS or not host:
        raise RegistryError(f"not an http or https URL: {without_query(url)!r:.300}")
    return Origin(parts.scheme, host, port or _PORTS[parts.scheme])


def resolve(base: str, location: str) -> str:
    """Return the absolute URL that a `Location` (or `Link`) in an answer from `base` names.

    Absolute, host without scheme, absolute path, query alone and relative path all occur. The text is
    kept as it is; only what is never sent is cut off: a fragment, and a user, since a registry does not
    choose credentials.

    Raises:
        RegistryError: it names nothing that can be asked.
    """
    text = location.partition("#")[0]
    if _VISIBLE.fullmatch(text) is None:
        raise RegistryError(f"not a URL: {without_query(location)!r:.300}")
    url = _absolute(base, text)
    origin(url)
    return f"{url.partition('://')[0]}://{host_of(url)}{_tail(url)}"


def _absolute(base: str, text: str) -> str:
    scheme, host = base.partition("://")[0], _authority(base)
    path, mark, query = text.partition("?")
    if text.startswith("//"):
        return f"{scheme}:{text}"
    if text.startswith("/"):
        return f"{scheme}://{host}{text}"
    if "://" in path:
        return text
    if path.partition("/")[0].lower() == host.lower():
        return f"{scheme}://{text}"
    return f"{urljoin(base.partition('?')[0], path)}{mark}{query}"


def with_query(url: str, query: str) -> str:
    """Return `url` with `query` appended to the query that it has, whose bytes stay as they are."""
    if "?" not in url:
        return f"{url}?{query}"
    return f"{url}{query}" if url.endswith(("?", "&")) else f"{url}&{query}"


def without_query(url: str) -> str:
    """Return what of a URL may be shown: an upload's query, a signed query and a user are secrets."""
    scheme, separator, rest = re.split(r"[?#]", url, maxsplit=1)[0].rpartition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"


def host_of(url: str) -> str:
    """Return `host[:port]` as the URL writes it: a port that is spelled out stays so in `Host`."""
    return _authority(url).rpartition("@")[2]


def target_of(url: str) -> bytes:
    """Return the request target: everything behind the host, as it is."""
    tail = _tail(url)
    return (tail if tail.startswith("/") else f"/{tail}").encode("ascii")


def _authority(url: str) -> str:
    return re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]


def _tail(url: str) -> str:
    return url.partition("://")[2][len(_authority(url)) :]


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy, which forwards plain HTTP, and opens tunnels for TLS (RFC 9110, 9.3.6).

    Attributes:
        name: `http://HOST[:PORT]`, to be shown.
        url: the same, credentials included.
    """

    name: str
    url: str = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read `http://[USER:PASSWORD@]HOST[:PORT]`, or https, which speaks TLS to the proxy itself.

        Raises:
            UsageError: it is no such thing. It is not repeated, since it may hold a password.
        """
        match = _PROXY.fullmatch(url)
        if match is None or int(match["port"] or 0) > _HIGHEST_PORT:
            raise UsageError(
                "the proxy is not given as http:// or https://[USER:PASSWORD@]HOST[:PORT]",
                hint="signs such as @ and / in a password are written %40 and %2F",
            )
        return cls(name=f"{match['scheme']}://{match['host']}", url=url)
