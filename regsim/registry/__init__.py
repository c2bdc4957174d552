"""The distribution protocol: registries, their repositories, and how to connect to them.

`Connection` is here, apart from what connects, so that it can be made without loading an HTTP client.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

    from regsim.net import Timeouts
    from regsim.net.address import Proxy
    from regsim.net.trust import Trust
    from regsim.registry.login.credentials import Keychain


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How to connect to a registry, whichever it is.

    Attributes:
        plain_http: speak plain HTTP where the address does not say, or TLS; None: HTTP to this machine alone.
        trust: how certificates are judged; None: by the system's authorities.
        keychain: finds credentials; None: there are none, and only what is public can be read.
        timeouts: of every wait; None: the defaults.
        connections: open at once to one registry, at most.
        transport: replaces the network: a mock, or a registry in this process; None: sockets.
        proxy: of all requests, unless `transport` is given; None: no proxy.
    """

    plain_http: bool | None = None
    trust: Trust | None = None
    keychain: Keychain | None = None
    timeouts: Timeouts | None = None
    connections: int = 32
    transport: httpx.AsyncBaseTransport | None = None
    proxy: Proxy | None = None
