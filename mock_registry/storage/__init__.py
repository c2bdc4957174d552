"""Where bytes live: content under its digest, and uploads that are still growing.

Knows digests and files. Must not know of repositories, tags or HTTP.
"""

from .content import Blob, BlobRemoved, Reader, StorageFull, Upload
from .directory import DirectoryStorage
from .memory import MemoryStorage
from .place import DirectoryError, DirectoryInUseError
from .protocol import Storage

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
