"""Where bytes live: content under its digest, and uploads that are still growing.

Knows digests and files. Must not know of repositories, tags or HTTP.
"""

from .directory import DirectoryStorage
from .memory import MemoryStorage
from .place import DirectoryError, DirectoryInUseError
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
