"""Who the users are, and whether a password is theirs.

Owns passwords, which it holds only as digests. Must not know how they arrive.
"""

import asyncio
import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol, Self

from mock_registry.errors import MissingPackageError

_BCRYPT = re.compile(r"\$2[aby]\$(?:0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
_BCRYPT_LENGTH = 72
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Users(Protocol):
    """Anything that knows passwords."""

    async def verify(self, name: str, password: str) -> bool:
        """Tell whether the password is that user's; an unknown user has no password."""


class HtpasswdError(ValueError):
    """An htpasswd file that cannot be used; the message begins with the file and the line."""


class Pairs:
    """Users given as names and passwords.

    Args:
        pairs: Password by name.

    Raises:
        ValueError: A name that HTTP's Basic scheme cannot carry.
    """

    def __init__(self, pairs: Mapping[str, str]) -> None:
        self._key = os.urandom(32)
        for name in pairs:
            _check_name(name)
        self._known = {name: _sealed(self._key, name, password) for name, password in pairs.items()}
        self._nobody = os.urandom(hashlib.blake2b.MAX_DIGEST_SIZE)

    async def verify(self, name: str, password: str) -> bool:
        """Tell whether the password is that user's, in a time that depends on neither."""
        return hmac.compare_digest(self._known.get(name, self._nobody), _sealed(self._key, name, password))


class Htpasswd:
    """Users of an htpasswd file with bcrypt hashes, as ``htpasswd -B`` writes it. Needs the package bcrypt.

    A hash is made to be slow, and clients send a password with each request: one that was right is
    remembered as a keyed digest, and found there the next time.

    Args:
        hashes: bcrypt hash by name.

    Raises:
        MissingPackageError: bcrypt is not installed.
    """

    def __init__(self, hashes: Mapping[str, str]) -> None:
        try:
            import bcrypt  # noqa: PLC0415 (an extra, which pairs do not need)
        except ImportError as error:
            raise MissingPackageError("bcrypt", "an htpasswd file") from error
        self._check = bcrypt.checkpw
        self._hashes = {name: text.encode("ascii") for name, text in hashes.items()}
        # An unknown user takes as long as a known one.
        self._nobody = next(iter(self._hashes.values()), None)
        self._key = os.urandom(32)
        self._right: dict[str, bytes] = {}

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file.

        Raises:
            HtpasswdError: A line is not a name and a bcrypt hash, or a name stands twice.
            MissingPackageError: bcrypt is not installed.
            OSError: The file cannot be read.
        """
        text = Path(path).read_text(encoding="utf-8", errors="surrogateescape")
        return cls(_parse(text.splitlines(), os.fspath(path)))

    async def verify(self, name: str, password: str) -> bool:
        """Tell whether the password is that user's."""
        sealed = _sealed(self._key, name, password)
        if hmac.compare_digest(self._right.get(name, b""), sealed):
            return True
        stored = self._hashes.get(name, self._nobody)
        right = stored is not None and await asyncio.to_thread(self._matches, password, stored)
        if right and name in self._hashes:
            self._right[name] = sealed
            return True
        return False

    def _matches(self, password: str, stored: bytes) -> bool:
        # bcrypt reads 72 bytes, and so did the program that made the hash of a longer password.
        octets = password.encode("utf-8", "surrogateescape")[:_BCRYPT_LENGTH]
        try:
            return self._check(octets, stored)
        except ValueError:  # a NUL, in some versions
            return False


def _sealed(key: bytes, name: str, password: str) -> bytes:
    """Return a digest of a name and a password that is worth nothing without the key."""
    text = f"{name}\0{password}".encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, key=key).digest()


def _check_name(name: str) -> None:
    if not name or ":" in name or _CONTROL.search(name):
        raise ValueError(f"not a name that can log in: {name!r}")


def _parse(lines: Iterable[str], where: str) -> dict[str, str]:
    hashes: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, text = line.strip().partition(":")
        try:
            _check_name(name)
        except ValueError as error:
            raise HtpasswdError(f"{where}:{number}: {error}") from None
        if not colon or not _BCRYPT.fullmatch(text):
            raise HtpasswdError(f"{where}:{number}: {name}: not a bcrypt hash, as htpasswd -B makes it")
        if name in hashes:
            raise HtpasswdError(f"{where}:{number}: {name} stands twice")
        hashes[name] = text
    return hashes
