"""The realm: where a registry sends its clients for tokens.

Owns the rules that a realm must meet before anything is sent there. It is the registry's word, or that of
whoever sits before it, so it may be meant to lead a password astray, or this machine to one that only it can
reach (clients.md, edge 19; go-containerregistry's `validateRealmURL`).
"""

from __future__ import annotations

import ipaddress
import socket

from regsim.core.reference import is_loopback
from regsim.errors import AuthenticationError, RegistryError
from regsim.net import address

_PLAIN, _TLS = "http", "https"


def realm_url(registry: address.Origin, realm: str, *, secret: bool) -> str:
    """Return the URL of a token service, byte for byte, if a client may be sent there.

    Args:
        registry: that names it.
        realm: as it stands in the challenge.
        secret: what is sent there is credentials.

    Raises:
        AuthenticationError: it may not.
    """
    try:
        url = address.resolve(f"{registry.scheme}://{registry.host}/", realm) if "://" in realm else ""
        to = address.origin(url)
    except RegistryError as error:
        raise AuthenticationError(
            f"{registry.host} sends clients for tokens to no URL: {address.without_query(realm)!r:.300}"
        ) from error
    trouble = _trouble(registry, to, secret=secret)
    if trouble:
        raise AuthenticationError(
            f"{registry.host} sends clients for tokens to {to.scheme}://{to.host}: {trouble}",
            hint="nothing was sent there; is this the registry that you mean?",
        )
    return url


def _trouble(registry: address.Origin, to: address.Origin, *, secret: bool) -> str:
    if to == registry:
        return ""
    if is_internal(to.host) and not is_internal(registry.host):
        return "an address inside a network, from a host that is not in it"
    if to.scheme == _TLS:
        return ""
    if registry.scheme == _TLS:
        return "plain HTTP, though the registry speaks TLS"
    near = to.host == registry.host or (_is_loopback(to.host) and _is_loopback(registry.host))
    return "" if near or not secret else "plain HTTP, to another host"


def _is_loopback(host: str) -> bool:
    return is_loopback(f"[{host}]" if ":" in host else host)


def is_internal(host: str) -> bool:
    """Tell whether a host is named by an address that means another machine to everyone."""
    host = host.rstrip(".")
    if _is_loopback(host) or host.endswith(".localhost"):  # which many resolvers take for this machine
        return True
    found = _literal(host)
    return found is not None and not found.is_global


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    else:
        return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found
    try:
        # What resolvers read as addresses too: 127.1, 2130706433, 0x7f000001.
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None
