"""Where octets live: content under its digest, and uploads that are still growing.

Knows digests and files. Must not know of repositories, tags or HTTP.
"""

from .directory import DirectoryStorage
from .directory_place import DirectoryError, DirectoryInUseError
from .memory import MemoryStorage
from .protocol import Blob, BlobRemoved, Reader, Storage, StorageFull, Upload

__all__ = [
    "Blob",
    "BlobRemoved",
    "DirectoryError",
    "DirectoryInUseError",
    "DirectoryStorage",
    "MemoryStorage",
    "Reader",
    "Storage",
    "StorageFull",
    "Upload",
]
