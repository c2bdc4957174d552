"""Auth files: where podman, skopeo and docker keep credentials, and in which order they are looked at.

Owns the files' places and format (containers-auth.json(5), docker's `config.json`). Must not know what
credentials are used for. Nothing here is written, and no error repeats what a file says.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regsim.core.reference import DEFAULT_HOST
from regsim.errors import LocalFileError
from regsim.registry.login.credentials import Credentials, normal_host
from regsim.registry.login.flights import Flights
from regsim.registry.login.programs import Program

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_FILE = 1024 * 1024
# What helpers, and docker's own file, call Docker Hub.
HUB_URL = "https://index.docker.io/v1/"
# The user under which a helper keeps an identity token.
TOKEN_USER = "<token>"  # noqa: S105  (a name)


class AuthFiles:
    """A keychain: the auth files of this user, and the helper programs that they name.

    Args:
        environment: of the process.
        authfile: the only file to look at; None: `$REGISTRY_AUTH_FILE`, or else all the usual ones.
    """

    def __init__(self, environment: Mapping[str, str], authfile: Path | None = None) -> None:
        self._environment = environment
        named = environment.get("REGISTRY_AUTH_FILE")
        self._explicit = authfile or (Path(named) if named else None)
        self._documents: dict[Path, _Document | None] = {}
        self._helped: dict[tuple[str, str], Credentials | None] = {}
        self._asking: Flights[Credentials | None] = Flights()

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that are looked at, in order, whether or not they exist."""
        if self._explicit is not None:
            return (self._explicit,)
        return tuple(_usual_paths(self._environment))

    def check(self) -> None:
        """Read the file that was named, if one was.

        Raises:
            LocalFileError: it is missing, or no auth file.
        """
        if self._explicit is not None:
            self._read(self._explicit)

    async def find(self, host: str, repository: str | None) -> Credentials | None:
        """Return credentials for a repository: of the first file that has some.

        Raises:
            LocalFileError: a file, or a helper, is of no use.
        """
        host = normal_host(host)
        for path in self.paths:
            document = await asyncio.to_thread(self._read, path)
            if document is None:
                continue
            found = await self._look(document, host, repository)
            if found is not None:
                return found
        return None

    async def _look(self, document: _Document, host: str, repository: str | None) -> Credentials | None:
        if helper := document.helper(host):
            found = await self._ask(document.path, helper, host)
            if found is not None:
                return found
        stored = document.stored(host, repository)
        if stored is None and document.store:
            return await self._ask(document.path, document.store, host)
        return stored

    async def _ask(self, path: Path, helper: str, host: str) -> Credentials | None:
        key = helper, host
        if key not in self._helped:

            async def ask() -> Credentials | None:
                server = HUB_URL if host == DEFAULT_HOST else host
                program = Program(helper, named_in=path, environment=self._environment)
                pair = await program.get(server)
                if pair is None:
                    return None
                return _credentials(*pair, identity_token="", source=program.name)

            self._helped[key] = await self._asking.join(key, ask)
        return self._helped[key]

    def _read(self, path: Path) -> _Document | None:
        """Return a file's document, read once; None where there is no such file, and none need be."""
        if path not in self._documents:
            self._documents[path] = self._load(path)
        return self._documents[path]

    def _load(self, path: Path) -> _Document | None:
        try:
            with path.open("rb") as file:
                raw = file.read(MAX_FILE + 1)
        except (FileNotFoundError, NotADirectoryError) as error:
            if path != self._explicit:
                return None
            raise LocalFileError(f"there is no auth file {path}") from error
        except OSError as error:
            raise LocalFileError(f"cannot read the auth file {path}: {error.strerror}") from error
        if len(raw) > MAX_FILE:
            raise LocalFileError(f"the auth file {path} is larger than {MAX_FILE} bytes")
        return _Document.parse(path, raw)


def _usual_paths(environment: Mapping[str, str]) -> Iterator[Path]:
    """Yield the places in skopeo's order (containers/image, `getAuthFilePaths`)."""
    runtime = environment.get("XDG_RUNTIME_DIR") or f"/run/containers/{os.getuid()}"
    folder = Path(runtime, "containers") if environment.get("XDG_RUNTIME_DIR") else Path(runtime)
    yield folder / "auth.json"
    home = environment.get("HOME")
    if config := environment.get("XDG_CONFIG_HOME") or (home and str(Path(home, ".config"))):
        yield Path(config, "containers", "auth.json")
    if docker := environment.get("DOCKER_CONFIG") or (home and str(Path(home, ".docker"))):
        yield Path(docker, "config.json")
    if home:
        yield Path(home, ".dockercfg")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    """What an auth file says. Its entries are only judged when they are wanted.

    Attributes:
        path: of the file.
        auths: entries by registry, namespace or repository.
        helpers: suffixes of programs by registry.
        store: the suffix of the program for all others; empty for none.
    """

    path: Path
    auths: Mapping[str, Any]
    helpers: Mapping[str, Any]
    store: str

    @classmethod
    def parse(cls, path: Path, raw: bytes) -> _Document:
        """Read a file.

        Raises:
            LocalFileError: it is no auth file.
        """
        try:
            document = json.loads(raw)
        except (ValueError, RecursionError):
            raise _unusable(path, "it is not JSON") from None
        if not isinstance(document, dict):
            raise _unusable(path, "it is not a JSON object")
        if path.name == ".dockercfg":
            return cls(path=path, auths=document, helpers={}, store="")
        auths, helpers = document.get("auths") or {}, document.get("credHelpers") or {}
        store = document.get("credsStore") or ""
        for name, value, kind in (
            ("auths", auths, dict),
            ("credHelpers", helpers, dict),
            ("credsStore", store, str),
        ):
            if not isinstance(value, kind):
                raise _unusable(path, f"{name} is not {'an object' if kind is dict else 'a string'}")
        return cls(path=path, auths=auths, helpers=helpers, store=store)

    def helper(self, host: str) -> str:
        """Return the suffix of the program that is named for a registry; empty for none."""
        for key, value in self.helpers.items():
            if _host_of(key) == host:
                if not isinstance(value, str):
                    raise _unusable(self.path, f"credHelpers has no name of a program for {host}")
                return value
        return ""

    def stored(self, host: str, repository: str | None) -> Credentials | None:
        """Return what is stored for a repository, a namespace above it, or the registry: the nearest."""
        parts = [host, *(repository or "").split("/")] if repository else [host]
        wanted = ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
        for key in wanted:
            found = self._entry(key, self.auths.get(key))
            if found is not None:
                return found
        for key, entry in self.auths.items():
            # docker login kept URLs, and Hub's entry is one to this day.
            if key not in wanted and _host_of(key) == host:
                found = self._entry(key, entry)
                if found is not None:
                    return found
        return None

    def _entry(self, key: str, entry: object) -> Credentials | None:
        if entry is None:
            return None
        if not isinstance(entry, dict):
            raise _unusable(self.path, f"the entry of {key!r:.100} is not an object")
        values = {name: entry.get(name) or "" for name in ("auth", "username", "password", "identitytoken")}
        if not all(isinstance(value, str) for value in values.values()):
            raise _unusable(self.path, f"the entry of {key!r:.100} holds what is no text")
        user, password = values["username"], values["password"]
        if values["auth"]:
            user, password = self._decoded(key, values["auth"])
        return _credentials(user, password, values["identitytoken"], source=str(self.path))

    def _decoded(self, key: str, auth: str) -> tuple[str, str]:
        try:
            pair = base64.b64decode(auth, validate=True).decode()
        except (binascii.Error, ValueError):
            pair = ""
        user, colon, password = pair.partition(":")
        if not colon:
            raise _unusable(self.path, f"the auth of {key!r:.100} is not base64 of USER:PASSWORD") from None
        # Old dockers filled the password up.
        return user, password.strip("\0")


def _credentials(user: str, password: str, identity_token: str, *, source: str) -> Credentials | None:
    if user == TOKEN_USER:
        user, password, identity_token = "", "", identity_token or password
    if not identity_token and not (user and password):
        return None
    return Credentials(user=user, password=password, identity_token=identity_token, source=source)


def _host_of(key: str) -> str:
    """Return the registry that a key which may be a URL is about; empty where it is about a part of one."""
    scheme, _, rest = key.rpartition("://")
    host, slash, path = rest.partition("/")
    return normal_host(host) if scheme or not slash or path in ("", "v1/", "v2/") else ""


def _unusable(path: Path, why: str) -> LocalFileError:
    return LocalFileError(f"the auth file {path} cannot be used: {why}")
