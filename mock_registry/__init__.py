"""An OCI registry for tests: complete, honest, fast, with its own account of every request and byte.

Owns the server's side of the distribution protocol and a journal of what it saw. Must not know, nor import,
any client.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .app import MockRegistry
    from .background import RegistryServer
    from .journal import Journal, Record, Route
    from .storage.directory import DirectoryStorage
    from .storage.memory import MemoryStorage
    from .storage.place import DirectoryError, DirectoryInUseError
    from .storage.protocol import Storage

__all__ = [
    "DirectoryError",
    "DirectoryInUseError",
    "DirectoryStorage",
    "Journal",
    "MemoryStorage",
    "MockRegistry",
    "Record",
    "RegistryServer",
    "Route",
    "Storage",
]

# pytest imports this package at every start, for the plugin, and most runs need nothing of it.
_HOMES = {
    "MockRegistry": "app",
    "RegistryServer": "background",
    "Journal": "journal",
    "Record": "journal",
    "Route": "journal",
    "DirectoryError": "storage.place",
    "DirectoryInUseError": "storage.place",
    "DirectoryStorage": "storage.directory",
    "MemoryStorage": "storage.memory",
    "Storage": "storage.protocol",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return found
