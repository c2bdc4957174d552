"""Auth files and credential helpers: where podman, skopeo and docker keep credentials.

Owns the order of the files and their format (containers-auth.json(5), docker's `config.json`), and the
protocol of `docker-credential-NAME` programs (docker/docker-credential-helpers). Must not know what
credentials are used for. Nothing is written, and no error repeats what a file or a program says: it may be
a secret.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import os
import re
import shutil
import signal
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regsim.core.reference import DEFAULT_HOST
from regsim.errors import LocalFileError
from regsim.registry.login.credentials import Credentials, normal_host
from regsim.registry.login.single_flight import SingleFlight

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_FILE = 1024 * 1024
MAX_HELPER_OUTPUT = 64 * 1024
HELPER_SECONDS = 60.0  # some helpers ask their user first
# Docker Hub's name for helpers, and in docker's own file.
HUB_URL = "https://index.docker.io/v1/"
# The user under which a helper keeps an identity token.
TOKEN_USER = "<token>"  # noqa: S105  (a name)
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# Helpers that have no credentials fail, and say this.
_NOT_FOUND = ("credentials not found in native keychain", "credentials not found")


class AuthFiles:
    """A keychain: the auth files of this user, and the helper programs that they name.

    Args:
        environment: of the process.
        authfile: the only file to look at; None: `$REGISTRY_AUTH_FILE`, or else the usual ones.
    """

    def __init__(self, environment: Mapping[str, str], authfile: Path | None = None) -> None:
        self._environment = environment
        named = environment.get("REGISTRY_AUTH_FILE")
        self._explicit = authfile or (Path(named) if named else None)
        self._read = cache(self._load)
        self._helped: dict[tuple[str, str], Credentials | None] = {}
        self._asking: SingleFlight[Credentials | None] = SingleFlight()

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that are read, in order, whether or not they exist."""
        return (self._explicit,) if self._explicit is not None else tuple(_usual_paths(self._environment))

    def check(self) -> None:
        """Read the file that was named, if one was.

        Raises:
            LocalFileError: it does not exist, or is not an auth file.
        """
        if self._explicit is not None:
            self._read(self._explicit)

    async def find(self, host: str, repository: str | None) -> Credentials | None:
        """Return the credentials for a repository from the first file that has some.

        Raises:
            LocalFileError: a file or a helper cannot be used.
        """
        host = normal_host(host)
        for path in self.paths:
            document = await asyncio.to_thread(self._read, path)
            if document is None:
                continue
            helper = document.helper(host)
            found = await self._ask(path, helper, host) if helper else None
            found = found or document.stored(host, repository)
            if found is None and document.store:
                found = await self._ask(path, document.store, host)
            if found is not None:
                return found
        return None

    async def _ask(self, path: Path, helper: str, host: str) -> Credentials | None:
        key = helper, host
        if not _HELPER_NAME.fullmatch(helper):
            raise _unusable(path, f"no helper is called {helper!r:.60}")
        if key not in self._helped:
            server = HUB_URL if host == DEFAULT_HOST else host
            self._helped[key] = await self._asking.join(
                key, lambda: ask_helper(helper, server, path, self._environment)
            )
        return self._helped[key]

    def _load(self, path: Path) -> _Document | None:
        """Return a file's document; None if there is no such file and it was not named."""
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
    """Yield the files in skopeo's order (containers/image, `getAuthFilePaths`)."""
    runtime = environment.get("XDG_RUNTIME_DIR")
    yield Path(runtime or f"/run/containers/{os.getuid()}", *(["containers"] if runtime else []), "auth.json")
    home = environment.get("HOME")
    if config := environment.get("XDG_CONFIG_HOME") or (home and str(Path(home, ".config"))):
        yield Path(config, "containers", "auth.json")
    if docker := environment.get("DOCKER_CONFIG") or (home and str(Path(home, ".docker"))):
        yield Path(docker, "config.json")
    if home:
        yield Path(home, ".dockercfg")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    """The contents of an auth file. An entry is validated when it is needed.

    Attributes:
        path: of the file.
        auths: entries by registry, namespace or repository.
        helpers: suffixes of helpers by registry.
        store: the suffix of the helper for all others; empty if there is none.
    """

    path: Path
    auths: Mapping[str, Any]
    helpers: Mapping[str, Any]
    store: str

    @classmethod
    def parse(cls, path: Path, raw: bytes) -> _Document:
        """Read a file.

        Raises:
            LocalFileError: it is not an auth file.
        """
        try:
            document = json.loads(raw)
        except (ValueError, RecursionError):
            raise _unusable(path, "it is not JSON") from None
        if not isinstance(document, dict):
            raise _unusable(path, "it is not a JSON object")
        if path.name == ".dockercfg":
            return cls(path=path, auths=document, helpers={}, store="")
        kinds = {"auths": dict, "credHelpers": dict, "credsStore": str}
        values = {name: document.get(name) or kind() for name, kind in kinds.items()}
        for name, kind in kinds.items():
            if not isinstance(values[name], kind):
                raise _unusable(path, f"{name} is not {'an object' if kind is dict else 'a string'}")
        return cls(
            path=path, auths=values["auths"], helpers=values["credHelpers"], store=values["credsStore"]
        )

    def helper(self, host: str) -> str:
        """Return the suffix of the helper that is named for a registry, or nothing."""
        found = next((value for key, value in self.helpers.items() if _host_of(key) == host), "")
        if not isinstance(found, str):
            raise _unusable(self.path, f"credHelpers has no name of a program for {host}")
        return found

    def stored(self, host: str, repository: str | None) -> Credentials | None:
        """Return what is stored for a repository, a namespace above it, or the registry: the nearest."""
        parts = [host, *(repository or "").split("/")] if repository else [host]
        nearest = ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
        # docker login wrote URLs, and still does for Docker Hub.
        urls = [key for key in self.auths if key not in nearest and _host_of(key) == host]
        for key in (*nearest, *urls):
            found = self._entry(key, self.auths.get(key))
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
            raise _unusable(self.path, f"the entry of {key!r:.100} has a value that is not a string")
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
        # Old versions of docker padded the password.
        return user, password.strip("\0")


async def ask_helper(
    suffix: str,
    server: str,
    named_in: Path,
    environment: Mapping[str, str],
    *,
    seconds: float = HELPER_SECONDS,
) -> Credentials | None:
    """Return the credentials for a server from `docker-credential-SUFFIX`, or None if it has none.

    Args:
        suffix: of the program's name.
        server: as helpers name it.
        named_in: that file, for errors.
        environment: of the process; the program is looked for in its `PATH`.
        seconds: until it must have answered.

    Raises:
        LocalFileError: the program is missing, fails, hangs, or answers something else.
    """
    name = f"docker-credential-{suffix}"

    def failure(what: str) -> LocalFileError:
        return LocalFileError(f"{name} {what}", hint=f"the credential helper is named in {named_in}")

    path = shutil.which(name, path=environment.get("PATH"))
    if path is None:
        raise failure("is not installed")
    try:
        async with asyncio.timeout(seconds):
            code, output = await _run(path, server, environment)
    except TimeoutError:
        raise failure(f"did not answer within {seconds:g} s") from None
    except OSError as error:
        raise failure(f"cannot be run: {error.strerror}") from error
    if len(output) > MAX_HELPER_OUTPUT:
        raise failure(f"answered more than {MAX_HELPER_OUTPUT} bytes")
    if code and output.decode(errors="replace").strip().lower().startswith(_NOT_FOUND):
        return None
    if code:
        raise failure(f"failed with exit code {code}")
    try:
        document = json.loads(output)
        user, secret = document["Username"], document["Secret"]
    except (ValueError, RecursionError, LookupError, TypeError):
        user = secret = None
    if not isinstance(user, str) or not isinstance(secret, str):
        raise failure("did not answer with credentials")
    return _credentials(user, secret, "", source=name)


async def _run(path: str, server: str, environment: Mapping[str, str]) -> tuple[int, bytes]:
    """Run the program in its own process group, of which nothing is left running."""
    process = await asyncio.create_subprocess_exec(
        path,
        "get",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=dict(environment),
        process_group=0,
    )
    assert process.stdin is not None  # noqa: S101  (it is a pipe)
    assert process.stdout is not None  # noqa: S101  (it is a pipe)
    output = b""
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(server.encode())
            await process.stdin.drain()
            process.stdin.close()
        while len(output) <= MAX_HELPER_OUTPUT and (
            piece := await process.stdout.read(MAX_HELPER_OUTPUT + 1)
        ):
            output += piece
        return (await process.wait() if len(output) <= MAX_HELPER_OUTPUT else 0), output
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _credentials(user: str, password: str, identity_token: str, *, source: str) -> Credentials | None:
    if user == TOKEN_USER:
        user, password, identity_token = "", "", identity_token or password
    if not identity_token and not (user and password):
        return None
    return Credentials(user=user, password=password, identity_token=identity_token, source=source)


def _host_of(key: str) -> str:
    """Return the registry of a key that may be a URL; nothing if the key is for a part of a registry."""
    scheme, _, rest = key.rpartition("://")
    host, slash, path = rest.partition("/")
    return normal_host(host) if scheme or not slash or path in ("", "v1/", "v2/") else ""


def _unusable(path: Path, why: str) -> LocalFileError:
    return LocalFileError(f"the auth file {path} cannot be used: {why}")
