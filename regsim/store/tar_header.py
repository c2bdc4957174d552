"""The header of a file in a tar, ustar format (POSIX pax, "ustar Interchange Format").

Owns 512 bytes. Everything in them but path and size is the same in every layer on every machine.
"""

from __future__ import annotations

MAX_PATH = 255
MAX_NAME = 100
BLOCK = 512
# A tar ends with two blocks of zeros.
END = 2 * BLOCK

PATH_END = 100
SIZE_FIELD = slice(124, 136)
CHECKSUM_FIELD = slice(148, 156)

# The 29th of June 2024 was a Saturday; more to the point, these digits are mostly zeros and compress well.
_MODIFIED = b"14700000000\0"


def tar_header(path: bytes, size: int) -> bytes:
    """Return the header of a regular file of root's, mode 0644.

    Args:
        path: one that `recipe.check_path` returned.
        size: bytes of the file, below 8 GiB.
    """
    prefix, name = split_path(path) or (b"", path)
    before = name.ljust(PATH_END, b"\0") + b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % size + _MODIFIED
    after = b"0" + bytes(100) + b"ustar\x0000" + bytes(80) + prefix.ljust(155, b"\0") + bytes(12)
    checksum = sum(before) + 8 * ord(" ") + sum(after)
    return before + b"%06o\0 " % checksum + after


def padding(size: int) -> int:
    """Return how many zeros follow a file of `size` bytes."""
    return -size % BLOCK


def split_path(path: bytes) -> tuple[bytes, bytes] | None:
    """Return prefix and name of a ustar header (POSIX pax, "ustar Interchange Format"), None if too long."""
    if len(path) <= MAX_NAME:
        return b"", path
    cut = path.find(b"/", len(path) - MAX_NAME - 1)
    if cut < 0 or cut > MAX_PATH - MAX_NAME:
        return None
    return path[:cut], path[cut + 1 :]
