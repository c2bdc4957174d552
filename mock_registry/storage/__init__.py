"""Where octets live: content under its digest, and uploads that are still growing.

Knows digests and files. Must not know of repositories, tags or HTTP.
"""

from .memory import MemoryStorage
from .protocol import Blob, Reader, Storage, StorageFull, Upload

__all__ = ["Blob", "MemoryStorage", "Reader", "Storage", "StorageFull", "Upload"]
