"""httpx's exceptions as this project's errors: the only place where they are translated.

Must not know what a request is good for.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import httpx

from regsim.errors import NetworkError, RegistryError, RegsimError, Trouble
from regsim.net import address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regsim.net.address import Proxy

HINTS = {
    401: "the registry wants credentials",
    403: "the registry does not allow this here",
    407: "the proxy wants credentials: --proxy http://USER:PASSWORD@HOST:PORT",
    405: "the registry does not support this",
    413: "a limit of the registry, or of a proxy before it, is too small for this",
    429: "the registry limits requests; try again later, or with fewer at once",
}
"""What a user can do about a refusal, by its status."""

# The first one that fits.
_TROUBLES: tuple[tuple[type[httpx.HTTPError], Trouble], ...] = (
    (httpx.ConnectTimeout, Trouble.CONNECT),
    (httpx.PoolTimeout, Trouble.CONNECT),
    (httpx.ConnectError, Trouble.CONNECT),
    (httpx.TimeoutException, Trouble.STALL),
    (httpx.NetworkError, Trouble.RESET),
    (httpx.HTTPError, Trouble.CUT),
)
_TIMEOUTS: dict[type[httpx.HTTPError], str] = {
    httpx.ConnectTimeout: "no connection in time",
    httpx.PoolTimeout: "no connection became free in time",
}


@contextlib.contextmanager
def translated(method: str, url: str, proxy: Proxy | None = None) -> Iterator[None]:
    """Turn httpx's exceptions into this project's; what is not httpx's passes through."""
    try:
        yield
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise RegistryError(f"not a URL that can be asked: {address.without_query(url)}") from error
    except httpx.LocalProtocolError as error:
        raise RegsimError(f"{where(method, url)} could not be sent: {error}") from error
    except httpx.ProxyError as error:
        raise _refused_by_proxy(method, url, str(error)[:3]) from error
    except httpx.HTTPError as error:
        what, hint = _failure(error, proxy)
        trouble = next(trouble for kind, trouble in _TROUBLES if isinstance(error, kind))
        raise NetworkError(f"{where(method, url)}: {what}", hint=hint, trouble=trouble) from error


def _refused_by_proxy(method: str, url: str, status: str) -> RegsimError:
    """Return what it means that no tunnel was opened; a 5xx may pass."""
    words = f"{where(method, url)}: the proxy answered {status}"
    if status.startswith("4"):
        return RegistryError(words, hint=HINTS.get(int(status), ""), status=int(status))
    return NetworkError(words, trouble=Trouble.CONNECT)


def where(method: str, url: str) -> str:
    """Return a request in words, without the query, which may hold secrets."""
    return f"{method} {address.without_query(url).partition('://')[2]}"


def _failure(error: httpx.HTTPError, proxy: Proxy | None) -> tuple[str, str]:
    """Return what happened, in words, and a hint."""
    words = str(error) or type(error).__name__
    if isinstance(error, httpx.TimeoutException):
        return _TIMEOUTS.get(type(error), "the connection fell silent"), ""
    if not isinstance(error, httpx.ConnectError):
        return f"the connection broke ({words})", ""
    if "CERTIFICATE_VERIFY_FAILED" in words:
        return (
            f"the certificate is not trusted ({words})",
            "--ca-file (or SSL_CERT_FILE) names further authorities",
        )
    if "SSL" in words:
        return f"no TLS connection ({words})", "a registry without TLS is addressed as http://…"
    return (
        f"no connection ({words})",
        f"is {proxy.name} a proxy that is running?" if proxy else "is a registry running there?",
    )
