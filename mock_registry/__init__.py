"""An OCI registry for tests: complete, honest, fast, with its own account of every request and byte.

Owns the server's side of the distribution protocol and a journal of what it saw. Must not know, nor import,
any client.
"""

from .app import MockRegistry
from .journal import Journal, Record, Route
from .storage import DirectoryError, DirectoryInUseError, DirectoryStorage, MemoryStorage, Storage

__all__ = [
    "DirectoryError",
    "DirectoryInUseError",
    "DirectoryStorage",
    "Journal",
    "MemoryStorage",
    "MockRegistry",
    "Record",
    "Route",
    "Storage",
]
