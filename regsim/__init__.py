"""regsim tells exactly which layers a push or pull moves, which it skips, and why.

`regsim.Client` and the other public names are loaded when they are first used: importing this package costs
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

_MODULES = {
    "regsim.client.client": {"Client"},
    "regsim.core.result": {"RunResult"},
    "regsim.errors": {"RegsimError"},
    "regsim.net": {"Timeouts"},
    "regsim.net.trust": {"Trust"},
    "regsim.registry.login": {"Anonymous", "AuthFiles", "Credentials", "FixedKeychain"},
    "regsim.transfer.events": {"Event", "Moment", "Step"},
}


def __getattr__(name: str) -> object:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
