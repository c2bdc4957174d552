"""A small HTTP/1.1 server of our own, on asyncio and httptools.

Knows HTTP and ASGI. Must not know that the app it serves is a registry.
"""

from .limits import Limits
from .server import Server, SparePort

__all__ = ["Limits", "Server", "SparePort"]
