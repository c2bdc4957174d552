"""The proxy that requests go through, where one is asked for.

Owns its address, which may hold credentials and shows them to nobody. Must not know HTTP libraries.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Self

from regsim.errors import UsageError

_URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?:[A-Za-z0-9._~%!$&'()*+,;=:-]*@)?"
    r"(?P<host>(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?)/?"
)
_HIGHEST_PORT = 65535


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
        match = _URL.fullmatch(url)
        if match is None or int(match["port"] or 0) > _HIGHEST_PORT:
            raise UsageError(
                "the proxy is not given as http:// or https://[USER:PASSWORD@]HOST[:PORT]",
                hint="signs such as @ and / in a password are written %40 and %2F",
            )
        return cls(name=f"{match['scheme']}://{match['host']}", url=url)
