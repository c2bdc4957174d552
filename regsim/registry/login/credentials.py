"""Credentials, and where they are looked up.

Owns the value and the interface of keychains. Must not know files, programs or HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from regsim.core.reference import DEFAULT_HOST
from regsim.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Docker Hub's names: in references, in auth files, and where it answers.
_HUB = frozenset({DEFAULT_HOST, "index.docker.io", "registry-1.docker.io"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A user name with a password, or an identity token. Neither secret shows in a `repr`.

    Attributes:
        user: the name to which `password` belongs.
        password: may hold any character.
        identity_token: a refresh token, which a token service takes in place of a password (OAuth2).
        source: where they were found, for the hint of an error if they are refused.
    """

    user: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    source: str = field(default="what was given", compare=False)

    @classmethod
    def parse(cls, text: str, *, source: str) -> Credentials:
        """Read `USER:PASSWORD`; what follows the first colon is the password.

        Raises:
            UsageError: the text has another form; the error does not repeat it.
        """
        user, colon, password = text.partition(":")
        if not user or not colon or not password:
            raise UsageError(f"{source} is not USER:PASSWORD")
        return cls(user=user, password=password, source=source)


class Keychain(Protocol):
    """Finds credentials. It is asked when a registry asks for some, and not before."""

    async def find(self, host: str, repository: str | None) -> Credentials | None:
        """Return the credentials for a repository, or None.

        Args:
            host: `host[:port]` of the registry, as references name it.
            repository: None asks for the registry as a whole.

        Raises:
            LocalFileError: where they are kept cannot be read.
        """


class Anonymous:
    """An empty keychain."""

    async def find(self, host: str, repository: str | None) -> Credentials | None:  # noqa: ARG002
        """Return None."""
        return None


class FixedKeychain:
    """A keychain with given credentials.

    Args:
        credentials: by `host[:port]` or URL. They are sent to no other host.
        otherwise: is asked about other hosts; None: there are no credentials for them.
    """

    def __init__(self, credentials: Mapping[str, Credentials], *, otherwise: Keychain | None = None) -> None:
        self._credentials = {normal_host(host): each for host, each in credentials.items()}
        self._otherwise = otherwise or Anonymous()

    async def find(self, host: str, repository: str | None) -> Credentials | None:
        """Return the host's credentials."""
        given = self._credentials.get(normal_host(host))
        return given if given is not None else await self._otherwise.find(host, repository)


def refusal_hint(credentials: Credentials | None) -> str:
    """Return the hint of an error about refused credentials: the user, and where they were found."""
    if credentials is None:
        return "no credentials were found: use --creds, or log in with docker, podman or skopeo"
    who = f" of {credentials.user!r}" if credentials.user else ""
    return f"the credentials{who} came from {credentials.source}; are they right, and may they do this?"


def normal_host(host: str) -> str:
    """Return one name for a registry that has several, or for its URL; the port stays."""
    lower = host.rpartition("://")[2].removesuffix("/").lower()
    return DEFAULT_HOST if lower in _HUB else lower
