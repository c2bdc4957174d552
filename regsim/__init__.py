"""regsim tells exactly which layers a push or pull moves, which it skips, and why.

`regsim.Client` and what goes with it are loaded when they are first asked for: importing this package costs
nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regsim.client.client import Client
    from regsim.core.result import RunResult
    from regsim.errors import RegsimError
    from regsim.net import Timeouts
    from regsim.net.trust import Trust
    from regsim.registry.login import Anonymous, AuthFiles, Credentials, FixedKeychain
    from regsim.transfer.events import Event, Moment, Step

__all__ = [
    "Anonymous",
    "AuthFiles",
    "Client",
    "Credentials",
    "Event",
    "FixedKeychain",
    "Moment",
    "RegsimError",
    "RunResult",
    "Step",
    "Timeouts",
    "Trust",
]

_PLACES = {
    "Anonymous": "regsim.registry.login",
    "AuthFiles": "regsim.registry.login",
    "Client": "regsim.client.client",
    "Credentials": "regsim.registry.login",
    "Event": "regsim.transfer.events",
    "FixedKeychain": "regsim.registry.login",
    "Moment": "regsim.transfer.events",
    "RegsimError": "regsim.errors",
    "RunResult": "regsim.core.result",
    "Step": "regsim.transfer.events",
    "Timeouts": "regsim.net",
    "Trust": "regsim.net.trust",
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
