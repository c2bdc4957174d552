"""Dialling: from an origin to an open line.

Owns names, addresses and their order (RFC 8305), and TLS as part of connecting. Must not know HTTP, or how
many lines there may be.
"""

from __future__ import annotations

import asyncio
import os
import socket
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any

import httpx

from regsim.net.connection import Line

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from regsim.net.address import Origin

# Seconds that an address has before the next one is tried beside it (RFC 8305, section 8).
HEAD_START = 0.25

# Family and address, as the socket module has them.
Address = tuple[int, Any]


async def dial(origin: Origin, context: Callable[[], ssl.SSLContext], *, seconds: float | None) -> Line:
    """Connect to an origin.

    Args:
        origin: https ones are spoken to through TLS.
        context: for TLS; called when it is needed.
        seconds: for all of it.

    Raises:
        ConnectError: nobody is there, the name is unknown, or TLS failed.
        ConnectTimeout: not in time.
    """
    try:
        async with asyncio.timeout(seconds):
            line = Line(await _first(await _resolve(origin.host, origin.port)))
            if origin.scheme == "https":
                try:
                    await line.secure(context(), origin.host)
                except BaseException:
                    line.close()
                    raise
            return line
    except TimeoutError as error:
        raise httpx.ConnectTimeout(f"not within {seconds:g} s") from error


async def _resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of a host, families in turn, the system's favourite first."""
    for family in (socket.AF_INET, socket.AF_INET6):
        # A bare address needs no thread to look it up in.
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return [(family, (host, port))]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # UnicodeError: no name at all, by the rules of IDNA
        raise httpx.ConnectError(str(error)) from error
    addresses = [(int(family), address) for family, _, _, _, address in found]
    return _in_turn(list(dict.fromkeys(addresses)))


def _in_turn(addresses: Sequence[Address]) -> list[Address]:
    if not addresses:
        return []
    favourite = addresses[0][0]
    first = [each for each in addresses if each[0] == favourite]
    second = [each for each in addresses if each[0] != favourite]
    return [each for each in chain.from_iterable(zip_longest(first, second)) if each is not None]


async def _first(addresses: Sequence[Address]) -> socket.socket:
    """Return a socket that is connected to the first address that answers."""
    if len(addresses) == 1:
        return await _connect(addresses[0])
    left = list(addresses)
    attempts: set[asyncio.Task[socket.socket]] = set()
    failures: list[str] = []
    try:
        while left or attempts:
            if left:
                attempts.add(asyncio.create_task(_connect(left.pop(0))))
            done, _ = await asyncio.wait(
                attempts, timeout=HEAD_START if left else None, return_when=asyncio.FIRST_COMPLETED
            )
            for attempt in done:
                failure = attempt.exception()
                if failure is None:
                    attempts.discard(attempt)
                    return attempt.result()
                attempts.discard(attempt)
                if not isinstance(failure, httpx.ConnectError):
                    raise failure
                failures.append(str(failure))
    finally:
        await _give_up(attempts)
    raise httpx.ConnectError("; ".join(dict.fromkeys(failures)) or "the name has no address")


async def _give_up(attempts: set[asyncio.Task[socket.socket]]) -> None:
    for attempt in attempts:
        attempt.cancel()
    for outcome in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(outcome, socket.socket):
            outcome.close()


async def _connect(address: Address) -> socket.socket:
    family, where = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(0)
        # Heads and last pieces must not wait for the peer's acknowledgement of what went before.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, where)
    except OSError as error:
        sock.close()
        # What asyncio says instead names the address alone.
        raise httpx.ConnectError(os.strerror(error.errno) if error.errno else str(error)) from error
    except BaseException:
        sock.close()
        raise
    return sock
