"""regsim tells exactly which layers a push or pull moves, which it skips, and why.

`regsim.Client` and the other public names are loaded when they are first used: importing this package costs
nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regsim.client.client import Client as Client
    from regsim.core.ledger import Outcome as Outcome
    from regsim.core.result import RunResult as RunResult
    from regsim.errors import RegsimError as RegsimError
    from regsim.net import Timeouts as Timeouts
    from regsim.net.trust import Trust as Trust
    from regsim.registry.login import Anonymous as Anonymous
    from regsim.registry.login import AuthFiles as AuthFiles
    from regsim.registry.login import Credentials as Credentials
    from regsim.registry.login import FixedKeychain as FixedKeychain
    from regsim.transfer.events import Event as Event
    from regsim.transfer.events import Moment as Moment
    from regsim.transfer.events import Step as Step

_MODULES = {
    "regsim.client.client": {"Client"},
    "regsim.core.ledger": {"Outcome"},
    "regsim.core.result": {"RunResult"},
    "regsim.errors": {"RegsimError"},
    "regsim.net": {"Timeouts"},
    "regsim.net.trust": {"Trust"},
    "regsim.registry.login": {"Anonymous", "AuthFiles", "Credentials", "FixedKeychain"},
    "regsim.transfer.events": {"Event", "Moment", "Step"},
}

__all__ = sorted(set().union(*_MODULES.values()))  # noqa: PLE0605


def __getattr__(name: str) -> object:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
