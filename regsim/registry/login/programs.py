"""Credential helpers: programs that keep credentials for docker, `docker-credential-NAME`.

Owns their protocol (docker/docker-credential-helpers): the server goes in on standard input, a JSON object
comes out. Must not know which registry wants one. What a program says is never repeated: it may be a secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
from typing import TYPE_CHECKING

from regsim.errors import LocalFileError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_OUTPUT = 64 * 1024
# Some ask their user first.
SECONDS = 60.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# What they say, with a failure, where they have none.
_NONE = ("credentials not found in native keychain", "credentials not found")


class Program:
    """One helper.

    Args:
        suffix: of its name, as a file names it.
        named_in: that file, to tell where the name came from.
        environment: of the process; its `PATH` is where the program is looked for.
        seconds: for an answer.

    Raises:
        LocalFileError: the suffix is none.
    """

    def __init__(
        self, suffix: str, *, named_in: Path, environment: Mapping[str, str], seconds: float = SECONDS
    ) -> None:
        if not _NAME.fullmatch(suffix):
            raise LocalFileError(
                f"the auth file {named_in} cannot be used: no helper is called {suffix!r:.60}"
            )
        self.name = f"docker-credential-{suffix}"
        self._named_in = named_in
        self._environment = environment
        self._seconds = seconds

    async def get(self, server: str) -> tuple[str, str] | None:
        """Return a user and a secret for a server; None where the helper has none.

        Raises:
            LocalFileError: the program is missing, fails, hangs, or answers what makes no sense.
        """
        path = shutil.which(self.name, path=self._environment.get("PATH"))
        if path is None:
            raise self._failure("is not installed")
        try:
            async with asyncio.timeout(self._seconds):
                code, output = await self._run(path, server)
        except TimeoutError:
            raise self._failure(f"did not answer within {self._seconds:g} s") from None
        except OSError as error:
            raise self._failure(f"cannot be run: {error.strerror}") from error
        if len(output) > MAX_OUTPUT:
            raise self._failure(f"answered more than {MAX_OUTPUT} bytes")
        if code:
            if output.decode(errors="replace").strip().lower().startswith(_NONE):
                return None
            raise self._failure(f"failed with exit code {code}")
        return self._read(output)

    async def _run(self, path: str, server: str) -> tuple[int, bytes]:
        """Run the program in a process group of its own, of which nothing is left behind."""
        process = await asyncio.create_subprocess_exec(
            path,
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=dict(self._environment),
            process_group=0,
        )
        assert process.stdin is not None  # noqa: S101  (it was asked for)
        assert process.stdout is not None  # noqa: S101  (likewise)
        output = b""
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                process.stdin.write(server.encode())
                await process.stdin.drain()
                process.stdin.close()
            while len(output) <= MAX_OUTPUT and (piece := await process.stdout.read(MAX_OUTPUT + 1)):
                output += piece
            if len(output) > MAX_OUTPUT:
                return 0, output
            return await process.wait(), output
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    def _read(self, output: bytes) -> tuple[str, str]:
        try:
            document = json.loads(output)
            user, secret = document["Username"], document["Secret"]
        except (ValueError, RecursionError, LookupError, TypeError):
            user = secret = None
        if not isinstance(user, str) or not isinstance(secret, str):
            raise self._failure("answered what is no credentials")
        return user, secret

    def _failure(self, what: str) -> LocalFileError:
        return LocalFileError(
            f"{self.name} {what}", hint=f"it is named in {self._named_in} as who has the credentials"
        )
