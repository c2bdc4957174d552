"""The Authorization header (RFC 7617, RFC 6750).

Owns its syntax. Must not judge what it says.
"""

import binascii
import re
from dataclasses import dataclass, field
from typing import TypeAlias

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


class MalformedError(ValueError):
    """An Authorization header that says nothing readable, or nothing that is spoken here."""


@dataclass(frozen=True, slots=True)
class Basic:
    """A name and a password."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token."""

    token: str = field(repr=False)


Credentials: TypeAlias = Basic | Bearer


def parse_authorization(header: str | None) -> Credentials | None:
    """Read the header.

    Returns:
        What it holds; ``None`` for no credentials. skopeo and podman send an empty name with an empty
        password where they have none.

    Raises:
        MalformedError: It is of another scheme, or not written as its scheme asks.
    """
    if header is None:
        return None
    scheme, _, text = header.strip().partition(" ")
    text = text.strip()
    match scheme.lower():
        case "basic":
            return _basic(text)
        case "bearer" if _TOKEN.fullmatch(text):
            return Bearer(text)
    raise MalformedError


def _basic(text: str) -> Basic | None:
    try:
        pair = binascii.a2b_base64(text.encode("ascii"), strict_mode=True).decode("utf-8")
    except ValueError:
        raise MalformedError from None
    user, colon, password = pair.partition(":")
    if not colon or _CONTROL.search(pair):
        raise MalformedError
    return Basic(user, password) if user or password else None
